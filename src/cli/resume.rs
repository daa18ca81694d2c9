//! `resume`: goes on with a run whose process died.

use anyhow::anyhow;

use super::args::ResumeArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::run::{Ready, carry_out};
use super::surroundings::Surroundings;
use super::{print_result, repeat, target};
use crate::engine::Engine as _;
use crate::git::Repository;
use crate::id::label;
use crate::journal::{FoundRun, RunDirectory, RunState};
use crate::plan::{self, RunPlan};
use crate::runner::Record;

pub(super) async fn resume(
    surroundings: &Surroundings,
    arguments: &ResumeArgs,
) -> Result<Exit, Failure> {
    // Containers of another uid must be able to read what we make for them.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let found = find(surroundings, arguments)?;
    let run = &found.run;
    if found.is_preview() {
        let error = anyhow!("run {run} was a preview, and nothing of it is to be gone on with");
        let hint = "start it again: agent-run preview; `agent-run clean` removes what it left";
        return Err(Failure::new(Exit::EnvironmentUnusable, error).hint(hint));
    }
    let directory = RunDirectory::take_over(&surroundings.state, run)?;
    if found.path.join("result.json").exists() {
        print_result(&format!(
            "run {run} has ended: there is nothing to resume\n"
        ));
        return Ok(Exit::Success);
    }
    let plan: RunPlan = found.read_json("plan.json", plan::VERSION)?;
    let mut prepared = repeat::same(surroundings, plan).await?;
    let owned = prepared.engine.list_owned().await?.into_iter();
    let is_its = |value: &String| *value == run.as_str();
    let owned = owned.filter(|o| o.labels.get(label::RUN).is_some_and(is_its));
    let owned = owned.collect();
    let ready = Ready::new(surroundings, &mut prepared, &arguments.view)?;
    let (journal, events) = directory.journal()?;
    let record = Record {
        journal,
        events,
        owned,
    };
    let carried_out = carry_out(surroundings, prepared, ready, (directory, record));
    Box::pin(carried_out).await
}

/// The run that is named, else the latest interrupted one of the repository around here.
fn find(surroundings: &Surroundings, arguments: &ResumeArgs) -> Result<FoundRun, Failure> {
    if let Some(run) = &arguments.run {
        return Ok(FoundRun::of(&surroundings.state, run)?);
    }
    let here = target::repository(surroundings)?;
    let key = here.as_ref().map(Repository::key);
    let mut all = FoundRun::all(&surroundings.state)?;
    all.retain(|run| run.state == RunState::Interrupted && run.repo().as_ref() == key);
    all.retain(|run| !run.is_preview());
    all.pop().ok_or_else(|| {
        let error = anyhow!("no run of the repository around here was interrupted");
        Failure::new(Exit::NothingSelected, error).hint("`agent-run ps --all` lists all runs")
    })
}
