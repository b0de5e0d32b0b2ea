//! `[groups]`: names for several targets, sources or ports at once, nested as one likes.
use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::door::Errors;
use super::keys;
use super::raw::Port;
use super::scalar::Placed;

/// The groups of a file. What a member means is judged where the group is used.
#[derive(Debug, Default)]
pub(super) struct Groups {
    members: BTreeMap<String, Vec<Placed<Port>>>,
}

impl Groups {
    /// Reads the table.
    pub(super) fn read(value: &Spanned<DeValue<'_>>, errors: &mut Errors) -> Self {
        let mut groups = Self::default();
        let DeValue::Table(table) = value.get_ref() else {
            errors.note(value.span(), "`groups` is not a table", "write [groups] and name = [..] below it");
            return groups;
        };
        groups.fill(table, errors);
        groups
    }

    fn fill(&mut self, table: &DeTable<'_>, errors: &mut Errors) {
        for (name, list) in table {
            let valid = (1..=32).contains(&name.get_ref().len())
                && name.get_ref().chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
            if !valid {
                errors.note(
                    name.span(),
                    format!("\"{}\" cannot be a group's name", name.get_ref()),
                    "1 to 32 letters, digits, hyphens and underscores",
                );
            }
            let mut members = Vec::new();
            match list.get_ref() {
                DeValue::Array(items) => items.iter().for_each(|item| members.extend(member(item, errors))),
                DeValue::String(_) | DeValue::Integer(_) => members.extend(member(list, errors)),
                _ => errors.note(list.span(), "a group is a list", keys::describe("", "groups")),
            }
            self.members.insert(name.get_ref().as_ref().to_owned(), members);
        }
    }

    /// Whether somebody else may not be called that.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// The names, for errors about what they could have meant.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Ports, with groups of ports replaced by their members.
    pub(super) fn ports(&self, items: Vec<Placed<Port>>, errors: &mut Errors) -> Vec<Placed<Port>> {
        let mut out = Vec::new();
        for item in items {
            self.expand(item, &mut Vec::new(), &mut out, errors);
        }
        out
    }

    /// Names and prefixes, with groups of them replaced by their members.
    pub(super) fn texts(&self, items: Vec<Placed<String>>, errors: &mut Errors) -> Vec<Placed<String>> {
        let items = items.into_iter().map(|(text, span)| (Port::Range(text), span)).collect();
        let mut texts = Vec::new();
        for (item, span) in self.ports(items, errors) {
            match item {
                Port::Range(text) => texts.push((text, span)),
                Port::Number(number) => {
                    errors.note(
                        span,
                        format!("{number} is no name, address or prefix"),
                        "give ports a group of their own",
                    );
                }
            }
        }
        texts
    }

    fn expand(&self, item: Placed<Port>, path: &mut Vec<String>, out: &mut Vec<Placed<Port>>, errors: &mut Errors) {
        let name = match &item.0 {
            Port::Range(text) if self.members.contains_key(text) => text.clone(),
            Port::Range(_) | Port::Number(_) => return out.push(item),
        };
        if path.contains(&name) {
            errors.note(item.1, format!("the group {name} contains itself"), "take it out of its own members");
            return;
        }
        path.push(name.clone());
        for (member, span) in self.members.get(&name).into_iter().flatten() {
            self.expand((member.clone(), span.clone()), path, out, errors);
        }
        path.pop();
    }
}

fn member(item: &Spanned<DeValue<'_>>, errors: &mut Errors) -> Option<Placed<Port>> {
    let port = match item.get_ref() {
        DeValue::String(text) => Some(Port::Range(text.as_ref().to_owned())),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(Port::Number),
        _ => None,
    };
    if port.is_none() {
        errors.note(item.span(), "this cannot be a member of a group", keys::describe("", "groups"));
    }
    port.map(|port| (port, item.span()))
}
