//! The client against a server that is written by hand.
use proptest::prelude::*;
use sixgate_wire::dhcpv4::code;

use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const SERVER: [u8; 4] = [192, 0, 2, 1];
const ADDRESS: [u8; 4] = [192, 0, 2, 77];

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

fn client(remembered: Option<Lease>, now: Instant) -> Client {
    Client::new(Identity { mac: MAC, hostname: "gate".to_owned() }, remembered, 7, now)
}

/// What the client has said last: hardware and IPv4 destination, and the DHCP message.
fn said(client: &mut Client) -> Option<(MacAddr, [u8; 4], Vec<u8>)> {
    match client.poll_transmit()? {
        Transmit::Ipv4 { to, packet } => {
            let destination = packet[16..20].try_into().unwrap();
            Some((to, destination, packet[28..].to_vec()))
        }
        Transmit::Arp(_) => said(client),
    }
}

fn kind(message: &[u8]) -> u8 {
    assert_eq!(message[240..242], [53, 1]);
    message[242]
}

fn option(message: &[u8], code: u8) -> Option<&[u8]> {
    let mut rest = &message[240..];
    while let [kind, length, tail @ ..] = rest {
        if *kind == 255 || *kind == 0 {
            return None;
        }
        let (value, tail) = tail.split_at(usize::from(*length));
        if *kind == code {
            return Some(value);
        }
        rest = tail;
    }
    None
}

/// A reply to a message, as the packet that carries it.
fn reply(to: &[u8], kind: u8, address: [u8; 4], options: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; 240];
    payload[..3].copy_from_slice(&[2, 1, 6]);
    payload[4..8].copy_from_slice(&to[4..8]);
    payload[16..20].copy_from_slice(&address);
    payload[28..34].copy_from_slice(&to[28..34]);
    payload[236..].copy_from_slice(&[99, 130, 83, 99]);
    payload.extend([53, 1, kind, 54, 4]);
    payload.extend(SERVER);
    payload.extend(options);
    payload.push(255);
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(SERVER);
    packet.extend([255; 4]);
    packet.extend([0, 67, 0, 68, 0, 0, 0xde, 0xad]);
    packet.extend(&payload);
    let length = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    let whole = length(packet.len());
    packet[2..4].copy_from_slice(&whole);
    let datagram = length(payload.len() + 8);
    packet[24..26].copy_from_slice(&datagram);
    let checksum = sixgate_wire::checksum::Sum::ZERO.bytes(&packet[..20]).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet
}

const HOUR: [u8; 6] = [51, 4, 0, 0, 14, 16];
const REST: [u8; 18] = [1, 4, 255, 255, 255, 0, 3, 4, 192, 0, 2, 1, 6, 4, 192, 0, 2, 53];

fn grant() -> Vec<u8> {
    [&HOUR[..], &REST].concat()
}

/// Discovers, takes the offer and gets an answer at second 1; the probe is still to come.
fn acknowledged(client: &mut Client) {
    client.handle_timeout(at(1));
    let (to, destination, discover) = said(client).unwrap();
    assert_eq!((to, destination, kind(&discover)), (MacAddr([255; 6]), [255; 4], 1));
    assert_eq!(client.handle_ipv4(&reply(&discover, 2, ADDRESS, &grant()), SERVER_MAC, at(1)), Verdict::Taken);
    let (_, destination, request) = said(client).unwrap();
    assert_eq!((destination, kind(&request)), ([255; 4], 3));
    assert_eq!(
        (option(&request, code::REQUESTED_ADDRESS), option(&request, code::SERVER_IDENTIFIER)),
        (Some(&ADDRESS[..]), Some(&SERVER[..]))
    );
    assert_eq!(request[4..8], discover[4..8], "the request has the offer's xid");
    assert_eq!(client.handle_ipv4(&reply(&request, 5, ADDRESS, &grant()), SERVER_MAC, at(1)), Verdict::Taken);
}

/// Runs the client's timers up to `end`.
fn run(client: &mut Client, end: Instant) {
    while let Some(due) = client.poll_timeout().filter(|due| *due <= end) {
        client.handle_timeout(due);
    }
}

fn bound() -> Client {
    let mut client = client(None, at(1));
    acknowledged(&mut client);
    run(&mut client, at(3));
    assert_eq!(client.state(), "bound");
    while client.poll_transmit().is_some() {}
    client
}

