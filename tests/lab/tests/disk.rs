//! The appliance's disk, booted by firmware in QEMU.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    sixgate_lab::appliance::main()
}
