//! Counts of what happened, for the console.
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use hickory_proto::op::ResponseCode;

use super::upstreams::smooth;
use super::{Event, Reason};
use crate::plan::Dns64Plan;
use crate::status::{Dns64, Upstream};

/// The resolver's counters. Their owner is shown each [`Event`] once.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    queries: u64,
    cached: u64,
    /// Of the cached ones.
    synthesized: u64,
    stale: u64,
    failures: u64,
    validated: u64,
    bogus: u64,
    reasons: BTreeMap<Reason, u64>,
    upstreams: BTreeMap<SocketAddr, Counts>,
}

/// What came of asking one upstream.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    answers: u64,
    failures: u64,
    /// Smoothed.
    latency: Duration,
}

impl Counters {
    /// Counts queries that came.
    pub fn asked(&mut self, queries: u64) {
        self.queries += queries;
    }

    /// Counts queries that were answered from the cache, and those of them whose answer was synthesized.
    pub fn found(&mut self, answers: u64, synthesized: u64) {
        self.cached += answers;
        self.synthesized += synthesized;
    }

    /// Counts an answer that had expired (RFC 8767).
    pub fn stale(&mut self) {
        self.stale += 1;
    }

    /// Counts an event.
    pub fn count(&mut self, event: &Event) {
        match event {
            Event::UpstreamAnswered(upstream, after) => {
                let counts = self.upstreams.entry(*upstream).or_default();
                counts.answers += 1;
                counts.latency = smooth(counts.latency, *after);
            }
            Event::UpstreamFailed(upstream) => self.upstreams.entry(*upstream).or_default().failures += 1,
            Event::Validated(secure) => self.validated += u64::from(*secure),
            Event::Bogus => self.bogus += 1,
            Event::Rebinding => *self.reasons.entry(Reason::Rebinding).or_default() += 1,
            Event::Mismatch => *self.reasons.entry(Reason::Mismatch).or_default() += 1,
            Event::Finished(outcome) => {
                // It is counted where it happens.
                if outcome.reason != Reason::Rebinding {
                    *self.reasons.entry(outcome.reason).or_default() += 1;
                }
                let code = outcome.response.as_ref().map(|response| response.metadata.response_code);
                self.failures += u64::from(code == Some(ResponseCode::ServFail));
            }
        }
    }

    /// What an operator sees; `listening` are the addresses that could really be bound.
    pub fn status(&self, plan: &Dns64Plan, listening: &[SocketAddr]) -> Dns64 {
        let upstream = |address: &SocketAddr| {
            let Counts { answers, failures, latency } = self.upstreams.get(address).copied().unwrap_or_default();
            let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            let encrypted = plan.encrypted(*address).map(ToString::to_string);
            Upstream { address: *address, answers, failures, latency_us, encrypted }
        };
        let refused = self.reasons.iter().filter(|(reason, _)| reason.is_refusal());
        Dns64 {
            listening: listening.to_vec(),
            upstreams: plan.upstream.iter().map(upstream).collect(),
            synthesizing: plan.synthesis.is_some(),
            queries: self.queries,
            cached: self.cached,
            stale: self.stale,
            synthesized: self.synthesized + self.reasons.get(&Reason::Synthesized).copied().unwrap_or_default(),
            failures: self.failures,
            validating: plan.validate,
            validated: self.validated,
            bogus: self.bogus,
            dropped: refused.map(|(reason, count)| (reason.name().to_owned(), *count)).collect(),
            // What only those who keep the answers and hear the queries know.
            ..Dns64::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, OpCode};

    use super::*;
    use crate::dns64::Outcome;

    fn finished(reason: Reason, code: Option<ResponseCode>) -> Event {
        let response = code.map(|code| Message::error_msg(1, OpCode::Query, code));
        Event::Finished(Outcome::new(reason, response))
    }

    #[test]
    fn each_event_is_counted_where_an_operator_looks_for_it() {
        let (first, second) = ("192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap());
        let plan = Dns64Plan {
            upstream: vec![first, second],
            synthesis: Some("64:ff9b::/96".parse().unwrap()),
            ..Dns64Plan::default()
        };
        let mut counters = Counters::default();
        for event in [
            Event::UpstreamFailed(first),
            Event::Mismatch,
            Event::UpstreamAnswered(second, Duration::from_millis(5)),
            finished(Reason::Synthesized, Some(ResponseCode::NoError)),
            finished(Reason::Unanswered, Some(ResponseCode::ServFail)),
            finished(Reason::Class, Some(ResponseCode::Refused)),
            finished(Reason::Short, None),
        ] {
            counters.count(&event);
        }
        counters.asked(4);
        counters.found(2, 1);
        let status = counters.status(&plan, &[first]);
        assert_eq!((status.queries, status.cached, status.synthesized, status.failures), (4, 2, 2, 1));
        assert!(status.synthesizing);
        assert_eq!(status.listening, [first]);
        let upstreams: Vec<_> =
            status.upstreams.iter().map(|upstream| (upstream.address, upstream.answers, upstream.failures)).collect();
        assert_eq!(upstreams, [(first, 0, 1), (second, 1, 0)]);
        let dropped: Vec<_> = status.dropped.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(dropped, [("dns-class", 1), ("dns-mismatch", 1), ("dns-short", 1)]);
    }
}
