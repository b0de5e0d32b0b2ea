//! Static bindings: RFC 6146 section 3.1. The operator makes and removes them; they need no session to live.
use core::net::SocketAddr;
use std::collections::HashSet;

use super::account::AccountIndex;
use super::bib::Binding;
use super::event::Cause;
use super::prefixes::Position;
use super::session::Session;
use super::tables::Tables;
use super::tuple::{Protocol, TransportV4, TransportV6};
use crate::plan::{PublishedEcho, StaticBinding};
use crate::status::Published;

/// Sessions are counted of so many published ports: the translator looks at each of them.
const COUNTED: usize = 1024;

impl Tables {
    /// Takes over the operator's bindings. Those that are there stay with their sessions; what stands in the way of new
    /// ones ends.
    pub(super) fn publish(&mut self, wanted: &[StaticBinding], echo: &[PublishedEcho]) {
        self.echo.replace(echo, &mut self.accounts);
        self.settle(wanted, echo);
        self.wanted = (wanted.to_vec(), echo.to_vec());
        let wanted: Vec<Binding> = wanted
            .iter()
            .flat_map(|range| (0..range.ports).filter_map(|offset| nth(range, offset)))
            .filter(|binding| self.pool.contains(binding.mapped.address))
            .collect();
        let ends = |binding: &Binding| (binding.protocol, binding.client, binding.mapped);
        let all: HashSet<_> = wanted.iter().map(ends).collect();
        let is_wanted = |binding: &Binding| all.contains(&ends(binding));
        let gone: Vec<u32> = self
            .bib
            .iter()
            .filter(|(_, binding)| binding.is_static && !is_wanted(binding))
            .map(|(index, _)| index)
            .collect();
        for index in gone {
            self.withdraw(index);
        }
        for binding in wanted {
            let of_client = self.bib.find_client(binding.protocol, binding.client);
            if of_client.is_some_and(|index| self.bib[index].is_static) {
                continue;
            }
            for index in of_client.into_iter().chain(self.bib.find_mapped(binding.protocol, binding.mapped)) {
                self.end_where(|session| session.binding == index);
            }
            // Another of the operator's bindings has that port; the configuration rules it out.
            if self.bib.find_mapped(binding.protocol, binding.mapped).is_none() {
                self.pool.reserve(binding.protocol, binding.mapped);
                let account = self.accounts.open(binding.client.address);
                self.bib.insert(Binding { account, ..binding });
            }
        }
    }

    /// What the console shows.
    pub(super) fn published(&self) -> Vec<Published> {
        let mut counted = 0;
        let ports = self.wanted.0.iter().map(|range| {
            counted += usize::from(range.ports);
            let sessions = |offset| {
                let mapped = TransportV4 { port: range.mapped.port.checked_add(offset)?, ..range.mapped };
                Some(u64::from(self.bib[self.bib.find_mapped(range.protocol, mapped)?].sessions))
            };
            Published {
                line: range.line,
                protocol: range.protocol.name().to_owned(),
                listen: SocketAddr::new(range.mapped.address.into(), range.mapped.port),
                to: SocketAddr::new(range.client.address.into(), range.client.port),
                ports: range.ports,
                sessions: (counted <= COUNTED).then(|| (0..range.ports).filter_map(sessions).sum()),
            }
        });
        let ports: Vec<Published> = ports.collect();
        let echo = self.wanted.1.iter().map(|echo| Published {
            line: echo.line,
            protocol: Protocol::Icmp.name().to_owned(),
            listen: SocketAddr::new(echo.mapped.into(), 0),
            to: SocketAddr::new(echo.client.into(), 0),
            ports: 0,
            sessions: None,
        });
        let mut published: Vec<Published> = ports.into_iter().chain(echo).collect();
        published.sort_by_key(|it| it.line);
        published
    }

    /// Ends sessions whose address or port is no longer ours, and those under a prefix that is gone.
    pub(super) fn end_gone(&mut self, is_gone: impl Fn(Position) -> bool) {
        let Self { sessions, bib, pool, .. } = self;
        let is_ours = |session: &Session| pool.owns(session.mapped) || bib[session.binding].is_static;
        let gone: Vec<u32> = sessions
            .iter()
            .filter(|(index, session)| is_gone(sessions.prefix(*index)) || !is_ours(session))
            .map(|(index, _)| index)
            .collect();
        for index in gone {
            self.end(index, Cause::Gone);
        }
    }

    /// RFC 4787 REQ-2: what a published host begins itself comes from the address that it is reached at.
    fn settle(&mut self, wanted: &[StaticBinding], echo: &[PublishedEcho]) {
        self.homes.clear();
        let hosts = wanted.iter().map(|binding| (binding.client.address, binding.mapped.address));
        for (host, address) in hosts.chain(echo.iter().map(|echo| (echo.client, echo.mapped))) {
            self.homes.entry(host).or_insert(address);
        }
    }

    fn withdraw(&mut self, index: u32) {
        self.end_where(|session| session.binding == index);
        let binding = self.bib.remove(index);
        self.pool.unreserve(binding.protocol, binding.mapped);
        self.accounts.release(binding.account);
    }
}

fn nth(range: &StaticBinding, offset: u16) -> Option<Binding> {
    let (mapped, client) = (range.mapped, range.client);
    Some(Binding {
        protocol: range.protocol,
        client: TransportV6 { port: client.port.checked_add(offset)?, ..client },
        mapped: TransportV4 { port: mapped.port.checked_add(offset)?, ..mapped },
        sessions: 0,
        is_static: true,
        account: AccountIndex::MAX,
    })
}
