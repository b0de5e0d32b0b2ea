//! What the program is told of a plan.
use sixgate_engine::plan::Nat64Plan;
use sixgate_fastpath::layout::{self, Settings};

/// The kernel's router counts before and behind the translator, and the translator itself: packets have the same hop
/// limit whichever path they take.
const HOPS: u8 = 3;
/// BPF_FIB_LOOKUP_SKIP_NEIGH, from Linux 6.3 on: the neighbour is looked up when the packet is sent.
const SKIP_NEIGHBOUR: u32 = 1 << 2;

/// The settings of a plan, in epoch 0, in which nothing is translated. `tun` is the index of the translator's device.
pub fn settings(plan: &Nat64Plan, tun: u32) -> Settings {
    let nanos = |lifetime: core::time::Duration| u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX / 2);
    let mtu = |mtu: u32| u16::try_from(mtu).unwrap_or(u16::MAX);
    let mtu_v6 = plan.mtu_v6.max(sixgate_wire::ipv6::MINIMUM_MTU);
    let mut prefixes = [None; layout::PREFIXES];
    for (to, net) in prefixes.iter_mut().zip(plan.prefixes()) {
        *to = Some((net.network(), net.prefix_len()));
    }
    Settings {
        attended_until: 0,
        lifetime_tcp: nanos(plan.timers.tcp_est),
        lifetime_udp: nanos(plan.timers.udp_default),
        lifetime_icmp: nanos(plan.timers.icmp_default),
        epoch: 0,
        tun,
        fib_flags: fib_flags(),
        mtu_v4: mtu(plan.mtu_v4),
        mtu_v6: mtu(mtu_v6),
        mtu_v6_without_df: mtu(mtu_v6.min(plan.policy.lowest_ipv6_mtu)),
        hops: HOPS,
        least_hop_limit: HOPS + 1,
        least_ttl: HOPS + 1,
        tos: plan.policy.tos,
        traffic_class: plan.policy.traffic_class,
        route_lasts: 0,
        rules: 0,
        prefixes,
    }
}

/// How routes are asked for.
pub(crate) fn fib_flags() -> u32 {
    let knows_flag =
        aya::util::KernelVersion::current().is_ok_and(|kernel| kernel >= aya::util::KernelVersion::new(6, 3, 0));
    if knows_flag { SKIP_NEIGHBOUR } else { 0 }
}
