//! `refresh`: one result brought onto what the base is now, as a new tip of its branch.

use anyhow::anyhow;

use super::args::{RefreshArgs, RefreshStrategy};
use super::error::Failure;
use super::exit_code::Exit;
use super::print_result;
use super::surroundings::Surroundings;
use super::target::Target;
use super::work::no_branch;
use crate::event::BranchResult;
use crate::forecast::{self, Candidate, ForecastRequest, Refreshed};
use crate::id::BranchName;
use crate::report;

pub(super) fn refresh(
    surroundings: &Surroundings,
    arguments: &RefreshArgs,
) -> Result<Exit, Failure> {
    let target = Target::find(surroundings, arguments.which.of.run.as_ref())?;
    let branch = branch(&target, &arguments.which.task)?;
    let repository = target.repository(surroundings)?;
    let place = repository.branch(branch.as_str())?.ok_or_else(|| {
        let error = anyhow!("the branch {branch} is not there any more");
        Failure::new(Exit::NothingSelected, error)
    })?;
    if let Some(worktree) = &place.worktree {
        let error = anyhow!("{branch} is checked out in {}", worktree.display());
        let hint = "rebase or merge it there, or remove that worktree first";
        return Err(Failure::new(Exit::EnvironmentUnusable, error).hint(hint));
    }
    let base = &target.plan.repository.base_ref;
    let base = arguments.base.as_deref().unwrap_or(base);
    let onto = repository.resolve_base(base)?;
    let author = &target.plan.author;
    let message = format!("Merge {base} into {branch}\n");
    let merges = arguments.strategy == RefreshStrategy::Merge;
    let refreshed = forecast::refresh(
        &ForecastRequest {
            repository: &repository,
            base: (base, &onto),
            candidates: &[Candidate {
                branch: branch.to_string(),
                task: None,
                commit: place.commit.clone(),
                needs: Vec::new(),
            }],
            patience: None,
        },
        (&author.name, &author.email),
        merges.then_some(&*message),
    )?;
    let tip = match refreshed {
        Refreshed::Moved(tip) => tip,
        Refreshed::Same => {
            print_result(&format!("{branch} is on {base} already\n"));
            return Ok(Exit::Success);
        }
        Refreshed::Merged => {
            print_result(&format!("all of {branch} is in {base} already\n"));
            return Ok(Exit::Success);
        }
        Refreshed::Conflict { commit, why } => {
            let why = report::conflict(&why).unwrap_or_default();
            let error = anyhow!("commit {} conflicts with {base}: {why}", commit.short());
            let hint = format!("{branch} is as it was: rebase or merge it by hand");
            return Err(Failure::new(Exit::TasksFailed, error).hint(hint));
        }
        Refreshed::NotLinear => {
            let error = anyhow!("{branch} has merges, which cannot be rebased one by one");
            let hint = "say `--strategy merge`";
            return Err(Failure::new(Exit::TasksFailed, error).hint(hint));
        }
    };
    repository.move_branch(branch.as_str(), Some(&place.commit), &tip)?;
    let (tip, old) = (tip.short(), place.commit.short());
    print_result(&format!("{branch} is {tip} on {base}; it was {old}\n"));
    Ok(Exit::Success)
}

/// The branch of a task.
pub(super) fn branch(target: &Target, task: &str) -> Result<BranchName, Failure> {
    let task = target.task(task)?;
    let report = target.found.progress()?.remove(&task.id);
    let report = report.and_then(|progress| progress.report);
    let result = report
        .and_then(|report| report.branch)
        .map(|work| work.result);
    if let Some(BranchResult::Created { branch, .. }) = result {
        return Ok(branch);
    }
    Err(no_branch(target, &task.id))
}
