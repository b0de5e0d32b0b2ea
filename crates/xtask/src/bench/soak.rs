//! What a processor has left: a thread of the lowest class runs there and sees how much of the time it gets.
//!
//! The kernel's own figures are samples, one in some milliseconds, and an idle processor takes none: what interrupts do
//! there is counted or not as luck has it.
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::command::output;

/// Between two looks at the clock pass some 30 ns; where it is more than this, somebody else had the processor.
const UNDISTURBED: Duration = Duration::from_nanos(400);

/// The running thread, ended when dropped.
pub(super) struct Soak {
    left: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Soak {
    /// Starts it on that processor.
    pub(super) fn start(processor: u32) -> Result<Self> {
        let (left, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, end) = (Arc::clone(&left), Arc::clone(&is_over));
        let work = move || {
            move_to(processor)?;
            let (mut before, mut sum) = (Instant::now(), Duration::ZERO);
            while !end.load(Ordering::Relaxed) {
                let now = Instant::now();
                let passed = now - before;
                before = now;
                if passed < UNDISTURBED {
                    sum += passed;
                    counter.store(sum.as_nanos() as u64, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        let thread = Builder::new().name("soak".to_owned()).spawn(work)?;
        let this = Self { left, is_over, thread: Some(thread) };
        this.await_begin()?;
        Ok(this)
    }

    fn await_begin(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.left() == Duration::ZERO {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) || Instant::now() > deadline {
                return Err(anyhow!("nothing can be measured on that processor: are taskset and chrt there?"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// The time that nobody else wanted so far.
    pub(super) fn left(&self) -> Duration {
        Duration::from_nanos(self.left.load(Ordering::Relaxed))
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Keeps the calling thread to a processor, and behind everybody else there.
fn move_to(processor: u32) -> Result<()> {
    let own = fs::read_link("/proc/thread-self").context("/proc/thread-self")?;
    let own = own.file_name().context("a thread's number")?.to_owned();
    output(Command::new("taskset").args(["--cpu-list", "--pid", &processor.to_string()]).arg(&own))?;
    output(Command::new("chrt").args(["--idle", "--pid", "0"]).arg(&own)).map(drop)
}
