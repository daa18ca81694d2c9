//! `verify` and `feedback`: what is checked, where and with what; what its end makes of the task; calls
//! that fail in it; and agent-run killed at every record of the journal around it.
#![expect(
    clippy::disallowed_methods,
    reason = "the person who interrupts is a task of his own"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_run::engine::config::ContainerConfig;
use agent_run::engine::{ErrorKind, Operation};
use agent_run::event::{BranchResult, EventKind, StopReason, TaskOutcome, TaskPhase, TaskReport};
use agent_run::runner::Shutdown;

use super::killed::killed_at;
use super::scene::{Scene, Seen, commits, nothing_changed, report, variable};
use crate::fake::{Fault, Script, host_path};

const ONE: &str = "version: 1\ntasks:\n  a: { run: x, verify: test }\n";

/// A scene whose task commits a file, and whose check ends so.
fn scene(check: Script) -> Scene {
    let scene = Scene::new();
    let work = Script::exits(0).on_exit(commits(&scene, "work", "1\n"));
    scene.engine.script("task/a", work);
    scene.engine.script("verify/a", check);
    scene
}

fn not_passed(cause: TaskOutcome) -> TaskOutcome {
    TaskOutcome::VerifyFailed {
        cause: Box::new(cause),
    }
}

fn failed(exit_code: i64) -> TaskOutcome {
    TaskOutcome::Failed { exit_code }
}

/// The branch of a task's work, which is in the repository.
fn branch(scene: &Scene, report: &TaskReport) -> String {
    let result = report.branch.as_ref().map(|branch| &branch.result);
    let Some(BranchResult::Created { branch, commit }) = result else {
        panic!("no branch: {report:#?}");
    };
    let tip = scene.git(&["rev-parse", &branch.full_ref()]);
    assert_eq!(tip.trim(), commit.as_str());
    branch.to_string()
}

/// The subjects of the commits of a branch on top of the base, oldest first.
fn subjects(scene: &Scene, branch: &str) -> Vec<String> {
    let range = format!("main..{branch}");
    let said = scene.git(&["log", "--reverse", "--format=%s", &range]);
    said.lines().map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn the_result_is_checked_in_a_place_of_its_own_and_the_check_changes_nothing() {
    let seen = Arc::new(Mutex::new(None));
    let looked = seen.clone();
    let check = Script::exits(0)
        .prints("all is well\n")
        .on_start(move |config| {
            let place = host_path(config, "/workspace");
            assert_eq!(std::fs::read_to_string(place.join("work")).unwrap(), "1\n");
            std::fs::write(place.join("work"), "spoilt").unwrap();
            std::fs::write(place.join("new"), "litter").unwrap();
            *looked.lock().unwrap() = Some(config.clone());
        });
    let scene = scene(check);
    let mut events = Seen::default();
    let summary = scene.observed(ONE, &mut events).await.unwrap();
    let a = report(&summary, "a");
    assert!(a.is_good(), "{a:#?}");
    let branch = branch(&scene, a);
    assert_eq!(scene.git(&["show", &format!("{branch}:work")]), "1");
    assert_eq!(subjects(&scene, &branch), ["work"]);
    let verify = a.verify.as_ref().unwrap();
    let tip = scene.git(&["rev-parse", &branch]);
    assert_eq!(verify.commit.as_str(), tip.trim());
    let log = scene.state().logs(&scene.run).join("a.1.verify.log");
    assert_eq!(verify.log.as_ref(), Some(&log));
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.contains("all is well"), "{text}");
    assert!(!scene.log("a").contains("all is well"));
    assert_eq!(events.lines, ["a | all is well"]);
    let phases = a.phases.iter().map(|phase| phase.phase);
    assert_eq!(
        phases.collect::<Vec<_>>(),
        [
            TaskPhase::Waiting,
            TaskPhase::Preparing,
            TaskPhase::Running,
            TaskPhase::Collecting,
            TaskPhase::Verifying,
        ]
    );
    let config: ContainerConfig = seen.lock().unwrap().take().unwrap();
    let directory = host_path(&config, "/workspace");
    assert!(
        directory.ends_with("a/1/check/worktree"),
        "{}",
        directory.display()
    );
    let mounted = |target: &str| config.mounts.iter().any(|mount| mount.target == target);
    assert!(!mounted("/agent/handoff") && !mounted("/agent/prompt.md"));
    scene.assert_nothing_left();
}

