//! The test suite: three rings (pure, loop, Docker), one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cells;
mod ci;
mod claims;
mod collect;
mod docker;
mod e2e;
mod egress;
mod ended;
mod engine;
mod fake;
mod files;
mod forecast;
mod formats;
mod git;
mod journal;
mod junit;
mod layering;
mod log;
mod markdown;
mod plan;
mod promises;
mod records;
mod report;
mod runner;
mod sanitize;
mod secrets;
mod spec;
mod table;
mod workspace;
