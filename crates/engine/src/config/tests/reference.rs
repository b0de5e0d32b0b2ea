//! The reference file, the table of keys and the structs say the same.
use std::collections::BTreeSet;

use serde::de::{Deserialize, Deserializer, Visitor};

use super::valid;
use crate::config::keys::KEYS;
use crate::config::raw;

const REFERENCE: &str = include_str!("../../../../../docs/reference.toml");
const README: &str = include_str!("../../../../../README.md");

/// A deserializer that only tells which fields a struct asks for.
struct Fields<'a>(&'a mut Vec<&'static str>);

#[derive(Debug)]
struct Stop;

impl std::fmt::Display for Stop {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("fields noted")
    }
}

impl std::error::Error for Stop {}

impl serde::de::Error for Stop {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Stop> {
        self.0.extend(fields);
        Err(Stop)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn fields<'de, T: Deserialize<'de>>() -> Vec<&'static str> {
    let mut fields = Vec::new();
    assert!(T::deserialize(Fields(&mut fields)).is_err());
    assert!(!fields.is_empty());
    fields
}

/// Every table with the keys that its struct reads.
fn tables() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("wan", fields::<raw::Wan>()),
        ("wan.ipv4", fields::<raw::Uplink>()),
        ("wan.ipv6", fields::<raw::Uplink>()),
        ("lan", fields::<raw::Lan>()),
        ("lan.prefix", fields::<raw::LanPrefix>()),
        ("lan.advertise", fields::<raw::Advertise>()),
        ("lan.advertise.adv_prefix_list", fields::<raw::AdvPrefix>()),
        ("lan.advertise.route", fields::<raw::AdvRoute>()),
        ("lan.advertise.encrypted_dns", fields::<raw::AdvEncryptedDns>()),
        ("vm", fields::<raw::Vm>()),
        ("route", fields::<raw::Route>()),
        ("dns64", fields::<raw::Dns64>()),
        ("dns64.forward", fields::<raw::Forward>()),
        ("dns64.host", fields::<raw::DnsHost>()),
        ("dns64.map", fields::<raw::PrefixMap>()),
        ("nat64", fields::<raw::Nat64>()),
        ("nat64.limits", fields::<raw::Limits>()),
        ("nat64.timers", fields::<raw::Timers>()),
        ("nat64.log", fields::<raw::Log>()),
        ("allow", fields::<raw::Allow>()),
        ("outbound", fields::<raw::Outbound>()),
        ("policy", fields::<raw::Policy>()),
        ("connections", fields::<raw::Connections>()),
        ("console", fields::<raw::Console>()),
        ("metrics", fields::<raw::LanPort>()),
        ("time", fields::<raw::Time>()),
        ("publish", fields::<raw::Publish>()),
        ("npt", fields::<raw::Npt>()),
        ("ddns", fields::<raw::Ddns>()),
        ("vm_prefixes", fields::<raw::LanPort>()),
    ]
}

#[test]
fn the_reference_is_a_valid_file() {
    let config = valid(REFERENCE);
    assert_eq!(config.lans.len(), 1);
    assert_eq!(config.routes.len(), 2);
    assert_eq!(config.allow.len(), 2);
    assert!(config.dns64.enabled && config.nat64.is_some());
}

#[test]
fn every_key_that_is_read_is_described_and_every_described_key_is_read() {
    let read: BTreeSet<(&str, &str)> =
        tables().into_iter().flat_map(|(section, keys)| keys.into_iter().map(move |key| (section, key))).collect();
    let described: BTreeSet<(&str, &str)> =
        KEYS.iter().filter(|key| !key.section.is_empty()).map(|key| (key.section, key.name)).collect();
    assert_eq!(read, described);
}

#[test]
fn the_reference_explains_every_key_in_the_words_of_its_error() {
    let comments: Vec<&str> = REFERENCE.lines().filter_map(|line| line.strip_prefix('#')).collect();
    let prose = comments.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    for key in KEYS.iter().filter(|key| !key.text.starts_with("the table") && !key.text.starts_with("one table")) {
        let words = format!("{}: {}", key.name, key.text);
        assert!(prose.contains(&words), "docs/reference.toml does not say: {words}");
    }
}

#[test]
fn the_reference_shows_every_key() {
    for (section, keys) in tables() {
        for key in keys {
            let assigns = |line: &str| {
                let line = line.trim_start_matches(['#', ' ']);
                line.starts_with(&format!("{key} = "))
                    || line.contains(&format!("{{ {key} = "))
                    || line.contains(&format!(", {key} = "))
            };
            let opens = |line: &str| line == format!("[{section}.{key}]");
            assert!(
                REFERENCE.lines().any(|line| assigns(line) || opens(line)),
                "docs/reference.toml does not show {section}.{key}"
            );
        }
    }
}

#[test]
fn the_readmes_example_is_valid() {
    let example = README.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(valid(example).lans.len(), 1);
}
