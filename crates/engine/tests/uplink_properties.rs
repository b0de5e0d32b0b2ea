//! Whatever the provider does, the plan is the one that a fresh start would make of what is known then.
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;
use proptest::prelude::*;
use sixgate_engine::config::{self, Config};
use sixgate_engine::facts::Facts;
use sixgate_engine::plan::{Plan, plan, preview_facts};
use sixgate_engine::time::Instant;
use sixgate_engine::uplink::{Link, Memory, Moment, Transmit, Uplink, Wanted};
use sixgate_wire::dhcpv6::{self, Kind, Lease, Message, Writer as Dhcp6};
use sixgate_wire::mac::MacAddr;
use sixgate_wire::ndp::{PrefixInformation, RouterAdvertisement, Writer as Ndp};

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

const FILE: &str = r#"
    [wan]
    interface = "eth0"
    ipv6 = "dhcpv6-pd"
    ndp_proxy = true
    [[lan]]
    name = "vms"
    interface = "eth1"
    prefix = [{ delegated = "wan", subnet = 1 }, { ula = true, subnet = 1 }]
    [[lan]]
    name = "shared"
    interface = "eth2"
    prefix = { learnt = "wan" }
    [[vm]]
    name = "vm1"
    lan = "vms"
    mac = "52:54:00:00:02:11"
    containers = "::21:0:0:0/80"
    [[allow]]
    to = "vm1/containers::5"
    tcp = 443
"#;

/// What happens upstream.
#[derive(Clone, Debug)]
enum Event {
    /// The router advertises itself and a prefix.
    Advertise { net: u8, router: u16, valid: u32, preferred: u32 },
    /// The server gives that prefix from now on, for so long.
    Delegate { net: u8, valid: u32 },
    /// The server does not answer any more.
    Silent,
    /// The link goes and comes.
    Flap,
    /// Time passes.
    Wait(u32),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0u8..4, 0u16..2000, 0u32..9000, 0u32..9000).prop_map(|(net, router, valid, preferred)| Event::Advertise {
            net,
            router,
            valid,
            preferred: preferred.min(valid),
        }),
        (0u8..4, 10u32..5000).prop_map(|(net, valid)| Event::Delegate { net, valid }),
        Just(Event::Silent),
        Just(Event::Flap),
        (1u32..4000).prop_map(Event::Wait),
    ]
}

struct Provider {
    given: Option<(u8, u32)>,
    seconds: u64,
}

impl Provider {
    fn moment(&self) -> Moment {
        let now = Instant::ZERO + Duration::from_secs(self.seconds);
        Moment { now, unix: 1_000_000 + self.seconds, boot: "boot".to_owned() }
    }

    /// The server's answer.
    fn answer(&self, asked: &[u8]) -> Option<Vec<u8>> {
        let message = Message::parse(asked)?;
        let (net, valid) = self.given?;
        if message.kind() == Kind::Release {
            return None;
        }
        let id = message.options().associations(dhcpv6::code::IA_PD).next()?.id;
        let mut buffer = [0; 500];
        let mut writer = Dhcp6::new(&mut buffer, Kind::Reply, message.transaction())?;
        writer.option(dhcpv6::code::CLIENT_IDENTIFIER, message.options().find(dhcpv6::code::CLIENT_IDENTIFIER)?)?;
        writer.option(dhcpv6::code::SERVER_IDENTIFIER, &[1, 2, 3])?;
        writer.option(dhcpv6::code::RAPID_COMMIT, &[])?;
        let address = Ipv6Addr::new(0x2001, 0xdb8, net.into(), 0, 0, 0, 0, 0);
        let lease = Lease { address, length: 56, preferred: valid / 2, valid };
        writer.association(dhcpv6::code::IA_PD, id, &[lease])?;
        Some(writer.finish().to_vec())
    }

