//! The CLAT's decisions, told as conversations with its host.
use sixgate_wire::ndp::{ALL_NODES, RouterAdvertisement};
use sixgate_wire::ndp::{NeighborAdvertisement, Writer};

use super::plan::Forwarded;
use super::translator::{Translator, Verdict};
use super::*;
use crate::nat64::verdict::Reason;
use crate::ndp_proxy::packet;
use crate::xlat::transmit::{Offload, Transmit as Out};

const START: Instant = Instant::from_nanos(1_000_000_000);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const IDENTIFIER: u16 = 4242;
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

fn pref64(text: &str) -> Pref64 {
    Pref64::new(text.parse().unwrap(), 96).unwrap()
}

fn settings() -> Settings {
    Settings {
        interface: None,
        pref64: None,
        source: Source::Dedicated,
        check: vec![Ipv4Addr::new(192, 0, 2, 1)],
        fast_path: FastPath::Auto,
    }
}

fn surroundings() -> Surroundings {
    let uplink = Uplink {
        link: 2,
        interface: "eth0".to_owned(),
        mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
        mtu: 1500,
        link_local: Some("fe80::2".parse().unwrap()),
        addresses: vec!["2001:db8:1:2::7/64".parse().unwrap()],
    };
    Surroundings { uplink: Some(uplink), device: Some(9), ..Surroundings::default() }
}

/// A CLAT with its clock, and what it has sent.
struct Host {
    clat: Clat,
    now: Instant,
    sent: Vec<Transmit>,
}

impl Host {
    fn new(settings: Settings) -> Self {
        let mut clat = Clat::new(settings, b"secret".to_vec(), IDENTIFIER, START);
        clat.observe(surroundings(), START);
        Self { clat, now: START, sent: Vec::new() }
    }

    /// Lets time go by, and does what is due at its time.
    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            self.clat.handle_timeout(self.now);
            self.clat.take_lookup(self.now);
            self.sent.extend(core::iter::from_fn(|| self.clat.poll_transmit()));
            match self.clat.poll_timeout().filter(|due| *due <= until) {
                Some(due) => self.now = due.max(self.now),
                None => break,
            }
        }
        self.now = until;
    }

    fn announce(&mut self, prefix: &str, length: u8, lifetime: u16) {
        let mut buffer = [0; 128];
        let header = RouterAdvertisement { router_lifetime: 1800, ..RouterAdvertisement::default() };
        let mut writer = Writer::router_advertisement(&mut buffer, &header).unwrap();
        let option = ndp::Pref64 { prefix: prefix.parse().unwrap(), length, lifetime };
        writer.pref64(&option).unwrap();
        self.clat.handle_advertisement(writer.finish(), ROUTER, 255, self.now);
    }

    fn answer(&mut self) {
        self.clat.handle_answer(Answer::Translated, self.now);
    }

    /// A CLAT that translates.
    fn translating() -> Self {
        let mut host = Self::new(settings());
        host.announce("2001:db8:64::", 96, 1800);
        host.wait(Duration::from_millis(2100));
        host.answer();
        assert_eq!(host.clat.status().stage, Stage::Translating);
        host
    }

    fn codes(&self) -> Vec<String> {
        self.clat.status().findings.into_iter().map(|finding| finding.code).collect()
    }
}

#[test]
fn ipv4_is_routed_after_prefix_address_and_answer_and_not_before() {
    let mut host = Host::new(settings());
    host.wait(Duration::from_secs(1));
    assert!(matches!(host.sent[0], Transmit::Solicitation(..)), "routers are asked");
    assert_eq!((host.clat.status().stage, host.codes()), (Stage::WithoutPrefix, vec!["clat-no-prefix".to_owned()]));
    host.announce("2001:db8:64::", 96, 1800);
    host.wait(Duration::from_secs(1));
    assert_eq!((host.clat.status().stage, host.clat.plan()), (Stage::Claiming, None));
    host.wait(Duration::from_millis(1100));
    assert_eq!(host.clat.status().stage, Stage::Checking);
    let plan = host.clat.plan().unwrap();
    assert!(!plan.active && plan.network().routes.len() == 1, "nothing of IPv4 is routed yet");
    assert!("2001:db8:1:2::/64".parse::<Ipv6Net>().unwrap().contains(&plan.address));
    let request = host.sent.iter().find_map(|sent| match sent {
        Transmit::Request(packet) => Some(packet.clone()),
        Transmit::Solicitation(..) | Transmit::Neighbour(..) => None,
    });
    assert_eq!(request.unwrap()[24..40], pref64("2001:db8:64::").embed(Ipv4Addr::new(192, 0, 2, 1)).octets());
    host.answer();
    let plan = host.clat.plan().unwrap();
    let route = &plan.network().routes[1];
    assert_eq!((route.to.to_string().as_str(), route.mtu, route.metric), ("0.0.0.0/0", Some(1480), 2048));
    assert!(host.codes().is_empty());
}

