//! Ends a task's container, and writes down why before.

use std::time::Duration;

use super::Life;
use crate::engine::Engine;
use crate::event::{EventKind, TaskPhase};
use crate::id::Role;
use crate::runner::StepError;
use crate::runner::outcome::StoppedBy;
use crate::runner::stops::Urgency;

impl<E: Engine> Life<'_, E> {
    /// Writes down that the container is about to be ended, and why, for whoever goes on with the run.
    pub(super) async fn note_stop(&mut self, by: Option<StoppedBy>) {
        let kind = match by {
            Some(StoppedBy::Disk(used_bytes)) => Some(EventKind::OutOfDisk { used_bytes }),
            Some(StoppedBy::Budget { used, budget }) => {
                Some(EventKind::OutOfBudget { used, budget })
            }
            _ => None,
        };
        if let Some(kind) = kind.filter(|_| self.role == Role::Task) {
            self.shared.event(Some(&self.task.id), kind);
        }
        // Stopped also where that cannot be written.
        let _ = self.enter(TaskPhase::Stopping).await;
    }

    /// What a container may take to end: the command's grace and the hand-off.
    pub(super) fn grace(&self) -> Duration {
        self.task.stop_grace_period + self.task.handoff_timeout
    }

    /// Ends the container: a kill after its grace, or if asked twice, or if its disk is over.
    pub(super) async fn stop(
        &mut self,
        name: &str,
        grace: Duration,
        disk: impl Future<Output = u64>,
    ) {
        let engine = &*self.shared.context.engine;
        let mut stops = self.stops();
        let stopped = tokio::select! {
            stopped = engine.stop(name, grace) => stopped,
            () = stops.asked(Urgency::Forced) => engine.stop(name, Duration::ZERO).await,
            _ = disk => engine.stop(name, Duration::ZERO).await,
        };
        if let Err(error) = stopped {
            let message = StepError::new("stop", &error).message;
            self.remains.errors.push(message);
        }
    }
}
