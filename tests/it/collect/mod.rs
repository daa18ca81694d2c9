//! Collection with real git: what becomes a branch, and what hostile hand-offs leave behind.

mod artifacts;
pub mod forged;
mod ground;
mod honest;
mod hostile;
mod leaks;
mod start;
mod submodules;

use std::fs;
use std::path::Path;

use agent_run::collect::limits::CollectLimits;
use agent_run::collect::{CollectRequest, Ground, collect};
use agent_run::event::BranchReport;
use agent_run::id::CommitId;
use agent_run::secrets::Needles;

use crate::git::fixture::{attempt, git};
use crate::workspace::{Inside, Site};

/// What a collection is asked for besides.
#[derive(Default)]
pub struct Asked<'a> {
    pub guard: Option<&'a (String, CommitId)>,
    pub ground: Option<Ground<'a>>,
    pub limits: CollectLimits,
    pub secrets: Needles,
}

/// Collects the attempt `task`/1 onto the branch `agent/<task>`.
pub fn collect_with(site: &Site, inside: &Inside, task: &str, asked: &Asked<'_>) -> BranchReport {
    collect(&CollectRequest {
        repository: &site.repository,
        state: &site.scratch.state(),
        store: &site.store,
        workspace: &inside.workspace,
        attempt: &attempt(task, 1),
        branch: Some(&format!("agent/{task}").parse().unwrap()),
        guard: asked.guard,
        moves: None,
        ground: asked.ground,
        limits: asked.limits,
        secrets: &asked.secrets,
    })
}

fn collect_as(site: &Site, inside: &Inside, task: &str, limits: CollectLimits) -> BranchReport {
    let asked = Asked {
        limits,
        ..Asked::default()
    };
    collect_with(site, inside, task, &asked)
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
