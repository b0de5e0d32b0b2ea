//! What the uplink was told by others.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// What the uplink was told by others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Uplink {
    /// The DHCPv4 client; absent where the configuration asks for none.
    pub dhcp4: Option<Dhcp4>,
    /// The DHCPv6 client; absent where the configuration asks for none.
    pub dhcp6: Option<Dhcp6>,
    /// Router discovery; absent where the configuration asks for none.
    pub discovery: Option<Discovery>,
    /// Delegated prefixes, those in use before those that are retired.
    pub delegated: Vec<DelegatedPrefix>,
    /// The site's own prefix (RFC 4193), where a LAN uses it.
    pub unique_local: Option<Ipv6Net>,
    /// Resolvers that the uplink names.
    pub resolvers: Vec<IpAddr>,
    /// What has changed lately, the newest last.
    pub changes: Vec<UplinkChange>,
}

/// One change of what the uplink has told, as one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UplinkChange {
    /// Seconds since 1970.
    pub at: u64,
    /// What was there before and is there no more.
    pub gone: Vec<String>,
    /// What is there now and was not before.
    pub new: Vec<String>,
}

/// The DHCPv6 client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dhcp6 {
    /// What it is doing.
    pub state: String,
    /// Messages received, by what became of them.
    pub messages: BTreeMap<String, u64>,
}

/// Router discovery on the uplink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Discovery {
    /// The default router in use.
    pub router: Option<Ipv6Addr>,
    /// M flag: addresses are to be had by DHCPv6.
    pub managed: bool,
    /// Messages received, by what became of them.
    pub messages: BTreeMap<String, u64>,
}

/// A delegated prefix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DelegatedPrefix {
    /// The prefix.
    pub prefix: Ipv6Net,
    /// Seconds for which hosts are told to prefer it; absent where there is no end.
    pub preferred: Option<u64>,
    /// Seconds until it ends; absent where there is no end.
    pub valid: Option<u64>,
    /// It is told to hosts as deprecated until it ends.
    pub retired: bool,
}

/// The DHCPv4 client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dhcp4 {
    /// RFC 2131's name of its state, in lower case.
    pub state: String,
    /// The address that it holds.
    pub address: Option<Ipv4Net>,
    /// Whose it is.
    pub server: Option<Ipv4Addr>,
    /// Seconds until it ends; absent where it never does.
    pub remaining: Option<u64>,
    /// Resolvers that the server names.
    pub resolvers: Vec<Ipv4Addr>,
    /// Addresses that were refused because somebody else had them.
    pub conflicts: u64,
    /// Messages received, by what became of them.
    pub messages: BTreeMap<String, u64>,
}
