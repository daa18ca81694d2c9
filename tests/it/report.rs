//! What a run says at its end, for every way in which a task can end.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use agent_run::event::{
    ArtifactsReport, BranchReport, BranchResult, FileStat, RunSummary, StopReason, TaskOutcome,
    TaskReport, Usage,
};
use agent_run::report::{Hints, Limit, Limits, Paint, summary};
use insta::assert_snapshot;

fn task(id: &str, outcome: TaskOutcome, branch: Option<BranchReport>) -> TaskReport {
    TaskReport {
        attempt: 1,
        branch,
        ran: Duration::from_millis(61_300),
        ..TaskReport::bare(id.parse().unwrap(), outcome)
    }
}

fn created(id: &str, files: u64) -> BranchReport {
    let result = BranchResult::Created {
        branch: format!("agent/261120-101500-abcd/{id}").parse().unwrap(),
        commit: "a".repeat(40).parse().unwrap(),
    };
    let stat = |n| FileStat {
        path: format!("src/{n}.rs"),
        insertions: n,
        deletions: 0,
    };
    BranchReport {
        commits: 1,
        files,
        insertions: 3,
        deletions: 2,
        diffstat: (0..files.min(8)).map(stat).collect(),
        ..BranchReport::bare(result)
    }
}

fn show(tasks: Vec<TaskReport>) -> String {
    show_stopped(tasks, None)
}

fn show_stopped(tasks: Vec<TaskReport>, stopped: Option<StopReason>) -> String {
    let limits = Limits {
        mem_limit: Limit {
            value: "2g".into(),
            place: Some("agent-run.yaml:12".into()),
        },
        disk_limit: Limit {
            value: "10g".into(),
            place: Some("agent-run.yaml:14".into()),
        },
        timeout: Limit {
            value: "1h".into(),
            place: None,
        },
        verify_timeout: None,
        slow_after: "30m".into(),
    };
    let hints = Hints {
        base: "main".into(),
        limits: HashMap::from([
            ("big".parse().unwrap(), limits.clone()),
            ("full".parse().unwrap(), limits.clone()),
            ("slow".parse().unwrap(), limits.clone()),
            ("child".parse().unwrap(), limits),
        ]),
        previews: HashSet::new(),
    };
    let run = RunSummary {
        run: "261120-101500-abcd".parse().unwrap(),
        tasks,
        stopped,
        took: Duration::from_secs(3700),
        agents: None,
        egress: Vec::new(),
        forecast: None,
        teardown_errors: vec!["network n".into()],
        directory: "/state/runs/261120-101500-abcd".into(),
    };
    summary(&run, &hints, Paint { color: false })
}

