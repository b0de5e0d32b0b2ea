//! The engine's clock on the runtime's timer, and seeds for the engine.
use std::time::Duration;

use sixgate_engine::time::Instant;
pub use sixgate_linux::clock::now;

/// Sleeps until then; for ever when there is no such time.
pub async fn sleep_until(then: Option<Instant>) {
    match then {
        // The timer counts whole milliseconds: one more, lest it rings just before the time.
        Some(then) => tokio::time::sleep(then.saturating_since(now()) + Duration::from_millis(1)).await,
        None => std::future::pending().await,
    }
}

/// A random number from the kernel.
pub fn seed() -> u64 {
    match sixgate_linux::clock::seed() {
        Ok([a, b, c, d, e, f, g, h, ..]) => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        // Kernels without the call are older than all that is supported.
        Err(_) => now().as_nanos(),
    }
}
