//! The tasks. Each one receives the plan, receives input, waits for its next time-out and transmits.
pub mod appliance;
pub mod configuration;
pub mod control;
pub mod denials;
pub mod dns64;
pub mod facts;
pub mod log;
pub mod metrics;
pub mod nat64;
pub mod nat64_log;
pub mod ndp_proxy;
pub mod network;
pub mod planner;
pub mod ra;
pub mod status;
pub mod uplink;
