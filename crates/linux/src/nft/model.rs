//! The rules that the kernel applies against a second, simple reading of the same intent: random configurations, random
//! packets, and one answer to whether each passes.
mod ipv4;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use sixgate_engine::config;
use sixgate_engine::plan::{plan, preview_facts};
use sixgate_wire::checksum::pseudo_v6;
use tun::Layer;

use super::load;
use crate::sysctl;
use crate::testing::{in_namespace, run};

/// Configurations in the ordinary run, and packets for each; `SIXGATE_FUZZ_CASES` asks for more configurations.
const CASES: u64 = 40;
const PACKETS: usize = 250;
const SEED: u64 = 0x6677;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const ECHO: u16 = 128;
const ROUTER_MAC: &str = "02:00:00:00:00:fe";

/// Links, by number: the uplink and two LANs.
const LINKS: [&str; 3] = ["wu", "la", "lb"];
const UPLINK: usize = 0;

const NETWORK: &str = r#"
[wan]
interface = "wu"
ipv6 = { address = "2001:db8:1:1::2/64", gateway = "fe80::1" }
bogons = BOGONS
[[lan]]
name = "a"
interface = "la"
addresses = ["2001:db8:a::1/64"]
[[lan]]
name = "b"
interface = "lb"
addresses = ["2001:db8:b::1/64"]
[[vm]]
name = "vm1"
lan = "a"
address = "2001:db8:a::11"
containers = "2001:db8:a1::/64"
[[vm]]
name = "vm2"
lan = "a"
address = "2001:db8:a::12"
containers = "2001:db8:a2::/64"
[dns64]
upstream = "2001:db8:f::53"
"#;

/// What entries name, and the prefix that it stands for.
const TARGETS: [(&str, &str); 9] = [
    ("vm1", "2001:db8:a::11/128"),
    ("vm2", "2001:db8:a::12/128"),
    ("vm1/containers", "2001:db8:a1::/64"),
    ("vm1/containers::5", "2001:db8:a1::5/128"),
    ("vm2/containers::5", "2001:db8:a2::5/128"),
    ("a", "2001:db8:a::/64"),
    ("b", "2001:db8:b::/64"),
    ("b::9", "2001:db8:b::9/128"),
    ("2001:db8:a1:0:1::/80", "2001:db8:a1:0:1::/80"),
];
/// Who may be named as a source.
const SOURCES: [(&str, &str); 5] = [
    ("2001:db8:f::/48", "2001:db8:f::/48"),
    ("2001:db8:f::1", "2001:db8:f::1/128"),
    ("vm2", "2001:db8:a::12/128"),
    ("vm1/containers", "2001:db8:a1::/64"),
    ("b", "2001:db8:b::/64"),
];
/// Who may be restricted.
const RESTRICTED: [(&str, &str); 3] =
    [("vm1", "2001:db8:a::11/128"), ("vm1/containers", "2001:db8:a1::/64"), ("b", "2001:db8:b::/64")];
const PORTS: [(&str, u16, u16); 4] = [("22", 22, 22), ("443", 443, 443), ("\"8000-8010\"", 8000, 8010), ("53", 53, 53)];

