//! Messages and options read and written, and what must not be read.
extern crate std;

use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::mac::MacAddr;

const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x20);

fn from(source: Ipv6Addr) -> Delivery {
    Delivery { source, destination: ALL_ROUTERS, hop_limit: HOP_LIMIT }
}

fn options(bytes: &[u8]) -> Vec<NdpOption<'_>> {
    Options::parse(bytes).unwrap().iter().collect()
}

#[test]
fn a_router_solicitation_with_a_link_layer_address_is_read() {
    let bytes = [133, 0, 0x12, 0x34, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 1, 2, 3];
    let message = Message::parse(&bytes, &from(HOST)).unwrap();
    assert!(matches!(message, Message::RouterSolicitation { .. }));
    let mac = MacAddr([0x52, 0x54, 0, 1, 2, 3]);
    assert_eq!(message.options().iter().collect::<Vec<_>>(), [NdpOption::SourceLinkLayer(mac)]);
}

#[test]
fn an_invalid_router_solicitation_names_the_check_of_section_6_1_1() {
    let valid = [133, 0, 0, 0, 0, 0, 0, 0];
    let with_address = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 1, 2, 3];
    let mut hop = from(HOST);
    hop.hop_limit = 254;
    assert_eq!(Message::parse(&valid, &hop), Err(ParseError::HopLimit));
    assert_eq!(Message::parse(&[133, 1, 0, 0, 0, 0, 0, 0], &from(HOST)), Err(ParseError::Code));
    assert_eq!(Message::parse(&valid[..7], &from(HOST)), Err(ParseError::Length));
    assert_eq!(Message::parse(&[133, 0, 0, 0, 0, 0, 0, 0, 9, 0], &from(HOST)), Err(ParseError::OptionLength));
    assert_eq!(Message::parse(&[133, 0, 0, 0, 0, 0, 0, 0, 9, 1], &from(HOST)), Err(ParseError::OptionLength));
    assert_eq!(Message::parse(&with_address, &from(Ipv6Addr::UNSPECIFIED)), Err(ParseError::Unspecified));
    assert!(Message::parse(&valid, &from(Ipv6Addr::UNSPECIFIED)).is_ok());
    assert_eq!(Message::parse(&[128, 0, 0, 0, 0, 0, 0, 0], &from(HOST)), Err(ParseError::Type));
    assert_eq!(Message::parse(&[], &from(HOST)), Err(ParseError::Length));
}

#[test]
fn a_router_advertisement_comes_from_a_link_local_address_only() {
    let bytes = [134, 0, 0, 0, 64, 0xd8, 0x07, 0x08, 0, 0, 0, 1, 0, 0, 0, 2];
    let global = from("2001:db8::1".parse().unwrap());
    assert_eq!(Message::parse(&bytes, &global), Err(ParseError::Source));
    assert_eq!(Message::parse(&bytes[..15], &from(HOST)), Err(ParseError::Length));
    let Ok(Message::RouterAdvertisement { header, .. }) = Message::parse(&bytes, &from(HOST)) else { panic!() };
    let expected = RouterAdvertisement {
        cur_hop_limit: 64,
        managed: true,
        other: true,
        preference: Preference::Low,
        router_lifetime: 1800,
        reachable_time: 1,
        retrans_timer: 2,
    };
    assert_eq!(header, expected);
}

#[test]
fn a_reserved_router_preference_reads_as_medium() {
    let bytes = [134, 0, 0, 0, 0, 0x10, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0];
    let Ok(Message::RouterAdvertisement { header, .. }) = Message::parse(&bytes, &from(HOST)) else { panic!() };
    assert_eq!(header.preference, Preference::Medium);
}

#[test]
fn duplicate_address_detection_asks_the_solicited_node_group_without_a_link_layer_address() {
    let target: Ipv6Addr = "2001:db8::1:2:3".parse().unwrap();
    let mut buffer = [0; 64];
    let bytes = Writer::neighbor_solicitation(&mut buffer, target).unwrap().finish();
    let mut delivery =
        Delivery { source: Ipv6Addr::UNSPECIFIED, destination: solicited_node(target), hop_limit: HOP_LIMIT };
    assert!(
        matches!(Message::parse(bytes, &delivery), Ok(Message::NeighborSolicitation { target: t, .. }) if t == target)
    );
    delivery.destination = target;
    assert_eq!(Message::parse(bytes, &delivery), Err(ParseError::Unspecified));
    let mut buffer = [0; 64];
    let bytes = Writer::neighbor_solicitation(&mut buffer, ALL_NODES).unwrap().finish();
    assert_eq!(Message::parse(bytes, &from(HOST)), Err(ParseError::Target));
}

