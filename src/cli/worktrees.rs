//! `worktrees`: lists the linked worktrees that agent-run made of results, and removes them.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use anyhow::anyhow;
use serde::Serialize;

use super::args::{Format, RemoveArgs, WorktreesAction, WorktreesArgs};
use super::error::Failure;
use super::exit_code::Exit;
use super::surroundings::Surroundings;
use super::{print_error, print_json, print_result, target};
use crate::event::{Fit, Versioned};
use crate::forecast::{Candidate, ForecastRequest, forecast};
use crate::git::{LinkedWorktree, Repository, RepositoryLock, WorktreeState};
use crate::id::{CommitId, RunId, TaskId};
use crate::plan::select::matching;
use crate::report::{Paint, padded};
use crate::sanitize;

#[derive(Serialize)]
struct Worktrees {
    worktrees: Vec<Listed>,
}

/// A worktree as it is listed.
#[derive(Serialize)]
struct Listed {
    path: PathBuf,
    run: RunId,
    task: TaskId,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    commit: CommitId,
    state: WorktreeState,
    /// Whether all of it is in what the user's own worktree is at, or in the base that was named.
    is_merged: bool,
}

pub(super) fn worktrees(
    surroundings: &Surroundings,
    arguments: &WorktreesArgs,
) -> Result<Exit, Failure> {
    let Some(repository) = target::repository(surroundings)? else {
        let error = anyhow!("{} is in no repository", surroundings.directory.display());
        return Err(Failure::new(Exit::EnvironmentUnusable, error));
    };
    if let Some(WorktreesAction::Remove(arguments)) = &arguments.action {
        return remove(surroundings, &repository, arguments);
    }
    let lock = || RepositoryLock::acquire(&surroundings.state, repository.key());
    let made = repository.made_worktrees(&lock()?)?;
    // Where the repository's own worktree is at no commit, nothing is merged.
    let merged = merged(&repository, &made, None).unwrap_or_default();
    let mut worktrees = Vec::with_capacity(made.len());
    for worktree in made {
        let state = repository.worktree_state(&worktree)?;
        worktrees.push(Listed {
            is_merged: merged.contains(&worktree.commit),
            path: worktree.path,
            run: worktree.of.0,
            task: worktree.of.1,
            branch: worktree.branch,
            commit: worktree.commit,
            state,
        });
    }
    if arguments.print.format == Format::Json {
        return print_json(&Versioned::new(Worktrees { worktrees }));
    }
    if worktrees.is_empty() {
        print_error("there are no worktrees of results\n");
    }
    let paint = surroundings.result_paint;
    print_result(
        &worktrees
            .iter()
            .map(|one| line(one, paint))
            .collect::<String>(),
    );
    Ok(Exit::Success)
}

fn line(listed: &Listed, paint: Paint) -> String {
    let word = match (listed.state, listed.is_merged) {
        (WorktreeState::Clean, true) => paint.good(&padded("merged")),
        (WorktreeState::Clean, false) => padded("clean"),
        (WorktreeState::Changed, _) => paint.careful(&padded("CHANGED")),
        (WorktreeState::OnNoRef, _) => paint.careful(&padded("on no branch")),
        (WorktreeState::Gone, _) => paint.faint(&padded("gone")),
        (WorktreeState::Locked, _) => padded("locked"),
        (WorktreeState::Unfinished, _) => paint.careful(&padded("unfinished")),
    };
    let branch = listed.branch.as_deref().unwrap_or(listed.commit.short());
    let branch = sanitize::line(branch.as_bytes(), false);
    format!("{word} {}  {branch}\n", shown(&listed.path))
}

fn shown(path: &std::path::Path) -> String {
    sanitize::line(path.as_os_str().as_encoded_bytes(), false)
}

/// The commits of which all is in the base: by a merge of them, by one that was squashed, or otherwise.
fn merged(
    repository: &Repository,
    made: &[LinkedWorktree],
    base: Option<&str>,
) -> Result<HashSet<CommitId>, Failure> {
    let tip = match base {
        Some(base) => repository.resolve_base(base)?,
        None => repository.main_head()?,
    };
    let candidates = made.iter().map(|worktree| Candidate {
        branch: worktree.path.display().to_string(),
        task: None,
        commit: worktree.commit.clone(),
        needs: Vec::new(),
    });
    let candidates: Vec<Candidate> = candidates.collect();
    if candidates.is_empty() {
        return Ok(HashSet::new());
    }
    let found = forecast(&ForecastRequest {
        repository,
        base: (base.unwrap_or("HEAD"), &tip),
        candidates: &candidates,
        patience: None,
    })?;
    let same = found
        .branches
        .into_iter()
        .filter(|one| one.fit == Fit::Same);
    Ok(same.map(|one| one.commit).collect())
}

