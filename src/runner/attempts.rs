//! All attempts at one task: whether another follows, when, and what becomes of the work of those
//! before it.
//!
//! Each attempt has a directory, a container, a log and a number of its own. The slot is given back
//! between two of them. Work gets the branch where no other attempt follows, else a ref of ours.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::admission::{Place, Slot};
use super::claim::{self, Refusal};
use super::outcome::bare_report;
use super::start::{self, Results};
use super::stops::Urgency;
use super::task::run_attempt;
use super::teardown::{Remains, teardown};
use super::{Shared, StepError, collector};
use crate::engine::Engine;
use crate::event::{EventKind, PhaseTime, TaskOutcome, TaskPhase, TaskReport};
use crate::id::{AttemptId, TaskId};
use crate::plan::{Retry, RetryCause, TaskPlan};
use crate::workspace::Start;

/// A finished task: its report, what is still to be removed, and its slot, if it has one.
pub(super) struct TaskDone {
    pub(super) report: TaskReport,
    pub(super) remains: Remains,
    pub(super) slot: Option<Slot>,
}

/// Makes attempts at a task, if it has a start and gets what it claims. The first has its place; all
/// start from the results that are named.
pub(super) async fn run_task<E: Engine>(
    shared: Arc<Shared<E>>,
    (at, task): (usize, TaskPlan),
    results: Results,
    place: Place,
) -> TaskDone {
    let outcome = match prepared(&shared, &task, results).await {
        Ok(start) => {
            let done = attempts(&shared, (at, &task), start.as_ref(), place).await;
            claim::release(&shared, &task.id).await;
            return done;
        }
        Err(outcome) => outcome,
    };
    let phases = vec![PhaseTime {
        phase: TaskPhase::Waiting,
        took: shared.began.elapsed(),
    }];
    TaskDone {
        report: TaskReport {
            phases,
            ..bare_report(&task, outcome)
        },
        remains: Remains::default(),
        slot: Some(place.slot),
    }
}

/// Where a task starts, once it has what it claims; else how it ends.
async fn prepared<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    results: Results,
) -> Result<Option<Start>, TaskOutcome> {
    let failed = |StepError { stage, message }| TaskOutcome::Infra {
        stage: stage.to_owned(),
        message: shared.context.needles.mask(&message),
    };
    let skipped = |reason, claimed| TaskOutcome::Skipped { reason, claimed };
    let start = start::of(shared, results).await.map_err(failed)?;
    let start = start.map_err(|reason| skipped(reason, false))?;
    match claim::take(shared, task).await {
        Ok(()) => Ok(start),
        Err(Refusal::Claimed(reason)) => Err(skipped(reason, true)),
        Err(Refusal::Failed(error)) => Err(failed(error)),
    }
}

/// Makes attempts at a task until none follows.
async fn attempts<E: Engine>(
    shared: &Arc<Shared<E>>,
    (at, task): (usize, &TaskPlan),
    start: Option<&Start>,
    mut place: Place,
) -> TaskDone {
    let mut since = shared.began;
    let past = &shared.past;
    let mut earlier = past.earlier.get(&task.id).cloned().unwrap_or_default();
    let mut not_removed = Vec::new();
    let mut attempt = AttemptId {
        run: shared.context.plan.run.clone(),
        task: task.id.clone(),
        number: past.left.get(&task.id).map_or(1, |left| left.attempt),
    };
    let (mut report, mut remains, slot) = loop {
        let from = (start, since);
        let mut done = run_attempt(shared, task, attempt.clone(), from).await;
        let Place { slot, memory } = place;
        done.remains.memory = done.remains.may_run.then_some(memory);
        if !done.is_retried {
            break (done.report, done.remains, Some(slot));
        }
        since = Instant::now();
        let wait = wait_after(&task.retry, attempt.number);
        let report = Box::new(done.report.clone());
        // Where it cannot be written no slot is given any more.
        let _ = shared
            .intent(Some(&task.id), EventKind::Retry { report, wait })
            .await;
        drop(slot);
        not_removed.extend(teardown(shared, done.remains).await);
        let Some(next) = next_place(shared, (at, &task.id), since + wait).await else {
            let report = as_the_last(shared, task, attempt, done.report).await;
            break (report, Remains::default(), None);
        };
        place = next;
        earlier.push(done.report);
        attempt.number += 1;
    };
    report.earlier_attempts = earlier;
    remains.errors.splice(..0, not_removed);
    TaskDone {
        report,
        remains,
        slot,
    }
}

/// A place, not before that time; none if the task is to stop first, nothing more is to start, or none
/// will come.
async fn next_place<E: Engine>(
    shared: &Shared<E>,
    (at, task): (usize, &TaskId),
    when: Instant,
) -> Option<Place> {
    let mut stops = shared.stops(task);
    let place = async {
        sleep_until(when).await;
        shared.room().await;
        shared.admission.again(at).await
    };
    tokio::select! {
        biased;
        () = stops.asked(Urgency::Graceful) => None,
        () = shared.failures.are_enough() => None,
        place = place => place.filter(|_| shared.fatal.get().is_none()),
    }
}

