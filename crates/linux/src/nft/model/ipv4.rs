//! The same for IPv4: what leaves by the shared address, what of it is published, and what nobody lets in.
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use sixgate_engine::config;
use sixgate_engine::plan::{plan, preview_facts};
use sixgate_wire::checksum::{Sum, pseudo_v4};

use super::super::load;
use super::{Dice, LINKS, Rig, SEED, TCP, UDP, UPLINK};
use crate::sysctl;
use crate::testing::{in_namespace, run};

/// Configurations in the ordinary run, and packets for each.
const CASES: u64 = 20;
const PACKETS: usize = 250;

const ICMP: u8 = 1;
const ECHO: u16 = 8;

const NETWORK: &str = r#"
[wan]
interface = "wu"
ipv4 = { address = "203.0.113.2/24", gateway = "203.0.113.1" }
bogons = BOGONS
[[lan]]
name = "a"
interface = "la"
addresses = ["2001:db8:a::1/64"]
ipv4 = "10.0.1.1/24"
[[lan]]
name = "b"
interface = "lb"
addresses = ["2001:db8:b::1/64"]
ipv4 = "10.0.2.1/24"
[dns64]
upstream = "2001:db8:f::53"
"#;

const OWN: [&str; 3] = ["203.0.113.2", "10.0.1.1", "10.0.2.1"];
const ADDRESSES: [&str; 12] = [
    "9.9.9.9",
    "9.9.9.10",
    "8.8.4.4",
    "192.168.3.3",
    "100.64.1.1",
    "10.9.9.9",
    "127.0.0.9",
    "224.0.0.5",
    "10.0.1.5",
    "10.0.1.6",
    "10.0.2.5",
    "10.0.2.6",
];
/// Who may be named, beside nobody.
const SOURCES: [&str; 3] = ["9.9.9.0/24", "8.8.4.4/32", "10.0.1.0/24"];
const HOSTS: [&str; 3] = ["10.0.1.5", "10.0.1.6", "10.0.2.5"];
/// What is published: each port once.
const PUBLISHED: [(u8, u16, u16); 4] = [(TCP, 8443, 443), (TCP, 8022, 22), (UDP, 5353, 5353), (UDP, 8053, 53)];
const PORTS: [u16; 8] = [22, 53, 443, 5353, 8022, 8053, 8443, 80];

#[derive(Debug)]
struct Publish {
    protocol: u8,
    outside: u16,
    inside: u16,
    host: &'static str,
    from: Option<&'static str>,
}

#[derive(Debug)]
struct Intent {
    between: &'static str,
    bogons: bool,
    publish: Vec<Publish>,
    /// Who may open TCP port 22 of the router.
    router: Option<Option<&'static str>>,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    number: u16,
    link: usize,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    port: u16,
}

fn within(address: Ipv4Addr, net: &str) -> bool {
    net.parse::<Ipv4Net>().unwrap().contains(&address)
}

fn link_of(address: Ipv4Addr) -> usize {
    match address.octets() {
        [10, 0, 1, _] => 1,
        [10, 0, 2, _] => 2,
        _ => UPLINK,
    }
}

fn is_own(address: Ipv4Addr) -> bool {
    OWN.iter().any(|own| own.parse() == Ok(address))
}

impl Intent {
    fn roll(dice: &mut Dice) -> Self {
        let from = |dice: &mut Dice| dice.is().then(|| dice.one_of(&SOURCES));
        let mut publish = Vec::new();
        for (protocol, outside, inside) in PUBLISHED {
            if dice.below(4) > 0 {
                publish.push(Publish { protocol, outside, inside, host: dice.one_of(&HOSTS), from: from(dice) });
            }
        }
        let between = dice.one_of(&["allowed", "denied", "by-allow"]);
        let router = dice.is().then(|| from(dice));
        Self { between, bogons: dice.below(3) > 0, publish, router }
    }

    fn text(&self) -> String {
        let mut text = NETWORK.replace("BOGONS", &self.bogons.to_string());
        let _ = writeln!(text, "[policy]\nbetween = \"{}\"", self.between);
        if let Some(from) = self.router {
            let _ = writeln!(text, "[[allow]]\nto = \"router\"\ntcp = 22");
            if let Some(from) = from {
                let _ = writeln!(text, "from = \"{from}\"");
            }
        }
        for Publish { protocol, outside, inside, host, from } in &self.publish {
            let name = if *protocol == TCP { "tcp" } else { "udp" };
            let _ = writeln!(text, "[[publish]]\nlisten = \"wan:{name}/{outside}\"\nto = \"{host}:{inside}\"");
            if let Some(from) = from {
                let _ = writeln!(text, "from = \"{from}\"");
            }
        }
        text
    }

