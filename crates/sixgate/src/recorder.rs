//! What is logged as values: beside the lines on stderr, for the task that keeps the last of it.
use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::control::Event;

/// Events that may wait for the task; a burst beyond it leaves a gap in the numbers.
const WAITING: usize = 1_024;
/// Longer texts are cut.
const LONGEST: usize = 2_000;

/// A layer of the logger.
#[derive(Debug)]
pub struct Recorder {
    events: mpsc::Sender<Event>,
    number: AtomicU64,
}

/// A recorder, and where what it hears comes out.
pub fn recorder() -> (Recorder, mpsc::Receiver<Event>) {
    let (events, heard) = mpsc::channel(WAITING);
    (Recorder { events, number: AtomicU64::new(0) }, heard)
}

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let event = Event {
            number: self.number.fetch_add(1, Ordering::Relaxed) + 1,
            at: u64::try_from(at).unwrap_or(u64::MAX),
            level: level(*metadata.level()).to_owned(),
            source: source(metadata.target()).to_owned(),
            text: text.cut(),
        };
        // Nobody is held up for this.
        let _ = self.events.try_send(event);
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// The part of the daemon: the last word of a module's path.
fn source(target: &str) -> &str {
    target.rsplit("::").next().unwrap_or(target)
}

/// The message, and other fields behind it.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn cut(mut self) -> String {
        self.message.push_str(&self.fields);
        if let Some((end, _)) = self.message.char_indices().nth(LONGEST) {
            self.message.truncate(end);
        }
        self.message
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn events_are_numbered_with_level_source_and_text() {
        let (recorder, mut heard) = recorder();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(recorder), || {
            tracing::warn!(line = 7, "the file {} is wrong", "x.toml");
            tracing::info!("{}", "y".repeat(3_000));
        });
        let first = heard.try_recv().unwrap();
        assert_eq!((first.number, first.level.as_str(), first.source.as_str()), (1, "warn", "tests"));
        assert_eq!(first.text, "the file x.toml is wrong line=7");
        assert!(first.at > 1_600_000_000_000);
        let second = heard.try_recv().unwrap();
        assert_eq!((second.number, second.text.len()), (2, LONGEST));
    }
}
