//! An address that nobody else has: duplicate address detection (RFC 4862 section 5.4) and its defence on the link.
//!
//! The kernel does not hold the address, which would make it the host's own, so both are done here.
use core::net::Ipv6Addr;
use core::time::Duration;

use sixgate_wire::mac::MacAddr;
use sixgate_wire::ndp::{ALL_NODES, Message, NdpOption, NeighborAdvertisement, Writer, solicited_node};

use crate::ndp_proxy::{icmpv6_message, packet};
use crate::time::Instant;

/// RFC 4862 section 5.1: DupAddrDetectTransmits solicitations, RetransTimer apart; as many as clients use that care.
const TRANSMITS: u8 = 2;
const RETRANS_TIMER: Duration = Duration::from_secs(1);
/// A second claim within this time is no mistake of somebody's cache.
const INSIST: Duration = Duration::from_secs(10);

/// Who speaks for the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Speaker {
    /// The link's hardware address.
    pub(super) mac: MacAddr,
    /// The link's own address, source of answers.
    pub(super) source: Ipv6Addr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Tentative { left: u8, due: Instant },
    Held { contested: Option<Instant> },
}

/// What a neighbour's message means for the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// Somebody else has it.
    Taken(MacAddr),
}

/// One address.
#[derive(Debug)]
pub(super) struct Claim {
    address: Ipv6Addr,
    state: State,
    transmit: Vec<(MacAddr, Vec<u8>)>,
}

impl Claim {
    /// Begins to look whether somebody has it.
    pub(super) fn new(address: Ipv6Addr, now: Instant) -> Self {
        Self { address, state: State::Tentative { left: TRANSMITS, due: now }, transmit: Vec::new() }
    }

    pub(super) fn address(&self) -> Ipv6Addr {
        self.address
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    /// Takes an IPv6 packet with a Neighbor Solicitation or Advertisement.
    pub(super) fn handle(&mut self, bytes: &[u8], from: MacAddr, speaker: Speaker, now: Instant) -> Heard {
        let Some((delivery, message)) = icmpv6_message(bytes) else { return Heard::Nothing };
        match Message::parse(message, &delivery) {
            Ok(Message::NeighborSolicitation { target, options }) if target == self.address => {
                let asker = options.iter().find_map(|option| match option {
                    NdpOption::SourceLinkLayer(mac) => Some(mac),
                    _ => None,
                });
                let looks_for_duplicates = delivery.source.is_unspecified();
                match self.state {
                    // RFC 4862 section 5.4.3: two that begin at a time both give way.
                    State::Tentative { .. } if looks_for_duplicates && from != speaker.mac => Heard::Taken(from),
                    State::Tentative { .. } => Heard::Nothing,
                    State::Held { .. } if looks_for_duplicates => {
                        self.answer(None, speaker);
                        Heard::Nothing
                    }
                    State::Held { .. } => {
                        self.answer(Some((delivery.source, asker.unwrap_or(from))), speaker);
                        Heard::Nothing
                    }
                }
            }
            Ok(Message::NeighborAdvertisement { header, options }) if header.target == self.address => {
                let holder = options.iter().find_map(|option| match option {
                    NdpOption::TargetLinkLayer(mac) => Some(mac),
                    _ => None,
                });
                let holder = holder.unwrap_or(from);
                if holder == speaker.mac {
                    return Heard::Nothing;
                }
                match &mut self.state {
                    State::Tentative { .. } => Heard::Taken(holder),
                    State::Held { contested: Some(at) } if now.saturating_since(*at) < INSIST => Heard::Taken(holder),
                    State::Held { contested } => {
                        *contested = Some(now);
                        self.answer(None, speaker);
                        Heard::Nothing
                    }
                }
            }
            Ok(_) | Err(_) => Heard::Nothing,
        }
    }

    /// Does what is due; returns whether the address is held from now on.
    pub(super) fn handle_timeout(&mut self, speaker: Speaker, now: Instant) -> bool {
        let State::Tentative { left, due } = self.state else { return false };
        if now < due {
            return false;
        }
        if left == 0 {
            self.state = State::Held { contested: None };
            // Whoever has an older owner in the cache is told (RFC 4861 section 7.2.6).
            self.answer(None, speaker);
            return true;
        }
        self.state = State::Tentative { left: left - 1, due: now + RETRANS_TIMER };
        self.solicit();
        false
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Tentative { due, .. } => Some(due),
            State::Held { .. } => None,
        }
    }

    /// Packets for the link, with the hardware addresses that they go to.
    pub(super) fn take_transmits(&mut self) -> impl Iterator<Item = (MacAddr, Vec<u8>)> + '_ {
        self.transmit.drain(..)
    }

    fn solicit(&mut self) {
        let group = solicited_node(self.address);
        let mut buffer = [0; 64];
        let Ok(writer) = Writer::neighbor_solicitation(&mut buffer, self.address) else { return };
        let message = packet(Ipv6Addr::UNSPECIFIED, group, writer.finish());
        self.transmit.push((multicast(group), message));
    }

    /// Tells who asked, or everybody.
    fn answer(&mut self, asker: Option<(Ipv6Addr, MacAddr)>, speaker: Speaker) {
        let header =
            NeighborAdvertisement { router: false, solicited: asker.is_some(), overriding: true, target: self.address };
        let mut buffer = [0; 64];
        let message = Writer::neighbor_advertisement(&mut buffer, &header).and_then(|mut writer| {
            writer.target_link_layer(speaker.mac)?;
            Ok(writer.finish())
        });
        let Ok(message) = message else { return };
        let (to, mac) = asker.unwrap_or((ALL_NODES, multicast(ALL_NODES)));
        self.transmit.push((mac, packet(speaker.source, to, message)));
    }
}