    /// Whether a packet comes out somewhere, or is answered by the router.
    fn admits(&self, packet: &Packet) -> bool {
        let Packet { link, source, destination, protocol, port, .. } = *packet;
        // The kernel takes these from nowhere.
        if source.is_loopback() || source.is_multicast() || is_own(source) {
            return false;
        }
        // Each side of the router has its own addresses.
        if link != link_of(source) {
            return false;
        }
        // Of those that nobody has, who is named by the file is somebody.
        let is_nobodys = ["192.168.0.0/16", "100.64.0.0/10"].iter().any(|net| within(source, net))
            || (within(source, "10.0.0.0/8") && !self.names_a_lan());
        if link == UPLINK && self.bogons && is_nobodys {
            return false;
        }
        let meant = |held: &&Publish| {
            (held.protocol, held.outside) == (protocol, port) && held.from.is_none_or(|from| within(source, from))
        };
        if destination == OWN[0].parse::<Ipv4Addr>().unwrap() && self.publish.iter().any(|held| meant(&held)) {
            return true;
        }
        if is_own(destination) {
            let is_dns = link != UPLINK && protocol != ICMP && port == 53;
            let by_entry = (protocol, port) == (TCP, 22)
                && self.router.is_some_and(|from| from.is_none_or(|from| within(source, from)));
            return protocol == ICMP || is_dns || by_entry;
        }
        match (link == UPLINK, link_of(destination) == UPLINK) {
            (true, _) => false,
            (false, true) => true,
            (false, false) => self.between == "allowed",
        }
    }

    /// Whether a LAN's prefix is a source in the file: its block is somebody's then.
    fn names_a_lan(&self) -> bool {
        let lan = Some(SOURCES[2]);
        self.publish.iter().any(|held| held.from == lan) || self.router == Some(lan)
    }
}

impl Packet {
    fn roll(dice: &mut Dice, number: u16) -> Self {
        let address = |dice: &mut Dice| dice.one_of(&ADDRESSES).parse::<Ipv4Addr>().unwrap();
        let link = dice.below(LINKS.len());
        let mut source = address(dice);
        // Most come from where they belong.
        while dice.below(8) > 0 && link_of(source) != link {
            source = address(dice);
        }
        let mut destination = address(dice);
        while destination.is_loopback() || destination.is_multicast() {
            destination = address(dice);
        }
        if dice.below(3) == 0 {
            destination = dice.one_of(&OWN).parse().unwrap();
        }
        let protocol = dice.one_of(&[TCP, TCP, UDP, UDP, ICMP]);
        let port = if protocol == ICMP { ECHO } else { dice.one_of(&PORTS) };
        Self { number, link, source, destination, protocol, port }
    }

