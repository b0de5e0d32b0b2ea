//! A script of solicitations, advertisements and time for source address validation and for the NDP proxy.
use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use sixgate_engine::config;
use sixgate_engine::ndp_proxy::{NdpProxy, Transmit};
use sixgate_engine::plan::{plan, preview_facts};
use sixgate_engine::savi::Savi;
use sixgate_engine::time::Instant;
use sixgate_wire::checksum::pseudo_v6;
use sixgate_wire::mac::MacAddr;
use sixgate_wire::ndp::{Delivery, HOP_LIMIT, Message};

const FILE: &str = r#"
[wan]
interface = "w"
ipv6 = { address = "2001:db8:1:1::2/64", gateway = "fe80::99" }
ndp_proxy = true
[[lan]]
name = "lan"
interface = "l"
addresses = ["2001:db8:1:2::1/64"]
[[vm]]
name = "vm"
lan = "lan"
mac = "52:54:00:00:02:11"
containers = "2001:db8:1:2:21::/80"
"#;

/// Few addresses, so that they meet.
fn address(selector: u8) -> Ipv6Addr {
    let low = u16::from(selector >> 3);
    match selector & 7 {
        0 => Ipv6Addr::UNSPECIFIED,
        1 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, low),
        2 => Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0x21, 0, 0, low),
        3 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, low),
        4 => Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 0, 0, 0, low),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, low),
    }
}

fn packet(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or_default();
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, 58, HOP_LIMIT];
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let mut message = message.to_vec();
    if let Some(place) = message.get_mut(2..4) {
        place.fill(0);
        let sum = pseudo_v6(source, destination, 58, length.into()).bytes(&message).checksum();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend(message);
    packet
}

fn check(transmit: &Transmit) {
    let octets =
        |from: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&transmit.packet[from..from + 16]).expect("16 octets"));
    let delivery = Delivery { source: octets(8), destination: octets(24), hop_limit: transmit.packet[7] };
    let parsed = Message::parse(&transmit.packet[40..], &delivery);
    assert!(
        matches!(parsed, Ok(Message::NeighborSolicitation { .. } | Message::NeighborAdvertisement { .. })),
        "{parsed:?}"
    );
}

/// Each step: where it arrives, source, destination, target, hardware address, pause, length and bytes of the options.
pub(crate) fn run(bytes: &[u8]) {
    let config = config::parse(FILE, "file").expect("the file is good");
    let plan = plan(&config, &preview_facts(&config));
    let lan = plan.savi.links.first().expect("a link").clone();
    let proxied = plan.ndp_proxy.clone().expect("a proxy");
    let mut now = Instant::ZERO;
    let mut savi = Savi::default();
    savi.reconfigure(&plan.savi, now);
    let mut proxy = NdpProxy::new(proxied, now);
    let mut rest = bytes;
    while let Some((&[at, source, destination, target, host, pause, length], tail)) = rest.split_first_chunk::<7>() {
        let (options, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        now = now + Duration::from_millis(u64::from(pause) * 20);
        let (source, target) = (address(source), address(target));
        let mut message = vec![135 + (at >> 1 & 1), 0, 0, 0, at & 0xe0, 0, 0, 0];
        message.extend(target.octets());
        message.extend(options);
        let packet = packet(source, address(destination), &message);
        let mac = MacAddr([0x52, 0x54, 0, 0, 2, host & 0x17]);
        if at & 1 == 0 {
            proxy.handle_solicitation(&packet, mac, now);
        } else {
            savi.handle_discovery(lan.link, &packet, mac, now);
            savi.handle_unknown(lan.link, source, mac, now);
            proxy.handle_advertisement(lan.link, &packet, now);
        }
        savi.handle_timeout(now);
        proxy.handle_timeout(now);
        while let Some(sent) = savi.poll_transmit().or_else(|| proxy.poll_transmit()) {
            check(&sent);
        }
        let sources = savi.sources();
        let hosts = &sources.first().expect("a link").hosts;
        let addresses: BTreeSet<Ipv6Addr> = hosts.iter().map(|(_, address)| *address).collect();
        assert_eq!(addresses.len(), hosts.len(), "an address belongs to two");
        assert!(!hosts.iter().any(|(mac, address)| lan.own.contains(address) || *mac == lan.mac));
        assert!(!addresses.iter().any(|address| address.segments()[..5] == [0x2001, 0xdb8, 1, 2, 0x21]));
        assert!(!addresses.iter().any(|address| address.segments()[2] == 9), "an address of elsewhere");
    }
}