#[test]
fn a_multicast_neighbor_advertisement_is_not_solicited() {
    let target: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let header = NeighborAdvertisement { router: true, solicited: true, overriding: true, target };
    let mut buffer = [0; 64];
    let mut writer = Writer::neighbor_advertisement(&mut buffer, &header).unwrap();
    writer.target_link_layer(MacAddr([2, 0, 0, 0, 0, 1])).unwrap();
    let bytes = writer.finish();
    let delivery = Delivery { source: HOST, destination: ALL_NODES, hop_limit: HOP_LIMIT };
    assert_eq!(Message::parse(bytes, &delivery), Err(ParseError::Solicited));
    let delivery = Delivery { destination: HOST, ..delivery };
    let Ok(Message::NeighborAdvertisement { header: parsed, options }) = Message::parse(bytes, &delivery) else {
        panic!()
    };
    assert_eq!(parsed, header);
    assert_eq!(options.iter().next(), Some(NdpOption::TargetLinkLayer(MacAddr([2, 0, 0, 0, 0, 1]))));
}

#[test]
fn unknown_options_and_known_ones_of_a_wrong_length_are_skipped() {
    let bytes = [
        14, 1, 1, 2, 3, 4, 5, 6, // nonce
        5, 2, 0, 0, 0, 0, 5, 220, 0, 0, 0, 0, 0, 0, 0, 0, // MTU of two units
        38, 1, 0, 0, 0, 0, 0, 0, // PREF64 of one unit
        25, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // RDNSS with half an address
        5, 1, 0, 0, 0, 0, 5, 220,
    ];
    assert_eq!(options(&bytes), [NdpOption::Mtu(1500)]);
}

#[test]
fn route_information_that_contradicts_itself_is_skipped() {
    let mut longer_than_an_address = [0; 32];
    longer_than_an_address[..3].copy_from_slice(&[24, 4, 64]);
    assert_eq!(options(&longer_than_an_address), []);
    let mut prefix_left_out = [0; 16];
    prefix_left_out[..3].copy_from_slice(&[24, 2, 65]);
    assert_eq!(options(&prefix_left_out), []);
    let mut reserved_preference = [0; 16];
    reserved_preference[..4].copy_from_slice(&[24, 2, 64, 0x10]);
    assert_eq!(options(&reserved_preference), []);
    reserved_preference[3] = 0x18;
    assert_eq!(options(&reserved_preference).len(), 1);
}

#[test]
fn pref64_carries_lifetime_and_length_in_sixteen_bits() {
    for (length, code) in [(96, 0), (64, 1), (56, 2), (48, 3), (40, 4), (32, 5)] {
        let mut buffer = [0xff; 64];
        let mut writer = Writer::router_solicitation(&mut buffer).unwrap();
        let option = Pref64 { prefix: "2001:db8:ff9b:1:0::".parse().unwrap(), length, lifetime: 1800 };
        writer.pref64(&option).unwrap();
        let bytes = &writer.finish()[8..];
        assert_eq!(bytes[..4], [38, 2, 0x07, 0x08 | code]);
        let Some(NdpOption::Pref64(parsed)) = options(bytes).first().copied() else { panic!() };
        assert_eq!((parsed.length, parsed.lifetime), (length, 1800));
    }
    let mut unknown = [0; 16];
    unknown[..4].copy_from_slice(&[38, 2, 0x07, 0x0e]);
    assert_eq!(options(&unknown), []);
}

#[test]
fn pref64_lifetimes_are_rounded_up_to_eight_seconds_and_capped() {
    for (seconds, scaled) in
        [(0, 0), (1, 8), (8, 8), (1795, 1800), (65_528, 65_528), (65_529, 65_528), (u64::MAX, 65_528)]
    {
        assert_eq!(Pref64::scaled_lifetime(seconds), scaled, "{seconds}");
    }
}

