//! Who gets an address, who keeps it, and what it costs.
use sixgate_wire::ndp::NeighborAdvertisement;

use super::*;

const LINK: u32 = 3;
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const ONE: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x11]);
const TWO: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x12]);

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn plan() -> SaviPlan {
    let net = |text: &str| text.parse().unwrap();
    SaviPlan {
        links: vec![SaviLink {
            lan: "vms".to_owned(),
            link: LINK,
            interface: "eth1".to_owned(),
            source: address("fe80::1"),
            mac: ROUTER,
            own: vec![address("2001:db8:1:2::1"), address("fe80::1")],
            on_link: vec![net("2001:db8:1:2::/64")],
            routed: vec![
                Routed { net: net("2001:db8:1:2:21::/80"), by: By::Mac(ONE) },
                Routed { net: net("2001:db8:1:2:31::/80"), by: By::Address(address("2001:db8:1:2::31")) },
            ],
            vms: vec![
                Watched { name: "vm1".to_owned(), mac: Some(ONE), address: None },
                Watched { name: "vm2".to_owned(), mac: None, address: Some(address("2001:db8:1:2::31")) },
            ],
        }],
    }
}

fn savi() -> Savi {
    let mut savi = Savi::default();
    savi.reconfigure(&plan(), at(0));
    // The VMs are asked for first: one by its address, one by what its hardware address implies.
    savi.handle_timeout(at(0));
    assert_eq!(asked(&mut savi), [address("2001:db8:1:2::31"), ONE.link_local()]);
    savi
}

fn detection(target: &str) -> Vec<u8> {
    let mut buffer = [0; 64];
    let message = Writer::neighbor_solicitation(&mut buffer, address(target)).unwrap().finish();
    packet(Ipv6Addr::UNSPECIFIED, solicited_node(address(target)), message)
}

fn advertisement(target: &str) -> Vec<u8> {
    let header = NeighborAdvertisement { router: false, solicited: true, overriding: true, target: address(target) };
    let mut buffer = [0; 64];
    let message = Writer::neighbor_advertisement(&mut buffer, &header).unwrap().finish();
    packet(address(target), address("fe80::1"), message)
}

/// Addresses that are asked for now.
fn asked(savi: &mut Savi) -> Vec<Ipv6Addr> {
    std::iter::from_fn(|| savi.poll_transmit())
        .map(|transmit| {
            assert_eq!((transmit.link, transmit.to.0[..2].to_vec()), (LINK, vec![0x33, 0x33]));
            Ipv6Addr::from(<[u8; 16]>::try_from(&transmit.packet[48..64]).unwrap())
        })
        .collect()
}

/// Lets time pass, answering nothing.
fn pass(savi: &mut Savi, from: u64, to: u64) {
    for millis in (from..=to).step_by(100) {
        savi.handle_timeout(at(millis));
    }
}

#[test]
fn duplicate_address_detection_that_nobody_objects_to_binds_the_address() {
    let mut savi = savi();
    let target = "2001:db8:1:2::77";
    assert_eq!(savi.handle_discovery(LINK, &detection(target), ONE, at(0)), Some(Claim::Asked));
    assert_eq!(savi.holder(LINK, address(target)), None);
    let before = savi.generation();
    pass(&mut savi, 0, 500);
    assert_eq!(savi.holder(LINK, address(target)), Some(ONE));
    assert_ne!(savi.generation(), before);
    let before = savi.generation();
    savi.handle_discovery(LINK, &advertisement(target), ONE, at(600));
    pass(&mut savi, 600, 700);
    assert_eq!(savi.generation(), before, "nobody else is admitted than before");
    assert!(savi.sources()[0].hosts.contains(&(ONE, address(target))));
}

#[test]
fn whoever_defends_an_address_against_duplicate_detection_has_it() {
    let mut savi = savi();
    let target = "2001:db8:1:2::77";
    savi.handle_discovery(LINK, &detection(target), TWO, at(0));
    savi.handle_discovery(LINK, &advertisement(target), ONE, at(100));
    pass(&mut savi, 200, 1000);
    assert_eq!(savi.holder(LINK, address(target)), Some(ONE));
}

