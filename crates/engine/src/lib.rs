//! Every decision that sixgate takes, as pure functions and state machines that are given packets and time.
//!
//! Nothing in this crate opens a socket, reads a clock or draws a random number of its own.
#![forbid(unsafe_code)]

pub mod capture;
pub mod clat;
pub mod config;
pub mod ddns;
pub mod dhcp;
pub mod dns64;
pub mod facts;
pub mod finding;
pub mod firewall;
pub mod nat64;
pub mod ndp_proxy;
pub mod npt;
pub mod plan;
pub mod prefix;
pub mod ra;
pub mod savi;
pub mod sntp;
pub mod status;
pub mod time;
pub mod uplink;
pub mod vm_prefixes;
pub mod why;
pub mod xlat;
