//! Fuzzes the target of that name in `sixgate-harness`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sixgate_harness::target("answers")(bytes));
