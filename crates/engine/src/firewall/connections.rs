//! How many connections one host may have and begin: for each a meter that the kernel fills by itself.
//!
//! A host on a LAN is its hardware address, whatever addresses it sends from; a source outside is a /64, or an IPv4 address.
use super::ruleset::{Match, Meter, MeterKey, MeterLimit, Rule, Statement};
use super::{Scene, rule};

const DROP: [Statement; 2] = [Statement::Counter, Statement::Drop];
const HOST: &str = "drop: too many connections of one host";
const SOURCE: &str = "drop: too many connections from one source";
const RATE: &str = "drop: too many new connections from one source";

/// Where connections begin: behind what is established, before anything else is admitted.
pub(super) fn rules(scene: &Scene<'_>, chain: &str) -> Vec<Option<Rule>> {
    let limits = scene.topology.config.connections;
    let over = |link: &Match, name: &str, key, limit, comment: &str| {
        let meter = Meter { set: format!("{name}-{chain}"), key, limit };
        rule(vec![link.clone(), Match::Over(meter)], &DROP, comment)
    };
    let (lans, wan) = (scene.input_lans(), scene.input_wan());
    let sources = [("source6", MeterKey::Source6), ("source4", MeterKey::Source4)];
    let mut rules = Vec::new();
    if let Some(most) = limits.per_host {
        rules.push(over(&lans, "host-connections", MeterKey::Hardware, MeterLimit::Connections(most), HOST));
    }
    if let Some(per_second) = limits.new_per_source {
        let limit = MeterLimit::PerSecond { rate: per_second, burst: per_second.clamp(5, 10_000) };
        rules.extend(sources.map(|(name, key)| over(&wan, &format!("{name}-new"), key, limit, RATE)));
    }
    if let Some(most) = limits.per_source {
        let limit = MeterLimit::Connections(most);
        rules.extend(sources.map(|(name, key)| over(&wan, &format!("{name}-connections"), key, limit, SOURCE)));
    }
    rules
}
