//! The proof that directories arrive in containers: made once for an engine, and not believed of
//! another one, of another user, or for longer than a day.

use std::fs;
use std::time::{Duration, SystemTime};

use agent_run::engine::Operation;
use agent_run::runner::RunError;

use super::scene::{Scene, Seen, nothing_arrived, report};
use crate::fake::Script;

const ONE: &str = "version: 1\ntasks:\n  a: { run: x }\n";

/// A run of one task that ends well; says how many containers were asked for the proof so far.
async fn proofs_after(scene: &Scene, yaml: &str) -> usize {
    let summary = scene.run(yaml).await;
    assert!(report(&summary, "a").is_good(), "{summary:#?}");
    scene.assert_nothing_left();
    let calls = scene.engine.calls();
    let is_proof = |(operation, name): &&(Operation, String)| {
        *operation == Operation::Start && name.contains("probe-mounts")
    };
    calls.iter().filter(is_proof).count()
}

fn scene() -> Scene {
    let scene = Scene::new();
    scene.engine.script("task", Scene::hands_off(0));
    scene
}

fn next_run(scene: &mut Scene, number: usize) {
    scene.run = format!("261120-10150{number}-abcd").parse().unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_is_made_once_for_an_engine_and_a_user() {
    let mut scene = scene();
    assert_eq!(proofs_after(&scene, ONE).await, 1);
    next_run(&mut scene, 1);
    assert_eq!(proofs_after(&scene, ONE).await, 1, "it is believed");
    next_run(&mut scene, 2);
    let other_user = "version: 1\ntasks:\n  a: { run: x, user: '77:77' }\n";
    assert_eq!(proofs_after(&scene, other_user).await, 2, "of another user");
    next_run(&mut scene, 3);
    scene
        .engine
        .set_info(|info| info.id = Some("another".into()));
    assert_eq!(proofs_after(&scene, ONE).await, 3, "of another engine");
    for number in 4..6 {
        next_run(&mut scene, number);
        scene.engine.set_info(|info| info.id = None);
        let made = proofs_after(&scene, ONE).await;
        assert_eq!(made, number, "of one that does not say which it is");
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_believed_for_a_day() {
    let mut scene = scene();
    assert_eq!(proofs_after(&scene, ONE).await, 1);
    let notes = fs::read_dir(scene.state().path().join("mounts")).unwrap();
    let notes: Vec<_> = notes.map(|note| note.unwrap().path()).collect();
    assert_eq!(notes.len(), 1);
    let long_ago = SystemTime::now() - Duration::from_secs(25 * 60 * 60);
    let note = fs::File::options().write(true).open(&notes[0]).unwrap();
    note.set_modified(long_ago).unwrap();
    next_run(&mut scene, 1);
    assert_eq!(proofs_after(&scene, ONE).await, 2);
    next_run(&mut scene, 2);
    assert_eq!(proofs_after(&scene, ONE).await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_proved_is_not_believed() {
    let mut scene = scene();
    for number in 0..2 {
        next_run(&mut scene, number);
        let probe = Script::exits(0).replies(|config, _| nothing_arrived(config));
        scene.engine.script("probe", probe);
        let ended = scene.observed(ONE, &mut Seen::default()).await;
        assert!(
            matches!(ended, Err(RunError::BindMounts { .. })),
            "{ended:?}"
        );
    }
}
