//! The command line. Every flag has an `AGENT_RUN_*` variable; the flag wins.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};

mod branches;
mod claims;
mod clean;
mod command;
mod tasks;
mod worktrees;

use super::surroundings;
use crate::id::{RunId, ServiceName};
use crate::runner::Pool;
use crate::spec::units;

pub use branches::{
    ExportArgs, ExportFormat, ForecastArgs, MergeArgs, MergeStrategy, RefreshArgs, RefreshStrategy,
};
pub use claims::{ClaimsAction, ClaimsArgs};
pub use clean::CleanArgs;
pub use command::Command;
pub use tasks::{OverArgs, ProfileArgs, SpecArgs};
pub use worktrees::{CheckoutArgs, RemoveArgs, WorktreesAction, WorktreesArgs};

/// What `--help` ends with.
const AFTER_HELP: &str = "\
`agent-run spec.yaml` is `agent-run run spec.yaml`.

Exit codes: 0 every task succeeded, 1 unexpected error or something not removed, 2 usage,
4 nothing selected, 94 spec invalid, 96 environment unusable, 100 tasks failed,
124 the whole run's time limit, 130 interrupted, 131 left at once (QUIT), 143 terminated";

/// Run many coding agents on one repository at once, each in its own git worktree and container.
#[derive(Debug, Parser)]
#[command(
    name = "agent-run",
    version,
    override_usage = "agent-run [OPTIONS] [SPEC] [TASK]...\n       agent-run COMMAND [OPTIONS]",
    after_help = AFTER_HELP
)]
pub struct Cli {
    /// What to do; a run if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// A run's arguments, where no command is named.
    #[command(flatten)]
    pub run: RunArgs,
    /// What every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
}

impl Cli {
    /// The process's own; a mistake in it, `--help` and `--version` end the process.
    pub fn of_process() -> Self {
        let mut command = without_empty_variables(Self::command());
        let matches = command.get_matches_mut();
        if let (Some(name), Some(flag)) = (matches.subcommand_name(), flag_of_run(&matches)) {
            let why = format!("--{flag} stands before `{name}`: write it behind, if it takes it");
            command.error(ErrorKind::ArgumentConflict, why).exit();
        }
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
    }
}

/// An empty variable counts as unset: CI systems pass those on that nobody has set.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|flag| {
        let variable = flag.get_env().and_then(std::ffi::OsStr::to_str);
        let is_empty = variable.and_then(surroundings::exact).as_deref() == Some("");
        if is_empty {
            flag.env(None::<&'static str>)
        } else {
            // What it is set to just now is no help.
            flag.hide_env_values(true)
        }
    });
    command.mut_subcommands(without_empty_variables)
}

/// A flag of `run` that was given where no command is named; a command would not see it.
fn flag_of_run(matches: &ArgMatches) -> Option<String> {
    let run = RunArgs::augment_args(clap::Command::new("run"));
    let mut flags = run.get_arguments().filter_map(|flag| {
        let given = matches.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine);
        given.then(|| flag.get_long()).flatten()
    });
    flags.next().map(str::to_owned)
}

/// A length of time, as the spec writes it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let told = |bad: units::BadValue| format!("it {}: {}", bad.problem, bad.hint);
    units::duration(text).map_err(told)
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct GlobalArgs {
    /// Work as if started in this directory
    #[arg(
        short = 'C',
        long,
        value_name = "DIR",
        env = "AGENT_RUN_DIRECTORY",
        global = true
    )]
    pub directory: Option<PathBuf>,
    /// The container engine, as the docker command's --host
    #[arg(long, value_name = "URL", env = "AGENT_RUN_HOST", global = true)]
    pub host: Option<String>,
    /// Where agent-run keeps its own files
    #[arg(long, value_name = "DIR", env = "AGENT_RUN_STATE_DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// Whether output has colours
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        env = "AGENT_RUN_COLOR",
        global = true
    )]
    pub color: When,
}

/// What `plan` takes.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Which spec.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Which of its tasks, where none is named.
    #[command(flatten)]
    pub profiles: ProfileArgs,
    /// What stands over the spec.
    #[command(flatten)]
    pub over: OverArgs,
    /// How the plan is printed
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        env = "AGENT_RUN_FORMAT"
    )]
    pub format: PlanFormat,
}

/// How a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PlanFormat {
    /// For people.
    #[default]
    Text,
    /// For programs, and for `run --plan`.
    Json,
    /// The graph of the tasks, as a flowchart of Mermaid.
    Mermaid,
}

