//! Arguments that say which tasks of which spec are meant, and what stands over the spec.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::plan::Over;
use crate::spec::MOST_RETRIES;

/// Which spec, and which of its tasks.
#[derive(Debug, Args)]
pub struct SpecArgs {
    /// The spec (`-`, or a path with a `/` or ending in .yaml or .yml; else agent-run.yaml here or
    /// above, up to the repository's root), then tasks: ids, or quoted patterns such as 'review*'; all if none
    #[arg(value_name = "SPEC] [TASK")]
    pub words: Vec<String>,
    /// The spec, whatever its name
    ///
    /// [env, where no SPEC is given: `AGENT_RUN_FILE`]
    #[arg(short, long, value_name = "FILE", verbatim_doc_comment)]
    pub file: Option<PathBuf>,
    /// Take each TASK for the whole id of one task: for no pattern, and for no name of all cells of a matrix
    #[arg(long, env = "AGENT_RUN_EXACT", value_parser = BoolishValueParser::new())]
    pub exact: bool,
}

/// Which tasks are run where none is named.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// Also run the tasks with this profile, where no task is named; several times, or `*` for all
    #[arg(
        long = "profile",
        value_name = "NAME",
        env = "AGENT_RUN_PROFILE",
        value_delimiter = ','
    )]
    pub profiles: Vec<String>,
}

/// What the command line says in place of the spec.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct OverArgs {
    /// Tasks that run at once [default: what the engine's CPUs and memory allow]
    #[arg(short, long, value_name = "N", env = "AGENT_RUN_JOBS", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Attempts that follow a task's first one if that fails: in place of each task's `retry.max`
    #[arg(long, value_name = "N", env = "AGENT_RUN_RETRIES", value_parser = clap::value_parser!(u32).range(..=i64::from(MOST_RETRIES)))]
    pub retries: Option<u32>,
    /// Start nothing more after the first failure; what runs goes on to its end
    ///
    /// `--fail-fast=false` is for a spec with `fail_fast: true`.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        env = "AGENT_RUN_FAIL_FAST",
        value_parser = BoolishValueParser::new()
    )]
    pub fail_fast: Option<bool>,
    /// Start nothing more after so many failures; wins over `--fail-fast`
    #[arg(long, value_name = "N", env = "AGENT_RUN_MAX_FAIL", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_fail: Option<u32>,
}

impl From<OverArgs> for Over {
    fn from(arguments: OverArgs) -> Self {
        Self {
            jobs: arguments.jobs.map(usize::from),
            retries: arguments.retries,
            fail_fast: arguments.fail_fast,
            max_fail: arguments.max_fail,
        }
    }
}
