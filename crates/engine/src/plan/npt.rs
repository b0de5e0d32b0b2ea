//! NPTv6's part of the plan, and what it adds to the others.
use ipnet::Ipv6Net;

use super::topology::Topology;
use crate::facts::Link;
use crate::finding::{Finding, Severity};
use crate::npt::{NptPlan, Pair};

/// What is translated, and where; nothing where nothing is configured or the uplink is missing.
pub(super) fn plan(topology: &Topology<'_>, findings: &mut Vec<Finding>) -> Option<NptPlan> {
    let config = topology.config;
    if config.npt.is_empty() {
        return None;
    }
    for npt in config.npt.iter().filter(|npt| npt.outside.is_none()) {
        findings.push(Finding::new(
            Severity::Warning,
            "npt-without-prefix",
            npt.inside.to_string(),
            format!("nothing stands for {} outside: its packets do not leave by the uplink", npt.inside),
            "see that a prefix is delegated to the uplink and that `subnet` fits into it",
        ));
    }
    let named = |link: &Link| (link.index, link.name.clone());
    Some(NptPlan {
        uplink: named(topology.wan?),
        lans: topology.lans.iter().map(|lan| named(lan.link)).collect(),
        pairs: config.npt.iter().map(|npt| Pair { inside: npt.inside, outside: npt.outside }).collect(),
    })
}

/// Prefixes that stand for others outside: the uplink brings no packet from them, they lead nowhere else, and the
/// provider's solicitations for them are answered.
pub(crate) fn outside(topology: &Topology<'_>) -> impl Iterator<Item = Ipv6Net> {
    topology.config.npt.iter().filter_map(|npt| npt.outside)
}
