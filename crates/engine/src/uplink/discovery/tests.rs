//! Advertisements taken in, one rule of RFC 4861 and RFC 4862 after the other.
use proptest::prelude::*;
use sixgate_wire::ndp::{RouteInformation, Writer};

use super::*;

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe00, 0x101);

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

fn discovery() -> Discovery {
    let mut discovery = Discovery::new(Known::default(), 7, at(0));
    discovery.set_source(Some(SOURCE));
    discovery
}

fn prefix(text: &str, on_link: bool, autonomous: bool, valid: u32, preferred: u32) -> PrefixInformation {
    let net: Ipv6Net = text.parse().unwrap();
    PrefixInformation {
        prefix: net.addr(),
        length: net.prefix_len(),
        on_link,
        autonomous,
        pd_preferred: false,
        valid,
        preferred,
    }
}

fn header(router_lifetime: u16, preference: Preference) -> RouterAdvertisement {
    RouterAdvertisement { router_lifetime, preference, ..RouterAdvertisement::default() }
}

fn advertise(
    discovery: &mut Discovery,
    from: Ipv6Addr,
    lifetime: u16,
    prefixes: &[PrefixInformation],
    now: u64,
) -> Verdict {
    let mut buffer = [0; 1200];
    let mut writer = Writer::router_advertisement(&mut buffer, &header(lifetime, Preference::Medium)).unwrap();
    for prefix in prefixes {
        writer.prefix_information(prefix).unwrap();
    }
    discovery.handle_input(writer.finish(), from, 255, at(now))
}

fn nets(discovery: &Discovery, now: u64) -> Vec<(String, bool)> {
    discovery.addresses(at(now)).into_iter().map(|(net, deprecated)| (net.to_string(), deprecated)).collect()
}

#[test]
fn an_advertisement_gives_router_address_and_route() {
    let mut discovery = discovery();
    let prefixes =
        [prefix("2001:db8:1::/64", true, true, 3600, 1800), prefix("2001:db8:2::/64", false, true, 3600, 1800)];
    assert_eq!(advertise(&mut discovery, ROUTER, 1800, &prefixes, 10), Verdict::Taken);
    assert_eq!(discovery.router(), Some(ROUTER));
    let held = [("2001:db8:1:0:5054:ff:fe00:101/64", false), ("2001:db8:2:0:5054:ff:fe00:101/128", false)];
    assert_eq!(nets(&discovery, 10), held.map(|(net, deprecated)| (net.to_owned(), deprecated)));
    assert_eq!(discovery.routes(), [("2001:db8:1::/64".parse().unwrap(), None)]);
    assert_eq!(discovery.poll_timeout(at(10)), Some(at(1810)), "router and preferred lifetime");
    discovery.handle_timeout(at(1810));
    assert_eq!(discovery.router(), None);
    assert!(nets(&discovery, 1810).iter().all(|(_, deprecated)| *deprecated));
    discovery.handle_timeout(at(3610));
    assert!(nets(&discovery, 3610).is_empty() && discovery.routes().is_empty());
}

#[test]
fn a_valid_lifetime_is_not_cut_below_two_hours_at_a_stroke() {
    let valid = |discovery: &Discovery| discovery.known.prefixes[0].address.unwrap().1;
    for (first, second, expected) in [
        (36_000, 60, Some(at(100 + 7200))),
        (3600, 60, Some(at(3600))),
        (3600, 5000, Some(at(5100))),
        (36_000, 8000, Some(at(8100))),
        (3600, u32::MAX, None),
    ] {
        let mut discovery = discovery();
        advertise(&mut discovery, ROUTER, 1800, &[prefix("2001:db8:1::/64", true, true, first, 60)], 0);
        advertise(&mut discovery, ROUTER, 1800, &[prefix("2001:db8:1::/64", true, true, second, 0)], 100);
        assert_eq!(valid(&discovery), expected, "{first} then {second}");
        assert!(nets(&discovery, 100)[0].1, "a preferred lifetime of zero deprecates at once");
    }
}

