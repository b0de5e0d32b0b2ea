//! Which port a client gets, and when somebody else may have it.
use super::*;
use rand_core::SeedableRng;
use std::collections::BTreeSet;

const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn client(port: u16) -> TransportV6 {
    TransportV6 { address: "2001:db8::1".parse().unwrap(), port }
}

fn pool(addresses: &[Ipv4Addr], ports: RangeInclusive<u16>) -> Pool {
    blocks_of(addresses, ports, 0)
}

fn blocks_of(addresses: &[Ipv4Addr], ports: RangeInclusive<u16>, block: u16) -> Pool {
    let mut pool = Pool::new(Keyed::new((1, 2)));
    pool.hold_back(Duration::from_secs(120), 100);
    pool.replace(shares(addresses, &ports), block);
    pool
}

const START: Instant = Instant::ZERO;

fn at(seconds: u64) -> Instant {
    START + Duration::from_secs(seconds)
}

/// Somebody who answers for himself, known by a number.
fn owner(number: u32) -> Client {
    Client::from(Ipv4Addr::from_bits(number))
}

fn ask(protocol: Protocol, port: u16) -> Ask {
    Ask { protocol, client: client(port), owner: owner(1), home: None }
}

fn allocate(pool: &mut Pool, protocol: Protocol, port: u16, random: &mut ChaCha8Rng) -> Option<TransportV4> {
    pool.allocate(ask(protocol, port), random, START).ok().map(|(mapped, _)| mapped)
}

fn shares(
    addresses: &[Ipv4Addr],
    ports: &RangeInclusive<u16>,
) -> impl Iterator<Item = (Ipv4Addr, RangeInclusive<u16>)> {
    addresses.iter().map(|address| (*address, ports.clone()))
}

fn random() -> ChaCha8Rng {
    ChaCha8Rng::from_seed([7; 32])
}

#[test]
fn every_port_of_the_share_is_given_once_and_none_outside() {
    let mut pool = pool(&[ONE], 40_000..=40_199);
    let mut random = random();
    let ports: BTreeSet<u16> =
        (0..200).map(|port| allocate(&mut pool, Protocol::Udp, port + 5000, &mut random).unwrap().port).collect();
    assert_eq!(ports, (40_000..=40_199).collect());
    assert_eq!(allocate(&mut pool, Protocol::Udp, 1, &mut random), None);
    assert!(allocate(&mut pool, Protocol::Tcp, 1, &mut random).is_some(), "protocols do not share");
    pool.release(Protocol::Udp, TransportV4 { address: ONE, port: 40_123 }, START);
    let (mapped, _) = pool.allocate(ask(Protocol::Udp, 2), &mut random, at(120)).unwrap();
    assert_eq!(mapped.port, 40_123);
}

/// RFC 6888 REQ-8.
#[test]
fn a_port_is_held_back_for_120_seconds_unless_it_is_tcps() {
    let mut pool = pool(&[ONE], 40_000..=40_000);
    let mut random = random();
    let mapped = TransportV4 { address: ONE, port: 40_000 };
    for protocol in Protocol::ALL {
        assert_eq!(pool.allocate(ask(protocol, 1), &mut random, START).unwrap().0, mapped);
        assert_eq!(pool.release(protocol, mapped, START), None);
    }
    assert_eq!(pool.status().held, 2);
    assert!(
        pool.allocate(ask(Protocol::Tcp, 1), &mut random, START).is_ok(),
        "the state machine has seen the end of it"
    );
    for protocol in [Protocol::Udp, Protocol::Icmp] {
        assert_eq!(pool.allocate(ask(protocol, 1), &mut random, at(119)), Err(Reason::PoolExhausted));
        assert_eq!(pool.free(protocol), 0);
    }
    pool.expire(at(120));
    assert_eq!(pool.status().held, 0);
    for protocol in [Protocol::Udp, Protocol::Icmp] {
        assert!(pool.allocate(ask(protocol, 1), &mut random, at(120)).is_ok());
    }
}

/// RFC 6888 REQ-8: the maximum number of ports in this state.
#[test]
fn no_more_ports_are_held_back_than_configured_and_none_of_addresses_that_are_gone() {
    let mut pool = pool(&[ONE, TWO], 40_000..=40_199);
    let mut random = random();
    let all: Vec<TransportV4> = (0..400).map(|_| allocate(&mut pool, Protocol::Udp, 1, &mut random).unwrap()).collect();
    for (second, mapped) in all.iter().enumerate().take(101) {
        pool.release(Protocol::Udp, *mapped, START + Duration::from_millis(second as u64));
    }
    assert_eq!((pool.status().held, pool.free(Protocol::Udp)), (100, 1), "the first of them is free");
    assert_eq!(allocate(&mut pool, Protocol::Udp, 1, &mut random), Some(all[0]));
    pool.replace(shares(&[TWO], &(40_000..=40_199)), 0);
    let kept = all[1..101].iter().filter(|mapped| mapped.address == TWO).count() as u64;
    assert_eq!(pool.status().held, kept);
    pool.replace(shares(&[TWO, ONE], &(40_000..=40_199)), 0);
    assert_eq!(pool.free(Protocol::Udp), 200, "an address that comes back begins anew");
}

