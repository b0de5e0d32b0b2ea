//! The whole file: text to a valid [`Config`], or to everything that is wrong with it.
use core::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::claim::Claims;
use super::door::{self, Errors};
use super::error::{ConfigErrors, Lines};
use super::groups::Groups;
use super::keys;
use super::lan::{Delegates, Shares};
use super::{
    Config, Connections, Dns64, Ipv6Source, Policy, allow, connections, console, ddns, dns64, forward, lan, lan_port,
    nat64, npt, outbound, policy, publish, raw, relative, route, time, vm, wan,
};

/// Name of a router that has none.
const DEFAULT_HOSTNAME: &str = "sixgate";

/// Parses and checks a configuration file. `file_name` is for the errors' text only.
///
/// # Errors
/// Everything that is wrong with the file, each with line, column and mend. Errors of TOML's syntax end the search early.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigErrors> {
    let mut errors = Errors::default();
    let (root, syntax) = DeTable::parse_recoverable(text);
    for error in syntax {
        errors.note(error.span().unwrap_or(0..0), error.message(), "this is not valid TOML, see https://toml.io");
    }
    if errors.is_empty() {
        let sections = Sections::read(root.get_ref(), &mut errors);
        if let Some(config) = sections.validate(text, &mut errors).filter(|_| errors.is_empty()) {
            return Ok(config);
        }
    }
    Err(ConfigErrors::new(file_name, text, errors.into_inner()))
}

/// The file's sections, each read as far as its types allow.
#[derive(Default)]
struct Sections {
    hostname: Option<(String, Range<usize>)>,
    wan: Option<Spanned<raw::Wan>>,
    lans: Vec<Spanned<raw::Lan>>,
    vms: Vec<Spanned<raw::Vm>>,
    routes: Vec<Spanned<raw::Route>>,
    npt: Vec<Spanned<raw::Npt>>,
    ddns: Vec<Spanned<raw::Ddns>>,
    vm_prefixes: Option<Spanned<raw::LanPort>>,
    dns64: Option<Spanned<raw::Dns64>>,
    nat64: Option<Spanned<raw::Nat64>>,
    allow: Vec<Spanned<raw::Allow>>,
    outbound: Vec<Spanned<raw::Outbound>>,
    groups: Groups,
    policy: Option<Spanned<raw::Policy>>,
    connections: Option<Spanned<raw::Connections>>,
    metrics: Option<Spanned<raw::LanPort>>,
    time: Option<Spanned<raw::Time>>,
    console: Option<Spanned<raw::Console>>,
    publish: Vec<Spanned<raw::Publish>>,
}

impl Sections {
    fn read(root: &DeTable<'_>, errors: &mut Errors) -> Self {
        let mut sections = Self::default();
        for (key, value) in root {
            match key.get_ref().as_ref() {
                "hostname" => match value.get_ref() {
                    DeValue::String(name) => sections.hostname = Some((name.as_ref().to_owned(), value.span())),
                    _ => errors.note(value.span(), "`hostname` is not a string", keys::describe("", "hostname")),
                },
                "wan" => sections.wan = Some(door::table("wan", value, errors)),
                "lan" => sections.lans = door::tables("lan", value, errors),
                "vm" => sections.vms = door::tables("vm", value, errors),
                "route" => sections.routes = door::tables("route", value, errors),
                "ddns" => sections.ddns = door::tables("ddns", value, errors),
                "vm_prefixes" => sections.vm_prefixes = Some(door::table("vm_prefixes", value, errors)),
                "npt" => sections.npt = door::tables("npt", value, errors),
                "dns64" => sections.dns64 = Some(door::table("dns64", value, errors)),
                "nat64" => sections.nat64 = Some(door::table("nat64", value, errors)),
                "allow" => sections.allow = door::tables("allow", value, errors),
                "outbound" => sections.outbound = door::tables("outbound", value, errors),
                "groups" => sections.groups = Groups::read(value, errors),
                "policy" => sections.policy = Some(door::table("policy", value, errors)),
                "connections" => sections.connections = Some(door::table("connections", value, errors)),
                "publish" => sections.publish = door::tables("publish", value, errors),
                "console" => sections.console = Some(door::table("console", value, errors)),
                "metrics" => sections.metrics = Some(door::table("metrics", value, errors)),
                "time" => sections.time = Some(door::table("time", value, errors)),
                unknown => {
                    let known: Vec<&str> =
                        keys::KEYS.iter().filter(|key| key.section.is_empty()).map(|key| key.name).collect();
                    errors.note(
                        key.span(),
                        format!("unknown key `{unknown}`"),
                        format!("known here: {}", known.join(", ")),
                    );
                }
            }
        }
        sections
    }

