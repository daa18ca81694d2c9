//! What tasks claim, in the course of a run.

use std::sync::Arc;
use std::time::Duration;

use agent_run::event::{BranchResult, TaskOutcome, TaskReport};

use tokio::sync::Notify;

use super::scene::{Scene, Seen, report};
use crate::fake::Script;

const TWO: &str = "version: 1\nmax_parallel: 2\ntasks:\n  \
    a: { run: x, claim: same }\n  b: { run: x, claim: same }\n  c: { run: x }\n";
const ONE: &str = "version: 1\ntasks:\n  a: { run: x, claim: same }\n";
const CLAIM: &str = "refs/agent-run/claims/same";

#[tokio::test(start_paused = true)]
async fn of_two_tasks_with_one_claim_one_is_skipped() {
    let scene = Scene::new();
    for task in ["task/a", "task/b"] {
        let long = Scene::hands_off(0).after(Duration::from_secs(3000));
        scene.engine.script(task, long);
    }
    scene.engine.script("task/c", Scene::hands_off(0));
    let summary = scene.run(TWO).await;
    let outcomes = ["a", "b"].map(|task| report(&summary, task).outcome.clone());
    let skipped = |outcome: &&TaskOutcome| match outcome {
        TaskOutcome::Skipped { reason, claimed } => {
            assert!(*claimed && reason.starts_with("claimed by "), "{reason}");
            true
        }
        _ => false,
    };
    assert_eq!(outcomes.iter().filter(skipped).count(), 1, "{outcomes:?}");
    assert!(outcomes.contains(&TaskOutcome::Succeeded), "{outcomes:?}");
    assert!(!summary.tasks.iter().any(TaskReport::is_failure));
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn one_after_the_other_both_get_it() {
    let scene = Scene::new();
    for task in ["task/a", "task/b", "task/c"] {
        scene.engine.script(task, Scene::hands_off(0));
    }
    let summary = scene
        .run(&TWO.replace("max_parallel: 2", "max_parallel: 1"))
        .await;
    for task in ["a", "b"] {
        assert_eq!(report(&summary, task).outcome, TaskOutcome::Succeeded);
    }
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_kept_between_attempts_and_given_back_after_a_failure() {
    let scene = Scene::new();
    let repository = scene.repository();
    let held = move |_: &_| {
        let refs = repository.refs(CLAIM).unwrap();
        assert_eq!(refs.len(), 1);
    };
    let failing = Scene::hands_off(1).on_start(held);
    scene.engine.script("task/a", failing);
    let retried = ONE.replace("claim: same", "claim: same, retry: { max: 2, backoff: 1h }");
    let summary = scene.run(&retried).await;
    let a = report(&summary, "a");
    assert_eq!(
        (a.attempt, &a.outcome),
        (3, &TaskOutcome::Failed { exit_code: 1 })
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_ref_that_is_no_claim_is_told_and_the_task_does_not_start() {
    let scene = Scene::new();
    let repository = scene.repository();
    let call = repository.call(["update-ref", CLAIM, "HEAD"]);
    call.run().unwrap();
    let summary = scene.run(ONE).await;
    let TaskOutcome::Infra { stage, message } = &report(&summary, "a").outcome else {
        panic!("{summary:#?}")
    };
    assert!(stage == "claim" && message.contains("release"), "{message}");
    assert!(scene.engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_over_in_mid_run_gets_no_branch_and_is_told() {
    let scene = Scene::new();
    let repository = scene.repository();
    let take = move |_: &_| {
        let call = repository.call(["update-ref", CLAIM, "HEAD"]);
        call.run().unwrap();
    };
    // Long enough to be renewed, which fails.
    let script = Scene::hands_off(0)
        .on_start(take)
        .after(Duration::from_secs(3000));
    scene.engine.script("task/a", script);
    let mut seen = Seen::default();
    let summary = scene.observed(ONE, &mut seen).await.unwrap();
    let branch = report(&summary, "a").branch.as_ref().unwrap();
    assert_eq!(branch.result, BranchResult::NoChange);
    assert!(branch.notes[0].contains("taken over"), "{:?}", branch.notes);
    let told = format!("{:?}", seen.events);
    assert!(told.contains("its claim was taken over"), "{told}");
    // It is not ours to give back.
    assert_eq!(scene.repository().refs(CLAIM).unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_resumed_has_its_claim_again_and_clean_releases_it() {
    for resumes in [true, false] {
        let scene = Scene::new();
        let running = Arc::new(Notify::new());
        let tell = running.clone();
        let script = Script::runs_forever().on_start(move |_| tell.notify_one());
        scene.engine.script("task/a", script);
        tokio::select! {
            summary = scene.run(ONE) => panic!("{summary:#?}"),
            () = running.notified() => {}
        }
        scene.is_dead().await;
        assert_eq!(scene.repository().refs(CLAIM).unwrap().len(), 1);
        if resumes {
            scene.engine.script("task/a", Scene::hands_off(0));
            let mut seen = Seen::default();
            let stops = scene.stops.clone();
            stops.send_modify(|stops| {
                stops.insert("a".parse().unwrap(), true);
            });
            scene.resumed(ONE, &mut seen).await.unwrap();
        } else {
            scene.cleaned().await;
        }
        let claims = scene.repository().refs(CLAIM).unwrap();
        assert_eq!(claims, [], "resumed: {resumes}");
    }
}
