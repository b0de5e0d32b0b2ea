//! Packets to a neighbour on a wire, and which way they take.
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use sixgate_engine::config;
use sixgate_engine::plan::{ShortcutLinks, plan, preview_facts};

use sixgate_wire::checksum::pseudo_v4;
use sixgate_wire::virtio_net::{PartialChecksum, Segmentation, SegmentationKind};

use super::*;
use crate::testing::{in_namespace, mac, run, wait_for, wire};
use crate::tun::Tun;

const POOL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// A router whose uplink is the near end of a wire; the far end is the gateway. What comes in by the device has the
/// router's own address, as what the translator sends.
struct Uplink {
    far: OwnedFd,
    plan: Nat64Plan,
    _tun: Tun,
}

impl Uplink {
    fn build() -> Self {
        let tun = Tun::open("nat64").unwrap();
        let [uplink, _] = wire(["near", "far"]);
        let device = run("ip -o link show dev nat64").split(':').next().unwrap().parse().unwrap();
        run("ip addr add 203.0.113.2/24 dev near");
        run("ip route add default via 203.0.113.1");
        for (path, value) in [
            ("net/ipv4/conf/nat64/accept_local", "1"),
            ("net/ipv4/conf/nat64/rp_filter", "0"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/all/forwarding", "1"),
        ] {
            crate::sysctl::write(path, value).unwrap();
        }
        let text = include_str!("../../../../tests/vectors/plan/slash76/config.toml");
        let config = config::parse(text, "config.toml").unwrap();
        let mut nat64 = plan(&config, &preview_facts(&config)).nat64.unwrap();
        nat64.pool4 = vec![POOL];
        nat64.shortcut = Some(ShortcutLinks { device, uplink, lans: Vec::new() });
        let kind = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let all = rustix::net::eth::IP;
        let far = socket_with(AddressFamily::PACKET, SocketType::RAW, kind, Some(all)).unwrap();
        Self { far, plan: nat64, _tun: tun }
    }

    /// IPv4 frames towards the gateway's hardware address that have arrived at the far end.
    fn arrived(&self, gateway: [u8; 6]) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2048];
        let mut frames = Vec::new();
        while let Ok((_, length)) = recv(&self.far, &mut buffer, RecvFlags::empty()) {
            if buffer[..6] == gateway {
                frames.push(buffer[14..length].to_vec());
            }
        }
        frames
    }
}

