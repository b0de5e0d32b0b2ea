//! `[policy]`: what holds where no entry speaks.
use toml::Spanned;

use super::LogTo;
use super::door::Errors;
use super::nat64_log::log_to;
use super::raw;
use super::scalar::{self, At};

/// What holds where no entry speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Between LANs, VMs and containers.
    pub between: Between,
    /// What becomes of packets that are not admitted.
    pub refuse: Refuse,
    /// Most ICMP errors for refused packets.
    pub rejects_per_second: u32,
    /// Where it is told what was refused, and what was admitted by entries that say so; nowhere when absent.
    pub log: Option<LogTo>,
    /// Whether established flows go past rules and routing.
    pub flow_offload: bool,
}

impl Default for Policy {
    fn default() -> Self {
        let (between, refuse) = (Between::Allowed, Refuse::Drop);
        Self { between, refuse, rejects_per_second: 100, log: None, flow_offload: true }
    }
}

/// What LANs, VMs and containers may send one another through the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// Everything.
    Allowed,
    /// Nothing, whatever entries say.
    Denied,
    /// What entries of the allowlist admit.
    ByAllow,
}

/// What becomes of packets that are not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuse {
    /// Silence.
    Drop,
    /// An ICMP error, as far as the rate allows.
    Reject,
}

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
    policy.log = word(&raw.log, "log").and_then(|(text, span, at)| log_to(at, &text, &span, errors));
    policy.flow_offload = raw.flow_offload.as_ref().is_none_or(|key| *key.get_ref());
    policy
}
