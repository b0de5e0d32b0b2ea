//! From which hardware address each client's packets may come, where that is validated: the fast path runs before the
//! kernel's own check.
use std::collections::{HashMap, HashSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use sixgate_engine::facts::MacAddr;
use sixgate_engine::plan::FastPathPlan;
use sixgate_engine::savi::Sources;

/// Who may send from an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tasks) enum Sender {
    /// It is not validated.
    Anybody,
    /// This host alone.
    Host(MacAddr),
    /// Nobody is known yet.
    Unknown,
}

/// Who may send from where on the fast path's LANs.
#[derive(Debug, Default)]
pub(in crate::tasks) struct Senders {
    validated: HashSet<u32>,
    hosts: HashMap<(u32, Ipv6Addr), MacAddr>,
    nets: Vec<(u32, Ipv6Net, MacAddr)>,
    /// Clients of a former daemon, whose sessions are held against what this one learns first.
    inherited: HashSet<(u32, Ipv6Addr, Option<MacAddr>)>,
}

/// Clients that somebody else may send for than before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::tasks) struct Changed {
    hosts: HashSet<Ipv6Addr>,
    nets: Vec<Ipv6Net>,
}

impl Changed {
    pub(in crate::tasks) fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.nets.is_empty()
    }

    pub(in crate::tasks) fn contains(&self, client: Ipv6Addr) -> bool {
        self.hosts.contains(&client) || self.nets.iter().any(|net| net.contains(&client))
    }
}

impl Senders {
    /// Takes what is known now, and tells for whom somebody who was admitted is not any more.
    pub(in crate::tasks) fn follow(&mut self, plan: &FastPathPlan, sources: &[Sources]) -> Changed {
        let known = sources.iter().filter_map(|at| {
            let (link, _) = plan.lans.iter().find(|(_, name)| *name == at.interface)?;
            Some((*link, at))
        });
        let (mut hosts, mut nets, mut links) = (HashMap::new(), Vec::new(), HashSet::new());
        for (link, at) in known {
            links.insert(link);
            hosts.extend(at.hosts.iter().map(|(mac, address)| ((link, *address), *mac)));
            nets.extend(at.nets.iter().map(|(mac, net)| (link, *net, *mac)));
        }
        let old_hosts = std::mem::replace(&mut self.hosts, hosts);
        let old_nets = std::mem::replace(&mut self.nets, nets);
        self.validated = plan.validated.iter().copied().collect();
        let lost = old_hosts.into_iter().filter(|(at, mac)| self.hosts.get(at) != Some(mac)).map(|((_, host), _)| host);
        let mut changed = Changed { hosts: lost.collect(), nets: Vec::new() };
        let lost = old_nets.into_iter().filter(|net| !self.nets.contains(net));
        changed.nets = lost.map(|(_, net, _)| net).collect();
        let (judged, waiting) =
            std::mem::take(&mut self.inherited).into_iter().partition(|(link, ..)| links.contains(link));
        self.inherited = waiting;
        let judged: HashSet<(u32, Ipv6Addr, Option<MacAddr>)> = judged;
        let others = judged.into_iter().filter(|(link, client, mac)| match self.of(*link, *client) {
            Sender::Anybody => false,
            Sender::Host(host) => *mac != Some(host),
            Sender::Unknown => true,
        });
        changed.hosts.extend(others.map(|(_, client, _)| client));
        changed
    }

    /// Sessions of this client were there before.
    pub(in crate::tasks) fn inherit(&mut self, link: u32, client: Ipv6Addr, mac: Option<MacAddr>) {
        self.inherited.insert((link, client, mac));
    }

    /// Who may send from an address.
    pub(in crate::tasks) fn of(&self, link: u32, client: Ipv6Addr) -> Sender {
        if !self.validated.contains(&link) {
            return Sender::Anybody;
        }
        if let Some(mac) = self.hosts.get(&(link, client)) {
            return Sender::Host(*mac);
        }
        let nets = self.nets.iter().filter(|(at, net, _)| *at == link && net.contains(&client));
        nets.max_by_key(|(_, net, _)| net.prefix_len()).map_or(Sender::Unknown, |(_, _, mac)| Sender::Host(*mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: u32 = 7;
    const ONE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn plan(validated: &[u32]) -> FastPathPlan {
        let lans = vec![(LAN, "eth1".to_owned()), (8, "eth2".to_owned())];
        let (uplink, validated) = ((2, "eth0".to_owned()), validated.to_vec());
        FastPathPlan { uplink, lans, clients: Vec::new(), validated, sessions: None }
    }

    fn sources(hosts: &[(MacAddr, &str)], nets: &[(MacAddr, &str)]) -> Vec<Sources> {
        let hosts = hosts.iter().map(|(mac, address)| (*mac, address.parse().unwrap())).collect();
        let nets = nets.iter().map(|(mac, net)| (*mac, net.parse().unwrap())).collect();
        vec![Sources { interface: "eth1".to_owned(), hosts, nets }]
    }

    fn address(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_and_what_lies_behind_them_send_and_nobody_else_does() {
        let mut senders = Senders::default();
        let nets = [(ONE, "2001:db8:1::/64"), (OTHER, "2001:db8:1:0:1::/80")];
        let changed = senders.follow(&plan(&[LAN]), &sources(&[(ONE, "2001:db8::1")], &nets));
        assert!(changed.is_empty());
        assert_eq!(senders.of(LAN, address("2001:db8::1")), Sender::Host(ONE));
        assert_eq!(senders.of(LAN, address("2001:db8:1:0:1::5")), Sender::Host(OTHER), "the longest prefix counts");
        assert_eq!(senders.of(LAN, address("2001:db8:1::5")), Sender::Host(ONE));
        assert_eq!(senders.of(LAN, address("2001:db8::2")), Sender::Unknown);
        assert_eq!(senders.of(8, address("2001:db8::2")), Sender::Anybody, "nothing is validated there");
    }

    #[test]
    fn who_is_admitted_no_more_is_told_and_who_comes_is_not() {
        let mut senders = Senders::default();
        let plan = plan(&[LAN]);
        senders.follow(&plan, &sources(&[(ONE, "2001:db8::1"), (ONE, "2001:db8::2")], &[(ONE, "2001:db8:1::/64")]));
        let more = [(ONE, "2001:db8::1"), (OTHER, "2001:db8::2"), (OTHER, "2001:db8::3")];
        let changed = senders.follow(&plan, &sources(&more, &[(OTHER, "2001:db8:1::/64")]));
        let told =
            ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:1::9"].map(|at| changed.contains(address(at)));
        assert_eq!(told, [false, true, false, true]);
        assert!(senders.follow(&plan, &sources(&more, &[(OTHER, "2001:db8:1::/64")])).is_empty());
    }

    #[test]
    fn what_a_former_daemon_believed_is_held_against_what_is_learnt() {
        let mut senders = Senders::default();
        let clients = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"].map(address);
        for (client, mac) in clients.into_iter().zip([Some(ONE), Some(ONE), None, Some(ONE)]) {
            senders.inherit(LAN, client, mac);
        }
        assert!(senders.follow(&plan(&[LAN]), &[]).is_empty(), "nothing is known of that LAN yet");
        let known = sources(&[(ONE, "2001:db8::1"), (OTHER, "2001:db8::2"), (ONE, "2001:db8::3")], &[]);
        let changed = senders.follow(&plan(&[LAN]), &known);
        assert_eq!(clients.map(|client| changed.contains(client)), [false, true, true, true]);
        assert!(senders.follow(&plan(&[LAN]), &known).is_empty());
    }
}
