//! What a server has agreed to.
use core::net::Ipv4Addr;
use core::time::Duration;

use ipnet::Ipv4Net;
use sixgate_wire::dhcpv4::{Reply, code};
use sixgate_wire::mac::MacAddr;

use super::message;
use crate::prefix::Lease4;
use crate::time::Instant;

/// RFC 2131 section 3.3: this many seconds never end.
const INFINITE: u32 = u32::MAX;
/// Resolvers and time servers of a server that are taken.
const MOST_RESOLVERS: usize = 4;
/// Routes of a server that are taken.
const MOST_ROUTES: usize = 64;

/// An address with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Address with prefix length, host bits kept.
    pub address: Ipv4Net,
    /// Next hop of the default route.
    pub gateway: Option<Ipv4Addr>,
    /// RFC 3442: further routes; without a next hop the destination is on the link.
    pub routes: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
    /// Resolvers.
    pub resolvers: Vec<Ipv4Addr>,
    /// Time servers.
    pub time_servers: Vec<Ipv4Addr>,
    /// Which server.
    pub server: Ipv4Addr,
    /// The hardware address that the server's answer came from: its own or a relay's.
    pub server_mac: MacAddr,
    /// When it is renewed; nothing where it never ends.
    pub t1: Option<Instant>,
    /// When any server is asked; nothing where it never ends.
    pub t2: Option<Instant>,
    /// When it ends; nothing where it never does.
    pub ends: Option<Instant>,
}

impl Lease {
    /// From a DHCPACK whose request was sent at `asked`. A server that leaves its identifier out is the one of `held`.
    pub(super) fn parse(reply: &Reply<'_>, from: MacAddr, asked: Instant, held: Option<&Self>) -> Option<Self> {
        let address = reply.your_address();
        if !usable(address) {
            return None;
        }
        let server = message::server(reply).or_else(|| held.map(|held| held.server))?;
        let mut buffer = [0; 255];
        let number = |code, buffer: &mut [u8]| match reply.option(code, buffer) {
            Some([a, b, c, d]) => Some(u32::from_be_bytes([*a, *b, *c, *d])),
            Some(_) | None => None,
        };
        let seconds = number(code::LEASE_TIME, &mut buffer).filter(|seconds| *seconds > 0)?;
        let mask = number(code::SUBNET_MASK, &mut buffer).map_or(Ipv4Addr::BROADCAST, Ipv4Addr::from_bits);
        let length = u8::try_from(mask.to_bits().leading_ones()).unwrap_or(32);
        let length =
            if mask.to_bits().trailing_zeros() + mask.to_bits().leading_ones() == 32 { length.max(1) } else { 32 };
        let address = Ipv4Net::new(address, length).ok()?;

        let after = |seconds: u64| Some(asked + Duration::from_secs(seconds));
        let (t1, t2, ends) = if seconds == INFINITE {
            (None, None, None)
        } else {
            let lease = u64::from(seconds);
            // RFC 2131 section 4.4.5: half and seven eighths unless the server says otherwise.
            let t2 = number(code::REBINDING_TIME, &mut buffer).map(u64::from).filter(|t2| *t2 > 0 && *t2 < lease);
            let t2 = t2.unwrap_or(lease * 7 / 8);
            let t1 = number(code::RENEWAL_TIME, &mut buffer).map(u64::from).filter(|t1| *t1 > 0 && *t1 <= t2);
            (after(t1.unwrap_or((lease / 2).min(t2))), after(t2), after(lease))
        };

        let addresses = |code| {
            let mut buffer = [0; 255];
            let bytes = reply.option(code, &mut buffer).unwrap_or_default();
            let (whole, _) = bytes.as_chunks::<4>();
            whole.iter().map(|octets| Ipv4Addr::from(*octets)).filter(|address| usable(*address)).collect::<Vec<_>>()
        };
        let mut long = [0; 1024];
        let (gateway, routes) = match reply.option(code::CLASSLESS_ROUTES, &mut long).map(classless_routes) {
            // RFC 3442: whoever understands this option ignores the router option.
            Some(routes) if !routes.is_empty() => {
                let (defaults, routes): (Vec<_>, Vec<_>) = routes.into_iter().partition(|(to, _)| to.prefix_len() == 0);
                (defaults.into_iter().find_map(|(_, via)| via), routes)
            }
            Some(_) | None => (addresses(code::ROUTER).first().copied(), Vec::new()),
        };
        let mut resolvers = addresses(code::DOMAIN_NAME_SERVER);
        resolvers.truncate(MOST_RESOLVERS);
        let mut time_servers = addresses(code::NTP_SERVERS);
        time_servers.truncate(MOST_RESOLVERS);
        Some(Self { address, gateway, routes, resolvers, time_servers, server, server_mac: from, t1, t2, ends })
    }

    /// Whether it has not ended.
    pub fn is_valid(&self, now: Instant) -> bool {
        self.ends.is_none_or(|ends| now < ends)
    }

    /// What the plan needs to know of it.
    pub fn learnt(&self) -> Lease4 {
        Lease4 { address: self.address, gateway: self.gateway, routes: self.routes.clone() }
    }
}

/// Whether an address can be a host's.
pub(super) fn usable(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224 && !address.is_loopback()
}

/// RFC 3442: a prefix length, as many octets as it needs, a next hop. Nothing of a list that is cut short or wrong.
fn classless_routes(mut bytes: &[u8]) -> Vec<(Ipv4Net, Option<Ipv4Addr>)> {
    let mut routes = Vec::new();
    while let [length, rest @ ..] = bytes {
        let significant = usize::from(length.div_ceil(8));
        let parsed = rest.split_at_checked(significant).and_then(|(net, rest)| {
            let (via, rest) = rest.split_first_chunk::<4>()?;
            let mut octets = [0; 4];
            octets.get_mut(..significant)?.copy_from_slice(net);
            let net = Ipv4Net::new(Ipv4Addr::from(octets), *length).ok()?.trunc();
            Some((net, Ipv4Addr::from(*via), rest))
        });
        let Some((net, via, rest)) = parsed else { return Vec::new() };
        if via.is_unspecified() {
            routes.push((net, None));
        } else if usable(via) {
            routes.push((net, Some(via)));
        }
        bytes = rest;
    }
    routes.truncate(MOST_ROUTES);
    routes
}
