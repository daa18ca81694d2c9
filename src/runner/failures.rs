//! After how many failures nothing more is started.

use tokio::sync::watch;

use crate::event::{TaskOutcome, TaskReport};

/// Counts the tasks that have failed.
pub(super) struct Failures {
    /// After so many nothing more is started.
    most: Option<u32>,
    number: watch::Sender<u32>,
}

impl Failures {
    /// `earlier` are those of an earlier process.
    pub(super) fn new(most: Option<u32>, earlier: &[TaskReport]) -> Self {
        let failures = Self {
            most,
            number: watch::Sender::new(0),
        };
        for report in earlier {
            failures.count(report);
        }
        failures
    }

    /// Takes in what became of a task. Neither what may fail nor what never began is a failure, and what
    /// somebody stopped is none of the task's.
    pub(super) fn count(&self, report: &TaskReport) {
        let not_its_own = matches!(
            report.outcome,
            TaskOutcome::Skipped { .. } | TaskOutcome::Cancelled
        );
        if report.is_failure() && !not_its_own {
            self.number.send_modify(|number| *number += 1);
        }
    }

    /// Why nothing more is started; none where there is no reason.
    pub(super) fn reason(&self) -> Option<String> {
        let most = self.most.filter(|most| *self.number.borrow() >= *most)?;
        Some(match most {
            1 => "a task failed, and nothing is started after that".into(),
            most => format!("{most} tasks failed, and nothing is started after that"),
        })
    }

    /// Returns once nothing more is started.
    pub(super) async fn are_enough(&self) {
        let mut number = self.number.subscribe();
        let Some(most) = self.most else {
            return std::future::pending().await;
        };
        // The sender lives as long as this.
        let _ = number.wait_for(|number| *number >= most).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcome: TaskOutcome) -> TaskReport {
        TaskReport::bare("t".parse().expect("an id"), outcome)
    }

    #[test]
    fn what_failed_before_a_run_was_resumed_counts() {
        let failed = || report(TaskOutcome::TimedOut);
        let stopped = report(TaskOutcome::Cancelled);
        let earlier = [failed(), stopped];
        assert!(Failures::new(Some(1), &earlier).reason().is_some());
        assert!(Failures::new(None, &earlier).reason().is_none());
        let failures = Failures::new(Some(2), &earlier);
        assert_eq!(failures.reason(), None);
        failures.count(&failed());
        assert!(failures.reason().is_some());
    }
}
