//! The Linux kernel as sixgate uses it.
pub mod events;
pub mod facts;
pub mod netlink;
pub mod network;
pub mod nft;
pub mod sysctl;

#[cfg(test)]
mod testing;