/// RFC 6888 REQ-13 and 14.
#[test]
fn a_client_gets_ports_in_blocks_of_its_own() {
    let mut pool = blocks_of(&[ONE], 40_000..=40_299, 100);
    let mut random = random();
    let mut ports = |owner_of: u32, protocol| {
        let ask = Ask { owner: owner(owner_of), ..ask(protocol, 5000) };
        pool.allocate(ask, &mut random, START).map(|(mapped, block)| (mapped.port, block.map(|block| block.port)))
    };
    let (first, block) = ports(1, Protocol::Udp).unwrap();
    let block = block.unwrap();
    assert!((block..block + 100).contains(&first) && (block - 40_000).is_multiple_of(100));
    for _ in 1..100 {
        let (port, another) = ports(1, Protocol::Udp).unwrap();
        assert_eq!((port / 100, another), (block / 100, None), "the same row");
    }
    assert_eq!(ports(1, Protocol::Tcp).unwrap().1, None, "all protocols share a block");
    let (other, theirs) = ports(2, Protocol::Udp).unwrap();
    assert!(theirs.is_some() && other / 100 != block / 100, "nobody else is in it");
    assert_eq!(ports(1, Protocol::Udp), Err(Reason::ClientBindingLimit), "the last one is for somebody who has none");
    assert!(ports(3, Protocol::Udp).unwrap().1.is_some());
    assert_eq!(ports(4, Protocol::Udp), Err(Reason::PoolExhausted));
}

#[test]
fn a_block_is_held_back_as_a_whole_once_its_last_port_is_given_back() {
    let mut pool = blocks_of(&[ONE], 40_000..=40_099, 100);
    let mut random = random();
    let one = pool.allocate(ask(Protocol::Tcp, 1), &mut random, START).unwrap();
    let two = pool.allocate(ask(Protocol::Udp, 1), &mut random, START).unwrap();
    let block = one.1.unwrap();
    assert_eq!(pool.assigned(), HashSet::from([block]));
    assert_eq!(pool.release(Protocol::Tcp, one.0, START), None);
    // A published port comes and goes without being the client's.
    let published = TransportV4 { port: if two.0.port == 40_005 { 40_006 } else { 40_005 }, ..two.0 };
    assert!(pool.reserve(Protocol::Udp, published));
    pool.unreserve(Protocol::Udp, published);
    assert_eq!(pool.release(Protocol::Udp, two.0, at(10)), Some(block));
    assert_eq!((pool.assigned().len(), pool.status().held), (0, 100));
    assert_eq!(pool.allocate(ask(Protocol::Udp, 1), &mut random, at(129)), Err(Reason::PoolExhausted));
    // The same addresses once more change nothing of that.
    pool.replace(shares(&[ONE], &(40_000..=40_099)), 100);
    assert_eq!(pool.allocate(ask(Protocol::Udp, 1), &mut random, at(129)), Err(Reason::PoolExhausted));
    assert!(pool.allocate(ask(Protocol::Udp, 1), &mut random, at(130)).unwrap().1.is_some());
}

#[test]
fn a_port_of_anothers_block_is_neither_claimed_nor_adopted() {
    let mut pool = blocks_of(&[ONE], 40_000..=40_250, 100);
    let mapped = |port| TransportV4 { address: ONE, port };
    assert!(pool.claim(Protocol::Udp, mapped(40_000), owner(1)));
    assert!(!pool.claim(Protocol::Udp, mapped(40_000), owner(1)), "twice");
    assert!(!pool.claim(Protocol::Udp, mapped(40_001), owner(2)));
    assert!(!pool.claim(Protocol::Udp, mapped(40_201), owner(2)), "what is left over behind the blocks is nobody's");
    assert!(pool.claim(Protocol::Udp, mapped(40_100), owner(2)));
    pool.replace(shares(&[ONE], &(40_000..=40_199)), 200);
    assert!(pool.adopt(mapped(40_100), owner(2)));
    assert!(!pool.adopt(mapped(40_000), owner(1)));
    assert_eq!(pool.release(Protocol::Udp, mapped(40_000), START), None, "whoever is left has it");
    assert_eq!(pool.release(Protocol::Udp, mapped(40_100), START).map(|block| block.client), Some(owner(2)));
}

