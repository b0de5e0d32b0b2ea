//! `[policy]`: what holds where no entry speaks.
use toml::Spanned;

use super::door::Errors;
use super::raw;
use super::scalar::{self, At};
use super::{Between, Policy, Refuse};

/// Checks the table.
pub(super) fn validate(raw: &Spanned<raw::Policy>, errors: &mut Errors) -> Policy {
    let raw = raw.get_ref();
    let mut policy = Policy::default();
    let word = |key: &raw::Key<String>, name: &'static str| {
        let key = key.as_ref()?;
        Some((key.get_ref().clone(), key.span(), At("policy", name)))
    };
    match word(&raw.between, "between") {
        None => {}
        Some((text, span, at)) => match text.as_str() {
            "allowed" => policy.between = Between::Allowed,
            "denied" => policy.between = Between::Denied,
            "by-allow" => policy.between = Between::ByAllow,
            _ => scalar::unknown(at, &text, span, errors),
        },
    }
    match word(&raw.refuse, "refuse") {
        None => {}
        Some((text, span, at)) => match text.as_str() {
            "drop" => policy.refuse = Refuse::Drop,
            "reject" => policy.refuse = Refuse::Reject,
            _ => scalar::unknown(at, &text, span, errors),
        },
    }
    if let Some(rate) = scalar::number(At("policy", "rejects_per_second"), &raw.rejects_per_second, 1..=100_000, errors)
    {
        policy.rejects_per_second = rate;
    }
    policy
}
