//! What became of a run, and what to type next.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use super::Paint;
use super::egress::denied;
use super::forecast::brief;
use super::words::{
    self, Totals, cause, count, ending, gain, padded, quoted, size, time, verdict, verified, work,
};
use crate::event::{BranchReport, BranchResult, RunSummary, StopReason, TaskOutcome, TaskReport};
use crate::id::{TaskId, task_directory};

/// The most files that a branch's diffstat shows.
const FILES_SHOWN: usize = 5;

/// The most skipped tasks that are named for a reason.
const SKIPPED_SHOWN: usize = 8;

/// The most artifacts that are named for not being copied.
pub(super) const SKIPPED_PATHS_SHOWN: usize = 5;

/// What the summary needs to know to say what to type next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hints {
    /// The base, as the spec names it.
    pub base: String,
    /// The limits of the tasks.
    pub limits: HashMap<TaskId, Limits>,
    /// The tasks whose work `agent-run preview` starts again.
    pub previews: HashSet<TaskId>,
}

/// Limits of a task, as the spec would write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Its memory.
    pub mem_limit: Limit,
    /// Its disk.
    pub disk_limit: Limit,
    /// The time of an attempt.
    pub timeout: Limit,
    /// The time of `verify`, where there is one.
    pub verify_timeout: Option<String>,
    /// How long it runs before it is slow.
    pub slow_after: String,
}

/// A limit, and where it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// As the spec would write it.
    pub value: String,
    /// `file:line` of the spec; none where it is agent-run's default.
    pub place: Option<String>,
}

impl Limit {
    fn told(&self, key: &str) -> String {
        let place = self.place.as_deref().unwrap_or("the default");
        format!("{key}: {}, {place}", self.value)
    }
}

/// The summary of a run, for standard output.
pub fn summary(run: &RunSummary, hints: &Hints, paint: Paint) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = render(&mut text, run, hints, paint);
    text
}

/// Branches may be many: what went wrong comes after them, where people look first.
fn render(text: &mut String, run: &RunSummary, hints: &Hints, paint: Paint) -> std::fmt::Result {
    writeln!(text, "{}", paint.faint(&"─".repeat(60)))?;
    let branches: Vec<(&TaskReport, &BranchReport)> = run
        .tasks
        .iter()
        .filter_map(|task| Some((task, task.branch.as_ref()?)))
        .filter(|(task, report)| is_created(report) || task.is_good() && has_notes(report))
        .collect();
    if !branches.is_empty() {
        writeln!(text, "{}", paint.strong("Branches"))?;
        for (task, report) in &branches {
            branch(text, task, report, paint)?;
        }
        writeln!(text)?;
    }
    let word = paint.strong(&padded("Summary"));
    writeln!(text, "{word} [{}] {}", time(run.took), totals(run))?;
    if let Some(used) = run.agents {
        writeln!(text, "             agents {}", words::used(used))?;
    }
    for task in run.tasks.iter().filter(|t| t.is_good()) {
        success(text, run, task, hints, paint)?;
    }
    skipped(text, run, paint)?;
    if let Some(forecast) = &run.forecast {
        brief(text, forecast, paint)?;
    }
    let is_skipped = |t: &TaskReport| matches!(t.outcome, TaskOutcome::Skipped { .. });
    let failed = |t: &&TaskReport| !t.is_good() && !is_skipped(t);
    for task in run.tasks.iter().filter(failed) {
        failure(text, run, task, hints, paint)?;
    }
    warnings(text, run, hints, paint)?;
    let mut created = branches.iter().filter(|(_, report)| is_created(report));
    let mut good = created.clone().filter(|(task, _)| task.is_good());
    // The last one that stands on others brings most with it.
    let on_others = good.clone().rfind(|(task, _)| task.base.is_some());
    let good = on_others.or(good.next());
    next(text, run, good.or(created.next()).copied(), hints, paint)
}

