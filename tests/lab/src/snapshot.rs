//! What the kernel holds of the router, as text that can be compared: addresses, routes, rules, ruleset, forwarding.
use anyhow::{Result, ensure};
use serde_json::Value;

use crate::namespace::Namespace;

/// Keys of `ip -json` and `nft -json` that change by themselves.
const VOLATILE: &[&str] = &[
    "valid_life_time",
    "preferred_life_time",
    "expires",
    "handle",
    "packets",
    "bytes",
    "metainfo",
    "used",
    "age",
    // Of a TUN device it is "unknown" until the carrier has changed for the first time; the flags tell the same.
    "operstate",
];

/// The state of a network namespace, one fact a line, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(Vec<String>);

impl Snapshot {
    /// Reads the kernel's state.
    pub fn take(host: &Namespace) -> Result<Self> {
        let mut lines = Vec::new();
        for (kind, arguments) in [
            ("address", "address show"),
            ("route4", "-4 route show table all"),
            ("route6", "-6 route show table all"),
            ("rule4", "-4 rule show"),
            ("rule6", "-6 rule show"),
        ] {
            let Value::Array(entries) = host.ip_json(arguments)? else { continue };
            lines.extend(entries.into_iter().map(|entry| format!("{kind} {}", without_volatile(entry))));
        }
        let ruleset = host.run("nft -j list table inet sixgate")?.text()?;
        let ruleset: Value = serde_json::from_str(&ruleset)?;
        for mut entry in ruleset["nftables"].as_array().cloned().unwrap_or_default() {
            // Who was heard of is learnt from packets, and what was learnt before a start comes from the neighbour cache.
            if entry["set"]["name"] == "neighbours" {
                entry["set"]["elem"].take();
            }
            // The order of rules matters, so they are numbered.
            let number = lines.iter().filter(|line| line.starts_with("nft ")).count();
            lines.push(format!("nft {number:04} {}", without_volatile(entry)));
        }
        for path in ["net/ipv4/conf/all/forwarding", "net/ipv6/conf/all/forwarding"] {
            lines.push(format!("{path} {}", host.sysctl(path)?));
        }
        lines.sort();
        Ok(Self(lines))
    }

    /// Without the lines that mention a word.
    pub fn without(&self, word: &str) -> Self {
        Self(self.0.iter().filter(|line| !line.contains(word)).cloned().collect())
    }

    /// Fails with the lines that differ.
    pub fn ensure_same(&self, later: &Self) -> Result<()> {
        let gone = self.0.iter().filter(|line| !later.0.contains(line)).map(|line| format!("- {line}\n"));
        let new = later.0.iter().filter(|line| !self.0.contains(line)).map(|line| format!("+ {line}\n"));
        let difference: String = gone.chain(new).collect();
        ensure!(difference.is_empty(), "the kernel's state differs:\n{difference}");
        Ok(())
    }
}

fn without_volatile(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(key, _)| !VOLATILE.contains(&key.as_str()))
            .map(|(key, value)| (key, without_volatile(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_volatile).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counters_and_lifetimes_are_left_out_at_any_depth() {
        let value = json!({"rule": [{"counter": {"packets": 1, "bytes": 2}, "drop": null}], "handle": 7});
        assert_eq!(without_volatile(value), json!({"rule": [{"counter": {}, "drop": null}]}));
    }

    #[test]
    fn a_difference_is_shown_line_by_line() {
        let [before, after] = ["a", "b"].map(|line| Snapshot(vec!["same".to_owned(), line.to_owned()]));
        let error = before.ensure_same(&after).unwrap_err().to_string();
        assert_eq!(error, "the kernel's state differs:\n- a\n+ b\n");
    }
}
