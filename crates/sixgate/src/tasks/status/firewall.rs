//! What the firewall has dropped and admitted, from the counters in the kernel.
use std::collections::BTreeMap;

use sixgate_engine::firewall::ruleset::Ruleset;
use sixgate_engine::status::{Firewall, Traffic};
use sixgate_linux::nft::{self, RuleCounter};
use sixgate_linux::sysctl;

/// Counters of the ruleset in force.
pub(super) async fn read(ruleset: Option<&Ruleset>) -> Firewall {
    let forwarding = sysctl::forwarding();
    let Some(ruleset) = ruleset else { return Firewall { forwarding, ..Firewall::default() } };
    // Where the counters cannot be read the network task finds out why.
    let counters = nft::counters(ruleset).await.unwrap_or_default();
    let mut firewall = Firewall { loaded: true, forwarding, ..sort(&counters) };
    if let Ok(dropped) = nft::sources::dropped().await
        && dropped.packets > 0
    {
        firewall.dropped.insert("source is not of this hardware address".to_owned(), dropped);
    }
    firewall
}

/// Rules say by the beginning of their comment what they count.
fn sort(counters: &[RuleCounter]) -> Firewall {
    let mut firewall = Firewall::default();
    for counter in counters {
        if let Some(reason) = counter.comment.strip_prefix("drop: ") {
            add(&mut firewall.dropped, reason, counter.traffic);
        } else if ["allow ", "publish ", "outbound line "].iter().any(|kind| counter.comment.starts_with(kind)) {
            add(&mut firewall.allowed, &counter.comment, counter.traffic);
        }
    }
    firewall
}

fn add(sums: &mut BTreeMap<String, Traffic>, name: &str, traffic: Traffic) {
    let sum = sums.entry(name.to_owned()).or_default();
    sum.packets += traffic.packets;
    sum.bytes += traffic.bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_rules_with_the_same_comment_are_added() {
        let counter = |comment: &str, packets| RuleCounter {
            chain: "input".to_owned(),
            comment: comment.to_owned(),
            traffic: Traffic { packets, bytes: 100 * packets },
        };
        let firewall = sort(&[
            counter("drop: no allow entry", 1),
            counter("drop: no allow entry", 2),
            counter("allow line 3: vm1 tcp", 4),
            counter("loopback", 8),
        ]);
        assert_eq!(firewall.dropped["no allow entry"], Traffic { packets: 3, bytes: 300 });
        assert_eq!(firewall.allowed["allow line 3: vm1 tcp"].packets, 4);
        assert_eq!((firewall.dropped.len(), firewall.allowed.len()), (1, 1));
    }
}
