//! Host git: the only place that starts it, and the user's repository as git sees it.
//!
//! Every call but those that [`Git::as_user`] makes runs hardened: emptied environment, generated
//! configuration, no hooks, filters, helpers or network, a deadline. Nothing here knows of tasks.
//! The other programs of the host that a spec may name are started beside it, by `program`.

mod bare;
mod branch;
mod command;
mod error;
mod export;
mod lock;
mod mails;
mod process;
mod program;
mod refs;
mod repository;
mod scratch;
mod tree;
mod worktree;

pub use bare::init_bare;
pub use branch::BranchPlace;
pub use command::{Git, GitCall};
pub use error::GitError;
pub use export::LoggedCommit;
pub use lock::RepositoryLock;
pub use process::ResourceLimits;
pub use program::output_of_program;
pub use repository::Repository;
pub use scratch::{Objects, ScratchRepository, copy};
pub use tree::{TreeEntry, entries, files};
pub use worktree::{LinkedWorktree, WorktreeState};
