//! What a session knows of its route, and when it is over.
use super::super::settings;
use super::*;
use crate::testing::{in_namespace, wait_for};

/// Where a value of either direction has the time when the route was asked for.
const ASKED_AT: [usize; 2] = [56, 80];

#[test]
fn a_session_asks_for_its_route_again_with_the_first_packet_after_a_change() {
    in_namespace(|| async {
        let plan = plan();
        let mut rig = Rig::new(&plan);
        assert!(rig.fast_path.watch.is_some());
        let mut traffic = fuzz::Traffic::new(3, &plan);
        let session = traffic.session(&rig, 17);
        rig.insert(&session);
        // Before Linux 6.3 the kernel tells of a route's MTU only where it knows the neighbour.
        for (address, link) in [(session.server.0.to_string(), "wan0"), (session.client.0.to_string(), "lan0")] {
            run(&format!("ip neighbour replace {address} lladdr 02:00:00:00:00:09 dev {link} nud permanent"));
        }
        let asked_at = |rig: &Rig| {
            let v6 = rig.fast_path.v6.get(&session.key_v6(), 0).unwrap();
            let v4 = rig.fast_path.v4.get(&session.key_v4(), 0).unwrap();
            let at = |value: &[u8], at: usize| u64::from_ne_bytes(*value[at..].first_chunk().unwrap());
            [at(&v6, ASKED_AT[0]), at(&v4, ASKED_AT[1])]
        };
        for (side, version) in [(0, "-4"), (1, "-6")] {
            let packet = if side == 0 { traffic.plain_v6(&session) } else { traffic.plain_v4(&session) };
            let known = || {
                assert!(matches!(rig.run(&packet), Outcome::Translated(_)));
                asked_at(&rig)[side]
            };
            // Once it is known, packets of the next milliseconds do not ask.
            let mut before = 0;
            let mut is_known = || (std::mem::replace(&mut before, known()) == known()).then_some(());
            wait_for("a route that is known", &mut is_known);
            let link = if side == 0 { "wan0" } else { "lan0" };
            run(&format!("ip {version} route del default dev {link}"));
            assert_eq!(rig.run(&packet), Outcome::Left(Reason::NoRoute));
            run(&format!("ip {version} route add default dev {link}"));
            assert!(matches!(rig.run(&packet), Outcome::Translated(_)));
            wait_for("a route that is known again", &mut is_known);
            // A rule of routing is a change as well.
            run(&format!("ip {version} rule add prio 50 iif {link} unreachable"));
            run(&format!("ip {version} rule add prio 51 unreachable"));
            assert_eq!(rig.run(&packet), Outcome::Left(Reason::NoRoute));
            run(&format!("ip {version} rule del prio 51"));
        }
    });
}

#[test]
fn where_nobody_listens_any_more_each_packet_asks_for_its_route() {
    in_namespace(|| async {
        let plan = plan();
        let mut rig = Rig::new(&plan);
        let mut traffic = fuzz::Traffic::new(5, &plan);
        let session = traffic.session(&rig, 17);
        rig.insert(&session);
        let packet = traffic.plain_v6(&session);
        let known = |rig: &Rig| {
            assert!(matches!(rig.run(&packet), Outcome::Translated(_)));
            let value = rig.fast_path.v6.get(&session.key_v6(), 0).unwrap();
            u64::from_ne_bytes(*value[ASKED_AT[0]..].first_chunk().unwrap())
        };
        wait_for("a route that is known", || (known(&rig) != 0).then_some(()));
        // As where the process is killed, which has no time to say anything.
        drop(rig.fast_path.watch.take());
        wait_for("the kernel to take note", || (known(&rig) == 0).then_some(()));
        run("ip -4 route del default dev wan0");
        assert_eq!(rig.run(&packet), Outcome::Left(Reason::NoRoute));
    });
}

#[test]
fn without_a_daemon_translation_ends_by_itself() {
    in_namespace(|| async {
        let plan = plan();
        let mut rig = Rig::new(&plan);
        let mut traffic = fuzz::Traffic::new(4, &plan);
        let session = traffic.session(&rig, 17);
        rig.insert(&session);
        let until = now() + std::time::Duration::from_secs(5);
        let settings = Settings { hops: 1, least_hop_limit: 3, least_ttl: 2, ..settings(&plan, rig.uplink) };
        rig.fast_path.configure(&Settings { epoch: EPOCH, attended_until: until.as_nanos(), ..settings }).unwrap();
        let packets = [traffic.plain_v6(&session), traffic.plain_v4(&session)];
        assert!(packets.iter().all(|packet| matches!(rig.run(packet), Outcome::Translated(_))));
        // Nobody raises the time again.
        let is_over = |packet: &Vec<u8>| rig.run(packet) == Outcome::Left(Reason::Unattended);
        wait_for("the end of both directions", || packets.iter().all(is_over).then_some(()));
        assert!(now() >= until);
    });
}
