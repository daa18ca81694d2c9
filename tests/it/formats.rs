//! What a run writes: its JSON Schemas are current, and what is written follows them.
//!
//! The Docker ring holds the files of each of its runs against the schemas as well.

use std::path::Path;
use std::time::Duration;

use agent_run::event::{
    AgentReport, AgentUsage, ArtifactFile, ArtifactsReport, BranchReport, BranchResult, Budget,
    Event, EventKind, FileStat, HostUse, PhaseTime, PublishedPort, RunSummary, StopReason,
    TaskEgress, TaskOutcome, TaskPhase, TaskReport, Usage, VerifyReport, Versioned, events_schema,
    result_schema,
};
use agent_run::id::CellValue;
use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};

/// Expects that a file of `schema/` is what the types say;
/// `AGENT_RUN_BLESS=1 cargo nextest run -E 'test(schema) + test(formats)'` writes it.
pub fn is_current(name: &str, schema: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("schema")
        .join(name);
    let current = format!("{}\n", serde_json::to_string_pretty(schema).unwrap());
    if asked_to_bless() {
        std::fs::write(&path, &current).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        held == current,
        "{} is stale: run this test with AGENT_RUN_BLESS=1",
        path.display()
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "a switch of the test, not of the product"
)]
fn asked_to_bless() -> bool {
    std::env::var_os("AGENT_RUN_BLESS").is_some()
}

/// Says how values differ from a schema.
pub struct Validator(Schemas, SchemaIndex);

impl Validator {
    pub fn new(schema: Value) -> Self {
        let mut compiler = Compiler::new();
        compiler.enable_format_assertions();
        compiler.add_resource("of.json", schema).unwrap();
        let mut schemas = Schemas::new();
        let index = compiler.compile("of.json", &mut schemas).unwrap();
        Self(schemas, index)
    }

    #[track_caller]
    pub fn expect_valid(&self, value: &Value) {
        if let Err(error) = self.0.validate(value, self.1) {
            panic!("{error:#}\nin {value:#}");
        }
    }

    fn refuses(&self, value: &Value) -> bool {
        self.0.validate(value, self.1).is_err()
    }
}

#[test]
fn the_schemas_of_events_and_results_are_current() {
    is_current("agent-run-events.v1.json", &events_schema());
    is_current("agent-run-result.v1.json", &result_schema());
}

fn budget() -> Budget {
    Budget {
        tokens: Some(1000),
        micro_usd: Some(500_000),
    }
}

fn outcomes() -> Vec<TaskOutcome> {
    let infra = TaskOutcome::Infra {
        stage: "image".into(),
        message: "none".into(),
    };
    let skipped = TaskOutcome::Skipped {
        reason: "stopped".into(),
        claimed: false,
    };
    vec![
        TaskOutcome::Succeeded,
        TaskOutcome::Failed { exit_code: 3 },
        TaskOutcome::OutOfMemory,
        TaskOutcome::OutOfDisk { used_bytes: 7 },
        TaskOutcome::OutOfBudget {
            used: agent_usage(),
            budget: budget(),
        },
        TaskOutcome::TimedOut,
        TaskOutcome::Killed { signal: 9 },
        TaskOutcome::VerifyFailed {
            cause: Box::new(TaskOutcome::Failed { exit_code: 1 }),
        },
        TaskOutcome::Cancelled,
        skipped,
        infra,
    ]
}

fn results() -> Vec<BranchResult> {
    let branch = || "agent/x".parse().unwrap();
    let commit = || "a".repeat(40).parse().unwrap();
    vec![
        BranchResult::Created {
            branch: branch(),
            commit: commit(),
        },
        BranchResult::NoChange,
        BranchResult::Rejected {
            check: "size".into(),
            detail: "too large".into(),
            path: "/x".into(),
        },
        BranchResult::Taken {
            branch: branch(),
            commit: commit(),
            kept_ref: "refs/x".into(),
        },
        BranchResult::SetAside {
            commit: commit(),
            kept_ref: "refs/z".into(),
        },
        BranchResult::Kept {
            path: "/x".into(),
            reason: "why".into(),
        },
    ]
}

