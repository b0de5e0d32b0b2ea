//! Frames that arrive on a link, and which of them come out at the translator's device though nothing is routed there.
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use sixgate_engine::firewall::shortcut::Gate;
use sixgate_wire::checksum::Sum;

use super::*;
use crate::testing::{in_namespace, mac, run, wire};
use crate::tun::{BUFFER_LENGTH, Tun};

const CLIENT: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const SERVER: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0x64, 0, 0, 0, 0, 0, 0, 198, 51, 100, 7];
const MAPPED: [u8; 4] = [203, 0, 113, 2];
const REMOTE: [u8; 4] = [198, 51, 100, 7];

/// The far end of a wire whose near end has the shortcuts.
struct Bench {
    socket: OwnedFd,
    link: u32,
    own: [u8; 6],
    router: [u8; 6],
    tun: Tun,
}

impl Bench {
    async fn build(family: IpFamily, ways: Vec<Way>) -> Self {
        let tun = Tun::open("nat64").unwrap();
        let [_, link] = wire(["near", "far"]);
        let device = run("ip -o link show dev nat64").split(':').next().unwrap().parse().unwrap();
        let gates = vec![Gate { link: "near".to_owned(), family, ways }];
        load(&Shortcut { table: "sixgate".to_owned(), device, gates }).await.unwrap();
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None).unwrap();
        Self { socket, link, own: mac("far").0, router: mac("near").0, tun }
    }

    fn send(&self, to: [u8; 6], ethertype: &[u8], packet: &[u8]) {
        let frame = [&to[..], &self.own, ethertype, packet].concat();
        // SAFETY: an address of zeros is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = self.link as i32;
        // SAFETY: frame and address outlive the call, which reads them.
        let sent = unsafe {
            let (address, length) = ((&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32);
            libc::sendto(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, address, length)
        };
        assert_eq!(sent, frame.len() as isize);
    }

    /// What comes out of the device for the translator: the packets with payloads of ours, in order. The last one sent
    /// always comes out, so that nothing is waited for in vain.
    fn received(&self, ethertype: &[u8], last: &[u8]) -> Vec<Vec<u8>> {
        self.send(self.router, ethertype, last);
        let mut buffer = vec![0; BUFFER_LENGTH];
        let mut packets = Vec::new();
        loop {
            assert!(self.tun.wait(Some(Duration::from_secs(10))).unwrap().packet, "only {packets:x?} came out");
            let Some(received) = self.tun.read(&mut buffer).unwrap() else { continue };
            if received.packet.ends_with(b"last") {
                return packets;
            }
            if received.packet.ends_with(b"mark") {
                packets.push(received.packet.to_vec());
            }
        }
    }
}