#[test]
fn every_ending() {
    let no_change = || Some(BranchReport::bare(BranchResult::NoChange));
    let mut failed = task(
        "failed",
        TaskOutcome::Failed { exit_code: 3 },
        Some(created("failed", 1)),
    );
    failed.log = Some("/state/logs/failed.1.log".into());
    failed.last_lines = vec!["\u{1b}[31mred\u{1b}[0m".into()];
    let mut good = created("good", 7);
    good.risky_paths = vec![("Makefile".into(), "is run".into())];
    good.side_refs = vec![("refs/agent-run/x".into(), "a rebase".into())];
    let mut child = task("child", TaskOutcome::Succeeded, no_change());
    child.child_oom_killed = true;
    child.teardown_errors = vec!["container c".into()];
    let mut nested = BranchReport::bare(BranchResult::NoChange);
    nested.notes = vec!["a nested repository".into()];
    let rejected = BranchReport::bare(BranchResult::Rejected {
        check: "size".into(),
        detail: "too large".into(),
        path: "/state/tasks/r".into(),
    });
    let infra = TaskOutcome::Infra {
        stage: "image".into(),
        message: "no such image".into(),
    };
    let skipped = TaskOutcome::Skipped {
        reason: "the run was stopped".into(),
        claimed: false,
    };
    let out_of_disk = TaskOutcome::OutOfDisk {
        used_bytes: 11 << 30,
    };
    assert_snapshot!(show(vec![
        failed,
        task("good", TaskOutcome::Succeeded, Some(good)),
        child,
        task("nested", TaskOutcome::Succeeded, Some(nested)),
        task("big", TaskOutcome::OutOfMemory, no_change()),
        task("full", out_of_disk, no_change()),
        task("slow", TaskOutcome::TimedOut, no_change()),
        task("killed", TaskOutcome::Killed { signal: 11 }, None),
        task("rejected", TaskOutcome::Succeeded, Some(rejected)),
        task("image", infra, None),
        task("stopped", TaskOutcome::Cancelled, no_change()),
        task("waited", skipped, None),
    ]), @"
    ────────────────────────────────────────────────────────────
    Branches
      agent/261120-101500-abcd/failed  1 commit, 1 file, +3 −2  (unfinished)
        src/0.rs  +0 −0
      agent/261120-101500-abcd/good  1 commit, 7 files, +3 −2
        src/0.rs  +0 −0
        src/1.rs  +1 −0
        src/2.rs  +2 −0
        src/3.rs  +3 −0
        src/4.rs  +4 −0
        and 2 more files
        look at Makefile: is run
        also refs/agent-run/x: a rebase
      nested  no change
        note a nested repository

         Summary [  1h01m] 12 tasks: 3 passed, 7 failed, 1 cancelled, 1 skipped
            PASS [  1m01s] good: 1 commit, 7 files, +3 −2
            PASS [  1m01s] child: no change
            PASS [  1m01s] nested: no change
            SKIP           waited: the run was stopped
            FAIL [  1m01s] failed: exit code 3
                 work  agent/261120-101500-abcd/failed  1 commit, 1 file, +3 −2
                 log   /state/logs/failed.1.log
                 | red
                 next  agent-run show failed
                       agent-run logs failed
             OOM [  1m01s] big: ran out of memory (mem_limit: 2g, agent-run.yaml:12)
                 work  no change
                 next  agent-run show big
            DISK [  1m01s] full: used 11g of disk (disk_limit: 10g, agent-run.yaml:14)
                 work  no change
                 next  agent-run show full
         TIMEOUT [  1m01s] slow: ran past its time (timeout: 1h, the default)
                 work  no change
                 next  agent-run show slow
          KILLED [  1m01s] killed: killed by signal 11
                 next  agent-run show killed
          REJECT [  1m01s] rejected
                 work  rejected (size: too large), kept in /state/tasks/r
                 next  agent-run show rejected
           INFRA [  1m01s] image: image: no such image
                 next  agent-run show image
          CANCEL [  1m01s] stopped: the run was stopped
                 work  no change
                 next  agent-run show stopped
    warning: child: one of its processes was killed, out of memory (mem_limit: 2g, agent-run.yaml:12)
    warning: child: not removed: container c
    warning: not removed: network n

    Next
      git log -p main..agent/261120-101500-abcd/good
      git merge agent/261120-101500-abcd/good
      logs and results: /state/runs/261120-101500-abcd
    ");
}

#[test]
fn a_failure_that_is_allowed_is_told_as_one() {
    let allowed = |id, outcome| TaskReport {
        allow_failure: true,
        ..task(
            id,
            outcome,
            Some(BranchReport::bare(BranchResult::NoChange)),
        )
    };
    let reason = "no need for it".into();
    let text = show(vec![
        allowed("good", TaskOutcome::Succeeded),
        allowed("failed", TaskOutcome::Failed { exit_code: 3 }),
        allowed("slow", TaskOutcome::TimedOut),
        allowed(
            "waited",
            TaskOutcome::Skipped {
                reason,
                claimed: false,
            },
        ),
    ]);
    for line in [
        " 4 tasks: 1 passed, 2 failed (allowed), 1 skipped\n",
        " good: no change\n",
        " failed: exit code 3, allowed to fail\n",
        " slow: ran past its time (timeout: 1h, the default), allowed to fail\n",
        " waited: no need for it\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[test]
fn nothing_but_failures_gives_nothing_to_merge() {
    let failed = TaskOutcome::Failed { exit_code: 1 };
    let text = show(vec![task("a", failed, Some(created("a", 1)))]);
    assert!(text.contains("git log -p main..agent/"), "{text}");
    assert!(!text.contains("git merge"), "{text}");
}

#[test]
fn a_failure_tells_how_much_memory_was_seen_in_use() {
    let mut big = task("big", TaskOutcome::OutOfMemory, None);
    big.usage = Some(Usage {
        after: Duration::from_millis(2500),
        peak_memory: 2_040_109_466,
        ..Usage::default()
    });
    let text = show(vec![big]);
    let peak = "big: ran out of memory (mem_limit: 2g, agent-run.yaml:12)\n             \
                peak  1.9g of 2g memory, measured after 2.5s\n";
    assert!(text.contains(peak), "{text}");
}

#[test]
fn what_was_stopped_by_hand_is_told_in_few_lines() {
    let mut cancelled = task(
        "stopped",
        TaskOutcome::Cancelled,
        Some(created("stopped", 1)),
    );
    cancelled.last_lines = vec!["half-way".into()];
    let by_hand = show_stopped(vec![cancelled.clone()], Some(StopReason::Interrupted));
    assert!(!by_hand.contains("half-way"), "{by_hand}");
    assert!(by_hand.contains("work  agent/"), "{by_hand}");
    let by_time = show_stopped(vec![cancelled], Some(StopReason::TimedOut));
    assert!(by_time.contains("half-way"), "{by_time}");
}

#[test]
fn tasks_that_never_began_are_told_of_together() {
    let skipped = |n: u32| {
        let reason = if n == 1 {
            "b failed"
        } else {
            "the run stopped"
        };
        let outcome = TaskOutcome::Skipped {
            reason: reason.into(),
            claimed: false,
        };
        task(&format!("t{n}"), outcome, None)
    };
    let text = show((0..20).map(skipped).collect());
    let told: Vec<&str> = text.lines().filter(|l| l.contains("SKIP")).collect();
    assert_eq!(
        told,
        [
            "        SKIP           t0, t2, t3, t4, t5, t6, t7, t8 and 11 more: the run stopped",
            "        SKIP           t1: b failed",
        ]
    );
}

#[test]
fn artifacts_are_told_with_the_first_that_were_skipped() {
    let link = |n| (format!("l{n}"), "is a symbolic link".to_owned());
    let mut good = task("good", TaskOutcome::Succeeded, Some(created("good", 1)));
    good.artifacts = Some(ArtifactsReport {
        directory: "/state/runs/261120-101500-abcd/artifacts/good/1".into(),
        files: 3,
        bytes: 1536,
        ..ArtifactsReport::default()
    });
    let failed = TaskOutcome::Failed { exit_code: 3 };
    let mut failed = task("failed", failed, Some(created("failed", 1)));
    failed.artifacts = Some(ArtifactsReport {
        skipped: 7,
        skipped_paths: (0..7).map(link).collect(),
        incomplete: Some("there are more than 10 files".into()),
        ..ArtifactsReport::default()
    });
    let text = show(vec![good, failed]);
    let (_, text) = text.split_once("Summary ").unwrap();
    let lines: Vec<&str> = text.lines().filter(|l| l.contains("artifact")).collect();
    assert_eq!(
        lines,
        [
            "             artifacts  3 files, 1.5k in artifacts/good/1",
            "             artifacts  no files; 7 skipped; incomplete: there are more than 10 files",
        ]
    );
    assert_eq!(text.matches("skipped l").count(), 5, "{text}");
}
