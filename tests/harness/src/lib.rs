//! What fuzzers drive: each function takes any bytes and panics where something is wrong. The same functions replay the
//! corpora in plain tests.
#![forbid(unsafe_code)]

mod answers;
mod configuration;
mod dhcp;
mod engine;
mod errors;
mod fragments;
mod ndp;
mod neighbor_discovery;
mod packet;
mod packets;
mod resolver;
mod router_discovery;
mod script;

/// A target: any bytes in, and a panic where something is wrong.
pub type Target = fn(&[u8]);

/// All targets by the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("answers", answers::run),
    ("configuration", configuration::run),
    ("dhcp", dhcp::run),
    ("engine", engine::run),
    ("errors", errors::run),
    ("fragments", fragments::run),
    ("ndp", ndp::run),
    ("neighbor_discovery", neighbor_discovery::run),
    ("packets", packets::run),
    ("resolver", resolver::run),
    ("router_discovery", router_discovery::run),
];

/// The target of that name.
///
/// # Panics
/// Where there is none.
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|(other, _)| *other == name);
    found.unwrap_or_else(|| panic!("there is no target {name}")).1
}
