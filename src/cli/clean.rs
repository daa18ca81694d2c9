//! `clean`: removes what dead runs left behind; work that was not collected is collected first.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::args::CleanArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::print_result;
use super::surroundings::Surroundings;
use crate::engine::Engine as _;
use crate::engine::docker::DockerEngine;
use crate::event::BranchResult;
use crate::git::{Git, Repository};
use crate::id::{RunId, StateDir};
use crate::journal::{self, FoundRun, JournalError};
use crate::plan::{self, RunPlan};
use crate::report;
use crate::runner::{CleanReport, Cleaner, KeptReport, remove_merged, remove_unused};

/// How long the directory of a run that is over stays, with its logs and reports.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

pub(super) async fn clean(
    surroundings: &Surroundings,
    arguments: &CleanArgs,
) -> Result<Exit, Failure> {
    let state = &surroundings.state;
    let runs = match &arguments.run {
        Some(run) if !state.run(run).is_dir() => {
            let error = anyhow::anyhow!("there is no run {run} in {}", state.path().display());
            return Err(Failure::new(Exit::Usage, error));
        }
        Some(run) => vec![run.clone()],
        None => journal::runs(state)?,
    };
    let engine = Arc::new(DockerEngine::connect(&surroundings.engine).await?);
    let cleaner = Cleaner {
        info: engine.info().await?,
        owned: engine.list_owned().await?,
        state: state.clone(),
        engine,
    };
    let git = Git::new(&surroundings.search_path, &state.path().join("git"))?;
    let open = |plan: &RunPlan| {
        Repository::open(&git, &plan.repository.path).map_err(|error| error.to_string())
    };
    let mut problems = 0;
    let mut found = 0;
    let mut released = Vec::new();
    for run in &runs {
        let report = match Box::pin(cleaner.clean(run, open, arguments.dry_run)).await {
            Err(JournalError::Live(_)) if arguments.run.is_none() => {
                print_result(&format!("{run}  is running; left alone\n"));
                continue;
            }
            Err(error @ JournalError::NewerVersion { .. }) if arguments.run.is_none() => {
                problems += 1;
                found += 1;
                print_result(&format!("{run}  warning: left alone: {error}\n"));
                continue;
            }
            report => report?,
        };
        // Collecting work of a view is a use of its checkout.
        released.extend(Some(run.clone()).filter(|_| !report.would_collect()));
        let is_clean = report.problems.is_empty() && report.kept.is_empty();
        problems += report.problems.len();
        found += usize::from(!report.is_empty());
        print_result(&render(state, run, &report, arguments.dry_run));
        let rest = rest(&cleaner, &git, run, arguments, is_clean).await?;
        problems += rest.problems.len();
        found += usize::from(!rest.is_empty());
        print_result(&render(state, run, &rest, arguments.dry_run));
    }
    if arguments.dry_run {
        for network in cleaner.networks() {
            found += 1;
            print_result(&format!(
                "would remove network {}, if it is unused\n",
                network.name
            ));
        }
    } else {
        let networks = cleaner.remove_networks(|_| true).await;
        found += networks.removed.len() + networks.held.len();
        problems += networks.problems.len();
        for network in networks.removed {
            print_result(&format!("removed network {network}\n"));
        }
        for problem in networks.problems.iter().chain(&networks.held) {
            print_result(&format!("warning: {problem}\n"));
        }
    }
    let would_release = arguments.dry_run.then_some(released);
    if arguments.run.is_none() {
        let kept = clean_kept(&cleaner, arguments, would_release.as_deref()).await;
        found += kept.removed.len();
        problems += kept.problems.len();
    }
    let unused = remove_unused(state, would_release).await;
    found += unused.removed.len() + unused.problems.len();
    problems += unused.problems.len();
    print_result(&lines("", &unused, arguments.dry_run));
    let unknown = cleaner.of_unknown_runs();
    if unknown > 0 && arguments.run.is_none() {
        print_result(&format!(
            "left alone: {} on the engine of runs that are not in {}; clean those with their own --state-dir\n",
            report::count(unknown as u64, "thing"),
            state.path().display()
        ));
    }
    if found == 0 {
        print_result("nothing to clean\n");
    }
    Ok(if problems == 0 {
        Exit::Success
    } else {
        Exit::Unexpected
    })
}

