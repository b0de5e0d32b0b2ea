//! A script of solicitations, advertisements of others and time for the advertiser of one link.
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use sixgate_engine::plan::{plan, preview_facts};
use sixgate_engine::ra::{Advertiser, MIN_DELAY_BETWEEN_RAS};
use sixgate_engine::time::Instant;
use sixgate_engine::{config, plan::RaPlan};
use sixgate_wire::ndp::{ALL_NODES, Delivery, HOP_LIMIT, Message};

const FILE: &str = r#"
[wan]
interface = "w"
[[lan]]
name = "lan"
interface = "l"
addresses = ["2001:db8:1:2::1/64", "fe80::1/64"]
[lan.advertise]
route = [{ prefix = "2001:db8:77::/48" }]
captive_portal = "https://portal.example.net/api"
encrypted_dns = [{ name = "dns.example.net", addresses = ["2001:db8::53"], alpn = "dot" }]
"#;

fn advertised() -> Option<RaPlan> {
    let config = config::parse(FILE, "file").ok()?;
    plan(&config, &preview_facts(&config)).ra.into_iter().next()
}

/// Each step: how the link is used, who sends, how long that takes, length and bytes of the message.
pub(crate) fn run(bytes: &[u8]) {
    let mut plan = advertised().expect("the file is good");
    let mut advertiser = Advertiser::new(&plan, 1, Instant::ZERO);
    let (mut now, mut rest) = (Instant::ZERO, bytes);
    let mut multicast: Option<Instant> = None;
    let mut unicast: BTreeMap<Ipv6Addr, Vec<Instant>> = BTreeMap::new();
    while let Some((&[kind, host, pause, length], tail)) = rest.split_first_chunk::<4>() {
        let (message, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        now = now + Duration::from_millis(u64::from(pause) * 40);
        match kind % 8 {
            0 => {
                plan.carrier = !plan.carrier;
                advertiser.reconfigure(&plan, now);
            }
            1 => {
                plan.advertisement.variables.unicast_only = !plan.advertisement.variables.unicast_only;
                advertiser.reconfigure(&plan, now);
            }
            _ => {
                let source = if host == 0 {
                    Ipv6Addr::UNSPECIFIED
                } else {
                    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, host.into())
                };
                advertiser.handle_input(message, source, HOP_LIMIT, now);
            }
        }
        advertiser.handle_timeout(now);
        let mut told_all = false;
        while let Some(sent) = advertiser.poll_transmit() {
            assert!(sent.message.len() <= 1240, "RFC 6980 section 5");
            let delivery = Delivery { source: sent.source, destination: sent.destination, hop_limit: HOP_LIMIT };
            assert!(matches!(Message::parse(&sent.message, &delivery), Ok(Message::RouterAdvertisement { .. })));
            if sent.destination == ALL_NODES {
                told_all = true;
            } else if !plan.advertisement.variables.unicast_only {
                unicast.entry(sent.destination).or_default().push(now);
            }
        }
        if told_all {
            let apart = multicast.is_none_or(|last| now.saturating_since(last) >= MIN_DELAY_BETWEEN_RAS);
            assert!(apart, "RFC 4861 section 6.2.4");
            multicast = Some(now);
        }
        assert!(advertiser.status().other_routers.len() <= 16);
    }
    for times in unicast.values() {
        for (first, fifth) in times.iter().zip(times.iter().skip(4)) {
            assert!(fifth.saturating_since(*first) >= MIN_DELAY_BETWEEN_RAS, "a host is answered too often");
        }
    }
}
