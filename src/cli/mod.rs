//! The command line: the composition root. Reads the environment, wires the rooms together, prints
//! errors, and decides the exit code. One file per command.

mod agents;
mod args;
mod checkout;
mod ci;
mod claims;
mod clean;
mod completions;
mod config;
mod dead;
mod diff;
mod doctor;
mod error;
mod exec;
pub mod exit_code;
mod export;
mod exposure;
mod forecast;
mod go_on;
mod images;
mod init;
mod keys;
mod logs;
mod man;
mod merge;
mod outputs;
mod plan;
mod prepare;
mod preview;
mod ps;
mod refresh;
mod repeat;
mod resume;
mod run;
mod schema;
mod secrets;
mod select;
mod show;
mod signals;
mod stop;
mod surroundings;
mod target;
mod terminal;
mod validate;
mod work;
mod worktrees;

use std::borrow::Cow;
use std::process::ExitCode;
use std::time::Duration;

pub use args::Cli;
use args::{Command, GlobalArgs};
use error::Failure;
use exit_code::Exit;
use surroundings::Surroundings;

use crate::report;

/// How long work that can be cut off is waited for at the end.
const LAST_WORK: Duration = Duration::from_secs(5);

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let Cli {
        command,
        run,
        global,
    } = Cli::of_process();
    match dispatch(command.unwrap_or(Command::Run(run)), &global) {
        Ok(code) => code,
        Err(failure) => {
            print_error(&failure.render(surroundings::paint(global.color)));
            failure.exit.into()
        }
    }
}

fn dispatch(command: Command, global: &GlobalArgs) -> Result<ExitCode, Failure> {
    let directory = surroundings::enter(global.directory.as_deref())?;
    // Makes the state directory: not where a spec turns out to be wrong.
    let surroundings = || Surroundings::of_process(global, directory.clone());
    let exit = match command {
        // What it ran has an exit code of its own.
        Command::Exec(arguments) => return block_on(exec::exec(&surroundings()?, &arguments)),
        Command::Run(arguments) => {
            let request = prepare::read(&directory, &arguments)?;
            block_on(run::run(&surroundings()?, request, &arguments))
        }
        Command::Plan(arguments) => {
            let asked = prepare::read_spec(&directory, &arguments.spec, Some(&arguments.profiles))?;
            block_on(plan::plan(&surroundings()?, asked, &arguments))
        }
        Command::Clean(arguments) => block_on(clean::clean(&surroundings()?, &arguments)),
        Command::Agents(arguments) => agents::agents(&arguments),
        Command::Images(arguments) => block_on(images::images(&surroundings()?, &arguments)),
        Command::Continue(arguments) => {
            block_on(go_on::go_on(&surroundings()?, &directory, &arguments))
        }
        Command::Preview(arguments) => {
            block_on(preview::preview(&surroundings()?, &directory, &arguments))
        }
        Command::Resume(arguments) => block_on(resume::resume(&surroundings()?, &arguments)),
        Command::Stop(arguments) => stop::stop(&surroundings()?, &arguments),
        Command::Claims(arguments) => claims::claims(&surroundings()?, &arguments),
        Command::Ps(arguments) => ps::ps(&surroundings()?, &arguments),
        Command::Diff(arguments) => diff::diff(&surroundings()?, &arguments),
        Command::Log(arguments) => diff::log(&surroundings()?, &arguments),
        Command::Show(arguments) => show::show(&surroundings()?, &arguments),
        Command::Forecast(arguments) => forecast::forecast(&surroundings()?, &arguments),
        Command::Merge(arguments) => merge::merge(&surroundings()?, &arguments),
        Command::Refresh(arguments) => refresh::refresh(&surroundings()?, &arguments),
        Command::Checkout(arguments) => checkout::checkout(&surroundings()?, &arguments),
        Command::Worktrees(arguments) => worktrees::worktrees(&surroundings()?, &arguments),
        Command::Export(arguments) => export::export(&surroundings()?, &arguments),
        Command::Logs(arguments) => logs::logs(&surroundings()?, &arguments),
        Command::Validate(arguments) => validate::validate(&directory, &arguments),
        Command::Doctor(arguments) => block_on(doctor::doctor(&surroundings()?, &arguments)),
        Command::Init(arguments) => {
            init::init(&surroundings()?, &arguments, global.directory.is_some())
        }
        Command::Config(arguments) => config::config(&directory, &arguments),
        Command::Schema(arguments) => schema::schema(&arguments),
        Command::Completions(arguments) => Ok(completions::completions(&arguments)),
        Command::Man(arguments) => man::man(&arguments),
    };
    exit.map(ExitCode::from)
}

fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Unexpected, e))?;
    let ended = runtime.block_on(command);
    // What tidies up beside a run may be in the middle of something large.
    runtime.shutdown_timeout(LAST_WORK);
    ended
}

/// Nobody may be reading standard error any more; the exit code says it too.
fn print_error(text: &str) {
    print_command(&for_log(text));
}

/// Prints what GitHub's runner takes for a command.
fn print_command(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Writes a result to standard output as JSON.
fn print_json(result: &impl serde::Serialize) -> Result<Exit, Failure> {
    let json =
        serde_json::to_string_pretty(result).map_err(|e| Failure::new(Exit::Unexpected, e))?;
    print_result(&(report::inert_json(&json) + "\n"));
    Ok(Exit::Success)
}

/// Writes results to standard output; a reader that has gone is no error of ours.
fn print_result(text: &str) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout();
    let _ = stdout
        .write_all(for_log(text).as_bytes())
        .and_then(|()| stdout.flush());
}

/// What is printed may hold names that an agent chose, and GitHub's runner reads it all.
fn for_log(text: &str) -> Cow<'_, str> {
    if surroundings::is_github() {
        report::inert(text)
    } else {
        Cow::Borrowed(text)
    }
}
