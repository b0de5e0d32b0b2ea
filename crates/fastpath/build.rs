//! Compiles the programs by clang, which is all that it takes.
use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Debian's plain name first; the others are there where several releases are installed.
const COMPILERS: [&str; 8] =
    ["clang", "clang-21", "clang-20", "clang-19", "clang-18", "clang-17", "clang-16", "clang-14"];

/// What is compiled, each to an object of its own.
const PROGRAMS: [&str; 5] = ["fastpath", "npt", "clat", "dns", "flow"];

fn main() {
    println!("cargo:rerun-if-changed=program");
    println!("cargo:rerun-if-env-changed=PATH");
    let folder = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let compiler = COMPILERS.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok());
    let Some(compiler) = compiler else {
        eprintln!("clang compiles the eBPF programs and is not installed; type\n\n    sudo apt-get install clang\n");
        std::process::exit(1);
    };
    for program in PROGRAMS {
        // -g is for BTF, which describes the maps. Paths of this machine are nobody's business.
        let status = Command::new(compiler)
            .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
            .args(["-fdebug-compilation-dir=.", "-c", &format!("program/{program}.c"), "-o"])
            .arg(folder.join(program).with_extension("o"))
            .status()
            .expect("the compiler starts");
        assert!(status.success(), "{compiler} did not compile program/{program}.c");
    }
}