#[test]
fn route_information_is_as_long_as_its_prefix_needs() {
    for (prefix, length, units) in [("::", 0, 1), ("2001:db8:1::", 48, 2), ("2001:db8::", 96, 3)] {
        let option =
            RouteInformation { prefix: prefix.parse().unwrap(), length, preference: Preference::High, lifetime: 600 };
        let mut buffer = [0; 64];
        let mut writer = Writer::router_solicitation(&mut buffer).unwrap();
        writer.route_information(&option).unwrap();
        let bytes = &writer.finish()[8..];
        assert_eq!(bytes[..4], [24, units, length, 0x08]);
        assert_eq!(options(bytes), [NdpOption::RouteInformation(option)]);
    }
}

#[test]
fn search_domains_are_labels_padded_to_eight_bytes() {
    let mut buffer = [0xff; 64];
    let mut writer = Writer::router_solicitation(&mut buffer).unwrap();
    writer.dnssl(60, &["lab.test", "a."]).unwrap();
    let bytes = &writer.finish()[8..];
    let expected = [31, 3, 0, 0, 0, 0, 0, 60, 3, b'l', b'a', b'b', 4, b't', b'e', b's', b't', 0, 1, b'a', 0, 0, 0, 0];
    assert_eq!(bytes, expected);
    let [NdpOption::Dnssl { lifetime: 60, domains }] = options(bytes)[..] else { panic!() };
    assert_eq!(domains.iter().map(|name| name.to_string()).collect::<Vec<_>>(), ["lab.test", "a"]);
}

