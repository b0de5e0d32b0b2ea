//! A ruleset in the syntax of `nft -f`: for people, for golden tests, and to compare with what the kernel holds.
use core::fmt::{self, Display, Formatter};
use core::net::IpAddr;
use core::ops::RangeInclusive;

use super::ruleset::{
    Chain, ConntrackState, HeaderBits, Holds, Hook, HookKind, HookPoint, Match, Meter, MeterKey, MeterLimit, NamedSet,
    Part, Policy, Rule, Ruleset, SetField, Statement,
};
use super::{LOG_BYTES, LOG_GROUP, METER_SIZE};
use crate::plan::Family;

impl Display for Ruleset {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "table inet {} {{", self.table)?;
        for set in &self.timed {
            let (size, flags) = match self.remembers(set) {
                true => (format!("\t\tsize {METER_SIZE}\n"), "dynamic,timeout"),
                false => (String::new(), "timeout"),
            };
            writeln!(out, "\tset {set} {{\n\t\ttype ipv6_addr\n{size}\t\tflags {flags}\n\t\ttimeout 1d\n\t}}\n")?;
        }
        for set in &self.sets {
            writeln!(out, "{set}")?;
        }
        for Meter { set, key, limit } in self.meters() {
            let kind = match key {
                MeterKey::Hardware => "ether_addr",
                MeterKey::Source6 => "ipv6_addr",
                MeterKey::Source4 => "ipv4_addr",
            };
            let flags = match limit {
                MeterLimit::Connections(_) => "dynamic",
                MeterLimit::PerSecond { .. } => "dynamic,timeout\n\t\ttimeout 1m",
            };
            writeln!(out, "\tset {set} {{\n\t\ttype {kind}\n\t\tsize {METER_SIZE}\n\t\tflags {flags}\n\t}}\n")?;
        }
        for (index, chain) in self.chains.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write!(out, "{chain}")?;
        }
        writeln!(out, "}}")
    }
}

impl Display for NamedSet {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let types: Vec<&str> = self
            .fields
            .iter()
            .map(|field| match field {
                SetField::Source6 | SetField::Destination6 => "ipv6_addr",
                SetField::TcpPort | SetField::UdpPort => "inet_service",
                SetField::Protocol => "inet_proto",
            })
            .collect();
        let flags = match self.holds {
            Holds::Single => "",
            Holds::Ranges => "\t\tflags interval\n",
        };
        writeln!(out, "\tset {} {{\n\t\ttype {}\n{flags}\t\tcounter", self.name, types.join(" . "))?;
        if !self.elements.is_empty() {
            writeln!(out, "\t\telements = {{")?;
            for element in &self.elements {
                let parts: Vec<String> = element
                    .parts
                    .iter()
                    .map(|part| match part {
                        Part::Net(net) if net.prefix_len() == 128 => net.addr().to_string(),
                        Part::Net(net) => net.to_string(),
                        Part::Ports(ports) => range(ports),
                        Part::Protocol(protocol) => protocol.to_string(),
                    })
                    .collect();
                writeln!(out, "\t\t\t{} comment \"{}\",", parts.join(" . "), element.comment)?;
            }
            writeln!(out, "\t\t}}")?;
        }
        writeln!(out, "\t}}")
    }
}

fn field_name(field: SetField) -> &'static str {
    match field {
        SetField::Source6 => "ip6 saddr",
        SetField::Destination6 => "ip6 daddr",
        SetField::TcpPort => "tcp dport",
        SetField::UdpPort => "udp dport",
        SetField::Protocol => "meta l4proto",
    }
}

impl Display for Chain {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "\tchain {} {{", self.name)?;
        if let Some(hook) = &self.hook {
            writeln!(out, "\t\t{hook}")?;
        }
        for rule in &self.rules {
            writeln!(out, "\t\t{rule}")?;
        }
        writeln!(out, "\t}}")
    }
}

impl Display for Hook {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let point = match self.point {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Forward => "forward",
            HookPoint::Output => "output",
            HookPoint::Postrouting => "postrouting",
        };
        let policy = match self.policy {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        };
        let kind = match self.kind {
            HookKind::Filter => "filter",
            HookKind::Nat => "nat",
        };
        write!(out, "type {kind} hook {point} priority {}; policy {policy};", self.priority)
    }
}

impl Display for Rule {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for condition in &self.matches {
            write!(out, "{condition} ")?;
        }
        for (index, statement) in self.statements.iter().enumerate() {
            write!(out, "{}{statement}", if index > 0 { " " } else { "" })?;
        }
        if !self.comment.is_empty() {
            write!(out, " comment \"{}\"", self.comment)?;
        }
        Ok(())
    }
}

