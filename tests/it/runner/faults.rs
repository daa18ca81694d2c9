//! Engine calls that fail, lie, or give no answer: one task suffers, its siblings do not.

use agent_run::engine::config::NetworkConfig;
use agent_run::engine::{Engine as _, ErrorKind, Operation};
use agent_run::event::{EventKind, TaskOutcome, TaskReport};
use agent_run::id::hex_hash;
use agent_run::runner::RunError;

use super::scene::{Scene, Seen, nothing_arrived, report};
use crate::fake::{Fault, Script};

const TWO: &str = "version: 1\nmax_parallel: 2\ntasks:\n  a: { run: x }\n  b: { run: x }\n";

fn broken() -> Fault {
    Fault::Fail(ErrorKind::Broken("the connection broke".into()))
}

fn scene() -> Scene {
    let scene = Scene::new();
    scene.engine.script("task/a", Scene::hands_off(0));
    scene.engine.script("task/b", Scene::hands_off(0));
    scene
}

#[tokio::test(start_paused = true)]
async fn without_faults_all_is_well_and_nothing_is_left() {
    let scene = scene();
    let summary = scene.run(TWO).await;
    assert!(
        summary.tasks.iter().all(TaskReport::is_good),
        "{summary:#?}"
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_is_that_tasks_infra_failure() {
    let cases = [
        (Operation::CreateContainer, "container"),
        (Operation::Attach, "container"),
        (Operation::Start, "container"),
        (Operation::Wait, "container"),
    ];
    for (operation, stage) in cases {
        for fault in [broken(), Fault::DoneBut(ErrorKind::Timeout)] {
            let scene = scene();
            scene.engine.fault("task/a", operation, fault);
            let summary = scene.run(TWO).await;
            let outcome = &report(&summary, "a").outcome;
            let hit = matches!(outcome, TaskOutcome::Infra { stage: s, .. } if s == stage);
            // One that got no answer and has started is watched like any other.
            let hit = hit || *outcome == TaskOutcome::Succeeded && operation == Operation::Start;
            assert!(hit, "{operation:?}: {outcome:?}");
            // A start without an answer may have started: what it did is not thrown away.
            let started = operation == Operation::Wait || operation == Operation::Start;
            let collected = report(&summary, "a").branch.is_some();
            assert_eq!(collected, started, "{operation:?}");
            assert!(
                report(&summary, "b").is_good(),
                "{operation:?}: {summary:#?}"
            );
            scene.assert_nothing_left();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_network_that_cannot_be_made_is_infra() {
    let scene = scene();
    scene
        .engine
        .fault("network", Operation::CreateNetwork, broken());
    let summary = scene.run(TWO).await;
    for task in ["a", "b"] {
        let outcome = &report(&summary, task).outcome;
        let hit = matches!(outcome, TaskOutcome::Infra { stage, .. } if stage == "network");
        assert!(hit, "{outcome:?}");
    }
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_network_that_may_have_been_made_is_found_or_removed() {
    let scene = scene();
    scene.engine.fault(
        "network",
        Operation::CreateNetwork,
        Fault::DoneBut(ErrorKind::Timeout),
    );
    let yaml = "version: 1\nmax_parallel: 1\ntasks:\n  a: { run: x }\n";
    let summary = scene.run(yaml).await;
    let outcome = &report(&summary, "a").outcome;
    let hit = matches!(outcome, TaskOutcome::Infra { stage, .. } if stage == "network");
    assert!(hit, "{outcome:?}");
    scene.assert_nothing_left();
    let scene = self::scene();
    scene.engine.fault(
        "network",
        Operation::CreateNetwork,
        Fault::DoneBut(ErrorKind::Timeout),
    );
    let summary = scene
        .run(&TWO.replace("max_parallel: 2", "max_parallel: 1"))
        .await;
    assert!(report(&summary, "b").is_good(), "{summary:#?}");
    scene.assert_nothing_left();
}

/// Another run may remove the network, or take the address, between a task's create and its start.
#[tokio::test(start_paused = true)]
async fn a_place_on_the_network_that_is_lost_is_found_again() {
    for lost in [ErrorKind::NoNetwork, ErrorKind::AddressInUse] {
        let scene = scene();
        let fault = Fault::Fail(lost.clone());
        scene.engine.fault_once("task/a", Operation::Start, fault);
        let summary = scene.run(TWO).await;
        assert!(
            summary.tasks.iter().all(TaskReport::is_good),
            "{summary:#?}"
        );
        let calls = scene.engine.calls();
        let of_network = |call: &&(Operation, String)| call.0 == Operation::CreateNetwork;
        let made = calls.iter().filter(of_network).count();
        assert_eq!(made, if lost == ErrorKind::NoNetwork { 2 } else { 1 });
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn a_network_without_a_free_address_ends_in_an_infra_failure() {
    let scene = scene();
    let taken = Fault::Fail(ErrorKind::AddressInUse);
    scene.engine.fault("task/a", Operation::Start, taken);
    let summary = scene.run(TWO).await;
    let outcome = &report(&summary, "a").outcome;
    let hit = matches!(outcome, TaskOutcome::Infra { stage, .. } if stage == "container");
    assert!(hit, "{outcome:?}");
    assert!(report(&summary, "b").is_good());
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_network_that_others_use_stays_and_their_subnet_is_passed_over() {
    let scene = scene();
    let subnets = ["10.213.0.0", "10.213.16.0"].map(|first| first.parse().unwrap());
    let config = |name: &str, subnet| NetworkConfig {
        name: name.into(),
        labels: Vec::new(),
        subnet,
        prefix: 20,
    };
    let (foreign, shared) = ("somebodys", "agent-run-net-10.213.16.0-20");
    let engine = &scene.engine;
    engine
        .create_network(&config(foreign, subnets[0]))
        .await
        .unwrap();
    engine
        .create_network(&config(shared, subnets[1]))
        .await
        .unwrap();
    let in_use = Fault::Fail(ErrorKind::InUse);
    engine.fault(shared, Operation::RemoveNetwork, in_use);
    let summary = scene.run(TWO).await;
    assert!(
        summary.tasks.iter().all(TaskReport::is_good),
        "{summary:#?}"
    );
    assert_eq!(summary.teardown_errors, Vec::<String>::new());
    let tried = engine.calls();
    let mut tried = tried
        .iter()
        .filter(|(operation, _)| *operation == Operation::CreateNetwork);
    let last = tried.next_back().map(|(_, name)| name.as_str());
    assert_eq!(last, Some(shared));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_had_fails_its_tasks_only() {
    let scene = scene();
    let missing = ErrorKind::ImageUnavailable("no such image".into());
    scene
        .engine
        .fault("gone:1", Operation::EnsureImage, Fault::Fail(missing));
    let yaml = "version: 1\ntasks:\n  a: { image: 'gone:1', run: x }\n  b: { run: x }\n";
    let summary = scene.run(yaml).await;
    let outcome = &report(&summary, "a").outcome;
    let hit = matches!(outcome, TaskOutcome::Infra { stage, message }
        if stage == "image" && message.contains("no such image"));
    assert!(hit, "{outcome:?}");
    assert!(report(&summary, "b").is_good());
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn an_image_that_never_comes_ends_with_startup_timeout() {
    let scene = scene();
    scene
        .engine
        .fault("slow:1", Operation::EnsureImage, Fault::Hang);
    let yaml = "version: 1\ntasks:\n  a: { image: 'slow:1', run: x, startup_timeout: 3m }\n  b: { run: x }\n";
    let summary = scene.run(yaml).await;
    let outcome = &report(&summary, "a").outcome;
    let hit = matches!(outcome, TaskOutcome::Infra { message, .. } if message.contains("startup_timeout"));
    assert!(hit, "{outcome:?}");
    assert!(report(&summary, "b").is_good());
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_container_that_cannot_be_removed_is_said_beside_the_outcome() {
    let scene = scene();
    scene
        .engine
        .fault("task/a", Operation::RemoveContainer, broken());
    let summary = scene.run(TWO).await;
    let a = report(&summary, "a");
    assert!(a.is_good(), "{a:#?}");
    assert_eq!(a.teardown_errors.len(), 1, "{a:#?}");
    assert!(
        a.teardown_errors[0].contains("the connection broke"),
        "{a:#?}"
    );
    assert!(report(&summary, "b").teardown_errors.is_empty());
    // It may still write there.
    let left = scene.left_on_disk();
    assert!(left.len() == 1 && left[0].ends_with("tasks/a"), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_once_is_tried_again() {
    let scene = scene();
    scene
        .engine
        .fault_once("task/a", Operation::RemoveContainer, broken());
    let summary = scene.run(TWO).await;
    assert!(report(&summary, "a").teardown_errors.is_empty());
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_network_that_cannot_be_removed_is_said_of_the_run() {
    let scene = scene();
    scene
        .engine
        .fault("network", Operation::RemoveNetwork, broken());
    let summary = scene.run(TWO).await;
    assert_eq!(summary.teardown_errors.len(), 1, "{summary:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_network_that_the_engine_keeps_for_nobody_is_said_of_the_run() {
    let scene = scene();
    let held = Fault::Fail(ErrorKind::HeldByNobody);
    scene
        .engine
        .fault("network", Operation::RemoveNetwork, held);
    let mut seen = Seen::default();
    let summary = scene.observed(TWO, &mut seen).await.unwrap();
    let told = seen.events.iter().filter(|event| {
        matches!(&event.kind, EventKind::Warning { message } if message.contains("restarted"))
    });
    assert_eq!(told.count(), 1, "{:#?}", seen.events);
    // What is left of it is no failure of the run.
    assert_eq!(summary.teardown_errors, Vec::<String>::new());
    // Another try would find the same.
    let calls = scene.engine.calls();
    let removals = calls
        .iter()
        .filter(|call| call.0 == Operation::RemoveNetwork);
    assert_eq!(removals.count(), 1, "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_limit_makes_the_environment_unusable() {
    let scene = scene();
    let dropped = Fault::Fail(ErrorKind::LimitNotHonoured("pids_limit"));
    scene
        .engine
        .fault("task/a", Operation::CreateContainer, dropped.clone());
    scene
        .engine
        .fault("task/b", Operation::CreateContainer, dropped);
    let ended = scene.observed(TWO, &mut Seen::default()).await;
    let hit = matches!(
        ended,
        Err(RunError::LimitNotHonoured {
            key: "pids_limit",
            ..
        })
    );
    assert!(hit, "{ended:?}");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn directories_that_do_not_arrive_stop_the_run_before_any_task() {
    let scene = scene();
    let probe = Script::exits(0).replies(|config, _| nothing_arrived(config));
    scene.engine.script("probe", probe);
    let ended = scene.observed(TWO, &mut Seen::default()).await;
    assert!(
        matches!(ended, Err(RunError::BindMounts { .. })),
        "{ended:?}"
    );
    let created = scene.engine.calls();
    let tasks = created.iter().filter(|(operation, name)| {
        *operation == Operation::CreateContainer && !name.contains("probe")
    });
    assert_eq!(tasks.count(), 0, "{created:?}");
    scene.assert_nothing_left();
}

/// It would be believed of the image ever after.
#[tokio::test(start_paused = true)]
async fn what_an_image_holds_is_not_told_from_an_answer_that_was_cut_off() {
    let mut scene = scene();
    let probe = "agent-run-261120-101500-abcd-probe-image";
    let cut_off = Script::exits(0).prints("git\n");
    scene.engine.script("probe", cut_off);
    let summary = scene.run(TWO).await;
    let a = &report(&summary, "a").outcome;
    let hit = matches!(a, TaskOutcome::Infra { stage, message } if stage == "probe" && message.contains(probe));
    assert!(hit, "{a:?}");
    scene.assert_nothing_left();
    scene = scene.again();
    for task in ["task/a", "task/b"] {
        scene.engine.script(task, Scene::hands_off(0));
    }
    let summary = scene.run(TWO).await;
    assert!(
        summary.tasks.iter().all(TaskReport::is_good),
        "{summary:#?}"
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn work_that_no_collector_can_fetch_is_kept() {
    let scene = scene();
    scene.engine.script("task/a", Script::exits(137));
    scene
        .engine
        .fault("collector/a", Operation::Start, broken());
    let summary = scene.run(TWO).await;
    let branch = report(&summary, "a")
        .branch
        .as_ref()
        .expect("a branch report");
    let agent_run::event::BranchResult::Kept { path, .. } = &branch.result else {
        panic!("{branch:#?}");
    };
    assert!(
        path.join("worktree/readme.md").exists(),
        "{}",
        path.display()
    );
    scene.engine.assert_no_leaks();
    assert_eq!(scene.left_on_disk().len(), 1, "{:?}", scene.left_on_disk());
}

#[tokio::test(start_paused = true)]
async fn a_container_that_cannot_be_waited_for_is_stopped_before_its_work_is_collected() {
    let scene = scene();
    let forever = Script::runs_forever().on_exit(super::scene::nothing_changed);
    scene.engine.script("task/a", forever);
    scene.engine.fault("task/a", Operation::Wait, broken());
    let summary = scene.run(TWO).await;
    let branch = report(&summary, "a").branch.as_ref().unwrap();
    assert_eq!(branch.result, agent_run::event::BranchResult::NoChange);
    let calls = scene.engine.calls();
    let collected = calls.iter().any(|(_, name)| name.contains("collector"));
    assert!(!collected, "its own hand-off was in time: {calls:?}");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn where_an_image_has_no_shell_the_base_image_proves_the_mounts() {
    let scene = scene();
    let named = |what: &str, image: &str| {
        let id = format!("sha256:{}", hex_hash(image.as_bytes(), 64));
        format!("probe-{what}-{}", hex_hash(id.as_bytes(), 12))
    };
    let no_shell = format!("agent-run-261120-101500-abcd-{}", named("image", "bare:1"));
    scene.engine.script(&no_shell, Script::exits(127));
    let yaml = "version: 1\ntasks:\n  a: { image: 'bare:1', command: [x] }\n";
    let summary = scene.run(yaml).await;
    assert!(report(&summary, "a").is_good(), "{summary:#?}");
    let base = agent_run::id::ImageRef::base();
    let proof = named("mounts", base.as_str());
    let calls = scene.engine.calls();
    let place = |name: &str| {
        calls
            .iter()
            .position(|(o, n)| *o == Operation::Start && n.ends_with(name))
    };
    assert!(place(&proof).is_some(), "{calls:?}");
    assert!(place(&proof) < place("-1-a"), "{calls:?}");
    scene.assert_nothing_left();
}
