//! Arguments of `claims`.

use clap::{Args, Subcommand};

use super::FormatOption;
use crate::id::ClaimKey;

/// What `claims` takes.
#[derive(Debug, Args)]
pub struct ClaimsArgs {
    /// What to do; they are listed if nothing is said
    #[command(subcommand)]
    pub action: Option<ClaimsAction>,
    /// Those on this remote of the repository, not those here
    #[arg(long, value_name = "REMOTE", env = "AGENT_RUN_REMOTE", global = true)]
    pub remote: Option<String>,
    /// How it is printed.
    #[command(flatten)]
    pub print: FormatOption,
}

/// What `claims` does.
#[derive(Debug, Subcommand)]
pub enum ClaimsAction {
    /// Release a claim whose holder is gone
    Release {
        /// What is claimed
        key: ClaimKey,
        /// Also where its holder may still work on it: his work gets no branch then
        #[arg(long)]
        force: bool,
    },
}