fn usage() -> Usage {
    Usage {
        after: Duration::from_millis(2500),
        cpu: Duration::from_millis(1234),
        memory: 1,
        peak_memory: 2,
        received: 3,
        sent: 4,
    }
}

fn port() -> PublishedPort {
    PublishedPort {
        port: 3000,
        address: "127.0.0.1".parse().unwrap(),
        host_port: 40_000,
    }
}

fn agent_usage() -> AgentUsage {
    AgentUsage {
        turns: Some(3),
        tokens: Some(330),
        micro_usd: Some(1800),
    }
}

/// A report with everything in it.
fn report(outcome: TaskOutcome, result: BranchResult) -> TaskReport {
    let mut branch = BranchReport::bare(result);
    branch.diffstat = vec![FileStat {
        path: "a".into(),
        insertions: 1,
        deletions: 0,
    }];
    branch.side_refs = vec![("refs/y".into(), "a rebase".into())];
    branch.risky_paths = vec![("Makefile".into(), "is run".into())];
    branch.secret_commits = vec!["c".repeat(40).parse().unwrap()];
    TaskReport {
        task: "t".parse().unwrap(),
        secrets: vec!["npm_token".into()],
        attempt: 1,
        outcome,
        base: None,
        branch: Some(branch),
        artifacts: Some(ArtifactsReport {
            files: 1,
            copied: vec![ArtifactFile {
                path: "a".into(),
                bytes: 1,
            }],
            skipped: 1,
            skipped_paths: vec![("b".into(), "is a symbolic link".into())],
            incomplete: Some("why".into()),
            ..ArtifactsReport::default()
        }),
        agent: Some(AgentReport {
            name: "codex".into(),
            version: Some("1.2.3".into()),
            used: agent_usage(),
            retry_after_ms: Some(30_000),
            transcript: Some("/transcript.jsonl".into()),
        }),
        ran: Duration::from_secs(61),
        phases: vec![PhaseTime {
            phase: TaskPhase::Waiting,
            took: Duration::from_millis(5),
        }],
        ports: vec![port()],
        usage: Some(usage()),
        image: Some("sha256:0".into()),
        image_digest: Some("acme@sha256:1".into()),
        child_oom_killed: false,
        log: Some("/log".into()),
        verify: Some(VerifyReport {
            commit: "b".repeat(40).parse().unwrap(),
            ran: Duration::from_millis(700),
            usage: Some(usage()),
            image: Some("sha256:2".into()),
            image_digest: None,
            log: Some("/verify.log".into()),
        }),
        last_lines: vec!["last".into()],
        teardown_errors: Vec::new(),
        earlier_attempts: Vec::new(),
        allow_failure: true,
        matrix: [("model".to_owned(), CellValue::Text("small".into()))].into(),
    }
}

fn summary(tasks: Vec<TaskReport>) -> RunSummary {
    RunSummary {
        run: "261120-101500-abcd".parse().unwrap(),
        tasks,
        stopped: Some(StopReason::Interrupted),
        took: Duration::from_millis(90_061),
        agents: Some(agent_usage()),
        egress: vec![TaskEgress {
            task: "a".parse().expect("an id"),
            hosts: vec![HostUse {
                host: "example.com".into(),
                port: 443,
                passed: 1,
                denied: 0,
            }],
            others: 2,
        }],
        forecast: None,
        teardown_errors: vec!["network".into()],
        directory: "/runs/x".into(),
    }
}

fn written(content: impl serde::Serialize) -> Value {
    serde_json::to_value(Versioned::new(content)).unwrap()
}

