//! What a CI system is told besides the log: values to mask, outputs of the step.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::print_command;
use super::surroundings;
use crate::event::RunSummary;
use crate::plan::RunPlan;
use crate::report::{self, Service, SpecPlaces, TaskLines};
use crate::secrets::SecretString;

/// The CI system whose log standard error goes to.
pub(super) fn service(plan: &RunPlan, directory: &Path) -> Option<Service> {
    if surroundings::has_terminal() {
        return None;
    }
    if surroundings::is_github() {
        return Some(Service::GitHub(spec_places(plan, directory)));
    }
    surroundings::is_gitlab().then_some(Service::GitLab)
}

/// The spec as GitHub names files: relative to the workspace.
fn spec_places(plan: &RunPlan, directory: &Path) -> SpecPlaces {
    let path = directory.join(&plan.spec);
    let workspace = surroundings::path("GITHUB_WORKSPACE");
    let inside = workspace.and_then(|workspace| path.strip_prefix(workspace).ok());
    let shown = inside.unwrap_or(&path).display().to_string();
    let tasks = plan.tasks.iter().map(|task| {
        let lines = TaskLines {
            task: task.lines.task,
            mem_limit: task.lines.mem_limit,
            timeout: task.lines.timeout,
        };
        (task.id.clone(), lines)
    });
    SpecPlaces {
        file: path.is_file().then_some(shown),
        tasks: tasks.collect(),
    }
}

/// Has GitHub mask these values from now on.
pub(super) fn mask(secrets: &[(String, SecretString)]) {
    // A file would keep them readable, a terminal would show them, and neither is read by a runner.
    if surroundings::is_github() && surroundings::is_piped() {
        print_command(&report::masks(secrets.iter().map(|(_, value)| value)));
    }
}

/// Gives the step its outputs, where it is one of GitHub's.
pub(super) fn tell(run: &RunSummary) -> anyhow::Result<()> {
    let file = surroundings::path("GITHUB_OUTPUT").filter(|_| surroundings::is_github());
    let Some(file) = file else { return Ok(()) };
    let mut options = std::fs::OpenOptions::new();
    let opened = options.create(true).append(true).open(&file);
    opened
        .and_then(|mut file| file.write_all(report::outputs(run).as_bytes()))
        .with_context(|| format!("cannot write the step's outputs to {}", file.display()))
}
