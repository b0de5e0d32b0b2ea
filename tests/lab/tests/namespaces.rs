//! The scenarios in network namespaces.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    sixgate_lab::runner::main(sixgate_lab::router::BackEnd::Namespace)
}
