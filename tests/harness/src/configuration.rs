//! Any text as a configuration: it is refused with places that exist, or its plan can be made and printed.
use sixgate_engine::config;
use sixgate_engine::plan::{plan, preview, preview_facts};

pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match config::parse(&text, "harness") {
        Ok(config) => {
            assert!(!preview(&config).is_empty());
            let facts = preview_facts(&config);
            assert_eq!(plan(&config, &facts), plan(&config, &facts));
        }
        Err(errors) => {
            let lines = text.split('\n').count();
            assert!(!errors.errors().is_empty());
            for error in errors.errors() {
                assert!((1..=lines).contains(&error.line) && error.column >= 1 && !error.message.is_empty());
            }
            assert!(errors.to_string().contains("harness"));
        }
    }
}
