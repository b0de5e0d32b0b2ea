//! What is wrong with a CLAT's surroundings, and the mend.
use sixgate_wire::icmpv6;

use super::check::Silence;
use super::plan::DEVICE;
use super::{Clat, Source};
use crate::finding::{Finding, Severity};

impl Clat {
    /// All of it.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let surroundings = &self.surroundings;
        if let Some(interface) = &surroundings.native_ipv4 {
            let text = format!("{interface} has an IPv4 default route, so nothing is translated");
            let mend = "nothing; the clat comes back when that route goes";
            return vec![Finding::new(Severity::Note, "clat-native-ipv4", interface, text, mend)];
        }
        let Some(uplink) = &surroundings.uplink else {
            let subject = self.settings.interface.as_deref().unwrap_or("uplink");
            let text =
                "there is no IPv6 default route with a global address on its link, so there is no way to a NAT64";
            let mend = "bring IPv6 up on the host, or name the link with --interface";
            return vec![Finding::new(Severity::Error, "clat-no-uplink", subject, text, mend)];
        };
        let mut findings = Vec::new();
        findings.extend(self.about_prefix(&uplink.interface));
        findings.extend(self.about_address(&uplink.interface));
        findings.extend(self.about_plat());
        findings.extend(self.about_fast_path());
        findings
    }

    fn about_prefix(&self, interface: &str) -> Vec<Finding> {
        let usable = self.prefixes.usable(self.pref64);
        let Some((pref64, _)) = usable.first() else {
            let dns = self.prefixes.failure().unwrap_or("not asked yet");
            let text = format!("no router announces a NAT64 prefix (PREF64), and ipv4only.arpa gives none: {dns}");
            let mend =
                "have the network's router announce it or its resolver synthesize addresses, or name it with --prefix";
            return vec![Finding::new(Severity::Error, "clat-no-prefix", interface, text, mend)];
        };
        let mut findings = Vec::new();
        if usable.len() > 1 {
            let all: Vec<String> = usable.iter().map(|(pref64, _)| pref64.to_string()).collect();
            let text = format!("several NAT64 prefixes are announced: {}; {pref64} is in use", all.join(", "));
            let mend = "nothing if that is meant; else take the wrong one back, or name the right one with --prefix";
            findings.push(Finding::new(Severity::Warning, "clat-several-prefixes", interface, text, mend));
        }
        if pref64.length() != 96 {
            let text = format!("the NAT64 prefix {pref64} has {} bits and not 96", pref64.length());
            let mend = "nothing; it is translated, but many other programs know prefixes of 96 bits only";
            findings.push(Finding::new(Severity::Note, "clat-prefix-length", interface, text, mend));
        }
        findings
    }

    fn about_address(&self, interface: &str) -> Option<Finding> {
        if self.settings.source == Source::Dedicated && self.pref64.is_some() && self.room().is_none() {
            let text = format!("no prefix on {interface} has room for an address of the clat's own");
            let mend = "give it a routed prefix with --within, or let it share the host's address with --shared";
            return Some(Finding::new(Severity::Error, "clat-no-address", interface, text, mend));
        }
        let (address, holder) = self.taken?;
        let severity = if self.claim_again.is_some() { Severity::Error } else { Severity::Warning };
        let what = if self.claim_again.is_some() { "it is tried again in a minute" } else { "another one is taken" };
        let text = format!("{address} was to be the clat's address, but {holder} has it; {what}");
        let mend =
            format!("look at the neighbour with the hardware address {holder}: it may answer for whatever is asked");
        Some(Finding::new(severity, "clat-address-taken", interface, text, mend))
    }

    fn about_plat(&self) -> Option<Finding> {
        let pref64 = self.pref64?;
        if self.surroundings.device.is_none() {
            let mend = "load the kernel module tun, and give sixgate CAP_NET_ADMIN; the log says what went wrong";
            return Some(Finding::new(Severity::Error, "clat-no-device", DEVICE, "there is no TUN device", mend));
        }
        let Silence { answered_once, refused } = self.check.silence()?;
        let what = if answered_once { "does not answer any more" } else { "does not answer" };
        let why = refused.map_or_else(String::new, |(from, kind, code)| format!(": {from} says {}", said(kind, code)));
        let text = format!("the NAT64 behind {pref64} {what}{why}; IPv4 is not routed there");
        let mut mend =
            "check that the router translates for the clat's address, and that a host of --check answers pings"
                .to_owned();
        if self.surroundings.foreign_rules {
            mend += "; other netfilter rules are in force here: they have to forward IPv6 from and to the link clat";
        }
        Some(Finding::new(Severity::Error, "clat-plat-silent", pref64.to_string(), text, mend))
    }
}

impl Clat {
    fn about_fast_path(&self) -> Option<Finding> {
        let yields = self.settings.yields_fast_path(self.surroundings.foreign_v6_rules);
        if !yields || !self.wants_fast_path() || !self.check.has_passed() {
            return None;
        }
        let text = "other programs' rules look at forwarded IPv6, so all packets cross the device and the rules";
        let mend =
            "nothing if those rules are to see them; else start it with --fast-path always, which goes past them";
        Some(Finding::new(Severity::Note, "clat-fast-path-off", DEVICE, text, mend))
    }
}

/// An ICMPv6 error in words.
fn said(kind: u8, code: u8) -> String {
    match (kind, code) {
        (icmpv6::DESTINATION_UNREACHABLE, icmpv6::NO_ROUTE) => "there is no route".to_owned(),
        (icmpv6::DESTINATION_UNREACHABLE, icmpv6::PROHIBITED) => "that is prohibited".to_owned(),
        (icmpv6::DESTINATION_UNREACHABLE, icmpv6::ADDRESS_UNREACHABLE) => "the address is unreachable".to_owned(),
        (icmpv6::DESTINATION_UNREACHABLE, 5) => "the source address is refused".to_owned(),
        (icmpv6::TIME_EXCEEDED, _) => "the hop limit is used up, which looks like a loop".to_owned(),
        (kind, code) => format!("ICMPv6 type {kind} code {code}"),
    }
}
