//! `man`: prints a page of the manual.

use anyhow::anyhow;
use clap::CommandFactory as _;

use super::args::{Cli, ManArgs};
use super::error::Failure;
use super::exit_code::Exit;
use super::print_result;
use crate::sanitize;
use crate::spec::did_you_mean;

pub(super) fn man(arguments: &ManArgs) -> Result<Exit, Failure> {
    let mut cli = Cli::command();
    // What is global reaches the commands only now.
    cli.build();
    let command = match &arguments.command {
        None => cli,
        Some(name) => {
            let found = cli.find_subcommand(name).cloned();
            found.ok_or_else(|| unknown(&cli, name))?
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .source(concat!("agent-run ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)
        .map_err(|e| Failure::new(Exit::Unexpected, e))?;
    print_result(&String::from_utf8_lossy(&page));
    Ok(Exit::Success)
}

fn unknown(cli: &clap::Command, name: &str) -> Failure {
    let name = sanitize::line(name.as_bytes(), false);
    let commands = cli.get_subcommands().map(clap::Command::get_name);
    let hint = did_you_mean(&name, commands);
    let failure = Failure::new(Exit::Usage, anyhow!("there is no command `{name}`"));
    if hint.is_empty() {
        failure.hint("agent-run --help lists the commands")
    } else {
        failure.hint(hint)
    }
}
