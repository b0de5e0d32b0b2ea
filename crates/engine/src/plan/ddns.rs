//! Names outside with the addresses that they are to have now.
use core::net::{IpAddr, Ipv6Addr};

use ipnet::Ipv6Net;

use super::topology::Topology;
use crate::config::{Config, Ddns, Target};
use crate::ddns::Record;
use crate::firewall::destinations;
use crate::npt::Pair;

/// RFC 4193.
const UNIQUE_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7);

/// All records, those without an address too.
pub(super) fn plan(topology: &Topology<'_>) -> Vec<Record> {
    let config = topology.config;
    let records = config.ddns.iter().flat_map(|ddns| {
        let record = |is_ipv4, address: Option<IpAddr>| Record {
            name: ddns.name.clone(),
            address,
            is_ipv4,
            how: ddns.how.clone(),
        };
        let ipv6 = ddns.ipv6.then(|| record(false, ipv6(config, ddns).map(IpAddr::V6)));
        let ipv4 = ddns.ipv4.then(|| record(true, config.wan.ipv4.as_ref().map(|wan| IpAddr::V4(wan.address.addr()))));
        ipv6.into_iter().chain(ipv4)
    });
    records.collect()
}

/// The address that others outside know: not one that is on its way out, and not one that is known inside only.
fn ipv6(config: &Config, ddns: &Ddns) -> Option<Ipv6Addr> {
    let candidates: Vec<Ipv6Addr> = match &ddns.to {
        Target::Router => {
            let wan = config.wan.ipv6.iter().flat_map(|ipv6| {
                ipv6.addresses.iter().filter(|net| !ipv6.deprecated.contains(net)).map(|net| net.addr())
            });
            wan.chain(config.lans.iter().flat_map(|lan| lan.addresses.iter().map(|net| net.addr()))).collect()
        }
        Target::Vm(_) | Target::Containers(..) | Target::Lan(..) | Target::Prefix(_) => {
            destinations(config, &ddns.to).iter().map(|net| net.addr()).collect()
        }
    };
    let outside = candidates.into_iter().filter_map(|address| {
        let npt = config.npt.iter().find(|npt| npt.inside.contains(&address));
        match npt {
            Some(npt) => Pair { inside: npt.inside, outside: npt.outside }.outbound()?.translate(address),
            None => Some(address),
        }
    });
    let retired = |address: &Ipv6Addr| {
        let lifetimes = config.lans.iter().flat_map(|lan| &lan.lifetimes);
        lifetimes.filter(|lifetime| lifetime.retired).any(|lifetime| lifetime.prefix.contains(address))
    };
    outside
        .filter(|address| !UNIQUE_LOCAL.contains(address) && !address.is_unicast_link_local())
        .find(|address| !retired(address))
}
