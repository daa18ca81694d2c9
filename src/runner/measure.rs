//! What a task's container uses, asked of the engine while it runs. Never an error of the task.
//!
//! An engine spends some twenty milliseconds of CPU time on each answer, so that all tasks of a run
//! share one allowance, with which agent-run and the engine together stay below 1 % of a core: beyond
//! its first measurement a task is measured every 2.5 seconds alone, every 125 among fifty. Docker 20.10
//! measures once a second for all who ask, so that a shorter task may end before it is its turn.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::Shared;
use crate::engine::{ContainerUsage, Engine};
use crate::event::{EventKind, Usage};
use crate::id::TaskId;

/// When a task is measured for the first time, beyond the allowance: so that a short one is measured
/// at all, and the shortest do not wait for an engine that is busy with measuring.
const FIRST: Duration = Duration::from_millis(250);
/// How far apart the measurements of a task are at least.
const PAUSE: Duration = Duration::from_millis(400);
/// How far apart the later measurements of all tasks of a run are at least.
const ALLOWANCE: Duration = Duration::from_millis(2500);

/// When the next measurement of any task of the run may be.
#[derive(Default)]
pub(super) struct Allowance(Mutex<Option<Instant>>);

impl Allowance {
    /// Takes the next free time.
    fn take(&self) -> Instant {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next
            .unwrap_or_else(Instant::now)
            .max(Instant::now() + PAUSE);
        *next = Some(at + ALLOWANCE);
        at
    }
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
    sleep(FIRST).await;
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
        sleep_until(shared.measurements.take()).await;
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
    async fn fifty_tasks_are_not_measured_more_often_together_than_one() {
        let began = Instant::now();
        let allowance = Allowance::default();
        sleep_until(allowance.take()).await;
        assert_eq!(began.elapsed(), PAUSE);
        sleep_until(allowance.take()).await;
        assert_eq!(began.elapsed(), PAUSE + ALLOWANCE);
        let times: Vec<_> = (0..50).map(|_| allowance.take()).collect();
        assert_eq!(times[49].duration_since(times[0]), 49 * ALLOWANCE);
    }
}
