//! DHCP clients for the uplink: RFC 2131 and RFC 8415 as state machines that are given messages and time.
pub mod v4;
pub mod v6;
