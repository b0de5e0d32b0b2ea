//! The plan as text for people: `sixgate check` prints it, and the golden tests compare it.
use core::fmt::{self, Write};
use core::net::SocketAddr;

use super::{
    Dns64Plan, Family, NAT64_TABLE, Nat64Plan, NetworkPlan, NextHop, Obstacle, Plan, RaPlan, RoutePlan, Stage,
};
use crate::facts::Facts;
use crate::finding::Severity;
use crate::nat64::event::Wanted;
use crate::ndp_proxy::Behind;
use sixgate_wire::ndp::Preference;

impl Plan {
    /// The plan without the ruleset as text; `facts` give the links their names.
    pub fn render(&self, facts: &Facts) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = self.write(&mut out, facts);
        out
    }

    fn write(&self, out: &mut String, facts: &Facts) -> fmt::Result {
        findings(self, out)?;
        network(&self.network, out, facts)?;
        if let Some(proxy) = &self.ndp_proxy {
            writeln!(out, "answer on {} as {}", proxy.interface, proxy.mac)?;
            for (net, behind) in proxy.prefixes.iter().filter(|(_, behind)| *behind != Behind::Uplink) {
                let how = match behind {
                    Behind::Link(_) => ", where somebody is there",
                    Behind::Routed | Behind::Router | Behind::Uplink => "",
                };
                writeln!(out, "  for {net}{how}")?;
            }
        }
        for pair in self.npt.iter().flat_map(|npt| &npt.pairs) {
            match pair.outside {
                Some(outside) => writeln!(out, "npt {} is {outside} outside", pair.inside)?,
                None => writeln!(out, "npt {} is nothing outside", pair.inside)?,
            }
        }
        if let Some(flows) = &self.flows {
            let links: Vec<_> = flows.links.iter().map(|(_, name)| name.as_str()).collect();
            writeln!(out, "established flows pass no rule between {}", links.join(", "))?;
        }
        for ra in &self.ra {
            advertisement(ra, out)?;
        }
        for plan in &self.stateless {
            writeln!(
                out,
                "answer DHCPv6 on {}: resolvers {:?}, time servers {:?}",
                plan.interface, plan.resolvers, plan.time_servers
            )?;
        }
        resolver(&self.dns64, out, facts)?;
        match &self.nat64 {
            Some(nat64) => translator(nat64, out)?,
            None => writeln!(out, "nat64 off")?,
        }
        for address in &self.metrics {
            writeln!(out, "metrics at http://{address}/metrics")?;
        }
        for address in self.vm_prefixes.iter().flat_map(|plan| &plan.listen) {
            writeln!(out, "vms learn their prefixes at http://{address}/v1/containers")?;
        }
        for record in &self.ddns {
            let address = record.address.map_or_else(|| "nothing yet".to_owned(), |address| address.to_string());
            writeln!(out, "name {} is {address} at {}", record.name, record.how.server())?;
        }
        let rules: usize = self.firewall.chains.iter().map(|chain| chain.rules.len()).sum();
        writeln!(out, "firewall: table inet {}, {rules} rules", self.firewall.table)
    }
}

fn findings(plan: &Plan, out: &mut String) -> fmt::Result {
    for finding in &plan.findings {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        writeln!(out, "{severity}[{}] {}: {}", finding.code, finding.subject, finding.text)?;
        writeln!(out, "  mend: {}", finding.mend)?;
    }
    Ok(())
}

fn name(facts: &Facts, index: u32) -> String {
    facts.links.iter().find(|link| link.index == index).map_or_else(|| format!("#{index}"), |link| link.name.clone())
}

fn network(network: &NetworkPlan, out: &mut String, facts: &Facts) -> fmt::Result {
    for link in &network.links {
        writeln!(out, "link {}", link.name)?;
        if let Some(mtu) = link.mtu {
            writeln!(out, "  mtu {mtu}")?;
        }
        if let Some(mac) = link.mac {
            writeln!(out, "  hardware address {mac}")?;
        }
        for address in network.addresses.iter().filter(|address| address.link == link.index) {
            writeln!(out, "  address {}{}", address.net, if address.deprecated { " deprecated" } else { "" })?;
        }
    }
    for route in &network.routes {
        writeln!(out, "{}", route_line(route, facts))?;
    }
    for rule in &network.rules {
        let family = match rule.family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        let mark = rule.fwmark.map_or_else(String::new, |(mark, mask)| format!(" mark {mark:#x}/{mask:#x}"));
        writeln!(out, "rule {family} {}{mark} table {}", rule.preference, rule.table)?;
    }
    for sysctl in &network.sysctls {
        let stage = match sysctl.stage {
            Stage::Early => "",
            Stage::Forwarding => " (after the firewall)",
        };
        writeln!(out, "sysctl {} = {}{stage}", sysctl.path, sysctl.value)?;
    }
    Ok(())
}

