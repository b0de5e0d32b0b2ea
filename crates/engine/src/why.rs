//! `sixgate why`: what becomes of a conversation, step by step, and the first thing that stops it.
use core::fmt::{self, Display, Formatter};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};
use sixgate_wire::rfc6052::Pref64;
use sixgate_wire::rfc6890::is_global_v4;

use crate::config::Config;
use crate::firewall::admission::{Flow, Judgement, NOBODYS};
use crate::nat64::tuple::Protocol;
use crate::npt::Pair;
use crate::plan::{MAIN_TABLE, Nat64Plan, NextHop, Obstacle, Plan};
use crate::status::{FastPath, Session};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Who would talk to whom about what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who begins.
    pub from: IpAddr,
    /// With whom.
    pub to: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Destination port; the type for ICMP.
    pub port: u16,
}

impl Question {
    const fn flow(self) -> Flow {
        Flow { source: self.from, destination: self.to, protocol: self.protocol, port: self.port }
    }
}

/// What was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name: `rule`, `route`, `neighbour`, `nat64`, `quota`, `fast path`, `npt`, `publish`, `firewall`, `limits`.
    pub name: String,
    /// Whether the conversation passes.
    pub passes: bool,
    /// What there is.
    pub text: String,
    /// What would mend it; empty where it passes.
    pub mend: String,
}

/// What is known of the machine beside configuration and plan.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The plan's ruleset is in force.
    pub loaded: bool,
    /// Packets are forwarded.
    pub forwarding: bool,
    /// Connections that are tracked, and most that can be; absent where that cannot be read.
    pub connections: Option<(u64, u64)>,
    /// Neighbours by link and address, and whether they have answered.
    pub neighbours: Vec<(u32, IpAddr, bool)>,
    /// What the translator has of who begins; absent while it does not run.
    pub translator: Option<Translator>,
}

/// What the translator has of one client.
#[derive(Clone, Debug, Default)]
pub struct Translator {
    /// Its sessions.
    pub sessions: Vec<Session>,
    /// The fast path; absent where there is none.
    pub fast_path: Option<FastPath>,
}

/// The prefix that counts as one client of the translator with an address.
pub fn client(plan: &Plan, address: IpAddr) -> Option<Ipv6Net> {
    let (nat64, IpAddr::V6(address)) = (plan.nat64.as_ref()?, address) else { return None };
    let held = nat64.clients.iter().filter(|held| held.net.contains(&address));
    let each = held.max_by_key(|held| held.net.prefix_len()).map_or(nat64.limits.prefix_length, |held| held.each);
    Some(Ipv6Net::new(address, each).ok()?.trunc())
}

impl Display for Step {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{:<10} {}  {}", self.name, if self.passes { "ok  " } else { "STOP" }, self.text)?;
        if !self.mend.is_empty() {
            write!(out, "\n{:<10}       mend: {}", "", self.mend)?;
        }
        Ok(())
    }
}

/// An address, or a name of the configuration that stands for one: `router`, a VM, `vm1/containers::5`, `lan::5`.
pub fn address(config: &Config, text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if text == "router" {
        let own = config.lans.iter().flat_map(|lan| lan.addresses.first());
        return own.map(|net| IpAddr::V6(net.addr())).next();
    }
    if let Some(vm) = config.vms.iter().find(|vm| vm.name == text) {
        return vm.address.map(IpAddr::V6);
    }
    let (name, suffix) = text.split_once("::")?;
    let suffix: Ipv6Addr = format!("::{suffix}").parse().ok()?;
    let net: Ipv6Net = match name.strip_suffix("/containers") {
        Some(name) => *config.vms.iter().find(|vm| vm.name == name)?.containers.first()?,
        None => *config.lans.iter().find(|lan| lan.name == name)?.addresses.first()?,
    };
    Some(IpAddr::V6(Ipv6Addr::from_bits(net.network().to_bits() | suffix.to_bits())))
}

/// `tcp/443`, `udp/53`, `icmp`, or a protocol's number; nothing for anything else. ICMP stands for its echo requests.
pub fn service(text: &str, to: IpAddr) -> Option<(u8, u16)> {
    match text.split_once('/') {
        Some(("tcp", port)) => Some((TCP, port.parse().ok()?)),
        Some(("udp", port)) => Some((UDP, port.parse().ok()?)),
        Some(_) => None,
        None if text == "icmp" && to.is_ipv4() => Some((ICMP, 8)),
        None if text == "icmp" => Some((ICMPV6, 128)),
        None => Some((text.parse().ok()?, 0)),
    }
}

