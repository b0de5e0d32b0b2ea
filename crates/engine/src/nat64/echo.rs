//! Published echo: who pings an address of ours from outside reaches the host inside, whatever the identifier.
//!
//! No table could hold all identifiers of RFC 6146's BIB entries for that, and none is needed: a request from outside and
//! the reply to it keep their identifier, and which of both a message is tells them from the host's own pings.
use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::HashMap;

use sixgate_wire::icmpv4::{self, Icmpv4Message};
use sixgate_wire::icmpv6::{self, Icmpv6Message};
use sixgate_wire::ipv4::Ipv4Packet;
use sixgate_wire::ipv6::Ipv6Packet;

use super::account::{AccountIndex, Accounts};
use super::bib::Binding;
use super::keyed::Keyed;
use super::tuple::{Protocol, TransportV4, TransportV6};
use crate::plan::PublishedEcho;

/// Addresses and the hosts that answer for them, each once.
#[derive(Debug)]
pub(super) struct PublishedEchoes {
    by_address: HashMap<Ipv4Addr, Echo, Keyed>,
    by_host: HashMap<Ipv6Addr, Echo, Keyed>,
}

#[derive(Clone, Copy, Debug)]
struct Echo {
    address: Ipv4Addr,
    host: Ipv6Addr,
    account: AccountIndex,
}

impl PublishedEchoes {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self { by_address: HashMap::with_hasher(keyed), by_host: HashMap::with_hasher(keyed) }
    }

    /// Takes over others, each with the account that its host is charged to.
    pub(super) fn replace(&mut self, wanted: &[PublishedEcho], accounts: &mut Accounts) {
        for echo in self.by_host.drain().map(|(_, echo)| echo) {
            accounts.release(echo.account);
        }
        self.by_address.clear();
        for PublishedEcho { mapped, client, .. } in wanted {
            let echo = Echo { address: *mapped, host: *client, account: accounts.open(*client) };
            self.by_address.insert(*mapped, echo);
            self.by_host.insert(*client, echo);
        }
    }

    /// Charges each host to its account among new ones.
    pub(super) fn reopen(&mut self, accounts: &mut Accounts) {
        for echo in self.by_host.values_mut() {
            echo.account = accounts.open(echo.host);
            self.by_address.insert(echo.address, *echo);
        }
    }

    /// The binding of a request from outside.
    pub(super) fn of_request(&self, packet: &Ipv4Packet<'_>) -> Option<Binding> {
        let echo = self.by_address.get(&packet.destination())?;
        let message = Icmpv4Message::parse(packet.upper()).filter(|it| it.kind() == icmpv4::ECHO)?;
        Some(echo.binding(message.identifier()))
    }

    /// The binding of a host's reply.
    pub(super) fn of_reply(&self, packet: &Ipv6Packet<'_>) -> Option<Binding> {
        let echo = self.by_host.get(&packet.source())?;
        let message = Icmpv6Message::parse(packet.upper()).filter(|it| it.kind() == icmpv6::ECHO_REPLY)?;
        Some(echo.binding(message.identifier()))
    }

    /// The binding of a reply that an error from outside quotes.
    pub(super) fn of_quoted_reply(&self, error: &Ipv4Packet<'_>) -> Option<Binding> {
        let echo = self.by_address.get(&error.destination())?;
        let quoted = Ipv4Packet::parse_quoted(Icmpv4Message::parse(error.upper())?.body()).ok()?;
        let message = Icmpv4Message::parse(quoted.upper())?;
        let is_reply = quoted.protocol() == icmpv4::PROTOCOL && message.kind() == icmpv4::ECHO_REPLY;
        is_reply.then(|| echo.binding(message.identifier()))
    }

    /// The binding of a request that a host's error quotes.
    pub(super) fn of_quoted_request(&self, error: &Ipv6Packet<'_>) -> Option<Binding> {
        if self.by_host.is_empty() {
            return None;
        }
        let quoted = Ipv6Packet::parse_quoted(Icmpv6Message::parse(error.upper())?.body()).ok()?;
        let echo = self.by_host.get(&quoted.destination())?;
        let message = Icmpv6Message::parse(quoted.upper())?;
        let is_request = quoted.protocol() == icmpv6::PROTOCOL && message.kind() == icmpv6::ECHO_REQUEST;
        is_request.then(|| echo.binding(message.identifier()))
    }
}

impl Echo {
    /// What the tables would say of a message with that identifier.
    fn binding(&self, identifier: u16) -> Binding {
        Binding {
            protocol: Protocol::Icmp,
            client: TransportV6 { address: self.host, port: identifier },
            mapped: TransportV4 { address: self.address, port: identifier },
            sessions: 0,
            is_static: true,
            account: self.account,
        }
    }
}
