//! The translator under test, with the addresses that the tests agree on.
use core::time::Duration;

use sixgate_engine::config::{Filtering, Nat64Limits, Nat64Timers};
use sixgate_engine::nat64::event::Wanted;
use sixgate_engine::nat64::tuple::{Protocol, TransportV6};
use sixgate_engine::nat64::verdict::Verdict;
use sixgate_engine::nat64::{Nat64, Restored, Transmit};
use sixgate_engine::plan::Nat64Plan;
use sixgate_engine::time::Instant;
use sixgate_engine::xlat::Policy;

pub(crate) const CLIENT: &str = "2001:db8:1::2";
pub(crate) const OTHER_CLIENT: &str = "2001:db8:1::3";
pub(crate) const ROUTER: &str = "2001:db8:1::1";
pub(crate) const POOL: &str = "198.51.100.1";
pub(crate) const POOL_V6: &str = "64:ff9b::198.51.100.1";
pub(crate) const SERVER: &str = "1.2.3.4";
pub(crate) const SERVER_V6: &str = "64:ff9b::1.2.3.4";
pub(crate) const STRANGER: &str = "5.6.7.8";

/// A plan with one address and a share of `ports`.
pub(crate) fn plan(ports: core::ops::RangeInclusive<u16>) -> Nat64Plan {
    Nat64Plan {
        pref64: "64:ff9b::/96".parse().unwrap(),
        further_pref64: Vec::new(),
        pool4: vec![POOL.parse().unwrap()],
        ports,
        further_pool4: Vec::new(),
        further_ports: 1024..=65_535,
        port_block: 0,
        never_translate: Vec::new(),
        translate_non_global: Vec::new(),
        router_v6: Some(ROUTER.parse().unwrap()),
        mtu_v6: 1500,
        mtu_v4: 1500,
        policy: Policy::DEFAULT,
        icmp_errors_per_second: 100,
        filtering: Filtering::AddressDependent,
        limits: Nat64Limits::default(),
        static_bindings: Vec::new(),
        published_echo: Vec::new(),
        clients: Vec::new(),
        timers: Nat64Timers::default(),
        vms: Vec::new(),
        events: Wanted::Nothing,
        log: None,
        max_sessions: 1000,
        shortcut: None,
        obstacle: None,
        fast_path: None,
    }
}

/// A translator, its clock, and what it wrote last.
pub(crate) struct Router {
    pub(crate) nat64: Nat64,
    pub(crate) now: Instant,
    out: Transmit,
}

impl Router {
    pub(crate) fn new() -> Self {
        Self::with(&plan(40_960..=65_535))
    }

    pub(crate) fn with(plan: &Nat64Plan) -> Self {
        Self { nat64: Nat64::new(plan, [7; 32]), now: Instant::from_nanos(1), out: Transmit::new() }
    }

    pub(crate) fn send(&mut self, packet: &[u8]) -> (Verdict, Vec<Vec<u8>>) {
        let verdict = self.nat64.handle_input(packet, &mut self.out, self.now);
        (verdict, self.out.iter().map(<[u8]>::to_vec).collect())
    }

    /// Sends a packet that must come out as exactly one.
    pub(crate) fn pass(&mut self, packet: &[u8]) -> Vec<u8> {
        let (verdict, mut packets) = self.send(packet);
        assert!(matches!(verdict, Verdict::Translated(_) | Verdict::Hairpinned), "{verdict:?}");
        assert_eq!(packets.len(), 1);
        packets.remove(0)
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.rest(seconds);
    }

    /// The daemon ends and starts anew with what was saved.
    pub(crate) fn restart(&mut self, plan: &Nat64Plan) -> Restored {
        let saved = self.nat64.save();
        self.nat64 = Nat64::new(plan, [8; 32]);
        self.nat64.restore(&saved, self.now).unwrap()
    }

    /// Lets time pass; returns what the translator says of itself.
    pub(crate) fn rest(&mut self, seconds: u64) -> Vec<Vec<u8>> {
        self.now = self.now + Duration::from_secs(seconds);
        self.nat64.handle_timeout(self.now, &mut self.out);
        self.out.iter().map(<[u8]>::to_vec).collect()
    }

    /// Port or identifier that a client's port or identifier is mapped to.
    pub(crate) fn mapped(&self, protocol: Protocol, client: &str, port: u16) -> Option<u16> {
        let client = TransportV6 { address: client.parse().unwrap(), port };
        self.nat64.mapped(protocol, client).map(|mapped| mapped.port)
    }

    /// Sessions of TCP, UDP, ICMP, and bindings of the same.
    pub(crate) fn tables(&self) -> ([u64; 3], [u64; 3]) {
        let status = self.nat64.status();
        let row = |counts: sixgate_engine::status::Sessions| [counts.tcp, counts.udp, counts.icmp];
        (row(status.sessions), row(status.bindings))
    }

    pub(crate) fn count(&self, reason: &str) -> u64 {
        self.nat64.status().reasons.get(reason).copied().unwrap_or(0)
    }
}
