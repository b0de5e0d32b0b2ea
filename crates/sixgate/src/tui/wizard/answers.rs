//! The answers so far, and the configuration that they make.
use std::fmt::Write as _;

use sixgate_engine::status::Card;

use crate::init::starter::{RESOLVERS, propose, unique_local};

/// What can be written into each field, and its name.
pub(super) const FIELDS: [(&str, &str); 6] = [
    ("Uplink IPv4", "dhcp, an address with its length as in 203.0.113.136/26, or nothing"),
    ("IPv4 gateway", "the gateway of an address; dhcp learns it"),
    ("Uplink IPv6", "dhcpv6-pd (learns an address and a prefix), ra (an address), 2001:db8::2/64, or nothing"),
    ("IPv6 gateway", "the gateway of an address, often fe80::1; else it is learnt"),
    ("LAN prefixes", "the router's addresses with their lengths, and the word delegated, with commas between"),
    ("Resolvers", "where names are asked for, with commas between"),
];

const IPV4: usize = 0;
const IPV4_GATEWAY: usize = 1;
const IPV6: usize = 2;
const IPV6_GATEWAY: usize = 3;
const LAN: usize = 4;
const RESOLVERS_FIELD: usize = 5;

/// The word for a prefix that the provider delegates.
const DELEGATED: &str = "delegated";

/// The answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    /// Hardware address of the uplink's card.
    pub(super) uplink: Option<String>,
    /// Hardware address of the LAN's card.
    pub(super) lan: Option<String>,
    fields: [String; 6],
}

impl Answers {
    /// What the machine would do by itself.
    pub(super) fn proposed(cards: &[Card]) -> Self {
        let (uplink, lan) = propose(cards);
        let mut answers = Self { uplink, lan, fields: Default::default() };
        answers.fields[IPV4].push_str("dhcp");
        answers.fields[IPV6].push_str("dhcpv6-pd");
        answers.fields[RESOLVERS_FIELD] = RESOLVERS.join(", ");
        answers.propose_prefixes();
        answers
    }

    pub(super) fn fields(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn field(&self, index: usize) -> &str {
        self.fields.get(index).map_or("", String::as_str)
    }

    /// The answer of that number, or the last one.
    pub(super) fn field_mut(&mut self, index: usize) -> &mut String {
        let last = self.fields.len() - 1;
        &mut self.fields[index.min(last)]
    }

    /// Makes a card the uplink. The card that had been takes over what it was.
    pub(super) fn choose_uplink(&mut self, mac: &str) {
        let former = self.uplink.replace(mac.to_owned());
        if self.lan.as_deref() == Some(mac) {
            self.lan = former;
            self.propose_prefixes();
        }
    }

    /// Makes a card the LAN's. The card that had been takes over what it was.
    pub(super) fn choose_lan(&mut self, mac: &str) {
        let former = self.lan.replace(mac.to_owned());
        if self.uplink.as_deref() == Some(mac) {
            self.uplink = former;
        }
        self.propose_prefixes();
    }

    /// A card that was pulled is no answer any more.
    pub(super) fn forget_absent(&mut self, cards: &[Card]) {
        let here = |mac: &String| cards.iter().any(|card| card.mac == *mac);
        self.uplink = self.uplink.take().filter(here);
        self.lan = self.lan.take().filter(here);
    }

    /// What is missing among the cards.
    pub(super) fn complaint(&self) -> Option<&'static str> {
        match (&self.uplink, &self.lan) {
            (Some(_), Some(_)) => None,
            (None, _) => Some("No card is the uplink yet: choose one by the arrow keys and press u."),
            (Some(_), None) => Some("No card is the LAN's yet: choose one by the arrow keys and press l."),
        }
    }

    fn propose_prefixes(&mut self) {
        let own = self.lan.as_deref().map(unique_local);
        self.fields[LAN] = own.into_iter().chain([DELEGATED.to_owned()]).collect::<Vec<_>>().join(", ");
    }

    /// The configuration.
    pub(super) fn write(&self) -> String {
        let list = |field: usize| -> Vec<&str> {
            self.fields[field].split(',').map(str::trim).filter(|word| !word.is_empty()).collect()
        };
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# By the console's questions.");
        let _ = writeln!(text, "[wan]\nmac = {:?}", self.uplink.as_deref().unwrap_or_default());
        for (key, value, gateway) in [("ipv4", IPV4, IPV4_GATEWAY), ("ipv6", IPV6, IPV6_GATEWAY)] {
            let (value, gateway) = (self.fields[value].trim(), self.fields[gateway].trim());
            if value.contains(['/', ':', '.']) {
                let gateway = if gateway.is_empty() { String::new() } else { format!(", gateway = {gateway:?}") };
                let _ = writeln!(text, "{key} = {{ address = {value:?}{gateway} }}");
            } else if !value.is_empty() {
                let _ = writeln!(text, "{key} = {value:?}");
            }
        }
        let addresses: Vec<&str> = list(LAN).into_iter().filter(|word| *word != DELEGATED).collect();
        let lan = self.lan.as_deref().unwrap_or_default();
        let _ = writeln!(text, "\n[[lan]]\nname = \"vms\"\nmac = {lan:?}\naddresses = {addresses:?}");
        // Nobody delegates to a router that does not ask.
        if list(LAN).contains(&DELEGATED) && self.fields[IPV6].trim() == "dhcpv6-pd" {
            let _ = writeln!(text, "prefix = {{ delegated = \"wan\" }}");
        }
        let upstream = list(RESOLVERS_FIELD);
        let _ = writeln!(text, "\n[dns64]\nupstream = {upstream:?}\n\n[nat64]\nprefix = \"64:ff9b::/96\"");
        text
    }
}
