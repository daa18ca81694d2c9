//! What a task's agent may use of its model: looked at while it works, and between its attempts.
//!
//! The numbers are its client's own, as its preset writes them down; a task that lies about them is
//! bounded by its `timeout` all the same.

use std::future::pending;
use std::time::Duration;

use tokio::time::sleep;

use super::Life;
use crate::engine::{Engine, Exit};
use crate::event::{AgentUsage, Budget, TaskOutcome};
use crate::id::Role;
use crate::runner::outcome::{StoppedBy, outcome};
use crate::runner::{agent, blocking};
use crate::workspace::Workspace;

/// How far apart two looks are.
const INTERVAL: Duration = Duration::from_secs(1);
/// What a client that stops by itself is told of the rest, in US dollars.
const REST: &str = "AGENT_BUDGET_USD";

impl<E: Engine> Life<'_, E> {
    fn budget(&self) -> Option<Budget> {
        let budget = self.task.agent.as_ref()?.budget?;
        (self.role == Role::Task).then_some(Budget {
            tokens: budget.tokens,
            micro_usd: budget.micro_usd,
        })
    }

    /// What all attempts have used, this one so much of it.
    fn all_spent(&self, now: AgentUsage) -> AgentUsage {
        self.course.spent().and(now)
    }

    /// What is left of its dollars, as a variable.
    pub(super) fn budget_left(&self) -> Option<(String, String)> {
        let most = self.budget()?.micro_usd?;
        let spent = self.course.spent().micro_usd.unwrap_or_default();
        let left = most.saturating_sub(spent);
        let left = format!("{}.{:06}", left / 1_000_000, left % 1_000_000);
        Some((REST.to_owned(), left))
    }

    /// Returns once nothing is left.
    pub(super) async fn budget_used_up(&self, workspace: &Workspace) -> StoppedBy {
        let Some(budget) = self.budget() else {
            return pending().await;
        };
        loop {
            sleep(INTERVAL).await;
            let home = workspace.home();
            let used = self.all_spent(blocking(move || agent::told(&home)).await.used);
            if budget.is_used_up(used) {
                return StoppedBy::Budget { used, budget };
            }
        }
    }

    /// How an attempt ended whose container did so. A client that knows its budget ends by itself, and
    /// that is no other failure.
    pub(super) async fn ending(
        &mut self,
        stopped: Option<StoppedBy>,
        exit: Exit,
        workspace: &Workspace,
    ) -> TaskOutcome {
        self.child_oom_killed = exit.oom_killed && exit.code == 0;
        if self.task.agent.is_some() {
            let home = workspace.home();
            self.told = blocking(move || agent::told(&home)).await;
        }
        let ending = outcome(stopped, exit);
        let used = self.all_spent(self.told.used);
        match self.budget().filter(|budget| budget.is_used_up(used)) {
            Some(budget) if matches!(ending, TaskOutcome::Failed { .. }) => {
                TaskOutcome::OutOfBudget { used, budget }
            }
            _ => ending,
        }
    }

    /// Whether another attempt has something to use.
    pub(super) fn has_budget_left(&self) -> bool {
        let used = self.all_spent(self.told.used);
        let is_used_up = self.budget().is_some_and(|budget| budget.is_used_up(used));
        if is_used_up {
            self.warn("its budget is used up: no further attempt is made".into());
        }
        !is_used_up
    }
}
