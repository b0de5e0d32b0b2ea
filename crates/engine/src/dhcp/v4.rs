//! The DHCPv4 client: RFC 2131 section 4.4, with RFC 5227's probe before an address is used.
use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sixgate_wire::arp::Arp;
use sixgate_wire::dhcpv4::{Kind, Reply};
use sixgate_wire::mac::MacAddr;

use crate::time::Instant;

mod lease;
mod message;

pub use lease::Lease;
use message::{BROADCAST, Said};

/// RFC 2131 section 4.1: the first retransmission comes after 4 seconds, the longest pause is 64.
const FIRST_RETRANSMISSION: Duration = Duration::from_secs(4);
const LONGEST_RETRANSMISSION: Duration = Duration::from_secs(64);
/// Requests for an offer, and for a remembered address, that may stay without an answer.
const REQUESTS: u32 = 3;
/// RFC 2131 section 4.4.5: the shortest pause between two requests for renewal.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);
/// RFC 2131 section 3.1.5: the pause after a DHCPDECLINE.
const DECLINE_PAUSE: Duration = Duration::from_secs(10);
/// Pause after a DHCPNAK, lest a server that refuses everything be asked without end.
const NAK_PAUSE: Duration = Duration::from_secs(1);
/// RFC 5227 section 1.1: PROBE_NUM.
const PROBES: u32 = 3;
/// Between two probes. RFC 5227 asks for one to two seconds; IPv6 waits for one second in all (RFC 4862), and so is done here.
const PROBE_PAUSE: Duration = Duration::from_millis(330);

/// Who the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The uplink's hardware address.
    pub mac: MacAddr,
    /// The name that servers are told.
    pub hostname: String,
}

/// What is to be sent on the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// An IPv4 packet.
    Ipv4 {
        /// Hardware address.
        to: MacAddr,
        /// The packet.
        packet: Vec<u8>,
    },
    /// An ARP packet, to everybody.
    Arp([u8; sixgate_wire::arp::LENGTH]),
}

/// RFC 2131 figure 5, with the probe as a state of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// INIT: nothing is held; a search begins at the timer.
    Init,
    /// SELECTING: DHCPDISCOVER is out.
    Selecting,
    /// REQUESTING: an offer is taken.
    Requesting(Offer),
    /// INIT-REBOOT, REBOOTING: whether a lease from before still holds is asked.
    Rebooting,
    /// The server has agreed; whether somebody else has the address is asked.
    Probing(Box<Lease>),
    /// BOUND.
    Bound,
    /// RENEWING: the server of the lease is asked.
    Renewing,
    /// REBINDING: any server is asked.
    Rebinding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offer {
    address: Ipv4Addr,
    server: Ipv4Addr,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It was an answer that was waited for.
    Taken,
    /// It is no well-formed DHCP reply.
    Malformed,
    /// It is for another client, or answers another message.
    NotForUs,
    /// It is an answer that nothing was asked for.
    Unexpected,
    /// It grants nothing that could be used.
    Unusable,
}

impl Verdict {
    /// Stable kebab-case name, for counters and the console.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Taken => "dhcp4-taken",
            Self::Malformed => "dhcp4-malformed",
            Self::NotForUs => "dhcp4-not-for-us",
            Self::Unexpected => "dhcp4-unexpected",
            Self::Unusable => "dhcp4-unusable",
        }
    }
}

/// The client of one link.
#[derive(Debug)]
pub struct Client {
    identity: Identity,
    rng: ChaCha8Rng,
    state: State,
    /// What is held; it stays while it is renewed and while the link is away, until it ends.
    lease: Option<Lease>,
    transaction: u32,
    /// When the present exchange began, for `secs`.
    began: Instant,
    attempts: u32,
    timer: Option<Instant>,
    outgoing: VecDeque<Transmit>,
    conflicts: u64,
    verdicts: BTreeMap<Verdict, u64>,
}

impl Client {
    /// Begins to look for an address, or asks whether a lease from before still holds. Such a lease counts as held at
    /// once: a restart is no renumbering.
    pub fn new(identity: Identity, remembered: Option<Lease>, seed: u64, now: Instant) -> Self {
        let mut client = Self {
            identity,
            rng: ChaCha8Rng::seed_from_u64(seed),
            state: State::Init,
            lease: remembered.filter(|lease| lease.is_valid(now)),
            transaction: 0,
            began: now,
            attempts: 0,
            timer: Some(now),
            outgoing: VecDeque::new(),
            conflicts: 0,
            verdicts: BTreeMap::new(),
        };
        if client.lease.is_some() {
            client.begin(State::Rebooting, now);
        }
        client
    }

