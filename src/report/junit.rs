//! What became of a run, as a `JUnit` report in Jenkins' flavour: a suite with a case for each task.
//!
//! Colours and control characters are left out by `quick-junit`; what an agent wrote is sanitised here
//! all the same, for those who read the file as it is.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::summary::limit;
use super::words::{cause, verdict, work};
use super::{Hints, Paint};
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
    let mut case = TestCase::new(task.task.as_str(), status(task, hints));
    case.set_classname(NAME).set_time(task.ran);
    if let Some(BranchResult::Created { branch, commit }) = task.branch.as_ref().map(|b| &b.result)
    {
        case.add_property(("branch", branch.as_str()));
        case.add_property(("commit", commit.as_str()));
    }
    if let Some(usage) = task.usage {
        case.add_property(("cpu_ms", usage.cpu.as_millis().to_string().as_str()));
        case.add_property(("peak_memory_bytes", usage.peak_memory.to_string().as_str()));
    }
    if !task.is_good() && !task.last_lines.is_empty() {
        case.set_system_out(text(&task.last_lines.join("\n")));
    }
    case
}

fn status(task: &TaskReport, hints: &Hints) -> TestCaseStatus {
    let mut status = match task.outcome {
        _ if task.is_good() => return TestCaseStatus::success(),
        TaskOutcome::Skipped { .. } => TestCaseStatus::skipped(),
        TaskOutcome::Infra { .. } | TaskOutcome::Cancelled => {
            TestCaseStatus::non_success(NonSuccessKind::Error)
        }
        _ => TestCaseStatus::non_success(NonSuccessKind::Failure),
    };
    let work = task.branch.as_ref().map(work).unwrap_or_default();
    let words = match cause(&task.outcome) {
        Some(cause) => format!("{cause}{}", limit(task, &task.outcome, hints)),
        None => work.clone(),
    };
    status
        .set_type(verdict(Paint { color: false }, task).trim())
        .set_message(text(&words));
    let mut about = vec![work];
    about.extend(task.log.iter().map(|log| format!("log: {}", log.display())));
    about.retain(|line| !line.is_empty());
    if !about.is_empty() && !matches!(task.outcome, TaskOutcome::Skipped { .. }) {
        status.set_description(text(&about.join("\n")));
    }
    status
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