fn route_line(route: &RoutePlan, facts: &Facts) -> String {
    let next = match &route.next {
        NextHop::Gateway { link, via, onlink } => {
            format!("via {via} on {}{}", name(facts, *link), if *onlink { " onlink" } else { "" })
        }
        NextHop::Link { link } => format!("on {}", name(facts, *link)),
        NextHop::Unreachable => "unreachable".to_owned(),
    };
    let table = if route.table == NAT64_TABLE { format!(" table {NAT64_TABLE}") } else { String::new() };
    let source = route.source.map_or_else(String::new, |source| format!(" src {source}"));
    let mtu = route.mtu.map_or_else(String::new, |mtu| format!(" mtu {mtu}"));
    format!("route {} {next} metric {}{table}{source}{mtu}", route.to, route.metric)
}

fn preference(preference: Preference) -> &'static str {
    match preference {
        Preference::High => "high",
        Preference::Medium => "medium",
        Preference::Low => "low",
    }
}

fn advertisement(ra: &RaPlan, out: &mut String) -> fmt::Result {
    let says = &ra.advertisement;
    let timing = &says.variables;
    writeln!(out, "advertise on {} ({}) from {}", ra.interface, ra.lan, ra.source)?;
    writeln!(
        out,
        "  every {} to {} s, router lifetime {} s, hop limit {}, M {} O {}",
        timing.min_rtr_adv_interval.as_secs_f32(),
        timing.max_rtr_adv_interval.as_secs_f32(),
        timing.adv_default_lifetime.as_secs(),
        timing.adv_cur_hop_limit,
        u8::from(timing.adv_managed_flag),
        u8::from(timing.adv_other_config_flag),
    )?;
    for prefix in &says.prefixes {
        writeln!(
            out,
            "  prefix {} L {} A {} valid {} s preferred {} s",
            prefix.prefix,
            u8::from(prefix.on_link),
            u8::from(prefix.autonomous),
            prefix.valid.as_secs(),
            prefix.preferred.as_secs(),
        )?;
    }
    for route in &timing.routes {
        writeln!(out, "  route {} preference {}", route.prefix, preference(route.preference))?;
    }
    for resolver in &says.rdnss {
        writeln!(out, "  rdnss {resolver}")?;
    }
    for resolver in &timing.encrypted_dns {
        writeln!(out, "  encrypted dns {}", resolver.name)?;
    }
    if let Some(uri) = &timing.captive_portal {
        writeln!(out, "  captive portal {uri}")?;
    }
    if timing.default_router_preference != Preference::Medium {
        writeln!(out, "  router preference {}", preference(timing.default_router_preference))?;
    }
    if timing.unicast_only {
        writeln!(out, "  to hosts that have solicited alone")?;
    }
    for domain in &says.dnssl {
        writeln!(out, "  dnssl {domain}")?;
    }
    if let Some((pref64, usable)) = says.pref64 {
        writeln!(out, "  pref64 {pref64}{}", if usable { "" } else { " with lifetime 0" })?;
    }
    if let Some(mtu) = says.mtu {
        writeln!(out, "  mtu {mtu}")?;
    }
    if let Some(mac) = says.source_link_layer {
        writeln!(out, "  source link-layer address {mac}")?;
    }
    Ok(())
}