#[test]
fn an_address_is_used_after_nobody_has_answered_the_probes() {
    let mut client = client(None, at(1));
    acknowledged(&mut client);
    assert_eq!((client.state(), client.lease()), ("probing", None));
    let mut probes = 0;
    while client.lease().is_none() {
        let now = client.poll_timeout().unwrap();
        client.handle_timeout(now);
        while let Some(Transmit::Arp(packet)) = client.poll_transmit() {
            probes += u32::from(Arp::parse(&packet).unwrap().sender_address.is_unspecified());
        }
        assert!(now < at(3));
    }
    assert_eq!(probes, PROBES);
    let lease = client.lease().unwrap();
    assert_eq!(lease.address, "192.0.2.77/24".parse().unwrap());
    assert_eq!((lease.gateway, lease.server_mac), (Some(SERVER.into()), SERVER_MAC));
    assert_eq!(lease.resolvers, [Ipv4Addr::new(192, 0, 2, 53)]);
    assert_eq!((lease.t1, lease.t2, lease.ends), (Some(at(1801)), Some(at(3151)), Some(at(3601))));
}

#[test]
fn an_address_that_somebody_has_is_declined_and_another_one_looked_for() {
    for conflict in [
        Arp { request: false, sender: SERVER_MAC, sender_address: ADDRESS.into(), target_address: [0; 4].into() },
        Arp::probe(SERVER_MAC, ADDRESS.into()),
    ] {
        let mut client = client(None, at(1));
        acknowledged(&mut client);
        while client.poll_transmit().is_some() {}
        client.handle_arp(&Arp::probe(MAC, ADDRESS.into()).emit(), at(1));
        client.handle_arp(&Arp::announcement(SERVER_MAC, [192, 0, 2, 9].into()).emit(), at(1));
        assert_eq!(client.state(), "probing", "our own probe and other addresses are no conflict");
        client.handle_arp(&conflict.emit(), at(2));
        let (_, destination, decline) = said(&mut client).unwrap();
        assert_eq!((destination, kind(&decline)), ([255; 4], 4));
        assert_eq!(option(&decline, code::REQUESTED_ADDRESS), Some(&ADDRESS[..]));
        assert_eq!((client.state(), client.lease(), client.conflicts()), ("init", None, 1));
        assert_eq!(client.poll_timeout(), Some(at(2) + DECLINE_PAUSE));
    }
}

#[test]
fn a_lease_is_renewed_by_unicast_then_rebound_by_broadcast_and_ends() {
    let mut client = bound();
    run(&mut client, at(1801));
    let (to, destination, request) = said(&mut client).unwrap();
    assert_eq!((client.state(), to, destination, kind(&request)), ("renewing", SERVER_MAC, SERVER, 3));
    assert_eq!(request[12..16], ADDRESS, "ciaddr is filled in");
    assert_eq!((option(&request, code::REQUESTED_ADDRESS), option(&request, code::SERVER_IDENTIFIER)), (None, None));

    let mut renewed = Client { rng: client.rng.clone(), ..bound() };
    run(&mut renewed, at(1801));
    let (_, _, request) = said(&mut renewed).unwrap();
    assert_eq!(renewed.handle_ipv4(&reply(&request, 5, ADDRESS, &grant()), SERVER_MAC, at(1802)), Verdict::Taken);
    assert_eq!((renewed.state(), renewed.lease().unwrap().ends), ("bound", Some(at(1801 + 3600))));

    run(&mut client, at(3151));
    let last = std::iter::from_fn(|| said(&mut client)).last().unwrap();
    assert_eq!((client.state(), last.0, last.1), ("rebinding", MacAddr([255; 6]), [255; 4]));
    assert!(client.lease().is_some(), "it is used until it ends");
    run(&mut client, at(3601));
    assert_eq!((client.state(), client.lease()), ("selecting", None));
}

#[test]
fn a_refusal_ends_the_use_of_the_address() {
    let mut client = bound();
    run(&mut client, at(1801));
    let (_, _, request) = said(&mut client).unwrap();
    assert_eq!(client.handle_ipv4(&reply(&request, 6, [0; 4], &[]), SERVER_MAC, at(1802)), Verdict::Taken);
    assert_eq!((client.state(), client.lease()), ("init", None));
    assert_eq!(client.poll_timeout(), Some(at(1802) + NAK_PAUSE));
}

#[test]
fn a_remembered_lease_is_used_at_once_and_confirmed() {
    let lease = bound().lease().cloned();
    let mut confirmed = client(lease.clone(), at(100));
    assert_eq!(confirmed.lease(), lease.as_ref());
    confirmed.handle_timeout(at(100));
    let (_, destination, request) = said(&mut confirmed).unwrap();
    assert_eq!((destination, kind(&request)), ([255; 4], 3));
    assert_eq!(
        (option(&request, code::REQUESTED_ADDRESS), option(&request, code::SERVER_IDENTIFIER)),
        (Some(&ADDRESS[..]), None)
    );
    assert_eq!(confirmed.handle_ipv4(&reply(&request, 5, ADDRESS, &grant()), SERVER_MAC, at(100)), Verdict::Taken);
    assert_eq!((confirmed.state(), confirmed.lease().unwrap().ends), ("bound", Some(at(3700))), "without a new probe");

    let mut unheard = client(lease.clone(), at(100));
    run(&mut unheard, at(160));
    assert_eq!((unheard.state(), unheard.lease()), ("bound", lease.as_ref()), "RFC 2131 section 3.2");
    assert_eq!(client(lease, at(4000)).lease(), None, "one that has ended is forgotten");
}

