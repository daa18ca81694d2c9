//! `ps`: lists runs and their tasks.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::args::{Format, PsArgs};
use super::error::Failure;
use super::exit_code::Exit;
use super::surroundings::Surroundings;
use super::{print_error, print_json, print_result, target};
use crate::event::{TaskPhase, Versioned};
use crate::id::{RunId, TaskId};
use crate::journal::{FoundRun, JournalError, RunState, TaskProgress};
use crate::plan::{self, RunPlan};
use crate::report::{self, Paint, Totals, count, gain, padded, since, size, verdict};
use crate::sanitize;
use crate::workspace::{DiskUse, disk_use};

#[derive(Serialize)]
struct Runs {
    runs: Vec<Listed>,
}

/// A run as it is listed.
#[derive(Serialize)]
struct Listed {
    run: RunId,
    state: RunState,
    name: Option<String>,
    /// The run that it is a preview of, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    previews: Option<RunId>,
    repository: Option<PathBuf>,
    /// RFC 3339 in UTC.
    started: Option<String>,
    age_seconds: Option<u64>,
    disk_bytes: u64,
    /// Whether there is more that could not be counted.
    disk_is_partial: bool,
    directory: PathBuf,
    /// Why its directory tells less than it should, if it does.
    problem: Option<String>,
    tasks: Vec<ListedTask>,
    #[serde(skip)]
    holds_work: bool,
}

#[derive(Serialize)]
struct ListedTask {
    task: TaskId,
    #[serde(flatten)]
    progress: TaskProgress,
}

pub(super) fn ps(surroundings: &Surroundings, arguments: &PsArgs) -> Result<Exit, Failure> {
    let here = if arguments.all {
        None
    } else {
        target::repository(surroundings)?
    };
    let mut found = FoundRun::all(&surroundings.state)?;
    if let Some(here) = &here {
        found.retain(|run| run.repo().as_ref() == Some(here.key()));
    }
    found.reverse();
    let all = found.len();
    let mut place = 0..;
    found.retain(|run| {
        let is_new = place
            .next()
            .is_some_and(|place: usize| place < arguments.limit);
        is_new || run.state == RunState::Live
    });
    let hidden = all - found.len();
    let runs: Vec<Listed> = found.iter().map(listed).collect();
    if arguments.print.format == Format::Json {
        return print_json(&Versioned::new(Runs { runs }));
    }
    if runs.is_empty() {
        let whose = here.as_ref().map_or_else(String::new, |repository| {
            format!(" of {}", repository.directory().display())
        });
        let state = surroundings.state.path().display();
        print_error(&format!("there is no run{whose} in {state}\n"));
    }
    print_result(&render(
        &runs,
        hidden,
        here.is_none(),
        surroundings.result_paint,
    ));
    Ok(Exit::Success)
}

fn listed(found: &FoundRun) -> Listed {
    let plan: Result<RunPlan, JournalError> = found.read_json("plan.json", plan::VERSION);
    let progress = found.progress();
    let problems = [plan.as_ref().err(), progress.as_ref().err()];
    let problem = problems.into_iter().flatten().next();
    let DiskUse { bytes, is_partial } = disk_use(&found.path);
    let started = found.run.started();
    let age = started.map(|started| jiff::Timestamp::now().duration_since(started));
    Listed {
        problem: problem.map(ToString::to_string),
        tasks: tasks(plan.as_ref().ok(), progress.unwrap_or_default()),
        run: found.run.clone(),
        state: found.state,
        started: started.map(|started| started.to_string()),
        age_seconds: age.map(|age| u64::try_from(age.as_secs()).unwrap_or(0)),
        disk_bytes: bytes,
        disk_is_partial: is_partial,
        directory: found.path.clone(),
        holds_work: found.holds_work(),
        name: plan.as_ref().ok().and_then(|plan| plan.name.clone()),
        previews: plan.as_ref().ok().and_then(|plan| plan.previews.clone()),
        repository: plan.ok().map(|plan| plan.repository.path),
    }
}

/// In the order of the plan; where there is none, in that of their names.
fn tasks(plan: Option<&RunPlan>, mut progress: HashMap<TaskId, TaskProgress>) -> Vec<ListedTask> {
    let mut ids: Vec<TaskId> = match plan {
        Some(plan) => plan.tasks.iter().map(|task| task.id.clone()).collect(),
        None => progress.keys().cloned().collect(),
    };
    if plan.is_none() {
        ids.sort();
    }
    let task = |task: TaskId| ListedTask {
        progress: progress
            .remove(&task)
            .unwrap_or_else(TaskProgress::not_begun),
        task,
    };
    ids.into_iter().map(task).collect()
}

