//! Whatever a packet says: views of it do not fail, and a translator does not either.
use sixgate_engine::nat64::{Nat64, Transmit};
use sixgate_engine::time::Instant;
use sixgate_wire::icmpv4::Icmpv4Message;
use sixgate_wire::icmpv6::Icmpv6Message;
use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::ipv6::Ipv6Packet;
use sixgate_wire::tcp::TcpSegment;
use sixgate_wire::udp::UdpDatagram;

use crate::packet::{PLAN, check};

/// The first byte of IPv4 and IPv6 alike says which of both it is.
pub(crate) fn run(bytes: &[u8]) {
    for parse in [Ipv6Packet::parse, Ipv6Packet::parse_quoted] {
        let Ok(packet) = parse(bytes) else { continue };
        assert!(packet.upper().len() <= packet.upper_length() && packet.upper_length() <= 65_535);
        assert!(packet.segments_left().is_none_or(|at| (at as usize) < 40 + usize::from(packet.payload_length())));
        look(packet.upper());
    }
    for parse in [Ipv4Packet::parse, Ipv4Packet::parse_quoted] {
        let Ok(packet) = parse(bytes) else { continue };
        assert!(packet.upper().len() <= packet.upper_length());
        assert!(packet.is_fragment() == (packet.more_fragments() || packet.fragment_offset() != 0));
        packet.has_source_route();
        look(packet.upper());
    }
    let (mut nat64, mut out) = (Nat64::new(&PLAN, [7; 32]), Transmit::new());
    nat64.handle_input(bytes, &mut out, Instant::from_nanos(1));
    check(&out);
}

fn look(upper: &[u8]) {
    if let Some(message) = Icmpv4Message::parse(upper) {
        message.quoted_length();
        assert!(!(message.is_error() && message.is_query()));
    }
    if let Some(message) = Icmpv6Message::parse(upper) {
        message.quoted_length();
        assert!(!(message.is_error() && message.is_query()));
    }
    if let Some(segment) = TcpSegment::parse(upper) {
        assert!(upper.len() >= 20);
        let _ = (segment.source_port(), segment.destination_port(), segment.syn());
    }
    if let Some(datagram) = UdpDatagram::parse(upper) {
        let _ = (datagram.source_port(), datagram.destination_port());
    }
}