#[test]
fn a_packet_that_was_not_admitted_has_its_sender_asked_and_bound_once_it_answers() {
    let mut savi = savi();
    let target = "2001:db8:1:2:d00d::1";
    assert_eq!(savi.handle_unknown(LINK, address(target), TWO, at(0)), Claim::Asked);
    assert_eq!(asked(&mut savi), [address(target)]);
    assert_eq!(savi.handle_unknown(LINK, address(target), TWO, at(1)), Claim::Asked, "asked once");
    assert_eq!(asked(&mut savi), [] as [Ipv6Addr; 0]);
    savi.handle_discovery(LINK, &advertisement(target), TWO, at(5));
    assert_eq!(savi.holder(LINK, address(target)), Some(TWO));
}

#[test]
fn a_sender_that_does_not_answer_for_the_address_does_not_get_it() {
    let mut savi = savi();
    let target = "2001:db8:1:2:d00d::1";
    savi.handle_unknown(LINK, address(target), TWO, at(0));
    pass(&mut savi, 0, 4000);
    assert_eq!(savi.holder(LINK, address(target)), None);
    assert_eq!(asked(&mut savi).len(), usize::from(PROBES));
    assert!(savi.bindings.is_empty(), "nothing is kept");
}

#[test]
fn a_holder_that_answers_keeps_its_address_and_one_that_has_gone_loses_it() {
    let mut savi = savi();
    let target = "2001:db8:1:2::77";
    savi.handle_discovery(LINK, &detection(target), ONE, at(0));
    pass(&mut savi, 0, 500);
    assert_eq!(savi.handle_discovery(LINK, &advertisement(target), TWO, at(1000)), Some(Claim::Contested));
    assert_eq!(asked(&mut savi), [address(target)]);
    assert_eq!(savi.holder(LINK, address(target)), Some(ONE), "until it is shown to have gone");
    savi.handle_discovery(LINK, &advertisement(target), ONE, at(1100));
    pass(&mut savi, 1200, 8000);
    assert_eq!(savi.holder(LINK, address(target)), Some(ONE));

    savi.handle_discovery(LINK, &detection(target), TWO, at(9000));
    pass(&mut savi, 9000, 12_000);
    savi.handle_discovery(LINK, &advertisement(target), TWO, at(12_100));
    assert_eq!(savi.holder(LINK, address(target)), Some(TWO));
}

#[test]
fn nobody_gets_addresses_of_the_router_of_elsewhere_or_out_of_what_is_routed_to_a_vm() {
    let mut savi = savi();
    for target in ["2001:db8:1:2::1", "fe80::1", "2001:db8:9::1", "2001:db8:1:2:21::5", "2001:db8:1:2:31::5", "::1"] {
        assert_eq!(savi.handle_unknown(LINK, address(target), TWO, at(0)), Claim::Foreign, "{target}");
        savi.handle_discovery(LINK, &advertisement(target), TWO, at(0));
        savi.handle_discovery(LINK, &detection(target), TWO, at(0));
    }
    assert_eq!(savi.handle_unknown(9, address("2001:db8:1:2::7"), TWO, at(0)), Claim::Foreign, "another link");
    assert!(savi.bindings.is_empty());
    assert_eq!(savi.claims()[&Claim::Foreign], 6 * 3 + 1);
}

#[test]
fn container_prefixes_belong_to_the_hardware_address_or_to_whoever_has_the_vms_address() {
    let mut savi = savi();
    let nets =
        |savi: &Savi| savi.sources()[0].nets.iter().map(|(mac, net)| (*mac, net.to_string())).collect::<Vec<_>>();
    let first = (ONE, "2001:db8:1:2:21::/80".to_owned());
    assert_eq!(nets(&savi), std::slice::from_ref(&first));
    savi.handle_discovery(LINK, &detection("2001:db8:1:2::31"), TWO, at(0));
    pass(&mut savi, 0, 500);
    assert_eq!(nets(&savi), [first, (TWO, "2001:db8:1:2:31::/80".to_owned())]);
}

