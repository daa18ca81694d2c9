//! From how a container ended to what became of its task. Pure.

use crate::engine::Exit;
use crate::event::{AgentUsage, Budget, TaskOutcome, TaskReport};
use crate::plan::TaskPlan;

/// Why agent-run itself ended a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoppedBy {
    /// The run stops.
    Shutdown,
    /// The attempt's time is over.
    Deadline,
    /// It uses more disk than it may: this much, in bytes.
    Disk(u64),
    /// Its agent has used what it may.
    Budget {
        /// What it has used, in all attempts.
        used: AgentUsage,
        /// What it may use.
        budget: Budget,
    },
}

/// The cause, in the order that research on false causes asks for: what we did ourselves comes
/// first, then success, then the engine's word on memory, and only then the number.
///
/// 137 alone is not "out of memory": it is what every SIGKILL gives.
pub(super) fn outcome(stopped: Option<StoppedBy>, exit: Exit) -> TaskOutcome {
    match (stopped, exit) {
        (Some(StoppedBy::Shutdown), _) => TaskOutcome::Cancelled,
        (Some(StoppedBy::Deadline), _) => TaskOutcome::TimedOut,
        (Some(StoppedBy::Disk(used_bytes)), _) => TaskOutcome::OutOfDisk { used_bytes },
        (Some(StoppedBy::Budget { used, budget }), _) => TaskOutcome::OutOfBudget { used, budget },
        (None, Exit { code: 0, .. }) => TaskOutcome::Succeeded,
        (
            None,
            Exit {
                oom_killed: true, ..
            },
        ) => TaskOutcome::OutOfMemory,
        (
            None,
            Exit {
                code: code @ 129..=192,
                ..
            },
        ) => TaskOutcome::Killed { signal: code - 128 },
        (None, Exit { code, .. }) => TaskOutcome::Failed { exit_code: code },
    }
}

/// A report of a task that says no more than its plan and its outcome.
pub(super) fn bare_report(task: &TaskPlan, outcome: TaskOutcome) -> TaskReport {
    TaskReport {
        matrix: task.matrix.clone(),
        secrets: secrets_of(task),
        allow_failure: task.allow_failure,
        ..TaskReport::bare(task.id.clone(), outcome)
    }
}

/// The names of the secrets that a task is granted, its setup's and its check's among them.
pub(super) fn secrets_of(task: &TaskPlan) -> Vec<String> {
    let names = task.secret_names().into_iter();
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i64, oom_killed: bool) -> Exit {
        Exit { code, oom_killed }
    }

    #[test]
    fn what_we_did_ourselves_comes_first() {
        let killed = exit(137, true);
        assert_eq!(
            outcome(Some(StoppedBy::Shutdown), killed),
            TaskOutcome::Cancelled
        );
        assert_eq!(
            outcome(Some(StoppedBy::Deadline), exit(0, false)),
            TaskOutcome::TimedOut
        );
    }

    #[test]
    fn success_stays_success_though_a_child_ran_out_of_memory() {
        assert_eq!(outcome(None, exit(0, true)), TaskOutcome::Succeeded);
    }

    #[test]
    fn sigkill_is_out_of_memory_only_where_the_engine_says_so() {
        assert_eq!(outcome(None, exit(137, true)), TaskOutcome::OutOfMemory);
        assert_eq!(
            outcome(None, exit(137, false)),
            TaskOutcome::Killed { signal: 9 }
        );
    }

    #[test]
    fn other_codes_are_failures_of_the_command() {
        assert_eq!(
            outcome(None, exit(3, false)),
            TaskOutcome::Failed { exit_code: 3 }
        );
        assert_eq!(
            outcome(None, exit(255, false)),
            TaskOutcome::Failed { exit_code: 255 }
        );
    }
}
