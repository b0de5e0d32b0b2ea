//! The allowlist firewall: configuration and facts to one nftables ruleset.
pub mod ruleset;
