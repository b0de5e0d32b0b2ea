//! What depends on prefixes: names outside, and what VMs are told.
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A name outside that follows an address inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ddns {
    /// The name.
    pub name: String,
    /// "A" or "AAAA".
    pub record: String,
    /// Who is told.
    pub server: String,
    /// The address that it is to have; absent while there is none.
    pub wanted: Option<IpAddr>,
    /// The address that the server was told last.
    pub published: Option<IpAddr>,
    /// "done", "failed" or "refused"; empty before the first attempt.
    pub result: String,
    /// The server's words, or what went wrong.
    pub text: String,
    /// When that was, in seconds since 1970.
    pub at: u64,
    /// Attempts in vain since the last success.
    pub failures: u32,
}

/// A VM that has asked for its prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VmHook {
    /// How often it was answered.
    pub answers: u64,
    /// When that was last, in seconds since 1970.
    pub last: u64,
    /// The revision that it was told.
    pub revision: String,
}
