//! The DHCPv6 client: RFC 8415 section 18.2, as RFC 9915 restates it, for one address and one prefix delegation.
use core::net::Ipv6Addr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use ipnet::Ipv6Net;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sixgate_wire::dhcpv6::{Kind, Message, code, status};
use sixgate_wire::mac::MacAddr;

use crate::time::Instant;

mod binding;
mod exchange;
mod message;
mod reconfigure;

pub use binding::{Binding, Bindings};
use exchange::{Exchange, Timing};

/// Longest identifier of a server (RFC 8415 section 11.1).
const LONGEST_DUID: usize = 130;
/// Pause before the search begins anew after a server had nothing to give, lest it be asked without end.
const NOTHING_PAUSE: Duration = Duration::from_secs(5);

/// What the client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// An address (IA_NA).
    pub address: bool,
    /// Prefixes (IA_PD).
    pub prefix: bool,
    /// RFC 8415 section 18.2.1: the prefix length that would be welcome.
    pub hint: Option<u8>,
}

/// RFC 8415 section 11.4: DUID-LL of a hardware address.
pub fn duid(mac: MacAddr) -> Vec<u8> {
    [&[0, 3, 0, 1][..], &mac.0].concat()
}

/// Where the client stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is asked for.
    Idle,
    /// Solicit is out.
    Soliciting {
        /// The best Advertise so far: its preference, the server.
        best: Option<(u8, Vec<u8>)>,
    },
    /// Request is out.
    Requesting,
    /// Everything is held.
    Bound,
    /// Renew is out.
    Renewing,
    /// Rebind is out.
    Rebinding,
    /// Rebind is out because the link has come back or the daemon has started (RFC 8415 section 18.2.12).
    Confirming,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It was an answer that was waited for.
    Taken,
    /// It is no well-formed message of a server.
    Malformed,
    /// It is for another client, or answers another message.
    NotForUs,
    /// It is an answer that nothing was asked for.
    Unexpected,
    /// The server gives nothing, or nothing that could be used.
    Refused,
    /// A Reconfigure that does not prove to be the server's, or asks for nothing that is known.
    Unproven,
}

impl Verdict {
    /// Stable kebab-case name, for counters and the console.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Taken => "dhcp6-taken",
            Self::Malformed => "dhcp6-malformed",
            Self::NotForUs => "dhcp6-not-for-us",
            Self::Unexpected => "dhcp6-unexpected",
            Self::Refused => "dhcp6-refused",
            Self::Unproven => "dhcp6-unproven",
        }
    }
}

/// The client of one link.
#[derive(Debug)]
pub struct Client {
    wanted: Wanted,
    duid: Vec<u8>,
    id: u32,
    rng: ChaCha8Rng,
    state: State,
    exchange: Option<Exchange>,
    bindings: Bindings,
    sol_max_rt: Duration,
    outgoing: VecDeque<Vec<u8>>,
    verdicts: BTreeMap<Verdict, u64>,
}

impl Client {
    /// Begins. What is remembered counts as held at once, and servers are asked whether it still holds.
    pub fn new(wanted: Wanted, mac: MacAddr, duid: Vec<u8>, remembered: Bindings, seed: u64, now: Instant) -> Self {
        let [.., a, b, c, d] = mac.0;
        let mut client = Self {
            wanted,
            duid,
            id: u32::from_be_bytes([a, b, c, d]),
            rng: ChaCha8Rng::seed_from_u64(seed),
            state: State::Idle,
            exchange: None,
            bindings: remembered,
            sol_max_rt: exchange::SOL_MAX_RT,
            outgoing: VecDeque::new(),
            verdicts: BTreeMap::new(),
        };
        client
            .bindings
            .keep(|binding| if binding.net.prefix_len() == 128 { client.wanted.address } else { client.wanted.prefix });
        client.bindings.expire(now);
        client.begin(now);
        client
    }

    fn begin(&mut self, now: Instant) {
        let state = if !self.wanted.address && !self.wanted.prefix {
            State::Idle
        } else if self.bindings.is_empty() {
            State::Soliciting { best: None }
        } else {
            State::Confirming
        };
        self.enter(state, now);
    }

    /// Asks for something else than before; what is no longer wanted is given back.
    pub fn reconfigure(&mut self, wanted: &Wanted, now: Instant) {
        if self.wanted == *wanted {
            return;
        }
        self.wanted = wanted.clone();
        let dropped = self
            .bindings
            .split_off(|binding| if binding.net.prefix_len() == 128 { wanted.address } else { wanted.prefix });
        if !dropped.is_empty() {
            let transaction = self.transaction();
            self.outgoing.extend(message::release(self, &dropped, transaction));
        }
        self.begin(now);
    }

