//! Ports, identifiers and checksums of the upper layer, rewritten in place.
use sixgate_wire::checksum::{self, Sum};
use sixgate_wire::{icmpv4, icmpv6, tcp, udp};

use super::Identifiers;
use super::offload::Field;

/// What a change of addresses takes out of a checksum and puts into it.
#[derive(Clone, Copy)]
pub(super) struct Change {
    /// Sum over the old addresses.
    pub(super) removed: Sum,
    /// Sum over the new addresses.
    pub(super) added: Sum,
}

impl Change {
    fn apply(self, field: [u8; 2]) -> [u8; 2] {
        checksum::update(u16::from_be_bytes(field), self.removed, self.added).to_be_bytes()
    }

    /// The field holds the sum itself, not its complement, and ports are not in it.
    fn apply_to_pseudo_header(self, field: [u8; 2]) -> [u8; 2] {
        (!checksum::update(!u16::from_be_bytes(field), self.removed, self.added)).to_be_bytes()
    }
}

/// Rewrites a TCP segment, as much of it as is there.
pub(super) fn rewrite_tcp(segment: &mut [u8], change: Change, identifiers: Identifiers, holds: Field) {
    let with_ports = rewrite_ports(segment, change, identifiers);
    let Some(field) = field(segment, tcp::CHECKSUM) else { return };
    match holds {
        Field::Checksum => *field = with_ports.apply(*field),
        Field::PseudoHeader => *field = change.apply_to_pseudo_header(*field),
    }
}

/// Rewrites a UDP datagram, as much of it as is there; a checksum of zero stays zero.
pub(super) fn rewrite_udp(datagram: &mut [u8], change: Change, identifiers: Identifiers, holds: Field) {
    let with_ports = rewrite_ports(datagram, change, identifiers);
    let Some(field) = field(datagram, udp::CHECKSUM) else { return };
    match holds {
        Field::Checksum if *field == [0, 0] => {}
        Field::Checksum => {
            let updated = u16::from_be_bytes(with_ports.apply(*field));
            *field = checksum::udp(updated).to_be_bytes();
        }
        Field::PseudoHeader => *field = change.apply_to_pseudo_header(*field),
    }
}

/// Rewrites an echo or its reply; `change` holds the pseudo-header, which only ICMPv6 has.
pub(super) fn rewrite_query(message: &mut [u8], kind: u8, change: Change, identifiers: Identifiers) {
    let Some((header, _)) = message.split_first_chunk_mut::<{ icmpv6::HEADER }>() else { return };
    let before = Sum::ZERO.bytes(&header[..2]).bytes(&header[4..6]);
    header[0] = kind;
    if let Identifiers::Query(identifier) = identifiers {
        header[4..6].copy_from_slice(&identifier.to_be_bytes());
    }
    let after = Sum::ZERO.bytes(&header[..2]).bytes(&header[4..6]);
    let old = u16::from_be_bytes([header[icmpv4::CHECKSUM], header[icmpv4::CHECKSUM + 1]]);
    let updated = checksum::update(old, change.removed.plus(before), change.added.plus(after));
    header[icmpv4::CHECKSUM..icmpv4::CHECKSUM + 2].copy_from_slice(&updated.to_be_bytes());
}

fn rewrite_ports(upper: &mut [u8], change: Change, identifiers: Identifiers) -> Change {
    let (Some((ports, _)), Identifiers::Ports { source, destination }) =
        (upper.split_first_chunk_mut::<4>(), identifiers)
    else {
        return change;
    };
    let removed = change.removed.bytes(ports);
    let [[a, b], [c, d]] = [source.to_be_bytes(), destination.to_be_bytes()];
    *ports = [a, b, c, d];
    Change { removed, added: change.added.bytes(ports) }
}

fn field(upper: &mut [u8], at: usize) -> Option<&mut [u8; 2]> {
    upper.get_mut(at..)?.first_chunk_mut::<2>()
}