/// Removes what setups prepared and what caches hold, where it is old enough; says so.
async fn clean_kept(
    cleaner: &Cleaner<DockerEngine>,
    arguments: &CleanArgs,
    would_release: Option<&[RunId]>,
) -> KeptReport {
    let (unused_for, removed) = (
        if arguments.cache {
            Duration::ZERO
        } else {
            RETENTION
        },
        if arguments.dry_run {
            "would remove"
        } else {
            "removed"
        },
    );
    let kept = cleaner.remove_kept(unused_for, would_release).await;
    for line in &kept.removed {
        print_result(&format!("{removed} {line}\n"));
    }
    for problem in &kept.problems {
        print_result(&format!("warning: {problem}\n"));
    }
    kept
}

/// What of a run is kept for a while, or for as long as somebody may need it.
async fn rest(
    cleaner: &Cleaner<DockerEngine>,
    git: &Git,
    run: &RunId,
    arguments: &CleanArgs,
    is_clean: bool,
) -> Result<CleanReport, Failure> {
    let mut report = CleanReport::default();
    let found = FoundRun::of(&cleaner.state, run)?;
    let plan: Option<RunPlan> = found.read_json("plan.json", plan::VERSION).ok();
    let place = plan.as_ref().map(|plan| &plan.repository.path);
    let repository = match place.filter(|place| place.exists()) {
        Some(place) => Repository::open(git, place).map(Some),
        None => Ok(None),
    };
    let repository = match repository {
        Ok(repository) => repository,
        Err(error) => {
            report.problems.push(error.to_string());
            return Ok(report);
        }
    };
    if let Some(repository) = repository.clone().filter(|_| arguments.branches) {
        match remove_merged(repository, made(&found), arguments.dry_run).await {
            Ok(removed) => report.removed.extend(removed),
            Err(problem) => report.problems.push(problem),
        }
    }
    let keep = if arguments.all {
        Duration::ZERO
    } else {
        arguments.older_than.unwrap_or(RETENTION)
    };
    let age = run.started().map(|at| Timestamp::now().duration_since(at));
    let is_old = age.is_some_and(|age| Duration::try_from(age).is_ok_and(|age| age >= keep));
    // What is kept on purpose is kept with what tells of it.
    let holds_work = found.holds_work() && !arguments.dry_run;
    if is_clean && !holds_work && (is_old || arguments.all) {
        let gone = cleaner.forget(run, repository, arguments.dry_run).await?;
        report.removed.extend(gone.removed);
        report.problems.extend(gone.problems);
    }
    Ok(report)
}

/// The branches that a run made.
fn made(found: &FoundRun) -> BTreeSet<String> {
    let progress = found.progress().unwrap_or_default().into_values();
    let branches = progress.filter_map(|task| task.report?.branch);
    let made = branches.filter_map(|branch| match branch.result {
        BranchResult::Created { branch, .. } => Some(branch.to_string()),
        _ => None,
    });
    made.collect()
}

fn render(state: &StateDir, run: &RunId, report: &CleanReport, dry_run: bool) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for (attempt, branch) in &report.collected {
        let task = &attempt.task;
        let _ = writeln!(text, "{run}  collected {task}: {}", report::work(branch));
        for note in &branch.notes {
            let _ = writeln!(text, "{run}    note {note}");
        }
        if branch.content_left_behind {
            let place = state.attempt(attempt);
            let _ = writeln!(text, "{run}    kept in {}", place.display());
        }
    }
    for path in &report.kept {
        let _ = writeln!(text, "{run}  kept {}", path.display());
    }
    text + &lines(&format!("{run}  "), report, dry_run)
}

/// What was removed, and what could not be, each a line that begins so.
fn lines(start: &str, report: &CleanReport, dry_run: bool) -> String {
    let removed = if dry_run { "would remove" } else { "removed" };
    let removed = report
        .removed
        .iter()
        .map(|name| format!("{start}{removed} {name}\n"));
    let problems = report.problems.iter();
    let problems = problems.map(|problem| format!("{start}warning: {problem}\n"));
    removed.chain(problems).collect()
}