#[test]
fn native_ipv4_takes_everything_back_until_it_goes() {
    let mut host = Host::translating();
    let native = Surroundings { native_ipv4: Some("eth1".to_owned()), ..surroundings() };
    host.clat.observe(native, host.now);
    assert_eq!(host.clat.plan(), None);
    assert_eq!((host.clat.status().stage, host.codes()), (Stage::NativeIpv4, vec!["clat-native-ipv4".to_owned()]));
    host.clat.observe(surroundings(), host.now);
    host.wait(Duration::from_millis(2100));
    assert!(!host.clat.plan().unwrap().active, "the PLAT is asked again");
    host.answer();
    assert!(host.clat.plan().unwrap().active);
}

#[test]
fn a_plat_that_falls_silent_takes_the_route_along_and_brings_it_back() {
    let mut host = Host::translating();
    host.wait(Duration::from_secs(64));
    assert!(!host.clat.plan().unwrap().active);
    let status = host.clat.status();
    assert_eq!((status.stage, status.findings[0].code.as_str()), (Stage::PlatSilent, "clat-plat-silent"));
    assert!(status.findings[0].text.contains("any more"), "{}", status.findings[0].text);
    let refused = Answer::Refused { from: ROUTER, kind: 1, code: 0 };
    host.clat.handle_answer(refused, host.now);
    assert!(host.clat.status().findings[0].text.contains("fe80::1 says there is no route"));
    host.answer();
    assert!(host.clat.plan().unwrap().active && host.codes().is_empty());
}

#[test]
fn a_prefix_that_changes_is_followed_with_the_same_address() {
    let mut host = Host::translating();
    let before = host.clat.plan().unwrap();
    host.announce("2001:db8:65::", 96, 1800);
    assert_eq!(host.codes(), ["clat-several-prefixes"]);
    assert_eq!(host.clat.plan().unwrap(), before, "what works stays");
    host.announce("2001:db8:64::", 96, 0);
    let plan = host.clat.plan().unwrap();
    assert_eq!((plan.pref64, plan.address, plan.active), (pref64("2001:db8:65::"), before.address, false));
    host.wait(Duration::from_millis(10));
    host.answer();
    assert!(host.clat.plan().unwrap().active && host.codes().is_empty());
    host.announce("2001:db8:65::", 96, 0);
    assert_eq!(host.clat.plan(), None, "nothing is left that blackholes");
    assert_eq!(host.codes(), ["clat-no-prefix"]);
}

#[test]
fn of_two_prefixes_the_one_that_answers_is_used() {
    let mut host = Host::new(settings());
    host.announce("2001:db8:64::", 96, 1800);
    host.announce("2001:db8:65::", 96, 1800);
    host.wait(Duration::from_millis(5200));
    assert_eq!(host.clat.plan().unwrap().pref64, pref64("2001:db8:65::"), "the first was silent for three rounds");
    host.answer();
    host.wait(Duration::from_secs(5));
    let plan = host.clat.plan().unwrap();
    assert_eq!((plan.pref64, plan.active), (pref64("2001:db8:65::"), true));
}

#[test]
fn prefixes_that_are_all_silent_are_named_and_asked_in_turn_until_one_answers() {
    let mut host = Host::new(settings());
    for prefix in ["2001:db8:64::", "2001:db8:65::", "2001:db8:66::"] {
        host.announce(prefix, 96, 1800);
    }
    host.wait(Duration::from_millis(12_000));
    assert_eq!((host.clat.status().stage, host.codes().len()), (Stage::PlatSilent, 2), "{:?}", host.codes());
    let before = host.sent.len();
    host.wait(Duration::from_secs(300));
    let asked: Vec<_> = host.sent[before..]
        .iter()
        .filter_map(|sent| match sent {
            Transmit::Request(packet) => Some(packet[28..30].to_vec()),
            Transmit::Solicitation(..) | Transmit::Neighbour(..) => None,
        })
        .collect();
    assert!(asked.len() < 10, "ever more rarely: {asked:?}");
    let all: std::collections::BTreeSet<_> = asked.iter().collect();
    assert_eq!(all.len(), 3, "each has its turn: {asked:?}");
    assert_eq!(host.clat.status().stage, Stage::PlatSilent);
    host.answer();
    assert!(host.clat.plan().unwrap().active);
    assert_eq!(host.codes(), ["clat-several-prefixes"]);
}

