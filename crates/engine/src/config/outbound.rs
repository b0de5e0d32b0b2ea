//! `[[outbound]]`: what hosts that are named there may reach outside, and nothing else.
use core::ops::RangeInclusive;

use hickory_proto::rr::Name;
use ipnet::IpNet;
use toml::Spanned;

use super::allow::{self, Names, is_name};
use super::door::Errors;
use super::raw;
use super::scalar::{self, At};
use super::{Target, keys};

const FROM: At = At("outbound", "from");
const TO: At = At("outbound", "to");

/// What some hosts may reach outside. Whoever is named by one reaches only what such entries list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Who; everybody behind the router when empty.
    pub from: Vec<Target>,
    /// Prefixes outside.
    pub to: Vec<IpNet>,
    /// Names outside, and whether those below are meant as well.
    pub names: Vec<(Name, Below)>,
    /// TCP destination ports.
    pub tcp: Vec<RangeInclusive<u16>>,
    /// UDP destination ports.
    pub udp: Vec<RangeInclusive<u16>>,
    /// Whether echo requests are meant.
    pub icmp: bool,
    /// Line in the file, for comments and the console.
    pub line: usize,
}

/// Whether names below a name are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// The name alone.
    Not,
    /// `*.example.com`: those below it alone.
    Only,
}

impl Outbound {
    /// Whether it says nothing of protocols: then all are meant.
    pub fn is_any(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty() && !self.icmp
    }
}

/// Checks an entry. `line` is its place in the file.
pub(super) fn validate(
    raw: Spanned<raw::Outbound>,
    line: usize,
    names: Names<'_>,
    errors: &mut Errors,
) -> Option<Outbound> {
    let table = raw.span();
    let raw = raw.into_inner();
    let mut from = Vec::new();
    for (text, span) in names.groups.texts(scalar::items(raw.from), errors) {
        match allow::target(FROM, &text, &span, names, errors) {
            Some(Target::Router) => {
                errors.note(span, "what the router sends is not restricted", keys::describe(FROM.0, FROM.1));
            }
            named => from.extend(named),
        }
    }
    if raw.to.is_none() {
        errors.missing(table, TO.0, TO.1);
    }
    let (mut to, mut domains) = (Vec::new(), Vec::new());
    for (text, span) in names.groups.texts(scalar::items(raw.to), errors) {
        if !is_name(&text) {
            to.extend(scalar::prefix_or_address(TO, &text, &span, errors));
            continue;
        }
        let (name, below) = text.strip_prefix("*.").map_or((text.as_str(), Below::Not), |name| (name, Below::Only));
        match Name::from_ascii(name).ok().filter(|name| !name.is_root() && !text.contains('/')) {
            Some(mut name) => {
                name.set_fqdn(true);
                domains.push((name.to_lowercase(), below));
            }
            None => scalar::unknown(TO, &text, span, errors),
        }
    }
    let tcp = allow::ports("tcp", raw.tcp, names, errors);
    let udp = allow::ports("udp", raw.udp, names, errors);
    let icmp = raw.icmp.is_some_and(|key| *key.get_ref());
    Some(Outbound { from, to, names: domains, tcp, udp, icmp, line })
}
