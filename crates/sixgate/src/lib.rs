//! The sixgate daemon: tasks around the engine, wired by channels, with a control socket, a console and PID 1.
#![forbid(unsafe_code)]

pub mod agent;
pub mod backoff;
pub mod backup;
pub mod change;
pub mod check;
pub mod clat;
pub mod cli;
pub mod clock;
pub mod control;
pub mod denials;
pub mod durable;
pub mod init;
pub mod instance;
pub mod lan_http;
pub mod lifecycle;
pub mod look;
pub mod recorder;
pub mod report;
pub mod run;
pub mod schema;
pub mod sessions;
mod table;
pub mod tasks;
mod trust;
pub mod tui;
pub mod wiring;
