//! Counts of what happened, for the console.
use core::net::SocketAddr;
use std::collections::BTreeMap;

use hickory_proto::op::ResponseCode;

use super::{Event, Reason};
use crate::plan::Dns64Plan;
use crate::status::{Dns64, Upstream};

/// The resolver's counters. Their owner is shown each [`Event`] once.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    queries: u64,
    failures: u64,
    reasons: BTreeMap<Reason, u64>,
    /// Answers and failures.
    upstreams: BTreeMap<SocketAddr, (u64, u64)>,
}

impl Counters {
    /// Counts an event.
    pub fn count(&mut self, event: &Event) {
        match event {
            Event::UpstreamAnswered(upstream) => self.upstreams.entry(*upstream).or_default().0 += 1,
            Event::UpstreamFailed(upstream) => self.upstreams.entry(*upstream).or_default().1 += 1,
            Event::Mismatch => *self.reasons.entry(Reason::Mismatch).or_default() += 1,
            Event::Finished(outcome) => {
                self.queries += 1;
                *self.reasons.entry(outcome.reason).or_default() += 1;
                let code = outcome.response.as_ref().map(|response| response.metadata.response_code);
                self.failures += u64::from(code == Some(ResponseCode::ServFail));
            }
        }
    }

    /// What an operator sees; `listening` are the addresses that could really be bound.
    pub fn status(&self, plan: &Dns64Plan, listening: &[SocketAddr]) -> Dns64 {
        let upstream = |address: &SocketAddr| {
            let (answers, failures) = self.upstreams.get(address).copied().unwrap_or_default();
            Upstream { address: *address, answers, failures }
        };
        let refused = self.reasons.iter().filter(|(reason, _)| reason.is_refusal());
        Dns64 {
            listening: listening.to_vec(),
            upstreams: plan.upstream.iter().map(upstream).collect(),
            synthesizing: plan.synthesis.is_some(),
            queries: self.queries,
            synthesized: self.reasons.get(&Reason::Synthesized).copied().unwrap_or_default(),
            failures: self.failures,
            dropped: refused.map(|(reason, count)| (reason.name().to_owned(), *count)).collect(),
        }
    }
}
