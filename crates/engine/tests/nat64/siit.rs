//! The stateless translator with explicit mappings: RFC 7757, RFC 6791, and what a CLAT makes of it.
use proptest::prelude::*;
use sixgate_engine::time::Instant;
use sixgate_engine::xlat::eam::{Eam, Eamt};
use sixgate_engine::xlat::siit::{Siit, SiitPlan};
use sixgate_engine::xlat::transmit::Transmit;
use sixgate_engine::xlat::{Mtus, Policy, Refusal};

use crate::packet::{SYN, fragment_v4, fragment_v6, icmpv4, icmpv6, is_intact, join, tcp, udp, v4, v6};

/// Two hosts with explicit mappings, and a server somewhere in IPv4.
pub(crate) const ONE: &str = "2001:db8:1::1";
pub(crate) const ONE_V4: &str = "198.51.100.1";
pub(crate) const TWO: &str = "2001:db8:1::2";
pub(crate) const TWO_V4: &str = "198.51.100.2";
pub(crate) const SERVER: &str = "1.2.3.4";
pub(crate) const SERVER_V6: &str = "2001:db8:64::1.2.3.4";
const ROUTER_V4: &str = "198.51.100.254";
pub(crate) const ROUTER_V6: &str = "2001:db8:1::ff";

pub(crate) fn plan() -> SiitPlan {
    let mappings = [("198.51.100.1/32", "2001:db8:1::1/128"), ("198.51.100.2/32", "2001:db8:1::2/128")];
    let eams = mappings.map(|(v4, v6)| Eam::new(v4.parse().unwrap(), v6.parse().unwrap()).unwrap());
    SiitPlan {
        eamt: Eamt::new(eams).unwrap(),
        pref64: Some(pref64("2001:db8:64::")),
        router_v4: Some(ROUTER_V4.parse().unwrap()),
        router_v6: Some(ROUTER_V6.parse().unwrap()),
        mtus: Mtus { v6: 1500, v4: 1500 },
        policy: Policy::DEFAULT,
        icmp_errors_per_second: 100,
    }
}

fn pref64(prefix: &str) -> sixgate_wire::rfc6052::Pref64 {
    sixgate_wire::rfc6052::Pref64::new(prefix.parse().unwrap(), 96).unwrap()
}

/// A translator and its output.
struct Translator {
    siit: Siit,
    out: Transmit,
}

impl Translator {
    fn new(plan: SiitPlan) -> Self {
        Self { siit: Siit::new(plan, [3; 32]), out: Transmit::new() }
    }

    fn send(&mut self, packet: &[u8]) -> (Result<(), Refusal>, Vec<Vec<u8>>) {
        let result = self.siit.handle_input(packet, &mut self.out, Instant::from_nanos(1));
        (result, self.out.iter().map(<[u8]>::to_vec).collect())
    }

    fn pass(&mut self, packet: &[u8]) -> Vec<u8> {
        let (result, mut packets) = self.send(packet);
        assert_eq!((result, packets.len()), (Ok(()), 1));
        packets.remove(0)
    }
}

/// The same packet with the identification of another.
fn identified(mut packet: Vec<u8>, like: &[u8]) -> Vec<u8> {
    packet[4..6].copy_from_slice(&like[4..6]);
    crate::packet::seal(packet)
}

/// RFC 7757 section 3.3: explicit mappings first, the prefix for everybody else; ports stay.
#[test]
fn explicit_mappings_come_before_the_prefix() {
    let mut translator = Translator::new(plan());
    for (upper_v6, upper_v4) in [
        (tcp(5000, 80, SYN, b"data"), tcp(5000, 80, SYN, b"data")),
        (udp(5000, 53, b"question"), udp(5000, 53, b"question")),
        (icmpv6(128, 0, 0x0007_0001, b"ping"), icmpv4(8, 0, 0x0007_0001, b"ping")),
    ] {
        let sent = translator.pass(&v6(ONE, SERVER_V6, 64, upper_v6.clone()));
        assert_eq!(sent, identified(v4(ONE_V4, SERVER, 63, upper_v4.clone()), &sent));
        let received = translator.pass(&v4(SERVER, ONE_V4, 64, upper_v4));
        assert_eq!(received, v6(SERVER_V6, ONE, 63, upper_v6));
    }
}

#[test]
fn what_has_no_mapping_is_refused_and_answered() {
    let mut translator = Translator::new(plan());
    let packet = v6("2001:db8:1::9", SERVER_V6, 64, udp(5000, 53, b"question"));
    let answer = v6(ROUTER_V6, "2001:db8:1::9", 64, icmpv6(1, 1, 0, &packet));
    assert_eq!(translator.send(&packet), (Err(Refusal::Address), vec![answer]));
    let mut alone = Translator::new(SiitPlan { pref64: None, ..plan() });
    let packet = v4(SERVER, ONE_V4, 64, udp(53, 5000, b"answer"));
    let (result, packets) = alone.send(&packet);
    assert_eq!((result, &packets[0][12..22]), (Err(Refusal::Address), &[198, 51, 100, 254, 1, 2, 3, 4, 3, 13][..]));
    let sent = alone.pass(&v6(ONE, TWO, 64, udp(1, 2, b"")));
    assert_eq!(sent, identified(v4(ONE_V4, TWO_V4, 63, udp(1, 2, b"")), &sent), "both ends have explicit mappings");
}

