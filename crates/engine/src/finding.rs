//! A finding: something an operator should know, with the mend. A misconfiguration is a finding, never a crash.
use serde::{Deserialize, Serialize};

/// How much a finding hurts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; everything works.
    Note,
    /// Something does not work as configured; the rest does.
    Warning,
    /// A service is down.
    Error,
}

/// One thing an operator should know, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it hurts.
    pub severity: Severity,
    /// Stable kebab-case name, e.g. `wan-interface-missing`; documented in `docs/findings.md`.
    pub code: String,
    /// What it is about: an interface, a VM, a configuration key.
    pub subject: String,
    /// What is wrong, one sentence.
    pub text: String,
    /// What to do about it, one sentence.
    pub mend: String,
}