#[test]
fn a_result_follows_its_schema_and_is_read_again() {
    let validator = Validator::new(result_schema());
    let ends = outcomes().into_iter();
    let mut tasks: Vec<_> = ends.map(|o| report(o, BranchResult::NoChange)).collect();
    tasks.extend(
        results()
            .into_iter()
            .map(|r| report(TaskOutcome::Succeeded, r)),
    );
    tasks[0].branch = None;
    tasks[0].usage = None;
    tasks[2].earlier_attempts = vec![tasks[1].clone()];
    let summary = summary(tasks);
    let value = written(&summary);
    validator.expect_valid(&value);
    assert_eq!(value["version"], 1);
    assert_eq!(value["took_ms"], 90_061);
    assert_eq!(value["tasks"][1]["ran_ms"], 61_000);
    assert_eq!(
        value["tasks"][1]["usage"],
        json!({
            "after_ms": 2500, "cpu_ms": 1234, "memory_bytes": 1, "peak_memory_bytes": 2,
            "received_bytes": 3, "sent_bytes": 4,
        })
    );
    let read: RunSummary = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(read, summary);
    for (pointer, wrong) in [
        ("/version", json!(2)),
        ("/took_ms", json!({"secs": 1, "nanos": 0})),
        ("/tasks/1/outcome/outcome", json!("exploded")),
        ("/tasks/1/usage/cpu_ms", json!("1 s")),
    ] {
        let mut value = value.clone();
        *value.pointer_mut(pointer).unwrap() = wrong;
        assert!(validator.refuses(&value), "{pointer}");
    }
}

#[test]
fn every_event_follows_its_schema_and_is_read_again() {
    let validator = Validator::new(events_schema());
    let whole = TaskReport {
        usage: None,
        ..report(TaskOutcome::OutOfMemory, BranchResult::NoChange)
    };
    let kinds = [
        EventKind::RunStarted {
            run: "261120-101500-abcd".parse().unwrap(),
            tasks: 3,
            parallel: 2,
        },
        EventKind::Phase {
            phase: TaskPhase::Running,
        },
        EventKind::Image {
            image: "acme".into(),
            status: "ready".into(),
        },
        EventKind::Setup {
            status: "runs".into(),
            log: "/state/logs/setup-0123.log".into(),
        },
        EventKind::Warning {
            message: "careful".into(),
        },
        EventKind::Usage { usage: usage() },
        EventKind::Slow,
        EventKind::Ports {
            ports: vec![port()],
        },
        EventKind::Answers { port: port() },
        EventKind::OutOfDisk {
            used_bytes: 11 << 30,
        },
        EventKind::OutOfBudget {
            used: agent_usage(),
            budget: budget(),
        },
        EventKind::Retry {
            report: Box::new(whole.clone()),
            wait: Duration::from_secs(30),
            goes_on: true,
        },
        EventKind::Stopping {
            reason: StopReason::TimedOut,
            forced: false,
        },
        EventKind::TaskFinished {
            report: Box::new(whole.clone()),
        },
        EventKind::RunFinished {
            summary: summary(vec![whole]),
        },
    ];
    for (seq, kind) in (0..).zip(kinds) {
        let event = Event {
            seq,
            at: "2026-11-20T10:15:00.123Z".into(),
            elapsed_ms: 17,
            task: (seq % 2 == 0).then(|| "t".parse().unwrap()),
            kind,
        };
        let mut value = written(&event);
        validator.expect_valid(&value);
        assert_eq!(value["version"], 1);
        assert_eq!(
            serde_json::from_value::<Event>(value.clone()).unwrap(),
            event
        );
        value["at"] = json!("yesterday");
        assert!(validator.refuses(&value), "{event:?}");
        value = written(&event);
        value["kind"]["type"] = json!("unheard_of");
        assert!(validator.refuses(&value), "{event:?}");
    }
}

/// The blocks of JSON in a document.
fn blocks(document: &str) -> Vec<&str> {
    let parts = document.split("```json\n").skip(1);
    parts
        .map(|part| part.split("```").next().unwrap())
        .collect()
}

#[test]
fn the_examples_of_the_documentation_follow_the_schemas() {
    let [events, result] = blocks(include_str!("../../docs/results.md"))[..] else {
        panic!("two examples");
    };
    let validator = Validator::new(events_schema());
    for line in events.lines() {
        validator.expect_valid(&serde_json::from_str(line).unwrap());
    }
    let result: Value = serde_json::from_str(result).unwrap();
    Validator::new(result_schema()).expect_valid(&result);
    // An example that lacks a field or has one too many is not what is written.
    let read: RunSummary = serde_json::from_value(result.clone()).unwrap();
    assert_eq!(written(&read), result);
}
