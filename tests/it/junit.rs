//! The `JUnit` report: what each ending becomes, and that hostile words stay words.

use std::time::Duration;

use agent_run::event::{BranchReport, BranchResult, TaskOutcome, TaskReport, VerifyReport};
use agent_run::report::junit;
use insta::assert_snapshot;
use quick_junit::{NonSuccessKind, Report, TestCaseStatus, TestRerun, XmlString};

use crate::ended::{hints, run, usage};

fn task(id: &str, outcome: TaskOutcome, result: Option<BranchResult>) -> TaskReport {
    TaskReport {
        attempt: 1,
        branch: result.map(BranchReport::bare),
        ran: Duration::from_millis(61_300),
        usage: Some(usage()),
        log: Some(format!("/state/logs/{id}.1.log").into()),
        last_lines: vec!["\u{1b}[31mlast\u{1b}[0m".into(), "words".into()],
        ..TaskReport::bare(id.parse().unwrap(), outcome)
    }
}

/// A task whose result did not pass its check.
fn not_verified(id: &str, how: TaskOutcome) -> TaskReport {
    let outcome = TaskOutcome::VerifyFailed {
        cause: Box::new(how),
    };
    TaskReport {
        verify: Some(VerifyReport {
            commit: "b".repeat(40).parse().unwrap(),
            ran: Duration::from_millis(900),
            usage: None,
            image: None,
            image_digest: None,
            log: Some(format!("/state/logs/{id}.1.verify.log").into()),
        }),
        ..task(id, outcome, Some(BranchResult::NoChange))
    }
}

fn show(tasks: Vec<TaskReport>) -> String {
    let run = run(tasks);
    junit(&run, &hints(&run))
}

#[test]
fn every_ending() {
    let created = BranchResult::Created {
        branch: "agent/x".parse().unwrap(),
        commit: "a".repeat(40).parse().unwrap(),
    };
    let rejected = BranchResult::Rejected {
        check: "size".into(),
        detail: "too large".into(),
        path: "/state/tasks/r".into(),
    };
    let infra = TaskOutcome::Infra {
        stage: "image".into(),
        message: "no such image".into(),
    };
    let skipped = TaskOutcome::Skipped {
        reason: "the run stopped before it began".into(),
        claimed: false,
    };
    let out_of_disk = TaskOutcome::OutOfDisk {
        used_bytes: 11 << 30,
    };
    let no_change = || Some(BranchResult::NoChange);
    assert_snapshot!(show(vec![
        task("good", TaskOutcome::Succeeded, Some(created)),
        task("failed", TaskOutcome::Failed { exit_code: 3 }, no_change()),
        task("big", TaskOutcome::OutOfMemory, no_change()),
        task("full", out_of_disk, no_change()),
        task("slow", TaskOutcome::TimedOut, no_change()),
        task("killed", TaskOutcome::Killed { signal: 9 }, no_change()),
        not_verified("not-verified", TaskOutcome::Failed { exit_code: 127 }),
        task("rejected", TaskOutcome::Succeeded, Some(rejected)),
        task("image", infra, None),
        task("stopped", TaskOutcome::Cancelled, no_change()),
        task("waited", skipped, None),
    ]));
}

#[test]
fn a_failure_that_is_allowed_is_skipped() {
    let allowed = |id, outcome| TaskReport {
        allow_failure: true,
        ..task(id, outcome, Some(BranchResult::NoChange))
    };
    let tasks = vec![
        allowed("bad", TaskOutcome::Failed { exit_code: 3 }),
        allowed("good", TaskOutcome::Succeeded),
    ];
    let report = Report::deserialize_from_str(&show(tasks)).unwrap();
    assert_eq!((report.tests, report.failures, report.errors), (2, 0, 0));
    let statuses = report.test_suites[0].test_cases.iter().map(|c| &c.status);
    let [
        TestCaseStatus::Skipped { message, ty, .. },
        TestCaseStatus::Success { .. },
    ] = &statuses.collect::<Vec<_>>()[..]
    else {
        panic!("{report:?}");
    };
    let text = |text: &Option<XmlString>| text.as_ref().unwrap().as_str().to_owned();
    assert_eq!(text(message), "exit code 3, allowed to fail");
    assert_eq!(text(ty), "FAIL");
}

