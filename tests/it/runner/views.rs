//! Worktrees that are views: the volume comes before the container and goes after it, and an engine
//! that cannot mount one costs a warning and nothing else.

use agent_run::engine::{ErrorKind, Operation};
use agent_run::event::{EventKind, TaskOutcome, TaskReport};
use agent_run::id::{AttemptId, label};

use super::scene::{Scene, Seen, report};
use crate::fake::Fault;

const TWO: &str =
    "version: 1\ndefaults: { workspace: overlay }\ntasks:\n  a: { run: x }\n  b: { run: x }\n";

fn scene() -> Scene {
    let scene = Scene::new();
    scene.engine.script("task/a", Scene::hands_off(0));
    scene.engine.script("task/b", Scene::hands_off(0));
    scene
}

fn refused() -> Fault {
    Fault::Fail(ErrorKind::Refused("invalid argument".into()))
}

fn volume(scene: &Scene, task: &str) -> String {
    let attempt = AttemptId {
        run: scene.run.clone(),
        task: task.parse().unwrap(),
        number: 1,
    };
    attempt.volume_name()
}

fn warnings(seen: &Seen) -> Vec<&str> {
    let kinds = seen.events.iter().map(|event| &event.kind);
    let texts = kinds.filter_map(|kind| match kind {
        EventKind::Warning { message } => Some(message.as_str()),
        _ => None,
    });
    texts.collect()
}

#[tokio::test(start_paused = true)]
async fn a_view_is_made_before_its_container_and_removed_after_it() {
    let scene = scene();
    let summary = scene.run(TWO).await;
    assert!(
        summary.tasks.iter().all(TaskReport::is_good),
        "{summary:#?}"
    );
    scene.assert_nothing_left();
    let calls = scene.engine.calls();
    let name = volume(&scene, "a");
    let container = name.replace("-view-", "-");
    let place = |operation, name: &str| {
        let found = calls
            .iter()
            .position(|call| *call == (operation, name.to_owned()));
        found.unwrap_or_else(|| panic!("no {operation:?} {name} in {calls:#?}"))
    };
    assert!(place(Operation::CreateVolume, &name) < place(Operation::CreateContainer, &container));
    assert!(place(Operation::RemoveContainer, &container) < place(Operation::RemoveVolume, &name));
}

#[tokio::test(start_paused = true)]
async fn a_view_has_labels_and_only_what_a_task_writes() {
    let scene = scene();
    let engine = scene.engine.clone();
    let state = scene.state();
    let run = scene.run.clone();
    let hooked = Scene::hands_off(0).on_start(move |config| {
        let owned = futures::executor::block_on(agent_run::engine::Engine::list_owned(&engine));
        let volume = &config.volumes[0].volume;
        let found = owned
            .unwrap()
            .into_iter()
            .find(|o| o.name == *volume)
            .unwrap();
        assert_eq!(found.labels[label::TASK], "a");
        assert_eq!(found.labels[label::RUN], run.as_str());
        assert!(found.labels.contains_key(label::OWNER));
        let upper = state.run(&run).join("tasks/a/1/worktree");
        let names = std::fs::read_dir(upper)
            .unwrap()
            .map(|e| e.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), [".git"]);
    });
    scene.engine.script("task/a", hooked);
    let summary = scene.run(TWO).await;
    assert!(
        summary.tasks.iter().all(TaskReport::is_good),
        "{summary:#?}"
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_cannot_mount_a_view_is_warned_of_once() {
    // As Docker does, which mounts when it starts, and one that has no such volumes.
    for operation in [Operation::Start, Operation::CreateVolume] {
        let scene = scene();
        if operation == Operation::Start {
            scene.engine.refuse_volumes("invalid argument");
        } else {
            scene.engine.fault("probe", operation, refused());
        }
        let mut seen = Seen::default();
        let summary = scene.observed(TWO, &mut seen).await.unwrap();
        assert!(
            summary.tasks.iter().all(TaskReport::is_good),
            "{summary:#?}"
        );
        let expected = "`workspace: overlay` is not possible here, so that each task gets a checkout: \
                        invalid argument";
        assert_eq!(warnings(&seen), [expected]);
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_cannot_be_made_is_that_tasks_infra_failure() {
    for fault in [refused(), Fault::DoneBut(ErrorKind::Timeout)] {
        let scene = scene();
        scene.engine.fault("view/a", Operation::CreateVolume, fault);
        let summary = scene.run(TWO).await;
        let outcome = &report(&summary, "a").outcome;
        assert!(
            matches!(outcome, TaskOutcome::Infra { stage, .. } if stage == "workspace"),
            "{outcome:?}"
        );
        assert!(report(&summary, "b").is_good(), "{summary:#?}");
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_still_be_mounted_is_not_deleted() {
    let scene = scene();
    let in_use = Fault::Fail(ErrorKind::InUse);
    scene
        .engine
        .fault("view/a", Operation::RemoveVolume, in_use);
    let summary = scene.run(TWO).await;
    let errors = &report(&summary, "a").teardown_errors;
    assert!(
        errors.len() == 1 && errors[0].contains("it is in use"),
        "{errors:?}"
    );
    let state = scene.state();
    assert!(state.run(&scene.run).join("tasks/a/1/worktree").is_dir());
    assert!(!state.run(&scene.run).join("tasks/b").exists());
    assert!(state.views(&scene.run).join("a.1").is_dir());
}

#[tokio::test(start_paused = true)]
async fn a_small_repository_is_checked_out_and_nothing_is_tried() {
    let scene = scene();
    let summary = scene.run(&TWO.replace("overlay", "auto")).await;
    assert!(
        summary.tasks.iter().all(TaskReport::is_good),
        "{summary:#?}"
    );
    let calls = scene.engine.calls();
    let volumes = [Operation::CreateVolume, Operation::RemoveVolume];
    assert!(
        calls.iter().all(|(call, _)| !volumes.contains(call)),
        "{calls:?}"
    );
    scene.assert_nothing_left();
}