/// A line; its branch stands above.
fn success(
    text: &mut String,
    run: &RunSummary,
    task: &TaskReport,
    hints: &Hints,
    paint: Paint,
) -> std::fmt::Result {
    let word = if task.earlier_attempts.is_empty() {
        verdict(paint, task)
    } else {
        paint.careful(&padded("FLAKY"))
    };
    let time = time(task.ran);
    let gain = task.branch.as_ref().map(gain).unwrap_or_default() + &verified(task);
    let log = task.log.as_deref();
    let log = log.map(|log| log.strip_prefix(&run.directory).unwrap_or(log));
    let log = log.map(|log| format!("  {}", log.display()));
    let log = paint.faint(&log.unwrap_or_default());
    writeln!(text, "{word} [{time}] {}: {gain}{log}", task.task)?;
    agent(text, task)?;
    artifacts(text, run, task)?;
    earlier_attempts(text, task, hints)
}

/// What its agent used.
fn agent(text: &mut String, task: &TaskReport) -> std::fmt::Result {
    match &task.agent {
        Some(report) => writeln!(text, "             agent {}", words::agent(report)),
        None => Ok(()),
    }
}

/// What was copied, and the first of what was not.
fn artifacts(text: &mut String, run: &RunSummary, task: &TaskReport) -> std::fmt::Result {
    let Some(report) = &task.artifacts else {
        return Ok(());
    };
    let words = words::artifacts(report, &run.directory);
    writeln!(text, "             artifacts  {words}")?;
    for (path, why) in report.skipped_paths.iter().take(SKIPPED_PATHS_SHOWN) {
        writeln!(text, "                        skipped {path}: {why}")?;
    }
    Ok(())
}

/// How the attempts before the one that decided have ended, and where their work is.
fn earlier_attempts(text: &mut String, task: &TaskReport, hints: &Hints) -> std::fmt::Result {
    for attempt in &task.earlier_attempts {
        let (number, time) = (attempt.attempt, time(attempt.ran));
        let limit = limit(attempt, &attempt.outcome, hints);
        let cause = cause(&attempt.outcome).unwrap_or_default();
        writeln!(text, "             try {number} [{time}] {cause}{limit}")?;
        if let Some(report) = &attempt.branch {
            writeln!(text, "             work  {}", work(report))?;
        }
        logs(text, attempt)?;
    }
    Ok(())
}

fn logs(text: &mut String, attempt: &TaskReport) -> std::fmt::Result {
    for log in attempt.logs() {
        writeln!(text, "             log   {}", log.display())?;
    }
    Ok(())
}

pub(super) fn is_created(report: &BranchReport) -> bool {
    matches!(report.result, BranchResult::Created { .. })
}

fn has_notes(report: &BranchReport) -> bool {
    !(report.side_refs.is_empty() && report.notes.is_empty())
}

fn warnings(text: &mut String, run: &RunSummary, hints: &Hints, paint: Paint) -> std::fmt::Result {
    let word = paint.careful("warning:");
    for task in run.tasks.iter().filter(|t| t.child_oom_killed) {
        let limit = limit(task, &TaskOutcome::OutOfMemory, hints);
        let why = "one of its processes was killed, out of memory";
        writeln!(text, "{word} {}: {why}{limit}", task.task)?;
    }
    for task in &run.tasks {
        for attempt in task.attempts() {
            left_behind(text, run, attempt, paint)?;
        }
        for error in &task.teardown_errors {
            writeln!(text, "{word} {}: not removed: {error}", task.task)?;
        }
    }
    for task in &run.egress {
        if let Some(denied) = denied(task) {
            writeln!(text, "{word} {}: {denied}", task.task)?;
        }
    }
    for error in &run.teardown_errors {
        writeln!(text, "{word} not removed: {error}")?;
    }
    Ok(())
}

pub(super) fn totals(run: &RunSummary) -> String {
    let mut totals = Totals::default();
    for task in &run.tasks {
        totals.add(task);
    }
    format!("{}: {totals}", count(run.tasks.len() as u64, "task"))
}

