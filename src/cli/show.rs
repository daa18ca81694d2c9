//! `show`: what became of a task, or how far it has come.

use std::collections::HashSet;
use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::{Format, ShowArgs};
use super::error::Failure;
use super::exit_code::Exit;
use super::surroundings::Surroundings;
use super::target::Target;
use super::{print_json, print_result, ps};
use crate::event::{
    ArtifactsReport, BranchReport, BranchResult, PhaseTime, TaskPhase, TaskReport, VerifyReport,
    Versioned,
};
use crate::git::{Git, Repository};
use crate::id::{AttemptId, CommitId, RunId, StateDir, TaskId};
use crate::journal::{RunState, TaskProgress};
use crate::plan::{RunPlan, TaskPlan};
use crate::report::{
    Paint, artifacts, cause, count, ending, limit, padded, quoted, since, size, time, verdict, work,
};
use crate::secrets::MASK;
use crate::spec::units;

/// The most commits that are listed.
const COMMITS_SHOWN: usize = 20;

/// A task as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    run: &'a RunId,
    state: RunState,
    task: &'a TaskId,
    #[serde(flatten)]
    progress: Option<TaskProgress>,
    plan: &'a TaskPlan,
    /// The newest commits of its work; none where they are in the repository no more.
    commits: Vec<Commit>,
    /// Its log, if it has one.
    log: Option<PathBuf>,
    /// The log of its result's check, if it has one.
    verify_log: Option<PathBuf>,
    /// Its directory with what is not collected, or not yet.
    directory: Option<PathBuf>,
}

#[derive(Serialize)]
struct Commit {
    id: CommitId,
    subject: String,
}

pub(super) fn show(surroundings: &Surroundings, arguments: &ShowArgs) -> Result<Exit, Failure> {
    let target = Target::find(surroundings, arguments.which.of.run.as_ref())?;
    let task = target.task(&arguments.which.task)?;
    let progress = target.found.progress()?.remove(&task.id);
    let report = progress
        .as_ref()
        .and_then(|progress| progress.report.as_ref());
    let attempt = AttemptId {
        run: target.found.run.clone(),
        task: task.id.clone(),
        number: progress.as_ref().map_or(1, TaskProgress::attempt),
    };
    let commits = report.map(|report| commits(surroundings, &target.plan, report));
    let shown = Shown {
        run: &target.found.run,
        state: target.found.state,
        task: &task.id,
        commits: commits.unwrap_or_default(),
        log: existing(surroundings.state.log(&attempt)),
        verify_log: existing(surroundings.state.verify_log(&attempt)),
        directory: existing(surroundings.state.attempt(&attempt)),
        plan: task,
        progress,
    };
    if arguments.print.format == Format::Json {
        return print_json(&Versioned::new(shown));
    }
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = render(&mut text, &shown, &target.plan, surroundings.result_paint);
    print_result(&text);
    Ok(Exit::Success)
}

fn line(text: &mut String, label: &str, value: impl Display) -> std::fmt::Result {
    writeln!(text, "{} {value}", padded(label))
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    path.exists().then_some(path)
}

/// The commits of a task's work, as far as the repository still has them.
fn commits(surroundings: &Surroundings, plan: &RunPlan, report: &TaskReport) -> Vec<Commit> {
    let result = report.branch.as_ref().map(|branch| &branch.result);
    let Some(
        BranchResult::Created { commit, .. }
        | BranchResult::Taken { commit, .. }
        | BranchResult::SetAside { commit, .. },
    ) = result
    else {
        return Vec::new();
    };
    let base = report.base.as_ref().unwrap_or(&plan.repository.base);
    let state: &StateDir = &surroundings.state;
    let commits = Git::new(&surroundings.search_path, &state.path().join("git"))
        .and_then(|git| Repository::open(&git, &plan.repository.path))
        .and_then(|repository| repository.commits(base, commit, COMMITS_SHOWN));
    let secret = report.branch.iter().flat_map(|work| &work.secret_commits);
    let secret: HashSet<&CommitId> = secret.collect();
    let commits = commits.unwrap_or_default().into_iter();
    let shown = commits.map(|(id, subject)| Commit {
        // The values are not known here: all of it goes.
        subject: if secret.contains(&id) {
            MASK.to_owned()
        } else {
            subject
        },
        id,
    });
    shown.collect()
}