fn resolver(dns64: &Dns64Plan, out: &mut String, facts: &Facts) -> fmt::Result {
    if dns64.upstream.is_empty() && dns64.listen.is_empty() {
        return writeln!(out, "dns64 off");
    }
    writeln!(out, "dns64")?;
    for listen in &dns64.listen {
        match listen {
            SocketAddr::V6(address) if address.scope_id() != 0 => {
                writeln!(out, "  listen [{}%{}]:{}", address.ip(), name(facts, address.scope_id()), address.port())?;
            }
            SocketAddr::V6(_) | SocketAddr::V4(_) => writeln!(out, "  listen {listen}")?,
        }
    }
    if !dns64.listen_tls.is_empty() {
        writeln!(out, "  over tls as well")?;
    }
    for upstream in &dns64.upstream {
        match dns64.encrypted(*upstream) {
            Some(encrypted) => writeln!(out, "  upstream {encrypted}")?,
            None => writeln!(out, "  upstream {upstream}")?,
        }
    }
    match dns64.synthesis {
        Some(prefix) => writeln!(out, "  synthesis {prefix}")?,
        None => writeln!(out, "  synthesis off")?,
    }
    for clients in &dns64.untranslated {
        writeln!(out, "  not for {clients}")?;
    }
    for (domain, upstream) in &dns64.forward {
        let upstream = upstream.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        writeln!(out, "  {domain} from {upstream}")?;
    }
    if !dns64.validate {
        writeln!(out, "  without validation")?;
    }
    for (addresses, prefix) in &dns64.prefixes {
        writeln!(out, "  {addresses} by {prefix}")?;
    }
    for (kind, domains) in [("never", &dns64.never), ("always", &dns64.always)] {
        for domain in domains {
            writeln!(out, "  synthesis {kind} for {domain}")?;
        }
    }
    for (host, addresses) in &dns64.local.hosts {
        let addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        writeln!(out, "  {host} is {addresses}")?;
    }
    Ok(())
}

fn translator(nat64: &Nat64Plan, out: &mut String) -> fmt::Result {
    writeln!(out, "nat64 {}", nat64.pref64)?;
    for pref64 in &nat64.further_pref64 {
        writeln!(out, "  also {pref64}")?;
    }
    match nat64.obstacle {
        None => {}
        Some(Obstacle::NoIpv4Uplink) => writeln!(out, "  off: no IPv4 uplink")?,
        Some(Obstacle::NoDevice) => writeln!(out, "  off: no TUN device")?,
    }
    for address in &nat64.pool4 {
        writeln!(out, "  pool4 {address} ports {}-{}", nat64.ports.start(), nat64.ports.end())?;
    }
    for address in &nat64.further_pool4 {
        writeln!(out, "  pool4 {address} ports {}-{}", nat64.further_ports.start(), nat64.further_ports.end())?;
    }
    for binding in &nat64.static_bindings {
        let protocol = binding.protocol.name();
        let last = |first: u16| match binding.ports {
            1 => String::new(),
            several => format!("-{}", first.saturating_add(several - 1)),
        };
        let (mapped, client) = (binding.mapped, binding.client);
        let (outside, inside) = (last(mapped.port), last(client.port));
        writeln!(
            out,
            "  publish {protocol} {}:{}{outside} to [{}]:{}{inside}",
            mapped.address, mapped.port, client.address, client.port
        )?;
    }
    for echo in &nat64.published_echo {
        writeln!(out, "  publish icmp {} to {}", echo.mapped, echo.client)?;
    }
    if nat64.port_block > 0 {
        writeln!(out, "  ports in blocks of {}", nat64.port_block)?;
    }
    for net in &nat64.never_translate {
        writeln!(out, "  never translate {net}")?;
    }
    for net in &nat64.translate_non_global {
        writeln!(out, "  translate non-global {net}")?;
    }
    if let Some(address) = nat64.router_v6 {
        writeln!(out, "  errors from {address}")?;
    }
    writeln!(out, "  mtu ipv6 {} ipv4 {}", nat64.mtu_v6, nat64.mtu_v4)?;
    writeln!(out, "  at most {} sessions", nat64.max_sessions)?;
    if let Some(log) = &nat64.log {
        let what = if nat64.events == Wanted::Sessions { "bindings and sessions" } else { "bindings" };
        writeln!(out, "  log {what} to {}", log.to)?;
    }
    let timers = &nat64.timers;
    writeln!(
        out,
        "  timers udp {} tcp-est {} tcp-trans {} tcp-incoming-syn {} icmp {} fragment {}",
        timers.udp_default.as_secs(),
        timers.tcp_est.as_secs(),
        timers.tcp_trans.as_secs(),
        timers.tcp_incoming_syn.as_secs(),
        timers.icmp_default.as_secs(),
        timers.fragment_min.as_secs(),
    )
}