/// A line for each reason: a run that is stopped early skips many at once.
fn skipped(text: &mut String, run: &RunSummary, paint: Paint) -> std::fmt::Result {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for task in &run.tasks {
        let TaskOutcome::Skipped { reason, .. } = &task.outcome else {
            continue;
        };
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, tasks)) => tasks.push(task.task.as_str()),
            None => reasons.push((reason, vec![task.task.as_str()])),
        }
    }
    let word = paint.faint(&padded("SKIP"));
    for (reason, tasks) in reasons {
        let shown = tasks.len().min(SKIPPED_SHOWN);
        let names = tasks[..shown].join(", ");
        let more = match tasks.len() - shown {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        writeln!(text, "{word}           {names}{more}: {reason}")?;
    }
    Ok(())
}

fn failure(
    text: &mut String,
    run: &RunSummary,
    task: &TaskReport,
    hints: &Hints,
    paint: Paint,
) -> std::fmt::Result {
    // Who stopped the run knows why its tasks ended.
    let by_hand = matches!(
        run.stopped,
        Some(StopReason::Interrupted | StopReason::Terminated)
    );
    let brief = by_hand && task.outcome == TaskOutcome::Cancelled;
    let (word, time) = (verdict(paint, task), time(task.ran));
    write!(text, "{word} [{time}] {}", task.task)?;
    match ending(task, &limit(task, &task.outcome, hints)) {
        Some(ending) => writeln!(text, ": {ending}")?,
        None => writeln!(text)?,
    }
    if !brief {
        memory(text, task, hints)?;
    }
    if let Some(report) = &task.branch {
        writeln!(text, "             work  {}", work(report))?;
        if !is_created(report) {
            notes(text, report, paint)?;
        }
    }
    agent(text, task)?;
    artifacts(text, run, task)?;
    logs(text, task)?;
    earlier_attempts(text, task, hints)?;
    if brief {
        return Ok(());
    }
    for line in &task.last_lines {
        let line = paint.foreign(line);
        writeln!(text, "             {} {line}", paint.faint("|"))?;
    }
    let id = quoted(&task.task);
    writeln!(text, "             next  agent-run show {id}")?;
    if task.log.is_some() {
        writeln!(text, "                   agent-run logs {id}")?;
    }
    Ok(())
}

/// How much memory it was seen to use.
fn memory(text: &mut String, task: &TaskReport, hints: &Hints) -> std::fmt::Result {
    let (Some(peak), Some(usage)) = (peak(task, hints), task.usage) else {
        return Ok(());
    };
    if matches!(task.outcome, TaskOutcome::Killed { .. }) {
        // Its cause says it.
        return Ok(());
    }
    let after = time(usage.after);
    let after = after.trim();
    writeln!(
        text,
        "             peak  {peak} memory, measured after {after}"
    )
}

/// The limit that a task met, if this outcome is one of meeting it.
pub(super) fn limit(task: &TaskReport, outcome: &TaskOutcome, hints: &Hints) -> String {
    match (outcome, hints.limits.get(&task.task)) {
        (TaskOutcome::OutOfMemory, Some(limits)) => {
            format!(" ({})", limits.mem_limit.told("mem_limit"))
        }
        (TaskOutcome::OutOfDisk { .. }, Some(limits)) => {
            format!(" ({})", limits.disk_limit.told("disk_limit"))
        }
        (TaskOutcome::TimedOut, Some(limits)) => format!(" ({})", limits.timeout.told("timeout")),
        (TaskOutcome::VerifyFailed { cause }, Some(limits)) => match (&**cause, limits) {
            (
                TaskOutcome::TimedOut,
                Limits {
                    verify_timeout: Some(time),
                    ..
                },
            ) => format!(" (verify.timeout: {time})"),
            // The rest of its limits are the task's.
            (TaskOutcome::OutOfMemory | TaskOutcome::OutOfDisk { .. }, _) => {
                limit(task, cause, hints)
            }
            _ => String::new(),
        },
        (TaskOutcome::Killed { .. }, Some(_)) => peak(task, hints)
            .map(|peak| format!(" (peak memory {peak})"))
            .unwrap_or_default(),
        _ => String::new(),
    }
}

