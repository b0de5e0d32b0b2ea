//! Small packets of the translator straight to their next hop: many to a system call, past the kernel's routing.
//!
//! Routing stays the kernel's matter. It is asked where a busy destination's packets go, each half second anew, and then
//! one of them takes the kernel's way, so that its neighbour cache sees that the neighbour is in use. What is long
//! enough to meet an MTU, is about to expire, or goes where the firewall would have to look again, takes the kernel's way always.
mod next_hop;
mod tx_ring;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::Ipv6Net;
use sixgate_engine::plan::Nat64Plan;
use sixgate_engine::time::Instant;
use sixgate_wire::virtio_net::Offload;
use sixgate_wire::{ipv4, ipv6};

use self::next_hop::{Answer, Guide, NextHop, Question};
use self::tx_ring::TxRing;

/// No path carries less: Linux believes no ICMP error that says so (`net.ipv4.route.min_pmtu`).
const LONGEST_V4: usize = 552;
/// RFC 8200 section 5.
const LONGEST_V6: usize = 1280;
/// RFC 791 section 3.1: More Fragments and the Fragment Offset, in the header's fourth word.
const MORE_OR_OFFSET: u16 = 0x3fff;
/// Packets to a system call.
const BATCH: usize = 64;
/// Destinations that are remembered; two that fall into one place displace each other.
const SLOTS: usize = 1024;
/// Packets to a destination within [`LIFE`] that make it worth asking.
const BUSY: u32 = 8;
/// When the kernel is asked anew.
const REFRESH: Duration = Duration::from_millis(500);
/// For how long an answer holds.
const LIFE: Duration = Duration::from_secs(1);

/// The way past the kernel's routing.
pub struct Shortcut {
    /// One for each link that packets have gone to.
    rings: Vec<TxRing>,
    guide: Guide,
    slots: Vec<Slot>,
    /// Questions without an answer.
    open: usize,
    uplink: u32,
    lans: Vec<u32>,
    pool4: Vec<Ipv4Addr>,
    prefixes: Vec<Ipv6Net>,
    lost: u64,
}

#[derive(Clone, Copy)]
struct Slot {
    to: IpAddr,
    /// When the state was entered; what is known is as old as the question.
    since: Instant,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// Packets that have been seen.
    Counting(u32),
    Asked,
    Known {
        hop: NextHop,
        asked_again: Option<Instant>,
    },
    /// The kernel's way is the only one.
    Refused,
}

impl Shortcut {
    /// Opens it for packets that come from the translator's device; nothing where the plan has no shortcuts.
    ///
    /// # Errors
    /// The sockets could not be opened, or the thread not started.
    pub fn open(plan: &Nat64Plan) -> io::Result<Option<Self>> {
        let Some(links) = &plan.shortcut else { return Ok(None) };
        let slot = Slot { to: Ipv6Addr::UNSPECIFIED.into(), since: Instant::ZERO, state: State::Counting(0) };
        Ok(Some(Self {
            rings: Vec::new(),
            guide: Guide::start(links.device)?,
            slots: vec![slot; SLOTS],
            open: 0,
            uplink: links.uplink,
            lans: links.lans.clone(),
            pool4: plan.shares().map(|(address, _)| address).collect(),
            prefixes: plan.prefixes().collect(),
            lost: 0,
        }))
    }

    /// Takes a packet, if it is a single one whose way is known; it leaves with [`Self::flush`]. One that is not taken has
    /// to leave behind those that were.
    pub fn take(&mut self, packet: &[u8], offload: Offload, now: Instant) -> bool {
        if offload.segmentation.is_some() {
            return false;
        }
        let Some((from, to)) = self.addresses(packet) else { return false };
        let Some(hop) = self.hop(from, to, now) else { return false };
        let Some(ring) = self.ring(hop.link, to) else { return false };
        if ring.push(packet, offload.checksum, &hop).is_none() {
            // All frames are on their way: a full queue.
            self.lost += 1;
        } else if ring.filled() == BATCH {
            self.flush();
        }
        true
    }

    /// Sends what was taken.
    pub fn flush(&mut self) {
        for index in (0..self.rings.len()).rev() {
            let ring = &mut self.rings[index];
            if ring.filled() == 0 {
                continue;
            }
            match ring.send() {
                Ok(dropped) => self.lost += dropped,
                Err(error) => {
                    tracing::trace!("a link refused packets: {error}");
                    self.lost += ring.filled() as u64;
                    let gone = self.rings.swap_remove(index).link();
                    self.forget(gone);
                }
            }
        }
    }

    /// Whoever is behind that link is asked for anew, a little later.
    fn forget(&mut self, link: u32) {
        for slot in &mut self.slots {
            if matches!(slot.state, State::Known { hop, .. } if hop.link == link) {
                slot.state = State::Refused;
            }
        }
    }

