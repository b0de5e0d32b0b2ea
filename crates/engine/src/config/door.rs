//! The door: sections of the file to raw structs, with every error noted rather than the first one only.
use std::borrow::Cow;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::keys;

/// At most so many errors of type or name are noted in one table.
const PER_TABLE: usize = 20;

/// Where errors are noted while the file is being checked.
#[derive(Debug, Default)]
pub(super) struct Errors {
    noted: Vec<(Range<usize>, String, String)>,
    /// Keys that were left out because of an error of their own, with the start of their table.
    left_out: Vec<(usize, String)>,
}

impl Errors {
    /// Notes what is wrong at a place, and the mend.
    pub(super) fn note(&mut self, span: Range<usize>, message: impl Into<String>, mend: impl Into<String>) {
        self.noted.push((span, message.into(), mend.into()));
    }

    /// Notes that a value is out of the range that its key documents.
    pub(super) fn range(&mut self, span: Range<usize>, section: &str, key: &str, value: impl std::fmt::Display) {
        self.note(span, format!("`{key}` = {value} is out of range"), keys::describe(section, key));
    }

    /// Whether a key is there, but was left out because of an error that is noted already; `table` is its table's place.
    pub(super) fn has_left_out(&self, table: &Range<usize>, key: &str) -> bool {
        self.left_out.iter().any(|(start, left_out)| *start == table.start && left_out == key)
    }

    /// Notes that a required key is missing; `span` is the table's.
    pub(super) fn missing(&mut self, span: Range<usize>, section: &str, key: &str) {
        if self.has_left_out(&span, key) {
            return;
        }
        self.note(span, format!("`{key}` is missing in [{section}]"), keys::describe(section, key));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    pub(super) fn into_inner(self) -> Vec<(Range<usize>, String, String)> {
        self.noted
    }
}

/// A table to its raw struct. A key with an unknown name or a wrong type is noted and left out; the rest is read.
pub(super) fn table<T: DeserializeOwned + Default>(
    section: &str,
    value: &Spanned<DeValue<'_>>,
    errors: &mut Errors,
) -> Spanned<T> {
    let span = value.span();
    let DeValue::Table(keys) = value.get_ref() else {
        errors.note(
            span.clone(),
            format!("`{section}` is not a table"),
            format!("write [{section}] and its keys below"),
        );
        return Spanned::new(span, T::default());
    };
    let mut keys = Cow::Borrowed(keys);
    for _ in 0..PER_TABLE {
        let attempt = ValueDeserializer::from(Spanned::new(span.clone(), DeValue::Table(keys.clone().into_owned())));
        let error = match T::deserialize(attempt) {
            Ok(raw) => return Spanned::new(span, raw),
            Err(error) => error,
        };
        let place = error.span().unwrap_or_else(|| span.clone());
        let culprit = culprit(&keys, &place);
        explain(section, culprit.as_deref(), error.message(), place, errors);
        let Some(culprit) = culprit else { break };
        errors.left_out.push((span.start, culprit.clone()));
        let rest = keys.into_owned().into_iter().filter(|(key, _)| key.get_ref().as_ref() != culprit);
        keys = Cow::Owned(rest.collect());
    }
    Spanned::new(span, T::default())
}

/// A list of tables (`[[section]]`) to raw structs.
pub(super) fn tables<T: DeserializeOwned + Default>(
    section: &str,
    value: &Spanned<DeValue<'_>>,
    errors: &mut Errors,
) -> Vec<Spanned<T>> {
    let DeValue::Array(items) = value.get_ref() else {
        errors.note(
            value.span(),
            format!("`{section}` is not a list of tables"),
            format!("write [[{section}]], with two brackets, once for each"),
        );
        return Vec::new();
    };
    items.iter().map(|item| table(section, item, errors)).collect()
}

/// The key of the table that the error lies in.
fn culprit(keys: &DeTable<'_>, place: &Range<usize>) -> Option<String> {
    let within = |span: Range<usize>| span.start <= place.start && place.end <= span.end;
    keys.iter()
        .find(|(key, value)| within(key.span()) || within(value.span()))
        .map(|(key, _)| key.get_ref().as_ref().to_owned())
}

/// serde's words to ours: what is wrong, and what the key takes.
fn explain(section: &str, key: Option<&str>, message: &str, place: Range<usize>, errors: &mut Errors) {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (name, expected) = rest.split_once(", ").unwrap_or((rest, ""));
        // Nested tables have their own keys; the outer key tells which table it is.
        let table = match key {
            Some(key) if format!("`{key}`") != name => format!("{section}.{key}"),
            _ => section.to_owned(),
        };
        errors.note(place, format!("unknown key {name} in [{table}]"), expected);
        return;
    }
    let mend = key.map_or_else(String::new, |key| keys::describe(section, key));
    match key {
        Some(key) => errors.note(place, format!("`{key}`: {message}"), mend),
        None => errors.note(place, message, mend),
    }
}
