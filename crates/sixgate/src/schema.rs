//! `sixgate schema`: the JSON Schema of what commands print with `--json`, made out of the types when the binary is built.
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value, json};

/// Every command's schema under `commands`, and what they refer to under `defs`.
const MADE: &str = include_str!(concat!(env!("OUT_DIR"), "/schema.json"));
/// Commands that print what another one has a schema for: whether it was accepted, or why not.
const REPLIES: [&str; 15] = [
    "apply",
    "confirm",
    "revert",
    "backup",
    "restore",
    "reload",
    "flush-dns",
    "restart",
    "reboot",
    "power-off",
    "update",
    "rollback",
    "capture",
    "clat-remove",
    "reply",
];

/// Whose schema can be asked for.
pub fn names() -> PossibleValuesParser {
    let (commands, _) = made();
    let mut names: Vec<String> = commands.keys().cloned().chain(REPLIES.map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    // clap keeps the names for as long as the program runs.
    PossibleValuesParser::new(names.into_iter().map(|name| -> &'static str { name.leak() }))
}

/// Prints the schema of a command, complete in itself.
pub fn print(command: &str) -> anyhow::Result<ExitCode> {
    println!("{:#}", of(command));
    Ok(ExitCode::SUCCESS)
}

fn of(command: &str) -> Value {
    let (commands, defs) = made();
    let name = if REPLIES.contains(&command) { "reply" } else { command };
    let mut schema = commands.get(name).cloned().unwrap_or_default();
    let mut wanted = Vec::new();
    references(&schema, &mut wanted);
    let mut used = Map::new();
    while let Some(name) = wanted.pop() {
        if let (false, Some(definition)) = (used.contains_key(&name), defs.get(&name)) {
            references(definition, &mut wanted);
            used.insert(name, definition.clone());
        }
    }
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(format!("sixgate {command}, version {}", crate::control::VERSION));
    schema["$defs"] = Value::Object(used);
    schema
}

/// What is referred to in there.
fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(object) => object.iter().for_each(|(key, value)| match value.as_str() {
            Some(place) if key == "$ref" => found.push(place.trim_start_matches("#/$defs/").to_owned()),
            Some(_) | None => references(value, found),
        }),
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn made() -> (Map<String, Value>, Map<String, Value>) {
    let mut made: Value = serde_json::from_str(MADE).unwrap_or_default();
    let mut take = |name: &str| match made[name].take() {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    (take("commands"), take("defs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_schema_in_which_every_type_is_known() {
        let (commands, defs) = made();
        assert!(commands.len() >= 14, "{:?}", commands.keys());
        for name in commands.keys() {
            let schema = of(name);
            let mut wanted = Vec::new();
            references(&schema, &mut wanted);
            assert!(wanted.iter().all(|name| schema["$defs"][name].is_object()), "{name}: {wanted:?}");
        }
        let unknown: Vec<_> = unknown(&Value::Object(defs)).into_iter().collect();
        assert!(unknown.is_empty(), "the build script does not know where these are: {unknown:?}");
    }

    /// Types that the build script has not found are told by a sentence alone.
    fn unknown(schema: &Value) -> Vec<String> {
        match schema {
            Value::Object(object) => {
                let sentence =
                    schema["description"].as_str().filter(|text| object.len() == 1 && text.starts_with("A "));
                sentence.map(str::to_owned).into_iter().chain(object.values().flat_map(unknown)).collect()
            }
            Value::Array(values) => values.iter().flat_map(unknown).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn names_and_sentences_are_those_of_what_is_printed() {
        let status = of("status");
        let session = &of("sessions")["$defs"]["Session"];
        assert_eq!(session["properties"]["idle"]["type"], "integer");
        assert!(session["required"].as_array().is_some_and(|all| all.contains(&json!("client"))));
        let finding = &status["$defs"]["Finding"]["properties"]["mend"];
        assert_eq!(finding["description"], "What to do about it, one sentence.");
        let severity = serde_json::to_value(sixgate_engine::finding::Severity::Warning).unwrap();
        let known = status["$defs"]["Severity"]["oneOf"].as_array().unwrap();
        assert!(known.iter().any(|one| one["const"] == severity), "{known:?}");
        let reply = of("apply");
        assert!(reply["allOf"][0]["required"] == json!(["version"]) && reply["title"] == "sixgate apply, version 1");
    }
}
