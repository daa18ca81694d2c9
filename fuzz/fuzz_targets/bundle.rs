//! The header of a bundle.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_run::collect::fuzz::bundle(bytes));
