//! The lab: scenarios with real clients, on network namespaces and on the QEMU image.
//!
//! `scenario` holds the table of all scenarios and their bodies; the rest builds the world that they happen in.
#![forbid(unsafe_code)]

pub mod appliance;
pub mod capture;
pub mod docker;
pub mod lab;
pub mod namespace;
pub mod network;
pub mod packet;
pub mod program;
pub mod router;
pub mod runner;
pub mod scenario;
pub mod server;
pub mod snapshot;
pub mod wait;
pub mod world;