/// Sources and destinations of packets.
const ADDRESSES: [&str; 18] = [
    "2001:db8:f::1",
    "2001:db8:f::2",
    "2001:db8:e::1",
    "3fff::1",
    "2001:2::1",
    "100::1",
    "fd00::1",
    "ff05::1",
    "::1",
    "2001:db8:a::11",
    "2001:db8:a::12",
    "2001:db8:a::99",
    "2001:db8:a1::5",
    "2001:db8:a1:0:1::7",
    "2001:db8:a2::5",
    "2001:db8:a2::6",
    "2001:db8:b::9",
    "2001:db8:b::8",
];
const OWN: [&str; 3] = ["2001:db8:1:1::2", "2001:db8:a::1", "2001:db8:b::1"];

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn is(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// What an entry is about; with nothing named, an outbound one is about everything.
#[derive(Clone, Debug, Default)]
struct Service {
    tcp: Vec<(&'static str, u16, u16)>,
    udp: Vec<(&'static str, u16, u16)>,
    echo: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Absent for the router.
    to: Option<(&'static str, &'static str)>,
    from: Option<(&'static str, &'static str)>,
    service: Service,
}

#[derive(Clone, Debug)]
struct Outbound {
    from: (&'static str, &'static str),
    to: (&'static str, &'static str),
    service: Service,
}

/// A configuration, as the model reads it.
#[derive(Clone, Debug)]
struct Intent {
    between: &'static str,
    bogons: bool,
    allow: Vec<Entry>,
    outbound: Vec<Outbound>,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    number: u16,
    link: usize,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
    /// Destination port, or the type of ICMPv6.
    port: u16,
    /// Has a routing header of type 0.
    is_routed: bool,
}

impl Service {
    fn roll(dice: &mut Dice) -> Self {
        let mut ports = || (0..dice.below(3)).map(|_| dice.one_of(&PORTS)).collect::<Vec<_>>();
        Self { tcp: ports(), udp: ports(), echo: dice.is() }
    }

    fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty() && !self.echo
    }

    fn text(&self) -> String {
        let list = |ports: &[(&str, u16, u16)]| ports.iter().map(|port| port.0).collect::<Vec<_>>().join(", ");
        let mut text = String::new();
        for (name, ports) in [("tcp", &self.tcp), ("udp", &self.udp)] {
            if !ports.is_empty() {
                let _ = writeln!(text, "{name} = [{}]", list(ports));
            }
        }
        if self.echo {
            text += "icmp = true\n";
        }
        text
    }

    fn covers(&self, packet: &Packet) -> bool {
        let among = |ports: &[(&str, u16, u16)]| ports.iter().any(|port| (port.1..=port.2).contains(&packet.port));
        match packet.protocol {
            TCP => among(&self.tcp),
            UDP => among(&self.udp),
            _ => self.echo && packet.port == ECHO,
        }
    }
}

impl Intent {
    fn roll(dice: &mut Dice) -> Self {
        let entry = |dice: &mut Dice| {
            let to = (dice.below(6) > 0).then(|| dice.one_of(&TARGETS));
            let from = dice.is().then(|| dice.one_of(&SOURCES));
            Entry { to, from, service: Service::roll(dice) }
        };
        let allow = (0..dice.below(7)).map(|_| entry(dice)).filter(|entry| !entry.service.is_empty()).collect();
        let reach = [("2001:db8:f::/48", "2001:db8:f::/48"), ("2001:db8:e::1", "2001:db8:e::1/128")];
        let mut outbound = Vec::new();
        for _ in 0..dice.below(4) {
            let (from, to) = (dice.one_of(&RESTRICTED), dice.one_of(&reach));
            outbound.push(Outbound { from, to, service: Service::roll(dice) });
        }
        let between = dice.one_of(&["allowed", "denied", "by-allow"]);
        Self { between, bogons: dice.below(4) > 0, allow, outbound }
    }

    fn text(&self) -> String {
        let mut text = NETWORK.replace("BOGONS", &self.bogons.to_string());
        let _ = writeln!(text, "[policy]\nbetween = \"{}\"", self.between);
        for entry in &self.allow {
            let _ = writeln!(text, "[[allow]]\nto = \"{}\"", entry.to.map_or("router", |to| to.0));
            if let Some(from) = entry.from {
                let _ = writeln!(text, "from = \"{}\"", from.0);
            }
            text += &entry.service.text();
        }
        for Outbound { from, to, service } in &self.outbound {
            let _ = write!(text, "[[outbound]]\nfrom = \"{}\"\nto = \"{}\"\n{}", from.0, to.0, service.text());
        }
        text
    }

    /// Whether a packet is let through, or answered by the router.
    fn admits(&self, packet: &Packet) -> bool {
        let Packet { link, source, destination, protocol, port, .. } = *packet;
        let is_error = protocol == ICMPV6 && (1..=4).contains(&port);
        if packet.is_routed || source.is_multicast() || source.is_loopback() {
            return false;
        }
        let is_local = within(source, "fc00::/7");
        let is_nobodys = ["3fff::/20", "2001:2::/48", "100::/64"].iter().any(|net| within(source, net));
        if link == UPLINK && self.bogons && (is_nobodys || (is_local && !is_error)) {
            return false;
        }
        // Each side of the router has its own addresses.
        if inside(source) == (link == UPLINK) {
            return false;
        }
        let by_entry = |to_router: bool| {
            self.allow.iter().any(|entry| {
                let to = match entry.to {
                    None => to_router,
                    Some(to) => !to_router && within(destination, to.1),
                };
                to && entry.from.is_none_or(|from| within(source, from.1)) && entry.service.covers(packet)
            })
        };
        if OWN.iter().any(|own| destination == address(own)) {
            let is_dns = port == 53 && protocol != ICMPV6 && link != UPLINK;
            return is_dns || (protocol == ICMPV6 && port == ECHO) || by_entry(true);
        }
        let out = link_of(destination);
        for (vm, containers) in [("2001:db8:a::11/128", "2001:db8:a1::/64"), ("2001:db8:a::12/128", "2001:db8:a2::/64")]
        {
            let own = within(source, vm) || within(source, containers);
            if link == 1 && own && within(destination, containers) {
                return false;
            }
        }
        match (link == UPLINK, out == UPLINK) {
            (true, true) => false,
            _ if is_error => true,
            (true, false) => by_entry(false),
            (false, false) => match self.between {
                "allowed" => true,
                "denied" => false,
                _ => by_entry(false),
            },
            (false, true) => {
                let mut about = self.outbound.iter().filter(|entry| within(source, entry.from.1)).peekable();
                about.peek().is_none()
                    || about.any(|entry| {
                        within(destination, entry.to.1) && (entry.service.is_empty() || entry.service.covers(packet))
                    })
            }
        }
    }
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn within(address: Ipv6Addr, net: &str) -> bool {
    net.parse::<Ipv6Net>().unwrap().contains(&address)
}

fn inside(address: Ipv6Addr) -> bool {
    link_of(address) != UPLINK
}

fn link_of(address: Ipv6Addr) -> usize {
    if within(address, "2001:db8:b::/64") {
        return 2;
    }
    let of_a = ["2001:db8:a::/64", "2001:db8:a1::/64", "2001:db8:a2::/64"];
    usize::from(of_a.iter().any(|net| within(address, net)))
}

impl Packet {
    fn roll(dice: &mut Dice, number: u16) -> Self {
        let addresses = |dice: &mut Dice| address(dice.one_of(&ADDRESSES));
        let link = dice.below(LINKS.len());
        let (mut source, mut destination) = (addresses(dice), addresses(dice));
        // Most come from where they belong.
        while dice.below(8) > 0 && (inside(source) == (link == UPLINK) || source.is_multicast()) {
            source = addresses(dice);
        }
        while destination.is_multicast() || destination.is_loopback() {
            destination = addresses(dice);
        }
        let to_router = dice.below(6) == 0;
        if to_router {
            destination = address(dice.one_of(&OWN));
        }
        let protocol = dice.one_of(&[TCP, TCP, UDP, UDP, ICMPV6]);
        let port = match protocol {
            // What errors become of at the router itself cannot be seen.
            ICMPV6 if to_router || dice.is() => ECHO,
            ICMPV6 => 1 + dice.below(4) as u16,
            _ => dice.one_of(&[22, 443, 8000, 8005, 8010, 8011, 53, 80]),
        };
        Self { number, link, source, destination, protocol, port, is_routed: dice.below(20) == 0 }
    }

    /// The whole frame; its number is where an answer has it as well.
    fn frame(&self) -> Vec<u8> {
        let mut upper = match self.protocol {
            TCP => {
                let mut tcp = vec![0; 20];
                (tcp[12], tcp[13]) = (0x50, 2);
                tcp[14..16].copy_from_slice(&[0xff, 0xff]);
                tcp
            }
            UDP => vec![0, 0, 0, 0, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
            _ => vec![self.port as u8, 0, 0, 0],
        };
        let number = self.number.to_be_bytes();
        let sum = match self.protocol {
            ICMPV6 if self.port == ECHO => {
                upper.extend([number[0], number[1], 0, 1]);
                2
            }
            ICMPV6 => {
                // About a packet that nobody has sent, whose source port is the number.
                upper.extend([0, 0, 5, 0, 0x60, 0, 0, 0, 0, 8, UDP, 60]);
                upper.extend(self.destination.octets());
                upper.extend(self.source.octets());
                upper.extend([number[0], number[1], 0, 9, 0, 8, 0, 0]);
                2
            }
            protocol => {
                upper[..2].copy_from_slice(&number);
                upper[2..4].copy_from_slice(&self.port.to_be_bytes());
                if protocol == TCP { 16 } else { 6 }
            }
        };
        let checksum = pseudo_v6(self.source, self.destination, self.protocol, upper.len() as u32);
        let checksum = checksum.bytes(&upper).checksum();
        upper[sum..sum + 2].copy_from_slice(&checksum.to_be_bytes());
        let mut frame = vec![2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0];
        let (next, between): (u8, &[u8]) =
            if self.is_routed { (43, &[self.protocol, 0, 0, 0, 0, 0, 0, 0]) } else { (self.protocol, &[]) };
        frame.extend(((between.len() + upper.len()) as u16).to_be_bytes());
        frame.extend([next, 64]);
        frame.extend(self.source.octets());
        frame.extend(self.destination.octets());
        frame.extend(between);
        frame.extend(upper);
        frame
    }
}

/// The number of a packet that has been forwarded, or that the router's answer is about.
fn number(frame: &[u8]) -> Option<u16> {
    let (header, upper) = frame.get(14..)?.split_at_checked(40)?;
    if frame[12..14] != [0x86, 0xdd] {
        return None;
    }
    let (next, upper) = if header[6] == 43 { (*upper.first()?, upper.get(8..)?) } else { (header[6], upper) };
    let at = |offset: usize| Some(u16::from_be_bytes([*upper.get(offset)?, *upper.get(offset + 1)?]));
    let from_router = OWN.iter().any(|own| header[8..24] == address(own).octets());
    match (next, from_router) {
        // A reset.
        (TCP, true) => at(2),
        (TCP | UDP, false) => at(0),
        // Echo request and reply.
        (ICMPV6, _) if matches!(upper.first(), Some(128 | 129)) => at(4),
        // Port unreachable, about the datagram; nothing else that the router tells counts.
        (ICMPV6, true) if upper.starts_with(&[1, 4]) => at(48),
        (ICMPV6, false) if matches!(upper.first(), Some(1..=4)) => at(48),
        _ => None,
    }
}

/// A router that forwards between three devices, and routes as the configuration would have it.
struct Rig {
    links: Vec<tun::Device>,
}

impl Rig {
    fn build() -> Self {
        let links = LINKS.map(|name| {
            let mut configuration = tun::Configuration::default();
            configuration.tun_name(name).layer(Layer::L2);
            let link = tun::create(&configuration).unwrap();
            sysctl::write(&format!("net/ipv6/conf/{name}/accept_dad"), "0").unwrap();
            run(&format!("ip link set {name} address {ROUTER_MAC} up"));
            // SAFETY: the descriptor is the device's own, and is only told not to block.
            let set = unsafe { libc::fcntl(link.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
            assert_eq!(set, 0);
            link
        });
        for (own, link) in OWN.iter().zip(LINKS) {
            run(&format!("ip address add {own}/64 dev {link} nodad"));
        }
        let neighbours =
            [("fe80::1", "wu"), ("2001:db8:a::11", "la"), ("2001:db8:a::12", "la"), ("2001:db8:a::99", "la")];
        for (host, link) in neighbours.into_iter().chain([("2001:db8:b::9", "lb"), ("2001:db8:b::8", "lb")]) {
            run(&format!("ip neighbor replace {host} lladdr 02:00:00:00:00:01 nud permanent dev {link}"));
        }
        run("ip route add default via fe80::1 dev wu");
        run("ip route add 2001:db8:a1::/64 via 2001:db8:a::11");
        run("ip route add 2001:db8:a2::/64 via 2001:db8:a::12");
        sysctl::write("net/ipv6/conf/all/forwarding", "1").unwrap();
        // No limit for what the router answers: type 0 alone, which nobody sends, has one.
        sysctl::write("net/ipv6/icmp/ratemask", "0").unwrap();
        Self { links: links.into() }
    }

    /// Sends all, and says which came out or were answered. The last of all is one that always is.
    fn send(&mut self, packets: &[Packet]) -> HashSet<u16> {
        let last = Packet {
            number: u16::MAX,
            link: UPLINK,
            source: address("2001:db8:f::9"),
            destination: address(OWN[0]),
            protocol: ICMPV6,
            port: ECHO,
            is_routed: false,
        };
        let mut passed = HashSet::new();
        for packet in packets {
            self.links[packet.link].write_all(&packet.frame()).unwrap();
            self.read(&mut passed);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while !passed.remove(&u16::MAX) {
            assert!(Instant::now() < deadline, "the last packet was not answered");
            self.links[UPLINK].write_all(&last.frame()).unwrap();
            std::thread::yield_now();
            self.read(&mut passed);
        }
        passed
    }

    fn read(&mut self, passed: &mut HashSet<u16>) {
        let mut frame = [0; 2048];
        for link in &mut self.links {
            while let Ok(length) = link.read(&mut frame) {
                passed.extend(number(&frame[..length]));
            }
        }
    }
}

#[test]
fn the_kernel_admits_what_a_simple_reading_of_the_configuration_admits() {
    in_namespace(|| async {
        let cases = std::env::var("SIXGATE_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
        let mut rig = Rig::build();
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
            let passed = rig.send(&packets);
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
