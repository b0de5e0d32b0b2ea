//! The RFC's example, every length, and packets.

use sixgate_wire::checksum::pseudo_v6;

use super::*;

fn net(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn pair(inside: &str, outside: &str) -> Pair {
    Pair { inside: net(inside), outside: Some(net(outside)) }
}

/// A packet of `protocol` whose checksum, two bytes at `at` of the payload, is right.
fn packet(source: &str, destination: &str, protocol: u8, mut payload: Vec<u8>, at: usize) -> Vec<u8> {
    let (source, destination) = (ip(source), ip(destination));
    let length = u32::try_from(payload.len()).unwrap();
    let checksum = pseudo_v6(source, destination, protocol, length).bytes(&payload).checksum();
    payload[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    let header = ipv6::Ipv6Header {
        traffic_class: 0,
        payload_length: u16::try_from(length).unwrap(),
        next_header: protocol,
        hop_limit: 64,
        source,
        destination,
    };
    [&header.emit()[..], &payload].concat()
}

fn udp(source: &str, destination: &str) -> Vec<u8> {
    packet(source, destination, 17, vec![0x12, 0x34, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4], 6)
}

fn is_sound(packet: &[u8]) -> bool {
    let upper = &packet[ipv6::HEADER..];
    let (source, destination) = (address(packet, SOURCE).unwrap(), address(packet, DESTINATION).unwrap());
    pseudo_v6(source, destination, packet[6], u32::try_from(upper.len()).unwrap()).bytes(upper).is_valid()
}

#[test]
fn the_rfcs_example_comes_out_as_printed() {
    // RFC 6296 section 3.6.
    let out = Mapping::new(net("fd01:203:405::/48"), net("2001:db8:1::/48")).unwrap();
    assert_eq!(out.adjustment(), 0xd54f);
    assert_eq!(out.translate(ip("fd01:203:405:1::1234")), Some(ip("2001:db8:1:d550::1234")));
    assert_eq!(out.reverse().translate(ip("2001:db8:1:d550::1234")), Some(ip("fd01:203:405:1::1234")));
    assert_eq!(out.reverse(), Mapping::new(net("2001:db8:1::/48"), net("fd01:203:405::/48")).unwrap());
}

#[test]
fn up_to_48_bits_the_subnet_takes_the_adjustment_and_beyond_the_identifier_does() {
    for (length, words) in [
        (16, (3, 3)),
        (47, (3, 3)),
        (48, (3, 3)),
        (49, (4, 7)),
        (64, (4, 7)),
        (76, (5, 7)),
        (80, (5, 7)),
        (112, (7, 7)),
    ] {
        let from = Ipv6Net::new(ip("fd00:1:2:3:4:5:6:7"), length).unwrap().trunc();
        let to = Ipv6Net::new(ip("2001:db8:a:b:c:d:e:f"), length).unwrap().trunc();
        assert_eq!(Mapping::new(from, to).unwrap().words(), words, "/{length}");
    }
    let mapping = |from, to| Mapping::new(net(from), net(to));
    assert_eq!(mapping("fd00::/113", "2001:db8::/113"), None);
    assert_eq!(mapping("fd00::/64", "2001:db8::/80"), None);
    assert_eq!(mapping("::/0", "::/0"), None);
}

#[test]
fn words_of_ones_are_passed_over_and_all_ones_have_no_translation() {
    let out = Mapping::new(net("fd00:1:2:3::/64"), net("2001:db8:1:2::/64")).unwrap();
    let first = out.translate(ip("fd00:1:2:3:ffff:1::5")).unwrap();
    assert_eq!((first.segments()[4], first.segments()[7]), (0xffff, 5));
    assert_ne!(first.segments()[5], 1);
    assert_eq!(out.reverse().translate(first), Some(ip("fd00:1:2:3:ffff:1::5")));
    assert_eq!(out.translate(ip("fd00:1:2:3:ffff:ffff:ffff:ffff")), None);
    let short = Mapping::new(net("fd00:1:2::/48"), net("2001:db8:1::/48")).unwrap();
    assert_eq!(short.translate(ip("fd00:1:2:ffff::5")), None, "only the subnet could take it");
}

#[test]
fn every_address_comes_back_and_no_sum_moves() {
    // A generator that is as good as any: a multiplication by an odd number, and the upper bits.
    let mut state = 7_u128;
    let mut next = || {
        state = state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(11);
        state ^ (state >> 61)
    };
    for round in 0..50_000_u32 {
        let length = u8::try_from(16 + round % 97).unwrap();
        let at = |bits: u128| Ipv6Net::new(Ipv6Addr::from(bits), length).unwrap().trunc();
        let (from, to) = (at(next()), at(next()));
        let out = Mapping::new(from, to).unwrap();
        // Now and then with words of ones or zeros.
        let mut host = next();
        for word in 0..8 {
            match next() % 5 {
                0 => host |= 0xffff << (16 * word),
                1 => host &= !(0xffff << (16 * word)),
                _ => {}
            }
        }
        let address = Ipv6Addr::from(u128::from(from.network()) | host & !u128::from(from.netmask()));
        let Some(translated) = out.translate(address) else {
            let (first, last) = out.words();
            let words = &address.segments()[usize::from(first)..=usize::from(last)];
            assert!(words.iter().all(|word| *word == 0xffff), "{address}");
            continue;
        };
        assert!(to.contains(&translated), "{address} {translated} {to}");
        assert_eq!(out.reverse().translate(translated), Some(address), "{from} {to}");
        // In one's complement 0xffff and 0 are the same.
        assert_eq!(sum(address) % 0xffff, sum(translated) % 0xffff, "{address} {translated}");
    }
}

#[test]
fn a_packet_goes_out_and_its_answer_comes_in_with_checksums_that_are_right() {
    let pairs = [pair("fd00:1:2:21::/80", "2001:db8:1:2:21::/80"), pair("fd00:9::/64", "2001:db8:1:9::/64")];
    let mut out = udp("fd00:1:2:21::5", "2001:db8:ffff::53");
    assert_eq!(translate_outbound(&pairs, &mut out), Verdict::Translated);
    let outside = address(&out, SOURCE).unwrap();
    assert!(pairs[0].outside.unwrap().contains(&outside) && is_sound(&out));
    let mut back = udp("2001:db8:ffff::53", &outside.to_string());
    assert_eq!(translate_inbound(&pairs, &mut back), Verdict::Translated);
    assert_eq!(address(&back, DESTINATION), Some(ip("fd00:1:2:21::5")));
    assert!(is_sound(&back));
}

#[test]
fn what_an_error_quotes_is_translated_too() {
    let pairs = [pair("fd00:1:2:21::/80", "2001:db8:1:2:21::/80")];
    let mut sent = udp("fd00:1:2:21::5", "2001:db8:ffff::53");
    let before = sent.clone();
    translate_outbound(&pairs, &mut sent);
    // A router on the way answers: time exceeded.
    let outside = address(&sent, SOURCE).unwrap().to_string();
    let quote = [&[3, 0, 0, 0, 0, 0, 0, 0][..], &sent].concat();
    let mut error = packet("2001:db8:77::1", &outside, icmpv6::PROTOCOL, quote, 2);
    assert_eq!(translate_inbound(&pairs, &mut error), Verdict::Translated);
    assert!(is_sound(&error));
    assert_eq!(error[ipv6::HEADER + 8..], before, "it quotes what was sent");

    // The router itself answers about a packet that it has translated to the inside.
    let mut received = udp("2001:db8:ffff::53", &outside);
    let before = received.clone();
    translate_inbound(&pairs, &mut received);
    let quote = [&[1, 0, 0, 0, 0, 0, 0, 0][..], &received].concat();
    let mut error = packet("2001:db8:1::1", "2001:db8:ffff::53", icmpv6::PROTOCOL, quote, 2);
    assert_eq!(translate_outbound(&pairs, &mut error), Verdict::Translated);
    assert!(is_sound(&error));
    assert_eq!(address(&error, SOURCE), Some(ip("2001:db8:1::1")), "the router has its own address");
    assert_eq!(error[ipv6::HEADER + 8..], before, "it quotes what the sender knows");
}

#[test]
fn fragments_have_their_addresses_translated_and_their_parts_left_alone() {
    let pairs = [pair("fd00:1:2:21::/80", "2001:db8:1:2:21::/80")];
    // A later fragment whose first bytes look like an error that quotes a packet.
    let quote = udp("fd00:1:2:21::5", "fd00:1:2:21::6");
    let part = [&ipv6::emit_fragment(icmpv6::PROTOCOL, 64, true, 7)[..], &[3; 8], &quote].concat();
    let mut later = udp("fd00:1:2:21::5", "2001:db8:ffff::53");
    later.truncate(ipv6::HEADER);
    later[6] = ipv6::FRAGMENT;
    later.extend(&part);
    assert_eq!(translate_outbound(&pairs, &mut later), Verdict::Translated);
    assert_eq!(later[ipv6::HEADER..], part);
}

#[test]
fn what_is_not_mapped_is_left_or_dropped_with_its_reason() {
    let pairs = [Pair { inside: net("fd00:1::/64"), outside: None }, pair("fd00:2::/64", "2001:db8:2::/64")];
    for (source, verdict) in [
        ("fd00:1::5", Verdict::NoPrefix),
        ("fd00:2::5", Verdict::Translated),
        ("fd00:2:0:0:ffff:ffff:ffff:ffff", Verdict::NoWord),
        ("2001:db8::5", Verdict::NotMapped),
        ("fe80::1", Verdict::NotMapped),
    ] {
        assert_eq!(translate_outbound(&pairs, &mut udp(source, "2001:db8:ffff::53")), verdict, "{source}");
    }
    for (destination, verdict) in [
        ("2001:db8:2::5", Verdict::Translated),
        ("fd00:2::5", Verdict::InsideAddress),
        ("fd00:1::5", Verdict::InsideAddress),
        ("2001:db8:3::5", Verdict::NotMapped),
    ] {
        assert_eq!(translate_inbound(&pairs, &mut udp("2001:db8:ffff::53", destination)), verdict, "{destination}");
    }
    assert_eq!(translate_inbound(&pairs, &mut [0x60; 39]), Verdict::Malformed);
    assert_eq!(translate_outbound(&pairs, &mut [0x45; 60]), Verdict::Malformed);
}
