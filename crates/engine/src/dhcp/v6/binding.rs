//! What a server has given: addresses and prefixes with their lifetimes.
use core::net::Ipv6Addr;
use core::time::Duration;

use ipnet::Ipv6Net;
use sixgate_wire::dhcpv6::{Lease, Message, code, status};

use super::Wanted;
use crate::time::Instant;

/// Seconds that never end.
const INFINITE: u32 = u32::MAX;
/// Addresses or prefixes of one server that are taken.
const MOST: usize = 16;
/// Resolvers of one server that are taken.
const MOST_RESOLVERS: usize = 4;

/// An address (128 bits) or a prefix. A lifetime that is infinite has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Binding {
    /// The address or prefix.
    pub net: Ipv6Net,
    /// When it is no longer preferred.
    pub preferred_until: Option<Instant>,
    /// When it ends.
    pub valid_until: Option<Instant>,
}

/// Everything that is held, and of whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Bindings {
    /// DUID of the server.
    pub server: Vec<u8>,
    /// Addresses and prefixes.
    pub held: Vec<Binding>,
    /// When the server is asked for more time; nothing where there is no end.
    pub t1: Option<Instant>,
    /// When any server is asked; nothing where there is no end.
    pub t2: Option<Instant>,
    /// Resolvers.
    pub resolvers: Vec<Ipv6Addr>,
    /// Time servers.
    pub time_servers: Vec<Ipv6Addr>,
    /// What the server proves itself by when it has the client ask again.
    pub reconfigure: Option<super::reconfigure::Key>,
    #[serde(skip)]
    /// Taken back by a lifetime of zero.
    withdrawn: Vec<Ipv6Net>,
}

impl Bindings {
    /// What a message gives to the associations with that identifier, counted from when it was asked for.
    pub(super) fn parse(message: &Message<'_>, id: u32, wanted: &Wanted, asked: Instant) -> Self {
        let mut granted = Self::default();
        let until = |seconds: u32| (seconds != INFINITE).then(|| asked + Duration::from_secs(seconds.into()));
        let wants = [(code::IA_NA, wanted.address), (code::IA_PD, wanted.prefix)];
        let kinds = wants.into_iter().filter(|(_, wanted)| *wanted).map(|(kind, _)| kind);
        let associations = kinds.flat_map(|kind| message.options().associations(kind).map(move |ia| (kind, ia)));
        let mut times = (u32::MAX, u32::MAX);
        for (kind, association) in associations.filter(|(_, association)| association.id == id) {
            // RFC 8415 section 21.4: an association whose T1 is beyond its T2 is discarded.
            let reversed = association.t1 > association.t2 && association.t2 > 0;
            if reversed || association.options.status() != status::SUCCESS {
                continue;
            }
            let mut shortest = INFINITE;
            for lease in association.leases().filter(|lease| (lease.length == 128) == (kind == code::IA_NA)) {
                let Some(net) = net(&lease) else { continue };
                if lease.valid == 0 {
                    granted.withdrawn.push(net);
                } else if granted.held.len() < MOST {
                    shortest = shortest.min(lease.preferred);
                    granted.held.push(Binding {
                        net,
                        preferred_until: until(lease.preferred),
                        valid_until: until(lease.valid),
                    });
                }
            }
            // RFC 8415 section 21.4: 0.5 and 0.8 of the shortest preferred lifetime where the server leaves it to us.
            let share = |given: u32, tenths: u32| match (given, shortest) {
                (0, INFINITE) | (INFINITE, _) => INFINITE,
                (0, shortest) => u32::try_from(u64::from(shortest) * u64::from(tenths) / 10).unwrap_or(INFINITE),
                (given, _) => given,
            };
            times = (times.0.min(share(association.t1, 5)), times.1.min(share(association.t2, 8)));
        }
        (granted.t1, granted.t2) = (until(times.0), until(times.1.max(times.0)));
        let resolvers = message.options().find(code::DNS_SERVERS).unwrap_or_default();
        let (whole, _) = resolvers.as_chunks::<16>();
        granted.resolvers.extend(whole.iter().map(|octets| Ipv6Addr::from(*octets)).take(MOST_RESOLVERS));
        // RFC 5908 section 4: each instance of the option names one server, by address or by name.
        let servers = message.options().into_iter().filter(|(kind, _)| *kind == code::NTP_SERVER);
        granted.time_servers.extend(servers.filter_map(|(_, value)| time_server(value)).take(MOST_RESOLVERS));
        granted
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Prefixes, without addresses.
    pub fn prefixes(&self) -> impl Iterator<Item = &Binding> {
        self.held.iter().filter(|binding| binding.net.prefix_len() < 128)
    }

    /// Addresses, without prefixes.
    pub fn addresses(&self) -> impl Iterator<Item = &Binding> {
        self.held.iter().filter(|binding| binding.net.prefix_len() == 128)
    }

    /// A server has given everything anew.
    pub(super) fn replace(&mut self, granted: Self) {
        *self = Self { withdrawn: Vec::new(), ..granted };
    }

    /// RFC 8415 section 18.2.10.1: lifetimes are replaced, what is new is added, what has lifetime zero goes.
    pub(super) fn extend(&mut self, granted: Self) {
        self.held.retain(|binding| {
            !granted.withdrawn.contains(&binding.net) && !granted.held.iter().any(|new| new.net == binding.net)
        });
        // What was confirmed or is new comes before what was not mentioned.
        self.held.splice(0..0, granted.held);
        self.held.truncate(MOST);
        (self.t1, self.t2) = (granted.t1, granted.t2);
        if !granted.resolvers.is_empty() {
            self.resolvers = granted.resolvers;
        }
        if !granted.time_servers.is_empty() {
            self.time_servers = granted.time_servers;
        }
    }

    /// Drops what has ended.
    pub(super) fn expire(&mut self, now: Instant) {
        self.held.retain(|binding| binding.valid_until.is_none_or(|until| now < until));
    }

    pub(super) fn keep(&mut self, wanted: impl Fn(&Binding) -> bool) {
        self.held.retain(wanted);
    }

    /// Takes out what is no longer wanted.
    pub(super) fn split_off(&mut self, wanted: impl Fn(&Binding) -> bool) -> Vec<Binding> {
        let (kept, dropped) = std::mem::take(&mut self.held).into_iter().partition(wanted);
        self.held = kept;
        dropped
    }

    pub(super) fn first_end(&self) -> Option<Instant> {
        self.held.iter().filter_map(|binding| binding.valid_until).min()
    }

    /// When the last of it ends; nothing where something never does.
    pub(super) fn last_end(&self) -> Option<Instant> {
        let ends: Option<Vec<Instant>> = self.held.iter().map(|binding| binding.valid_until).collect();
        ends?.into_iter().max()
    }
}

fn net(lease: &Lease) -> Option<Ipv6Net> {
    let net = Ipv6Net::new(lease.address, lease.length).ok()?.trunc();
    super::usable(net).then_some(net)
}

/// RFC 5908 section 4.1: code, length, address.
fn time_server(value: &[u8]) -> Option<Ipv6Addr> {
    let (head, octets) = value.split_first_chunk::<4>()?;
    let [code_high, code_low, 0, 16] = *head else { return None };
    let octets: [u8; 16] = octets.try_into().ok()?;
    (u16::from_be_bytes([code_high, code_low]) == code::NTP_SERVER_ADDRESS).then(|| Ipv6Addr::from(octets))
}
