//! The agent-run command: see the library's documentation for what it is made of.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent_run::cli::main()
}
