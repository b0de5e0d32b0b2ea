//! The stateless translator by itself, with fragments that nobody puts together: RFC 7915 sections 4.1 and 5.1.1.
use core::fmt::Debug;
use core::str::FromStr;

use sixgate_engine::xlat::offload::Unfinished;
use sixgate_engine::xlat::transmit::Transmit;
use sixgate_engine::xlat::{Flow, Identifiers, Mtus, Policy, Refusal, v4_to_v6, v6_to_v4};
use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::ipv6::Ipv6Packet;

use crate::packet::{fragment_v4, fragment_v6, icmpv4, icmpv6, is_intact, join, udp, v4, v6};
use crate::router::{CLIENT, POOL, SERVER, SERVER_V6};

const MTUS: Mtus = Mtus { v6: 1500, v4: 1500 };

fn flow<A: FromStr<Err: Debug>>(source: &str, destination: &str, ports: (u16, u16)) -> Flow<A> {
    let identifiers = Identifiers::Ports { source: ports.0, destination: ports.1 };
    Flow { source: source.parse().unwrap(), destination: destination.parse().unwrap(), identifiers }
}

fn to_v4(packet: &[u8], mtus: Mtus) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut out = Transmit::new();
    let egress = v6_to_v4::Egress {
        mtus,
        policy: Policy::DEFAULT,
        identification: 1,
        reassembled_from: None,
        unfinished: Unfinished::NONE,
    };
    let view = Ipv6Packet::parse(packet).unwrap();
    v6_to_v4::translate(&view, &flow(POOL, SERVER, (40_000, 53)), &egress, &mut out)?;
    Ok(out.iter().map(<[u8]>::to_vec).collect())
}

fn to_v6(packet: &[u8], mtus: Mtus) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut out = Transmit::new();
    let egress =
        v4_to_v6::Egress { mtus, policy: Policy::DEFAULT, reassembled_from: None, unfinished: Unfinished::NONE };
    let view = Ipv4Packet::parse(packet).unwrap();
    v4_to_v6::translate(&view, &flow(SERVER_V6, CLIENT, (53, 5000)), &egress, &mut out)?;
    Ok(out.iter().map(<[u8]>::to_vec).collect())
}

#[test]
fn fragments_from_ipv6_stay_fragments() {
    let whole = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 2000]));
    let mut pieces = Vec::new();
    for (start, end) in [(0, 1232), (1232, 9999)] {
        pieces.extend(to_v4(&fragment_v6(&whole, 0x1_abcd, start, end), MTUS).unwrap());
    }
    assert_eq!(pieces.len(), 2);
    assert!(pieces.iter().all(|piece| piece[4..6] == [0xab, 0xcd] && piece[6] & 0x40 == 0));
    let joined = join(&pieces);
    assert!(is_intact(&joined));
    assert_eq!(joined[20..], v4(POOL, SERVER, 63, udp(40_000, 53, &[7; 2000]))[20..]);
}

#[test]
fn fragments_from_ipv4_stay_fragments() {
    let whole = v4(SERVER, POOL, 64, udp(53, 40_000, &[7; 2000]));
    let mut pieces = Vec::new();
    for (start, end) in [(0, 1200), (1200, 9999)] {
        pieces.extend(to_v6(&fragment_v4(&whole, start, end), MTUS).unwrap());
    }
    assert_eq!(pieces.len(), 2);
    assert_eq!(join(&pieces), v6(SERVER_V6, CLIENT, 63, udp(53, 5000, &[7; 2000])));
}

/// RFC 791 section 3.2: fragments of fragments count from where those began.
#[test]
fn fragments_that_do_not_fit_are_cut_again() {
    let narrow = Mtus { v6: 1280, v4: 576 };
    let whole = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 2000]));
    let mut pieces = Vec::new();
    for (start, end) in [(0, 1232), (1232, 9999)] {
        pieces.extend(to_v4(&fragment_v6(&whole, 9, start, end), narrow).unwrap());
    }
    assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.len() <= 576));
    assert!(is_intact(&join(&pieces)));
    let whole = v4(SERVER, POOL, 64, udp(53, 40_000, &[7; 2800]));
    let mut pieces = Vec::new();
    for (start, end) in [(0, 1480), (1480, 9999)] {
        pieces.extend(to_v6(&fragment_v4(&whole, start, end), narrow).unwrap());
    }
    assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.len() <= 1280));
    assert_eq!(join(&pieces), v6(SERVER_V6, CLIENT, 63, udp(53, 5000, &[7; 2800])));
}

/// RFC 7915 sections 4.5 and 5.2: these need the whole packet.
#[test]
fn fragments_whose_checksum_covers_more_are_refused() {
    let whole = v6(CLIENT, SERVER_V6, 64, icmpv6(128, 0, 1, &[7; 2000]));
    for (start, end) in [(0, 1232), (1232, 9999)] {
        assert_eq!(to_v4(&fragment_v6(&whole, 1, start, end), MTUS), Err(Refusal::FragmentedIcmp));
    }
    let whole = v4(SERVER, POOL, 64, icmpv4(0, 0, 1, &[7; 2000]));
    for (start, end) in [(0, 1480), (1480, 9999)] {
        assert_eq!(to_v6(&fragment_v4(&whole, start, end), MTUS), Err(Refusal::FragmentedIcmp));
    }
    let mut whole = v4(SERVER, POOL, 64, udp(53, 40_000, &[7; 2000]));
    whole[26..28].fill(0);
    assert_eq!(to_v6(&fragment_v4(&whole, 0, 1480), MTUS), Err(Refusal::UdpChecksum));
}

#[test]
fn what_is_refused_writes_nothing() {
    let mut out = Transmit::new();
    let packet = v6(CLIENT, SERVER_V6, 1, udp(5000, 53, b""));
    let egress = v6_to_v4::Egress {
        mtus: MTUS,
        policy: Policy::DEFAULT,
        identification: 1,
        reassembled_from: None,
        unfinished: Unfinished::NONE,
    };
    let view = Ipv6Packet::parse(&packet).unwrap();
    let refused = v6_to_v4::translate(&view, &flow(POOL, SERVER, (1, 2)), &egress, &mut out);
    assert_eq!((refused, out.is_empty()), (Err(Refusal::HopLimit), true));
}

/// Later fragments carry no ports, whatever their bytes look like.
#[test]
fn later_fragments_keep_their_bytes() {
    let whole = v6(CLIENT, SERVER_V6, 64, udp(5000, 53, &[7; 2000]));
    let piece = to_v4(&fragment_v6(&whole, 1, 1232, 9999), MTUS).unwrap().remove(0);
    assert_eq!(piece[20..], whole[40 + 1232..]);
}

/// RFC 7915 sections 4.5 and 5.5: what the translator does not know passes with the payload as it is.
#[test]
fn other_protocols_are_forwarded() {
    for protocol in [33, 47, 50, 132, 253] {
        let data: Vec<u8> = (0..100).collect();
        let to = to_v4(&v6(CLIENT, SERVER_V6, 64, (protocol, data.clone())), MTUS).unwrap();
        assert_eq!((to.len(), to[0][9], &to[0][20..]), (1, protocol, &data[..]));
        let to = to_v6(&v4(SERVER, POOL, 64, (protocol, data.clone())), MTUS).unwrap();
        assert_eq!((to.len(), to[0][6], &to[0][40..]), (1, protocol, &data[..]));
    }
}
