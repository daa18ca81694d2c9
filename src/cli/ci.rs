//! What a CI system is told besides the log: values to mask, outputs of the step.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::print_command;
use super::surroundings;
use crate::event::RunSummary;
use crate::plan::RunPlan;
use crate::report::{self, Hints, Service, SpecPlaces, TaskLines, markdown};
use crate::secrets::SecretString;

/// The most that GitHub takes as the summary of a step, in bytes.
const SUMMARY_LIMIT: usize = 1 << 20;

/// The CI system whose log standard error goes to; a preview is no run that it knows to show.
pub(super) fn service(plan: &RunPlan, directory: &Path) -> Option<Service> {
    if surroundings::has_terminal() || plan.previews.is_some() {
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
            disk_limit: task.lines.disk_limit,
            timeout: task.lines.timeout,
        };
        (task.id.clone(), lines)
    });
    SpecPlaces {
        file: path.is_file().then_some(shown),
        tasks: tasks.collect(),
    }
}

/// Whether GitHub reads what is printed, and masks what it is told: a file would keep values readable,
/// a terminal would show them, and neither is read by a runner.
pub(super) fn masks_values() -> bool {
    surroundings::is_github() && surroundings::is_piped()
}

/// Has GitHub mask these values from now on.
pub(super) fn mask<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) {
    if masks_values() {
        print_command(&report::masks(secrets));
    }
}

/// Gives a step of GitHub's its outputs and its summary.
pub(super) fn tell(plan: &RunPlan, run: &RunSummary, hints: &Hints) -> anyhow::Result<()> {
    if !surroundings::is_github() || plan.previews.is_some() {
        return Ok(());
    }
    append("GITHUB_OUTPUT", |_| report::outputs(run))?;
    append("GITHUB_STEP_SUMMARY", |used| {
        let room = SUMMARY_LIMIT.saturating_sub(used);
        shortened(markdown(run, hints), room)
    })
}

/// Adds to the file that a variable names, if it names one. The text may depend on how many bytes
/// are in it already.
fn append(variable: &str, text: impl FnOnce(usize) -> String) -> anyhow::Result<()> {
    let Some(file) = surroundings::path(variable) else {
        return Ok(());
    };
    let write = || -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create(true).append(true).open(&file)?;
        let used = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        file.write_all(text(used).as_bytes())
    };
    write().with_context(|| format!("cannot write {}, which {variable} names", file.display()))
}

/// The text, or as many of its lines as there is room for.
fn shortened(text: String, room: usize) -> String {
    const CUT: &str = "\n\n… cut: GitHub takes 1 MiB a step.\n";
    if text.len() <= room {
        return text;
    }
    let room = room.saturating_sub(CUT.len());
    let end = text.as_bytes()[..room]
        .iter()
        .rposition(|byte| *byte == b'\n');
    match end {
        Some(end) => text[..end].to_owned() + CUT,
        None => String::new(),
    }
}