#[test]
fn prefixes_that_are_wrong_are_ignored() {
    let mut discovery = discovery();
    let wrong = [
        prefix("fe80::/64", true, true, 3600, 1800),
        prefix("ff0e::/64", true, true, 3600, 1800),
        prefix("2001:db8:1::/64", true, true, 1800, 3600),
        prefix("2001:db8:2::/64", true, true, 0, 0),
        prefix("2001:db8:3::/48", false, true, 3600, 1800),
    ];
    advertise(&mut discovery, ROUTER, 1800, &wrong, 0);
    assert!(nets(&discovery, 0).is_empty() && discovery.routes().is_empty(), "{:?}", discovery.known);
    assert_eq!(advertise(&mut discovery, SOURCE, 1800, &[], 0), Verdict::NotForUs);
    let far: Ipv6Addr = "2001:db8::1".parse().unwrap();
    assert_eq!(advertise(&mut discovery, far, 1800, &[], 0), Verdict::Invalid(ParseError::Source));
}

#[test]
fn the_preferred_router_is_used_and_another_one_when_it_goes() {
    let mut discovery = discovery();
    let mut say = |from, lifetime, preference, now| {
        let mut buffer = [0; 64];
        let writer = Writer::router_advertisement(&mut buffer, &header(lifetime, preference)).unwrap();
        discovery.handle_input(writer.finish(), from, 255, at(now));
        discovery.router()
    };
    assert_eq!(say(OTHER, 1800, Preference::Low, 0), Some(OTHER));
    assert_eq!(say(ROUTER, 1800, Preference::High, 1), Some(ROUTER));
    assert_eq!(say(OTHER, 1800, Preference::Low, 2), Some(ROUTER));
    assert_eq!(say(ROUTER, 0, Preference::High, 3), Some(OTHER), "router lifetime 0");
}

#[test]
fn routes_and_resolvers_come_and_go() {
    let mut discovery = discovery();
    let mut say = |lifetime, now| {
        let mut buffer = [0; 400];
        let mut writer = Writer::router_advertisement(&mut buffer, &header(1800, Preference::Medium)).unwrap();
        let route = RouteInformation {
            prefix: "2001:db8:77::".parse().unwrap(),
            length: 48,
            preference: Preference::High,
            lifetime,
        };
        writer.route_information(&route).unwrap();
        writer.rdnss(lifetime, &["2001:db8::53".parse().unwrap()]).unwrap();
        writer.mtu(1400).unwrap();
        discovery.handle_input(writer.finish(), ROUTER, 255, at(now));
        (discovery.routes(), discovery.resolvers().count())
    };
    assert_eq!(say(600, 0), (vec![("2001:db8:77::/48".parse().unwrap(), Some(ROUTER))], 1));
    assert_eq!(say(0, 1), (Vec::new(), 0));
    assert_eq!(discovery.mtu(), Some(1400));
}

#[test]
fn solicitations_are_repeated_until_a_router_answers() {
    let mut discovery = discovery();
    let mac = sixgate_wire::mac::MacAddr([2, 0, 0, 0, 0, 9]);
    let mut times = Vec::new();
    let mut now = at(0);
    for _ in 0..3 {
        discovery.handle_timeout(now);
        let (source, message) = discovery.poll_transmit(mac).unwrap();
        assert_eq!((source, message.as_slice()), (SOURCE, &[133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 9][..]));
        times.push(now);
        now = discovery.poll_timeout(now).unwrap();
    }
    assert!((3..=5).contains(&times[1].saturating_since(times[0]).as_secs()), "{times:?}");
    advertise(&mut discovery, ROUTER, 30, &[], 100);
    assert_eq!(discovery.poll_timeout(at(100)), Some(at(130)));
    discovery.handle_timeout(at(130));
    assert!(discovery.poll_transmit(mac).is_some(), "a router that has gone is looked for");
}

proptest! {
    #[test]
    fn no_number_of_advertisements_takes_more_than_a_bounded_place(
        seen in prop::collection::vec((any::<u8>(), any::<u16>(), any::<u16>(), any::<u32>(), any::<bool>()), 0..200),
        noise in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut discovery = discovery();
        for (router, net, lifetime, valid, on_link) in seen {
            let from = Ipv6Addr::from(u128::from(ROUTER) | u128::from(router) << 32);
            let prefix = prefix(&format!("2001:db8:{net:x}::/64"), on_link, true, valid, valid / 2);
            advertise(&mut discovery, from, lifetime, &[prefix], 1);
        }
        discovery.handle_input(&noise, ROUTER, 255, at(1));
        prop_assert!(discovery.known.routers.len() <= MOST && discovery.known.prefixes.len() <= MOST);
    }
}