impl Display for Match {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::InputInterface(names) => {
                write!(out, "iifname {}", set(names.iter().map(|name| format!("\"{name}\""))))
            }
            Self::OutputInterface(names) => {
                write!(out, "oifname {}", set(names.iter().map(|name| format!("\"{name}\""))))
            }
            Self::Family(Family::V4) => out.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => out.write_str("meta nfproto ipv6"),
            Self::Source4(nets) => write!(out, "ip saddr {}", set(nets)),
            Self::Destination4(nets) => write!(out, "ip daddr {}", set(nets)),
            Self::Source6(nets) => write!(out, "ip6 saddr {}", set(nets)),
            Self::Destination6(nets) => write!(out, "ip6 daddr {}", set(nets)),
            Self::Protocol(protocols) => write!(out, "meta l4proto {}", set(protocols)),
            Self::DestinationPort(ports) => write!(out, "th dport {}", set(ports.iter().map(range))),
            Self::SourcePort(ports) => write!(out, "th sport {}", set(ports.iter().map(range))),
            Self::InTimedSet(set) => write!(out, "ip6 daddr @{set}"),
            Self::IcmpType(types) => write!(out, "icmp type {}", set(types)),
            Self::Icmpv6Type(types) => write!(out, "icmpv6 type {}", set(types)),
            Self::HopLimit(limit) => write!(out, "ip6 hoplimit {limit}"),
            Self::HeaderBits(bits) => write!(out, "{bits}"),
            Self::OpensNothing => out.write_str("tcp flags & (syn | rst | ack) != syn"),
            Self::SourceRouted => out.write_str("ip6 nexthdr { 0, 43, 60 } rt type 0"),
            Self::ConntrackState(states) => {
                write!(out, "ct state {}", set(states.iter().map(|state| state_name(*state))))
            }
            Self::Mark { value, mask } => write!(out, "meta mark & {mask:#010x} == {value:#010x}"),
            Self::InSet { set, fields } => {
                let fields: Vec<&str> = fields.iter().map(|field| field_name(*field)).collect();
                write!(out, "{} @{set}", fields.join(" . "))
            }
            Self::ConnectionMark { value, mask } => write!(out, "ct mark & {mask:#010x} == {value:#010x}"),
            Self::ConnectionsUnder(most) => write!(out, "ct count {most}"),
            Self::Over(meter) => write!(out, "{meter}"),
            Self::Before(seconds) => write!(out, "meta time < {}", seconds * 1_000_000_000),
            Self::Translated => out.write_str("ct status dnat"),
            Self::DestinationIsLocal => out.write_str("fib daddr type local"),
            Self::RateUnder { per_second, burst } => {
                write!(out, "limit rate {per_second}/second burst {burst} packets")
            }
        }
    }
}

impl Display for HeaderBits {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { offset, octets, mask, value, is_equal } = *self;
        write!(out, "@nh,{},{}", 8 * u32::from(offset), 8 * u32::from(octets))?;
        let digits = 2 + 2 * usize::from(octets);
        if !self.is_whole() {
            write!(out, " & {mask:#0digits$x}")?;
        }
        write!(out, " {} {value:#0digits$x}", if is_equal { "==" } else { "!=" })
    }
}

impl Display for Meter {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let key = match self.key {
            MeterKey::Hardware => "ether saddr",
            MeterKey::Source6 => "ip6 saddr & ffff:ffff:ffff:ffff::",
            MeterKey::Source4 => "ip saddr",
        };
        match self.limit {
            MeterLimit::Connections(most) => write!(out, "add @{} {{ {key} ct count over {most} }}", self.set),
            MeterLimit::PerSecond { rate, burst } => {
                write!(out, "update @{} {{ {key} limit rate over {rate}/second burst {burst} packets }}", self.set)
            }
        }
    }
}

impl Display for Statement {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter => out.write_str("counter"),
            Self::SetMark { value, mask } => {
                write!(out, "meta mark set meta mark & {:#010x} | {value:#010x}", !mask)
            }
            Self::Notrack => out.write_str("notrack"),
            Self::Jump(chain) => write!(out, "jump {chain}"),
            Self::Goto(chain) => write!(out, "goto {chain}"),
            Self::Log(prefix) => write!(out, "log prefix \"{prefix}\" group {LOG_GROUP} snaplen {LOG_BYTES}"),
            Self::Masquerade(None) => out.write_str("masquerade"),
            Self::Masquerade(Some(ports)) => write!(out, "masquerade to :{}", range(ports)),
            Self::Destination(IpAddr::V4(host), None) => write!(out, "dnat ip to {host}"),
            Self::Destination(IpAddr::V4(host), Some(port)) => write!(out, "dnat ip to {host}:{port}"),
            Self::Destination(IpAddr::V6(host), None) => write!(out, "dnat ip6 to {host}"),
            Self::Destination(IpAddr::V6(host), Some(port)) => write!(out, "dnat ip6 to [{host}]:{port}"),
            Self::Accept => out.write_str("accept"),
            Self::Remember(set) => write!(out, "update @{set} {{ ip6 saddr }}"),
            Self::Drop => out.write_str("drop"),
            Self::Reject => out.write_str("reject with icmpx admin-prohibited"),
            Self::Reset => out.write_str("reject with tcp reset"),
            Self::Return => out.write_str("return"),
        }
    }
}

/// One element as it is, several in braces.
fn set<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.as_slice() {
        [one] => one.clone(),
        several => format!("{{ {} }}", several.join(", ")),
    }
}

fn range(ports: &RangeInclusive<u16>) -> String {
    if ports.start() == ports.end() { ports.start().to_string() } else { format!("{}-{}", ports.start(), ports.end()) }
}

const fn state_name(state: ConntrackState) -> &'static str {
    match state {
        ConntrackState::Invalid => "invalid",
        ConntrackState::Established => "established",
        ConntrackState::Related => "related",
        ConntrackState::New => "new",
        ConntrackState::Untracked => "untracked",
    }
}
