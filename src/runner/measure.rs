//! What a task's container uses, asked of the engine while it runs. Never an error of the task.
//!
//! An engine spends some twenty milliseconds of CPU time on each answer, so that all tasks of a run
//! share one allowance, with which agent-run and the engine together stay below 1 % of a core: a task is
//! measured every 2.5 seconds alone, every 125 among fifty. Only its first measurement does not wait
//! longer than some seconds, so that all but short tasks of busy runs have one. Docker 20.10 measures
//! once a second for all who ask: a task that is shorter than that may end before it is its turn.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use crate::engine::{ContainerUsage, Engine};
use crate::event::{EventKind, Usage};
use crate::id::TaskId;

/// When a task is measured for the first time: so that a short one is measured at all, and the shortest
/// do not wait for an engine that is busy with measuring.
const FIRST: Duration = Duration::from_millis(250);
/// When at the latest, beyond the allowance.
const LATEST_FIRST: Duration = Duration::from_secs(3);
/// How far apart the measurements of a task are at least.
const PAUSE: Duration = Duration::from_millis(400);
/// How far apart the later measurements of all tasks of a run are at least.
const ALLOWANCE: Duration = Duration::from_millis(2500);

/// What the tasks of a run share: one measurement in `ALLOWANCE`, and one more at once. Holds when all
/// that was taken is earned.
#[derive(Default)]
pub(super) struct Allowance(Mutex<Option<Instant>>);

impl Allowance {
    /// Takes the time of the first measurement of a task that was started just now. One that cannot
    /// wait until that is free takes nothing.
    fn first(&self) -> Instant {
        let now = Instant::now();
        let mut earned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match take(*earned, now + FIRST) {
            (at, _) if at > now + LATEST_FIRST => now + LATEST_FIRST,
            (at, then) => {
                *earned = Some(then);
                at
            }
        }
    }

    /// Takes the next free time.
    fn next(&self) -> Instant {
        let mut earned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, then) = take(*earned, Instant::now() + PAUSE);
        *earned = Some(then);
        at
    }
}

/// The next free time, not before `soonest`, and when that is earned as well.
fn take(earned: Option<Instant>, soonest: Instant) -> (Instant, Instant) {
    let earned = earned.unwrap_or(soonest);
    let at = soonest.max(earned.checked_sub(ALLOWANCE).unwrap_or(soonest));
    (at, earned.max(at) + ALLOWANCE)
}

/// A container being measured, until this is dropped.
pub(super) struct Measuring {
    usage: watch::Receiver<Option<Usage>>,
    task: AbortHandle,
}

impl Measuring {
    /// Measures a container that was started just now.
    pub(super) fn start<E: Engine>(
        shared: Arc<Shared<E>>,
        task: TaskId,
        container: String,
    ) -> Self {
        let (latest, usage) = watch::channel(None);
        let task = tokio::spawn(measure(shared, task, container, latest));
        Self {
            usage,
            task: task.abort_handle(),
        }
    }

    /// The latest measurement, if there is one.
    pub(super) fn usage(&self) -> Option<Usage> {
        *self.usage.borrow()
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn measure<E: Engine>(
    shared: Arc<Shared<E>>,
    task: TaskId,
    container: String,
    latest: watch::Sender<Option<Usage>>,
) {
    let started = Instant::now();
    let mut peak = Peak::default();
    sleep_until(shared.measurements.first()).await;
    loop {
        // What cannot be told now may be told next time.
        if let Ok(Some(sample)) = shared.context.engine.usage(&container).await {
            let usage = Usage {
                after: started.elapsed(),
                cpu: sample.cpu,
                memory: sample.memory - sample.droppable,
                peak_memory: peak.with(&sample),
                received: sample.received,
                sent: sample.sent,
            };
            latest.send_replace(Some(usage));
            shared.event(Some(&task), EventKind::Usage { usage });
        }
        sleep_until(shared.measurements.next()).await;
    }
}

/// The most memory without what the kernel can drop.
#[derive(Default)]
struct Peak {
    highest: u64,
    peak: u64,
}

impl Peak {
    /// Takes a measurement and gives the peak so far.
    ///
    /// The kernel's highest count holds what it could have dropped. How much that was at the time is
    /// not known, but where the count has just risen, it is about what it is now.
    fn with(&mut self, sample: &ContainerUsage) -> u64 {
        let highest = sample.highest_memory.unwrap_or_default();
        let rose = highest > self.highest;
        let count = if rose { highest } else { sample.memory };
        self.highest = self.highest.max(highest);
        self.peak = self.peak.max(count.saturating_sub(sample.droppable));
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(memory: u64, droppable: u64, highest_memory: Option<u64>) -> ContainerUsage {
        ContainerUsage {
            memory,
            droppable,
            highest_memory,
            ..ContainerUsage::default()
        }
    }

    #[test]
    fn a_peak_between_two_measurements_is_seen_where_the_kernel_knows_it() {
        let mut peak = Peak::default();
        assert_eq!(peak.with(&sample(10, 2, Some(11))), 9);
        assert_eq!(peak.with(&sample(12, 3, Some(90))), 87);
        assert_eq!(peak.with(&sample(10, 2, Some(90))), 87);
    }

    #[test]
    fn files_that_were_read_are_no_peak() {
        let mut peak = Peak::default();
        assert_eq!(peak.with(&sample(100, 95, Some(100))), 5);
        // They are gone now: how high it was then says nothing of the rest.
        assert_eq!(peak.with(&sample(7, 0, Some(100))), 7);
    }

    #[test]
    fn without_the_kernels_count_it_is_the_highest_measurement() {
        let mut peak = Peak::default();
        assert_eq!(peak.with(&sample(10, 2, None)), 8);
        assert_eq!(peak.with(&sample(40, 10, None)), 30);
        assert_eq!(peak.with(&sample(20, 0, None)), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn of_fifty_tasks_two_are_measured_soon_and_all_within_seconds() {
        let began = Instant::now();
        let allowance = Allowance::default();
        let times: Vec<_> = (0..50).map(|_| allowance.first() - began).collect();
        assert_eq!(times[..3], [FIRST, FIRST, FIRST + ALLOWANCE]);
        assert!(times[3..].iter().all(|time| *time == LATEST_FIRST));
        // The next time is that of the allowance.
        assert_eq!(allowance.next() - began, FIRST + 2 * ALLOWANCE);
    }

    #[tokio::test(start_paused = true)]
    async fn fifty_tasks_are_not_measured_more_often_together_than_one() {
        let began = Instant::now();
        let allowance = Allowance::default();
        sleep_until(allowance.next()).await;
        assert_eq!(began.elapsed(), PAUSE);
        sleep_until(allowance.next()).await;
        assert_eq!(began.elapsed(), 2 * PAUSE);
        sleep_until(allowance.next()).await;
        assert_eq!(began.elapsed(), PAUSE + ALLOWANCE);
        let times: Vec<_> = (0..50).map(|_| allowance.next()).collect();
        assert_eq!(times[49].duration_since(times[0]), 49 * ALLOWANCE);
    }
}
