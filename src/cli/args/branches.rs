//! What the commands take that are about branches.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::{FormatOption, RunOption, TaskArgs};

/// What `forecast` takes.
#[derive(Debug, Args)]
pub struct ForecastArgs {
    /// Tasks of the run, or branches [default: all results of the run]
    #[arg(value_name = "BRANCH")]
    pub branches: Vec<String>,
    /// Of which run.
    #[command(flatten)]
    pub of: RunOption,
    /// What they are merged into [default: the run's base, or HEAD]; what it is now counts
    #[arg(long, value_name = "REF", env = "AGENT_RUN_BASE")]
    pub base: Option<String>,
    /// How it is printed.
    #[command(flatten)]
    pub print: FormatOption,
}

/// What `merge` takes.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Tasks of the run, or branches [default: all results of the run]
    #[arg(value_name = "TASK")]
    pub tasks: Vec<String>,
    /// Of which run.
    #[command(flatten)]
    pub of: RunOption,
    /// The branch to merge into, with its files where it is checked out and they are clean
    /// [default: agent/RUN-merged, made on what the run's base is now]
    #[arg(long, value_name = "BRANCH", env = "AGENT_RUN_INTO")]
    pub into: Option<String>,
    /// What becomes of a result's commits
    #[arg(
        long,
        value_enum,
        value_name = "STRATEGY",
        default_value_t,
        env = "AGENT_RUN_MERGE_STRATEGY"
    )]
    pub strategy: MergeStrategy,
    /// How it is printed.
    #[command(flatten)]
    pub print: FormatOption,
}

/// What becomes of a result's commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum MergeStrategy {
    /// They stay, and a merge commit brings them in.
    #[default]
    Merge,
    /// All of them become one commit.
    Squash,
}

/// What `refresh` takes.
#[derive(Debug, Args)]
pub struct RefreshArgs {
    /// Which task.
    #[command(flatten)]
    pub which: TaskArgs,
    /// What it is brought onto [default: the run's base]; what it is now counts
    #[arg(long, value_name = "REF", env = "AGENT_RUN_BASE")]
    pub base: Option<String>,
    /// How
    #[arg(
        long,
        value_enum,
        value_name = "STRATEGY",
        default_value_t,
        env = "AGENT_RUN_REFRESH_STRATEGY"
    )]
    pub strategy: RefreshStrategy,
}

/// How a result is brought onto its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum RefreshStrategy {
    /// Each of its commits is made anew on the base.
    #[default]
    Rebase,
    /// The base is merged into it.
    Merge,
}

/// What `export` takes.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Tasks of the run [default: all that went well and changed something]
    #[arg(value_name = "TASK")]
    pub tasks: Vec<String>,
    /// Of which run.
    #[command(flatten)]
    pub of: RunOption,
    /// What is written
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        env = "AGENT_RUN_EXPORT_FORMAT"
    )]
    pub format: ExportFormat,
    /// The directory that it is written to, as TASK.patch, TASK.mbox, TASK.bundle or RUN.bundle; made if
    /// it is not there
    #[arg(
        short,
        long,
        value_name = "DIR",
        default_value = ".",
        env = "AGENT_RUN_EXPORT_DIRECTORY"
    )]
    pub output: PathBuf,
    /// Replace files that are there
    #[arg(long, env = "AGENT_RUN_EXPORT_FORCE", value_parser = BoolishValueParser::new())]
    pub force: bool,
}

/// What is written of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ExportFormat {
    /// All changes of a task together, for `git apply`: a file each.
    #[default]
    Patch,
    /// The commits of a task as mails, for `git am`: a file each.
    Mbox,
    /// The commits and branches of all tasks in one file, for `git fetch`.
    Bundle,
}