fn packet(from: Ipv4Addr, to: Ipv4Addr, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((28 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 1, 0x40, 0, ttl, 17, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let checksum = sixgate_wire::checksum::Sum::ZERO.bytes(&packet).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend([0, 53, 0, 53, 0, 8 + payload.len() as u8, 0, 0]);
    packet.extend(payload);
    packet
}

fn at(milliseconds: u64) -> Instant {
    Instant::from_nanos(milliseconds * 1_000_000)
}

/// Packets at that time, until one is taken; none is where the answer is awaited in vain.
fn becomes_known(shortcut: &mut Shortcut, packet: &[u8], now: Instant) -> bool {
    for _ in 0..BUSY {
        if shortcut.take(packet, Offload::NONE, now) {
            return true;
        }
    }
    while shortcut.open > 0 {
        std::thread::sleep(Duration::from_millis(1));
        if shortcut.take(packet, Offload::NONE, now) {
            return true;
        }
    }
    false
}

#[test]
fn a_busy_destination_is_reached_past_the_kernel_while_its_gateway_is_known() {
    in_namespace(|| async {
        let uplink = Uplink::build();
        let mut shortcut = Shortcut::open(&uplink.plan).unwrap().unwrap();
        let sent = packet(POOL, REMOTE, 64, b"payload");
        assert!(!becomes_known(&mut shortcut, &sent, at(0)), "the gateway is not resolved");
        assert!(!shortcut.take(&sent, Offload::NONE, at(10)), "what is refused is not asked for with each packet");

        let gateway = mac("far").0;
        let text = gateway.map(|octet| format!("{octet:02x}")).join(":");
        run(&format!("ip neigh replace 203.0.113.1 lladdr {text} nud reachable dev near"));
        assert!(becomes_known(&mut shortcut, &sent, at(2000)));
        // Guards against half a packet past the kernel, and the other half in its reassembly.
        for word in [[0x20, 0], [0, 0x45]] {
            let mut fragment = sent.clone();
            fragment[6..8].copy_from_slice(&word);
            assert!(!shortcut.take(&fragment, Offload::NONE, at(2000)), "{word:?}");
        }
        shortcut.flush();
        let frames = wait_for("the packet", || Some(uplink.arrived(gateway)).filter(|frames| !frames.is_empty()));
        assert_eq!(frames, [packet(POOL, REMOTE, 63, b"payload")], "one hop less, and a header checksum that fits");
        assert_eq!(shortcut.lost(), 0);

        // In time one packet takes the kernel's way, and the answer to the question that it brings holds on.
        assert!(!shortcut.take(&sent, Offload::NONE, at(2600)));
        assert!(becomes_known(&mut shortcut, &sent, at(2601)));
        // A gateway that has gone away is not sent to for longer than the answer's life.
        run("ip neigh del 203.0.113.1 dev near");
        assert!(!shortcut.take(&sent, Offload::NONE, at(3200)));
        wait_for("the answer", || {
            shortcut.take(&sent, Offload::NONE, at(3201));
            (shortcut.open == 0).then_some(())
        });
        assert!(!shortcut.take(&sent, Offload::NONE, at(3202)));
        shortcut.flush();
    });
}

#[test]
fn what_the_kernel_has_to_look_at_takes_its_way() {
    in_namespace(|| async {
        let uplink = Uplink::build();
        let gateway = mac("far").0.map(|octet| format!("{octet:02x}")).join(":");
        run(&format!("ip neigh replace 203.0.113.1 lladdr {gateway} nud permanent dev near"));
        run("ip route add 198.51.100.64/26 via 203.0.113.77");
        run("ip route add unreachable 198.51.100.128/25");
        let mut shortcut = Shortcut::open(&uplink.plan).unwrap().unwrap();
        let good = packet(POOL, REMOTE, 64, b"payload");
        assert!(becomes_known(&mut shortcut, &good, at(0)));
        let long = vec![0; LONGEST_V4 - 27];
        for (what, packet) in [
            ("a foreign source", packet(Ipv4Addr::new(203, 0, 113, 9), REMOTE, 64, b"payload")),
            ("the last hop", packet(POOL, REMOTE, 1, b"payload")),
            ("what may meet an MTU", packet(POOL, REMOTE, 64, &long)),
            ("options", [&[0x46], &good[1..]].concat()),
            ("the router's own address", packet(POOL, POOL, 64, b"payload")),
            ("a route to somebody unknown", packet(POOL, Ipv4Addr::new(198, 51, 100, 70), 64, b"payload")),
            ("no route", packet(POOL, Ipv4Addr::new(198, 51, 100, 130), 64, b"payload")),
            ("nothing", Vec::new()),
            ("IPv6 from elsewhere", vec![0x60; 48]),
        ] {
            assert!(!becomes_known(&mut shortcut, &packet, at(0)), "{what}");
        }
        // Another link than the uplink is not what the firewall admits.
        wire(["third", "fourth"]);
        run("ip addr add 192.0.2.1/24 dev third");
        run(&format!("ip neigh replace 192.0.2.9 lladdr {gateway} nud permanent dev third"));
        assert!(!becomes_known(&mut shortcut, &packet(POOL, Ipv4Addr::new(192, 0, 2, 9), 64, b"payload"), at(0)));
        assert!(shortcut.take(&good, Offload::NONE, at(400)), "nothing else has moved");
        shortcut.flush();

        run("ip link set near down");
        assert!(shortcut.take(&good, Offload::NONE, at(450)));
        shortcut.flush();
        assert_eq!(shortcut.lost(), 1, "a link that is down takes nothing");
        assert!(!shortcut.take(&good, Offload::NONE, at(460)), "and is not tried with each packet");
    });
}

/// A client on a veth or virtio link leaves its checksums to whoever sends the packet to a real one.
#[test]
fn a_checksum_that_is_left_to_do_is_left_to_the_link() {
    in_namespace(|| async {
        let uplink = Uplink::build();
        let gateway = mac("far").0;
        let text = gateway.map(|octet| format!("{octet:02x}")).join(":");
        run(&format!("ip neigh replace 203.0.113.1 lladdr {text} nud permanent dev near"));
        let mut shortcut = Shortcut::open(&uplink.plan).unwrap().unwrap();
        let mut partial = packet(POOL, REMOTE, 64, b"payload!");
        assert!(becomes_known(&mut shortcut, &partial, at(0)));
        let pseudo = pseudo_v4(POOL, REMOTE, 17, 16);
        let whole = pseudo.bytes(&partial[20..]).checksum();
        partial[26..28].copy_from_slice(&(!pseudo.checksum()).to_be_bytes());
        let left = Offload { checksum: Some(PartialChecksum { start: 20, offset: 6 }), segmentation: None };
        assert!(shortcut.take(&partial, left, at(1)));
        let parts = Segmentation { kind: SegmentationKind::Udp, size: 4, header_length: 28, ecn: false };
        assert!(!shortcut.take(&partial, Offload { segmentation: Some(parts), ..left }, at(1)));
        shortcut.flush();
        // A packet socket is told what is left to do, or the link has done it: both are right.
        let frames = wait_for("the packets", || Some(uplink.arrived(gateway)).filter(|frames| frames.len() >= 2));
        let last = frames.last().unwrap();
        let held = u16::from_be_bytes([last[26], last[27]]);
        assert!(held == whole || held == !pseudo.checksum(), "{held:x} is neither {whole:x} nor left to do");
        assert_eq!(shortcut.lost(), 0);
    });
}

#[test]
fn a_hop_is_taken_off_each_header_and_its_checksum_stays_right() {
    for ttl in 2..=255 {
        for low in 0..=255 {
            let mut passed = packet(POOL, Ipv4Addr::new(198, 51, 100, low), ttl, b"");
            pass_hop(&mut passed);
            assert_eq!(passed, packet(POOL, Ipv4Addr::new(198, 51, 100, low), ttl - 1, b""));
        }
    }
    let mut ipv6 = vec![0x60; 40];
    pass_hop(&mut ipv6);
    assert_eq!(ipv6[7], 0x5f);
    assert!(ipv6.iter().enumerate().all(|(at, byte)| at == 7 || *byte == 0x60));
}
