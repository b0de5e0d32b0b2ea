//! What runs in the kernel, embedded, with the layout of its maps: NAT64's fast path, the CLAT's, NPTv6, the resolver's answers, and
//! the way of established flows.
//!
//! The programs are in `program/`: `fastpath.c`, `clat.c`, `npt.c`, `dns.c` and `flow.c`. They look up and rewrite; they decide
//! nothing.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), no_std)]

pub mod clat;
pub mod dns;
pub mod flow;
pub mod layout;
pub mod npt;
pub mod reason;

/// The compiled program, an ELF file. Loaders want it aligned.
pub static OBJECT: &Object<[u8]> = &Object(*include_bytes!(concat!(env!("OUT_DIR"), "/fastpath.o")));

/// Name of the program in [`OBJECT`].
pub const PROGRAM: &str = "sixgate";
/// Name of the program in [`OBJECT`] that [`PROGRAM`] goes over to while [`LISTENING`] has it.
pub const REMEMBERING: &str = "remembering";
/// Names of the maps in [`OBJECT`] that outlive their maker.
pub const MAPS: [&str; 5] = [SESSIONS_V6, SESSIONS_V4, SETTINGS, COUNTERS, ROUTES];
/// Name of the program in [`OBJECT`] that notes when routes change.
pub const WATCH: &str = "routes_change";
/// Sessions as packets from IPv6 look them up.
pub const SESSIONS_V6: &str = "sessions_v6";
/// Sessions as packets from IPv4 look them up.
pub const SESSIONS_V4: &str = "sessions_v4";
/// Holds [`REMEMBERING`] as long as its maker lives.
pub const LISTENING: &str = "listening";
/// What the program is told.
pub const SETTINGS: &str = "settings";
/// When routes changed.
pub const ROUTES: &str = "routes";
/// What it counts.
pub const COUNTERS: &str = "counters";

/// Bytes that begin where a 64-bit word may.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Object<T: ?Sized>(pub T);
