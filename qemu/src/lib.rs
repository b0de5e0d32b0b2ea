//! How QEMU machines and links are started, for the demo and for the tests: software emulation, direct kernel boot or a disk, no root.
//!
//! A [`Machine`] is described, started, and becomes a [`Running`] one that is killed when it is dropped. Every wait has a deadline.
#![forbid(unsafe_code)]

mod console;
pub mod cpio;
mod hardware;
mod link;
mod machine;
mod qmp;
mod running;

pub use console::Console;
pub use hardware::{Bus, Chipset, Firmware, Hardware, Model};
pub use link::{Link, Nic, cable};
pub use machine::{Boot, Machine, initrd_with_config, initrd_with_files};
pub use qmp::Qmp;
pub use running::Running;

/// Where the router finds its configuration.
pub const CONFIG_PATH: &str = "etc/sixgate/sixgate.toml";

/// Name of the virtio-serial port on which the router serves its control protocol.
pub const CONTROL_PORT: &str = "org.sixgate.control";
