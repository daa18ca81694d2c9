//! All attempts at one task, each followed by what its course says, and what becomes of the work of
//! those before the last.
//!
//! Each attempt has a directory, a container, a log and a number of its own. The slot is given back
//! between two of them. Work gets the branch where no other attempt follows, else a ref of ours.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::admission::{Place, Slot};
use super::claim::{self, Refusal};
use super::course::{Course, Next};
use super::outcome::bare_report;
use super::start::{self, Results};
use super::stops::Urgency;
use super::task::run_attempt;
use super::teardown::{Remains, teardown};
use super::{Shared, StepError, collector};
use crate::engine::Engine;
use crate::event::{EventKind, PhaseTime, TaskOutcome, TaskPhase, TaskReport};
use crate::id::{AttemptId, TaskId};
use crate::plan::TaskPlan;
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
        message,
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
    let mut course = Course::new(&task.retry, task.feedback);
    for report in &earlier {
        course.take(report);
    }
    let (mut report, mut remains, slot) = loop {
        let begin = (attempt.clone(), since);
        let mut done = run_attempt(shared, task, begin, (start, &course)).await;
        let Place { slot, memory } = place;
        done.remains.memory = done.remains.may_run.then_some(memory);
        let Some(next) = done.next else {
            break (done.report, done.remains, Some(slot));
        };
        since = Instant::now();
        let (wait, goes_on) = match next {
            Next::Again(wait) => (wait, false),
            Next::GoOn => (Duration::ZERO, true),
        };
        let retry = EventKind::Retry {
            report: Box::new(done.report.clone()),
            wait,
            goes_on,
        };
        // Where it cannot be written no slot is given any more.
        let _ = shared.intent(Some(&task.id), retry).await;
        drop(slot);
        not_removed.extend(teardown(shared, done.remains).await);
        let Some(next) = next_place(shared, (at, &task.id), since + wait).await else {
            let report = as_the_last(shared, task, done.report).await;
            break (report, Remains::default(), None);
        };
        place = next;
        course.take(&done.report);
        earlier.push(done.report);
        attempt.number += 1;
    };
    if report.branch.is_none()
        && let Some(from) = course.from()
        && let Some(earlier) = earlier.iter_mut().find(|e| e.attempt == from.attempt)
    {
        // It never came to a worktree: what it was to go on from is what there is.
        let before = earlier.clone();
        *earlier = as_the_last(shared, task, before).await;
        report.branch.clone_from(&earlier.branch);
    }
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
    mut report: TaskReport,
) -> TaskReport {
    let attempt = AttemptId {
        run: shared.context.plan.run.clone(),
        task: task.id.clone(),
        number: report.attempt,
    };
    let killing = shared.stops(&task.id).now() == Urgency::Forced;
    if let Some(work) = report.branch.take_if(|_| !killing) {
        let named = collector::name_set_aside(shared, &task.branch, attempt, work).await;
        report.branch = Some(named);
    }
    report
}