fn v6(source: [u8; 16], next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(source);
    packet.extend(SERVER);
    packet.extend([0x30, 0x39, 0, 53]);
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

fn v4(source: [u8; 4], first: u8, fragment: u16, ttl: u8, protocol: u8, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = (28 + payload.len()) as u16;
    let mut packet = vec![first, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([ttl, protocol, 0, 0]);
    packet.extend(source);
    packet.extend(MAPPED);
    let checksum = Sum::ZERO.bytes(&packet).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend([0, 53]);
    packet.extend(port.to_be_bytes());
    packet.extend([0, 8 + payload.len() as u8, 0, 0]);
    packet.extend(payload);
    packet
}

#[test]
fn plain_packets_from_the_own_prefix_take_the_short_way_and_all_others_do_not() {
    in_namespace(|| async {
        let way =
            Way::FromIpv6 { source: "2001:db8:1::/64".parse().unwrap(), pref64: "2001:db8:64::/96".parse().unwrap() };
        let bench = Bench::build(IpFamily::V6, vec![way]).await;
        let plain = |payload: &[u8]| v6(CLIENT, 17, 64, payload);
        let (ipv6, tagged) = ([0x86, 0xdd], [0x81, 0, 0, 5, 0x86, 0xdd]);
        let stranger = [0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        bench.send(bench.router, &ipv6, &v6(stranger, 17, 64, b"source mark"));
        bench.send(bench.router, &ipv6, &v6(CLIENT, 17, 1, b"hop limit mark"));
        bench.send(bench.router, &ipv6, &v6(CLIENT, 0, 64, b"hop-by-hop mark"));
        bench.send(bench.router, &ipv6, &v6(CLIENT, 44, 64, b"fragment mark"));
        bench.send(bench.router, &ipv6, &v6(CLIENT, 58, 64, b"icmpv6 mark"));
        bench.send([2, 2, 2, 2, 2, 2], &ipv6, &plain(b"other host mark"));
        bench.send(bench.router, &tagged, &plain(b"tagged mark"));
        bench.send(bench.router, &ipv6, &plain(b"plain mark"));
        bench.send(bench.router, &ipv6, &v6(CLIENT, 6, 64, b"tcp mark"));
        let packets = bench.received(&ipv6, &plain(b"last"));
        // A router has passed each of them on.
        assert_eq!(packets, [v6(CLIENT, 17, 63, b"plain mark"), v6(CLIENT, 6, 63, b"tcp mark")]);
    });
}

#[test]
fn plain_packets_to_the_share_take_the_short_way_and_all_others_do_not() {
    in_namespace(|| async {
        let share = |protocol| Way::FromIpv4 { protocol, mapped: MAPPED.into(), ports: 50_000..=59_999 };
        let ways = vec![Way::Left("127.0.0.0/8".parse().unwrap()), share(17), share(6)];
        let bench = Bench::build(IpFamily::V4, ways).await;
        let ipv4 = [8, 0];
        let plain = |payload: &[u8]| v4(REMOTE, 0x45, 0, 64, 17, 50_000, payload);
        for left in [
            v4([127, 0, 0, 1], 0x45, 0, 64, 17, 50_000, b"martian mark"),
            v4(REMOTE, 0x46, 0, 64, 17, 50_000, b"options mark"),
            v4(REMOTE, 0x45, 0x2000, 64, 17, 50_000, b"first fragment mark"),
            v4(REMOTE, 0x45, 1, 64, 17, 50_000, b"later fragment mark"),
            v4(REMOTE, 0x45, 0, 1, 17, 50_000, b"ttl mark"),
            v4(REMOTE, 0x45, 0, 64, 1, 50_000, b"icmp mark"),
            v4(REMOTE, 0x45, 0, 64, 17, 49_999, b"below mark"),
            v4(REMOTE, 0x45, 0, 64, 17, 60_000, b"above mark"),
            plain(b"plain mark"),
            v4(REMOTE, 0x45, 0x4000, 64, 6, 59_999, b"tcp mark"),
        ] {
            bench.send(bench.router, &ipv4, &left);
        }
        let packets = bench.received(&ipv4, &plain(b"last"));
        let passed =
            [v4(REMOTE, 0x45, 0, 63, 17, 50_000, b"plain mark"), v4(REMOTE, 0x45, 0x4000, 63, 6, 59_999, b"tcp mark")];
        assert_eq!(packets, passed);
    });
}

#[test]
fn the_text_is_what_nft_reads_and_the_table_goes_whole() {
    in_namespace(|| async {
        wire(["near", "far"]);
        let _tun = Tun::open("nat64").unwrap();
        let ways = vec![
            Way::FromIpv6 { source: "2001:db8::/61".parse().unwrap(), pref64: "64:ff9b::/96".parse().unwrap() },
            Way::Left("10.0.0.0/7".parse().unwrap()),
            Way::FromIpv4 { protocol: 6, mapped: MAPPED.into(), ports: 1024..=65535 },
        ];
        let gates = [IpFamily::V6, IpFamily::V4].map(|family| Gate {
            link: if family == IpFamily::V6 { "near" } else { "far" }.to_owned(),
            family,
            ways: ways.clone(),
        });
        let shortcut = Shortcut { table: "text".to_owned(), device: 1, gates: gates.to_vec() };
        let file = std::env::temp_dir().join(format!("sixgate-{}-shortcut.nft", std::process::id()));
        std::fs::write(&file, shortcut.to_string()).unwrap();
        run(&format!("nft -c -f {}", file.display()));
        std::fs::remove_file(&file).unwrap();
        assert!(!loaded("text").await.unwrap());
        load(&shortcut).await.unwrap();
        assert!(loaded("text").await.unwrap());
        load(&shortcut).await.unwrap();
        unload("text").await.unwrap();
        unload("text").await.unwrap();
        assert!(!loaded("text").await.unwrap());
    });
}

#[test]
fn rules_of_others_are_seen_where_packets_pass_and_only_there() {
    in_namespace(|| async {
        let foreign = || async { crate::nft::foreign("sixgate").await.unwrap() };
        run("nft add table inet sixgate");
        run("nft add chain inet sixgate forward { type filter hook forward priority 0 ; }");
        run("nft add table ip host");
        run("nft add chain ip host input { type filter hook input priority 0 ; }");
        run("nft add chain ip host part");
        assert!(!foreign().await);
        run("nft add chain ip host forward { type filter hook forward priority 0 ; }");
        assert!(foreign().await);
        assert!(!crate::nft::foreign_to_ipv6("sixgate").await.unwrap(), "they see IPv4 alone");
        run("nft delete table ip host");
        assert!(!foreign().await);
        run("nft add table ip6 sixgate");
        run("nft add chain ip6 sixgate nat { type nat hook postrouting priority 100 ; }");
        assert!(foreign().await, "the table's name alone says nothing");
        assert!(crate::nft::foreign_to_ipv6("sixgate").await.unwrap());
    });
}