#[test]
fn a_vm_by_address_is_asked_for_when_its_containers_send_first() {
    let mut savi = savi();
    let container = address("2001:db8:1:2:31::5");
    assert_eq!(savi.handle_unknown(LINK, container, TWO, at(100)), Claim::Foreign);
    assert_eq!(asked(&mut savi), [address("2001:db8:1:2::31")]);
    savi.handle_discovery(LINK, &advertisement("2001:db8:1:2::31"), TWO, at(101));
    assert_eq!(asked(&mut savi), [address("2001:db8:1:2::31")], "whether somebody else has it");
    savi.handle_discovery(LINK, &advertisement("2001:db8:1:2::31"), TWO, at(102));
    assert!(savi.sources()[0].nets.iter().any(|(mac, net)| *mac == TWO && net.contains(&container)));
}

#[test]
fn a_vm_whose_addresses_are_configured_needs_no_discovery_and_nobody_else_gets_them() {
    let mut plan = plan();
    plan.links[0].vms[1].mac = Some(TWO);
    let mut savi = Savi::default();
    savi.reconfigure(&plan, at(0));
    let configured = address("2001:db8:1:2::31");
    assert_eq!(savi.holder(LINK, configured), Some(TWO));
    assert_eq!(savi.handle_unknown(LINK, configured, ONE, at(0)), Claim::Foreign);
    pass(&mut savi, 0, 60_000);
    assert_eq!(savi.holder(LINK, configured), Some(TWO), "though it does not answer");
    assert!(savi.silent().contains("vm2"));
}

#[test]
fn a_vm_that_stops_answering_is_known_within_a_minute_and_welcome_back() {
    let mut savi = savi();
    savi.handle_discovery(LINK, &detection("fe80::11"), ONE, at(0));
    pass(&mut savi, 0, 500);
    assert_eq!(savi.link_locals(), [(LINK, ONE, address("fe80::11"))]);
    for second in 0..60 {
        pass(&mut savi, 500 + second * 1000, 1400 + second * 1000);
        if !asked(&mut savi).is_empty() {
            savi.handle_discovery(LINK, &advertisement("fe80::11"), ONE, at(1400 + second * 1000));
        }
    }
    assert!(savi.silent().is_empty());
    pass(&mut savi, 61_000, 100_000);
    assert_eq!(savi.silent().iter().collect::<Vec<_>>(), ["vm1"]);
    savi.handle_discovery(LINK, &detection("fe80::11"), ONE, at(101_000));
    pass(&mut savi, 101_000, 101_600);
    assert!(savi.silent().is_empty());
}

#[test]
fn what_a_former_daemon_knew_holds_until_it_has_been_asked() {
    let mut savi = savi();
    let held = address("2001:db8:1:2::77");
    savi.remember("eth1", &[(TWO, held), (ONE, address("2001:db8:9::1"))], at(0));
    assert_eq!(savi.holder(LINK, held), Some(TWO));
    assert_eq!(savi.holder(LINK, address("2001:db8:9::1")), None);
    savi.handle_timeout(at(0));
    assert_eq!(asked(&mut savi), [held]);
    pass(&mut savi, 100, 5000);
    assert_eq!(savi.holder(LINK, held), None, "it did not answer");
}

#[test]
fn inventions_cost_bounded_memory_and_few_solicitations() {
    let mut savi = savi();
    let mut sent = 0;
    for number in 0..20_000_u32 {
        let source = Ipv6Addr::from(u128::from(address("2001:db8:1:2::")) + u128::from(number) + 0x1000);
        let mac = MacAddr([2, 9, 0, 0, (number >> 8) as u8, 1]);
        savi.handle_unknown(LINK, source, mac, at(0));
        sent += asked(&mut savi).len();
    }
    assert!(sent <= PROBES_PER_SECOND as usize, "{sent}");
    assert!(savi.bindings.len() <= MOST_BINDINGS);
    let mine = savi.bindings.values().filter(|binding| binding.mac == MacAddr([2, 9, 0, 0, 0, 1])).count();
    assert!(mine <= MOST_ADDRESSES);
    assert!(savi.sources()[0].hosts.is_empty());
}

