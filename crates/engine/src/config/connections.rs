//! `[connections]`: how many the kernel keeps, for how long, and how many one host may have.
use toml::Spanned;

use super::door::Errors;
use super::raw;
use super::scalar::{self, At};

/// What connection tracking is to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// How many at most; by the machine's memory where absent.
    pub entries: Option<u32>,
    /// Seconds that an established TCP connection may be idle.
    pub tcp_established: u32,
    /// Seconds for TCP connections that are being opened or closed.
    pub tcp_transitory: u32,
    /// Seconds for UDP flows that were answered.
    pub udp: u32,
    /// Seconds for echo requests.
    pub icmp: u32,
    /// Most at a time that a host on a LAN has begun.
    pub per_host: Option<u32>,
    /// Most at a time that a source outside has begun.
    pub per_source: Option<u32>,
    /// Most that a source outside may begin in a second.
    pub new_per_source: Option<u32>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            entries: None,
            // RFC 5382 REQ-5, RFC 6092 REC-35: no less than 2 hours 4 minutes, and 4 minutes.
            tcp_established: LEAST_ESTABLISHED,
            tcp_transitory: 240,
            // RFC 6092 REC-14: five minutes by default, no less than two.
            udp: 300,
            // RFC 5508 REQ-1.
            icmp: 60,
            per_host: None,
            per_source: None,
            new_per_source: None,
        }
    }
}

const LEAST_ESTABLISHED: u32 = 7440;

/// Checks the table.
pub(super) fn validate(raw: &Spanned<raw::Connections>, errors: &mut Errors) -> Connections {
    let raw = raw.get_ref();
    let default = Connections::default();
    let at = |name| At("connections", name);
    let mut seconds =
        |name, key, least, default| scalar::number(at(name), key, least..=864_000, errors).unwrap_or(default);
    let tcp_established = seconds("tcp_established", &raw.tcp_established, LEAST_ESTABLISHED, default.tcp_established);
    let tcp_transitory = seconds("tcp_transitory", &raw.tcp_transitory, 10, default.tcp_transitory);
    let udp = seconds("udp", &raw.udp, 120, default.udp);
    let icmp = seconds("icmp", &raw.icmp, 1, default.icmp);
    Connections {
        entries: scalar::number(at("entries"), &raw.entries, 256..=16_777_216, errors),
        tcp_established,
        tcp_transitory,
        udp,
        icmp,
        // The kernel walks a list of a host's connections for each new one.
        per_host: scalar::number(at("per_host"), &raw.per_host, 1..=65_535, errors),
        per_source: scalar::number(at("per_source"), &raw.per_source, 1..=65_535, errors),
        new_per_source: scalar::number(at("new_per_source"), &raw.new_per_source, 1..=1_000_000, errors),
    }
}
