//! What is translated in the kernel.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Traffic;

/// Translation in the kernel. What passes here is in the translator's own sums as well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FastPath {
    /// The kernel's hook, `tcx` or `clsact`; absent while it runs on no interface.
    pub hook: Option<String>,
    /// Whether it outlives the daemon.
    pub pinned: bool,
    /// Sessions that it can hold.
    pub capacity: u64,
    /// Sessions that it holds.
    pub sessions: u64,
    /// How often a session was not taken.
    pub refused: u64,
    /// Translated from IPv6 to IPv4.
    pub v6_to_v4: Traffic,
    /// Translated from IPv4 to IPv6.
    pub v4_to_v6: Traffic,
    /// Packets left to the kernel and the translator, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Bytes of memory that the maps take.
    #[serde(default)]
    pub memory: u64,
    /// The program.
    #[serde(default)]
    pub program: Program,
}

/// Questions answered in the kernel. They are in the resolver's own sums as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answering {
    /// The kernel's hook, `tcx` or `clsact`; absent while it runs on no interface.
    pub hook: Option<String>,
    /// Answers that it holds.
    pub answers: u64,
    /// Clients that it answers.
    pub clients: u64,
    /// Questions that it has answered.
    pub answered: u64,
    /// Questions beyond a client's limit: half of them were told to come by TCP, the rest was dropped.
    pub refused: u64,
    /// Questions that were lost because the kernel refused something in the middle, mostly memory.
    pub failed: u64,
}

/// The fast path's program as the kernel tells of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its BPF instructions.
    pub instructions: u64,
    /// Bytes that they were compiled to.
    pub compiled: u64,
    /// How often it ran while `kernel.bpf_stats_enabled` was 1.
    pub runs: u64,
    /// Nanoseconds that these took.
    pub nanoseconds: u64,
}