#[test]
fn invented_hosts_take_no_room_from_those_that_the_configuration_names() {
    let mut savi = savi();
    let invented = |number: u16| {
        let [high, low] = number.to_be_bytes();
        (MacAddr([2, 8, 0, 0, high, low]), Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 8, 0, 0, number))
    };
    let mut number = 0;
    while savi.bindings.len() < MOST_BINDINGS {
        let (mac, source) = invented(number);
        assert_eq!(savi.handle_unknown(LINK, source, mac, at(1)), Claim::Asked);
        number += 1;
    }
    let (mac, source) = invented(number);
    assert_eq!(savi.handle_unknown(LINK, source, mac, at(2)), Claim::Full);
    let new = detection("2001:db8:1:2::11");
    assert_eq!(savi.handle_discovery(LINK, &new, ONE, at(2)), Some(Claim::Asked), "vm1, by its hardware address");
    for number in 0..MOST_ADDRESSES as u16 {
        savi.handle_unknown(LINK, Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 9, 0, 0, number), ONE, at(2));
    }
    assert!(savi.bindings.len() <= MOST_BINDINGS + MOST_ADDRESSES, "one that is named has its limit, too");
}

#[test]
fn a_router_solicitation_shows_a_link_local_address() {
    let mut savi = savi();
    let mut buffer = [0; 64];
    let message = Writer::router_solicitation(&mut buffer).unwrap().finish();
    let routers = address("ff02::2");
    assert_eq!(savi.handle_discovery(LINK, &packet(Ipv6Addr::UNSPECIFIED, routers, message), ONE, at(0)), None);
    let solicitation = packet(address("fe80::1234"), routers, message);
    assert_eq!(savi.handle_discovery(LINK, &solicitation, ONE, at(0)), Some(Claim::Asked));
    savi.handle_discovery(LINK, &advertisement("fe80::1234"), ONE, at(1));
    assert_eq!(savi.link_locals(), [(LINK, ONE, address("fe80::1234"))]);
}

#[test]
fn a_solicitation_that_names_another_hardware_address_is_no_claim() {
    let mut savi = savi();
    let mut buffer = [0; 64];
    let mut writer = Writer::neighbor_solicitation(&mut buffer, address("fe80::1")).unwrap();
    writer.source_link_layer(ONE).unwrap();
    let message = packet(address("2001:db8:1:2::77"), solicited_node(address("fe80::1")), writer.finish());
    assert_eq!(savi.handle_discovery(LINK, &message, TWO, at(0)), None);
    assert_eq!(savi.handle_discovery(LINK, &message, ONE, at(0)), Some(Claim::Asked));
}

#[test]
fn whoever_wants_what_another_has_is_told_of_for_an_hour() {
    let mut savi = savi();
    let (mine, theirs) = ("2001:db8:1:2::77", "2001:db8:1:2::78");
    savi.handle_discovery(LINK, &detection(mine), ONE, at(0));
    pass(&mut savi, 0, 500);
    assert_eq!(savi.contests(LINK, at(500)), []);
    // Duplicate address detection of what is bound, and of what somebody has of whom nothing was known.
    savi.handle_discovery(LINK, &detection(mine), TWO, at(1000));
    savi.handle_discovery(LINK, &advertisement(mine), ONE, at(1100));
    savi.handle_discovery(LINK, &detection(theirs), TWO, at(2000));
    savi.handle_discovery(LINK, &advertisement(theirs), ONE, at(2100));
    let told = savi.contests(LINK, at(2200));
    let expected = [(theirs, 2100), (mine, 1000)].map(|(target, millis)| {
        let contest = Contest { holder: ONE, claimant: TWO, detection: true, times: 1, at: at(millis) };
        (address(target), contest)
    });
    assert_eq!(told, expected);
    // Whoever takes it all the same is another matter.
    savi.handle_unknown(LINK, address(mine), TWO, at(3000));
    let latest = savi.contests(LINK, at(3000))[0];
    assert_eq!((latest.0, latest.1.detection, latest.1.times), (address(mine), false, 2));
    assert_eq!(savi.contests(LINK + 1, at(3000)), []);
    assert_eq!(savi.contests(LINK, at(3000) + REMEMBERED_CONTEST), []);
}

#[test]
fn contests_that_are_invented_push_out_the_oldest_only() {
    let mut savi = savi();
    for host in 0..100_u16 {
        let target = format!("2001:db8:1:2::1:{host:x}");
        savi.contested((LINK, address(&target)), (ONE, TWO), true, at(u64::from(host)));
    }
    let told = savi.contests(LINK, at(100));
    assert_eq!((told.len(), told[0].0), (MOST_CONTESTS, address("2001:db8:1:2::1:63")));
}
