//! The scenarios with real Docker, in network namespaces and on the image in QEMU.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    sixgate_lab::runner::docker()
}
