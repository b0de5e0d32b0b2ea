//! What is refused ends in a chain for each reason, which tells of it, counts it, and drops or rejects it.
//!
//! A packet that a rule does not refuse pays for none of that, and the name of the chain says in a listing why somebody was
//! turned away.
use super::icmp;
use super::ruleset::{Chain, Match, Rule, Statement};
use crate::config::Policy;

/// By which comments of rules that refuse begin.
const REFUSES: &str = "drop: ";
/// Most packets of a reason that are told in a second, and how many at once.
const TOLD: Match = Match::RateUnder { per_second: 10, burst: 30 };

/// The chains, whose rules that refuse continue in chains of their own.
pub(super) fn told(mut chains: Vec<Chain>, policy: Policy) -> Vec<Chain> {
    let mut reasons: Vec<Chain> = Vec::new();
    for rule in chains.iter_mut().flat_map(|chain| &mut chain.rules) {
        let Some(reason) = rule.comment.strip_prefix(REFUSES).map(str::to_owned) else { continue };
        let Some(end) = rule.statements.last().cloned() else { continue };
        let suffix = match end {
            Statement::Drop => "",
            Statement::Reject => "-reject",
            Statement::Reset => "-reset",
            _ => continue,
        };
        let name = format!("drop-{}{suffix}", name(&reason));
        if !reasons.iter().any(|chain| chain.name == name) {
            reasons.push(Chain { name: name.clone(), hook: None, rules: ends(&reason, &end, policy) });
        }
        (rule.statements, rule.comment) = (vec![Statement::Goto(name)], String::new());
    }
    chains.extend(reasons);
    chains
}

fn ends(reason: &str, end: &Statement, policy: Policy) -> Vec<Rule> {
    let rule = |matches, statements| Rule { matches, statements, comment: format!("{REFUSES}{reason}") };
    let counted = |end: &Statement| vec![Statement::Counter, end.clone()];
    let tell =
        Rule { matches: vec![TOLD], statements: vec![Statement::Log(reason.to_owned())], comment: String::new() };
    let mut rules = vec![tell];
    if *end == Statement::Reject {
        let rate = policy.rejects_per_second;
        let under = Match::RateUnder { per_second: rate.into(), burst: rate.clamp(5, 1000) };
        rules.push(rule(vec![under], counted(end)));
        rules.push(rule(Vec::new(), counted(&Statement::Drop)));
    } else if *end == Statement::Reset {
        rules.push(rule(vec![Match::Protocol(vec![icmp::TCP])], counted(end)));
    } else {
        rules.push(rule(Vec::new(), counted(end)));
    }
    rules
}

/// A chain's name: letters, digits and hyphens.
fn name(reason: &str) -> String {
    let words = reason.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}