/// The report of an attempt that another one should have followed: the branch is its own after all.
async fn as_the_last<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    attempt: AttemptId,
    mut report: TaskReport,
) -> TaskReport {
    let killing = shared.stops(&task.id).now() == Urgency::Forced;
    if let Some(work) = report.branch.take_if(|_| !killing) {
        let named = collector::name_set_aside(shared, &task.branch, attempt, work).await;
        report.branch = Some(named);
    }
    report
}

/// Doubled each time: what is overloaded gets time.
fn wait_after(retry: &Retry, attempt: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
    retry.backoff.saturating_mul(doubled)
}

/// Whether another attempt follows the one with this number that ended so.
pub(super) fn follows(retry: &Retry, attempt: u32, outcome: &TaskOutcome) -> bool {
    let of_codes = |code: i64| {
        let codes = &retry.exit_codes;
        codes.is_empty() || codes.iter().any(|known| i64::from(*known) == code)
    };
    let of_any = attempt <= retry.max && retry.when.is_empty();
    let cause = match outcome {
        TaskOutcome::Succeeded | TaskOutcome::Cancelled | TaskOutcome::Skipped { .. } => {
            return false;
        }
        TaskOutcome::Infra { stage, .. } if stage == "image" => RetryCause::PullFailure,
        // The image cannot run it, this time or the next.
        TaskOutcome::Infra { stage, .. } if stage == "command" => return of_any,
        TaskOutcome::Infra { .. } => RetryCause::InfraFailure,
        TaskOutcome::TimedOut => RetryCause::Timeout,
        TaskOutcome::OutOfMemory => RetryCause::Oom,
        TaskOutcome::Failed { exit_code: code } if of_codes(*code) => RetryCause::ExitCode,
        TaskOutcome::Killed { signal } if of_codes(128 + signal) => RetryCause::ExitCode,
        TaskOutcome::Failed { .. } | TaskOutcome::Killed { .. } => return false,
        // It has no word of its own.
        TaskOutcome::OutOfDisk { .. } => return of_any,
    };
    of_any || (attempt <= retry.max && retry.when.contains(&cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infra(stage: &str) -> TaskOutcome {
        TaskOutcome::Infra {
            stage: stage.into(),
            message: String::new(),
        }
    }

    fn failures() -> Vec<(TaskOutcome, RetryCause)> {
        vec![
            (infra("workspace"), RetryCause::InfraFailure),
            (infra("image"), RetryCause::PullFailure),
            (TaskOutcome::TimedOut, RetryCause::Timeout),
            (TaskOutcome::OutOfMemory, RetryCause::Oom),
            (TaskOutcome::Failed { exit_code: 1 }, RetryCause::ExitCode),
            (TaskOutcome::Killed { signal: 9 }, RetryCause::ExitCode),
        ]
    }

    fn retry(max: u32, when: &[RetryCause]) -> Retry {
        Retry {
            max,
            when: when.to_vec(),
            ..Retry::default()
        }
    }

    #[test]
    fn each_failure_has_one_cause() {
        for (outcome, _) in failures() {
            assert!(follows(&retry(1, &[]), 1, &outcome), "{outcome:?}");
            for (_, cause) in failures() {
                let wanted = failures().contains(&(outcome.clone(), cause));
                let followed = follows(&retry(1, &[cause]), 1, &outcome);
                assert_eq!(followed, wanted, "{outcome:?} {cause:?}");
            }
        }
    }

    #[test]
    fn what_has_no_cause_of_its_own_is_tried_again_after_any_failure_only() {
        let every: Vec<_> = failures().into_iter().map(|(_, cause)| cause).collect();
        let used_bytes = 1;
        for outcome in [infra("command"), TaskOutcome::OutOfDisk { used_bytes }] {
            assert!(follows(&retry(1, &[]), 1, &outcome), "{outcome:?}");
            assert!(!follows(&retry(1, &every), 1, &outcome), "{outcome:?}");
        }
    }

    #[test]
    fn nothing_follows_what_was_no_failure_or_was_stopped() {
        let reason = String::new();
        for outcome in [
            TaskOutcome::Succeeded,
            TaskOutcome::Cancelled,
            TaskOutcome::Skipped {
                reason,
                claimed: false,
            },
        ] {
            assert!(!follows(&retry(10, &[]), 1, &outcome), "{outcome:?}");
        }
    }

    #[test]
    fn as_many_follow_as_are_asked_for() {
        let follow = |max| {
            let retry = retry(max, &[]);
            (1..20)
                .take_while(|number| follows(&retry, *number, &TaskOutcome::TimedOut))
                .count()
        };
        assert_eq!([follow(0), follow(1), follow(3)], [0, 1, 3]);
    }

    #[test]
    fn only_the_named_codes_count() {
        let retry = Retry {
            exit_codes: vec![75, 137],
            ..retry(1, &[RetryCause::ExitCode])
        };
        let failed = |exit_code| follows(&retry, 1, &TaskOutcome::Failed { exit_code });
        let killed = |signal| follows(&retry, 1, &TaskOutcome::Killed { signal });
        assert!(failed(75) && killed(9));
        assert!(!failed(1) && !failed(75 + 256) && !killed(15));
    }

    #[test]
    fn the_wait_doubles() {
        let retry = Retry {
            backoff: Duration::from_secs(30),
            ..Retry::default()
        };
        let waits = [1, 2, 3, 10].map(|number| wait_after(&retry, number).as_secs());
        assert_eq!(waits, [30, 60, 120, 15_360]);
    }
}