    /// Links come first, then what refers to them.
    fn validate(self, text: &str, errors: &mut Errors) -> Option<Config> {
        let mut claims = Claims::default();
        let hostname = match self.hostname {
            None => DEFAULT_HOSTNAME.to_owned(),
            Some((name, span)) => {
                if !dns64::is_label(&name) {
                    errors.note(span, format!("\"{name}\" cannot be a hostname"), keys::describe("", "hostname"));
                }
                name
            }
        };
        if self.wan.is_none() {
            errors.note(
                0..0,
                "[wan] is missing",
                "write [wan] and interface = \"eth0\" below it: the uplink's interface",
            );
        }
        let wan = self.wan.and_then(|raw| wan::validate(raw, &mut claims, errors));
        let delegates = match &wan {
            Some(wan) if wan.ipv6_source != Ipv6Source::Dhcpv6Pd => Delegates::No,
            Some(_) | None => Delegates::Yes,
        };
        let shares = match &wan {
            Some(wan) if wan.ipv6_source == Ipv6Source::Static => Shares::NothingLearnt,
            Some(wan) if !wan.ndp_proxy => Shares::WithoutProxy,
            Some(_) | None => Shares::Yes,
        };
        let lans = self.lans.into_iter().filter_map(|raw| lan::validate(raw, (delegates, shares), &mut claims, errors));
        let (lans, prefixes): (Vec<_>, Vec<_>) =
            lans.map(|(lan, prefixes)| (lan.clone(), (lan.name, prefixes))).unzip();
        relative::check_subnets(&prefixes, errors);
        let vms: Vec<_> =
            self.vms.into_iter().filter_map(|raw| vm::validate(raw, &lans, &mut claims, errors)).collect();
        std::mem::take(&mut claims.suffixes).check(&lans, errors);
        let routes = self.routes.iter().filter_map(|raw| route::validate(raw, &mut claims, errors)).collect();
        let mut npt = Vec::new();
        for raw in &self.npt {
            npt.extend(npt::validate(raw, &npt, delegates, &claims, errors));
        }
        let nat64 = self.nat64.and_then(|raw| nat64::validate(raw, &mut claims, errors));
        let lines = Lines::new(text);
        let names = allow::Names { lans: &lans, vms: &vms, claims: &claims, groups: &self.groups };
        for name in lans.iter().map(|lan| &lan.name).chain(vms.iter().map(|vm| &vm.name)) {
            if self.groups.contains(name) {
                errors.note(0..0, format!("the group {name} is called like a lan or vm"), "rename the group");
            }
        }
        let policy = self.policy.as_ref().map_or_else(Policy::default, |raw| policy::validate(raw, errors));
        let connections = self.connections.as_ref();
        let connections = connections.map_or_else(Connections::default, |raw| connections::validate(raw, errors));
        let dns64 = self.dns64.map_or_else(Dns64::default, |raw| dns64::validate(raw, names, errors));
        let allow = self
            .allow
            .into_iter()
            .flat_map(|raw| {
                let (line, _) = lines.place(raw.span().start);
                allow::validate(raw, line, names, errors)
            })
            .map(Arc::new)
            .collect();
        let outbound: Vec<_> = self
            .outbound
            .into_iter()
            .filter_map(|raw| {
                let (line, _) = lines.place(raw.span().start);
                outbound::validate(raw, line, names, errors)
            })
            .collect();
        let (forwarded, published): (Vec<_>, Vec<_>) =
            self.publish.into_iter().partition(|raw| forward::is_meant(raw.get_ref()));
        let forwarded: Vec<_> = forwarded
            .into_iter()
            .filter_map(|raw| {
                let (line, _) = lines.place(raw.span().start);
                forward::validate(raw, line, names, errors)
            })
            .collect();
        let published: Vec<_> = published
            .into_iter()
            .filter_map(|raw| {
                let (line, _) = lines.place(raw.span().start);
                publish::validate(raw, line, names, errors)
            })
            .collect();
        let ddns: Vec<_> = self.ddns.into_iter().filter_map(|raw| ddns::validate(raw, names, errors)).collect();
        let vm_prefixes = self
            .vm_prefixes
            .and_then(|raw| lan_port::validate("vm_prefixes", lan_port::VM_PREFIXES, &raw, &lans, errors));
        let console = console::validate(self.console, errors);
        let metrics =
            self.metrics.and_then(|raw| lan_port::validate("metrics", lan_port::METRICS, &raw, &lans, errors));
        let time = self.time.map(|raw| time::validate(raw, errors));
        claims.check(nat64.as_ref().map_or(&[], |(_, prefixes)| prefixes.as_slice()), errors);
        let nat64 = nat64.map(|(nat64, _)| nat64);
        let mut config = Config {
            hostname,
            wan: wan?,
            lans,
            vms,
            routes,
            npt,
            ddns,
            vm_prefixes,
            dns64,
            nat64,
            allow,
            outbound,
            policy,
            connections,
            publish: Vec::new(),
            forwards: Vec::new(),
            metrics,
            time,
            console,
        };
        publish::check(&mut config, published, errors);
        forward::check(&mut config, forwarded, errors);
        Some(config)
    }
}
