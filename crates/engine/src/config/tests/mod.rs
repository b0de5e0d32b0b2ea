//! Tests of the configuration's door.
mod errors;
mod reference;
mod totality;
mod values;

use super::{Config, ConfigError, parse};

/// The smallest file there is, with a LAN and a VM to refer to.
const BASE: &str = "\
[wan]
interface = \"eth0\"

[[lan]]
name = \"vms\"
interface = \"eth1\"
addresses = [\"2001:db8:1:2::1/64\"]

[[vm]]
name = \"vm1\"
lan = \"vms\"
address = \"2001:db8:1:2::2\"
containers = \"2001:db8:1:2:21::/80\"
";

fn valid(text: &str) -> Config {
    parse(text, "test.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> Vec<ConfigError> {
    match parse(text, "test.toml") {
        Ok(config) => panic!("no error in\n{text}\n{config:?}"),
        Err(errors) => errors.errors().to_vec(),
    }
}

/// [`BASE`] and more: the single error, which lies behind it, as `line:column message | mend`, the line counted from BASE's end.
fn error_of(more: &str) -> String {
    let found = errors(&format!("{BASE}{more}"));
    let lines = BASE.lines().count();
    let [error] = found.as_slice() else { panic!("{} errors: {found:#?}", found.len()) };
    assert!(error.line > lines, "the error lies at {}:{}, in BASE: {}", error.line, error.column, error.message);
    format!("{}:{} {} | {}", error.line - lines, error.column, error.message, error.mend)
}
