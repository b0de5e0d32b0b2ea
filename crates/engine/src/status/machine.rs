//! The machine below the router: its clock, its cards, and what the image knows of itself.
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What time servers say about the machine's clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// Who is asked.
    pub servers: Vec<IpAddr>,
    /// Who was believed last; absent until somebody has answered.
    pub server: Option<IpAddr>,
    /// How far that one is from a reference clock.
    pub stratum: u8,
    /// By how many milliseconds the clock was behind then.
    pub offset: f64,
    /// When that was, in seconds of the machine's uptime.
    pub checked: u64,
    /// Answers that were believed.
    pub answers: u64,
    /// How often the clock was set by a jump.
    pub steps: u64,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Kernel name.
    pub name: String,
    /// Hardware address, in lower case.
    pub mac: String,
    /// Something is plugged in; never true of a card that is switched off.
    pub link: bool,
}

/// The image's machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Appliance {
    /// The slot that it runs from, `a` or `b`; absent where the kernel was loaded directly.
    pub slot: Option<String>,
    /// The slot is on trial after an update.
    pub trial: bool,
    /// It has proven healthy since it started.
    pub healthy: bool,
    /// There is a partition that keeps configuration and state.
    pub state: bool,
    /// Where the configuration comes from.
    pub configuration: String,
    /// No more modules can be loaded.
    #[serde(default)]
    pub locked: bool,
    /// What its start took.
    #[serde(default)]
    pub timeline: Vec<Milestone>,
}

/// A point that a start has reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Milestone {
    /// Which.
    pub name: String,
    /// Seconds since the kernel started.
    pub seconds: f64,
}