#[test]
fn attempts_are_flaky_before_one_that_passed_and_else_reruns_of_the_first() {
    let attempt = |number: u32, outcome| TaskReport {
        attempt: number,
        ran: Duration::from_secs(number.into()),
        last_lines: vec![format!("attempt {number}")],
        ..task("a", outcome, Some(BranchResult::NoChange))
    };
    let failed = |number: u32| {
        attempt(
            number,
            TaskOutcome::Failed {
                exit_code: number.into(),
            },
        )
    };
    let infra = TaskOutcome::Infra {
        stage: "image".into(),
        message: "none".into(),
    };
    let with = |earlier: Vec<TaskReport>, last| TaskReport {
        earlier_attempts: earlier,
        ..last
    };
    let passed = with(
        vec![failed(1), failed(2)],
        attempt(3, TaskOutcome::Succeeded),
    );
    let lost = with(vec![failed(1), attempt(2, infra)], failed(3));
    let report = Report::deserialize_from_str(&show(vec![passed, lost])).unwrap();
    assert_eq!((report.tests, report.failures, report.errors), (2, 1, 0));
    let [passed, lost] = &report.test_suites[0].test_cases[..] else {
        panic!("{report:?}");
    };
    let told = |runs: &[TestRerun]| -> Vec<(NonSuccessKind, String, u64, String)> {
        let text = |text: &Option<XmlString>| text.as_ref().unwrap().as_str().to_owned();
        let told = runs.iter().map(|run| {
            let seconds = run.time.unwrap().as_secs();
            (run.kind, text(&run.message), seconds, text(&run.system_out))
        });
        told.collect()
    };
    let failure = |number: u64| {
        let (cause, lines) = (format!("exit code {number}"), format!("attempt {number}"));
        (NonSuccessKind::Failure, cause, number, lines)
    };
    let TestCaseStatus::Success { flaky_runs } = &passed.status else {
        panic!("{passed:?}");
    };
    assert_eq!(passed.time, Some(Duration::from_secs(3)));
    assert_eq!(told(flaky_runs), [failure(1), failure(2)]);
    let TestCaseStatus::NonSuccess {
        message, reruns, ..
    } = &lost.status
    else {
        panic!("{lost:?}");
    };
    assert_eq!(message.as_ref().unwrap().as_str(), "exit code 1");
    assert_eq!(lost.time, Some(Duration::from_secs(1)));
    let error = (
        NonSuccessKind::Error,
        "image: none".into(),
        2,
        "attempt 2".into(),
    );
    assert_eq!(told(&reruns.runs), [error, failure(3)]);
}

#[test]
fn what_an_agent_wrote_is_words_and_nothing_else() {
    let hostile = "]]></system-out><testcase name=\"x\"/>&amp;&#0;\u{0}\u{b}\u{1b}[2J\u{202e}\u{fffe}\u{ffff}\"'<!--";
    let rejected = BranchResult::Rejected {
        check: "name".into(),
        detail: hostile.into(),
        path: hostile.into(),
    };
    let infra = TaskOutcome::Infra {
        stage: "image".into(),
        message: format!("{hostile}\nsecond line"),
    };
    let mut bad = task("bad", infra, Some(rejected));
    bad.last_lines = vec![hostile.into(), "end".into()];
    let xml = show(vec![bad]);
    let invalid = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{fffe}\u{ffff}".contains(c);
    assert!(!xml.contains(invalid), "{xml}");
    let report = Report::deserialize_from_str(&xml).unwrap();
    assert_eq!((report.tests, report.errors, report.failures), (1, 1, 0));
    let case = &report.test_suites[0].test_cases[0];
    let shown = "]]></system-out><testcase name=\"x\"/>&amp;&#0;";
    let out = case.system_out.as_ref().unwrap().as_str();
    assert!(out.contains(shown) && out.ends_with("\nend"), "{out}");
    let TestCaseStatus::NonSuccess {
        kind,
        message,
        description,
        ..
    } = &case.status
    else {
        panic!("{case:?}");
    };
    assert_eq!(*kind, NonSuccessKind::Error);
    for words in [message, description] {
        let words = words.as_ref().unwrap().as_str();
        assert!(words.contains(shown), "{words}");
    }
}
