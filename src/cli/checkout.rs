//! `checkout`: a linked git worktree of a result, in the user's repository.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::args::CheckoutArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::print_result;
use super::surroundings::Surroundings;
use super::target::Target;
use super::work::Work;
use crate::git::{Repository, RepositoryLock};
use crate::id::BranchName;

pub(super) fn checkout(
    surroundings: &Surroundings,
    arguments: &CheckoutArgs,
) -> Result<Exit, Failure> {
    let target = Target::find(surroundings, arguments.which.of.run.as_ref())?;
    let task = target.task(&arguments.which.task)?;
    let Some(work) = Work::of(&target, &[&task.id])?.pop().flatten() else {
        let error = anyhow!("task {} has changed nothing", task.id);
        return Err(Failure::new(Exit::NothingSelected, error));
    };
    let repository = target.repository(surroundings)?;
    let directory = match &arguments.place {
        Some(directory) => surroundings.directory.join(directory),
        None => beside(&repository, &work),
    };
    let lock = || RepositoryLock::acquire(&surroundings.state, repository.key());
    let held = lock()?;
    let branch = free_branch(&repository, &work)?;
    refuse_existing(&directory)?;
    let of = (&target.found.run, &task.id);
    repository.add_worktree(&held, &directory, (branch.as_ref(), &work.tip), of)?;
    // Others may register theirs while files are made.
    drop(held);
    let filled = repository.fill_worktree(&directory);
    let held = lock()?;
    if let Err(error) = filled {
        repository.abandon_worktree(&held, &directory)?;
        return Err(error.into());
    }
    repository.finish_worktree(&held, &directory)?;
    drop(held);
    let at = match branch {
        Some(branch) => branch.to_string(),
        None => format!("commit {}, on no branch", work.tip.short()),
    };
    print_result(&format!("{} is {at}\n", directory.display()));
    Ok(Exit::Success)
}

/// The branch of the work, if it is there; it can be checked out only once.
fn free_branch(repository: &Repository, work: &Work) -> Result<Option<BranchName>, Failure> {
    if !work.is_on_branch {
        return Ok(None);
    }
    let branch = &work.branch;
    let Some(place) = repository.branch(branch.as_str())? else {
        return Ok(None);
    };
    if let Some(worktree) = place.worktree {
        let error = anyhow!("{branch} is checked out in {} already", worktree.display());
        return Err(Failure::new(Exit::EnvironmentUnusable, error));
    }
    Ok(Some(branch.clone()))
}

/// `REPOSITORY-TASK`, beside the repository.
fn beside(repository: &Repository, work: &Work) -> PathBuf {
    let top = repository.work_tree().unwrap_or(repository.common_dir());
    let name = top.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".git").unwrap_or(&name);
    let parent = top.parent().unwrap_or(Path::new("/"));
    parent.join(format!("{name}-{}", work.task.slug()))
}

fn refuse_existing(directory: &Path) -> Result<(), Failure> {
    let is_free = match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => fs::symlink_metadata(directory).is_err(),
    };
    if is_free {
        return Ok(());
    }
    let error = anyhow!("{} is there already, and not empty", directory.display());
    let hint = "name another directory: `agent-run checkout TASK DIR`";
    Err(Failure::new(Exit::EnvironmentUnusable, error).hint(hint))
}
