//! What is remembered from one daemon to the next, and over a boot: leases with the time that was left of them.
use core::net::Ipv4Addr;
use core::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use sixgate_wire::mac::MacAddr;

use super::discovery::{Known, Until};
use crate::dhcp::{v4, v6};
use crate::prefix::LearntPrefix;
use crate::time::Instant;

/// Seconds by which two memories of one thing differ because parts of seconds are left out.
const ROUNDING: u64 = 2;

/// A point in time on every clock there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// CLOCK_MONOTONIC, which begins anew with each boot.
    pub now: Instant,
    /// Seconds since 1970, which somebody may set.
    pub unix: u64,
    /// Names the boot.
    pub boot: String,
}

/// The memory as a value; nothing in it is fine for a first start. Ends are the time that was left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    saved_unix: u64,
    saved: Instant,
    boot: String,
    kept: Kept,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// The uplink's hardware address.
    pub(super) mac: Option<String>,
    pub(super) lease4: Option<Lease4>,
    /// RFC 8415 section 11: who the client is, whatever becomes of the hardware it was made of.
    pub(super) duid: Option<Vec<u8>>,
    pub(super) bindings: v6::Bindings,
    pub(super) known: Known,
    pub(super) delegated: Vec<LearntPrefix>,
    /// RFC 4193 section 3.2: generated once.
    pub(super) ula: Option<Ipv6Net>,
}

/// A DHCPv4 lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease4 {
    address: Ipv4Net,
    gateway: Option<Ipv4Addr>,
    routes: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
    resolvers: Vec<Ipv4Addr>,
    #[serde(default)]
    time_servers: Vec<Ipv4Addr>,
    server: Ipv4Addr,
    server_mac: String,
    t1: Until,
    t2: Until,
    ends: Until,
}

impl Memory {
    /// What there is to remember at a moment.
    pub(super) fn new(kept: &Kept, moment: &Moment) -> Self {
        let left = |end: Instant| Instant::ZERO + end.saturating_since(moment.now);
        Self {
            saved_unix: moment.unix,
            saved: moment.now,
            boot: moment.boot.clone(),
            kept: kept.aged(&mut |end| end.map(left)),
        }
    }

    /// What was kept, with its ends as they are now. Within a boot nobody can set the clock that counts; over a boot, a clock
    /// that was set back does not make anything last longer than it was to last.
    pub(super) fn recall(&self, moment: &Moment) -> Kept {
        let passed = if self.boot == moment.boot {
            moment.now.saturating_since(self.saved)
        } else {
            Duration::from_secs(moment.unix.saturating_sub(self.saved_unix))
        };
        let end = |left: Instant| moment.now + left.saturating_since(Instant::ZERO).saturating_sub(passed);
        self.kept.aged(&mut |left| left.map(end))
    }

    /// Whether both remember the same, whatever time has passed between them.
    pub fn same_as(&self, other: &Self) -> bool {
        let ends = |memory: &Self| {
            let mut ends = Vec::new();
            let timeless = memory.kept.aged(&mut |left| {
                let left = left?;
                let second = left.saturating_since(Instant::ZERO) + memory.saved.saturating_since(Instant::ZERO);
                ends.push(second.as_secs());
                Some(Instant::ZERO)
            });
            (timeless, ends)
        };
        let ((one, one_ends), (two, two_ends)) = (ends(self), ends(other));
        one == two && one_ends.iter().zip(&two_ends).all(|(one, two)| one.abs_diff(*two) <= ROUNDING)
    }
}

impl Kept {
    /// What is kept of a DHCPv4 lease.
    pub(super) fn set_lease4(&mut self, lease: Option<&v4::Lease>) {
        self.lease4 = lease.map(|lease| Lease4 {
            address: lease.address,
            gateway: lease.gateway,
            routes: lease.routes.clone(),
            resolvers: lease.resolvers.clone(),
            time_servers: lease.time_servers.clone(),
            server: lease.server,
            server_mac: lease.server_mac.to_string(),
            t1: lease.t1,
            t2: lease.t2,
            ends: lease.ends,
        });
    }

    /// The DHCPv4 lease.
    pub(super) fn lease4(&self) -> Option<v4::Lease> {
        let lease = self.lease4.as_ref()?;
        Some(v4::Lease {
            address: lease.address,
            gateway: lease.gateway,
            routes: lease.routes.clone(),
            resolvers: lease.resolvers.clone(),
            time_servers: lease.time_servers.clone(),
            server: lease.server,
            server_mac: lease.server_mac.parse().ok()?,
            t1: lease.t1,
            t2: lease.t2,
            ends: lease.ends,
        })
    }

    /// What belongs to another interface is forgotten; who the client is, and the site's own prefix, stay.
    pub(super) fn of(self, mac: MacAddr) -> Self {
        if self.mac.as_deref() == Some(mac.to_string().as_str()) {
            return self;
        }
        Self { duid: self.duid, ula: self.ula, delegated: self.delegated, ..Self::default() }
    }

    /// Every end through a function, always in the same order.
    fn aged(&self, age: &mut dyn FnMut(Until) -> Until) -> Self {
        let mut aged = self.clone();
        if let Some(lease) = &mut aged.lease4 {
            for end in [&mut lease.t1, &mut lease.t2, &mut lease.ends] {
                *end = age(*end);
            }
        }
        let bindings = &mut aged.bindings;
        for end in [&mut bindings.t1, &mut bindings.t2] {
            *end = age(*end);
        }
        for binding in &mut bindings.held {
            binding.preferred_until = age(binding.preferred_until);
            binding.valid_until = age(binding.valid_until);
        }
        for prefix in &mut aged.delegated {
            prefix.preferred_until = age(prefix.preferred_until);
            prefix.valid_until = age(prefix.valid_until);
        }
        aged.known = self.known.aged(age);
        aged
    }
}
