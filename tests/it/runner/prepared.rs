//! Prepared directories and images in checks and in further attempts, what makes a setup another one, and
//! private caches that are given back once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_run::engine::Operation;
use agent_run::engine::config::ContainerConfig;
use agent_run::event::{BranchResult, TaskOutcome};

use super::killed::killed_at;
use super::scene::{Scene, Seen, commits, report};
use super::setup::{all_good, as_root, prepared, scene, sees_deps};
use crate::fake::{Fault, Script, host_path};

const CHECKED: &str = "\
version: 1
defaults:
  setup: { run: make deps, files: [readme.md], paths: [deps] }
tasks:
  a: { run: x, verify: test, feedback: 1 }
";
/// Shorter than the time after which a task is measured first.
const LIFE: Duration = Duration::from_millis(40);

type Configs = Arc<Mutex<BTreeMap<String, ContainerConfig>>>;

/// A scene whose check passes the second attempt, with what each of its containers was made of.
fn checked() -> (Scene, Configs, Arc<AtomicUsize>) {
    let (scene, runs) = scene();
    let configs = Configs::default();
    for number in [1, 2] {
        let keep = || {
            let configs = configs.clone();
            move |config: &ContainerConfig| {
                sees_deps(config);
                let mut configs = configs.lock().unwrap();
                configs.insert(config.name.clone(), config.clone());
            }
        };
        let work = commits(&scene, &format!("work-{number}"), "x\n");
        let work = Script::exits(0).after(LIFE).on_start(keep()).on_exit(work);
        let name = format!("agent-run-{}-{number}-a", scene.run);
        scene.engine.script(&name, work);
        let check = Script::exits(i64::from(number < 2)).after(LIFE);
        let name = format!("agent-run-{}-{number}-verify-a", scene.run);
        scene.engine.script(&name, check.on_start(keep()));
    }
    (scene, configs, runs)
}

