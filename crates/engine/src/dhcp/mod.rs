//! DHCP: clients for the uplink (RFC 2131, RFC 8415) as state machines that are given messages and time, and a stateless server.
pub mod stateless;
pub mod v4;
pub mod v6;