/// Walks the way of the first packet. What stops it is the last step.
pub fn why(config: &Config, plan: &Plan, live: &Live, question: Question) -> Vec<Step> {
    let mut walk = Walk { config, plan, live, steps: Vec::new() };
    // The last step, where one stops, is in the list already.
    let _ = walk.walk(question);
    walk.steps
}

struct Walk<'a> {
    config: &'a Config,
    plan: &'a Plan,
    live: &'a Live,
    steps: Vec<Step>,
}

/// The walk is over.
struct Stopped;

impl Walk<'_> {
    fn walk(&mut self, mut question: Question) -> Result<(), Stopped> {
        if !self.live.loaded {
            return self.stop("firewall", "the ruleset is not in force", "see `sixgate findings`");
        }
        self.pass("firewall", "the ruleset is in force".to_owned());
        if !self.live.forwarding {
            return self.stop("firewall", "packets are not forwarded", "see `sixgate findings`");
        }
        self.limits(question)?;
        if let Some((inside, outside)) = self.inside(question.to) {
            self.pass("npt", format!("{outside} is {inside} inside"));
            question.to = inside.into();
        }
        if let IpAddr::V6(to) = question.to
            && let Some(v4) = self.plan.nat64.as_ref().and_then(|nat64| embedded(nat64, to))
        {
            self.rule(question)?;
            return self.translated(question, v4);
        }
        if let IpAddr::V4(to) = question.to
            && let Some(client) = self.published(question, to)
        {
            self.pass("publish", format!("{to} leads to {} port {}", client.0, client.1));
            question = Question { to: client.0.into(), port: client.1, ..question };
        } else if let Some((host, port)) = self.plan.admission.published(&question.flow()) {
            self.pass("publish", format!("{} leads to {host} port {port}", question.to));
            question = Question { to: host, port, ..question };
            self.rule(question)?;
        } else {
            self.rule(question)?;
        }
        self.route(question.to)?;
        self.leaves(question)
    }

    /// RFC 6296: the address inside that one outside stands for.
    fn inside(&self, address: IpAddr) -> Option<(Ipv6Addr, Ipv6Addr)> {
        let IpAddr::V6(address) = address else { return None };
        let pairs = self.plan.npt.iter().flat_map(|npt| &npt.pairs);
        let mapping = pairs.filter_map(Pair::inbound).find(|mapping| mapping.from().contains(&address))?;
        Some((mapping.translate(address)?, address))
    }

    /// RFC 6296: what the source becomes where it leaves by the uplink.
    fn leaves(&mut self, question: Question) -> Result<(), Stopped> {
        let (IpAddr::V6(from), Some(npt)) = (question.from, &self.plan.npt) else { return Ok(()) };
        let pair = npt.pairs.iter().find(|pair| pair.inside.contains(&from));
        let (Some(pair), true) = (pair, self.link_towards(question.to) == Some(npt.uplink.0)) else { return Ok(()) };
        match pair.outbound().and_then(|mapping| mapping.translate(from)) {
            Some(outside) => self.pass("npt", format!("{from} is {outside} outside")),
            None => {
                let text = format!("nothing stands for {from} outside");
                let mend = "see that a prefix is delegated to the uplink and that `subnet` of [[npt]] fits into it";
                return self.stop("npt", &text, mend);
            }
        }
        Ok(())
    }

    /// Whether there is room for one connection more, and how many a host may have.
    fn limits(&mut self, question: Question) -> Result<(), Stopped> {
        if let Some((held, most)) = self.live.connections {
            if held >= most {
                return self.stop(
                    "limits",
                    &format!("the table of connections is full: {held} of {most}"),
                    "raise entries in [connections]",
                );
            }
            self.pass("limits", format!("{held} of {most} connections are tracked"));
        }
        let limits = self.config.connections;
        let begins = |net: IpAddr| self.plan.admission.is_inside(net);
        let told = if begins(question.from) {
            limits.per_host.map(|most| format!("a host has {most} connections at most"))
        } else {
            let at_once = limits.per_source.map(|most| format!("{most} connections at most"));
            let new = limits.new_per_source.map(|rate| format!("{rate} new ones a second at most"));
            let both: Vec<String> = at_once.into_iter().chain(new).collect();
            (!both.is_empty()).then(|| format!("a source outside has {}", both.join(" and ")))
        };
        if let Some(told) = told {
            self.pass("limits", told);
        }
        Ok(())
    }

    fn rule(&mut self, question: Question) -> Result<(), Stopped> {
        let Question { from, to, protocol, port } = question;
        match self.plan.admission.judge(&Flow { source: from, destination: to, protocol, port }) {
            Judgement::Admitted(by) => {
                self.pass("rule", format!("admitted: {by}"));
                Ok(())
            }
            Judgement::Refused(reason) => {
                let mend = if reason == NOBODYS {
                    format!("name {from} in the `from` of an entry, or set bogons = false in [wan]")
                } else if reason.contains("outbound") {
                    format!("[[outbound]] from = \"{}\" to = \"{to}\"", self.name(from))
                } else if reason.contains("policy") {
                    "set between = \"by-allow\" or \"allowed\" in [policy]".to_owned()
                } else {
                    let key = match protocol {
                        TCP => format!("tcp = [{port}]"),
                        UDP => format!("udp = [{port}]"),
                        ICMP | ICMPV6 => "icmp = true".to_owned(),
                        other => format!("protocol = [{other}]"),
                    };
                    format!("[[allow]] to = \"{}\" from = \"{from}\" {key}", self.name(to))
                };
                self.stop("rule", &format!("refused: {reason}"), &mend)
            }
            Judgement::Foreign => self.stop(
                "rule",
                &format!("neither {from} nor {to} is of this network"),
                "name an address that is routed through this router",
            ),
        }
    }

    fn translated(&mut self, question: Question, v4: Ipv4Addr) -> Result<(), Stopped> {
        let Some(nat64) = &self.plan.nat64 else { return Err(Stopped) };
        match nat64.obstacle {
            Some(Obstacle::NoIpv4Uplink) => {
                return self.stop("nat64", "translation is off: the uplink has no IPv4", "see `sixgate findings`");
            }
            Some(Obstacle::NoDevice) => {
                return self.stop("nat64", "translation is off: there is no TUN device", "see `sixgate findings`");
            }
            None => {}
        }
        let exempt = nat64.translate_non_global.iter().any(|net| net.contains(&v4));
        if !is_global_v4(v4) && !exempt {
            return self.stop(
                "nat64",
                &format!("{v4} is not global and is not translated (RFC 6052 section 3.1)"),
                "name its prefix in translate_non_global of [nat64], with a prefix other than 64:ff9b::/96",
            );
        }
        self.pass("nat64", format!("translated to {v4}"));
        self.quota(question, v4)?;
        self.route(v4.into())?;
        self.fast_path();
        Ok(())
    }

    /// Whether the client may have one session more; it needs none where it has that one.
    fn quota(&mut self, question: Question, v4: Ipv4Addr) -> Result<(), Stopped> {
        let (Some(held), Some(client)) = (&self.live.translator, client(self.plan, question.from)) else {
            return Ok(());
        };
        let is_meant = |session: &&Session| {
            let mut numbers = [("tcp", TCP), ("udp", UDP), ("icmp", ICMPV6)].into_iter();
            let number = numbers.find(|(name, _)| *name == session.protocol).map(|(_, number)| number);
            let port = if question.protocol == ICMPV6 { session.server.port() } else { question.port };
            IpAddr::V6(*session.client.ip()) == question.from
                && number == Some(question.protocol)
                && (*session.server.ip(), session.server.port()) == (v4, port)
        };
        let most = self.plan.nat64.as_ref().map_or(0, |nat64| nat64.limits.sessions);
        let text = format!("{client} has {} of {most} sessions", held.sessions.len());
        match held.sessions.iter().find(is_meant) {
            Some(session) => {
                let state = session.state.as_ref().map_or_else(String::new, |state| format!(", {state}"));
                let text = format!("{text}; one with {} is there{state}, idle for {} s", session.server, session.idle);
                self.pass("quota", text);
            }
            None if held.sessions.len() as u64 >= u64::from(most) => {
                return self.stop("quota", &text, "see `sixgate sessions`, or raise sessions in [nat64.limits]");
            }
            None => self.pass("quota", text),
        }
        Ok(())
    }

    /// What becomes of packets once the session is there.
    fn fast_path(&mut self) {
        let Some(held) = &self.live.translator else { return };
        let text = match &held.fast_path {
            Some(FastPath { hook: Some(hook), sessions, capacity, .. }) if sessions < capacity => {
                format!("in the kernel by {hook} once the session stands; {sessions} of {capacity} sessions are there")
            }
            Some(FastPath { hook: Some(_), capacity, .. }) => {
                format!("full with {capacity} sessions: packets pass the daemon")
            }
            Some(_) | None => "there is none: packets pass the daemon".to_owned(),
        };
        self.pass("fast path", text);
    }

    fn published(&self, question: Question, to: Ipv4Addr) -> Option<(Ipv6Addr, u16)> {
        let nat64 = self.plan.nat64.as_ref().filter(|nat64| nat64.obstacle.is_none())?;
        let protocol = match question.protocol {
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            _ => return None,
        };
        nat64.static_bindings.iter().find_map(|binding| {
            let offset = question.port.checked_sub(binding.mapped.port).filter(|offset| *offset < binding.ports)?;
            let meant = binding.protocol == protocol && binding.mapped.address == to;
            meant.then(|| (binding.client.address, binding.client.port + offset))
        })
    }

    /// The route to an address, by the longest prefix.
    fn best(&self, to: IpAddr) -> Option<(IpNet, NextHop)> {
        let on_link = self.plan.network.addresses.iter().filter(|held| held.net.contains(&to));
        let on_link = on_link.map(|held| (held.net.trunc(), 0, NextHop::Link { link: held.link }));
        let routes =
            self.plan.network.routes.iter().filter(|route| route.table == MAIN_TABLE && route.to.contains(&to));
        let routes = routes.map(|route| (route.to, route.metric, route.next.clone()));
        let best = on_link.chain(routes).max_by_key(|(net, metric, _)| (net.prefix_len(), u32::MAX - metric));
        best.map(|(net, _, next)| (net, next))
    }

    fn link_towards(&self, to: IpAddr) -> Option<u32> {
        match self.best(to)?.1 {
            NextHop::Unreachable => None,
            NextHop::Link { link } | NextHop::Gateway { link, .. } => Some(link),
        }
    }

    fn route(&mut self, to: IpAddr) -> Result<(), Stopped> {
        let own = self.plan.network.addresses.iter().any(|held| held.net.addr() == to);
        if own {
            self.pass("route", format!("{to} is the router itself"));
            return Ok(());
        }
        let Some((net, next)) = self.best(to) else {
            return self.stop("route", &format!("there is no route to {to}"), "add a gateway to [wan], or a [[route]]");
        };
        match next {
            NextHop::Unreachable => {
                let mend = "mend the interface of the lan or vm that has it, or correct [[route]]";
                self.stop("route", &format!("{net} is unreachable"), mend)
            }
            NextHop::Link { link } => {
                self.pass("route", format!("{net}, on its link"));
                self.neighbour(link, to)
            }
            NextHop::Gateway { link, via, .. } => {
                self.pass("route", format!("{net} via {via}"));
                self.neighbour(link, via)
            }
        }
    }

    fn neighbour(&mut self, link: u32, hop: IpAddr) -> Result<(), Stopped> {
        let held = self.live.neighbours.iter().find(|(on, address, _)| (*on, *address) == (link, hop));
        match held {
            Some((.., true)) => self.pass("neighbour", format!("{hop} answers")),
            // One that nobody has asked for yet says nothing.
            None => self.pass("neighbour", format!("{hop} has not been asked for lately")),
            Some((.., false)) => {
                let mend = "see whether it is up, on that link, and has that address";
                return self.stop("neighbour", &format!("{hop} does not answer on its link"), mend);
            }
        }
        Ok(())
    }

    /// A name of the configuration for an address inside.
    fn name(&self, address: IpAddr) -> String {
        let IpAddr::V6(v6) = address else { return address.to_string() };
        if self.plan.network.addresses.iter().any(|held| held.net.addr() == address) {
            return "router".to_owned();
        }
        let suffix = |net: &Ipv6Net| Ipv6Addr::from_bits(v6.to_bits() & !net.netmask().to_bits());
        for vm in &self.config.vms {
            if vm.address == Some(v6) {
                return vm.name.clone();
            }
            if let Some(net) = vm.containers.first().filter(|net| net.contains(&v6)) {
                return format!("{}/containers{}", vm.name, suffix(net));
            }
        }
        IpNet::from(address).addr().to_string()
    }

    fn pass(&mut self, name: &str, text: String) {
        self.steps.push(Step { name: name.to_owned(), passes: true, text, mend: String::new() });
    }

    fn stop(&mut self, name: &str, text: &str, mend: &str) -> Result<(), Stopped> {
        let (name, text, mend) = (name.to_owned(), text.to_owned(), mend.to_owned());
        self.steps.push(Step { name, passes: false, text, mend });
        Err(Stopped)
    }
}