#[tokio::test(start_paused = true)]
async fn each_attempt_and_each_check_has_a_view_of_its_own_and_the_setup_runs_once() {
    for (yaml, is_image) in [(CHECKED.to_owned(), false), (as_root(CHECKED), true)] {
        let (scene, configs, runs) = checked();
        let yaml = yaml.replace("tasks:", "  cache: [{ key: npm, path: ~/.npm }]\ntasks:");
        let summary = scene.run(&yaml).await;
        all_good(&summary);
        assert_eq!(report(&summary, "a").attempt, 2);
        let configs = configs.lock().unwrap();
        assert_eq!(configs.len(), 4, "{:?}", configs.keys());
        let volumes = configs.values().flat_map(|config| &config.volumes);
        let volumes: BTreeSet<_> = volumes.map(|volume| &volume.volume).collect();
        assert_eq!(volumes.len(), 4, "{volumes:?}");
        let images: BTreeSet<_> = configs.values().map(|config| &config.image).collect();
        assert_eq!(images.len(), 1, "{images:?}");
        let of_task = report(&summary, "a").image.as_ref();
        assert_eq!(images.first().copied() != of_task, is_image, "{images:?}");
        for config in configs.values() {
            let is_cached = config.mounts.iter().any(|m| m.target == "/home/agent/.npm");
            assert_eq!(
                is_cached,
                !config.name.contains("-verify-"),
                "{}",
                config.name
            );
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(prepared(&scene).len(), 1);
        scene.engine.assert_no_leaks();
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_with_an_image_of_its_own_has_the_directories_and_not_the_image() {
    let (scene, configs, _) = checked();
    let yaml = as_root(CHECKED).replace("verify: test", "verify: { run: test, image: 'tester:1' }");
    all_good(&scene.run(&yaml).await);
    let configs = configs.lock().unwrap();
    let image = |name: &str| &configs[&format!("agent-run-{}-{name}", scene.run)].image;
    assert_ne!(image("2-a"), image("2-verify-a"));
    assert_eq!(scene.engine.made_images().len(), 1);
    scene.engine.assert_no_leaks();
}

#[tokio::test(start_paused = true)]
async fn where_views_cannot_be_mounted_a_check_gets_a_copy() {
    let (scene, _) = scene();
    scene.engine.refuse_volumes("invalid argument");
    let copy = Script::exits(0).on_exit(|config| {
        let from = host_path(config, "/agent/prepared/0/lib");
        std::fs::copy(from, host_path(config, "/agent/copy/0").join("lib")).unwrap();
    });
    scene.engine.script("setup/a", copy);
    let spoils = Script::exits(0).on_exit(|config| {
        std::fs::write(host_path(config, "/workspace/deps/lib"), "spoilt\n").unwrap();
        super::scene::nothing_changed(config);
    });
    scene.engine.script("task/a", spoils);
    let check = Script::exits(0).on_start(|config| {
        let lib = host_path(config, "/workspace/deps/lib");
        assert_eq!(std::fs::read_to_string(lib).unwrap(), "made\n");
    });
    scene.engine.script("verify/a", check);
    all_good(&scene.run(CHECKED).await);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_result_that_has_files_where_something_is_prepared_is_not_checked() {
    let (scene, _) = scene();
    let work = commits(&scene, "deps", "no directory\n");
    scene
        .engine
        .script("task/a", Script::exits(0).on_exit(work));
    let summary = scene.run(CHECKED).await;
    let a = report(&summary, "a");
    let TaskOutcome::Infra { stage, message } = &a.outcome else {
        panic!("{a:#?}");
    };
    assert_eq!(stage, "verify");
    let why = "a setup prepares deps, and the commit that it starts from has files there";
    assert!(message.contains(why), "{message}");
    let result = a.branch.as_ref().map(|branch| &branch.result);
    assert!(
        matches!(result, Some(BranchResult::Created { .. })),
        "{a:#?}"
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_record_a_run_with_prepared_checks_is_resumed_or_cleaned() {
    let (scene, ..) = checked();
    let events = killed_at((&scene, CHECKED), usize::MAX).await;
    assert!(events > 10, "{events}");
    for at in 1..=events {
        let (scene, _, runs) = checked();
        killed_at((&scene, CHECKED), at).await;
        let mut seen = Seen::default();
        let summary = scene.resumed(CHECKED, &mut seen).await.unwrap();
        all_good(&summary);
        assert!(
            (1..=2).contains(&runs.load(Ordering::SeqCst)),
            "killed at {at}"
        );
        assert_eq!(prepared(&scene).len(), 1, "killed at {at}");
        scene.engine.assert_no_leaks();

        let (scene, ..) = checked();
        killed_at((&scene, CHECKED), at).await;
        let cleaned = scene.cleaned().await;
        assert_eq!(cleaned.problems, Vec::<String>::new(), "killed at {at}");
        scene.engine.assert_no_leaks();
    }
}

/// The same image, script, files and names of variables are the same setup; whatever else differs.
#[tokio::test(start_paused = true)]
async fn what_a_setup_depends_on_makes_it_another_one_and_nothing_else_does() {
    let (mut scene, runs) = scene();
    let one = "\
version: 1
tasks:
  a:
    run: x
    image: own:1
    environment: { LEVEL: high }
    setup: { run: make deps, files: [readme.md], paths: [deps] }
";
    let mut expected = 0;
    for (number, (from, to, again)) in [
        ("run: x", "run: x", true),
        ("run: x", "run: y", false),
        ("high", "low", false),
        ("LEVEL", "DEPTH", true),
        ("own:1", "own:2", true),
        ("make deps", "make all", true),
        ("files: [readme.md], ", "", true),
        ("paths: [deps]", "paths: [deps], user: root", true),
        ("run: x", "run: x\n    timeout: 5m", false),
    ]
    .into_iter()
    .enumerate()
    {
        scene.run = format!("261120-1016{number:02}-abcd").parse().unwrap();
        all_good(&scene.run(&one.replacen(from, to, 1)).await);
        let made = runs.swap(0, Ordering::SeqCst);
        assert_eq!(made, usize::from(again), "{from} {to}");
        expected += made;
    }
    assert_eq!(prepared(&scene).len(), expected);
    scene.assert_nothing_left();
}

const PRIVATE: &str = "\
version: 1
max_parallel: 2
defaults:
  cache: [{ key: go, path: /go, mode: private }]
tasks:
  short: { run: x }
  middle: { run: x }
  long: { run: x }
  last: { run: x }
";

/// `long` takes over what `short` had while that is still being removed; `last` must not get it too.
#[tokio::test(start_paused = true)]
async fn a_private_cache_is_given_back_once() {
    let scene = Scene::new();
    let places = Arc::new(Mutex::new(BTreeMap::<&str, PathBuf>::new()));
    for (task, seconds) in [("short", 1), ("middle", 60), ("long", 600), ("last", 1)] {
        let places = places.clone();
        let script = Scene::hands_off(0)
            .after(Duration::from_secs(seconds))
            .on_start(move |config| {
                let place = host_path(config, "/go");
                places.lock().unwrap().insert(task, place);
            });
        scene.engine.script(&format!("task/{task}"), script);
    }
    let slow = Fault::Slow(Duration::from_secs(30));
    scene
        .engine
        .fault("task/short", Operation::RemoveContainer, slow);
    all_good(&scene.run(PRIVATE).await);
    let places = places.lock().unwrap();
    assert_eq!(places["long"], places["short"]);
    assert_eq!(places["last"], places["middle"]);
    assert_ne!(places["last"], places["long"]);
    scene.assert_nothing_left();
}
