//! The resolver's part of the plan.
use sixgate_wire::rfc6052::Pref64;

use super::topology::Topology;
use super::{Dns64Plan, Nat64Plan, listen};

const PORT: u16 = 53;

/// What the resolver does; the default, which listens nowhere, when it is switched off.
pub(super) fn plan(topology: &Topology<'_>, nat64: Option<&Nat64Plan>) -> Dns64Plan {
    let config = &topology.config.dns64;
    if !config.enabled {
        return Dns64Plan::default();
    }
    Dns64Plan {
        listen: topology.lans.iter().flat_map(|lan| listen::addresses(topology, lan, PORT)).collect(),
        upstream: config.upstream.clone(),
        synthesis: nat64.filter(|nat64| nat64.obstacle.is_none()).map(|nat64| nat64.pref64),
        // RFC 6052 section 3.1: the Well-Known Prefix knows no exemptions, whatever prefixes there are beside it.
        translate_non_global: nat64
            .filter(|nat64| Pref64::WELL_KNOWN.prefix() != nat64.pref64.addr())
            .map_or_else(Vec::new, |nat64| nat64.translate_non_global.clone()),
        pref64: nat64.map(|nat64| nat64.pref64),
    }
}
