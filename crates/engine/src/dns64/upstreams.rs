//! Which upstream is asked first: the quickest of those that answer, by what was measured.
use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::plan::Dns64Plan;
use crate::time::{Duration, Instant};

/// An upstream that failed is asked last for this long.
const REST: Duration = Duration::from_secs(20);

/// What is known of the upstreams.
#[derive(Debug, Default)]
pub struct Upstreams {
    known: BTreeMap<SocketAddr, Known>,
    /// The plan in the configuration's order, and in ours.
    arranged: Option<(Arc<Dns64Plan>, Arc<Dns64Plan>)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The time that an answer takes, smoothed; zero while nothing is known, so that everybody is tried.
    latency: Duration,
    rests_until: Option<Instant>,
}

/// RFC 6298 section 2: one part in eight of what is new.
pub(super) fn smooth(latency: Duration, sample: Duration) -> Duration {
    if latency.is_zero() { sample } else { latency * 7 / 8 + sample / 8 }
}

impl Upstreams {
    /// An upstream answered after so long.
    pub fn answered(&mut self, upstream: SocketAddr, after: Duration) {
        let known = self.known.entry(upstream).or_default();
        // What was measured is known, however short it was.
        known.latency = smooth(known.latency, after).max(Duration::from_nanos(1));
        known.rests_until = None;
    }

    /// An upstream did not answer, or with an error.
    pub fn failed(&mut self, upstream: SocketAddr, now: Instant) {
        self.known.entry(upstream).or_default().rests_until = Some(now + REST);
    }

    /// The plan with its upstreams in the order in which they are to be asked.
    pub fn arrange(&mut self, plan: &Arc<Dns64Plan>, now: Instant) -> Arc<Dns64Plan> {
        let main = self.order(&plan.upstream, now);
        let forward: Vec<Vec<SocketAddr>> = plan.forward.iter().map(|(_, list)| self.order(list, now)).collect();
        let same = |plan: &Dns64Plan| plan.upstream == main && plan.forward.iter().map(|(_, list)| list).eq(&forward);
        if same(plan) {
            return plan.clone();
        }
        if let Some((base, arranged)) = &self.arranged
            && Arc::ptr_eq(base, plan)
            && same(arranged)
        {
            return arranged.clone();
        }
        let mut arranged = Dns64Plan { upstream: main, ..Dns64Plan::clone(plan) };
        for ((_, list), ordered) in arranged.forward.iter_mut().zip(forward) {
            *list = ordered;
        }
        let arranged = Arc::new(arranged);
        self.arranged = Some((plan.clone(), arranged.clone()));
        arranged
    }

    /// Who is not asked first seems a little quicker each time, so that a slow one that has become quick is found out.
    fn order(&mut self, upstreams: &[SocketAddr], now: Instant) -> Vec<SocketAddr> {
        let mut ordered = upstreams.to_vec();
        if ordered.len() < 2 {
            return ordered;
        }
        // A stable sort: equals stay in the configuration's order.
        ordered.sort_by_key(|upstream| {
            let known = self.known.get(upstream).copied().unwrap_or_default();
            (known.rests_until.is_some_and(|until| until > now), known.latency)
        });
        for upstream in ordered.iter().skip(1) {
            if let Some(known) = self.known.get_mut(upstream) {
                known.latency = known.latency * 63 / 64;
            }
        }
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 53).into()
    }

    fn plan() -> Arc<Dns64Plan> {
        Arc::new(Dns64Plan { upstream: vec![upstream(1), upstream(2)], ..Dns64Plan::default() })
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn each_upstream_is_tried_and_the_quickest_is_asked_first() {
        let (mut upstreams, plan) = (Upstreams::default(), plan());
        let now = Instant::ZERO;
        assert_eq!(upstreams.arrange(&plan, now).upstream, [upstream(1), upstream(2)]);
        upstreams.answered(upstream(1), 20 * MS);
        assert_eq!(upstreams.arrange(&plan, now).upstream[0], upstream(2), "nothing is known of it");
        upstreams.answered(upstream(2), 5 * MS);
        let arranged = upstreams.arrange(&plan, now);
        assert_eq!(arranged.upstream, [upstream(2), upstream(1)]);
        assert!(Arc::ptr_eq(&arranged, &upstreams.arrange(&plan, now)), "nothing is copied for each query");
    }

    #[test]
    fn a_slow_upstream_is_looked_at_again_after_a_while() {
        let (mut upstreams, plan) = (Upstreams::default(), plan());
        upstreams.answered(upstream(1), 50 * MS);
        upstreams.answered(upstream(2), 5 * MS);
        let asked = (0..1000).position(|_| upstreams.arrange(&plan, Instant::ZERO).upstream[0] == upstream(1));
        assert!(asked.is_some_and(|asked| asked > 50), "{asked:?}");
    }

    #[test]
    fn an_upstream_that_failed_comes_last_for_a_while() {
        let (mut upstreams, plan) = (Upstreams::default(), plan());
        let start = Instant::ZERO + 1000 * MS;
        upstreams.failed(upstream(1), start);
        assert_eq!(upstreams.arrange(&plan, start).upstream, [upstream(2), upstream(1)]);
        assert_eq!(upstreams.arrange(&plan, start + REST).upstream, [upstream(1), upstream(2)]);
        upstreams.failed(upstream(1), start);
        upstreams.answered(upstream(1), Duration::ZERO);
        upstreams.answered(upstream(2), 5 * MS);
        assert_eq!(upstreams.arrange(&plan, start).upstream, [upstream(1), upstream(2)], "it is back at once");
    }

    #[test]
    fn the_upstreams_of_a_domain_are_arranged_as_well() {
        let domain = hickory_proto::rr::Name::from_ascii("corp.example.").unwrap();
        let plan =
            Arc::new(Dns64Plan { forward: vec![(domain, vec![upstream(1), upstream(2)])], ..Dns64Plan::default() });
        let mut upstreams = Upstreams::default();
        upstreams.failed(upstream(1), Instant::ZERO);
        assert_eq!(upstreams.arrange(&plan, Instant::ZERO).forward[0].1, [upstream(2), upstream(1)]);
    }
}
