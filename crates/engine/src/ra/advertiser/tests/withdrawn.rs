//! What is not advertised any more is taken back until hosts have forgotten it by themselves.
use sixgate_wire::ndp::NdpOption;

use super::*;
use crate::config::UNRESTRICTED;

/// A line for each option that has a lifetime: what, and its lifetimes.
fn told(message: &[u8]) -> Vec<String> {
    let delivery = Delivery { source: plan().source, destination: ALL_NODES, hop_limit: 255 };
    let Ok(Message::RouterAdvertisement { options, .. }) = Message::parse(message, &delivery) else {
        panic!("no advertisement: {message:?}")
    };
    let line = |option| match option {
        NdpOption::PrefixInformation(info) => {
            Some(format!("{}/{} {} {}", info.prefix, info.length, info.preferred, info.valid))
        }
        NdpOption::RouteInformation(route) => Some(format!("route {} {}", route.prefix, route.lifetime)),
        NdpOption::Rdnss { lifetime, addresses } => {
            Some(format!("resolver {} {lifetime}", addresses.iter().next().unwrap()))
        }
        NdpOption::Dnssl { lifetime, .. } => Some(format!("domain {lifetime}")),
        NdpOption::Pref64(pref64) => Some(format!("pref64 {} {}", pref64.prefix, pref64.lifetime)),
        NdpOption::EncryptedDns(resolver) => Some(format!("encrypted {}", resolver.lifetime)),
        NdpOption::CaptivePortal(uri) => Some(format!("portal {uri}")),
        NdpOption::SourceLinkLayer(_) | NdpOption::TargetLinkLayer(_) | NdpOption::Mtu(_) => None,
    };
    options.iter().filter_map(line).collect()
}

fn full() -> RaPlan {
    let mut plan = plan();
    let variables = &mut plan.advertisement.variables;
    variables.routes = vec![AdvertisedRoute {
        prefix: "2001:db8:77::/48".parse().unwrap(),
        preference: Preference::Low,
        lifetime: None,
    }];
    variables.captive_portal = Some("https://p.test/a".to_owned());
    let parameters = vec![0, 1, 0, 4, 3, b'd', b'o', b't'];
    let addresses = vec!["2001:db8::53".parse().unwrap()];
    variables.encrypted_dns =
        vec![EncryptedResolver { name: "dns.test".to_owned(), addresses, priority: 1, parameters }];
    plan
}

fn bare() -> RaPlan {
    let mut bare = plan();
    let advertisement = &mut bare.advertisement;
    advertisement.prefixes.clear();
    advertisement.rdnss = vec!["2001:db8:1:2::2".parse().unwrap()];
    advertisement.dnssl.clear();
    advertisement.pref64 = Some(("64:ff9b::/96".parse().unwrap(), true));
    bare
}

#[test]
fn everything_with_a_lifetime_is_taken_back_until_hosts_have_forgotten_it() {
    let mut advertiser = Advertiser::new(&full(), 1, at(0));
    advertiser.handle_timeout(at(0));
    transmit(&mut advertiser).unwrap();
    advertiser.reconfigure(&bare(), at(10_000));
    advertiser.handle_timeout(at(10_000));
    let message = transmit(&mut advertiser).unwrap();
    // RFC 9096: no longer than 90 minutes, though 86,400 s had been told.
    let expected = [
        "resolver 2001:db8:1:2::2 1800",
        "pref64 64:ff9b:: 1800",
        "2001:db8:1:2::/64 0 5400",
        "resolver 2001:db8:1:2::1 0",
        "domain 0",
        "pref64 64:ff9b:1:: 0",
        "route 2001:db8:77:: 0",
        "encrypted 0",
        &format!("portal {UNRESTRICTED}"),
    ];
    assert_eq!(told(&message), expected);
    assert_eq!(advertiser.status().withdrawn.len(), 7);

    // What was told for 1800 s is forgotten then, the prefix later, and each in real time.
    advertiser.solicited = Some(at(1_900_000));
    advertiser.handle_timeout(at(1_900_000));
    assert_eq!(told(&transmit(&mut advertiser).unwrap())[2..], ["2001:db8:1:2::/64 0 3510"]);
    advertiser.solicited = Some(at(5_410_000));
    advertiser.handle_timeout(at(5_410_000));
    assert_eq!(told(&transmit(&mut advertiser).unwrap()).len(), 2);
    assert_eq!(advertiser.status().withdrawn, [""; 0]);
}

