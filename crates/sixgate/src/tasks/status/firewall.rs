//! What the firewall has dropped and admitted, from the counters in the kernel.
use std::collections::BTreeMap;

use sixgate_engine::firewall::ruleset::{Ruleset, Statement};
use sixgate_engine::status::{Firewall, Traffic};
use sixgate_linux::nft::{self, RuleCounter};
use sixgate_linux::sysctl;

/// Counters of the ruleset in force.
pub(super) async fn read(ruleset: Option<&Ruleset>) -> Firewall {
    let Some(ruleset) = ruleset else { return Firewall { forwarding: sysctl::forwarding(), ..Firewall::default() } };
    let counters = nft::counters(&ruleset.table).await.unwrap_or_default();
    sort(ruleset, &counters)
}

fn sort(ruleset: &Ruleset, counters: &[RuleCounter]) -> Firewall {
    let mut firewall = Firewall { loaded: true, forwarding: sysctl::forwarding(), ..Firewall::default() };
    for counter in counters {
        let mut rules =
            ruleset.chains.iter().filter(|chain| chain.name == counter.chain).flat_map(|chain| &chain.rules);
        let Some(rule) = rules.find(|rule| rule.comment == counter.comment) else { continue };
        let denies = rule.statements.iter().any(|s| matches!(s, Statement::Drop | Statement::Reject));
        add(if denies { &mut firewall.dropped } else { &mut firewall.allowed }, counter);
    }
    firewall
}

fn add(sums: &mut BTreeMap<String, Traffic>, counter: &RuleCounter) {
    let sum = sums.entry(counter.comment.clone()).or_default();
    sum.packets += counter.traffic.packets;
    sum.bytes += counter.traffic.bytes;
}