#[test]
fn many_addresses_are_found_by_their_hash() {
    let addresses: Vec<Ipv4Addr> = (0..1000).map(|host| Ipv4Addr::from_bits(ONE.to_bits() + host)).collect();
    let pool = pool(&addresses, 40_000..=40_001);
    assert!(addresses.iter().all(|address| pool.contains(*address)));
    assert!(!pool.contains(Ipv4Addr::from_bits(ONE.to_bits() + 1000)));
    assert_eq!(pool.free(Protocol::Tcp), 2000);
}

/// Of two addresses at random a new client gets the one with more ports left.
#[test]
fn new_clients_are_spread_over_the_addresses() {
    let mut pool = pool(&[ONE, TWO], 40_000..=40_099);
    let mut random = random();
    let ones = (0..50).filter(|_| allocate(&mut pool, Protocol::Tcp, 1, &mut random).unwrap().address == ONE).count();
    assert!((24..=26).contains(&ones), "{ones}");
}

/// RFC 4787 REQ-4.
#[test]
fn udp_parity_is_kept_while_it_can_be() {
    let mut pool = pool(&[ONE], 40_001..=40_100);
    let mut random = random();
    for _ in 0..50 {
        assert_eq!(allocate(&mut pool, Protocol::Udp, 5002, &mut random).unwrap().port % 2, 0);
    }
    assert_eq!(allocate(&mut pool, Protocol::Udp, 5002, &mut random).unwrap().port % 2, 1);
}

/// RFC 6146 section 3.5.1.1.
#[test]
fn low_ports_stay_low_while_they_can() {
    let mut pool = pool(&[ONE], 1000..=2000);
    let mut random = random();
    for _ in 0..24 {
        assert!(allocate(&mut pool, Protocol::Tcp, 22, &mut random).unwrap().port < 1024);
    }
    assert!(allocate(&mut pool, Protocol::Tcp, 22, &mut random).unwrap().port >= 1024);
}

/// RFC 6056: an observer of one port does not know the next.
#[test]
fn ports_are_scattered_over_the_share() {
    let mut pool = pool(&[ONE], 40_960..=65_535);
    let mut random = random();
    let ports: Vec<u16> =
        (0..100).map(|_| allocate(&mut pool, Protocol::Tcp, 5000, &mut random).unwrap().port).collect();
    let quarters: BTreeSet<u16> = ports.iter().map(|port| (port - 40_960) / 6144).collect();
    assert_eq!(quarters.len(), 4);
    assert!(ports.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() < 3);
}

#[test]
fn a_port_is_claimed_once_and_not_given_to_others() {
    let mut pool = pool(&[ONE], 40_000..=40_001);
    let mapped = |address, port| TransportV4 { address, port };
    assert!(pool.claim(Protocol::Tcp, mapped(ONE, 40_000), owner(1)));
    assert!(!pool.claim(Protocol::Tcp, mapped(ONE, 40_000), owner(1)));
    assert!(!pool.claim(Protocol::Tcp, mapped(ONE, 40_002), owner(1)));
    assert!(!pool.claim(Protocol::Tcp, mapped(TWO, 40_000), owner(1)));
    assert_eq!(allocate(&mut pool, Protocol::Tcp, 1, &mut random()).unwrap().port, 40_001);
}

/// RFC 4787 REQ-2.
#[test]
fn a_client_keeps_its_address_until_that_is_full() {
    let mut pool = pool(&[ONE, TWO], 40_000..=40_009);
    let mut random = random();
    let ask = Ask { home: Some(TWO), ..ask(Protocol::Tcp, 5000) };
    let mut addresses = || pool.allocate(ask, &mut random, START).map(|(mapped, _)| mapped.address);
    for _ in 0..10 {
        assert_eq!(addresses(), Ok(TWO));
    }
    assert_eq!(addresses(), Ok(ONE));
}

#[test]
fn allocations_survive_a_replacement_of_other_addresses() {
    let mut pool = pool(&[ONE], 40_000..=40_000);
    let mut random = random();
    allocate(&mut pool, Protocol::Tcp, 5000, &mut random).unwrap();
    pool.replace(shares(&[TWO, ONE], &(40_000..=40_000)), 0);
    assert_eq!(allocate(&mut pool, Protocol::Tcp, 5000, &mut random).unwrap().address, TWO);
    assert_eq!(allocate(&mut pool, Protocol::Tcp, 5000, &mut random), None);
    pool.replace(shares(&[], &(40_000..=40_000)), 0);
    assert!(pool.is_empty());
    assert_eq!(allocate(&mut pool, Protocol::Tcp, 5000, &mut random), None);
}
