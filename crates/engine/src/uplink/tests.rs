//! What is learnt and remembered.
use core::time::Duration;

use super::*;

fn moment(seconds: u64, boot: &str) -> Moment {
    Moment { now: Instant::ZERO + Duration::from_secs(seconds), unix: 1_000_000 + seconds, boot: boot.to_owned() }
}

fn link(last: u8) -> Link {
    Link { index: 2, name: "wan0".to_owned(), mac: MacAddr([2, 0, 0, 0, 0, last]), link_local: None, carrier: true }
}

fn wanted() -> Wanted {
    Wanted { ipv4: Ipv4Source::Dhcp, ..Wanted::default() }
}

fn lease(ends: u64) -> v4::Lease {
    let at = |seconds| Some(Instant::ZERO + Duration::from_secs(seconds));
    v4::Lease {
        address: "192.0.2.7/24".parse().unwrap(),
        gateway: Some("192.0.2.1".parse().unwrap()),
        routes: Vec::new(),
        resolvers: Vec::new(),
        time_servers: Vec::new(),
        server: "192.0.2.1".parse().unwrap(),
        server_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        t1: at(ends / 2),
        t2: at(ends * 7 / 8),
        ends: at(ends),
    }
}

fn remembered(at: u64) -> Memory {
    let mut kept = Kept { mac: Some(link(9).mac.to_string()), ..Kept::default() };
    kept.set_lease4(Some(&lease(1000)));
    Memory::new(&kept, &moment(at, "a"))
}

#[test]
fn a_lease_is_kept_over_a_restart_and_a_boot_with_the_time_that_is_left() {
    let memory = remembered(400);
    let text = serde_json::to_string(&memory).unwrap();
    let memory: Memory = serde_json::from_str(&text).unwrap();
    for (moment, left) in [(moment(500, "a"), Some(500)), (moment(1000, "a"), None)] {
        let mut uplink = Uplink::new(memory.clone(), 1, &moment);
        uplink.follow(&wanted(), Some(&link(9)), &moment);
        let status = uplink.status(&moment).dhcp4.unwrap();
        assert_eq!((status.address.is_some(), status.remaining), (left.is_some(), left));
        assert_eq!(uplink.learnt().ipv4.is_some(), left.is_some());
    }
    // 100 s later by the wall clock, on a machine that has just booted.
    let booted = Moment { now: Instant::from_nanos(5), unix: 1_000_500, boot: "b".to_owned() };
    let mut uplink = Uplink::new(memory.clone(), 1, &booted);
    uplink.follow(&wanted(), Some(&link(9)), &booted);
    assert_eq!(uplink.status(&booted).dhcp4.unwrap().remaining, Some(500));

    let mut other = Uplink::new(memory, 1, &moment(1, "a"));
    other.follow(&wanted(), Some(&link(8)), &moment(500, "a"));
    assert_eq!(other.learnt().ipv4, None, "it was another interface's");
}

#[test]
fn a_link_that_loses_its_carrier_keeps_the_address_and_has_it_confirmed() {
    let memory = remembered(0);
    let mut uplink = Uplink::new(memory, 1, &moment(1, "a"));
    uplink.follow(&wanted(), Some(&link(9)), &moment(1, "a"));
    uplink.handle_timeout(moment(30, "a").now);
    uplink.handle_timeout(moment(60, "a").now);
    uplink.handle_timeout(moment(90, "a").now);
    uplink.handle_timeout(moment(120, "a").now);
    assert_eq!(uplink.status(&moment(120, "a")).dhcp4.unwrap().state, "bound");
    uplink.follow(&wanted(), Some(&Link { carrier: false, ..link(9) }), &moment(130, "a"));
    assert!(uplink.learnt().ipv4.is_some());
    uplink.follow(&wanted(), None, &moment(131, "a"));
    uplink.follow(&wanted(), Some(&link(9)), &moment(140, "a"));
    assert_eq!(uplink.status(&moment(140, "a")).dhcp4.unwrap().state, "rebooting");
    assert!(uplink.learnt().ipv4.is_some());
    uplink.follow(&Wanted::default(), Some(&link(9)), &moment(141, "a"));
    assert_eq!(uplink.learnt(), &Learnt::default(), "a configuration that asks for nothing has nothing");
}