#[test]
fn classless_routes_take_the_place_of_the_router() {
    let mut client = client(None, at(1));
    client.handle_timeout(at(1));
    let (_, _, discover) = said(&mut client).unwrap();
    client.handle_ipv4(&reply(&discover, 2, ADDRESS, &grant()), SERVER_MAC, at(1));
    let (_, _, request) = said(&mut client).unwrap();
    let routes = [121, 21, 0, 192, 0, 2, 254, 24, 10, 0, 0, 0, 0, 0, 0, 16, 172, 16, 192, 0, 2, 2, 0];
    let mut options = grant();
    options.extend(&routes[..22]);
    options[25] = 20;
    assert_eq!(client.handle_ipv4(&reply(&request, 5, ADDRESS, &options), SERVER_MAC, at(1)), Verdict::Taken);
    run(&mut client, at(3));
    let lease = client.lease().unwrap();
    assert_eq!(lease.gateway, Some([192, 0, 2, 254].into()));
    assert_eq!(
        lease.routes,
        [("10.0.0.0/24".parse().unwrap(), None), ("172.16.0.0/16".parse().unwrap(), Some([192, 0, 2, 2].into()))]
    );
}

#[test]
fn what_answers_somebody_else_or_nothing_is_not_taken() {
    let mut client = client(None, at(1));
    client.handle_timeout(at(1));
    let (_, _, discover) = said(&mut client).unwrap();
    let offer = reply(&discover, 2, ADDRESS, &grant());
    let mut other = discover.clone();
    other[7] ^= 1;
    assert_eq!(client.handle_ipv4(&reply(&other, 2, ADDRESS, &grant()), SERVER_MAC, at(1)), Verdict::NotForUs);
    other = discover.clone();
    other[33] ^= 1;
    assert_eq!(client.handle_ipv4(&reply(&other, 2, ADDRESS, &grant()), SERVER_MAC, at(1)), Verdict::NotForUs);
    assert_eq!(client.handle_ipv4(&reply(&discover, 5, ADDRESS, &grant()), SERVER_MAC, at(1)), Verdict::Unexpected);
    assert_eq!(client.handle_ipv4(&reply(&discover, 2, [0; 4], &grant()), SERVER_MAC, at(1)), Verdict::Unusable);
    assert_eq!(client.handle_ipv4(&offer[..60], SERVER_MAC, at(1)), Verdict::Malformed);
    assert_eq!(client.state(), "selecting");
    assert_eq!(client.handle_ipv4(&offer, SERVER_MAC, at(1)), Verdict::Taken);
}

#[test]
fn discovers_are_repeated_with_growing_pauses() {
    let mut client = client(None, at(0));
    let mut times = Vec::new();
    for _ in 0..8 {
        let now = client.poll_timeout().unwrap();
        client.handle_timeout(now);
        assert_eq!(kind(&said(&mut client).unwrap().2), 1);
        times.push(now);
    }
    let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1].saturating_since(pair[0]).as_secs()).collect();
    for (pause, expected) in pauses.iter().zip([4, 8, 16, 32, 64, 64, 64]) {
        assert!((expected - 1..=expected + 1).contains(pause), "{pauses:?}");
    }
}

proptest! {
    #[test]
    fn no_packet_ends_the_client_or_gives_it_an_address(
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..20),
        options in prop::collection::vec(any::<u8>(), 0..200),
        kind in any::<u8>(),
    ) {
        let mut client = client(None, at(1));
        client.handle_timeout(at(1));
        let (_, _, discover) = said(&mut client).unwrap();
        for packet in &noise {
            client.handle_ipv4(packet, SERVER_MAC, at(1));
            client.handle_arp(packet, at(1));
        }
        client.handle_ipv4(&reply(&discover, kind, ADDRESS, &options), SERVER_MAC, at(1));
        if let Some((_, _, request)) = said(&mut client) {
            client.handle_ipv4(&reply(&request, 5, ADDRESS, &options), SERVER_MAC, at(1));
        }
        run(&mut client, at(4));
        prop_assert!(client.lease().is_none_or(|lease| lease.address.addr() == Ipv4Addr::from(ADDRESS)));
    }
}
