//! A preview: what a task of another run has made, started again until somebody has seen enough.
//!
//! In the runner it is the check of a result that nobody waits for the end of: a clean checkout in a
//! container of its own, of which nothing comes back.

use std::future::pending;

use tokio::time::{Instant, sleep, timeout_at};

use super::{Life, failed};
use crate::engine::Engine;
use crate::event::{BranchReport, BranchResult, EventKind, TaskOutcome, TaskPhase};
use crate::id::Role;
use crate::runner::outcome::StoppedBy;
use crate::runner::services::{Reach, pauses, reach};
use crate::runner::{StepError, egress};

/// The stage of a preview that nobody can look at.
const PREVIEW: &str = "preview";

impl<E: Engine> Life<'_, E> {
    /// Starts it, and says how it ended.
    pub(super) async fn preview(&mut self) -> Result<TaskOutcome, StepError> {
        self.role = Role::Preview;
        self.enter(TaskPhase::Preparing).await?;
        egress::begin(self.shared, self.task);
        self.remains.attempt = Some(self.attempt.clone());
        let tip = self.shared.context.store.base();
        let ending = self.check(tip, tip.clone(), self.task).await?;
        self.branch = Some(BranchReport::bare(BranchResult::NoChange));
        Ok(match (ending, self.reached.take()) {
            (TaskOutcome::TimedOut, Some(Ok(()))) => TaskOutcome::Succeeded,
            (TaskOutcome::TimedOut, Some(Err(why))) => unreached(why),
            (TaskOutcome::TimedOut, None) => {
                unreached("nobody could reach it before its time was over")
            }
            (TaskOutcome::Succeeded, None | Some(Err(_))) => {
                unreached("its script ended with 0 before anybody could reach it")
            }
            (ending, _) => ending,
        })
    }

    /// Tells once people reach it. Returns where they do not within `startup_timeout`.
    pub(super) async fn never_reached(&self, started: Instant) -> StoppedBy {
        let port = self.services.ports.first();
        let Some(port) = port.filter(|_| self.role == Role::Preview) else {
            return pending().await;
        };
        let reaches_loopback = self.task.has_only_loopback();
        let deadline = started + self.task.startup_timeout;
        let mut last = Reach::Closed;
        for pause in pauses() {
            match timeout_at(deadline, reach(self.served(), port.port)).await {
                Ok(Ok(now)) if now == Reach::Open || now == Reach::Loopback && reaches_loopback => {
                    let _ = self.reached.set(Ok(()));
                    let kind = EventKind::Answers { port: *port };
                    self.shared.event(Some(&self.task.id), kind);
                    return pending().await;
                }
                Ok(Ok(Reach::Loopback)) if last != Reach::Loopback => {
                    last = Reach::Loopback;
                    self.warn(format!("nobody can reach it: {}", on_loopback(port.port)));
                }
                Ok(Ok(now)) => last = now,
                // The engine may be away, or the container have ended: others see to that.
                Ok(Err(_)) => {}
                Err(_) => break,
            }
            let _ = timeout_at(deadline, sleep(pause)).await;
        }
        let why = match last {
            Reach::Loopback => on_loopback(port.port),
            _ => format!("nothing listens on port {}", port.port),
        };
        let limit = self.task.startup_timeout.as_secs();
        let _ = self.reached.set(Err(format!(
            "{why}, {limit} s (startup_timeout) after it was started"
        )));
        StoppedBy::Deadline
    }
}

fn on_loopback(port: u16) -> String {
    format!(
        "port {port} is open on its loopback alone: let the server listen on all addresses, as many do with `--host 0.0.0.0`"
    )
}

fn unreached(why: impl Into<String>) -> TaskOutcome {
    failed(&StepError {
        stage: PREVIEW,
        message: why.into(),
    })
}