/// What a task has that its check may need or must not have.
#[tokio::test(start_paused = true)]
async fn a_check_has_the_tasks_limits_and_environment_and_an_image_of_its_own() {
    let configs = Arc::new(Mutex::new(BTreeMap::new()));
    let keep = |role: &'static str| {
        let configs = configs.clone();
        move |config: &ContainerConfig| {
            configs.lock().unwrap().insert(role, config.clone());
        }
    };
    let scene = Scene::new();
    let work = Scene::hands_off(0).on_start(keep("task"));
    scene.engine.script("task/a", work);
    scene
        .engine
        .script("verify/a", Script::exits(0).on_start(keep("verify")));
    let yaml = "\
version: 1
tasks:
  a:
    run: x
    prompt: do it
    environment: { LEVEL: high }
    mem_limit: 300m
    network_mode: none
    read_only: true
    verify: { run: test, image: 'tester:1' }
";
    let summary = scene.run(yaml).await;
    assert!(report(&summary, "a").is_good(), "{summary:#?}");
    let configs = configs.lock().unwrap();
    let (task, check) = (&configs["task"], &configs["verify"]);
    assert_eq!(task.limits, check.limits);
    assert_eq!(task.network, check.network);
    assert_eq!(task.user, check.user);
    assert!(check.read_only);
    assert_ne!(task.image, check.image);
    assert_ne!(task.name, check.name);
    for (name, of_task, of_check) in [
        ("LEVEL", true, true),
        ("AGENT_BASE", true, true),
        ("AGENT_PROMPT", true, false),
    ] {
        assert_eq!(variable(task, name).is_some(), of_task, "{name}");
        assert_eq!(variable(check, name).is_some(), of_check, "{name}");
    }
    let script = std::fs::read_to_string(host_path(check, "/agent/script"));
    assert!(script.is_err(), "it is removed with its attempt");
    // Without a change it is the base that is checked.
    let commit = &report(&summary, "a").verify.as_ref().unwrap().commit;
    assert_eq!(commit.as_str(), scene.git(&["rev-parse", "main"]).trim());
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn each_ending_of_a_check_is_told_and_the_branch_is_there() {
    let cases = [
        (Script::exits(1).prints("no\n"), failed(1)),
        (Script::exits(127), failed(127)),
        (Script::exits(137).oom_killed(), TaskOutcome::OutOfMemory),
        (Script::exits(137), TaskOutcome::Killed { signal: 9 }),
        (Script::runs_forever(), TaskOutcome::TimedOut),
    ];
    for (check, ending) in cases {
        let scene = scene(check);
        let yaml = "version: 1\ntasks:\n  a: { run: x, verify: { run: test, timeout: 5m } }\n";
        let summary = scene.run(yaml).await;
        let a = report(&summary, "a");
        assert_eq!(a.outcome, not_passed(ending.clone()));
        assert!(!a.is_good());
        assert_eq!(subjects(&scene, &branch(&scene, a)), ["work"]);
        if ending == failed(1) {
            assert_eq!(a.last_lines, ["no"]);
        }
        if ending == TaskOutcome::TimedOut {
            let ran = a.verify.as_ref().unwrap().ran.as_secs();
            assert!((300..310).contains(&ran), "{ran}");
        }
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_fills_the_disk_is_ended() {
    let check = Script::runs_forever().writes_bytes(2 << 30);
    let scene = scene(check);
    let yaml = "version: 1\ntasks:\n  a: { run: x, disk_limit: 1g, verify: test }\n";
    let summary = scene.run(yaml).await;
    let outcome = &report(&summary, "a").outcome;
    let TaskOutcome::VerifyFailed { cause } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        matches!(**cause, TaskOutcome::OutOfDisk { .. }),
        "{cause:?}"
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_failed_is_not_checked() {
    let scene = Scene::new();
    scene.engine.script("task/a", Scene::hands_off(3));
    // No script for a check: it would panic.
    let summary = scene.run(ONE).await;
    let a = report(&summary, "a");
    assert_eq!((&a.outcome, &a.verify), (&failed(3), &None));
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn whatever_call_fails_in_a_check_the_branch_is_there() {
    let broken = || Fault::Fail(ErrorKind::Broken("the connection broke".into()));
    for operation in [
        Operation::CreateContainer,
        Operation::Attach,
        Operation::Start,
        Operation::Wait,
    ] {
        for (fault, is_done) in [
            (broken(), false),
            (Fault::DoneBut(ErrorKind::Timeout), true),
        ] {
            // What has started is waited for.
            let passes = operation == Operation::Start && is_done;
            let scene = scene(Script::exits(0));
            scene.engine.fault("verify/a", operation, fault);
            let summary = scene.run(ONE).await;
            let a = report(&summary, "a");
            let hit = matches!(&a.outcome, TaskOutcome::Infra { stage, .. } if stage == "verify");
            assert_eq!(hit, !passes, "{operation:?}: {:?}", a.outcome);
            assert_eq!(a.outcome == TaskOutcome::Succeeded, passes);
            assert_eq!(subjects(&scene, &branch(&scene, a)), ["work"]);
            scene.assert_nothing_left();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_that_a_check_cannot_have_is_infra_of_the_check() {
    let scene = scene(Script::exits(0));
    let gone = Fault::Fail(ErrorKind::ImageUnavailable("no".into()));
    scene.engine.fault("gone:1", Operation::EnsureImage, gone);
    let yaml = "version: 1\ntasks:\n  a: { run: x, verify: { run: test, image: 'gone:1' } }\n";
    let summary = scene.run(yaml).await;
    let a = report(&summary, "a");
    let TaskOutcome::Infra { stage, message } = &a.outcome else {
        panic!("{a:?}");
    };
    assert_eq!(stage, "verify");
    assert!(message.starts_with("image: "), "{message}");
    branch(&scene, a);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_where_the_engine_does_ends_by_its_time() {
    let scene = scene(Script::exits(0));
    scene.engine.fault("verify/a", Operation::Wait, Fault::Hang);
    let summary = scene.run(ONE).await;
    let a = report(&summary, "a");
    let hit = matches!(&a.outcome, TaskOutcome::Infra { stage, .. } if stage == "verify");
    assert!(hit, "{:?}", a.outcome);
    branch(&scene, a);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_ends_a_check_and_the_work_is_there() {
    for (how, is_named) in [
        (Shutdown::Graceful(StopReason::Interrupted), true),
        (Shutdown::Forced(StopReason::Interrupted), false),
    ] {
        let scene = scene(Script::runs_forever());
        let shutdown = scene.shutdown.clone();
        let interrupt = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            shutdown.send_replace(how);
        });
        let summary = scene.run(ONE).await;
        interrupt.await.unwrap();
        let a = report(&summary, "a");
        assert_eq!(a.outcome, TaskOutcome::Cancelled);
        scene.engine.assert_no_leaks();
        if is_named {
            assert_eq!(subjects(&scene, &branch(&scene, a)), ["work"]);
            scene.assert_nothing_left();
        } else {
            let result = &a.branch.as_ref().unwrap().result;
            let BranchResult::SetAside { kept_ref, .. } = result else {
                panic!("{result:?}");
            };
            assert_eq!(subjects(&scene, kept_ref), ["work"]);
        }
    }
}

/// The attempt that a container is of.
fn attempt_of(config: &ContainerConfig) -> u32 {
    variable(config, "AGENT_ATTEMPT").unwrap().parse().unwrap()
}

/// A scene whose task commits a file of its own in each attempt and notes what it was told, and whose
/// check passes from attempt `good` on.
fn with_feedback(good: u32) -> (Scene, Arc<Mutex<Vec<Option<String>>>>) {
    let scene = Scene::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = told.clone();
    for number in 1..10 {
        let noted = noted.clone();
        let work = Script::exits(0)
            .on_start(move |config| {
                let file = variable(config, "AGENT_FEEDBACK");
                let text = file.map(|file| std::fs::read_to_string(host_path(config, &file)));
                noted.lock().unwrap().push(text.map(Result::unwrap));
            })
            .on_exit(commits(&scene, &format!("work-{number}"), "x\n"));
        let name = format!("agent-run-{}-{number}-a", scene.run);
        scene.engine.script(&name, work);
        let code = i64::from(number < good);
        let check = Script::exits(code)
            .prints(&format!("check {number}\n"))
            .on_start(move |config| {
                assert_eq!(attempt_of(config), number);
                for earlier in 1..=number {
                    let file = format!("/workspace/work-{earlier}");
                    assert!(host_path(config, &file).exists(), "{file}");
                }
            });
        let name = format!("agent-run-{}-{number}-verify-a", scene.run);
        scene.engine.script(&name, check);
    }
    (scene, told)
}

#[tokio::test(start_paused = true)]
async fn feedback_goes_on_from_the_result_and_tells_why_it_did_not_pass() {
    let (scene, told) = with_feedback(3);
    let yaml = "version: 1\ntasks:\n  a: { run: x, verify: test, feedback: 5 }\n";
    let mut seen = Seen::default();
    let summary = scene.observed(yaml, &mut seen).await.unwrap();
    let a = report(&summary, "a");
    assert!(a.is_good() && a.attempt == 3, "{a:#?}");
    let earlier = a.earlier_attempts.iter().map(|e| e.outcome.clone());
    assert_eq!(
        earlier.collect::<Vec<_>>(),
        [not_passed(failed(1)), not_passed(failed(1))]
    );
    let subjects = subjects(&scene, &branch(&scene, a));
    assert_eq!(subjects, ["work-1", "work-2", "work-3"]);
    let counted = a.branch.as_ref().unwrap();
    assert_eq!((counted.commits, counted.files), (3, 3));
    let told = told.lock().unwrap().clone();
    let head = |number: u32| {
        format!(
            "agent-run: the result of attempt {number} did not pass verify: exit code 1.\nIts output:\n\ncheck {number}\n"
        )
    };
    assert_eq!(told, [None, Some(head(1)), Some(head(2))]);
    let retries = seen.events.iter().filter_map(|event| match &event.kind {
        EventKind::Retry { goes_on, wait, .. } => Some((*goes_on, wait.as_secs())),
        _ => None,
    });
    assert_eq!(retries.collect::<Vec<_>>(), [(true, 0), (true, 0)]);
    let kept = ["1", "2"].map(|n| format!("refs/agent-run/attempts/{}/a/{n}/0", scene.run));
    let refs = scene.git(&["for-each-ref", "--format=%(refname)", "refs/agent-run"]);
    assert_eq!(refs.lines().collect::<Vec<_>>(), kept);
}

#[tokio::test(start_paused = true)]
async fn where_no_feedback_helps_the_branch_has_all_that_was_done() {
    let (scene, _) = with_feedback(9);
    let yaml = "version: 1\ntasks:\n  a: { run: x, verify: test, feedback: 1 }\n";
    let summary = scene.run(yaml).await;
    let a = report(&summary, "a");
    assert_eq!((a.attempt, &a.outcome), (2, &not_passed(failed(1))));
    assert_eq!(subjects(&scene, &branch(&scene, a)), ["work-1", "work-2"]);
}

#[tokio::test(start_paused = true)]
async fn retry_and_feedback_each_have_their_number() {
    let (scene, told) = with_feedback(4);
    // The second attempt goes on from the first, fails, and is made again from there.
    let second = format!("agent-run-{}-2-a", scene.run);
    scene.engine.script(&second, Scene::hands_off(7));
    let third = format!("agent-run-{}-3-verify-a", scene.run);
    scene
        .engine
        .script(&third, Script::exits(1).prints("third\n"));
    let fourth = format!("agent-run-{}-4-verify-a", scene.run);
    scene.engine.script(&fourth, Script::exits(0));
    let yaml = "version: 1\ntasks:\n  a: { run: x, verify: test, feedback: 2, retry: { max: 1, when: exit_code } }\n";
    let summary = scene.run(yaml).await;
    let a = report(&summary, "a");
    assert!(a.is_good() && a.attempt == 4, "{a:#?}");
    assert_eq!(a.earlier_attempts[1].outcome, failed(7));
    let subjects = subjects(&scene, &branch(&scene, a));
    assert_eq!(subjects, ["work-1", "work-3", "work-4"]);
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 3);
    assert!(told[1].as_ref().unwrap().contains("attempt 1"), "{told:?}");
    assert!(told[2].as_ref().unwrap().contains("attempt 3"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn without_feedback_a_failed_check_is_tried_again_from_the_base_if_that_is_asked() {
    for (when, again) in [
        ("any", true),
        ("verify_failure", true),
        ("exit_code", false),
    ] {
        let scene = scene(Script::exits(1));
        let first = format!("agent-run-{}-2-verify-a", scene.run);
        scene.engine.script(&first, Script::exits(0));
        let yaml = format!(
            "version: 1\ntasks:\n  a: {{ run: x, verify: test, retry: {{ when: {when} }} }}\n"
        );
        let summary = scene.run(&yaml).await;
        let a = report(&summary, "a");
        assert_eq!(a.is_good(), again, "{when}: {a:#?}");
        assert_eq!(subjects(&scene, &branch(&scene, a)), ["work"]);
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_further_attempt_never_begins_the_branch_is_what_it_was_to_go_on_from() {
    let (scene, _) = with_feedback(9);
    let second = format!("agent-run-{}-2-a", scene.run);
    let broken = Fault::Fail(ErrorKind::Broken("the connection broke".into()));
    scene
        .engine
        .fault(&second, Operation::CreateContainer, broken);
    let yaml = "version: 1\ntasks:\n  a: { run: x, verify: test, feedback: 1 }\n";
    let summary = scene.run(yaml).await;
    let a = report(&summary, "a");
    assert!(matches!(a.outcome, TaskOutcome::Infra { .. }), "{a:#?}");
    assert_eq!(subjects(&scene, &branch(&scene, a)), ["work-1"]);
    assert_eq!(a.earlier_attempts[0].branch, a.branch);
    scene.assert_nothing_left();
}

const KILLED: &str = "version: 1\nmax_parallel: 1\ntasks:\n  a: { run: x, verify: test, feedback: 1 }\n  b: { run: x, verify: test }\n";
/// Shorter than the time after which a task is measured first.
const LIFE: Duration = Duration::from_millis(40);

/// A scene whose first task passes at its second attempt, and whose second does not pass; with how
/// often each container was started.
fn to_be_killed() -> (Scene, Arc<Mutex<BTreeMap<String, u32>>>) {
    let scene = Scene::new();
    let starts = Arc::new(Mutex::new(BTreeMap::new()));
    let count = |script: Script| {
        let starts = starts.clone();
        script.on_start(move |config| {
            *starts
                .lock()
                .unwrap()
                .entry(config.name.clone())
                .or_default() += 1;
        })
    };
    for (task, number, code) in [("a", 1, 1), ("a", 2, 0), ("b", 1, 1)] {
        let work = commits(&scene, &format!("work-{number}"), "x\n");
        let work = Script::exits(0).after(LIFE).on_exit(work);
        let name = format!("agent-run-{}-{number}-{task}", scene.run);
        scene.engine.script(&name, count(work));
        let name = format!("agent-run-{}-{number}-verify-{task}", scene.run);
        let check = count(Script::exits(code).after(LIFE).prints("checked\n"));
        scene.engine.script(&name, check);
    }
    (scene, starts)
}

async fn events_of_a_whole_run() -> usize {
    let (scene, _) = to_be_killed();
    let events = killed_at((&scene, KILLED), usize::MAX).await;
    assert!(events > 15, "{events}");
    events
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_record_a_run_that_is_resumed_checks_what_was_not_checked() {
    for at in 1..=events_of_a_whole_run().await {
        let (scene, starts) = to_be_killed();
        killed_at((&scene, KILLED), at).await;
        let mut seen = Seen::default();
        let summary = scene.resumed(KILLED, &mut seen).await.unwrap();
        let (a, b) = (report(&summary, "a"), report(&summary, "b"));
        assert!(a.is_good() && a.attempt == 2, "killed at {at}: {a:#?}");
        assert_eq!(b.outcome, not_passed(failed(1)), "killed at {at}");
        assert_eq!(subjects(&scene, &branch(&scene, a)), ["work-1", "work-2"]);
        assert_eq!(subjects(&scene, &branch(&scene, b)), ["work-1"]);
        scene.engine.assert_no_leaks();
        for (name, count) in &*starts.lock().unwrap() {
            // A check may run again, an agent not.
            let most = if name.contains("-verify-") { 2 } else { 1 };
            assert!((1..=most).contains(count), "killed at {at}: {name} {count}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_record_a_run_that_is_cleaned_never_passed_unchecked() {
    for at in 1..=events_of_a_whole_run().await {
        let (scene, _) = to_be_killed();
        killed_at((&scene, KILLED), at).await;
        let cleaned = scene.cleaned().await;
        assert_eq!(cleaned.problems, Vec::<String>::new(), "killed at {at}");
        scene.engine.assert_no_leaks();
        let found = agent_run::journal::FoundRun::of(&scene.state(), &scene.run).unwrap();
        for (task, progress) in found.progress().unwrap() {
            let report = progress.report.unwrap();
            let checked = report.verify.is_some();
            let passed = report.outcome == TaskOutcome::Succeeded;
            assert!(checked || !passed, "killed at {at}: {task}");
            // What has its branch is set aside no more.
            let result = report.branch.as_ref().map(|branch| &branch.result);
            if let Some(BranchResult::Created { .. }) = result {
                branch(&scene, &report);
                let own = format!("refs/agent-run/attempts/{}/b", scene.run);
                let refs = scene.git(&["for-each-ref", &own]);
                assert!(
                    task.as_str() != "b" || refs.is_empty(),
                    "killed at {at}: {refs}"
                );
            }
        }
        let again = scene.cleaned().await;
        assert!(again.is_empty(), "killed at {at}: {again:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_would_fill_the_disk_is_not_checked_out() {
    let scene = Scene::new();
    let big = "x".repeat(3 << 20);
    let work = Script::exits(0).on_exit(commits(&scene, "big", &big));
    scene.engine.script("task/a", work);
    // No script for the check: it is not started.
    let yaml = "version: 1\ntasks:\n  a: { run: x, disk_limit: 2m, verify: test }\n";
    let summary = scene.run(yaml).await;
    let a = report(&summary, "a");
    let TaskOutcome::VerifyFailed { cause } = &a.outcome else {
        panic!("{a:#?}");
    };
    assert!(
        matches!(**cause, TaskOutcome::OutOfDisk { .. }),
        "{cause:?}"
    );
    assert_eq!(subjects(&scene, &branch(&scene, a)), ["big"]);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_task_that_changed_nothing_may_go_on_too() {
    let scene = Scene::new();
    scene
        .engine
        .script("task/a", Script::exits(0).on_exit(nothing_changed));
    let second = format!("agent-run-{}-2-a", scene.run);
    let work = Script::exits(0).on_exit(commits(&scene, "work", "1\n"));
    scene.engine.script(&second, work);
    scene.engine.script("verify/a", Script::exits(1));
    let check = format!("agent-run-{}-2-verify-a", scene.run);
    scene.engine.script(&check, Script::exits(0));
    let yaml = "version: 1\ntasks:\n  a: { run: x, verify: test, feedback: 1 }\n";
    let summary = scene.run(yaml).await;
    let a = report(&summary, "a");
    assert!(a.is_good(), "{a:#?}");
    assert_eq!(subjects(&scene, &branch(&scene, a)), ["work"]);
    scene.assert_nothing_left();
}
