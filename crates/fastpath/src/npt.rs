//! NPTv6's programs and what their maps hold, byte by byte; `program/npt.c` has the same in C.
use core::net::Ipv6Addr;

use crate::Object;

/// The compiled programs, an ELF file.
pub static OBJECT: &Object<[u8]> = &Object(*include_bytes!(concat!(env!("OUT_DIR"), "/npt.o")));

/// Raised whenever anything in here changes its meaning: maps of another version are not adopted.
pub const VERSION: u32 = 1;
/// Where the uplink's packets come in.
pub const IN: &str = "npt_in";
/// Where they leave.
pub const OUT: &str = "npt_out";
/// Where the LANs' packets come in.
pub const LAN_IN: &str = "npt_lan_in";
/// Where they leave.
pub const LAN_OUT: &str = "npt_lan_out";
/// What prefixes inside become.
pub const INSIDE: &str = "npt_inside";
/// What prefixes outside become.
pub const OUTSIDE: &str = "npt_outside";
/// What the programs count.
pub const COUNTERS: &str = "npt_counters";
/// All maps.
pub const MAPS: [&str; 3] = [INSIDE, OUTSIDE, COUNTERS];

/// Bytes of a value of [`INSIDE`] and [`OUTSIDE`].
pub const VALUE: usize = 36;
/// Counters of one processor, one for each verdict.
pub const VERDICTS: usize = 6;

/// What a prefix becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The prefix that takes its place.
    pub prefix: Ipv6Addr,
    /// Bits of an address that stay.
    pub host: Ipv6Addr,
    /// What is added to one word, in one's complement.
    pub adjustment: u16,
    /// The first and the last of the words of which one takes it.
    pub words: (u8, u8),
}

/// The value of a prefix that has a target, or that has none at the moment.
pub fn value(target: Option<&Target>) -> [u8; VALUE] {
    let mut value = [0; VALUE];
    let Some(Target { prefix, host, adjustment, words }) = target else { return value };
    value[..16].copy_from_slice(&prefix.octets());
    value[16..32].copy_from_slice(&host.octets());
    value[32..34].copy_from_slice(&adjustment.to_ne_bytes());
    value[34] = words.0;
    value[35] = words.1;
    value
}
