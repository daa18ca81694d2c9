//! What the commands take that are about linked worktrees of results.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};

use super::{FormatOption, TaskArgs};

/// What `checkout` takes.
#[derive(Debug, Args)]
pub struct CheckoutArgs {
    /// Which task.
    #[command(flatten)]
    pub which: TaskArgs,
    /// Where to; not there, or empty [default: REPOSITORY-TASK, beside the repository]
    #[arg(value_name = "DIR")]
    pub place: Option<PathBuf>,
}

/// What `worktrees` takes.
#[derive(Debug, Args)]
pub struct WorktreesArgs {
    /// What to do; they are listed if nothing is said
    #[command(subcommand)]
    pub action: Option<WorktreesAction>,
    /// How it is printed.
    #[command(flatten)]
    pub print: FormatOption,
}

/// What `worktrees` does.
#[derive(Debug, Subcommand)]
pub enum WorktreesAction {
    /// Remove worktrees; never one with something that is not committed
    Remove(RemoveArgs),
}

/// What `worktrees remove` takes.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Tasks that they were made of, or their directories
    #[arg(value_name = "WORKTREE", required_unless_present = "merged")]
    pub worktrees: Vec<String>,
    /// Only those of which all is in the base: merged, squashed or otherwise
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub merged: bool,
    /// The base [default: what the repository's own worktree is at]
    #[arg(long, value_name = "REF", requires = "merged")]
    pub base: Option<String>,
    /// Show what would be removed, and remove nothing
    #[arg(short = 'n', long, value_parser = BoolishValueParser::new())]
    pub dry_run: bool,
}