    /// Its number is where no translation changes it.
    fn frame(&self) -> Vec<u8> {
        let number = self.number.to_be_bytes();
        let (mut upper, sum) = match self.protocol {
            ICMP => {
                let echo = [ECHO as u8, 0, 0, 0, number[0], number[1], number[0], number[1]];
                (echo.to_vec(), 2)
            }
            UDP => {
                let mut udp = vec![0; 16];
                (udp[5], udp[8], udp[9]) = (16, number[0], number[1]);
                (udp, 6)
            }
            _ => {
                let mut tcp = vec![0; 20];
                (tcp[6], tcp[7], tcp[12], tcp[13]) = (number[0], number[1], 0x50, 2);
                tcp[14..16].copy_from_slice(&[0xff, 0xff]);
                (tcp, 16)
            }
        };
        if self.protocol != ICMP {
            upper[..2].copy_from_slice(&number);
            upper[2..4].copy_from_slice(&self.port.to_be_bytes());
        }
        let pseudo = match self.protocol {
            ICMP => Sum::default(),
            protocol => pseudo_v4(self.source, self.destination, protocol, upper.len() as u32),
        };
        let checksum = pseudo.bytes(&upper).checksum();
        upper[sum..sum + 2].copy_from_slice(&checksum.to_be_bytes());
        let mut header = vec![0x45, 0, 0, (20 + upper.len()) as u8, 0, 0, 0x40, 0, 64, self.protocol, 0, 0];
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        let checksum = Sum::default().bytes(&header).checksum();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        let mut frame = vec![2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
        frame.extend(header);
        frame.extend(upper);
        frame
    }
}

/// The number of a packet that has been forwarded, or that the router's answer is about.
fn number(frame: &[u8]) -> Option<u16> {
    let (header, upper) = frame.get(14..)?.split_at_checked(20)?;
    if frame[12..14] != [0x08, 0x00] || header[0] != 0x45 {
        return None;
    }
    let at = |offset: usize| Some(u16::from_be_bytes([*upper.get(offset)?, *upper.get(offset + 1)?]));
    match (header[9], upper.first()?) {
        // A reset, else a segment that opens.
        (TCP, _) if upper.get(13)? & 4 != 0 => Some(at(10)?.wrapping_sub(1)),
        (TCP, _) => at(6),
        (UDP, _) => at(8),
        (ICMP, 0 | 8) => at(6),
        // Port unreachable, about the datagram.
        (ICMP, 3) if upper.get(1) == Some(&3) => at(8 + 20 + 8),
        _ => None,
    }
}

fn build() -> Rig {
    let rig = Rig::build();
    for (own, link) in OWN.iter().zip(LINKS) {
        run(&format!("ip address add {own}/24 dev {link}"));
    }
    let neighbours = ADDRESSES.iter().filter(|host| host.starts_with("10.0."));
    for host in neighbours {
        let link = LINKS[link_of(host.parse().unwrap())];
        run(&format!("ip neighbor replace {host} lladdr 02:00:00:00:00:01 nud permanent dev {link}"));
    }
    run("ip neighbor replace 203.0.113.1 lladdr 02:00:00:00:00:01 nud permanent dev wu");
    run("ip route add default via 203.0.113.1 dev wu");
    for (path, value) in [
        ("net/ipv4/conf/all/forwarding", "1"),
        ("net/ipv4/icmp_ratemask", "0"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/la/send_redirects", "0"),
        ("net/ipv4/conf/lb/send_redirects", "0"),
        // As the plan has them.
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/wu/rp_filter", "0"),
        ("net/ipv4/conf/la/rp_filter", "1"),
        ("net/ipv4/conf/lb/rp_filter", "1"),
    ] {
        sysctl::write(path, value).unwrap();
    }
    rig
}

/// Sends all, and says which came out or were answered. The last of all is an echo request that always is.
fn send(rig: &mut Rig, packets: &[Packet]) -> HashSet<u16> {
    let (source, destination) = ("9.9.9.11".parse().unwrap(), OWN[0].parse().unwrap());
    let last = Packet { number: u16::MAX, link: UPLINK, source, destination, protocol: ICMP, port: ECHO };
    let mut passed = HashSet::new();
    let mut frame = [0; 2048];
    let mut read = |rig: &mut Rig, passed: &mut HashSet<u16>| {
        for link in &mut rig.links {
            while let Ok(length) = link.read(&mut frame) {
                passed.extend(number(&frame[..length]));
            }
        }
    };
    for packet in packets {
        rig.links[packet.link].write_all(&packet.frame()).unwrap();
        read(rig, &mut passed);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !passed.remove(&u16::MAX) {
        assert!(Instant::now() < deadline, "the last packet was not answered");
        rig.links[UPLINK].write_all(&last.frame()).unwrap();
        std::thread::yield_now();
        read(rig, &mut passed);
    }
    passed
}

#[test]
fn the_kernel_translates_and_admits_of_ipv4_what_a_simple_reading_does() {
    in_namespace(|| async {
        let cases = std::env::var("SIXGATE_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
        let mut rig = build();
        let mut dice = Dice(SEED);
        let (mut admitted, mut number) = (0, 0);
        for case in 0..cases {
            let intent = Intent::roll(&mut dice);
            let text = intent.text();
            let config = config::parse(&text, "model").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
            let ruleset = plan(&config, &preview_facts(&config)).firewall;
            load(&ruleset, &[]).await.unwrap();
            let mut roll = || {
                number = if number >= 60_000 { 1024 } else { number.max(1023) + 1 };
                Packet::roll(&mut dice, number)
            };
            let packets: Vec<Packet> = (0..PACKETS).map(|_| roll()).collect();
            let passed = send(&mut rig, &packets);
            for packet in &packets {
                let expected = intent.admits(packet);
                admitted += u64::from(expected);
                assert_eq!(passed.contains(&packet.number), expected, "case {case}: {packet:?}\n{text}\n{ruleset}");
            }
        }
        let share = admitted as f64 / (cases * PACKETS as u64) as f64;
        assert!((0.2..0.8).contains(&share), "{share}: hardly anything is tried");
    });
}