    /// Lets the uplink run for so long.
    fn run(&mut self, uplink: &mut Uplink, seconds: u64) {
        let end = self.seconds + seconds;
        loop {
            let now = self.moment().now;
            uplink.handle_timeout(now);
            while let Some(transmit) = uplink.poll_transmit() {
                if let Transmit::Dhcp6(asked) = transmit
                    && let Some(answer) = self.answer(&asked)
                {
                    uplink.handle_dhcp6(&answer, now);
                }
            }
            if self.seconds >= end {
                return;
            }
            let due = uplink.poll_timeout().map_or(end, |due| due.as_nanos().div_ceil(1_000_000_000));
            self.seconds = due.clamp(self.seconds + 1, end);
        }
    }
}

fn link() -> Link {
    Link { index: 2, name: "eth0".to_owned(), mac: MAC, link_local: Some(MAC.link_local()), carrier: true }
}

fn planned(config: &Config, uplink: &Uplink) -> Plan {
    plan(config, &Facts { learnt: uplink.learnt().clone(), ..preview_facts(config) })
}

fn advertisement(net: u8, router: u16, valid: u32, preferred: u32) -> Vec<u8> {
    let mut buffer = [0; 200];
    let header = RouterAdvertisement { router_lifetime: router, ..RouterAdvertisement::default() };
    let mut writer = Ndp::router_advertisement(&mut buffer, &header).unwrap();
    let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0xff, net.into(), 0, 0, 0, 0);
    let option = PrefixInformation {
        prefix,
        length: 64,
        on_link: net.is_multiple_of(2),
        autonomous: true,
        pd_preferred: false,
        valid,
        preferred,
    };
    writer.prefix_information(&option).unwrap();
    writer.finish().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_events_upstream_ends_in_the_plan_of_a_fresh_start(events in prop::collection::vec(event(), 1..25)) {
        let config = config::parse(FILE, "test").unwrap();
        let wanted = Wanted::of(&config);
        let mut provider = Provider { given: None, seconds: 10 };
        let mut uplink = Uplink::new(Memory::default(), 1, &provider.moment());
        uplink.follow(&wanted, Some(&link()), &provider.moment());
        for event in &events {
            match *event {
                Event::Advertise { net, router, valid, preferred } => {
                    let said = advertisement(net, router, valid, preferred);
                    uplink.handle_icmpv6(&said, ROUTER, 255, provider.moment().now);
                }
                Event::Delegate { net, valid } => provider.given = Some((net, valid)),
                Event::Silent => provider.given = None,
                Event::Flap => {
                    uplink.follow(&wanted, Some(&Link { carrier: false, ..link() }), &provider.moment());
                    uplink.follow(&wanted, Some(&link()), &provider.moment());
                }
                Event::Wait(seconds) => provider.run(&mut uplink, seconds.into()),
            }
            provider.run(&mut uplink, 0);
        }
        provider.run(&mut uplink, 1);

        // A daemon that starts now makes the same plan at once, from the file that the other one has left.
        let text = serde_json::to_string(&uplink.remember(&provider.moment())).unwrap();
        let mut restarted = Uplink::new(serde_json::from_str(&text).unwrap(), 2, &provider.moment());
        restarted.follow(&wanted, Some(&link()), &provider.moment());
        prop_assert_eq!(planned(&config, &restarted), planned(&config, &uplink));

        // One that remembers nothing gets what the server gives now; the other one has that as well, before all else.
        if provider.given.is_some() {
            provider.run(&mut uplink, 10_000);
            let mut fresh = Uplink::new(Memory::default(), 3, &provider.moment());
            fresh.follow(&wanted, Some(&link()), &provider.moment());
            provider.run(&mut fresh, 1);
            let in_use = |uplink: &Uplink| -> Vec<Ipv6Net> {
                let delegated = uplink.learnt().delegated.iter().filter(|prefix| !prefix.retired);
                delegated.map(|prefix| prefix.prefix).collect()
            };
            prop_assert_eq!(in_use(&uplink), in_use(&fresh));
        }

        // Nothing is held for ever that nobody renews.
        provider.given = None;
        provider.run(&mut uplink, 40_000);
        let learnt = uplink.learnt();
        prop_assert!(learnt.delegated.is_empty() && learnt.ipv6.addresses.is_empty() && learnt.ipv6.router.is_none());
        let lan = planned(&config, &uplink).network.addresses.iter().filter(|held| held.link == 3).count();
        prop_assert_eq!(lan, 1, "the unique local prefix stays");
    }
}
