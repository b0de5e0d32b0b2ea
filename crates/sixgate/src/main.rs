//! The one binary: everything it does lives in the library of the same name.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    sixgate::cli::main()
}