/// RFC 7915 sections 4.3 and 5.3.
#[test]
fn errors_and_what_they_quote_are_translated() {
    let mut translator = Translator::new(plan());
    let sent = translator.pass(&v6(ONE, SERVER_V6, 64, udp(5000, 53, b"question")));
    let error = translator.pass(&v4("9.9.9.9", ONE_V4, 64, icmpv4(11, 0, 0, &sent)));
    let quoted = v6(ONE, SERVER_V6, 63, udp(5000, 53, b"question"));
    assert_eq!(error, v6("2001:db8:64::9.9.9.9", ONE, 63, icmpv6(3, 0, 0, &quoted)));
    let received = translator.pass(&v4(SERVER, ONE_V4, 64, udp(53, 5000, b"answer")));
    let error = translator.pass(&v6(ONE, SERVER_V6, 64, icmpv6(1, 4, 0, &received)));
    let mut quoted = v4(SERVER, ONE_V4, 63, udp(53, 5000, b"answer"));
    quoted[4..6].fill(0);
    let quoted = crate::packet::seal(quoted);
    assert_eq!(error, identified(v4(ONE_V4, SERVER, 63, icmpv4(3, 3, 0, &quoted)), &error));
}

/// RFC 6791: the translator speaks for routers without a counterpart, so that traceroute shows a hop.
#[test]
fn routers_without_a_counterpart_are_spoken_for() {
    let mut translator = Translator::new(plan());
    let received = translator.pass(&v4(SERVER, ONE_V4, 64, udp(53, 5000, b"answer")));
    let error = translator.pass(&v6("2001:db8:1::9", SERVER_V6, 64, icmpv6(3, 0, 0, &received)));
    assert_eq!(error[12..21], [198, 51, 100, 254, 1, 2, 3, 4, 11]);
    assert!(is_intact(&error));
    let global = SiitPlan { pref64: Some(sixgate_wire::rfc6052::Pref64::WELL_KNOWN), ..plan() };
    let mut translator = Translator::new(global);
    let sent = translator.pass(&v6(ONE, "64:ff9b::1.2.3.4", 64, udp(5000, 53, b"question")));
    let error = translator.pass(&v4("10.0.0.1", ONE_V4, 64, icmpv4(11, 0, 0, &sent)));
    let quoted = v6(ONE, "64:ff9b::1.2.3.4", 63, udp(5000, 53, b"question"));
    assert_eq!(error, v6(ROUTER_V6, ONE, 63, icmpv6(3, 0, 0, &quoted)));
    // RFC 6052 section 3.1: nothing but errors comes from there.
    assert_eq!(translator.send(&v4("10.0.0.1", ONE_V4, 64, udp(1, 2, b""))).0, Err(Refusal::Address));
    assert_eq!(translator.send(&v6(ONE, "64:ff9b::10.0.0.1", 64, udp(1, 2, b""))).0, Err(Refusal::Address));
}

/// RFC 7757 section 4.2: two hosts with explicit mappings that know each other by their IPv4 addresses.
#[test]
fn mapped_hosts_reach_each_other_by_the_prefix_and_answer_by_it() {
    let mut translator = Translator::new(plan());
    let (one_by_prefix, two_by_prefix) = ("2001:db8:64::198.51.100.1", "2001:db8:64::198.51.100.2");
    let received = translator.pass(&v6(ONE, two_by_prefix, 64, udp(5000, 53, b"question")));
    assert_eq!(received, v6(one_by_prefix, TWO, 62, udp(5000, 53, b"question")));
    let answer = translator.pass(&v6(TWO, one_by_prefix, 64, udp(53, 5000, b"answer")));
    assert_eq!(answer, v6(two_by_prefix, ONE, 62, udp(53, 5000, b"answer")));
    let error = translator.pass(&v6(TWO, one_by_prefix, 64, icmpv6(1, 4, 0, &received)));
    let quoted = v6(ONE, two_by_prefix, 62, udp(5000, 53, b"question"));
    assert_eq!(error, v6(two_by_prefix, ONE, 62, icmpv6(1, 4, 0, &quoted)));
    let packet = v6(ONE, two_by_prefix, 2, udp(5000, 53, b"question"));
    let answer = v6(ROUTER_V6, ONE, 64, icmpv6(3, 0, 0, &packet));
    assert_eq!(translator.send(&packet), (Err(Refusal::HopLimit), vec![answer]));
}

