//! The course of a task: what its attempts so far have left to the next one, and whether there is one.
//! Pure.
//!
//! `retry` begins again where the failed attempt began. `feedback` goes on from the result of one
//! that did not pass `verify`. Each has a number of its own, and feedback comes first.

use std::time::Duration;

use super::services::SERVICES;
use crate::event::{AgentUsage, TaskOutcome, TaskReport};
use crate::id::CommitId;
use crate::plan::{Retry, RetryCause};

/// What follows an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The same again, after that time.
    Again(Duration),
    /// Further work on its result, told why that did not pass.
    GoOn,
}

/// Where a task stands between two attempts.
#[derive(Debug, Clone)]
pub(super) struct Course {
    retry: Retry,
    feedback: u32,
    retries: u32,
    feedbacks: u32,
    from: Option<From>,
    spent: AgentUsage,
}

/// A result that did not pass its check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct From {
    /// The number of its attempt.
    pub(super) attempt: u32,
    /// Its tip.
    pub(super) commit: CommitId,
    /// How it ended.
    pub(super) outcome: TaskOutcome,
}

impl Course {
    /// A course that has not begun.
    pub(super) fn new(retry: &Retry, feedback: u32) -> Self {
        Self {
            retry: retry.clone(),
            feedback,
            retries: 0,
            feedbacks: 0,
            from: None,
            spent: AgentUsage::default(),
        }
    }

    /// Whose result the next attempt goes on from; none where it begins anew.
    pub(super) fn from(&self) -> Option<&From> {
        self.from.as_ref()
    }

    /// What the agent of the attempts that it has taken in has used.
    pub(super) fn spent(&self) -> AgentUsage {
        self.spent
    }

    /// What follows an attempt that ended so, if anything; where its model limits the rate, not before the
    /// time that this asks for.
    pub(super) fn next(&self, outcome: &TaskOutcome, asked: Option<Duration>) -> Option<Next> {
        let failed_check = matches!(outcome, TaskOutcome::VerifyFailed { .. });
        if failed_check && self.feedbacks < self.feedback {
            return Some(Next::GoOn);
        }
        let again = self.retries < self.retry.max && is_cause(&self.retry, outcome);
        let is_limited =
            matches!(outcome, TaskOutcome::Failed { exit_code } if *exit_code == RATE_LIMITED);
        let asked = asked.filter(|_| is_limited).unwrap_or_default();
        again.then(|| Next::Again(wait_after(&self.retry, self.retries).max(asked)))
    }

    /// Takes in an attempt that another one follows.
    pub(super) fn take(&mut self, report: &TaskReport) {
        let used = report.agent.as_ref().map(|agent| agent.used);
        self.spent = self.spent.and(used.unwrap_or_default());
        match (self.next(&report.outcome, None), &report.verify) {
            (Some(Next::GoOn), Some(verify)) => {
                self.feedbacks += 1;
                self.from = Some(From {
                    attempt: report.attempt,
                    commit: verify.commit.clone(),
                    outcome: report.outcome.clone(),
                });
            }
            _ => self.retries += 1,
        }
    }
}

/// Doubled each time: what is overloaded gets time.
fn wait_after(retry: &Retry, retries: u32) -> Duration {
    retry.backoff.saturating_mul(2_u32.saturating_pow(retries))
}

/// What agents end with whose model refuses them for the number of their requests, as their presets say.
const RATE_LIMITED: i64 = 75;

