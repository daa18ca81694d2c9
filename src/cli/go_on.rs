//! `continue`: a task goes on after its run, on its branch and in its agent's conversation.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;

use super::args::{OverArgs, RunOption, ViewArgs};
use super::error::Failure;
use super::exit_code::Exit;
use super::surroundings::Surroundings;
use super::target::{self, Target};
use super::{repeat, run};
use crate::event::{BranchResult, TaskReport};
use crate::git::Repository;
use crate::id::{AttemptId, CommitId};
use crate::plan::{Continues, RunPlan, SetupPlan, TaskPlan};
use crate::spec::{SIZE_LIMIT, read_text};

/// What `continue` takes.
#[derive(Debug, Args)]
pub struct ContinueArgs {
    /// The task
    task: String,
    /// Of which run.
    #[command(flatten)]
    of: RunOption,
    /// What its agent is told next
    #[arg(
        long,
        value_name = "TEXT",
        env = "AGENT_RUN_PROMPT",
        required_unless_present = "prompt_file"
    )]
    prompt: Option<String>,
    /// The file that this is in
    #[arg(
        long,
        value_name = "FILE",
        env = "AGENT_RUN_PROMPT_FILE",
        conflicts_with = "prompt"
    )]
    prompt_file: Option<PathBuf>,
    /// What stands over the plan.
    #[command(flatten)]
    over: OverArgs,
    /// How it is shown.
    #[command(flatten)]
    view: ViewArgs,
}

pub(super) async fn go_on(
    surroundings: &Surroundings,
    here: &Path,
    arguments: &ContinueArgs,
) -> Result<Exit, Failure> {
    // Containers of another uid must be able to read what we make for them.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let prompt = prompt(here, arguments)?;
    let target = Target::find(surroundings, arguments.of.run.as_ref())?;
    let task = target.task(&arguments.task)?.clone();
    let name = format!("task {} of run {}", task.id, target.found.run);
    let refused = |why: &str, hint: &str| {
        let error = anyhow!("{name} cannot go on: {why}");
        Failure::new(Exit::EnvironmentUnusable, error).hint(hint)
    };
    let Some(agent) = &task.agent else {
        return Err(refused("it has no agent", "run the spec anew"));
    };
    let report = target.ended(&task, refused)?;
    let attempt = AttemptId {
        run: target.found.run.clone(),
        task: task.id.clone(),
        number: report.attempt,
    };
    if !surroundings.state.session(&attempt).is_dir() {
        let hint = if agent.session.is_empty() {
            "give it `session: keep` in the spec, and run that"
        } else {
            "its client left none of that attempt: run the spec anew"
        };
        return Err(refused("nothing of its session was kept", hint));
    }
    let repository = target.repository(surroundings)?;
    let start = start(&repository, &target.plan, &report);
    let start = start.map_err(|(why, hint)| refused(&why, hint))?;
    let task = TaskPlan {
        prompt: Some(prompt),
        needs: Vec::new(),
        starts_from: Vec::new(),
        setup: task.setup.map(SetupPlan::of_result),
        continues: Some(Continues {
            run: attempt.run,
            attempt: attempt.number,
            moves_branch: start.moves_branch,
        }),
        ..task
    };
    let mut plan = target.plan;
    plan.tasks = vec![task];
    plan.repository.base = start.commit;
    plan.repository.base_ref = start.name;
    let repeat = repeat::of(here, (name, plan), Vec::new(), None)?;
    let prepared = repeat.prepare(surroundings, arguments.over).await?;
    Box::pin(run::start(surroundings, prepared, &arguments.view)).await
}

/// Where the task goes on.
struct Start {
    commit: CommitId,
    /// What that is called.
    name: String,
    /// Whether that is its branch.
    moves_branch: bool,
}

/// The tip of its branch, also where somebody has added to it; else what it began with and did not change.
fn start(
    repository: &Repository,
    plan: &RunPlan,
    report: &TaskReport,
) -> Result<Start, (String, &'static str)> {
    let work = report.branch.as_ref().map(|branch| &branch.result);
    match work {
        Some(BranchResult::Created { branch, .. }) => {
            let (name, commit) = target::tip(repository, branch)?;
            if repository.is_checked_out(branch) {
                let why =
                    format!("its branch {branch} is checked out, and would change beneath you");
                return Err((why, "switch to another branch there: git switch --detach"));
            }
            Ok(Start {
                commit,
                name,
                moves_branch: true,
            })
        }
        Some(BranchResult::NoChange) => Ok(Start {
            commit: report
                .base
                .clone()
                .unwrap_or_else(|| plan.repository.base.clone()),
            name: plan.repository.base_ref.clone(),
            moves_branch: false,
        }),
        _ => Err((
            "its work has no branch".into(),
            "`agent-run show` says what became of it",
        )),
    }
}

fn prompt(here: &Path, arguments: &ContinueArgs) -> Result<String, Failure> {
    let text = match (&arguments.prompt, &arguments.prompt_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => {
            let read = read_text(&here.join(file));
            read.map_err(|error| Failure::new(Exit::Usage, error))?
        }
        (None, None) => String::new(),
    };
    let problem = if text.trim().is_empty() {
        "the prompt is empty"
    } else if text.len() as u64 > SIZE_LIMIT {
        "the prompt is larger than 1 MiB"
    } else {
        return Ok(text);
    };
    Err(Failure::new(Exit::Usage, anyhow!(problem))
        .hint("say what is to be done: --prompt TEXT or --prompt-file FILE"))
}
