//! The one place where the values of secrets are masked in what is told of a run: its events, and the
//! reports and the summary in them. Output of containers is masked as it is read.
//!
//! Whatever an agent can name, and whatever an error may quote, is text here. Names, refs and paths of
//! ours are left as they are.

use super::Shared;
use crate::engine::Engine;
use crate::event::{
    ArtifactsReport, BranchReport, BranchResult, EventKind, RunSummary, TaskOutcome, TaskReport,
};
use crate::secrets::Needles;

impl<E: Engine> Shared<E> {
    /// Masks what is told of a run that has ended.
    pub(super) fn masked(&self, mut summary: RunSummary) -> RunSummary {
        Masks(&self.context.needles).summary(&mut summary);
        summary
    }
}

/// Masks what happened.
pub(super) fn masked(mut kind: EventKind, needles: &Needles) -> EventKind {
    if !needles.is_empty() {
        Masks(needles).event(&mut kind);
    }
    kind
}

struct Masks<'a>(&'a Needles);

impl Masks<'_> {
    fn text(&self, text: &mut String) {
        *text = self.0.mask(text);
    }

    fn texts<'t>(&self, texts: impl IntoIterator<Item = &'t mut String>) {
        texts.into_iter().for_each(|text| self.text(text));
    }

    fn event(&self, kind: &mut EventKind) {
        match kind {
            EventKind::Image { status: text, .. }
            | EventKind::Setup { status: text, .. }
            | EventKind::Warning { message: text }
            | EventKind::EgressDenied { host: text, .. } => self.text(text),
            EventKind::Retry { report, .. } | EventKind::TaskFinished { report } => {
                self.task(report);
            }
            EventKind::RunFinished { summary } => self.summary(summary),
            EventKind::RunStarted { .. }
            | EventKind::Phase { .. }
            | EventKind::Usage { .. }
            | EventKind::Ports { .. }
            | EventKind::Answers { .. }
            | EventKind::Slow
            | EventKind::OutOfDisk { .. }
            | EventKind::OutOfBudget { .. }
            | EventKind::Stopping { .. } => {}
        }
    }

    fn summary(&self, summary: &mut RunSummary) {
        summary.tasks.iter_mut().for_each(|task| self.task(task));
        let hosts = summary.egress.iter_mut().flat_map(|task| &mut task.hosts);
        self.texts(hosts.map(|used| &mut used.host));
        self.texts(&mut summary.teardown_errors);
        if let Some(forecast) = &mut summary.forecast {
            self.texts(forecast.paths_mut());
        }
    }

    fn task(&self, report: &mut TaskReport) {
        self.outcome(&mut report.outcome);
        if let Some(branch) = &mut report.branch {
            self.branch(branch);
        }
        if let Some(artifacts) = &mut report.artifacts {
            self.artifacts(artifacts);
        }
        self.texts(&mut report.last_lines);
        self.texts(&mut report.teardown_errors);
        let earlier = report.earlier_attempts.iter_mut();
        earlier.for_each(|attempt| self.task(attempt));
    }

    fn outcome(&self, outcome: &mut TaskOutcome) {
        match outcome {
            TaskOutcome::Infra { message: text, .. }
            | TaskOutcome::Skipped { reason: text, .. } => self.text(text),
            TaskOutcome::VerifyFailed { cause } => self.outcome(cause),
            _ => {}
        }
    }

    fn branch(&self, report: &mut BranchReport) {
        if let BranchResult::Rejected { detail: text, .. }
        | BranchResult::Kept { reason: text, .. } = &mut report.result
        {
            self.text(text);
        }
        self.texts(report.diffstat.iter_mut().map(|file| &mut file.path));
        self.texts(report.side_refs.iter_mut().map(|(_, what)| what));
        let risky = report.risky_paths.iter_mut();
        self.texts(risky.flat_map(|(path, why)| [path, why]));
        self.texts(&mut report.notes);
    }

    fn artifacts(&self, report: &mut ArtifactsReport) {
        self.texts(report.copied.iter_mut().map(|file| &mut file.path));
        let skipped = report.skipped_paths.iter_mut();
        self.texts(skipped.flat_map(|(path, why)| [path, why]));
        self.texts(&mut report.incomplete);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{
        ArtifactFile, BranchForecast, FileConflict, FileStat, Fit, Forecast, HostUse, PairForecast,
        TaskEgress,
    };
    use crate::id::{CommitId, RunId, TaskId};
    use crate::secrets::SecretString;

    const VALUE: &str = "hunter2-hunter2";

    fn words() -> String {
        format!("of {VALUE}")
    }

    fn report(result: BranchResult, outcome: TaskOutcome) -> TaskReport {
        let task: TaskId = "a".parse().unwrap();
        TaskReport {
            branch: Some(BranchReport {
                diffstat: vec![FileStat {
                    path: words(),
                    insertions: 0,
                    deletions: 0,
                }],
                side_refs: vec![("refs/x".into(), words())],
                risky_paths: vec![(words(), words())],
                notes: vec![words()],
                ..BranchReport::bare(result)
            }),
            artifacts: Some(ArtifactsReport {
                copied: vec![ArtifactFile {
                    path: words(),
                    bytes: 0,
                }],
                skipped_paths: vec![(words(), words())],
                incomplete: Some(words()),
                ..ArtifactsReport::default()
            }),
            last_lines: vec![words()],
            teardown_errors: vec![words()],
            ..TaskReport::bare(task, outcome)
        }
    }

    fn reports() -> Vec<TaskReport> {
        let infra = || TaskOutcome::Infra {
            stage: "container".into(),
            message: words(),
        };
        let rejected = BranchResult::Rejected {
            check: "paths".into(),
            detail: words(),
            path: "/state".into(),
        };
        let kept = BranchResult::Kept {
            path: "/state".into(),
            reason: words(),
        };
        let skipped = TaskOutcome::Skipped {
            reason: words(),
            claimed: false,
        };
        let cause = Box::new(infra());
        let mut nested = report(kept, TaskOutcome::VerifyFailed { cause });
        let earlier = report(BranchResult::NoChange, infra());
        nested.earlier_attempts.push(earlier);
        vec![nested, report(rejected, skipped)]
    }

    fn forecast() -> Forecast {
        let conflict = || Fit::Conflict {
            files: 1,
            conflicts: vec![FileConflict {
                path: words(),
                kind: "contents".into(),
                lines: Vec::new(),
            }],
        };
        let commit: CommitId = "0".repeat(40).parse().unwrap();
        Forecast {
            base: "main".into(),
            base_commit: commit.clone(),
            branches: vec![BranchForecast {
                branch: "a".into(),
                task: None,
                commit,
                fit: conflict(),
            }],
            pairs: vec![PairForecast {
                one: "a".into(),
                other: "b".into(),
                fit: conflict(),
            }],
            order: Vec::new(),
            together: Vec::new(),
            is_largest: true,
        }
    }

    #[test]
    fn whatever_is_told_names_no_secret() {
        let (needles, _) = Needles::new([&SecretString::new(VALUE.into())]);
        let boxed = || reports().into_iter().map(Box::new);
        let mut all: Vec<EventKind> = boxed()
            .map(|report| EventKind::TaskFinished { report })
            .collect();
        all.extend(boxed().map(|report| EventKind::Retry {
            report,
            wait: std::time::Duration::ZERO,
            goes_on: false,
        }));
        let run: RunId = "251120-131500-abcd".parse().unwrap();
        let summary = RunSummary {
            run,
            tasks: reports(),
            stopped: None,
            took: std::time::Duration::ZERO,
            agents: None,
            egress: vec![TaskEgress {
                task: "a".parse().unwrap(),
                hosts: vec![HostUse {
                    host: words(),
                    port: 443,
                    passed: 0,
                    denied: 1,
                }],
                others: 0,
            }],
            forecast: Some(Box::new(forecast())),
            teardown_errors: vec![words()],
            directory: "/state".into(),
        };
        all.push(EventKind::RunFinished { summary });
        all.push(EventKind::Warning { message: words() });
        let (host, port) = (words(), 443);
        all.push(EventKind::EgressDenied { host, port });
        let (image, status) = ("x".into(), words());
        all.push(EventKind::Image { image, status });
        let (log, status) = ("/log".into(), words());
        all.push(EventKind::Setup { status, log });
        for kind in all {
            let before = format!("{kind:?}");
            let told = format!("{:?}", masked(kind, &needles));
            assert!(!told.contains("hunter2"), "{told}");
            assert_eq!(told, before.replace(VALUE, "***"));
        }
    }
}
