//! `preview`: what a task has made is started again, for people to look at.

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;

use super::args::{OverArgs, TaskArgs, ViewArgs, duration};
use super::error::Failure;
use super::exit_code::Exit;
use super::surroundings::Surroundings;
use super::target::{self, Target};
use super::{repeat, run};
use crate::event::BranchResult;

/// How long a preview lasts whose end nobody has said, and of which nobody has thought since.
const DEFAULT_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What `preview` takes.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// Which task.
    #[command(flatten)]
    which: TaskArgs,
    /// How long it lasts [default: until Ctrl-C, 1d at most]
    #[arg(long = "for", value_name = "DURATION", env = "AGENT_RUN_FOR", value_parser = duration)]
    time: Option<Duration>,
    /// How it is shown.
    #[command(flatten)]
    view: ViewArgs,
}

pub(super) async fn preview(
    surroundings: &Surroundings,
    here: &Path,
    arguments: &PreviewArgs,
) -> Result<Exit, Failure> {
    // Containers of another uid must be able to read what we make for them.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let target = Target::find(surroundings, arguments.which.of.run.as_ref())?;
    let task = target.task(&arguments.which.task)?;
    let name = format!("task {} of run {}", task.id, target.found.run);
    let refused = |why: &str, hint: &str| {
        let error = anyhow!("{name} cannot be shown: {why}");
        Failure::new(Exit::EnvironmentUnusable, error).hint(hint)
    };
    let Some(preview) = &task.preview else {
        let hint = "give it one in the spec, such as `preview: { run: npm start, port: 3000 }`, and run that";
        return Err(refused("it has no `preview`", hint));
    };
    let report = target.ended(task, refused)?;
    let Some(BranchResult::Created { branch, .. }) = report.branch.map(|work| work.result) else {
        let hint = "`agent-run show` says what became of its work";
        return Err(refused("its work has no branch", hint));
    };
    let repository = target.repository(surroundings)?;
    let tip = target::tip(&repository, &branch);
    let tip = tip.map_err(|(why, hint)| refused(&why, hint))?;
    let time = arguments.time.unwrap_or(DEFAULT_TIME);
    let mut plan = target.plan.preview_of(task, preview, time);
    (plan.repository.base_ref, plan.repository.base) = tip;
    let repeat = repeat::of(here, (name, plan), Vec::new(), None)?;
    let prepared = repeat.prepare(surroundings, OverArgs::default()).await?;
    Box::pin(run::start(surroundings, prepared, &arguments.view)).await
}