/// What `run` takes.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Which spec.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Which of its tasks, where none is named.
    #[command(flatten)]
    pub profiles: ProfileArgs,
    /// What stands over the spec.
    #[command(flatten)]
    pub over: OverArgs,
    /// Show what the run would do, and do nothing: the same as `plan`
    #[arg(short = 'n', long, env = "AGENT_RUN_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub dry_run: bool,
    /// Repeat a plan: same base commit, same images; SPEC gives the values of variables only
    ///
    /// `agent-run plan --format json` writes one, and each run keeps its own as plan.json in its
    /// directory. Secrets and variables are read anew: from where the plan says that they come.
    #[arg(long, value_name = "FILE", env = "AGENT_RUN_PLAN")]
    pub plan: Option<PathBuf>,
    /// How it is shown.
    #[command(flatten)]
    pub view: ViewArgs,
}

/// What `resume` takes.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The run [default: the latest of this repository that was interrupted]
    pub run: Option<RunId>,
    /// How it is shown.
    #[command(flatten)]
    pub view: ViewArgs,
}

/// How a run is shown, and what else `run` and `resume` have in common.
#[derive(Debug, Args)]
pub struct ViewArgs {
    /// How the run is shown on standard error
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value_t,
        env = "AGENT_RUN_PROGRESS"
    )]
    pub progress: ProgressWhen,
    /// Which output of tasks is shown while they run [default: none on a terminal,
    /// group in the logs of GitHub and GitLab, else prefixed]
    ///
    /// Whatever is shown, all of it is in the tasks' logs, and the summary has the last lines of
    /// the tasks that failed.
    #[arg(long, value_enum, value_name = "WHICH", env = "AGENT_RUN_OUTPUT")]
    pub output: Option<OutputWhich>,
    /// The same as `--progress quiet`
    #[arg(short, long, env = "AGENT_RUN_QUIET", value_parser = BoolishValueParser::new())]
    pub quiet: bool,
    /// The range that the tasks' network is cut from
    #[arg(
        long,
        value_name = "CIDR",
        default_value_t,
        env = "AGENT_RUN_NETWORK_POOL"
    )]
    pub network_pool: Pool,
    /// Which files it writes.
    #[command(flatten)]
    pub outputs: OutputArgs,
}

/// The files that a run writes for others; `-` is standard output, and the summary goes to standard
/// error then.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Write what happens as it happens, one JSON object a line [`-`: standard output]
    #[arg(long, value_name = "FILE", env = "AGENT_RUN_EVENTS")]
    pub events: Option<PathBuf>,
    /// Write a `JUnit` report at the end
    #[arg(long, value_name = "FILE", env = "AGENT_RUN_JUNIT")]
    pub junit: Option<PathBuf>,
    /// Write the summary as Markdown at the end
    #[arg(long, value_name = "FILE", env = "AGENT_RUN_SUMMARY")]
    pub summary: Option<PathBuf>,
    /// Print which hosts tasks with `egress` asked for, as a list to paste into the spec, or write it
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "-",
        env = "AGENT_RUN_EGRESS_REPORT"
    )]
    pub egress_report: Option<PathBuf>,
}

/// What `ps` takes.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// The runs of all repositories, not only those of the one around here
    #[arg(short, long, env = "AGENT_RUN_ALL", value_parser = BoolishValueParser::new())]
    pub all: bool,
    /// How many runs, the newest first; live ones are always listed
    #[arg(long, value_name = "N", default_value_t = 10, env = "AGENT_RUN_LIMIT")]
    pub limit: usize,
    /// How it is printed.
    #[command(flatten)]
    pub print: FormatOption,
}

/// The run that a command is about.
#[derive(Debug, Args)]
pub struct RunOption {
    /// Of this run instead of the latest one of this repository
    #[arg(long, value_name = "RUN", env = "AGENT_RUN_RUN")]
    pub run: Option<RunId>,
}

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, Args)]
pub struct FormatOption {
    /// How it is printed
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        env = "AGENT_RUN_FORMAT"
    )]
    pub format: Format,
}

/// Which task.
#[derive(Debug, Args)]
pub struct TaskArgs {
    /// A task of the run
    pub task: String,
    /// Of which run.
    #[command(flatten)]
    pub of: RunOption,
}

/// What `show` takes.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Which task.
    #[command(flatten)]
    pub which: TaskArgs,
    /// How it is printed.
    #[command(flatten)]
    pub print: FormatOption,
}

