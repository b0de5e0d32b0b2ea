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

/// All codes of findings; `docs/findings.md` explains each.
pub const CODES: &[&str] = &[
    "address-duplicate",
    "apply-failed",
    "clat-address-taken",
    "clat-fast-path-off",
    "clat-native-ipv4",
    "clat-no-address",
    "clat-no-device",
    "clat-no-fast-path",
    "clat-no-prefix",
    "clat-no-uplink",
    "clat-plat-silent",
    "clat-prefix-length",
    "clat-several-prefixes",
    "clock-unchecked",
    "clock-wrong",
    "configuration-fallback",
    "configuration-invalid",
    "configuration-last-good",
    "configuration-made",
    "configuration-not-kept",
    "configuration-on-trial",
    "configuration-rejected",
    "configuration-reverted",
    "connections-full",
    "connections-not-judged",
    "connections-not-sized",
    "control-socket-unavailable",
    "denials-not-heard",
    "ddns-failing",
    "ddns-refused",
    "dhcp4-no-lease",
    "dhcpv6-not-served",
    "dns-not-listening",
    "dns-port-busy",
    "dns-tls-identity",
    "dns-upstream-tls",
    "dns64-fast-path-off",
    "dns64-no-address",
    "dns64-no-upstream",
    "dnssec-clock",
    "dnssec-stripped",
    "dnssec-trust-anchor",
    "firewall-not-loaded",
    "firewall-not-seen",
    "flow-offload-off",
    "interface-mac-ambiguous",
    "interface-shared",
    "kernel-changed",
    "lan-interface-missing",
    "lan-link-local-missing",
    "lan-no-carrier",
    "lan-nobody-answers",
    "lan-other-router",
    "lan-router-contradicts",
    "lan-without-slaac",
    "metrics-not-listening",
    "nat64-exhausted",
    "nat64-fast-path-full",
    "nat64-fast-path-off",
    "nat64-log-not-written",
    "nat64-no-device",
    "nat64-no-ipv4-uplink",
    "nat64-not-running",
    "ndp-proxy-not-running",
    "netlink-unavailable",
    "no-prefix-delegated",
    "no-prefix-learnt",
    "npt-not-running",
    "npt-without-prefix",
    "on-link-flag-with-carved-prefixes",
    "prefix-on-both-sides",
    "prefix-overlaps",
    "prefix-too-small",
    "publish-not-in-force",
    "ra-not-sent",
    "route-not-applied",
    "seed-ignored",
    "seed-not-understood",
    "slot-damaged",
    "sources-not-learnt",
    "sources-not-validated",
    "state-full",
    "state-not-kept",
    "state-renewed",
    "state-reset",
    "state-unavailable",
    "update-not-kept",
    "uplink-not-heard",
    "uplink-without-router",
    "vm-lan-missing",
    "vm-next-hop-unknown",
    "vm-prefixes-not-listening",
    "vm-silent",
    "vms-share-a-link",
    "wan-gateway-silent",
    "wan-interface-missing",
    "wan-no-carrier",
    "wan-no-ipv4-gateway",
    "wan-no-ipv6",
];

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

impl Finding {
    /// A finding; `code` is one of [`CODES`].
    pub fn new(
        severity: Severity,
        code: &str,
        subject: impl Into<String>,
        text: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        debug_assert!(CODES.contains(&code), "{code} is not documented");
        Self { severity, code: code.to_owned(), subject: subject.into(), text: text.into(), mend: mend.into() }
    }
}
