//! Solicitations from outside and what becomes of them.
use proptest::prelude::*;

use super::*;

const ASKER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ASKER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const WAN: u32 = 2;
const LAN: u32 = 3;

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn plan() -> NdpProxyPlan {
    let net = |text: &str| text.parse().unwrap();
    NdpProxyPlan {
        link: WAN,
        interface: "eth0".to_owned(),
        mac: MacAddr([0, 0x50, 0x56, 0, 0xaa, 0xbb]),
        source: address("fe80::101"),
        prefixes: vec![
            (net("2001:db8:1:2::/64"), Behind::Link(LAN)),
            (net("2001:db8:1:2:10::/76"), Behind::Uplink),
            (net("2001:db8:1:2:21::/80"), Behind::Routed),
            (net("2001:db8:1:2::1/128"), Behind::Router),
        ],
        downstream: vec![Downstream {
            link: LAN,
            interface: "eth1".to_owned(),
            source: address("fe80::201"),
            mac: MacAddr([2, 0, 0, 0, 2, 1]),
        }],
    }
}

fn solicitation(source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut buffer = [0; 64];
    let mut writer = Writer::neighbor_solicitation(&mut buffer, target).unwrap();
    if !source.is_unspecified() {
        writer.source_link_layer(ASKER_MAC).unwrap();
    }
    packet(source, solicited_node(target), writer.finish())
}

fn ask(proxy: &mut NdpProxy, target: &str, now: u64) -> Option<Verdict> {
    proxy.handle_solicitation(&solicitation(ASKER, address(target)), ASKER_MAC, at(now))
}

fn alive(proxy: &mut NdpProxy, target: &str, now: u64) {
    let header = NeighborAdvertisement { router: false, solicited: true, overriding: true, target: address(target) };
    let mut buffer = [0; 64];
    let message = Writer::neighbor_advertisement(&mut buffer, &header).unwrap().finish().to_vec();
    proxy.handle_advertisement(LAN, &packet(address(target), address("fe80::201"), &message), at(now));
}

#[test]
fn containers_and_the_routers_own_addresses_are_answered_for_with_the_right_flags() {
    let mut proxy = NdpProxy::new(plan(), at(0));
    for target in ["2001:db8:1:2:21::5", "2001:db8:1:2::1"] {
        assert_eq!(ask(&mut proxy, target, 0), Some(Verdict::Answered));
        let sent = proxy.poll_transmit().unwrap();
        assert_eq!((sent.link, sent.to), (WAN, ASKER_MAC));
        let (delivery, message) = icmpv6_message(&sent.packet).expect("a right checksum");
        assert_eq!((delivery.source, delivery.destination, delivery.hop_limit), (address("fe80::101"), ASKER, 255));
        let Ok(Message::NeighborAdvertisement { header, options }) = Message::parse(message, &delivery) else {
            panic!()
        };
        let expected =
            NeighborAdvertisement { router: true, solicited: true, overriding: false, target: address(target) };
        assert_eq!(header, expected);
        assert_eq!(options.iter().next(), Some(NdpOption::TargetLinkLayer(plan().mac)));
    }
}

#[test]
fn a_host_on_the_lan_is_answered_for_once_it_has_answered_itself() {
    let mut proxy = NdpProxy::new(plan(), at(0));
    let target = "2001:db8:1:2::77";
    assert_eq!(ask(&mut proxy, target, 0), Some(Verdict::Asked));
    let probe = proxy.poll_transmit().unwrap();
    assert_eq!((probe.link, probe.to), (LAN, MacAddr([0x33, 0x33, 0xff, 0, 0, 0x77])));
    assert_eq!(proxy.poll_transmit(), None, "nothing is said upstream yet");
    alive(&mut proxy, target, 10);
    assert_eq!(proxy.poll_transmit().map(|sent| (sent.link, sent.to)), Some((WAN, ASKER_MAC)));
    assert_eq!(ask(&mut proxy, target, 20), Some(Verdict::Answered));
    assert_eq!(ask(&mut proxy, target, 31_000), Some(Verdict::Asked), "it is believed for a while only");
}