/// The most memory that a task used, against what it may use; nothing where it was not measured.
pub(super) fn peak(task: &TaskReport, hints: &Hints) -> Option<String> {
    let peak = size(task.usage?.peak_memory);
    let limit = hints.limits.get(&task.task);
    Some(limit.map_or(peak.clone(), |limits| {
        format!("{peak} of {}", limits.mem_limit.value)
    }))
}

fn branch(
    text: &mut String,
    task: &TaskReport,
    report: &BranchReport,
    paint: Paint,
) -> std::fmt::Result {
    let name = match &report.result {
        BranchResult::Created { branch, .. } => branch.as_str(),
        _ => task.task.as_str(),
    };
    let unfinished = if task.is_good() { "" } else { "  (unfinished)" };
    let (name, unfinished) = (paint.strong(name), paint.careful(unfinished));
    writeln!(text, "  {name}  {}{unfinished}", gain(report))?;
    let shown = report.diffstat.len().min(FILES_SHOWN);
    for file in &report.diffstat[..shown] {
        let (plus, minus) = (file.insertions, file.deletions);
        writeln!(text, "    {}  +{plus} −{minus}", file.path)?;
    }
    let more = report.files.saturating_sub(shown as u64);
    if more > 0 {
        writeln!(text, "    and {}", count(more, "more file"))?;
    }
    for (path, why) in &report.risky_paths {
        let word = paint.careful("look at");
        writeln!(text, "    {word} {path}: {why}")?;
    }
    notes(text, report, paint)
}

/// Work that is on no branch must not be missed, least of all where the task itself went well.
fn left_behind(
    text: &mut String,
    run: &RunSummary,
    task: &TaskReport,
    paint: Paint,
) -> std::fmt::Result {
    let Some(report) = task.branch.as_ref().filter(|b| b.content_left_behind) else {
        return Ok(());
    };
    let place = task_directory(&run.directory, &task.task);
    match &report.result {
        // These say the place themselves.
        BranchResult::Rejected { .. } | BranchResult::Kept { .. } => return Ok(()),
        BranchResult::Created { .. }
        | BranchResult::Taken { .. }
        | BranchResult::SetAside { .. }
        | BranchResult::NoChange => {
            let place = place.join(task.attempt.to_string());
            let word = paint.careful("warning:");
            let (id, place) = (&task.task, place.display());
            writeln!(
                text,
                "{word} {id}: some work is on no branch, kept in {place}"
            )?;
        }
    }
    match report.result {
        BranchResult::NoChange if task.is_good() => notes(text, report, paint),
        _ => Ok(()),
    }
}

fn notes(text: &mut String, report: &BranchReport, paint: Paint) -> std::fmt::Result {
    for (name, what) in &report.side_refs {
        writeln!(text, "    {} {name}: {what}", paint.faint("also"))?;
    }
    for note in &report.notes {
        writeln!(text, "    {} {note}", paint.faint("note"))?;
    }
    Ok(())
}

fn next(
    text: &mut String,
    run: &RunSummary,
    first: Option<(&TaskReport, &BranchReport)>,
    hints: &Hints,
    paint: Paint,
) -> std::fmt::Result {
    writeln!(text, "\n{}", paint.strong("Next"))?;
    if let Some((task, report)) = first
        && let BranchResult::Created { branch, .. } = &report.result
    {
        let base = task.base.as_ref().map_or(&*hints.base, |base| base.short());
        writeln!(text, "  git log -p {base}..{branch}")?;
        if hints.previews.contains(&task.task) {
            writeln!(text, "  agent-run preview {}", quoted(&task.task))?;
        }
        if task.is_good() {
            writeln!(text, "  git merge {branch}")?;
        }
    }
    writeln!(text, "  logs and results: {}", run.directory.display())
}