    /// Packets that no link took.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The packet's addresses, if the rules for what leaves the translator admit it without a further look, and no MTU or hop
    /// limit is in question. Fragments are the kernel's, all of them: it puts those that it sees together again, and would wait
    /// in vain for one that went past it.
    fn addresses(&self, packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
        match packet.first()? {
            0x45 if packet.len() <= LONGEST_V4 => {
                let header: &[u8; ipv4::HEADER] = packet.first_chunk()?;
                let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
                let (from, to) = (address(12), address(16));
                let fragment = u16::from_be_bytes([header[6], header[7]]) & MORE_OR_OFFSET != 0;
                (!fragment && header[8] > 1 && self.pool4.contains(&from)).then_some((from.into(), to.into()))
            }
            0x60..=0x6f if packet.len() <= LONGEST_V6 => {
                let header: &[u8; ipv6::HEADER] = packet.first_chunk()?;
                let [from, to] = [8, 24].map(|at| {
                    let mut octets = [0; 16];
                    octets.copy_from_slice(&header[at..at + 16]);
                    Ipv6Addr::from(octets)
                });
                let ours = self.prefixes.iter().any(|net| net.contains(&from));
                (header[6] != ipv6::FRAGMENT && header[7] > 1 && ours).then_some((from.into(), to.into()))
            }
            _ => None,
        }
    }

    /// Where a packet to that destination goes, if that is known.
    fn hop(&mut self, from: IpAddr, to: IpAddr, now: Instant) -> Option<NextHop> {
        if self.open > 0 {
            self.learn(now);
        }
        let place = place(to);
        let slot = &mut self.slots[place];
        let age = now.saturating_since(slot.since);
        if slot.to != to {
            // Whoever is known and still holds keeps its place.
            if !matches!(slot.state, State::Known { .. }) || age >= LIFE {
                *slot = Slot { to, since: now, state: State::Counting(1) };
            }
            return None;
        }
        match &mut slot.state {
            State::Known { hop, .. } if age < REFRESH => return Some(*hop),
            State::Known { hop, asked_again: Some(_) } if age < LIFE => return Some(*hop),
            State::Known { asked_again, .. } if age < LIFE => {
                if self.guide.ask(Question { from, to }) {
                    *asked_again = Some(now);
                    self.open += 1;
                }
            }
            State::Counting(seen) if age < LIFE => {
                *seen += 1;
                if *seen >= BUSY && self.guide.ask(Question { from, to }) {
                    *slot = Slot { to, since: now, state: State::Asked };
                    self.open += 1;
                }
            }
            State::Asked | State::Refused if age < LIFE => {}
            State::Known { .. } | State::Counting(_) | State::Asked | State::Refused => {
                *slot = Slot { to, since: now, state: State::Counting(1) };
            }
        }
        None
    }

    fn learn(&mut self, now: Instant) {
        for Answer { to, hop } in self.guide.answers() {
            self.open = self.open.saturating_sub(1);
            let slot = &mut self.slots[place(to)];
            if slot.to != to {
                continue;
            }
            let admitted = hop.filter(|hop| match to {
                IpAddr::V4(_) => hop.link == self.uplink,
                IpAddr::V6(_) => self.lans.contains(&hop.link),
            });
            let asked = match slot.state {
                State::Known { asked_again: Some(asked), .. } => asked,
                State::Known { .. } | State::Counting(_) | State::Asked | State::Refused => slot.since,
            };
            *slot = match admitted {
                Some(hop) => Slot { to, since: asked, state: State::Known { hop, asked_again: None } },
                None => Slot { to, since: now, state: State::Refused },
            };
        }
    }

    /// The ring of a link. Where there can be none, that destination is reached by the kernel's way.
    fn ring(&mut self, link: u32, to: IpAddr) -> Option<&mut TxRing> {
        if let Some(index) = self.rings.iter().position(|ring| ring.link() == link) {
            return self.rings.get_mut(index);
        }
        match TxRing::open(link) {
            Ok(ring) => self.rings.push(ring),
            Err(error) => {
                tracing::debug!("no ring of frames on link {link}: {error}");
                self.slots[place(to)].state = State::Refused;
            }
        }
        self.rings.last_mut().filter(|ring| ring.link() == link)
    }
}

/// What a router does to each packet that it passes on: RFC 1812 section 5.3.1, RFC 8200 section 3.
fn pass_hop(packet: &mut [u8]) {
    match packet {
        [0x45, _, _, _, _, _, _, _, ttl, _, high, low, ..] => {
            *ttl -= 1;
            // RFC 1624: one less in the upper half of a word is one more in the upper half of the checksum.
            let (sum, carry) = u16::from_be_bytes([*high, *low]).overflowing_add(0x0100);
            let sum = sum + u16::from(carry);
            [*high, *low] = if sum == u16::MAX { [0, 0] } else { sum.to_be_bytes() };
        }
        [_, _, _, _, _, _, _, hop_limit, ..] => *hop_limit -= 1,
        _ => {}
    }
}

fn place(to: IpAddr) -> usize {
    let bits = match to {
        IpAddr::V4(to) => u64::from(to.to_bits()),
        IpAddr::V6(to) => {
            let bits = to.to_bits();
            bits as u64 ^ ((bits >> 64) as u64).rotate_left(32)
        }
    };
    // Whoever finds addresses that fall into one place gains that they take the kernel's way.
    (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize % SLOTS
}

#[cfg(test)]
mod tests;