/// RFC 2464 section 7.
fn multicast(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6);
    const NEIGHBOUR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    const SPEAKER: Speaker =
        Speaker { mac: MacAddr([2, 0, 0, 0, 0, 1]), source: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1) };
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
    const START: Instant = Instant::from_nanos(1_000_000_000);

    fn seconds(seconds: u64) -> Instant {
        START + Duration::from_secs(seconds)
    }

    fn held() -> Claim {
        let mut claim = Claim::new(ADDRESS, START);
        for second in 0..2 {
            assert!(!claim.handle_timeout(SPEAKER, seconds(second)));
        }
        assert!(claim.handle_timeout(SPEAKER, seconds(2)));
        claim.take_transmits().for_each(drop);
        claim
    }

    fn solicitation(source: Ipv6Addr) -> Vec<u8> {
        let mut buffer = [0; 64];
        let message = Writer::neighbor_solicitation(&mut buffer, ADDRESS).unwrap();
        packet(source, solicited_node(ADDRESS), message.finish())
    }

    fn advertisement(mac: MacAddr) -> Vec<u8> {
        let header = NeighborAdvertisement { router: false, solicited: false, overriding: true, target: ADDRESS };
        let mut buffer = [0; 64];
        let mut writer = Writer::neighbor_advertisement(&mut buffer, &header).unwrap();
        writer.target_link_layer(mac).unwrap();
        packet(NEIGHBOUR, ALL_NODES, writer.finish())
    }

    #[test]
    fn an_address_is_held_after_two_unanswered_solicitations() {
        let mut claim = Claim::new(ADDRESS, START);
        assert!(!claim.handle_timeout(SPEAKER, START) && !claim.is_held());
        let (to, bytes) = claim.take_transmits().next().unwrap();
        assert_eq!(to, MacAddr([0x33, 0x33, 0xff, 5, 0, 6]));
        let (delivery, message) = icmpv6_message(&bytes).unwrap();
        assert!(delivery.source.is_unspecified());
        assert!(matches!(
            Message::parse(message, &delivery),
            Ok(Message::NeighborSolicitation { target: ADDRESS, .. })
        ));
        assert!(!claim.handle_timeout(SPEAKER, START), "not before its time");
        assert_eq!(claim.poll_timeout(), Some(seconds(1)));
        assert!(!claim.handle_timeout(SPEAKER, seconds(1)) && claim.handle_timeout(SPEAKER, seconds(2)));
        assert!(claim.is_held() && claim.poll_timeout().is_none());
    }

    #[test]
    fn whoever_answers_or_looks_at_the_same_time_has_it() {
        for packet in [advertisement(OTHER), solicitation(Ipv6Addr::UNSPECIFIED)] {
            let mut claim = Claim::new(ADDRESS, START);
            claim.handle_timeout(SPEAKER, START);
            assert_eq!(claim.handle(&packet, OTHER, SPEAKER, START), Heard::Taken(OTHER));
        }
        let mut claim = Claim::new(ADDRESS, START);
        let ours = solicitation(Ipv6Addr::UNSPECIFIED);
        assert_eq!(claim.handle(&ours, SPEAKER.mac, SPEAKER, START), Heard::Nothing, "our own comes back by a bridge");
        assert_eq!(claim.handle(&solicitation(NEIGHBOUR), OTHER, SPEAKER, START), Heard::Nothing);
        assert!(claim.take_transmits().next().is_none(), "nobody answers for a tentative address");
    }

    #[test]
    fn neighbours_are_answered_and_duplicates_are_warned_off() {
        let mut claim = held();
        assert_eq!(claim.handle(&solicitation(NEIGHBOUR), OTHER, SPEAKER, seconds(9)), Heard::Nothing);
        let (to, bytes) = claim.take_transmits().next().unwrap();
        let (delivery, message) = icmpv6_message(&bytes).unwrap();
        assert_eq!((to, delivery.destination, delivery.source), (OTHER, NEIGHBOUR, SPEAKER.source));
        let Ok(Message::NeighborAdvertisement { header, .. }) = Message::parse(message, &delivery) else { panic!() };
        assert!(header.solicited && header.overriding && !header.router);
        claim.handle(&solicitation(Ipv6Addr::UNSPECIFIED), OTHER, SPEAKER, seconds(9));
        assert_eq!(claim.take_transmits().next().unwrap().0, MacAddr([0x33, 0x33, 0, 0, 0, 1]), "everybody hears it");
    }

    #[test]
    fn it_is_defended_once_and_given_up_when_the_other_insists() {
        let mut claim = held();
        assert_eq!(claim.handle(&advertisement(SPEAKER.mac), SPEAKER.mac, SPEAKER, seconds(8)), Heard::Nothing);
        assert_eq!(claim.handle(&advertisement(OTHER), OTHER, SPEAKER, seconds(9)), Heard::Nothing);
        assert_eq!(claim.take_transmits().count(), 1);
        assert_eq!(claim.handle(&advertisement(OTHER), OTHER, SPEAKER, seconds(12)), Heard::Taken(OTHER));
        let mut claim = held();
        claim.handle(&advertisement(OTHER), OTHER, SPEAKER, seconds(9));
        assert_eq!(claim.handle(&advertisement(OTHER), OTHER, SPEAKER, seconds(60)), Heard::Nothing, "long ago");
    }
}
