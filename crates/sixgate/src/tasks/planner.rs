//! Computes the plan whenever the configuration or the facts change.
use std::sync::Arc;

use sixgate_engine::facts::Facts;
use sixgate_engine::plan::plan;
use tokio::sync::watch;

use crate::wiring::{Configured, Desired};

/// This task's ends of the channels.
pub struct Ends {
    /// The configuration.
    pub configured: watch::Receiver<Configured>,
    /// The facts.
    pub facts: watch::Receiver<Option<Arc<Facts>>>,
    /// The plan.
    pub desired: watch::Sender<Desired>,
}

/// Runs until a source of input is gone.
pub async fn run(mut ends: Ends) {
    loop {
        let new = {
            let configured = ends.configured.borrow_and_update();
            let facts = ends.facts.borrow_and_update();
            desired(&configured, facts.as_deref())
        };
        ends.desired.send_if_modified(|old| {
            let changed = *old != new;
            if changed {
                *old = new;
            }
            changed
        });
        let changed = tokio::select! {
            changed = ends.configured.changed() => changed,
            changed = ends.facts.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

fn desired(configured: &Configured, facts: Option<&Facts>) -> Desired {
    match (&configured.config, facts) {
        (Some(config), Some(facts)) => Desired::Open(Arc::new(plan(config, facts))),
        (None, _) if configured.attempted => Desired::Closed,
        (Some(_), None) | (None, _) => Desired::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_touched_before_the_file_was_read() {
        assert_eq!(desired(&Configured::default(), Some(&Facts::default())), Desired::Unknown);
    }

    #[test]
    fn a_wrong_configuration_closes_the_router_even_before_facts_are_known() {
        let wrong = Configured { attempted: true, ..Configured::default() };
        assert_eq!(desired(&wrong, None), Desired::Closed);
        assert_eq!(desired(&wrong, Some(&Facts::default())), Desired::Closed);
    }
}
