//! Tree objects, and the walks over them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_run::collect::fuzz::trees(bytes));
