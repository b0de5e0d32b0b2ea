//! Parsing is total: it never panics, and an error always has a place within the text and displays.
use proptest::prelude::*;

use crate::config::parse;

const REFERENCE: &str = include_str!("../../../../../docs/reference.toml");

fn survives(text: &str) -> Result<(), TestCaseError> {
    if let Err(errors) = parse(text, "any.toml") {
        prop_assert!(!errors.errors().is_empty());
        let lines = text.split('\n').count();
        for error in errors.errors() {
            prop_assert!((1..=lines).contains(&error.line), "line {} of {lines}", error.line);
            prop_assert!(error.column >= 1 && !error.message.is_empty());
        }
        prop_assert!(errors.to_string().contains("any.toml"));
    }
    Ok(())
}

/// Text that replaces a piece of the reference: what a hand slips in, and what nobody would write.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z0-9:./\"%\\[\\]{}=, \n#-]{0,12}",
        prop::sample::select(vec![
            "\"",
            "\n",
            "[[lan]]\n",
            "[wan]\n",
            "::",
            "/0",
            "/129",
            "-1",
            "99999999999999999999",
            "1e400",
            "nan",
            "{}",
            "[]",
            "true",
            "\u{0}",
            "\u{feff}",
            "é",
            "🦀",
            "\r",
            "\t",
            "'''",
            "\"\"\"",
            "fe80::%",
            "::ffff:1.2.3.4/96",
            "= =",
            "0x",
            "1979-05-27",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>()) {
        survives(&text)?;
    }

    #[test]
    fn any_text_that_looks_like_toml_is_parsed_or_refused(text in "(\\[{1,2}[a-z0-9.]{0,6}\\]{1,2}\n|[a-z_0-9]{1,8} = [\"'0-9a-f:./é{}\\[\\], -]{0,16}\n|\\PC{0,8}){0,12}") {
        survives(&text)?;
    }

    #[test]
    fn a_mutated_reference_is_parsed_or_refused(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..24, piece()), 1..4),
    ) {
        let mut text: Vec<char> = REFERENCE.lines().filter(|line| !line.starts_with('#')).flat_map(|line| line.chars().chain(['\n'])).collect();
        for (at, length, piece) in edits {
            let start = at.index(text.len() + 1);
            let end = (start + length).min(text.len());
            text.splice(start..end, piece.chars());
        }
        survives(&text.into_iter().collect::<String>())?;
    }
}
