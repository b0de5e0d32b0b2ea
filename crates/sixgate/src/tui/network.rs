//! The page of the uplink and the LANs: addresses, what is advertised, what passes, and who is there.
use core::net::IpAddr;

use ipnet::IpNet;
use ratatui::text::Line;
use sixgate_engine::facts::AddressState;
use sixgate_engine::status::{Client, Contest, Interface, Lan, Status};

use super::format::{bit_rate, clock_time, count};
use super::page::{Item, harmless};
use super::rates::{Trend, messages};
use super::sheet::{GRAPH, Sheet, sighting};
use super::theme::Role;

/// Uplink and LANs.
pub(super) fn page(sheet: &Sheet<'_>) -> Vec<Line<'static>> {
    let mut lines = sheet.graph("received", GRAPH, Trend::Received, bit_rate);
    lines.extend(sheet.graph("sent", GRAPH, Trend::Sent, bit_rate));
    lines.extend(sheet.uplink());
    for (index, lan) in sheet.status.lans.iter().enumerate() {
        lines.extend(sheet.lan(index, lan));
        lines.extend(sheet.contests(lan));
        lines.extend(sheet.clients(lan));
    }
    lines
}

impl Sheet<'_> {
    fn uplink(&self) -> Vec<Line<'static>> {
        let wan = &self.status.wan;
        let mut lines = vec![self.rule("Uplink", &interface(wan))];
        for (label, v6) in [("IPv6", true), ("IPv4", false)] {
            let mut items = addresses(wan, v6);
            if items.is_empty() {
                items.push(Item::new(Role::Warning, "none"));
            }
            items.extend(
                wan.gateways.iter().filter(|via| via.is_ipv6() == v6).map(|via| Item::plain(format!("via {via}"))),
            );
            lines.extend(self.labelled(label, &items));
        }
        lines.extend(self.traffic(wan, |status| Some(&status.wan)));
        lines
    }

    fn lan(&self, index: usize, lan: &Lan) -> Vec<Line<'static>> {
        let mut state = interface(&lan.interface);
        if let Some(advertised) = &lan.advertised {
            state.push(Item::plain(format!("RA {}", count(advertised.sent))));
            state.push(Item::plain(format!("RS {}", count(advertised.solicitations))));
        }
        let mut lines = vec![self.rule(&format!("LAN {}", harmless(&lan.name)), &state)];
        let mut items = addresses(&lan.interface, true);
        items.extend(addresses(&lan.interface, false));
        if items.is_empty() {
            items.push(Item::new(Role::Warning, "none"));
        }
        lines.extend(self.labelled("addresses", &items));
        lines.extend(self.labelled("advertises", &advertised(lan)));
        lines.extend(self.traffic(&lan.interface, |status| status.lans.get(index).map(|lan| &lan.interface)));
        lines
    }

    fn traffic(
        &self,
        interface: &Interface,
        same: impl for<'s> Fn(&'s Status) -> Option<&'s Interface>,
    ) -> Vec<Line<'static>> {
        if !interface.present {
            return Vec::new();
        }
        let received = self.flow(|status| same(status).map(|interface| interface.received));
        let sent = self.flow(|status| same(status).map(|interface| interface.sent));
        self.labelled("traffic", &[Item::plain(format!("in {received}")), Item::plain(format!("out {sent}"))])
    }

    /// Addresses that two hosts want; the VM among them by its name.
    fn contests(&self, lan: &Lan) -> Vec<Line<'static>> {
        if lan.contests.is_empty() {
            return Vec::new();
        }
        let who = |mac: &String| {
            let vm = lan.clients.iter().find(|client| client.mac == *mac).and_then(|client| client.vm.as_ref());
            vm.map_or_else(|| harmless(mac), |vm| harmless(vm))
        };
        let row = |contest: &Contest| {
            let what = if contest.detection { "fails in DAD" } else { "takes it" };
            let items = vec![
                Item::new(Role::Bad, harmless(&contest.address)),
                Item::plain(format!("of {}", who(&contest.holder))),
                Item::plain(format!("wanted by {}, {what}", who(&contest.claimant))),
                Item::plain(format!("{} times", count(contest.times))),
            ];
            (clock_time(contest.at), items)
        };
        let state = Item::new(Role::Bad, format!("{} lately", lan.contests.len()));
        let mut lines = vec![self.rule(&format!("Contested on {}", harmless(&lan.name)), &[state])];
        lines.extend(self.rows(lan.contests.iter().map(row).collect()));
        lines
    }

    /// Hosts on a LAN; a VM goes by its name.
    fn clients(&self, lan: &Lan) -> Vec<Line<'static>> {
        if lan.clients.is_empty() {
            return Vec::new();
        }
        let seen = lan.clients.iter().filter(|client| client.seen).count();
        let state = Item::plain(format!("{seen} of {} seen", lan.clients.len()));
        let mut lines = vec![self.rule(&format!("Hosts on {}", harmless(&lan.name)), &[state])];
        let row = |client: &Client| {
            let name = client.vm.as_deref().map_or_else(|| "-".to_owned(), harmless);
            let mut items = vec![Item::plain(client.mac.clone()), sighting(Some(client.seen), client.last_seen)];
            items.extend(client.addresses.iter().map(|address| Item::plain(address.to_string())));
            let vm = self.status.vms.iter().find(|vm| Some(&vm.name) == client.vm.as_ref());
            items.extend(vm.into_iter().flat_map(|vm| &vm.containers).map(|prefix| Item::plain(format!("► {prefix}"))));
            (name, items)
        };
        lines.extend(self.rows(lan.clients.iter().map(row).collect()));
        lines
    }
}