#[test]
fn what_comes_back_is_not_taken_back_any_longer() {
    let mut advertiser = Advertiser::new(&full(), 1, at(0));
    advertiser.handle_timeout(at(0));
    transmit(&mut advertiser).unwrap();
    let first = told(&content::build(&full().advertisement, &Withdrawn::default(), Phase::Advertising, at(0)).0[0]);
    advertiser.reconfigure(&bare(), at(10_000));
    advertiser.reconfigure(&full(), at(20_000));
    advertiser.handle_timeout(at(20_000));
    let again = told(&transmit(&mut advertiser).unwrap());
    assert_eq!(again[..first.len()], first);
    assert_eq!(again[first.len()..], ["resolver 2001:db8:1:2::2 0", "pref64 64:ff9b:: 0"]);
}

#[test]
fn a_prefix_that_changes_without_end_takes_bounded_room_and_last_words_say_nothing_of_it() {
    let mut advertiser = Advertiser::new(&plan(), 1, at(0));
    for number in 0..200 {
        let mut changed = plan();
        changed.advertisement.prefixes[0].prefix = format!("2001:db8:5:{number:x}::/64").parse().unwrap();
        advertiser.reconfigure(&changed, at(1000 + number));
    }
    assert_eq!(advertiser.status().withdrawn.len(), 32);
    advertiser.cease(at(5000));
    advertiser.handle_timeout(at(5000));
    let message = transmit(&mut advertiser).unwrap();
    assert!(told(&message).iter().all(|line| !line.contains("/64")), "{:?}", told(&message));
}

#[test]
fn the_next_daemon_takes_back_what_this_one_has_told() {
    let mut advertiser = Advertiser::new(&full(), 1, at(0));
    let mut less = full();
    less.advertisement.variables.routes.clear();
    advertiser.reconfigure(&less, at(100_000));
    let known = advertiser.known(at(100_000), 1000);
    let known: Known = serde_json::from_str(&serde_json::to_string(&known).unwrap()).unwrap();
    assert!(known.same_as(&advertiser.known(at(200_000), 1100)), "time is no news");

    // The machine was booted; ten minutes have passed. The route was withdrawn then, the rest may have been heard just now.
    let mut next = Advertiser::new(&bare(), 2, at(5000)).knowing(&known, at(5000), 1600);
    next.handle_timeout(at(5000));
    let told = told(&transmit(&mut next).unwrap());
    assert!(told.contains(&"2001:db8:1:2::/64 0 5400".to_owned()), "{told:?}");
    assert!(told.contains(&"route 2001:db8:77:: 0".to_owned()), "{told:?}");
    assert_eq!(next.status().withdrawn.len(), 7);
    // After its half hour nobody remembers the route.
    let later = Advertiser::new(&bare(), 2, at(5000)).knowing(&known, at(5000), 1000 + 1800);
    assert_eq!(later.status().withdrawn.len(), 6);
    // A clock that was set back does not make it known for longer.
    let mut back = Advertiser::new(&bare(), 2, at(5000)).knowing(&known, at(5000), 0);
    back.handle_timeout(at(1_900_000));
    assert_eq!(back.status().withdrawn, ["2001:db8:1:2::/64"]);
    // The same configuration as before has nothing to take back but that.
    let same = Advertiser::new(&less, 2, at(5000)).knowing(&known, at(5000), 1600);
    assert_eq!(same.status().withdrawn, ["route 2001:db8:77::/48"]);
}

#[test]
fn what_is_delegated_is_remembered_elsewhere() {
    let mut delegated = plan();
    delegated.advertisement.prefixes[0].ends =
        Some(crate::ra::Ends { preferred: Some(at(9_000_000)), valid: Some(at(9_000_000)), retired: false });
    let known = Advertiser::new(&delegated, 1, at(0)).known(at(0), 1000);
    let next = Advertiser::new(&bare(), 2, at(0)).knowing(&known, at(0), 1000);
    assert!(next.status().withdrawn.iter().all(|name| !name.starts_with("2001:db8:1:2::/64")));
}
