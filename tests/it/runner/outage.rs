//! An engine that goes away in mid-run, and calls whose outcome nobody knows: looked at, not guessed.

use std::time::Duration;

use agent_run::engine::{ErrorKind, Operation};
use agent_run::event::{BranchResult, TaskOutcome};

use super::scene::{Scene, Seen, answer_probe, nothing_changed, report};
use crate::fake::{Fault, Script};

const ONE: &str =
    "version: 1\nmax_parallel: 1\ndefaults: { timeout: 1h }\ntasks:\n  a: { run: x }\n";

fn broken() -> Fault {
    Fault::Fail(ErrorKind::Broken("the connection broke".into()))
}

fn unreachable() -> Fault {
    Fault::Fail(ErrorKind::Unreachable(vec!["connection refused".into()]))
}

/// A task of a minute whose engine goes away in mid-run: for one question, or for ever.
fn goes_away(for_ever: bool) -> Scene {
    let scene = Scene::new();
    let engine = scene.engine.clone();
    let probe = Script::exits(0).replies(|config, _| answer_probe(config));
    let probe = probe.on_exit(move |_| {
        if for_ever {
            engine.fault("task/a", Operation::Wait, unreachable());
            engine.fault("*", Operation::Info, unreachable());
        } else {
            engine.fault_once("task/a", Operation::Wait, broken());
            engine.fault_once("*", Operation::Info, unreachable());
        }
    });
    scene.engine.script("probe", probe);
    let script = Scene::hands_off(0).after(Duration::from_secs(60));
    scene.engine.script("task/a", script.prints("hello\n"));
    scene.engine.script("task/b", Scene::hands_off(0));
    scene
}

fn is_interrupted(outcome: &TaskOutcome) -> bool {
    matches!(outcome, TaskOutcome::Infra { stage, .. } if stage == "interrupted")
}

#[tokio::test(start_paused = true)]
async fn what_outlives_its_engine_ends_as_it_would() {
    let scene = goes_away(false);
    scene.engine.set_info(|info| info.keeps_containers = true);
    let summary = scene.run(ONE).await;
    assert!(report(&summary, "a").is_good(), "{summary:#?}");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn what_its_engine_has_ended_is_interrupted_and_tried_again_whatever_its_exit_code() {
    let scene = goes_away(false);
    let yaml = ONE.replace("run: x", "run: x, retry: { max: 1, when: [infra_failure] }");
    let summary = scene.run(&yaml).await;
    let a = report(&summary, "a");
    assert!(a.is_good(), "{a:#?}");
    let first = &a.earlier_attempts[0];
    assert!(is_interrupted(&first.outcome), "{first:#?}");
    let work = first.branch.as_ref().map(|branch| &branch.result);
    assert_eq!(work, Some(&BranchResult::NoChange));
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_never_comes_back_is_waited_for_once() {
    let scene = goes_away(true);
    let yaml = format!("{ONE}  b: {{ run: x }}\n");
    let mut seen = Seen::default();
    let summary = scene.observed(&yaml, &mut seen).await.unwrap();
    assert!(
        is_interrupted(&report(&summary, "a").outcome),
        "{summary:#?}"
    );
    let minutes = summary.took.as_secs() / 60;
    assert!((5..10).contains(&minutes), "{:?}", summary.took);
    let told = |words: &str| {
        let lines = seen.events.iter().map(|event| format!("{event:?}"));
        lines.filter(|line| line.contains(words)).count()
    };
    assert_eq!((told("does not answer"), told("has not come back")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_closes_early_is_asked_again() {
    let scene = Scene::new();
    let script = Scene::hands_off(3).after(Duration::from_secs(60));
    scene.engine.script("task/a", script);
    scene.engine.fault_once("task/a", Operation::Wait, broken());
    let summary = scene.run(ONE).await;
    let outcome = &report(&summary, "a").outcome;
    assert_eq!(*outcome, TaskOutcome::Failed { exit_code: 3 });
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_start_without_an_answer_is_looked_at() {
    for (fault, has_started) in [
        (Fault::DoneBut(ErrorKind::Timeout), true),
        (broken(), false),
    ] {
        let scene = Scene::new();
        let script = Scene::hands_off(3).after(Duration::from_secs(60));
        scene.engine.script("task/a", script);
        scene.engine.fault("task/a", Operation::Start, fault);
        let summary = scene.run(ONE).await;
        let outcome = &report(&summary, "a").outcome;
        let failed = TaskOutcome::Failed { exit_code: 3 };
        assert_eq!(*outcome == failed, has_started, "{outcome:?}");
        let infra = matches!(outcome, TaskOutcome::Infra { .. });
        assert_eq!(infra, !has_started, "{outcome:?}");
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn an_attach_that_ends_early_is_read_on() {
    let scene = Scene::new();
    let script = Scene::hands_off(0).after(Duration::from_secs(60));
    let script = script.prints("one\n").writes(
        Duration::from_secs(50),
        agent_run::engine::OutputSource::Stdout,
        b"two\n",
    );
    scene.engine.script("task/a", script);
    scene.engine.fault("task/a", Operation::Attach, Fault::Lie);
    scene.engine.fault_once("task/a", Operation::Logs, broken());
    let summary = scene.run(ONE).await;
    assert!(report(&summary, "a").is_good(), "{summary:#?}");
    assert_eq!(scene.log("a"), "one\ntwo\n");
    scene.assert_nothing_left();
}

/// What nobody can stop or remove holds no slot, and is told of.
#[tokio::test(start_paused = true)]
async fn a_stuck_container_gives_its_slot_back_and_is_reported() {
    let scene = Scene::new();
    let stuck = Script::runs_forever().ignoring_term();
    scene
        .engine
        .script("task/a", stuck.on_exit(nothing_changed));
    scene.engine.script("task/b", Scene::hands_off(0));
    let timeout = || Fault::Fail(ErrorKind::Timeout);
    for operation in [Operation::Stop, Operation::RemoveContainer] {
        scene.engine.fault("task/a", operation, timeout());
    }
    let yaml = format!("{ONE}  b: {{ run: x }}\n").replace("1h", "1m");
    let summary = scene.run(&yaml).await;
    let a = report(&summary, "a");
    assert!(matches!(a.outcome, TaskOutcome::Infra { .. }), "{a:#?}");
    let told = |words: &str| a.teardown_errors.iter().any(|error| error.contains(words));
    assert!(told("stopping") && told("removing"), "{a:#?}");
    assert!(report(&summary, "b").is_good(), "{summary:#?}");
    // What it may still write in stays.
    assert!(scene.left_on_disk()[0].ends_with("tasks/a"));
}
