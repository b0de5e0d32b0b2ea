//! Waiting for a condition with a deadline: nothing in the lab waits for a fixed time.
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long to let the machine do something else before a condition is looked at again.
const PAUSE: Duration = Duration::from_millis(40);

/// Looks at `condition` until it yields a value; an error that names `what` after `deadline`.
///
/// The condition is looked at once more after the deadline, so a slow machine never fails without a look.
pub fn until<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        let late = start.elapsed() >= deadline;
        if let Some(value) = condition() {
            return Ok(value);
        }
        if late {
            bail!("waited {} s for: {what}", deadline.as_secs_f32());
        }
        thread::sleep(PAUSE);
    }
}

/// As [`until`], for a condition that explains itself: the last error is part of the message.
pub fn until_ok<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = None;
    until(what, deadline, || condition().map_err(|error| last = Some(error)).ok()).map_err(|timeout| match last {
        Some(error) => error.context(timeout.to_string()),
        None => timeout,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_yields_its_value() {
        let mut looks = 0;
        let value = until("the third look", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn a_condition_that_stays_false_is_named_in_the_error() {
        let error = until_ok::<()>("pigs to fly", Duration::ZERO, || bail!("no wings")).unwrap_err();
        assert_eq!(format!("{error:#}"), "waited 0 s for: pigs to fly: no wings");
    }
}
