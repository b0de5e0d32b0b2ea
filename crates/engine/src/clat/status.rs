//! What `sixgate clat status` shows.
use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::prefixes::Origin;
use crate::finding::Finding;
use crate::status::Traffic;

/// Version of [`Status`]; raised when a field changes its meaning or goes.
pub const VERSION: u32 = 1;

/// How far the CLAT is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// No link with a router and an address for IPv6.
    #[default]
    WithoutIpv6,
    /// The host has IPv4 of its own, so there is nothing to do.
    NativeIpv4,
    /// Nobody has told the PLAT's prefix yet.
    WithoutPrefix,
    /// Whether somebody else has the address is being looked at.
    Claiming,
    /// The device is not there yet.
    WithoutDevice,
    /// The PLAT has been asked.
    Checking,
    /// The PLAT does not answer.
    PlatSilent,
    /// IPv4 is translated.
    Translating,
}

/// The whole state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of this structure.
    pub version: u32,
    /// Version of the binary.
    pub sixgate: String,
    /// How far it is.
    pub stage: Stage,
    /// The uplink.
    pub interface: Option<String>,
    /// The PLAT's prefix.
    pub pref64: Option<Ipv6Net>,
    /// From where it is known.
    pub origin: Option<Origin>,
    /// Further prefixes that are known from there.
    pub further_pref64: Vec<Ipv6Net>,
    /// The address that is translated to.
    pub address: Option<Ipv6Addr>,
    /// Whether that is the host's own as well.
    pub shared: bool,
    /// What programs on the host have as their address.
    pub host_v4: Option<Ipv4Addr>,
    /// MTU of the IPv4 default route.
    pub mtu_v4: Option<u32>,
    /// Where in the kernel plain packets are translated, `tcx` or `clsact`; nothing where all cross the device.
    #[serde(default)]
    pub fast_path: Option<String>,
    /// What of the following was translated there, in both directions.
    #[serde(default)]
    pub by_fast_path: Traffic,
    /// From IPv4 to IPv6.
    pub v4_to_v6: Traffic,
    /// From IPv6 to IPv4.
    pub v6_to_v4: Traffic,
    /// Packets that were not translated, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// What is wrong, with the mend.
    pub findings: Vec<Finding>,
}