fn render(text: &mut String, shown: &Shown<'_>, plan: &RunPlan, paint: Paint) -> std::fmt::Result {
    let report = shown
        .progress
        .as_ref()
        .and_then(|progress| progress.report.as_ref());
    head(text, shown, report, paint)?;
    if let Some(branch) = report.and_then(|report| report.branch.as_ref()) {
        write_work(text, shown, branch, paint)?;
    } else if report.is_none() {
        line(text, "branch", &shown.plan.branch)?;
    }
    if let Some(artifacts) = report.and_then(|report| report.artifacts.as_ref()) {
        write_artifacts(text, artifacts, paint)?;
    }
    for (label, value) in resources(shown, report) {
        line(text, label, value)?;
    }
    for log in shown.log.iter().chain(&shown.verify_log) {
        line(text, "log", log.display())?;
    }
    if let Some(directory) = &shown.directory {
        line(text, "files in", directory.display())?;
    }
    earlier_attempts(text, shown, report)?;
    for last in report.into_iter().flat_map(|report| &report.last_lines) {
        let bar = paint.faint("|");
        line(text, "", format_args!("{bar} {}", paint.foreign(last)))?;
    }
    for error in report
        .into_iter()
        .flat_map(|report| &report.teardown_errors)
    {
        writeln!(text, "{} not removed: {error}", paint.careful("warning:"))?;
    }
    next(text, shown, plan, report, paint)
}

/// How the attempts before the latest one have ended.
fn earlier_attempts(
    text: &mut String,
    shown: &Shown<'_>,
    report: Option<&TaskReport>,
) -> std::fmt::Result {
    let so_far = shown.progress.iter().flat_map(|p| &p.earlier_attempts);
    let before = report.into_iter().flat_map(|r| &r.earlier_attempts);
    for attempt in so_far.chain(before) {
        let label = format!("try {}", attempt.attempt);
        let cause = cause(&attempt.outcome).unwrap_or_default();
        let time = time(attempt.ran);
        line(text, &label, format_args!("{cause}, after {}", time.trim()))?;
        if let Some(branch) = &attempt.branch {
            line(text, "work", work(branch))?;
        }
        for log in attempt.logs() {
            line(text, "log", log.display())?;
        }
    }
    Ok(())
}

fn head(
    text: &mut String,
    shown: &Shown<'_>,
    report: Option<&TaskReport>,
    paint: Paint,
) -> std::fmt::Result {
    let phase = shown
        .progress
        .as_ref()
        .map_or(TaskPhase::Waiting, |progress| progress.phase);
    let word = match report {
        Some(report) => verdict(paint, report),
        None => padded(ps::phase(shown.state, phase)),
    };
    let task = paint.strong(shown.task.as_str());
    let age = shown.run.started().map(|started| {
        let age = jiff::Timestamp::now().duration_since(started);
        format!(", {} ago", since(age.try_into().unwrap_or_default()))
    });
    let age = age.unwrap_or_default();
    writeln!(text, "{word} {task} of run {}{age}", shown.run)?;
    if let Some(cause) = report.and_then(|report| ending(report, "")) {
        line(text, "cause", cause)?;
    }
    if report.is_some_and(|report| report.child_oom_killed) {
        let what = "one of its processes was killed, out of memory";
        writeln!(text, "{} {what}", paint.careful("warning:"))?;
    }
    Ok(())
}

fn write_work(
    text: &mut String,
    shown: &Shown<'_>,
    branch: &BranchReport,
    paint: Paint,
) -> std::fmt::Result {
    line(text, "work", work(branch))?;
    for (place, commit) in shown.commits.iter().enumerate() {
        let label = if place == 0 { "commits" } else { "" };
        let id = paint.faint(commit.id.short());
        line(text, label, format_args!("{id} {}", commit.subject))?;
    }
    let more = branch.commits.saturating_sub(shown.commits.len() as u64);
    if more > 0 && !shown.commits.is_empty() {
        line(text, "", format_args!("and {}", count(more, "more commit")))?;
    }
    if branch.leftovers_committed {
        line(text, "", "the newest holds what was left uncommitted")?;
    }
    for (place, file) in branch.diffstat.iter().enumerate() {
        let label = if place == 0 { "files" } else { "" };
        let (plus, minus) = (file.insertions, file.deletions);
        line(text, label, format_args!("{}  +{plus} −{minus}", file.path))?;
    }
    let more = branch.files.saturating_sub(branch.diffstat.len() as u64);
    if more > 0 && !branch.diffstat.is_empty() {
        line(text, "", format_args!("and {}", count(more, "more file")))?;
    }
    for (path, why) in &branch.risky_paths {
        let label = paint.careful(&padded("look at"));
        writeln!(text, "{label} {path}: {why}")?;
    }
    for (name, what) in &branch.side_refs {
        line(text, "also", format_args!("{name}: {what}"))?;
    }
    for note in &branch.notes {
        line(text, "note", note)?;
    }
    Ok(())
}

fn write_artifacts(text: &mut String, report: &ArtifactsReport, paint: Paint) -> std::fmt::Result {
    line(text, "artifacts", artifacts(report, Path::new("")))?;
    for file in &report.copied {
        line(
            text,
            "",
            format_args!("{}  {}", file.path, size(file.bytes)),
        )?;
    }
    let more = report.files.saturating_sub(report.copied.len() as u64);
    if more > 0 {
        line(text, "", format_args!("and {}", count(more, "more file")))?;
    }
    for (path, why) in &report.skipped_paths {
        let label = paint.careful(&padded("skipped"));
        writeln!(text, "{label} {path}: {why}")?;
    }
    Ok(())
}

