//! The results of several tasks become one commit, from which another task starts.
//!
//! Git merges trees and contents, under the limits of everything that an agent wrote; nothing is
//! checked out. The commit is the same whenever the same results are merged.

use std::path::Path;
use std::time::{Duration, Instant};

use git2::{ErrorCode, Oid, Repository, Signature, Time};

use super::error::{CollectError, fail_closed};
use super::limits::CollectLimits;
use crate::git::{Git, GitCall, ResourceLimits};
use crate::id::{CommitId, TaskId};
use crate::sanitize;

/// How long a ref may be locked by another who makes it, and how long apart that is looked at.
const LOCKED: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// What is merged.
#[derive(Debug, Clone, Copy)]
pub struct MergeRequest<'a> {
    /// Host git.
    pub git: &'a Git,
    /// The repository of accepted results: all commits are in it, and the merge will be.
    pub results: &'a Path,
    /// The results, in this order, with the tasks that they are of; at least one.
    pub from: &'a [(TaskId, CommitId)],
    /// Name and e-mail address of the merge.
    pub author: (&'a str, &'a str),
    /// What git may use.
    pub limits: CollectLimits,
}

/// What became of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// The merge, or the one result that contains all others.
    Commit(CommitId),
    /// There is none.
    Conflict {
        /// The tasks up to the one whose result could not be merged to those before.
        tasks: Vec<TaskId>,
        /// The files, sanitised.
        paths: Vec<String>,
    },
}

/// Why results could not be merged, other than that they conflict.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct MergeError(#[from] CollectError);

/// Merges results one after the other into a commit whose parents they all are.
///
/// # Errors
/// Where git fails, or exceeds its limits.
pub fn merge(request: &MergeRequest<'_>) -> Result<Merged, MergeError> {
    Ok(merge_all(request)?)
}

fn merge_all(request: &MergeRequest<'_>) -> Result<Merged, CollectError> {
    let parts = independent(request)?;
    let (_, first) = &parts[0];
    let ours = Repository::open_bare(request.results)?;
    let mut parents = vec![ours.find_commit(oid(first)?)?];
    let mut merged = first.clone();
    for (at, (_, next)) in parts.iter().enumerate().skip(1) {
        let tree = match merge_trees(request, &merged, next)? {
            Ok(tree) => tree,
            Err(paths) => {
                let tasks = parts[..=at].iter().map(|(task, _)| task.clone());
                let tasks = tasks.collect();
                return Ok(Merged::Conflict { tasks, paths });
            }
        };
        parents.push(ours.find_commit(oid(next)?)?);
        // As young as the youngest: no clock has a part in it.
        let seconds = parents.iter().map(|parent| parent.time().seconds()).max();
        let time = Time::new(seconds.unwrap_or_default(), 0);
        let author = Signature::new(request.author.0, request.author.1, &time)?;
        let tree = ours.find_tree(oid(&tree)?)?;
        let names: Vec<&str> = parts[..=at].iter().map(|(task, _)| task.as_str()).collect();
        let message = format!("Merge the results of {}\n", names.join(", "));
        let parents: Vec<_> = parents.iter().collect();
        let id = ours.commit(None, &author, &author, &message, &tree, &parents)?;
        merged = commit_id(&id.to_string())?;
    }
    keep(&ours, &merged)?;
    Ok(Merged::Commit(merged))
}

/// Keeps a merge from being pruned. Tasks that start from the same results make the same ref, maybe at
/// the same time.
fn keep(ours: &Repository, merged: &CommitId) -> Result<(), CollectError> {
    let name = format!("refs/results/merges/{merged}");
    let deadline = Instant::now() + LOCKED;
    loop {
        match ours.reference(&name, oid(merged)?, true, "") {
            Err(error) if error.code() == ErrorCode::Locked && Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            made => return Ok(made.map(drop)?),
        }
    }
}

/// The results that no other contains, each once.
fn independent(request: &MergeRequest<'_>) -> Result<Vec<(TaskId, CommitId)>, CollectError> {
    let ids = request.from.iter().map(|(_, id)| id.as_str());
    let arguments = ["merge-base", "--independent"].into_iter().chain(ids);
    let listed = call(request, arguments)
        .run_text()
        .map_err(fail_closed("merge"))?;
    let mut left: Vec<&str> = listed.lines().collect();
    let mut parts = Vec::new();
    for (task, id) in request.from {
        if let Some(at) = left.iter().position(|one| *one == id.as_str()) {
            left.swap_remove(at);
            parts.push((task.clone(), id.clone()));
        }
    }
    if parts.is_empty() {
        return Err(unexpected());
    }
    Ok(parts)
}

/// The tree of a merge, or the files that conflict.
fn merge_trees(
    request: &MergeRequest<'_>,
    one: &CommitId,
    other: &CommitId,
) -> Result<Result<CommitId, Vec<String>>, CollectError> {
    let arguments = [
        "merge-tree",
        "--write-tree",
        "--no-messages",
        "--name-only",
        "-z",
        one.as_str(),
        other.as_str(),
    ];
    let answer = call(request, arguments).run_answer();
    let (is_clean, output) = answer.map_err(fail_closed("merge"))?;
    let mut fields = output.split(|b| *b == 0).filter(|field| !field.is_empty());
    let tree = String::from_utf8_lossy(fields.next().unwrap_or_default());
    if is_clean {
        return Ok(Ok(commit_id(&tree)?));
    }
    let paths = fields.map(|path| sanitize::line(path, false)).collect();
    Ok(Err(paths))
}

fn call<'a, 'w>(
    request: &MergeRequest<'a>,
    arguments: impl IntoIterator<Item = &'w str>,
) -> GitCall<'a> {
    let limits = &request.limits;
    request
        .git
        .call(arguments)
        .git_dir(request.results)
        .config("core.packedGitLimit=256m")
        .config("core.packedGitWindowSize=32m")
        .deadline(limits.time)
        .limits(ResourceLimits {
            address_space: limits.address_space().saturating_mul(2),
            cpu_seconds: limits.time.as_secs().saturating_add(1),
            file_size: limits.file_size(),
        })
}

fn oid(id: &CommitId) -> Result<Oid, CollectError> {
    Ok(Oid::from_str(id.as_str())?)
}

fn commit_id(text: &str) -> Result<CommitId, CollectError> {
    text.trim().parse().map_err(|_| unexpected())
}

fn unexpected() -> CollectError {
    CollectError::Rejected {
        check: "merge",
        detail: "git gave no answer that can be read".into(),
    }
}
