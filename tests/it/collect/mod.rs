//! Collection with real git: what becomes a branch, and what hostile hand-offs leave behind.

mod artifacts;
pub mod forged;
mod honest;
mod hostile;
mod start;
mod submodules;

use std::fs;
use std::path::Path;

use agent_run::collect::limits::CollectLimits;
use agent_run::collect::{CollectRequest, collect};
use agent_run::event::BranchReport;
use agent_run::id::CommitId;

use crate::git::fixture::{attempt, git};
use crate::workspace::{Inside, Site};

/// Collects the attempt `task`/1 onto the branch `agent/<task>`.
fn collect_as(site: &Site, inside: &Inside, task: &str, limits: CollectLimits) -> BranchReport {
    collect_guarded(site, inside, task, (limits, None))
}

/// The same, onto the branch only while a ref stands for that commit.
pub fn collected_if(
    site: &Site,
    inside: &Inside,
    task: &str,
    guard: &(String, CommitId),
) -> BranchReport {
    let limits = CollectLimits::default();
    collect_guarded(site, inside, task, (limits, Some(guard)))
}

fn collect_guarded(
    site: &Site,
    inside: &Inside,
    task: &str,
    (limits, guard): (CollectLimits, Option<&(String, CommitId)>),
) -> BranchReport {
    collect(&CollectRequest {
        repository: &site.repository,
        state: &site.scratch.state(),
        store: &site.store,
        workspace: &inside.workspace,
        attempt: &attempt(task, 1),
        branch: Some(&format!("agent/{task}").parse().unwrap()),
        guard,
        limits,
    })
}

fn collected(site: &Site, inside: &Inside, task: &str) -> BranchReport {
    collect_as(site, inside, task, CollectLimits::default())
}

/// Everything of a repository that a refused result could have changed.
fn snapshot(dir: &Path) -> String {
    let mut files = Vec::new();
    let mut pending = vec![dir.join(".git")];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        } else {
            files.push(format!(
                "{} {}",
                path.display(),
                fs::metadata(&path).unwrap().len()
            ));
        }
    }
    files.sort();
    format!(
        "{}\n{}\n{}",
        git(dir, &["for-each-ref"]),
        git(dir, &["count-objects", "-v"]),
        files.join("\n")
    )
}
