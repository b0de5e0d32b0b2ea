//! Bytes to values and back: packet views, NDP options, checksums, RFC 6052 addresses.
#![no_std]
#![forbid(unsafe_code)]

pub mod checksum;
pub mod mac;
pub mod ndp;
pub mod rfc6052;
pub mod rfc6890;