#[test]
fn a_prefix_of_64_bits_is_used_and_named() {
    let mut host = Host::new(settings());
    host.announce("2001:db8:64::", 64, 1800);
    host.wait(Duration::from_millis(2100));
    host.answer();
    assert_eq!(host.codes(), ["clat-prefix-length"]);
    assert!(host.clat.plan().unwrap().active);
}

#[test]
fn another_link_begins_without_what_the_last_one_told() {
    let mut host = Host::translating();
    let mut other = surroundings();
    other.uplink.as_mut().unwrap().link = 3;
    host.clat.observe(other, host.now);
    assert_eq!((host.clat.plan(), host.codes()), (None, vec!["clat-no-prefix".to_owned()]));
}

fn claimed(host: &Host) -> Option<Ipv6Addr> {
    host.clat.claim.as_ref().map(Claim::address)
}

#[test]
fn an_address_that_somebody_has_is_left_to_them() {
    let mut host = Host::new(settings());
    host.announce("2001:db8:64::", 96, 1800);
    let mut seen = Vec::new();
    for _ in 0..RETRIES {
        host.wait(Duration::from_millis(100));
        let target = claimed(&host).unwrap();
        assert!(!seen.contains(&target));
        seen.push(target);
        let header = NeighborAdvertisement { router: false, solicited: false, overriding: true, target };
        let mut buffer = [0; 64];
        let mut writer = Writer::neighbor_advertisement(&mut buffer, &header).unwrap();
        writer.target_link_layer(OTHER).unwrap();
        let packet = packet("fe80::9".parse().unwrap(), ALL_NODES, writer.finish());
        host.clat.handle_neighbour(&packet, OTHER, host.now);
        assert_eq!(host.codes(), ["clat-address-taken"]);
        assert!(host.clat.status().findings[0].text.contains(&OTHER.to_string()));
        assert_eq!(host.clat.plan(), None);
    }
    host.wait(Duration::from_secs(59));
    assert_eq!(claimed(&host), None, "something is wrong that another address does not mend");
    host.wait(Duration::from_secs(4));
    host.answer();
    assert!(host.clat.plan().unwrap().active, "it is tried again");
}

#[test]
fn the_fast_path_gives_way_to_rules_that_would_not_see_its_packets() {
    let mut host = Host::translating();
    assert!(host.clat.plan().unwrap().fast_path);
    let filtered = Surroundings { foreign_rules: true, foreign_v6_rules: true, ..surroundings() };
    host.clat.observe(filtered.clone(), host.now);
    assert!(!host.clat.plan().unwrap().fast_path);
    assert_eq!(host.codes(), ["clat-fast-path-off"]);
    host.clat.observe(Surroundings { foreign_v6_rules: false, ..filtered.clone() }, host.now);
    assert!(host.clat.plan().unwrap().fast_path && host.codes().is_empty(), "rules for IPv4 see the packets as ever");
    host.clat.settings.fast_path = FastPath::Always;
    host.clat.observe(filtered, host.now);
    assert!(host.clat.plan().unwrap().fast_path && host.codes().is_empty());
    host.clat.settings.fast_path = FastPath::Never;
    assert!(!host.clat.plan().unwrap().fast_path && host.codes().is_empty());
    host.clat.settings.fast_path = FastPath::Always;
    let mut tunnel = surroundings();
    tunnel.uplink.as_mut().unwrap().mac = None;
    host.clat.observe(tunnel, host.now);
    assert!(host.clat.plan().is_none_or(|plan| !plan.fast_path), "no Ethernet");
}

#[test]
fn an_address_of_a_routed_prefix_needs_no_neighbours() {
    let within = Source::Within("2001:db8:1:2:21::/80".parse().unwrap());
    let mut host = Host::new(Settings { source: within, pref64: Some(pref64("2001:db8:64::")), ..settings() });
    host.wait(Duration::ZERO);
    assert!(!host.clat.needs_neighbours() && host.clat.status().stage == Stage::Checking);
    assert!(host.sent.iter().all(|sent| matches!(sent, Transmit::Request(_))), "{:?}", host.sent);
    let shared = Settings { source: Source::Shared, check: Vec::new(), pref64: Some(Pref64::WELL_KNOWN), ..settings() };
    let mut host = Host::new(shared);
    host.wait(Duration::ZERO);
    let plan = host.clat.plan().unwrap();
    assert_eq!((plan.address, plan.active), ("2001:db8:1:2::7".parse().unwrap(), true));
    assert_eq!(plan.network().rules.len(), 2, "the mark comes before the local table");
}

