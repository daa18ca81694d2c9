//! What became of a run, as a `JUnit` report in Jenkins' flavour: a suite with a case for each task.
//!
//! Colours and control characters are left out by `quick-junit`; what an agent wrote is sanitised here
//! all the same, for those who read the file as it is.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestRerun, TestSuite};

use super::Hints;
use super::summary::limit;
use super::words::{allowed, cause, word, work};
use crate::event::{BranchResult, RunSummary, TaskOutcome, TaskReport};
use crate::sanitize;

/// What CI systems know the suite by: the same for all runs, so that they can compare them.
const NAME: &str = "agent-run";

/// The report of a run, as XML.
pub fn junit(run: &RunSummary, hints: &Hints) -> String {
    let mut suite = TestSuite::new(NAME);
    suite.set_time(run.took);
    suite.add_property(("run", run.run.as_str()));
    suite.add_test_cases(run.tasks.iter().map(|task| case(task, hints)));
    let mut report = Report::new(NAME);
    report.set_time(run.took).add_test_suite(suite);
    // Into a string, and every string in it is XML already.
    report.to_string().unwrap_or_default()
}

fn case(task: &TaskReport, hints: &Hints) -> TestCase {
    let shown = shown(task);
    let mut case = TestCase::new(task.task.as_str(), status(task, hints));
    case.set_classname(NAME).set_time(shown.ran);
    if let Some(BranchResult::Created { branch, commit }) = task.branch.as_ref().map(|b| &b.result)
    {
        case.add_property(("branch", branch.as_str()));
        case.add_property(("commit", commit.as_str()));
    }
    for (axis, value) in &task.matrix {
        let (name, value) = (format!("matrix.{axis}"), text(&value.to_string()));
        case.add_property((name.as_str(), value.as_str()));
    }
    if let Some(usage) = task.usage {
        case.add_property(("cpu_ms", usage.cpu.as_millis().to_string().as_str()));
        case.add_property(("peak_memory_bytes", usage.peak_memory.to_string().as_str()));
    }
    if !task.is_good() && !shown.last_lines.is_empty() {
        case.set_system_out(text(&shown.last_lines.join("\n")));
    }
    case
}

/// The attempt that stands for the task, as surefire and nextest have it: the one that passed, else the
/// first. The others are its reruns.
fn shown(task: &TaskReport) -> &TaskReport {
    match task.earlier_attempts.first() {
        Some(first) if !task.is_good() => first,
        _ => task,
    }
}

fn status(task: &TaskReport, hints: &Hints) -> TestCaseStatus {
    let shown = shown(task);
    let mut status = match kind(shown) {
        _ if task.is_good() => TestCaseStatus::success(),
        // A failure would fail the job of whoever reads it.
        _ if task.allow_failure => TestCaseStatus::skipped(),
        Some(kind) => TestCaseStatus::non_success(kind),
        None => TestCaseStatus::skipped(),
    };
    if !task.is_good() {
        let (mut message, description) = words(shown, hints);
        if let Some(words) = allowed(task) {
            message = format!("{message}, {words}");
        }
        status.set_type(word(shown)).set_message(message);
        if let Some(description) = description {
            status.set_description(description);
        }
    }
    let others = task.attempts().filter(|a| a.attempt != shown.attempt);
    status.add_reruns(others.map(|attempt| rerun(attempt, hints)));
    status
}

fn rerun(attempt: &TaskReport, hints: &Hints) -> TestRerun {
    let mut rerun = TestRerun::new(kind(attempt).unwrap_or(NonSuccessKind::Error));
    let (message, description) = words(attempt, hints);
    rerun
        .set_time(attempt.ran)
        .set_type(word(attempt))
        .set_message(message);
    if let Some(description) = description {
        rerun.set_description(description);
    }
    if !attempt.last_lines.is_empty() {
        rerun.set_system_out(text(&attempt.last_lines.join("\n")));
    }
    rerun
}

/// What kind of failure it is; none where it is none.
fn kind(attempt: &TaskReport) -> Option<NonSuccessKind> {
    match attempt.outcome {
        TaskOutcome::Skipped { .. } => None,
        TaskOutcome::Infra { .. } | TaskOutcome::Cancelled => Some(NonSuccessKind::Error),
        _ => Some(NonSuccessKind::Failure),
    }
}

/// Why it failed; and where its work and its log are, if it has any.
fn words(attempt: &TaskReport, hints: &Hints) -> (String, Option<String>) {
    let work = attempt.branch.as_ref().map(work).unwrap_or_default();
    let message = match cause(&attempt.outcome) {
        Some(cause) => format!("{cause}{}", limit(attempt, &attempt.outcome, hints)),
        None => work.clone(),
    };
    let mut about = vec![work];
    about.extend(attempt.logs().map(|log| format!("log: {}", log.display())));
    about.retain(|line| !line.is_empty());
    let is_told = !about.is_empty() && !matches!(attempt.outcome, TaskOutcome::Skipped { .. });
    let description = is_told.then(|| text(&about.join("\n")));
    (text(&message), description)
}

/// Lines without anything that is more than a character; XML 1.0 cannot hold the last two of Unicode's
/// first plane.
fn text(text: &str) -> String {
    let lines = text.lines();
    let lines = lines.map(|line| sanitize::line(line.as_bytes(), false));
    let lines: Vec<String> = lines.collect();
    lines
        .join("\n")
        .replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}