    /// The link has come back: RFC 8415 section 18.2.12 has everything confirmed, for it may be another network.
    pub fn handle_link_up(&mut self, now: Instant) {
        self.begin(now);
    }

    /// What is held.
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// What the client is doing.
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Idle => "idle",
            State::Soliciting { .. } => "soliciting",
            State::Requesting => "requesting",
            State::Bound => "bound",
            State::Renewing => "renewing",
            State::Rebinding => "rebinding",
            State::Confirming => "confirming",
        }
    }

    /// What became of messages.
    pub fn verdicts(&self) -> &BTreeMap<Verdict, u64> {
        &self.verdicts
    }

    /// When [`Client::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let exchange = self.exchange.as_ref().map(Exchange::due);
        let renewal = match self.state {
            State::Bound => self.bindings.t1,
            State::Idle
            | State::Soliciting { .. }
            | State::Requesting
            | State::Renewing
            | State::Rebinding
            | State::Confirming => None,
        };
        [exchange, renewal, self.bindings.first_end()].into_iter().flatten().min()
    }

    /// A message to All_DHCP_Relay_Agents_and_Servers that is to be sent now.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    /// Takes a datagram for the client's port.
    pub fn handle_input(&mut self, datagram: &[u8], now: Instant) -> Verdict {
        let verdict = self.judge(datagram, now);
        *self.verdicts.entry(verdict).or_default() += 1;
        verdict
    }

    fn judge(&mut self, datagram: &[u8], now: Instant) -> Verdict {
        let Some(message) = Message::parse(datagram) else { return Verdict::Malformed };
        let options = message.options();
        let Some(server) =
            options.find(code::SERVER_IDENTIFIER).filter(|duid| (1..=LONGEST_DUID).contains(&duid.len()))
        else {
            return Verdict::Malformed;
        };
        // RFC 8415 sections 16.3 and 16.10.
        let ours = options.find(code::CLIENT_IDENTIFIER) == Some(&self.duid);
        if message.kind() == Kind::Reconfigure {
            let ours = ours && server == self.bindings.server;
            return if ours { self.ask_again(datagram, &message, now) } else { Verdict::NotForUs };
        }
        let Some(exchange) =
            self.exchange.as_ref().filter(|exchange| ours && exchange.transaction == message.transaction())
        else {
            return Verdict::NotForUs;
        };
        let asked = exchange.asked;
        if let Some(&[a, b, c, d]) = options.find(code::SOL_MAX_RT) {
            // RFC 8415 section 18.2.9: within a minute and a day.
            let seconds = u32::from_be_bytes([a, b, c, d]);
            if (60..=86_400).contains(&seconds) {
                self.sol_max_rt = Duration::from_secs(seconds.into());
            }
        }
        match (message.kind(), &self.state) {
            (Kind::Advertise, State::Soliciting { best }) => {
                let offer = Bindings::parse(&message, self.id, &self.wanted, asked);
                if options.status() != status::SUCCESS || offer.is_empty() {
                    return Verdict::Refused;
                }
                let preference = options.find(code::PREFERENCE).and_then(|value| value.first()).copied().unwrap_or(0);
                if best.as_ref().is_none_or(|(held, _)| preference > *held) {
                    self.state = State::Soliciting { best: Some((preference, server.to_vec())) };
                }
                // RFC 8415 section 18.2.1: the first round is for all servers to answer, unless one must be taken.
                let retransmitted = self.exchange.as_ref().is_some_and(|exchange| exchange.sent > 1);
                if preference == u8::MAX || retransmitted {
                    self.request(now);
                }
                Verdict::Taken
            }
            (Kind::Reply, State::Soliciting { .. }) if options.find(code::RAPID_COMMIT).is_none() => {
                Verdict::Unexpected
            }
            (
                Kind::Reply,
                State::Soliciting { .. } | State::Requesting | State::Renewing | State::Rebinding | State::Confirming,
            ) => self.take(&message, server, asked, now),
            _ => Verdict::Unexpected,
        }
    }

    /// RFC 8415 section 18.2.11. One at a time: while an exchange is under way, the next one does not count.
    fn ask_again(&mut self, datagram: &[u8], message: &Message<'_>, now: Instant) -> Verdict {
        const RENEW: u8 = 5;
        const REBIND: u8 = 6;
        if self.state != State::Bound {
            return Verdict::Unexpected;
        }
        let key = self.bindings.reconfigure.as_mut();
        match key.and_then(|key| reconfigure::verify(key, datagram, message)) {
            Some(RENEW) => self.enter(State::Renewing, now),
            Some(REBIND) => self.enter(State::Rebinding, now),
            Some(_) | None => return Verdict::Unproven,
        }
        Verdict::Taken
    }

    /// RFC 8415 section 18.2.10.1.
    fn take(&mut self, message: &Message<'_>, server: &[u8], asked: Instant, now: Instant) -> Verdict {
        let options = message.options();
        match options.status() {
            status::SUCCESS => {}
            // The server is to be asked again later, at the pace of the exchange.
            _ => return Verdict::Refused,
        }
        let lacks = |kind| {
            options.associations(kind).any(|held| held.id == self.id && held.options.status() == status::NO_BINDING)
        };
        let unknown = lacks(code::IA_NA) || lacks(code::IA_PD);
        let granted = Bindings::parse(message, self.id, &self.wanted, asked);
        // RFC 8415 section 20.4.2: the key is in one Reply, and holds until another one has another.
        let known = self.bindings.reconfigure.take().filter(|_| self.bindings.server == server);
        let key = reconfigure::key(message).or(known);
        let afresh = matches!(self.state, State::Soliciting { .. } | State::Requesting);
        if afresh {
            if granted.is_empty() {
                self.search_again(now + NOTHING_PAUSE);
                return Verdict::Refused;
            }
            self.bindings.replace(granted);
        } else {
            self.bindings.extend(granted);
        }
        self.bindings.expire(now);
        self.bindings.server = server.to_vec();
        self.bindings.reconfigure = key;
        if unknown {
            // RFC 8415 section 18.2.10.1: what the server does not know of is requested from it.
            self.enter(State::Requesting, now);
        } else if self.bindings.is_empty() {
            self.search_again(now);
        } else {
            self.enter(State::Bound, now);
        }
        Verdict::Taken
    }

    fn search_again(&mut self, when: Instant) {
        self.enter(State::Soliciting { best: None }, when);
    }

    fn request(&mut self, now: Instant) {
        let State::Soliciting { best: Some((_, server)) } = &self.state else { return };
        self.bindings.server = server.clone();
        self.enter(State::Requesting, now);
    }

    fn enter(&mut self, state: State, when: Instant) {
        self.state = state;
        let timing = match self.state {
            State::Idle | State::Bound => {
                self.exchange = None;
                return;
            }
            State::Soliciting { .. } => Timing::solicit(self.sol_max_rt),
            State::Requesting => Timing::REQUEST,
            State::Renewing => Timing::renew(self.bindings.t2, when),
            State::Rebinding => Timing::rebind(self.bindings.last_end(), when),
            State::Confirming => Timing::CONFIRM,
        };
        let transaction = self.transaction();
        self.exchange = Some(Exchange::new(transaction, timing, when));
    }

    fn transaction(&mut self) -> [u8; 3] {
        let [a, b, c, _] = self.rng.next_u32().to_be_bytes();
        [a, b, c]
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.bindings.expire(now);
        if self.bindings.is_empty()
            && matches!(self.state, State::Bound | State::Renewing | State::Rebinding | State::Confirming)
        {
            self.search_again(now);
        }
        if self.state == State::Bound && self.bindings.t1.is_some_and(|t1| t1 <= now) {
            self.enter(State::Renewing, now);
        }
        let Some(exchange) = &self.exchange else { return };
        if now < exchange.due() {
            return;
        }
        if matches!(self.state, State::Soliciting { best: Some(_) }) {
            self.request(now);
        } else if exchange.is_over(now) {
            match self.state {
                State::Idle | State::Bound | State::Soliciting { .. } => {}
                State::Requesting | State::Rebinding => self.search_again(now),
                State::Renewing => self.enter(State::Rebinding, now),
                // RFC 8415 section 18.2.3: nobody objects, so what is held is used on.
                State::Confirming => self.enter(State::Bound, now),
            }
            if self.exchange.is_none() {
                return self.handle_timeout_bound(now);
            }
        }
        self.speak(now);
    }

    /// After a confirmation that nobody answered it may be time to renew already.
    fn handle_timeout_bound(&mut self, now: Instant) {
        if self.bindings.t1.is_some_and(|t1| t1 <= now) {
            self.enter(State::Renewing, now);
            self.speak(now);
        }
    }

    fn speak(&mut self, now: Instant) {
        let Some(mut exchange) = self.exchange.take() else { return };
        let kind = match self.state {
            State::Idle | State::Bound => return,
            State::Soliciting { .. } => Kind::Solicit,
            State::Requesting => Kind::Request,
            State::Renewing => Kind::Renew,
            State::Rebinding | State::Confirming => Kind::Rebind,
        };
        self.outgoing.extend(message::ask(self, kind, &exchange, now));
        exchange.retransmit(now, &mut self.rng);
        self.exchange = Some(exchange);
    }
}

/// A prefix that could be delegated or an address that could be given: unicast, and neither link-local nor loopback.
fn usable(net: Ipv6Net) -> bool {
    let address: Ipv6Addr = net.addr();
    !(address.is_multicast() || address.is_loopback() || address.is_unspecified() || address.is_unicast_link_local())
}

#[cfg(test)]
mod tests;