fn remove(
    surroundings: &Surroundings,
    repository: &Repository,
    arguments: &RemoveArgs,
) -> Result<Exit, Failure> {
    // What is found clean stays so for others of agent-run while it is removed.
    let lock = RepositoryLock::acquire(&surroundings.state, repository.key())?;
    let made = repository.made_worktrees(&lock)?;
    let mut asked = named(surroundings, &made, &arguments.worktrees)?;
    if arguments.merged {
        let merged = merged(repository, &made, arguments.base.as_deref())?;
        asked.retain(|worktree| merged.contains(&worktree.commit));
    }
    let (mut kept, mut failed) = (0, 0);
    for worktree in &asked {
        let path = shown(&worktree.path);
        let state = repository.worktree_state(worktree)?;
        let real = fs::canonicalize(&worktree.path);
        let is_here = real.is_ok_and(|path| surroundings.directory.starts_with(path));
        if let Some(why) = kept_for(state, is_here, arguments.merged) {
            kept += 1;
            print_result(&format!("kept {path}: {why}\n"));
            continue;
        }
        if arguments.dry_run {
            print_result(&format!("would remove {path}\n"));
            continue;
        }
        match repository.remove_worktree(&lock, worktree) {
            Ok(()) => print_result(&format!("removed {path}\n")),
            Err(error) => {
                failed += 1;
                print_result(&format!("kept {path}: {error}\n"));
            }
        }
    }
    if asked.is_empty() {
        print_result("nothing to remove\n");
    }
    // Of all that are merged it is no failure that one is in use.
    Ok(if failed > 0 || kept > 0 && !arguments.merged {
        Exit::Unexpected
    } else {
        Exit::Success
    })
}

/// Why one is not removed.
fn kept_for(state: WorktreeState, is_here: bool, is_merged: bool) -> Option<&'static str> {
    match state {
        _ if is_here => Some("you are in it"),
        WorktreeState::Changed => Some("something is not committed there"),
        WorktreeState::OnNoRef if !is_merged => Some("it has commits that are on no branch"),
        WorktreeState::Locked => Some("it is locked: `git worktree unlock` first"),
        WorktreeState::Unfinished => {
            Some("it is being made, or that was cut off: then `git worktree remove -f -f`")
        }
        WorktreeState::Clean | WorktreeState::Gone | WorktreeState::OnNoRef => None,
    }
}

/// Those that words name, by their tasks or directories; all if there is no word.
fn named(
    surroundings: &Surroundings,
    made: &[LinkedWorktree],
    words: &[String],
) -> Result<Vec<LinkedWorktree>, Failure> {
    if words.is_empty() {
        return Ok(made.to_vec());
    }
    let tasks: Vec<&TaskId> = made.iter().map(|worktree| &worktree.of.1).collect();
    let mut found: Vec<LinkedWorktree> = Vec::new();
    for word in words {
        let directory = surroundings.directory.join(word);
        let real = fs::canonicalize(&directory).unwrap_or_else(|_| directory.clone());
        let meant = matching(&tasks, word);
        let is_meant = |worktree: &&LinkedWorktree| {
            let path = &worktree.path;
            *path == directory || *path == real || meant.contains(&&worktree.of.1)
        };
        let these: Vec<_> = made.iter().filter(is_meant).cloned().collect();
        if these.is_empty() {
            let word = sanitize::line(word.as_bytes(), false);
            let error =
                anyhow!("`{word}` is no task or directory of a worktree that agent-run made");
            let hint = "`agent-run worktrees` lists them";
            return Err(Failure::new(Exit::Usage, error).hint(hint));
        }
        let new = these.into_iter().filter(|one| !found.contains(one));
        let new: Vec<_> = new.collect();
        found.extend(new);
    }
    Ok(found)
}
