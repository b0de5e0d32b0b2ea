//! What time servers say about the machine's clock. It is never set here: the clock is everybody's.
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::lab::{Lab, finding};
use crate::server::ntp::Ntp;

const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn is_compared_and_left_alone(lab: &mut Lab) -> Result<()> {
    let server: SocketAddr = "203.0.113.1:123".parse()?;
    let _ahead = Ntp::start(&lab.internet, server, HOUR)?;
    lab.start_with(&format!("\n[time]\nservers = \"{}\"\n", server.ip()))?;
    let status = lab.await_status("a clock that is behind", |status| finding(status, "clock-wrong").is_some())?;
    let found = finding(&status, "clock-wrong").map(|finding| finding["text"].to_string()).unwrap_or_default();
    ensure!(found.contains("3600 s behind"), "{found}");
    let clock = &status["clock"];
    ensure!(clock["server"] == "203.0.113.1" && clock["stratum"] == 2 && clock["steps"] == 0, "{clock}");
    Ok(())
}