#[test]
fn a_host_whose_prefix_has_no_room_is_told_of_the_other_ways() {
    let mut host = Host::new(settings());
    let mut narrow = surroundings();
    narrow.uplink.as_mut().unwrap().addresses = vec!["2001:db8::5/128".parse().unwrap()];
    host.clat.observe(narrow, START);
    host.announce("2001:db8:64::", 96, 1800);
    assert_eq!((host.codes(), host.clat.plan()), (vec!["clat-no-address".to_owned()], None));
}

#[test]
fn without_ipv6_or_a_device_nothing_is_done() {
    let mut host = Host::translating();
    host.clat.observe(Surroundings { device: None, ..surroundings() }, host.now);
    assert_eq!((host.codes(), host.clat.plan()), (vec!["clat-no-device".to_owned()], None));
    host.clat.observe(Surroundings { uplink: None, ..surroundings() }, host.now);
    assert_eq!((host.codes(), host.clat.plan()), (vec!["clat-no-uplink".to_owned()], None));
    assert!(!host.clat.take_lookup(host.now + Duration::from_secs(3600)));
}

#[test]
fn the_table_masquerades_and_keeps_strangers_out_of_a_host_that_was_no_router() {
    let plan = Host::translating().clat.plan().unwrap();
    let text = plan.ruleset(Forwarded::OnlyForThis).to_string();
    for line in [
        r#"iifname "clat" meta nfproto ipv6 notrack"#,
        r#"oifname "clat" meta nfproto ipv4 masquerade"#,
        r#"iifname "eth0" ct state new counter drop"#,
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(!plan.ruleset(Forwarded::Before).to_string().contains("chain forward"), "a router stays as it is");
    let shared = ClatPlan { shared: true, ..plan };
    let text = shared.ruleset(Forwarded::Before).to_string();
    assert!(text.contains("masquerade to :61000-65535") && text.contains("th dport 61000-65535 notrack"), "{text}");
}

fn translate(translator: &mut Translator, packet: &[u8]) -> (Verdict, usize) {
    let mut out = Out::new();
    let verdict = translator.handle_offloaded(packet, Offload::NONE, &mut out, START);
    (verdict, out.len())
}

#[test]
fn answers_to_the_check_end_at_the_translator_and_other_echoes_do_not() {
    let plan = Host::translating().clat.plan().unwrap();
    let mut translator = Translator::new(&plan, IDENTIFIER, [7; 32]);
    let server = plan.pref64.embed(Ipv4Addr::new(192, 0, 2, 1));
    let echo = |source, kind: u8, identifier: u16| {
        let [a, b] = identifier.to_be_bytes();
        packet(source, plan.address, &[kind, 0, 0, 0, a, b, 0, 1])
    };
    assert_eq!(translate(&mut translator, &echo(server, 129, IDENTIFIER)), (Verdict::Answer, 0));
    assert_eq!(translator.poll_answer(), Some(Answer::Translated));
    assert_eq!(translate(&mut translator, &echo(server, 129, 7)), (Verdict::Translated, 1), "a program's ping");
    let stranger = "2001:db8:9::9".parse().unwrap();
    let (verdict, _) = translate(&mut translator, &echo(stranger, 129, IDENTIFIER));
    assert_eq!(verdict, Verdict::Dropped(Reason::NotForUs), "it comes from no IPv4 address");
    let mut request = packet(plan.address, server, &[128, 0, 0, 0, 0x10, 0x92, 0, 1]);
    request[7] = 1;
    let error = |source| packet(source, plan.address, &[&[1, 0, 0, 0, 0, 0, 0, 0], &request[..]].concat());
    assert_eq!(translate(&mut translator, &error(stranger)), (Verdict::Answer, 0));
    assert_eq!(translator.poll_answer(), Some(Answer::Refused { from: stranger, kind: 1, code: 0 }));
    assert_eq!(translate(&mut translator, &error(server)), (Verdict::Answer, 0));
    assert_eq!(translator.poll_answer(), Some(Answer::Translated), "an IPv4 router speaks through the PLAT");
    assert_eq!(translator.dropped().collect::<Vec<_>>(), [("not-for-us", 1)]);
}