#[test]
fn prefix_information_byte_for_byte_with_each_flag() {
    for (on_link, autonomous, pd_preferred, flags) in
        [(true, false, false, 0x80), (false, true, false, 0x40), (false, false, true, 0x10), (true, true, true, 0xd0)]
    {
        let prefix = "2001:db8:1:2::".parse().unwrap();
        let option =
            PrefixInformation { prefix, length: 64, on_link, autonomous, pd_preferred, valid: 7200, preferred: 3600 };
        let mut buffer = [0xff; 64];
        let mut writer = Writer::router_solicitation(&mut buffer).unwrap();
        writer.prefix_information(&option).unwrap();
        let bytes = &writer.finish()[8..];
        #[rustfmt::skip]
        let expected = [
            3, 4, 64, flags, 0, 0, 0x1c, 0x20, 0, 0, 0x0e, 0x10, 0, 0, 0, 0,
            0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(options(bytes), [NdpOption::PrefixInformation(option)]);
    }
}

#[test]
fn a_captive_portal_is_a_uri_padded_with_zeros() {
    let mut buffer = [0xff; 64];
    let mut writer = Writer::router_solicitation(&mut buffer).unwrap();
    writer.captive_portal("https://p.test/a").unwrap();
    let bytes = &writer.finish()[8..];
    assert_eq!(bytes, b"\x25\x03https://p.test/a\0\0\0\0\0\0");
    assert_eq!(options(bytes), [NdpOption::CaptivePortal("https://p.test/a")]);
    assert_eq!(options(b"\x25\x01ab\0d\0\0"), [], "a zero inside");
    assert_eq!(options(b"\x25\x01\0\0\0\0\0\0"), []);
}

#[test]
fn encrypted_dns_carries_name_addresses_and_parameters() {
    let address: Ipv6Addr = "2001:db8::53".parse().unwrap();
    let parameters = [0, 1, 0, 4, 3, b'd', b'o', b't'];
    let mut buffer = [0xff; 128];
    let mut writer = Writer::router_solicitation(&mut buffer).unwrap();
    writer.encrypted_dns(1, 1800, "dns.test", &[address], &parameters).unwrap();
    let bytes = &writer.finish()[8..];
    #[rustfmt::skip]
    let expected = [
        144, 6, 0, 1, 0, 0, 0x07, 0x08,
        0, 10, 3, b'd', b'n', b's', 4, b't', b'e', b's', b't', 0,
        0, 16, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53,
        0, 8, 0, 1, 0, 4, 3, b'd', b'o', b't',
    ];
    assert_eq!(bytes, expected);
    let [NdpOption::EncryptedDns(option)] = options(bytes)[..] else { panic!() };
    assert_eq!((option.priority, option.lifetime, option.parameters), (1, 1800, &parameters[..]));
    assert_eq!(option.name.to_string(), "dns.test");
    assert_eq!(option.addresses.iter().collect::<Vec<_>>(), [address]);
}

#[test]
fn encrypted_dns_with_a_name_alone_has_priority_zero() {
    let mut buffer = [0xff; 64];
    let mut writer = Writer::router_solicitation(&mut buffer).unwrap();
    writer.encrypted_dns(9, 60, "dns.test", &[], &[0; 4]).unwrap();
    let bytes = &writer.finish()[8..];
    #[rustfmt::skip]
    let expected = [144, 3, 0, 0, 0, 0, 0, 60, 0, 10, 3, b'd', b'n', b's', 4, b't', b'e', b's', b't', 0, 0, 0, 0, 0];
    assert_eq!(bytes, expected);
    let [NdpOption::EncryptedDns(option)] = options(bytes)[..] else { panic!() };
    assert_eq!((option.addresses.iter().count(), option.parameters.len()), (0, 0));
    let mut half_an_address = [0; 32];
    half_an_address[..22].copy_from_slice(&expected[..22]);
    half_an_address[1] = 4;
    half_an_address[21] = 8;
    assert_eq!(options(&half_an_address), []);
}

#[test]
fn what_is_not_a_domain_name_is_not_written() {
    let mut buffer = [0; 64];
    let mut writer = Writer::router_solicitation(&mut buffer).unwrap();
    for text in ["", ".", "a..b", "sp ace.test", "ü.test", &"x".repeat(64)] {
        assert_eq!(writer.dnssl(60, &["ok.test", text]), Err(EmitError::DomainName), "{text}");
    }
    assert_eq!(writer.finish().len(), 8);
}

#[test]
fn an_option_without_room_leaves_the_message_whole() {
    let mut buffer = [0; 20];
    let mut writer = Writer::router_solicitation(&mut buffer).unwrap();
    writer.mtu(1280).unwrap();
    assert_eq!(writer.mtu(1280), Err(EmitError::NoRoom));
    assert_eq!(writer.rdnss(1, &[HOST; 128]), Err(EmitError::TooLong));
    assert_eq!(writer.finish().len(), 16);
    assert!(matches!(Writer::router_solicitation(&mut [0; 7]), Err(EmitError::NoRoom)));
}

#[test]
fn a_link_layer_option_of_another_length_still_counts_for_an_unspecified_source() {
    let bytes = [133, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(Message::parse(&bytes, &from(Ipv6Addr::UNSPECIFIED)), Err(ParseError::Unspecified));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(
        kind in 133u8..=136,
        body in proptest::collection::vec(any::<u8>(), 0..120),
        source: u128,
        destination: u128,
    ) {
        let mut bytes = std::vec![kind, 0];
        bytes.extend(body);
        let delivery = Delivery { source: source.into(), destination: destination.into(), hop_limit: HOP_LIMIT };
        for delivery in [delivery, from(HOST), from(Ipv6Addr::UNSPECIFIED)] {
            if let Ok(message) = Message::parse(&bytes, &delivery) {
                walk(message.options());
            }
        }
    }

    #[test]
    fn no_option_body_makes_the_iterator_panic(options in proptest::collection::vec((0u8..40, 1u8..5, any::<u128>()), 0..8)) {
        let mut bytes = Vec::new();
        for (kind, units, fill) in options {
            bytes.extend([kind, units]);
            let body = fill.to_be_bytes().into_iter().cycle().take(usize::from(units) * 8 - 2);
            bytes.extend(body);
        }
        walk(Options::parse(&bytes).unwrap());
    }

    #[test]
    fn what_is_written_is_read_back(prefix: u128, length in 0u8..=128, valid: u32, preferred: u32, on_link: bool, autonomous: bool, pd_preferred: bool) {
        let option = PrefixInformation {
            prefix: option::masked(&prefix.to_be_bytes(), length), length, on_link, autonomous, pd_preferred, valid, preferred,
        };
        let mut buffer = [0; 64];
        let mut writer = Writer::router_solicitation(&mut buffer).unwrap();
        writer.prefix_information(&option).unwrap();
        prop_assert_eq!(options(&writer.finish()[8..]), [NdpOption::PrefixInformation(option)]);
    }
}

fn walk(options: Options<'_>) {
    let mut text = String::new();
    for option in options.iter() {
        match option {
            NdpOption::Rdnss { addresses, .. } => addresses.iter().for_each(|address| text += &address.to_string()),
            NdpOption::Dnssl { domains, .. } => domains.iter().for_each(|name| text += &name.to_string()),
            _ => {}
        }
    }
}