/// What the task used of what it may use, each with its label.
fn resources(shown: &Shown<'_>, report: Option<&TaskReport>) -> Vec<(&'static str, String)> {
    let limits = &shown.plan.limits;
    let (timeout, memory) = (limit(shown.plan.timeout), units::show_bytes(limits.memory));
    let mut lines = Vec::new();
    match report {
        Some(report) => lines.push(("time", format!("{} of {timeout}", time(report.ran).trim()))),
        None => lines.push(("limits", format!("{timeout}, {memory} of memory"))),
    }
    let phases = report.map(|report| report.phases.as_slice());
    let phases: Vec<String> = phases.unwrap_or_default().iter().map(phase_time).collect();
    if !phases.is_empty() {
        lines.push(("phases", phases.join(", ")));
    }
    if let Some(usage) = shown.progress.as_ref().and_then(|progress| progress.usage) {
        let (received, sent) = (size(usage.received), size(usage.sent));
        let peak = size(usage.peak_memory);
        lines.push(("memory", format!("{peak} at most, of {memory}")));
        lines.push(("CPU", format!("{:.2}s", usage.cpu.as_secs_f64())));
        lines.push(("network", format!("{received} received, {sent} sent")));
    }
    let live = shown.progress.iter().flat_map(|progress| &progress.ports);
    lines.extend(live.map(|port| ("port", port.to_string())));
    let before = report.into_iter().flat_map(|report| &report.ports);
    lines.extend(before.map(|port| ("port", format!("{port} while it ran"))));
    if let Some(agent) = report.and_then(|report| report.agent.as_ref()) {
        lines.push(("agent", crate::report::agent(agent)));
        let transcript = agent.transcript.iter();
        lines.extend(transcript.map(|path| ("transcript", path.display().to_string())));
    }
    let secrets = report.map(|report| report.secrets.join(", "));
    lines.extend(
        secrets
            .filter(|names| !names.is_empty())
            .map(|names| ("secrets", names)),
    );
    if let Some(image) = report.and_then(|report| report.image.as_ref()) {
        lines.push(("image", format!("{} ({image})", shown.plan.image.reference)));
    }
    if let Some(digest) = report.and_then(|report| report.image_digest.clone()) {
        lines.push(("digest", digest));
    }
    if let Some(verify) = report.and_then(|report| report.verify.as_ref()) {
        lines.push(("verify", verified(verify, shown.plan)));
    }
    lines
}

/// What was checked, for how long, and what that used.
fn verified(report: &VerifyReport, plan: &TaskPlan) -> String {
    let mut text = format!("of {}: {}", report.commit.short(), time(report.ran).trim());
    if let Some(verify) = &plan.verify {
        text.push_str(&format!(" of {}", limit(verify.timeout)));
    }
    if let Some(usage) = report.usage {
        let (cpu, peak) = (usage.cpu.as_secs_f64(), size(usage.peak_memory));
        text.push_str(&format!(", {peak} of memory at most, {cpu:.2}s of CPU"));
    }
    text
}

fn phase_time(phase: &PhaseTime) -> String {
    let word = ps::phase(RunState::Live, phase.phase);
    format!("{word} {}", time(phase.took).trim())
}

fn next(
    text: &mut String,
    shown: &Shown<'_>,
    plan: &RunPlan,
    report: Option<&TaskReport>,
    paint: Paint,
) -> std::fmt::Result {
    let (task, run) = (quoted(shown.task), shown.run);
    writeln!(text, "\n{}", paint.strong("Next"))?;
    let result = report.and_then(|report| Some(&report.branch.as_ref()?.result));
    let base = report.and_then(|report| report.base.as_ref());
    let base = base.unwrap_or(&plan.repository.base).short();
    match result {
        Some(BranchResult::Created { branch, .. }) => {
            writeln!(text, "  git log -p {base}..{branch}")?;
            if shown.plan.preview.is_some() {
                writeln!(text, "  agent-run preview {task} --run {run}")?;
            }
            if report.is_some_and(TaskReport::is_good) {
                writeln!(text, "  git merge {branch}")?;
            }
        }
        Some(BranchResult::Taken { kept_ref, .. } | BranchResult::SetAside { kept_ref, .. }) => {
            writeln!(text, "  git log -p {base}..{kept_ref}")?;
        }
        _ => {}
    }
    let has_files = shown.directory.is_some();
    match shown.state {
        RunState::Live if report.is_none() => {
            writeln!(text, "  agent-run exec {task} --run {run}")?;
        }
        RunState::Interrupted if has_files => writeln!(text, "  agent-run clean --run {run}")?,
        _ => {}
    }
    if shown.log.is_some() {
        writeln!(text, "  agent-run logs {task} --run {run}")
    } else {
        writeln!(text, "  agent-run ps")
    }
}
