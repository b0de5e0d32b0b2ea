//! The lab: scenarios with real clients, on network namespaces and on the QEMU image.
//!
//! `scenario` holds the table of all scenarios and their bodies; the rest builds the world that they happen in.
#![forbid(unsafe_code)]

pub mod namespace;
pub mod program;
pub mod server;
pub mod wait;
pub mod world;