/// Whether an attempt that ended so is to be made again.
fn is_cause(retry: &Retry, outcome: &TaskOutcome) -> bool {
    let of_codes = |code: i64| {
        let codes = &retry.exit_codes;
        codes.is_empty() || codes.iter().any(|known| i64::from(*known) == code)
    };
    let is_limited =
        |code: i64| code == RATE_LIMITED && retry.when.contains(&RetryCause::RateLimited);
    let cause = match outcome {
        TaskOutcome::Succeeded | TaskOutcome::Cancelled | TaskOutcome::Skipped { .. } => {
            return false;
        }
        TaskOutcome::Infra { stage, .. } if stage == "image" => RetryCause::PullFailure,
        TaskOutcome::Infra { stage, .. } if stage == SERVICES => RetryCause::ServiceFailure,
        // The image cannot run it, this time or the next.
        TaskOutcome::Infra { stage, .. } if stage == "command" => return retry.when.is_empty(),
        TaskOutcome::Infra { .. } => RetryCause::InfraFailure,
        TaskOutcome::TimedOut => RetryCause::Timeout,
        TaskOutcome::OutOfMemory => RetryCause::Oom,
        TaskOutcome::Failed { exit_code } if is_limited(*exit_code) => RetryCause::RateLimited,
        TaskOutcome::Failed { exit_code: code } if of_codes(*code) => RetryCause::ExitCode,
        TaskOutcome::Killed { signal } if of_codes(128 + signal) => RetryCause::ExitCode,
        TaskOutcome::Failed { .. }
        | TaskOutcome::Killed { .. }
        // It is the budget of all attempts.
        | TaskOutcome::OutOfBudget { .. } => return false,
        TaskOutcome::VerifyFailed { .. } => RetryCause::VerifyFailure,
        // It has no word of its own.
        TaskOutcome::OutOfDisk { .. } => return retry.when.is_empty(),
    };
    retry.when.is_empty() || retry.when.contains(&cause)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Budget, VerifyReport};

    fn infra(stage: &str) -> TaskOutcome {
        TaskOutcome::Infra {
            stage: stage.into(),
            message: String::new(),
        }
    }

    fn not_verified() -> TaskOutcome {
        TaskOutcome::VerifyFailed {
            cause: Box::new(TaskOutcome::Failed { exit_code: 1 }),
        }
    }

    fn failures() -> Vec<(TaskOutcome, RetryCause)> {
        vec![
            (infra("workspace"), RetryCause::InfraFailure),
            (infra("verify"), RetryCause::InfraFailure),
            (infra("image"), RetryCause::PullFailure),
            (infra("services"), RetryCause::ServiceFailure),
            (TaskOutcome::TimedOut, RetryCause::Timeout),
            (TaskOutcome::OutOfMemory, RetryCause::Oom),
            (TaskOutcome::Failed { exit_code: 1 }, RetryCause::ExitCode),
            (TaskOutcome::Killed { signal: 9 }, RetryCause::ExitCode),
            (not_verified(), RetryCause::VerifyFailure),
        ]
    }

    fn retry(max: u32, when: &[RetryCause]) -> Retry {
        Retry {
            max,
            when: when.to_vec(),
            ..Retry::default()
        }
    }

    fn follows(retry: &Retry, outcome: &TaskOutcome) -> bool {
        Course::new(retry, 0).next(outcome, None).is_some()
    }

    /// The report of an attempt; those that came to it were verified.
    fn report(attempt: u32, outcome: &TaskOutcome) -> TaskReport {
        let mut report = TaskReport::bare("a".parse().expect("an id"), outcome.clone());
        report.attempt = attempt;
        if matches!(outcome, TaskOutcome::VerifyFailed { .. }) {
            report.verify = Some(VerifyReport {
                commit: format!("{attempt:040x}").parse().expect("a commit"),
                ran: Duration::ZERO,
                usage: None,
                image: None,
                image_digest: None,
                log: None,
            });
        }
        report
    }

    /// What follows each of these attempts, until nothing does.
    fn run(course: &mut Course, outcomes: &[TaskOutcome]) -> Vec<Option<Next>> {
        let mut all = Vec::new();
        for (attempt, outcome) in (1..).zip(outcomes) {
            let next = course.next(outcome, None);
            all.push(next);
            if next.is_none() {
                break;
            }
            course.take(&report(attempt, outcome));
        }
        all
    }

    #[test]
    fn each_failure_has_one_cause() {
        for (outcome, _) in failures() {
            assert!(follows(&retry(1, &[]), &outcome), "{outcome:?}");
            for (_, cause) in failures() {
                let wanted = failures().contains(&(outcome.clone(), cause));
                let followed = follows(&retry(1, &[cause]), &outcome);
                assert_eq!(followed, wanted, "{outcome:?} {cause:?}");
            }
        }
    }

    #[test]
    fn what_has_no_cause_of_its_own_is_tried_again_after_any_failure_only() {
        let every: Vec<_> = failures().into_iter().map(|(_, cause)| cause).collect();
        let used_bytes = 1;
        for outcome in [infra("command"), TaskOutcome::OutOfDisk { used_bytes }] {
            assert!(follows(&retry(1, &[]), &outcome), "{outcome:?}");
            assert!(!follows(&retry(1, &every), &outcome), "{outcome:?}");
        }
    }

    #[test]
    fn nothing_follows_what_was_no_failure_or_was_stopped() {
        let reason = String::new();
        for outcome in [
            TaskOutcome::Succeeded,
            TaskOutcome::Cancelled,
            TaskOutcome::OutOfBudget {
                used: AgentUsage::default(),
                budget: Budget::default(),
            },
            TaskOutcome::Skipped {
                reason,
                claimed: false,
            },
        ] {
            let next = Course::new(&retry(10, &[]), 10).next(&outcome, None);
            assert_eq!(next, None, "{outcome:?}");
        }
    }

    #[test]
    fn only_the_named_codes_count() {
        let retry = Retry {
            exit_codes: vec![75, 137],
            ..retry(1, &[RetryCause::ExitCode])
        };
        let failed = |exit_code| follows(&retry, &TaskOutcome::Failed { exit_code });
        let killed = |signal| follows(&retry, &TaskOutcome::Killed { signal });
        assert!(failed(75) && killed(9));
        assert!(!failed(1) && !failed(75 + 256) && !killed(15));
    }

    #[test]
    fn as_many_follow_as_are_asked_for_and_the_wait_doubles() {
        let retry = Retry {
            backoff: Duration::from_secs(30),
            ..retry(3, &[])
        };
        let again = |seconds| Some(Next::Again(Duration::from_secs(seconds)));
        let ends = vec![TaskOutcome::TimedOut; 9];
        let all = run(&mut Course::new(&retry, 0), &ends);
        assert_eq!(all, [again(30), again(60), again(120), None]);
    }

    #[test]
    fn a_model_that_limits_the_rate_is_left_alone_for_as_long_as_it_asks() {
        let seconds = Duration::from_secs;
        let retry = Retry {
            backoff: seconds(30),
            ..retry(3, &[RetryCause::RateLimited, RetryCause::ExitCode])
        };
        let mut course = Course::new(&retry, 0);
        let limited = TaskOutcome::Failed { exit_code: 75 };
        let again = |wait| Some(Next::Again(seconds(wait)));
        assert_eq!(course.next(&limited, None), again(30));
        assert_eq!(course.next(&limited, Some(seconds(45))), again(45));
        assert_eq!(course.next(&limited, Some(seconds(2))), again(30));
        let failed = TaskOutcome::Failed { exit_code: 1 };
        assert_eq!(course.next(&failed, Some(seconds(45))), again(30));
        course.take(&report(1, &limited));
        assert_eq!(course.next(&limited, Some(seconds(45))), again(60));
    }

    #[test]
    fn feedback_comes_first_and_what_is_made_again_begins_where_it_began() {
        let mut course = Course::new(&retry(2, &[]), 2);
        let crash = TaskOutcome::Failed { exit_code: 3 };
        let ends = [
            crash.clone(),
            not_verified(),
            crash,
            not_verified(),
            not_verified(),
        ];
        let again = Some(Next::Again(Duration::ZERO));
        let on = Some(Next::GoOn);
        let all = run(&mut course, &ends);
        assert_eq!(all, [again, on, again, on, None]);
        assert_eq!(course.from().map(|from| from.attempt), Some(4));
        let mut course = Course::new(&retry(1, &[]), 1);
        run(&mut course, &[not_verified(), infra("container")]);
        assert_eq!(course.from().map(|from| from.attempt), Some(1));
    }

    proptest! {
        #[test]
        fn no_more_attempts_than_both_numbers_allow(
            max in 0_u32..4,
            feedback in 0_u32..4,
            picks in proptest::collection::vec(0_usize..9, 12),
        ) {
            let outcomes: Vec<_> = picks.iter().map(|pick| failures()[*pick].0.clone()).collect();
            let all = run(&mut Course::new(&retry(max, &[]), feedback), &outcomes);
            let on = all.iter().filter(|next| **next == Some(Next::GoOn)).count();
            let again = all.iter().flatten().count() - on;
            prop_assert!(on <= feedback as usize && again <= max as usize);
            prop_assert_eq!(all.last(), Some(&None));
        }
    }
}
