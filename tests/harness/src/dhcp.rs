//! Any bytes as a message of DHCP, for IPv4 and for IPv6.
use sixgate_wire::{dhcpv4, dhcpv6};

pub(crate) fn run(bytes: &[u8]) {
    if let Some(message) = dhcpv4::Reply::parse(bytes) {
        let _ = (message.kind(), message.transaction(), message.your_address(), message.client());
        let mut buffer = [0; 1500];
        for code in 0..=u8::MAX {
            assert!(message.option(code, &mut buffer).is_none_or(|value| value.len() <= bytes.len()));
        }
    }
    if let Some(message) = dhcpv6::Message::parse(bytes) {
        let _ = (message.kind(), message.transaction(), message.options().status());
        for code in 0..128 {
            assert!(message.options().find(code).is_none_or(|value| value.len() <= bytes.len()));
            for association in message.options().associations(code) {
                assert!(association.leases().count() <= bytes.len());
            }
        }
    }
}
