//! Stateful NAT64: RFC 6146, cut along its own steps.
