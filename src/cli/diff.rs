//! `diff`: what a task's work changes, as a patch.

use std::io::Write as _;

use anyhow::anyhow;

use super::args::TaskArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::print_result;
use super::surroundings::{self, Surroundings};
use super::target::Target;
use crate::event::BranchResult;
use crate::report::quoted;
use crate::sanitize;

pub(super) fn diff(surroundings: &Surroundings, arguments: &TaskArgs) -> Result<Exit, Failure> {
    let target = Target::find(surroundings, arguments.run.as_ref())?;
    let task = target.task(&arguments.task)?;
    let report = target.found.progress()?.remove(&task.id);
    let report = report.and_then(|progress| progress.report);
    let (base, branch) = report.map(|r| (r.base, r.branch)).unwrap_or_default();
    let base = base.as_ref().unwrap_or(&target.plan.repository.base);
    let tip = match branch.map(|branch| branch.result) {
        Some(
            BranchResult::Created { commit, .. }
            | BranchResult::Taken { commit, .. }
            | BranchResult::SetAside { commit, .. },
        ) => commit,
        Some(BranchResult::NoChange) => return Ok(Exit::Success),
        Some(BranchResult::Rejected { .. } | BranchResult::Kept { .. }) | None => {
            let error = anyhow!("task {} of run {} has no branch", task.id, target.found.run);
            let hint = format!(
                "`agent-run show {}` tells what became of it",
                quoted(&task.id)
            );
            return Err(Failure::new(Exit::NothingSelected, error).hint(hint));
        }
    };
    let repository = target.repository(surroundings)?;
    let color = surroundings.result_paint.color;
    let patch = repository.diff(base, &tip, color)?;
    if surroundings::is_read_by_people() {
        let lines = patch.split_inclusive(|byte| *byte == b'\n');
        let lines = lines.map(|line| sanitize::line(line.trim_ascii_end(), color) + "\n");
        print_result(&lines.collect::<String>());
    } else {
        // A patch for `git apply`. A reader that has gone is no error of ours.
        let _ = std::io::stdout().write_all(&patch);
    }
    Ok(Exit::Success)
}
