//! The status file of a hand-off.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent_run::collect::fuzz::status(bytes));
