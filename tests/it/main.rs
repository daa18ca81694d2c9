//! The test suite: three rings (pure, loop, Docker), one binary.

mod sanitize;
mod secrets;
