//! Kernel switches: a router that believes nobody's advertisements and redirects, and forwards once the firewall is up.
use super::topology::Topology;
use super::{NAT64_DEVICE, Nat64Plan, ROUTER_PORTS, Stage, Sysctl};

/// Per IPv6 interface. RFC 4861 section 6.2.1: a router takes its own configuration from no advertisement.
const IPV6_LINK: [(&str, &str); 5] =
    [("disable_ipv6", "0"), ("accept_ra", "0"), ("autoconf", "0"), ("accept_redirects", "0"), ("use_tempaddr", "0")];

/// All switches in the order they are written.
pub(super) fn plan(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Vec<Sysctl> {
    let mut early = vec![
        ("net/ipv6/conf/all/disable_ipv6".to_owned(), "0".to_owned()),
        ("net/ipv6/conf/all/accept_redirects".to_owned(), "0".to_owned()),
        ("net/ipv6/conf/default/accept_ra".to_owned(), "0".to_owned()),
        ("net/ipv4/conf/all/accept_redirects".to_owned(), "0".to_owned()),
        ("net/ipv4/conf/all/send_redirects".to_owned(), "0".to_owned()),
        ("net/ipv4/conf/all/accept_source_route".to_owned(), "0".to_owned()),
    ];
    for link in topology.links() {
        early.extend(IPV6_LINK.map(|(key, value)| (format!("net/ipv6/conf/{}/{key}", link.name), value.to_owned())));
        // The kernel ORs `send_redirects` of `all` and of the interface.
        early.push((format!("net/ipv4/conf/{}/send_redirects", link.name), "0".to_owned()));
        early.push((format!("net/ipv4/conf/{}/accept_redirects", link.name), "0".to_owned()));
    }
    if let (Some(link), Some(mtu)) = (topology.wan, topology.config.wan.ipv6.as_ref().and_then(|ipv6| ipv6.mtu)) {
        // RFC 4861 section 6.3.4: within what the link itself carries.
        let mtu = mtu.min(topology.config.wan.mtu.unwrap_or(link.mtu));
        early.push((format!("net/ipv6/conf/{}/mtu", link.name), mtu.to_string()));
    }
    // A VM that claims an IPv4 source from elsewhere, such as the resolver that the router asks, is not believed.
    early
        .extend(topology.lans.iter().map(|lan| (format!("net/ipv4/conf/{}/rp_filter", lan.link.name), "1".to_owned())));
    if nat64.is_some() {
        early.extend(shared_address(topology));
    }
    // Both families, also where only one is routed: the forward chain denies the other one.
    let forwarding =
        ["net/ipv4/conf/all/forwarding", "net/ipv6/conf/all/forwarding"].map(|path| (path.to_owned(), "1".to_owned()));
    let staged = |stage| move |(path, value)| Sysctl { path, value, stage };
    early.into_iter().map(staged(Stage::Early)).chain(forwarding.into_iter().map(staged(Stage::Forwarding))).collect()
}

/// What sharing the uplink's IPv4 address with the translator needs.
fn shared_address(topology: &Topology<'_>) -> Vec<(String, String)> {
    let (first, last) = (ROUTER_PORTS.start(), ROUTER_PORTS.end());
    let mut values = vec![
        ("net/ipv4/ip_local_port_range".to_owned(), format!("{first} {last}")),
        // The kernel takes the larger of `all` and the interface: one strict value would drop what the TUN device sends.
        ("net/ipv4/conf/all/rp_filter".to_owned(), "0".to_owned()),
    ];
    // A new address of the same prefix comes before the old one goes, and must not go with it.
    if let Some(link) = topology.wan {
        values.push((format!("net/ipv4/conf/{}/promote_secondaries", link.name), "1".to_owned()));
    }
    let tun = topology.facts.link(NAT64_DEVICE);
    for link in topology.wan.into_iter().chain(tun) {
        values.push((format!("net/ipv4/conf/{}/rp_filter", link.name), "0".to_owned()));
    }
    if tun.is_some() {
        // Translated packets carry the router's own address as their source: martians otherwise.
        values.push((format!("net/ipv4/conf/{NAT64_DEVICE}/accept_local"), "1".to_owned()));
        values.push((format!("net/ipv4/conf/{NAT64_DEVICE}/send_redirects"), "0".to_owned()));
        values.push((format!("net/ipv6/conf/{NAT64_DEVICE}/disable_ipv6"), "0".to_owned()));
        values.push((format!("net/ipv6/conf/{NAT64_DEVICE}/accept_ra"), "0".to_owned()));
        values.push((format!("net/ipv6/conf/{NAT64_DEVICE}/accept_redirects"), "0".to_owned()));
    }
    values
}
