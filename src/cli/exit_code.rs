//! Exit codes. Numbers are cargo-nextest's where the meaning is the same.

use crate::event::{RunSummary, StopReason, TaskReport};

/// What agent-run's exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Every task that counts succeeded.
    Success = 0,
    /// An unexpected error, or something could not be removed.
    Unexpected = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No task was selected.
    NothingSelected = 4,
    /// The spec is invalid.
    SpecInvalid = 94,
    /// No engine, no repository, or the base is missing.
    EnvironmentUnusable = 96,
    /// One or more tasks failed, for whatever cause.
    TasksFailed = 100,
    /// The time limit of the whole run.
    TimedOut = 124,
    /// Interrupted, and cleaned up.
    Interrupted = 130,
    /// Terminated, and cleaned up.
    Terminated = 143,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The exit code of what was stopped, and cleaned up.
pub fn of_stop(reason: StopReason) -> Exit {
    match reason {
        StopReason::Interrupted => Exit::Interrupted,
        StopReason::Terminated => Exit::Terminated,
        StopReason::TimedOut => Exit::TimedOut,
        StopReason::JournalFailed => Exit::Unexpected,
    }
}

/// The exit code of a run: what stopped it comes first, then its tasks, then what is left behind.
pub fn of_run(summary: &RunSummary) -> Exit {
    let left_behind = !summary.teardown_errors.is_empty()
        || summary.tasks.iter().any(|t| !t.teardown_errors.is_empty());
    match summary.stopped {
        Some(reason) => of_stop(reason),
        None if summary.tasks.iter().any(TaskReport::is_failure) => Exit::TasksFailed,
        None if left_behind => Exit::Unexpected,
        None => Exit::Success,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{BranchReport, BranchResult, TaskOutcome};
    use std::time::Duration;

    fn task(outcome: TaskOutcome, teardown_errors: &[&str]) -> TaskReport {
        TaskReport {
            attempt: 1,
            branch: Some(BranchReport::bare(BranchResult::NoChange)),
            ran: Duration::from_secs(1),
            teardown_errors: teardown_errors.iter().map(|&e| e.to_owned()).collect(),
            ..TaskReport::bare("t".parse().expect("a task id"), outcome)
        }
    }

    fn run(stopped: Option<StopReason>, tasks: Vec<TaskReport>) -> RunSummary {
        RunSummary {
            run: "261120-101500-abcd".parse().expect("a run id"),
            tasks,
            stopped,
            took: Duration::from_secs(1),
            agents: None,
            egress: Vec::new(),
            forecast: None,
            teardown_errors: Vec::new(),
            directory: "/nowhere".into(),
        }
    }

    #[test]
    fn precedence() {
        let failed = || task(TaskOutcome::Failed { exit_code: 3 }, &["network"]);
        let passed = || task(TaskOutcome::Succeeded, &[]);
        let untidy = || task(TaskOutcome::Succeeded, &["network"]);
        let by = |reason| run(Some(reason), vec![failed()]);
        assert_eq!(of_run(&by(StopReason::Interrupted)), Exit::Interrupted);
        assert_eq!(of_run(&by(StopReason::Terminated)), Exit::Terminated);
        assert_eq!(of_run(&by(StopReason::TimedOut)), Exit::TimedOut);
        assert_eq!(of_run(&run(None, vec![failed()])), Exit::TasksFailed);
        assert_eq!(
            of_run(&run(None, vec![passed(), untidy()])),
            Exit::Unexpected
        );
        assert_eq!(of_run(&run(None, vec![passed()])), Exit::Success);
    }

    #[test]
    fn a_task_that_may_fail_counts_for_nothing_but_what_it_leaves_behind() {
        let allowed = |errors: &[&str]| TaskReport {
            allow_failure: true,
            ..task(TaskOutcome::TimedOut, errors)
        };
        let passed = || task(TaskOutcome::Succeeded, &[]);
        assert_eq!(
            of_run(&run(None, vec![passed(), allowed(&[])])),
            Exit::Success
        );
        assert_eq!(
            of_run(&run(None, vec![allowed(&["network"])])),
            Exit::Unexpected
        );
        let failed = task(TaskOutcome::TimedOut, &[]);
        assert_eq!(
            of_run(&run(None, vec![failed, allowed(&[])])),
            Exit::TasksFailed
        );
    }
}