    /// The link has come back: RFC 2131 section 3.7 has the lease confirmed, for it may be another network.
    pub fn handle_link_up(&mut self, now: Instant) {
        let state = if self.lease.is_some() { State::Rebooting } else { State::Init };
        self.begin(state, now);
    }

    /// Whose client this is.
    pub fn mac(&self) -> MacAddr {
        self.identity.mac
    }

    /// Whether ARP packets are to be sent or heard.
    pub fn speaks_arp(&self) -> bool {
        matches!(self.state, State::Probing(_)) || self.outgoing.iter().any(|said| matches!(said, Transmit::Arp(_)))
    }

    /// What is held.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// RFC 2131's name of the state, in lower case.
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Init => "init",
            State::Selecting => "selecting",
            State::Requesting(_) => "requesting",
            State::Rebooting => "rebooting",
            State::Probing(_) => "probing",
            State::Bound => "bound",
            State::Renewing => "renewing",
            State::Rebinding => "rebinding",
        }
    }

    /// Addresses that were refused because somebody else had them.
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// What became of packets.
    pub fn verdicts(&self) -> &BTreeMap<Verdict, u64> {
        &self.verdicts
    }

    /// When [`Client::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let end = self.lease.as_ref().and_then(|lease| lease.ends);
        [self.timer, end].into_iter().flatten().min()
    }

    /// What is to be sent now.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outgoing.pop_front()
    }

    /// Takes an IPv4 packet for the client's port, with the hardware address that it came from.
    pub fn handle_ipv4(&mut self, packet: &[u8], from: MacAddr, now: Instant) -> Verdict {
        let verdict = self.judge(packet, from, now);
        *self.verdicts.entry(verdict).or_default() += 1;
        verdict
    }

    fn judge(&mut self, packet: &[u8], from: MacAddr, now: Instant) -> Verdict {
        let Some(reply) = message::datagram(packet).and_then(Reply::parse) else { return Verdict::Malformed };
        if reply.client() != self.identity.mac || reply.transaction() != self.transaction {
            return Verdict::NotForUs;
        }
        match (reply.kind(), &self.state) {
            (Kind::Offer, State::Selecting) => {
                let Some(server) = message::server(&reply) else { return Verdict::Unusable };
                if !lease::usable(reply.your_address()) {
                    return Verdict::Unusable;
                }
                let transaction = self.transaction;
                self.begin(State::Requesting(Offer { address: reply.your_address(), server }), now);
                // RFC 2131 section 4.4.1: the request has the offer's xid.
                self.transaction = transaction;
                self.handle_timeout(now);
                Verdict::Taken
            }
            (Kind::Ack, State::Requesting(_) | State::Rebooting | State::Renewing | State::Rebinding) => {
                let Some(lease) = Lease::parse(&reply, from, self.began, self.lease.as_ref()) else {
                    return Verdict::Unusable;
                };
                if !lease.is_valid(now) {
                    return Verdict::Unusable;
                }
                if self.lease.as_ref().is_some_and(|held| held.address == lease.address) {
                    self.bind(lease, now);
                } else {
                    self.begin(State::Probing(Box::new(lease)), now);
                    self.handle_timeout(now);
                }
                Verdict::Taken
            }
            (Kind::Nak, State::Requesting(_) | State::Rebooting | State::Renewing | State::Rebinding) => {
                // RFC 2131 section 3.2 step 3: the address is not to be used any longer.
                self.lease = None;
                self.begin(State::Init, now + NAK_PAUSE);
                Verdict::Taken
            }
            _ => Verdict::Unexpected,
        }
    }

    /// Takes an ARP packet.
    pub fn handle_arp(&mut self, packet: &[u8], now: Instant) {
        let (Some(arp), State::Probing(lease)) = (Arp::parse(packet), &self.state) else { return };
        let address = lease.address.addr();
        // RFC 5227 section 2.1.1: whoever has it, and whoever probes for it at the same time.
        let held = arp.sender_address == address;
        let probed = arp.request && arp.sender_address.is_unspecified() && arp.target_address == address;
        if arp.sender == self.identity.mac || !(held || probed) {
            return;
        }
        self.conflicts += 1;
        let lease = lease.clone();
        self.say(&Said::Decline(&lease), now);
        self.lease = None;
        self.begin(State::Init, now + DECLINE_PAUSE);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.lease.as_ref().is_some_and(|lease| !lease.is_valid(now)) {
            // RFC 2131 section 4.4.5: network processing stops when the lease has ended.
            self.lease = None;
            if !matches!(self.state, State::Selecting | State::Requesting(_) | State::Probing(_)) {
                self.begin(State::Init, now);
            }
        }
        if self.timer.is_none_or(|timer| now < timer) {
            return;
        }
        match self.state.clone() {
            State::Init => {
                self.begin(State::Selecting, now);
                self.transaction = self.rng.next_u32();
                self.discover(now);
            }
            State::Selecting => self.discover(now),
            State::Requesting(_) | State::Rebooting if self.attempts >= REQUESTS => self.give_up(now),
            State::Requesting(offer) => {
                self.say(&Said::Take { address: offer.address, server: offer.server }, now);
                self.timer = Some(now + self.backoff());
            }
            State::Rebooting => {
                let Some(address) = self.lease.as_ref().map(|lease| lease.address.addr()) else {
                    return self.begin(State::Init, now);
                };
                self.say(&Said::Confirm { address }, now);
                self.timer = Some(now + self.backoff());
            }
            State::Probing(lease) if self.attempts >= PROBES => {
                let announcement = Arp::announcement(self.identity.mac, lease.address.addr());
                self.outgoing.push_back(Transmit::Arp(announcement.emit()));
                self.bind(*lease, now);
            }
            State::Probing(lease) => {
                let probe = Arp::probe(self.identity.mac, lease.address.addr());
                self.outgoing.push_back(Transmit::Arp(probe.emit()));
                self.attempts += 1;
                self.timer = Some(now + PROBE_PAUSE);
            }
            State::Bound | State::Renewing | State::Rebinding => self.extend(now),
        }
    }

    /// Nobody has answered: a remembered lease holds for the time that is left of it (RFC 2131 section 3.2), an offer is
    /// forgotten.
    fn give_up(&mut self, now: Instant) {
        if self.state == State::Rebooting
            && let Some(lease) = self.lease.clone()
        {
            return self.bind(lease, now);
        }
        self.begin(State::Init, now);
    }

    /// BOUND, RENEWING and REBINDING, each in its time.
    fn extend(&mut self, now: Instant) {
        let Some(lease) = self.lease.clone() else { return self.begin(State::Init, now) };
        let (Some(t1), Some(t2), Some(ends)) = (lease.t1, lease.t2, lease.ends) else {
            self.timer = None;
            return;
        };
        let (state, until) = if now < t1 {
            self.timer = Some(t1);
            return;
        } else if now < t2 {
            (State::Renewing, t2)
        } else {
            (State::Rebinding, ends)
        };
        if self.state != state {
            self.begin(state.clone(), now);
            self.transaction = self.rng.next_u32();
        }
        let said = if state == State::Renewing { Said::Renew(&lease) } else { Said::Rebind(&lease) };
        self.say(&said, now);
        // RFC 2131 section 4.4.5: half of the time that is left, and no less than a minute.
        let pause = (until.saturating_since(now) / 2).max(RENEWAL_PAUSE);
        self.timer = Some((now + pause).min(until));
    }

    fn bind(&mut self, lease: Lease, now: Instant) {
        self.timer = Some(lease.t1.map_or(now, |t1| t1.max(now)));
        self.lease = Some(lease);
        self.state = State::Bound;
        self.attempts = 0;
    }

    /// Enters a state whose first step is due at `when`.
    fn begin(&mut self, state: State, when: Instant) {
        if state == State::Rebooting {
            self.transaction = self.rng.next_u32();
        }
        self.state = state;
        self.began = when;
        self.attempts = 0;
        self.timer = Some(when);
    }

    fn discover(&mut self, now: Instant) {
        self.say(&Said::Discover, now);
        self.timer = Some(now + self.backoff());
    }

    /// RFC 2131 section 4.1: doubled each time, and a second more or less.
    fn backoff(&mut self) -> Duration {
        let doubled = FIRST_RETRANSMISSION.saturating_mul(1 << self.attempts.saturating_sub(1).min(8));
        let jitter = Duration::from_millis(u64::from(self.rng.next_u32() % 2001));
        doubled.min(LONGEST_RETRANSMISSION) + jitter - Duration::from_secs(1)
    }

    fn say(&mut self, said: &Said<'_>, now: Instant) {
        self.attempts += 1;
        if matches!(said, Said::Renew(_) | Said::Rebind(_)) {
            // The lease counts from when it was asked for.
            self.began = now;
        }
        let seconds = u16::try_from(now.saturating_since(self.began).as_secs()).unwrap_or(u16::MAX);
        let packet = message::packet(said, &self.identity, self.transaction, seconds);
        let to = match said {
            Said::Renew(lease) => lease.server_mac,
            Said::Discover | Said::Take { .. } | Said::Confirm { .. } | Said::Rebind(_) | Said::Decline(_) => BROADCAST,
        };
        if let Some(packet) = packet {
            self.outgoing.push_back(Transmit::Ipv4 { to, packet });
        }
    }
}

#[cfg(test)]
mod tests;
