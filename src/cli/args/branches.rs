//! What the commands take that are about branches.

use clap::{Args, ValueEnum};

use super::{Format, TaskArgs};
use crate::id::RunId;

/// What `forecast` takes.
#[derive(Debug, Args)]
pub struct ForecastArgs {
    /// Tasks of the latest run of this repository, or branches [default: all results of the run]
    #[arg(value_name = "BRANCH")]
    pub branches: Vec<String>,
    /// Tasks of this run instead
    #[arg(long, value_name = "RUN", env = "AGENT_RUN_RUN")]
    pub run: Option<RunId>,
    /// What they are merged into [default: the run's base, or HEAD]; what it is now counts
    #[arg(long, value_name = "REF", env = "AGENT_RUN_BASE")]
    pub base: Option<String>,
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

/// What `merge` takes.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Tasks of the latest run of this repository, or branches [default: all results of the run]
    #[arg(value_name = "TASK")]
    pub tasks: Vec<String>,
    /// Tasks of this run instead
    #[arg(long, value_name = "RUN", env = "AGENT_RUN_RUN")]
    pub run: Option<RunId>,
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