#[test]
fn fragments_pass_one_by_one() {
    let mut translator = Translator::new(plan());
    let whole = v6(ONE, SERVER_V6, 64, udp(5000, 53, &[7; 2000]));
    let pieces: Vec<_> =
        [(0, 1232), (1232, 9999)].map(|(start, end)| translator.pass(&fragment_v6(&whole, 9, start, end))).to_vec();
    assert!(is_intact(&join(&pieces)));
    let whole = v4(SERVER, ONE_V4, 64, udp(53, 5000, &[7; 2000]));
    let pieces: Vec<_> =
        [(0, 1232), (1232, 9999)].map(|(start, end)| translator.pass(&fragment_v4(&whole, start, end))).to_vec();
    assert_eq!(join(&pieces), v6(SERVER_V6, ONE, 63, udp(53, 5000, &[7; 2000])));
}

#[test]
fn errors_about_errors_and_illegal_sources_end_silently() {
    let mut translator = Translator::new(plan());
    let inner = v4(ONE_V4, SERVER, 60, icmpv4(3, 3, 0, &v4(SERVER, ONE_V4, 60, udp(1, 2, b""))));
    let nested = v4("9.9.9.9", ONE_V4, 64, icmpv4(11, 0, 0, &inner));
    assert_eq!(translator.send(&nested), (Err(Refusal::IcmpType), Vec::new()));
    let inner = v6(SERVER_V6, ONE, 60, icmpv6(1, 4, 0, &v6(ONE, SERVER_V6, 60, udp(1, 2, b""))));
    let nested = v6(ONE, SERVER_V6, 64, icmpv6(1, 4, 0, &inner));
    assert_eq!(translator.send(&nested), (Err(Refusal::IcmpType), Vec::new()));
    for source in ["::", "::1", "ff02::1", "fe80::1"] {
        let packet = v6(source, SERVER_V6, 64, udp(1, 2, b""));
        assert_eq!(translator.send(&packet), (Err(Refusal::Address), Vec::new()), "{source}");
    }
    for source in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
        let packet = v4(source, ONE_V4, 64, udp(1, 2, b""));
        assert_eq!(translator.send(&packet), (Err(Refusal::Address), Vec::new()), "{source}");
    }
    assert_eq!(translator.send(&v6(ONE, "2001:db8:64::127.0.0.1", 64, udp(1, 2, b""))).0, Err(Refusal::Address));
}

/// RFC 6877 section 6.3: a CLAT has one explicit mapping for its IPv4 side, and the PLAT's prefix for the world.
#[test]
fn one_mapping_and_the_plats_prefix_make_a_clat() {
    let eam = Eam::new("192.0.0.1/32".parse().unwrap(), "2001:db8:1::c1a7/128".parse().unwrap()).unwrap();
    let mut clat = Translator::new(SiitPlan {
        eamt: Eamt::new([eam]).unwrap(),
        pref64: Some(sixgate_wire::rfc6052::Pref64::WELL_KNOWN),
        ..plan()
    });
    let sent = clat.pass(&v4("192.0.0.1", SERVER, 64, udp(5000, 53, b"question")));
    assert_eq!(sent, v6("2001:db8:1::c1a7", "64:ff9b::1.2.3.4", 63, udp(5000, 53, b"question")));
    let received = clat.pass(&v6("64:ff9b::1.2.3.4", "2001:db8:1::c1a7", 60, udp(53, 5000, b"answer")));
    assert_eq!(received, identified(v4(SERVER, "192.0.0.1", 59, udp(53, 5000, b"answer")), &received));
}

proptest! {
    #[test]
    fn no_bytes_make_the_stateless_translator_panic(bytes: Vec<u8>, version in prop::sample::select(vec![0x45u8, 0x60])) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = version;
        }
        let (result, packets) = Translator::new(plan()).send(&bytes);
        prop_assert!(result.is_err() || !packets.is_empty());
    }

    /// Whatever bytes of a good packet are replaced, what comes out has the length that it says.
    #[test]
    fn no_damage_makes_it_write_malformed_packets(
        place in 0usize..200, value: u8, kind in 0usize..4, inner in prop::bool::ANY,
    ) {
        let mut translator = Translator::new(plan());
        let question = v6(ONE, SERVER_V6, 64, udp(5000, 53, b"question"));
        let answer = v4(SERVER, ONE_V4, 64, udp(53, 5000, b"answer"));
        let mut packet = match (kind, inner) {
            (0, _) => question,
            (1, _) => answer,
            (2, _) => v6(ONE, SERVER_V6, 64, icmpv6(1, 4, 0, &v6(SERVER_V6, ONE, 60, udp(53, 5000, b"answer")))),
            (_, _) => v4(SERVER, ONE_V4, 64, icmpv4(3, 3, 0, &v4(ONE_V4, SERVER, 60, udp(5000, 53, b"question")))),
        };
        let length = packet.len();
        packet[place % length] = value;
        let packet = if inner { crate::packet::seal(packet) } else { packet };
        for packet in translator.send(&packet).1 {
            if packet[0] >> 4 == 6 {
                prop_assert_eq!(packet.len(), 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])));
            } else {
                prop_assert_eq!(packet.len(), usize::from(u16::from_be_bytes([packet[2], packet[3]])));
            }
        }
    }
}
