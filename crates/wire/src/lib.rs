//! Bytes to values and back: packet views, NDP options, checksums, RFC 6052 addresses.
#![no_std]
#![forbid(unsafe_code)]

pub mod arp;
pub mod checksum;
pub mod dhcpv4;
pub mod dhcpv6;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod mac;
pub mod ndp;
pub mod ntp;
pub mod rfc6052;
pub mod rfc6890;
pub mod tcp;
pub mod udp;
pub mod virtio_net;
