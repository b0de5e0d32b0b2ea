//! What is advertised on the LANs, who else advertises there, and who has which address.
use core::net::Ipv6Addr;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

/// Source address validation on the LANs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AntiSpoofing {
    /// Addresses that hosts have, by the LAN's name.
    pub bound: BTreeMap<String, usize>,
    /// What became of claims to addresses, by reason.
    pub claims: BTreeMap<String, u64>,
    /// VMs that answered once and do not any more.
    pub silent: BTreeSet<String>,
}

/// What is advertised on a LAN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Advertised {
    /// Prefixes with their flags.
    pub prefixes: Vec<AdvertisedPrefix>,
    /// Resolvers.
    pub rdnss: Vec<Ipv6Addr>,
    /// NAT64 prefix, and whether it is announced as usable.
    pub pref64: Option<(Ipv6Net, bool)>,
    /// Router lifetime in seconds.
    pub router_lifetime: u16,
    /// Advertisements sent.
    pub sent: u64,
    /// Solicitations received.
    pub solicitations: u64,
    /// Of those sent, answers to one host alone (RFC 7772).
    #[serde(default)]
    pub unicast: u64,
    /// Packets that one advertisement takes (RFC 6980).
    #[serde(default)]
    pub packets: usize,
    /// What hosts are told to forget, because it is not advertised any more.
    #[serde(default)]
    pub withdrawn: Vec<String>,
    /// Other routers on the link.
    #[serde(default)]
    pub other_routers: Vec<OtherRouter>,
    /// Messages dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// Another router that advertises itself on a LAN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherRouter {
    /// Its link-local address.
    pub address: Ipv6Addr,
    /// Its hardware address, where it says so.
    pub mac: Option<String>,
    /// Router lifetime in seconds.
    pub router_lifetime: u16,
    /// Prefixes that it advertises.
    pub prefixes: Vec<Ipv6Net>,
    /// How often it was heard.
    pub heard: u64,
    /// Whether the configuration names it.
    pub expected: bool,
    /// RFC 4861 section 6.2.7: what it says otherwise than this router.
    pub contradicts: Vec<String>,
}

/// A prefix in an advertisement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdvertisedPrefix {
    /// The prefix.
    pub prefix: Ipv6Net,
    /// L flag.
    pub on_link: bool,
    /// A flag.
    pub autonomous: bool,
}
