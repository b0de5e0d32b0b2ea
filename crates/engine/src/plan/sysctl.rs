//! Kernel switches: a router that believes nobody's advertisements and redirects, and forwards once the firewall is up.
use super::topology::{LanLink, Topology};
use super::{NAT64_DEVICE, Nat64Plan, ROUTER_PORTS, Stage, Sysctl, flow};

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
        // RFC 4987 section 3.6: the router's own ports, of both families, remember nothing of a flood of SYNs.
        ("net/ipv4/tcp_syncookies".to_owned(), "1".to_owned()),
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
    early.extend(neighbours(topology));
    if nat64.is_some() {
        early.extend(shared_address(topology));
    }
    // Both families, also where only one is routed: the forward chain denies the other one.
    let forwarding =
        ["net/ipv4/conf/all/forwarding", "net/ipv6/conf/all/forwarding"].map(|path| (path.to_owned(), "1".to_owned()));
    let kept = connections(topology);
    let staged = |stage| move |(path, value)| Sysctl { path, value, stage };
    let forwarding = kept.into_iter().chain(forwarding);
    early.into_iter().map(staged(Stage::Early)).chain(forwarding.map(staged(Stage::Forwarding))).collect()
}

/// RFC 6583: what waits for somebody who is asked for is little, and the cache has room for everybody.
fn neighbours(topology: &Topology<'_>) -> Vec<(String, String)> {
    let waits = |lan: &LanLink<'_>| (format!("net/ipv6/neigh/{}/unres_qlen_bytes", lan.link.name), WAITS.to_string());
    let mut values: Vec<(String, String)> = topology.lans.iter().map(waits).collect();
    if topology.facts.sizes_conntrack {
        let most = (topology.facts.memory / 65_536).clamp(2048, 65_536);
        // The kernel keeps the first as they are, begins to forget at the second and refuses at the last.
        for (name, value) in [("gc_thresh3", most), ("gc_thresh2", most / 2), ("gc_thresh1", most / 8)] {
            values.push((format!("net/ipv6/neigh/default/{name}"), value.to_string()));
        }
    }
    values
}

/// Bytes of packets to one neighbour that is asked for, as the kernel counts them.
const WAITS: u32 = 32_768;

/// What connection tracking keeps. It is there once the ruleset is.
fn connections(topology: &Topology<'_>) -> Vec<(String, String)> {
    let limits = topology.config.connections;
    let path = |name: &str| format!("net/netfilter/nf_conntrack_{name}");
    let mut values = Vec::new();
    if topology.facts.sizes_conntrack {
        let most = limits.entries.unwrap_or_else(|| entries(topology.facts.memory));
        // One bucket for each, in pages of 512.
        values.push((path("buckets"), most.next_power_of_two().max(1024).to_string()));
        values.push((path("max"), most.to_string()));
    }
    let transitory = ["syn_sent", "syn_recv", "fin_wait", "close_wait", "last_ack"];
    let mut set = |name: &str, value: u32| values.push((path(name), value.to_string()));
    set("tcp_timeout_established", limits.tcp_established);
    transitory.iter().for_each(|state| set(&format!("tcp_timeout_{state}"), limits.tcp_transitory));
    flow::sysctls(topology).into_iter().for_each(|(name, value)| set(name, value));
    set("udp_timeout", UNANSWERED);
    set("udp_timeout_stream", limits.udp);
    set("icmp_timeout", limits.icmp);
    set("icmpv6_timeout", limits.icmp);
    values
}

/// RFC 4787 REQ-5, RFC 6092 REC-14: no UDP flow is forgotten earlier, answered or not.
const UNANSWERED: u32 = 120;

/// How many connections a machine of so many bytes tracks: about a twentieth of it.
fn entries(memory: u64) -> u32 {
    u32::try_from(memory / 8192).unwrap_or(u32::MAX).clamp(16_384, 4_194_304)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Facts;

    fn values(more: &str, change: impl FnOnce(&mut Facts)) -> Vec<(String, String)> {
        let file = format!("[wan]\ninterface = \"w\"\n[[lan]]\nname = \"l\"\ninterface = \"l\"\n{more}");
        let config = crate::config::parse(&file, "test").unwrap_or_else(|errors| panic!("{errors}"));
        let mut facts = Facts::default();
        change(&mut facts);
        connections(&Topology::resolve(&config, &facts, &mut Vec::new()))
    }

    fn value(values: &[(String, String)], name: &str) -> Option<u32> {
        let path = format!("net/netfilter/nf_conntrack_{name}");
        values.iter().find(|(held, _)| *held == path).map(|(_, value)| value.parse().unwrap())
    }

    #[test]
    fn the_table_of_connections_follows_the_memory_unless_the_file_says_how_many() {
        for (memory, most, buckets) in
            [(128 << 20, 16_384, 16_384), (1 << 30, 131_072, 131_072), (9 << 40, 4_194_304, 4_194_304)]
        {
            let values = values("", |facts| (facts.memory, facts.sizes_conntrack) = (memory, true));
            assert_eq!((value(&values, "max"), value(&values, "buckets")), (Some(most), Some(buckets)), "{memory}");
        }
        let values = values("[connections]\nentries = 3000\n", |facts| facts.sizes_conntrack = true);
        assert_eq!((value(&values, "max"), value(&values, "buckets")), (Some(3000), Some(4096)));
    }

    #[test]
    fn a_network_namespace_has_its_own_timeouts_and_not_its_own_size() {
        let default = values("", |_| ());
        assert_eq!(value(&default, "max"), None);
        assert_eq!(value(&default, "tcp_timeout_established"), Some(7440));
        assert_eq!(value(&default, "tcp_timeout_syn_sent"), Some(240));
        assert_eq!((value(&default, "udp_timeout"), value(&default, "udp_timeout_stream")), (Some(120), Some(300)));
        let set = values("[connections]\nudp = 600\nicmp = 30\ntcp_transitory = 60\n", |_| ());
        assert_eq!((value(&set, "udp_timeout"), value(&set, "udp_timeout_stream")), (Some(120), Some(600)));
        assert_eq!((value(&set, "icmpv6_timeout"), value(&set, "tcp_timeout_fin_wait")), (Some(30), Some(60)));
    }
}
