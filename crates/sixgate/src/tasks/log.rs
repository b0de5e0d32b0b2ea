//! Keeps the last of what the daemon has logged, for the console and `sixgate log`.
use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::control::Event;
use crate::wiring::ListEvents;

/// Events that are kept.
const KEPT: usize = 1_000;

/// This task's ends of the channels.
pub struct Ends {
    /// What is logged.
    pub events: mpsc::Receiver<Event>,
    /// Who wants to know.
    pub list: mpsc::Receiver<ListEvents>,
}

/// Runs until nobody can ask any more.
pub async fn run(mut ends: Ends) {
    let mut kept = VecDeque::with_capacity(KEPT);
    loop {
        tokio::select! {
            // What was logged before a question belongs to its answer.
            biased;
            Some(event) = ends.events.recv() => keep(&mut kept, event),
            asked = ends.list.recv() => {
                let Some(ListEvents { after, answer }) = asked else { return };
                // Whoever asked may have gone away meanwhile.
                let _ = answer.send(later(&kept, after));
            }
        }
    }
}

fn keep(kept: &mut VecDeque<Event>, event: Event) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(event);
}

fn later(kept: &VecDeque<Event>, after: u64) -> Vec<Event> {
    kept.iter().filter(|event| event.number > after).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> Event {
        Event { number, at: 0, level: "info".to_owned(), source: "test".to_owned(), text: String::new() }
    }

    #[test]
    fn the_last_events_are_kept_and_told_from_any_on() {
        let mut kept = VecDeque::new();
        for number in 1..=1_500 {
            keep(&mut kept, event(number));
        }
        assert_eq!(later(&kept, 0).len(), KEPT);
        let last: Vec<u64> = later(&kept, 1_498).iter().map(|event| event.number).collect();
        assert_eq!(last, [1_499, 1_500]);
    }
}
