//! The client's messages: RFC 8415 sections 18.2.1 to 18.2.7.
use core::net::Ipv6Addr;

use sixgate_wire::dhcpv6::{Kind, Lease, Writer, code};

use super::exchange::Exchange;
use super::{Binding, Client};
use crate::time::Instant;

/// What is asked for.
const WANTED: [u16; 3] = [code::DNS_SERVERS, code::NTP_SERVER, code::SOL_MAX_RT];
/// Whole in a packet of the minimum MTU.
const ROOM: usize = 1280 - 40 - 8;

/// Solicit, Request, Renew or Rebind; nothing where more is held than a packet has room for.
pub(super) fn ask(client: &Client, kind: Kind, exchange: &Exchange, now: Instant) -> Option<Vec<u8>> {
    let mut buffer = [0; ROOM];
    let mut writer = Writer::new(&mut buffer, kind, exchange.transaction)?;
    writer.option(code::CLIENT_IDENTIFIER, &client.duid)?;
    if matches!(kind, Kind::Request | Kind::Renew) {
        writer.option(code::SERVER_IDENTIFIER, &client.bindings.server)?;
    }
    let mut wanted = [0; WANTED.len() * 2];
    for (place, option) in wanted.chunks_exact_mut(2).zip(WANTED) {
        place.copy_from_slice(&option.to_be_bytes());
    }
    writer.option(code::OPTION_REQUEST, &wanted)?;
    writer.option(code::ELAPSED_TIME, &exchange.elapsed(now).to_be_bytes())?;
    writer.option(code::RECONFIGURE_ACCEPT, &[])?;
    if kind == Kind::Solicit {
        writer.option(code::RAPID_COMMIT, &[])?;
    }
    if client.wanted.address {
        let held: Vec<Lease> = client.bindings.addresses().map(lease).collect();
        writer.association(code::IA_NA, client.id, &held)?;
    }
    if client.wanted.prefix {
        let mut held: Vec<Lease> = client.bindings.prefixes().map(lease).collect();
        if let (true, Some(length)) = (held.is_empty(), client.wanted.hint) {
            // RFC 8415 section 18.2.1: a length without a prefix is a hint.
            held.push(Lease { address: Ipv6Addr::UNSPECIFIED, length, preferred: 0, valid: 0 });
        }
        writer.association(code::IA_PD, client.id, &held)?;
    }
    Some(writer.finish().to_vec())
}

/// Release of what is no longer wanted; sent once, for what is not heard ends by itself.
pub(super) fn release(client: &Client, dropped: &[Binding], transaction: [u8; 3]) -> Option<Vec<u8>> {
    let mut buffer = [0; ROOM];
    let mut writer = Writer::new(&mut buffer, Kind::Release, transaction)?;
    writer.option(code::CLIENT_IDENTIFIER, &client.duid)?;
    writer.option(code::SERVER_IDENTIFIER, &client.bindings.server)?;
    writer.option(code::ELAPSED_TIME, &[0; 2])?;
    let (addresses, prefixes): (Vec<&Binding>, Vec<&Binding>) =
        dropped.iter().partition(|binding| binding.net.prefix_len() == 128);
    for (kind, given_back) in [(code::IA_NA, addresses), (code::IA_PD, prefixes)] {
        if !given_back.is_empty() {
            let leases: Vec<Lease> = given_back.into_iter().map(lease).collect();
            writer.association(kind, client.id, &leases)?;
        }
    }
    Some(writer.finish().to_vec())
}

/// RFC 8415 section 21.6: a client says no lifetimes.
fn lease(binding: &Binding) -> Lease {
    Lease { address: binding.net.network(), length: binding.net.prefix_len(), preferred: 0, valid: 0 }
}
