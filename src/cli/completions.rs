//! `completions`: prints what a shell needs to complete the command line.

use clap::CommandFactory as _;

use super::args::{Cli, CompletionsArgs};
use super::exit_code::Exit;
use super::print_result;

pub(super) fn completions(arguments: &CompletionsArgs) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Cli::command(),
        "agent-run",
        &mut script,
    );
    print_result(&String::from_utf8_lossy(&script));
    Exit::Success
}
