//! Arguments that say what `clean` removes.

use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::duration;
use crate::id::RunId;

/// What `clean` takes.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command")]
pub struct CleanArgs {
    /// This run only
    #[arg(long, value_name = "RUN", env = "AGENT_RUN_RUN")]
    pub run: Option<RunId>,
    /// Also remove the directories, with plan, journal, logs and reports, of runs that began longer
    /// ago than this; none that holds work [default: 30d]
    ///
    /// The refs under refs/agent-run/attempts/ of such a run go with it: work that is only there,
    /// since its branch's name was taken or another attempt followed, is on a branch by then or
    /// nowhere. Each is named with its commit.
    #[arg(long, value_name = "DURATION", env = "AGENT_RUN_OLDER_THAN", value_parser = duration)]
    pub older_than: Option<Duration>,
    /// The same, of all runs that are not running
    #[arg(long, env = "AGENT_RUN_CLEAN_ALL", conflicts_with = "older_than", value_parser = BoolishValueParser::new())]
    pub all: bool,
    /// With --merged: also remove branches that these runs made
    #[arg(long, env = "AGENT_RUN_BRANCHES", requires = "merged", value_parser = BoolishValueParser::new())]
    pub branches: bool,
    /// With --branches: those that are merged into HEAD of their repository and checked out nowhere
    #[arg(long, env = "AGENT_RUN_MERGED", requires = "branches", value_parser = BoolishValueParser::new())]
    pub merged: bool,
    /// Also remove what setups prepared, with the images, and all caches; without it, what no run has
    /// used for 30 days
    #[arg(long, env = "AGENT_RUN_CLEAN_CACHE", conflicts_with = "run", value_parser = BoolishValueParser::new())]
    pub cache: bool,
    /// Show what would be removed, and remove nothing
    #[arg(short = 'n', long, env = "AGENT_RUN_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub dry_run: bool,
}
