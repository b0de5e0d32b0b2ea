//! What is remembered from one daemon to the next, and over a boot: leases with the time that was left of them.
use core::net::Ipv4Addr;
use core::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sixgate_wire::mac::MacAddr;

use crate::dhcp::v4;
use crate::time::Instant;

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

/// Seconds by which two memories of one lease differ because parts of seconds are left out.
const ROUNDING: u64 = 2;

/// The memory as a value; nothing in it is fine for a first start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    saved_unix: u64,
    saved_nanos: u64,
    boot: String,
    /// The uplink's hardware address.
    mac: Option<String>,
    lease4: Option<Lease4>,
}

/// A lease with seconds left instead of times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease4 {
    address: Ipv4Net,
    gateway: Option<Ipv4Addr>,
    routes: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
    resolvers: Vec<Ipv4Addr>,
    server: Ipv4Addr,
    server_mac: String,
    t1: Option<u64>,
    t2: Option<u64>,
    ends: Option<u64>,
}

impl Memory {
    /// What there is to remember at a moment.
    pub(super) fn new(mac: Option<MacAddr>, lease4: Option<&v4::Lease>, moment: &Moment) -> Self {
        let left = |end: Option<Instant>| end.map(|end| end.saturating_since(moment.now).as_secs());
        Self {
            saved_unix: moment.unix,
            saved_nanos: moment.now.as_nanos(),
            boot: moment.boot.clone(),
            mac: mac.map(|mac| mac.to_string()),
            lease4: lease4.map(|lease| Lease4 {
                address: lease.address,
                gateway: lease.gateway,
                routes: lease.routes.clone(),
                resolvers: lease.resolvers.clone(),
                server: lease.server,
                server_mac: lease.server_mac.to_string(),
                t1: left(lease.t1),
                t2: left(lease.t2),
                ends: left(lease.ends),
            }),
        }
    }

    /// Whether both remember the same, whatever time has passed between them.
    pub fn same_as(&self, other: &Self) -> bool {
        let timeless = |memory: &Self| {
            let lease4 = memory.lease4.clone().map(|lease| Lease4 { t1: None, t2: None, ends: None, ..lease });
            Self { saved_unix: 0, saved_nanos: 0, boot: String::new(), lease4, ..memory.clone() }
        };
        let ends = |memory: &Self| {
            let left = memory.lease4.as_ref().and_then(|lease| lease.ends);
            left.map(|left| left + memory.saved_nanos / 1_000_000_000)
        };
        let renewed = match (ends(self), ends(other)) {
            (Some(one), Some(two)) => one.abs_diff(two) > ROUNDING,
            (one, two) => one != two,
        };
        !renewed && timeless(self) == timeless(other)
    }

    /// The DHCPv4 lease of that hardware address.
    pub(super) fn lease4(&self, mac: MacAddr, moment: &Moment) -> Option<v4::Lease> {
        if self.mac.as_deref() != Some(mac.to_string().as_str()) {
            return None;
        }
        let lease = self.lease4.as_ref()?;
        Some(v4::Lease {
            address: lease.address,
            gateway: lease.gateway,
            routes: lease.routes.clone(),
            resolvers: lease.resolvers.clone(),
            server: lease.server,
            server_mac: lease.server_mac.parse().ok()?,
            t1: self.end(lease.t1, moment),
            t2: self.end(lease.t2, moment),
            ends: self.end(lease.ends, moment),
        })
    }

    /// The time when something ends of which so much was left. Within a boot nobody can set the clock that counts; over
    /// a boot, a clock that was set back does not make it last longer than it was to last.
    fn end(&self, left: Option<u64>, moment: &Moment) -> Option<Instant> {
        let passed = if self.boot == moment.boot {
            moment.now.saturating_since(Instant::from_nanos(self.saved_nanos)).as_secs()
        } else {
            moment.unix.saturating_sub(self.saved_unix)
        };
        left.map(|left| moment.now + Duration::from_secs(left.saturating_sub(passed)))
    }
}
