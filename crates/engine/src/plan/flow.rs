//! Established flows past rules and routing: where, and what connection tracking has to put up with.
use super::topology::Topology;
use crate::facts::Link;
use crate::finding::{Finding, Severity};

/// Mark of packets of established connections: how they leave is how the next ones of their flow may leave. It shares
/// [`super::NAT64_MARK_MASK`] with the translator's mark, whose packets are tracked by nobody. `program/flow.c` has it too.
pub const FLOW_MARK: u32 = 0x0065_0000;

/// The links between which established flows pass neither rules nor routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowPlan {
    /// Kernel interface index and name of each.
    pub links: Vec<(u32, String)>,
}

/// Whether rules mark what may be learnt from: nothing goes past rules that somebody else wants the packets to meet.
pub(crate) fn is_wanted(topology: &Topology<'_>) -> bool {
    topology.config.policy.flow_offload && !topology.facts.foreign_rules
}

/// On every LAN and on the uplink. Links without hardware addresses carry no Ethernet frames.
pub(super) fn plan(topology: &Topology<'_>, findings: &mut Vec<Finding>) -> Option<FlowPlan> {
    if topology.config.policy.flow_offload && topology.facts.foreign_rules {
        findings.push(Finding::new(
            Severity::Note,
            "flow-offload-off",
            "firewall",
            "somebody else's firewall rules want to see every packet, so that established flows pass all rules",
            "remove the other rules if they are not needed, or set [policy] flow_offload = false",
        ));
    }
    if !is_wanted(topology) {
        return None;
    }
    let links = topology.wan.into_iter().chain(topology.lans.iter().map(|lan| lan.link));
    let named = |link: &Link| (link.index, link.name.clone());
    let links: Vec<_> = links.filter(|link| link.mac.is_some()).map(named).collect();
    (!links.is_empty()).then_some(FlowPlan { links })
}

/// Connection tracking sees a packet a second of each direction. It must not take the next one for one out of its window
/// then, nor hold data for unacknowledged and forget the connection early because the acknowledgement went past it.
pub(super) fn sysctls(topology: &Topology<'_>) -> [(&'static str, u32); 2] {
    /// The kernel's own default.
    const UNACKNOWLEDGED: u32 = 300;
    let established = topology.config.connections.tcp_established;
    let (liberal, unacknowledged) = if is_wanted(topology) { (1, established) } else { (0, UNACKNOWLEDGED) };
    [("tcp_be_liberal", liberal), ("tcp_timeout_unacknowledged", unacknowledged)]
}
