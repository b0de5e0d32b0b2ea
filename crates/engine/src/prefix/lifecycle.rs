//! What becomes of a prefix that is no longer given: it is retired, and told to hosts as deprecated until it ends
//! (RFC 9096 section 3.5).
use super::LearntPrefix;
use crate::ra::ND_VALID_LIMIT;
use crate::time::Instant;

/// Retired prefixes that are remembered.
const MOST: usize = 16;

/// Prefixes in use, and those on their way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    in_use: Vec<LearntPrefix>,
    retired: Vec<LearntPrefix>,
}

impl Lifecycle {
    /// Begins with what a former daemon had in use and had retired.
    pub fn new(remembered: Vec<LearntPrefix>) -> Self {
        let (retired, in_use) = remembered.into_iter().partition(|prefix| prefix.retired);
        Self { in_use, retired }
    }

    /// Takes what is given now. What was in use and is not given any more retires.
    pub fn update(&mut self, given: Vec<LearntPrefix>, now: Instant) {
        for old in std::mem::replace(&mut self.in_use, given) {
            let stays = self.in_use.iter().any(|prefix| prefix.prefix == old.prefix);
            if !stays {
                // Hosts were told no more than that; nobody outside is told to route it any longer.
                let limit = now + ND_VALID_LIMIT;
                let valid_until = Some(old.valid_until.map_or(limit, |until| until.min(limit)));
                self.retired.insert(0, LearntPrefix { preferred_until: Some(now), valid_until, retired: true, ..old });
            }
        }
        let in_use = &self.in_use;
        self.retired.retain(|old| !in_use.iter().any(|prefix| prefix.prefix == old.prefix));
        self.retired.retain(|old| old.valid_until.is_none_or(|until| now < until));
        self.retired.truncate(MOST);
    }

    /// All of them, those that hosts should prefer first. One whose preferred lifetime has run out counts as retired, though
    /// it may yet be renewed.
    pub fn prefixes(&self, now: Instant) -> Vec<LearntPrefix> {
        let ran_out = |prefix: &LearntPrefix| prefix.preferred_until.is_some_and(|until| until <= now);
        let in_use = self.in_use.iter().map(|prefix| LearntPrefix { retired: ran_out(prefix), ..*prefix });
        let mut all: Vec<LearntPrefix> = in_use.chain(self.retired.iter().copied()).collect();
        for prefix in all.iter_mut().filter(|prefix| prefix.retired) {
            // When it ran out makes no difference any more, and no news for anybody.
            prefix.preferred_until = Some(Instant::ZERO);
        }
        all.sort_by_key(|prefix| prefix.retired);
        all
    }

    /// What the next daemon is to know: which are in use counts, not whether their preferred lifetime has run out.
    pub fn remember(&self) -> Vec<LearntPrefix> {
        self.in_use.iter().chain(&self.retired).copied().collect()
    }

    /// When something runs out after `now`.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let ends = self.in_use.iter().flat_map(|prefix| [prefix.preferred_until, prefix.valid_until]);
        let ends = ends.chain(self.retired.iter().map(|prefix| prefix.valid_until)).flatten();
        ends.filter(|end| *end > now).min()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn given(prefix: &str, preferred: u64, valid: u64) -> LearntPrefix {
        LearntPrefix {
            prefix: prefix.parse().unwrap(),
            preferred_until: Some(at(preferred)),
            valid_until: Some(at(valid)),
            retired: false,
        }
    }

    const OLD: &str = "2001:db8:0:100::/56";
    const NEW: &str = "2001:db8:0:200::/56";

    #[test]
    fn what_is_not_given_any_more_is_deprecated_until_it_ends() {
        let mut lifecycle = Lifecycle::default();
        lifecycle.update(vec![given(OLD, 1000, 2000)], at(0));
        lifecycle.update(vec![given(NEW, 5000, 9000)], at(500));
        let all = lifecycle.prefixes(at(500));
        assert_eq!((all[0], all[0].retired), (given(NEW, 5000, 9000), false));
        assert_eq!(
            (all[1].prefix.to_string().as_str(), all[1].retired, all[1].valid_until),
            (OLD, true, Some(at(2000)))
        );
        assert_eq!(lifecycle.poll_timeout(at(500)), Some(at(2000)));
        lifecycle.update(vec![given(NEW, 5000, 9000)], at(2000));
        assert_eq!(lifecycle.prefixes(at(2000)), [given(NEW, 5000, 9000)]);
    }

    #[test]
    fn a_long_valid_lifetime_is_cut_to_the_limit_of_rfc_9096() {
        let mut lifecycle = Lifecycle::default();
        lifecycle.update(vec![given(OLD, 100_000, 200_000)], at(0));
        lifecycle.update(Vec::new(), at(10));
        assert_eq!(lifecycle.prefixes(at(10))[0].valid_until, Some(at(10) + ND_VALID_LIMIT));
    }

    #[test]
    fn a_prefix_that_comes_back_is_in_use_again_and_one_that_ran_out_is_deprecated() {
        let mut lifecycle = Lifecycle::default();
        lifecycle.update(vec![given(OLD, 1000, 2000)], at(0));
        lifecycle.update(Vec::new(), at(10));
        lifecycle.update(vec![given(OLD, 1000, 2000)], at(20));
        assert_eq!(lifecycle.prefixes(at(20)), [given(OLD, 1000, 2000)]);
        assert_eq!(lifecycle.poll_timeout(at(20)), Some(at(1000)));
        assert!(lifecycle.prefixes(at(1000))[0].retired);
        lifecycle.update(vec![given(OLD, 3000, 4000)], at(1500));
        assert!(!lifecycle.prefixes(at(1500))[0].retired);
    }

    #[test]
    fn a_restart_remembers_what_was_retired() {
        let mut lifecycle = Lifecycle::default();
        lifecycle.update(vec![given(OLD, 1000, 2000)], at(0));
        lifecycle.update(vec![given(NEW, 1000, 2000)], at(10));
        assert_eq!(Lifecycle::new(lifecycle.remember()), lifecycle);
    }
}