fn embedded(nat64: &Nat64Plan, address: Ipv6Addr) -> Option<Ipv4Addr> {
    nat64.prefixes().find_map(|net| Pref64::new(net.addr(), net.prefix_len()).ok()?.extract(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{plan, preview_facts};

    const FILE: &str = r#"
        [wan]
        interface = "w"
        ipv4 = { address = "203.0.113.2/24", gateway = "203.0.113.1" }
        ipv6 = { address = "2001:db8:1:1::2/64", gateway = "fe80::1" }
        [[lan]]
        name = "vms"
        interface = "l"
        addresses = ["2001:db8:1:2::1/64"]
        [[vm]]
        name = "vm1"
        lan = "vms"
        address = "2001:db8:1:2::11"
        containers = "2001:db8:1:2:21::/80"
        [nat64]
        prefix = "2001:db8:64::/96"
        [[allow]]
        to = "vm1/containers::5"
        tcp = 443
        [[route]]
        to = "2001:db8:dead::/48"
        via = "unreachable"
    "#;

    fn asked(from: &str, to: &str, about: &str, live: &Live) -> Vec<Step> {
        let config = crate::config::parse(FILE, "test").unwrap_or_else(|errors| panic!("{errors}"));
        let plan = plan(&config, &preview_facts(&config));
        let (from, to) = (address(&config, from).unwrap(), address(&config, to).unwrap());
        let (protocol, port) = service(about, to).unwrap();
        why(&config, &plan, live, Question { from, to, protocol, port })
    }

    fn live() -> Live {
        Live { loaded: true, forwarding: true, ..Live::default() }
    }

    fn end(steps: &[Step]) -> (String, bool) {
        let last = steps.last().unwrap();
        (last.name.clone(), last.passes)
    }

    #[test]
    fn a_client_with_all_its_sessions_gets_no_other_one() {
        let file = FILE.replace("[[allow]]", "[nat64.limits]\nsessions = 16\n[[allow]]");
        let config = crate::config::parse(&file, "test").unwrap_or_else(|errors| panic!("{errors}"));
        let plan = plan(&config, &preview_facts(&config));
        let from = address(&config, "vm1/containers::5").unwrap();
        assert_eq!(client(&plan, from).unwrap().to_string(), "2001:db8:1:2:21::5/128", "each container is one");
        let session = |port| Session {
            protocol: "tcp".to_owned(),
            state: Some("ESTABLISHED".to_owned()),
            client: "[2001:db8:1:2:21::5]:4000".parse().unwrap(),
            mapped: "203.0.113.2:41000".parse().unwrap(),
            server: core::net::SocketAddrV4::new(Ipv4Addr::new(8, 8, 8, 8), port),
            idle: 3,
            v6_to_v4: Default::default(),
            v4_to_v6: Default::default(),
        };
        let fast_path = FastPath { hook: Some("tcx".to_owned()), capacity: 100, sessions: 16, ..FastPath::default() };
        let asked = |count: u16, port| {
            let sessions = (0..count).map(|offset| session(1000 + offset)).collect();
            let translator = Some(Translator { sessions, fast_path: Some(fast_path.clone()) });
            let to = "2001:db8:64::808:808".parse().unwrap();
            why(&config, &plan, &Live { translator, ..live() }, Question { from, to, protocol: TCP, port })
        };
        assert_eq!(end(&asked(15, 443)), ("fast path".to_owned(), true));
        let full = asked(16, 443);
        assert_eq!(end(&full), ("quota".to_owned(), false));
        assert!(full.last().unwrap().text.contains("16 of 16 sessions"), "{full:?}");
        let held = asked(16, 1003);
        assert_eq!(end(&held), ("fast path".to_owned(), true), "it has that one");
        assert!(held.iter().any(|step| step.text.contains("8.8.8.8:1003 is there, ESTABLISHED")), "{held:?}");
    }

    #[test]
    fn the_first_thing_that_stops_a_conversation_is_named() {
        const OUTSIDE: &str = "2001:db8:ffff::1";
        for (from, to, about, name, passes) in [
            (OUTSIDE, "vm1/containers::5", "tcp/443", "neighbour", true),
            (OUTSIDE, "vm1/containers::5", "tcp/80", "rule", false),
            (OUTSIDE, "vm1/containers::6", "tcp/443", "rule", false),
            (OUTSIDE, "2001:db8:eeee::1", "tcp/443", "rule", false),
            ("vm1", "2001:db8:dead::1", "udp/53", "route", false),
            ("vm1", OUTSIDE, "udp/53", "neighbour", true),
            ("vm1", "2001:db8:64::203.0.113.9", "tcp/80", "nat64", false),
            ("vm1", "2001:db8:64::9.9.9.9", "tcp/80", "neighbour", true),
            (OUTSIDE, "router", "icmp", "route", true),
        ] {
            let steps = asked(from, to, about, &live());
            assert_eq!(end(&steps), (name.to_owned(), passes), "{from} to {to} {about}: {steps:?}");
            assert_eq!(steps.iter().filter(|step| !step.passes).count(), usize::from(!passes));
        }
    }

    #[test]
    fn the_mend_of_a_refusal_is_an_entry_that_admits_it() {
        let steps = asked("2001:db8:ffff::1", "vm1/containers::7", "udp/53", &live());
        let mend = &steps.last().unwrap().mend;
        assert_eq!(mend, "[[allow]] to = \"vm1/containers::7\" from = \"2001:db8:ffff::1\" udp = [53]");
    }

    #[test]
    fn a_closed_router_and_a_silent_neighbour_are_said_to_be_so() {
        let (from, to) = ("2001:db8:ffff::1", "vm1/containers::5");
        assert_eq!(end(&asked(from, to, "tcp/443", &Live::default())), ("firewall".to_owned(), false));
        let vm1 = "2001:db8:1:2::11".parse().unwrap();
        for (answers, link) in [(false, 3), (true, 3)] {
            let live = Live { neighbours: vec![(link, vm1, answers)], ..live() };
            assert_eq!(end(&asked(from, to, "tcp/443", &live)), ("neighbour".to_owned(), answers));
        }
    }

    #[test]
    fn addresses_outside_are_explained_by_those_inside_and_the_other_way_round() {
        const NPT: &str = r#"
            [[npt]]
            inside = "fd00:1:2:3:21::/80"
            outside = "2001:db8:1:2:31::/80"
        "#;
        const OUTSIDE: &str = "2001:db8:ffff::1";
        let file = FILE.replace("2001:db8:1:2:21::/80", "fd00:1:2:3:21::/80") + NPT;
        let config = crate::config::parse(&file, "test").unwrap_or_else(|errors| panic!("{errors}"));
        let plan = plan(&config, &preview_facts(&config));
        let container: Ipv6Addr = "fd00:1:2:3:21::5".parse().unwrap();
        let outside = plan.npt.as_ref().unwrap().pairs[0].outbound().unwrap().translate(container).unwrap();
        let told = |from: IpAddr, to: IpAddr| {
            let question = Question { from, to, protocol: TCP, port: 443 };
            why(&config, &plan, &live(), question).into_iter().map(|step| step.text).collect::<Vec<_>>()
        };
        let inward = told(OUTSIDE.parse().unwrap(), outside.into());
        assert!(inward.contains(&format!("{outside} is {container} inside")), "{inward:?}");
        assert!(inward.iter().any(|text| text.starts_with("fd00:1:2:3:21::/80 via")), "{inward:?}");
        let outward = told(container.into(), OUTSIDE.parse().unwrap());
        assert_eq!(outward.last().unwrap(), &format!("{container} is {outside} outside"));
        let within = told(container.into(), "2001:db8:1:2::11".parse().unwrap());
        assert!(within.iter().all(|text| !text.contains("outside")), "{within:?}");
    }

    #[test]
    fn nonsense_is_no_service() {
        let to = "::1".parse().unwrap();
        for text in ["", "tcp", "tcp/", "tcp/70000", "sctp/3", "icmp/3", "tcp/443/1", "300"] {
            assert_eq!(service(text, to), None, "{text}");
        }
        assert_eq!(service("50", to), Some((50, 0)));
    }
}