#[test]
fn silence_is_remembered_for_a_while_and_costs_three_solicitations() {
    let mut proxy = NdpProxy::new(plan(), at(0));
    assert_eq!(ask(&mut proxy, "2001:db8:1:2::78", 0), Some(Verdict::Asked));
    while let Some(due) = proxy.poll_timeout() {
        proxy.handle_timeout(due);
    }
    let probes: Vec<u32> = std::iter::from_fn(|| proxy.poll_transmit()).map(|sent| sent.link).collect();
    assert_eq!(probes, [LAN; 3]);
    assert_eq!(ask(&mut proxy, "2001:db8:1:2::78", 4000), Some(Verdict::Silent));
    assert_eq!(ask(&mut proxy, "2001:db8:1:2::78", 9000), Some(Verdict::Asked));
}

#[test]
fn what_is_not_behind_the_router_and_duplicate_detection_are_left_alone() {
    let mut proxy = NdpProxy::new(plan(), at(0));
    for target in ["2001:db8:1:2:10::9", "2001:db8:77::1", "fe80::1"] {
        assert_eq!(ask(&mut proxy, target, 0), Some(Verdict::NotBehind));
    }
    let unspecified = solicitation(Ipv6Addr::UNSPECIFIED, address("2001:db8:1:2:21::5"));
    assert_eq!(proxy.handle_solicitation(&unspecified, ASKER_MAC, at(0)), Some(Verdict::DuplicateDetection));
    let mut routed = solicitation(ASKER, address("2001:db8:1:2:21::5"));
    routed[7] = 254;
    assert_eq!(proxy.handle_solicitation(&routed, ASKER_MAC, at(0)), Some(Verdict::Invalid(ParseError::HopLimit)));
    routed[7] = 255;
    routed[50] ^= 1;
    assert_eq!(proxy.handle_solicitation(&routed, ASKER_MAC, at(0)), None, "a damaged one");
    assert_eq!(proxy.poll_transmit(), None);
}

#[test]
fn a_scan_costs_bounded_memory_and_no_flood_downstream() {
    let mut proxy = NdpProxy::new(plan(), at(0));
    for host in 0..20_000_u32 {
        let target = Ipv6Addr::from(u128::from(address("2001:db8:1:2::")) | u128::from(host + 0x100));
        proxy.handle_solicitation(&solicitation(ASKER, target), ASKER_MAC, at(u64::from(host) / 10));
    }
    let sent = std::iter::from_fn(|| proxy.poll_transmit()).count();
    assert!(sent <= 3 * PROBES_PER_SECOND as usize, "{sent} solicitations in two seconds");
    assert!(proxy.targets().1 <= MOST_TARGETS);
    assert!(proxy.verdicts()[&Verdict::Full] > 19_000);
}

#[test]
fn a_new_hardware_address_is_told_and_moved_prefixes_are_forgotten() {
    let mut proxy = NdpProxy::new(plan(), at(0));
    ask(&mut proxy, "2001:db8:1:2::77", 0);
    alive(&mut proxy, "2001:db8:1:2::77", 1);
    while proxy.poll_transmit().is_some() {}
    let mac = MacAddr([2, 9, 9, 9, 9, 9]);
    proxy.reconfigure(NdpProxyPlan { mac, ..plan() });
    let sent = proxy.poll_transmit().unwrap();
    assert_eq!(sent.to, MacAddr([0x33, 0x33, 0, 0, 0, 1]));
    proxy.reconfigure(NdpProxyPlan { mac, prefixes: Vec::new(), ..plan() });
    assert_eq!(proxy.targets(), (0, 0));
}

proptest! {
    #[test]
    fn no_packet_is_answered_but_a_valid_solicitation(packet in prop::collection::vec(any::<u8>(), 0..120)) {
        let mut proxy = NdpProxy::new(plan(), at(0));
        proxy.handle_solicitation(&packet, ASKER_MAC, at(0));
        proxy.handle_advertisement(LAN, &packet, at(0));
        prop_assert_eq!(proxy.poll_transmit(), None);
    }
}