/// Name, state and MTU.
fn interface(interface: &Interface) -> Vec<Item> {
    if !interface.present {
        return vec![Item::new(Role::Bad, "MISSING")];
    }
    let state = if interface.carrier { Item::new(Role::Good, "up") } else { Item::new(Role::Bad, "NO CARRIER") };
    vec![Item::plain(harmless(&interface.name)), state, Item::plain(format!("MTU {}", interface.mtu))]
}

/// Addresses of one family, global ones first.
fn addresses(interface: &Interface, v6: bool) -> Vec<Item> {
    let mut addresses: Vec<_> =
        interface.addresses.iter().filter(|(net, _)| matches!(net, IpNet::V6(_)) == v6).collect();
    addresses.sort_by_key(|(net, _)| match net.addr() {
        IpAddr::V6(address) => address.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    });
    addresses
        .into_iter()
        .map(|(net, state)| match state {
            AddressState::Ready => Item::plain(net.to_string()),
            AddressState::Tentative => Item::new(Role::Warning, format!("{net} (tentative)")),
            AddressState::Duplicate => Item::new(Role::Bad, format!("{net} (DUPLICATE)")),
        })
        .collect()
}

/// What hosts on the LAN are told.
fn advertised(lan: &Lan) -> Vec<Item> {
    let Some(advertised) = &lan.advertised else {
        return vec![Item::plain("nothing")];
    };
    let mut items = Vec::new();
    for prefix in &advertised.prefixes {
        let flags = match (prefix.on_link, prefix.autonomous) {
            (true, true) => " (L A)",
            (true, false) => " (L)",
            (false, true) => " (A)",
            (false, false) => "",
        };
        items.push(Item::plain(format!("{}{flags}", prefix.prefix)));
    }
    items.extend(advertised.rdnss.iter().map(|resolver| Item::plain(format!("DNS {resolver}"))));
    if let Some((prefix, usable)) = advertised.pref64 {
        items.push(if usable {
            Item::plain(format!("PREF64 {prefix}"))
        } else {
            Item::new(Role::Warning, format!("PREF64 {prefix} (WITHDRAWN)"))
        });
    }
    // RFC 4861 section 6.2.3: with a router lifetime of 0 hosts do not route through it.
    if advertised.router_lifetime == 0 {
        items.push(Item::new(Role::Warning, "NOT A DEFAULT ROUTER"));
    }
    let dropped = messages(&advertised.dropped);
    if dropped > 0 {
        items.push(Item::plain(format!("dropped {}", count(dropped))));
    }
    items
}
