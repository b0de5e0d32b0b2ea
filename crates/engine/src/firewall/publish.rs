//! What is published on IPv4: exactly these ports of exactly these addresses go to the translator.
use core::net::Ipv4Addr;
use core::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net};

use super::allow::{describe, destinations};
use super::icmp::{ECHO_REQUEST_V4, ICMP, TCP, UDP};
use super::prerouting::MARK;
use super::ruleset::{Match, Rule, Statement, host4};
use super::{Scene, rule};
use crate::config::{Listen, Outside, Publish, Service};
use crate::plan::Nat64Plan;

/// For what comes in by the uplink, before connection tracking, and before NAT64's share of the ports is marked: an entry for some sources alone refuses
/// the others there too. What comes out of the translator for the LANs is admitted as all of NAT64 is.
pub(super) fn rules(scene: &Scene<'_>, nat64: &Nat64Plan) -> Vec<Option<Rule>> {
    let uplink = nat64.pool4.first().copied();
    let config = scene.topology.config;
    // An entry whose host has no address now leads nowhere: the port, or the ping, is the router's.
    let in_force = config.publish.iter().filter(|publish| !destinations(config, &publish.to).is_empty());
    let entries = in_force.flat_map(|publish| publish.listen.iter().map(move |it| (publish, it)));
    entries
        .flat_map(|(publish, listen)| {
            let address = match listen.at {
                Outside::UplinkV4 => uplink,
                Outside::PoolV4(address) => Some(address).filter(|_| uplink.is_some()),
            };
            address.map_or([None, None], |address| entry(publish, listen, address))
        })
        .collect()
}

fn entry(publish: &Publish, listen: &Listen, address: Ipv4Addr) -> [Option<Rule>; 2] {
    let mut matches = vec![Match::Destination4(vec![host4(address)])];
    matches.extend(service(&listen.service));
    let comment = format!("publish line {}: {listen} to {}", publish.line, describe(&publish.to));
    let admit = [Statement::Counter, Statement::Notrack, MARK, Statement::Accept];
    let from: Vec<Ipv4Net> = publish.from.iter().filter_map(v4).collect();
    if publish.from.is_empty() {
        return [rule(matches, &admit, comment), None];
    }
    let others = rule(
        matches.clone(),
        &[Statement::Counter, Statement::Drop],
        format!("drop: publish line {}, from elsewhere", publish.line),
    );
    matches.insert(0, Match::Source4(Ipv4Net::aggregate(&from)));
    [rule(matches, &admit, comment), others]
}

fn service(service: &Service) -> [Match; 2] {
    let ports = |protocol: u8, ports: &RangeInclusive<u16>| {
        [Match::Protocol(vec![protocol]), Match::DestinationPort(vec![ports.clone()])]
    };
    match service {
        Service::Tcp(tcp) => ports(TCP, tcp),
        Service::Udp(udp) => ports(UDP, udp),
        Service::Echo => [Match::Protocol(vec![ICMP]), Match::IcmpType(vec![ECHO_REQUEST_V4])],
    }
}

const fn v4(net: &IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    }
}