/// What `logs` takes.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Tasks of the run; all of them if none is named
    #[arg(value_name = "TASK")]
    pub tasks: Vec<String>,
    /// Of which run.
    #[command(flatten)]
    pub of: RunOption,
    /// Go on until the tasks have ended
    #[arg(short, long, env = "AGENT_RUN_FOLLOW", value_parser = BoolishValueParser::new())]
    pub follow: bool,
    /// The last lines only
    #[arg(long, value_name = "LINES", env = "AGENT_RUN_TAIL")]
    pub tail: Option<u64>,
    /// This attempt [default: the last one]
    #[arg(long, value_name = "N", env = "AGENT_RUN_ATTEMPT", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
    /// What this service of the tasks wrote instead
    #[arg(long, value_name = "NAME", env = "AGENT_RUN_SERVICE")]
    pub service: Option<ServiceName>,
    /// What the task wrote, byte for byte but for masked secrets: not for a terminal
    #[arg(long, env = "AGENT_RUN_RAW", value_parser = BoolishValueParser::new())]
    pub raw: bool,
    /// When each line was written, in UTC
    #[arg(short, long, env = "AGENT_RUN_TIMESTAMPS", value_parser = BoolishValueParser::new())]
    pub timestamps: bool,
}

/// What `exec` takes.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Of which run.
    #[command(flatten)]
    pub of: RunOption,
    /// A task that runs
    pub task: String,
    /// The command and its arguments; a shell if none
    ///
    /// It runs in /workspace, as the task's user, and has a terminal where standard input and output
    /// are one. Its exit code becomes agent-run's. What it prints comes as it is: a task that you do
    /// not trust can write to your terminal by it.
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<String>,
}

/// What `completions` takes.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// What `man` takes.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command that the page is about; agent-run itself if none
    pub command: Option<String>,
}

/// What `stop` takes.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The run
    pub run: RunId,
    /// Tasks of it; the others go on. The whole run if none is named
    #[arg(value_name = "TASK")]
    pub tasks: Vec<String>,
    /// Kill the containers without grace: their work stays on disk for `clean`
    #[arg(long, env = "AGENT_RUN_KILL", value_parser = BoolishValueParser::new())]
    pub kill: bool,
}

/// What `doctor` takes.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print only the commands that keep tasks from the engine's machine and private networks; run none
    #[arg(long, env = "AGENT_RUN_FIREWALL", value_parser = BoolishValueParser::new(), conflicts_with = "format")]
    pub firewall: bool,
    /// How it is printed.
    #[command(flatten)]
    pub print: FormatOption,
    /// The range that the tasks' network is cut from
    #[arg(
        long,
        value_name = "CIDR",
        default_value_t,
        env = "AGENT_RUN_NETWORK_POOL"
    )]
    pub network_pool: Pool,
}

/// What `init` takes.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Print the spec, and write nothing
    #[arg(long, env = "AGENT_RUN_STDOUT", value_parser = BoolishValueParser::new())]
    pub stdout: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What `schema` takes.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Of what
    #[arg(value_enum, value_name = "WHAT", default_value_t)]
    pub what: SchemaOf,
}

/// What has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SchemaOf {
    /// The spec.
    #[default]
    Spec,
    /// A line of an events file.
    Events,
    /// `result.json` of a run's directory.
    Result,
}

/// Whether to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum When {
    /// On terminals, and in the logs of GitHub and GitLab, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Which output of tasks is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputWhich {
    /// Each line as it comes, behind its task's name.
    Prefixed,
    /// All lines of a task together, when it has ended.
    Group,
    /// None.
    None,
}

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ProgressWhen {
    /// In place on a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// In place.
    Tty,
    /// Plain lines.
    Plain,
    /// Warnings and the summary only.
    Quiet,
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn every_flag_has_a_variable_of_its_own() {
        let mut cli = Cli::command();
        cli.build();
        let mut owners: HashMap<String, String> = HashMap::new();
        for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
            for flag in command.get_arguments() {
                let name = flag.get_id().to_string();
                // These two are clap's own; a file is told by a variable only where no word does.
                let excepted = ["help", "version", "file"].contains(&name.as_str());
                if flag.is_positional() || excepted {
                    continue;
                }
                let variable = flag.get_env().and_then(std::ffi::OsStr::to_str);
                let variable = variable.unwrap_or_else(|| panic!("--{name} has no variable"));
                assert!(variable.starts_with("AGENT_RUN_"), "{variable}");
                let owner = owners
                    .entry(variable.to_owned())
                    .or_insert_with(|| name.clone());
                assert_eq!(*owner, name, "{variable}");
            }
        }
    }
}