fn render(runs: &[Listed], hidden: usize, of_all: bool, paint: Paint) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for (place, run) in runs.iter().enumerate() {
        let _ = head(&mut text, run, of_all, paint);
        // What went on before is told by `show`, and in a line here.
        if place == 0 || run.state != RunState::Finished {
            let _ = task_lines(&mut text, run, paint);
        }
    }
    if hidden > 0 {
        let more = runs.len() + hidden;
        let hidden = count(hidden as u64, "older run");
        let _ = writeln!(
            text,
            "{}",
            paint.faint(&format!("{hidden} not shown: --limit {more}"))
        );
    }
    let leaves_work = |run: &&Listed| run.state == RunState::Interrupted && run.holds_work;
    if runs.iter().any(|run| leaves_work(&run)) {
        let _ = writeln!(
            text,
            "\nto collect the work of interrupted runs: agent-run clean"
        );
    }
    text
}

fn head(text: &mut String, run: &Listed, of_all: bool, paint: Paint) -> std::fmt::Result {
    let state = match run.state {
        RunState::Live => paint.good("live       "),
        RunState::Interrupted => paint.bad("interrupted"),
        RunState::Finished => "finished   ".into(),
    };
    let age = run
        .age_seconds
        .map(Duration::from_secs)
        .map_or_else(|| "?".into(), since);
    let id = paint.strong(run.run.as_str());
    let more = if run.disk_is_partial { "+" } else { "" };
    let disk = size(run.disk_bytes) + more;
    write!(text, "{id}  {state}  {age:>4}  {disk:>8}  ")?;
    match &run.problem {
        Some(problem) => write!(text, "{}", paint.careful(problem))?,
        None => write!(text, "{}", totals(run))?,
    }
    if let Some(name) = &run.name {
        write!(text, "  {}", sanitize::line(name.as_bytes(), false))?;
    }
    if let Some(of) = &run.previews {
        write!(text, "  preview of {of}")?;
    }
    if let Some(repository) = run.repository.as_ref().filter(|_| of_all) {
        write!(text, "  {}", paint.faint(&repository.display().to_string()))?;
    }
    writeln!(text)
}

fn task_lines(text: &mut String, run: &Listed, paint: Paint) -> std::fmt::Result {
    for ListedTask { task, progress } in &run.tasks {
        if let Some(report) = &progress.report {
            let cause = report::ending(report, "").map(|cause| format!(": {cause}"));
            let gain = report
                .branch
                .as_ref()
                .map(gain)
                .map(|gain| format!("  {gain}"));
            let (cause, gain) = (cause.unwrap_or_default(), gain.unwrap_or_default());
            writeln!(text, "{} {task}{cause}{gain}", verdict(paint, report))?;
            continue;
        }
        let word = phase(run.state, progress.phase);
        let time = age_of(progress).filter(|_| run.state == RunState::Live);
        let time = time.map(|time| format!("  {}", since(time)));
        let number = progress.attempt();
        let attempt = (number > 1).then(|| format!("  try {number}"));
        let (time, attempt) = (time.unwrap_or_default(), attempt.unwrap_or_default());
        let ports = progress.ports.iter();
        let ports: String = ports.map(|port| format!("  port {port}")).collect();
        writeln!(text, "{} {task}{time}{attempt}{ports}", padded(word))?;
    }
    Ok(())
}

/// How long the task has been in its phase.
fn age_of(progress: &TaskProgress) -> Option<Duration> {
    let since: jiff::Timestamp = progress.since.as_ref()?.parse().ok()?;
    let age = jiff::Timestamp::now().duration_since(since);
    Some(age.try_into().unwrap_or_default())
}

/// The word for a task that has no outcome.
pub(super) fn phase(run: RunState, phase: TaskPhase) -> &'static str {
    match (run, phase) {
        (RunState::Live, TaskPhase::Waiting) => "waiting",
        (_, TaskPhase::Waiting) => "not begun",
        (RunState::Interrupted | RunState::Finished, _) => "cut off",
        (_, TaskPhase::Preparing) => "preparing",
        (_, TaskPhase::Running) => "running",
        (_, TaskPhase::Stopping) => "stopping",
        (_, TaskPhase::Collecting) => "collecting",
        (_, TaskPhase::Verifying) => "verifying",
        (_, TaskPhase::Finished) => "finished",
    }
}

/// Those that have ended as a run's summary counts them, then those that have not.
fn totals(run: &Listed) -> String {
    let mut ended = Totals::default();
    let mut numbers: Vec<(&str, u64)> = Vec::new();
    for ListedTask { progress, .. } in &run.tasks {
        if let Some(report) = &progress.report {
            ended.add(report);
            continue;
        }
        let word = phase(run.state, progress.phase);
        match numbers.iter_mut().find(|(known, _)| *known == word) {
            Some((_, number)) => *number += 1,
            None => numbers.push((word, 1)),
        }
    }
    let mut text = format!("{}: {ended}", count(run.tasks.len() as u64, "task"));
    for (word, number) in numbers {
        text.push_str(&format!(", {number} {word}"));
    }
    text
}
