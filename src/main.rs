//! The agent-run command.

fn main() {}
