//! Setups and caches on the fake engine: carried out once for all that wait, whole or not at all.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_run::engine::config::ContainerConfig;
use agent_run::engine::{ErrorKind, Operation};
use agent_run::event::{EventKind, RunSummary, StopReason, TaskOutcome, TaskReport};
use agent_run::id::{Role, run_container_name};
use agent_run::runner::Shutdown;

use super::scene::{Scene, Seen, report};
use crate::fake::{Fault, Script, host_path};

const TWO: &str = "\
version: 1
max_parallel: 8
defaults:
  setup: { run: make deps, files: [readme.md], paths: [deps] }
tasks:
  a: { run: x }
  b: { run: x }
";

pub fn as_root(yaml: &str) -> String {
    yaml.replace("paths: [deps]", "paths: [deps], user: root")
}

/// What a setup does in its worktree.
pub fn make_deps(config: &ContainerConfig) {
    let deps = host_path(config, "/workspace/deps");
    std::fs::create_dir(&deps).unwrap();
    std::fs::write(deps.join("lib"), "made\n").unwrap();
    std::fs::write(host_path(config, "/workspace/readme.md"), "changed\n").unwrap();
}

pub fn scene() -> (Scene, Arc<AtomicUsize>) {
    let scene = Scene::new();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let setup = Script::exits(0)
        .after(Duration::from_secs(10))
        .prints("added 3 packages\n")
        .on_start(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .on_exit(make_deps);
    scene.engine.script("setup", setup);
    scene.engine.script("task", Scene::hands_off(0));
    for task in ["a", "b"] {
        let script = Scene::hands_off(0).on_start(sees_deps);
        scene.engine.script(&format!("task/{task}"), script);
    }
    (scene, runs)
}

/// A task has a view of the directory, and nothing else that the setup wrote.
pub fn sees_deps(config: &ContainerConfig) {
    let view = config
        .volumes
        .iter()
        .find(|v| v.target == "/workspace/deps");
    assert!(view.is_some(), "{:?}", config.volumes);
    let place = host_path(config, "/workspace/deps");
    assert!(place.is_dir(), "the engine would make it for root");
    let text = std::fs::read_to_string(host_path(config, "/workspace/readme.md")).unwrap();
    assert_eq!(text, "one\n");
    let exclude = std::fs::read_to_string(host_path(config, "/agent/git/info/exclude")).unwrap();
    assert!(exclude.ends_with("/deps\n"), "{exclude}");
}

pub fn prepared(scene: &Scene) -> Vec<PathBuf> {
    let repos = std::fs::read_dir(scene.state().repos()).unwrap();
    let entries = repos.flat_map(|repo| std::fs::read_dir(repo.unwrap().path()).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let is_it = |path: &PathBuf| name(path).starts_with("prepared-") && path.is_dir();
    paths.filter(is_it).collect()
}

#[track_caller]
pub fn all_good(summary: &RunSummary) {
    assert!(
        summary.tasks.iter().all(TaskReport::is_good),
        "{summary:#?}"
    );
}

fn infra(summary: &RunSummary, task: &str) -> String {
    match &report(summary, task).outcome {
        TaskOutcome::Infra { stage, message } if stage == "setup" => message.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn eight_tasks_wait_for_one_setup_and_a_second_run_for_none() {
    let (mut scene, runs) = scene();
    let mut yaml = TWO.to_owned();
    for task in ["c", "d", "e", "f", "g", "h"] {
        yaml += &format!("  {task}: {{ run: x }}\n");
    }
    let mut seen = Seen::default();
    let summary = scene.observed(&yaml, &mut seen).await.unwrap();
    all_good(&summary);
    assert_eq!(summary.tasks.len(), 8);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(
        seen.lines
            .iter()
            .any(|line| line.ends_with(" | added 3 packages")),
        "{:?}",
        seen.lines
    );
    let told = seen
        .events
        .iter()
        .filter(|e| matches!(e.kind, EventKind::Setup { .. }));
    assert_eq!(told.count(), 2);
    scene.assert_nothing_left();
    let kept = prepared(&scene);
    assert_eq!(kept.len(), 1);
    assert_eq!(
        std::fs::read_to_string(kept[0].join("paths/0/lib")).unwrap(),
        "made\n"
    );
    let names = std::fs::read_dir(&kept[0]).unwrap();
    assert_eq!(
        names.count(),
        3,
        "record, paths and stamp, nothing else of the worktree"
    );
    scene.run = "261120-101501-abcd".parse().unwrap();
    all_good(&scene.run(TWO).await);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn another_script_of_the_same_path_prepares_another_directory() {
    let (scene, runs) = scene();
    let other = "  b: { run: x, setup: { run: make other, files: [readme.md], paths: [deps] } }\n";
    let yaml = TWO.replace("  b: { run: x }\n", other);
    all_good(&scene.run(&yaml).await);
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(prepared(&scene).len(), 2);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_setup_that_fails_is_told_with_its_log_and_leaves_nothing() {
    let (scene, _) = scene();
    let failing = Script::exits(3)
        .prints("no such package\n")
        .on_exit(make_deps);
    scene.engine.script("setup", failing);
    let summary = scene.run(TWO).await;
    for task in ["a", "b"] {
        let message = infra(&summary, task);
        assert!(
            message.starts_with("the setup ended with exit code 3; its log: "),
            "{message}"
        );
        let report = report(&summary, task);
        assert_eq!(report.last_lines, ["no such package"]);
        let log = std::fs::read_to_string(report.log.as_ref().unwrap()).unwrap();
        assert!(log.contains("no such package"), "{log}");
    }
    let made = scene
        .engine
        .calls()
        .into_iter()
        .filter(|(call, name)| *call == Operation::CreateContainer && name.contains("-setup-"));
    assert_eq!(made.count(), 1, "both are told of one");
    assert_eq!(prepared(&scene), Vec::<PathBuf>::new());
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_retry_carries_a_failed_setup_out_again() {
    let (scene, runs) = scene();
    scene.engine.fault_once(
        "setup",
        Operation::Start,
        Fault::Fail(ErrorKind::Refused("no".into())),
    );
    let yaml = TWO
        .replace("  b: { run: x }\n", "")
        .replace("{ run: x }", "{ run: x, retry: 1 }");
    let summary = scene.run(&yaml).await;
    all_good(&summary);
    assert_eq!(report(&summary, "a").attempt, 2);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_setup_that_never_ends_has_startup_timeout() {
    let (scene, _) = scene();
    scene
        .engine
        .script("setup", Script::runs_forever().ignoring_term());
    let yaml = TWO.replace("defaults:", "defaults:\n  startup_timeout: 90s");
    let summary = scene.run(&yaml).await;
    let message = infra(&summary, "a");
    assert!(
        message.starts_with("the setup did not end within startup_timeout (90 s)"),
        "{message}"
    );
    assert_eq!(prepared(&scene), Vec::<PathBuf>::new());
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn what_a_setup_does_not_make_is_an_error() {
    type Hook = fn(&ContainerConfig);
    let nothing: Hook = |_| {};
    let file: Hook = |c| std::fs::write(host_path(c, "/workspace/deps"), "").unwrap();
    let link: Hook = |c| {
        std::os::unix::fs::symlink("/etc", host_path(c, "/workspace/deps")).unwrap();
    };
    for (hook, why) in [
        (nothing, "nothing is there"),
        (file, "a file is there"),
        (link, "a symbolic link is there"),
    ] {
        let (scene, _) = scene();
        scene.engine.script("setup", Script::exits(0).on_exit(hook));
        let message = infra(&scene.run(TWO).await, "a");
        let expected = format!("the setup left no directory `deps`: {why}; its log: ");
        assert!(message.starts_with(&expected), "{message}");
        assert_eq!(prepared(&scene), Vec::<PathBuf>::new());
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn a_directory_behind_a_link_is_not_moved() {
    let (scene, _) = scene();
    let outside = tempfile::TempDir::new().unwrap();
    std::fs::create_dir(outside.path().join("deps")).unwrap();
    let target = outside.path().to_owned();
    let setup = Script::exits(0).on_exit(move |config| {
        std::os::unix::fs::symlink(&target, host_path(config, "/workspace/web")).unwrap();
    });
    scene.engine.script("setup", setup);
    let message = infra(&scene.run(&TWO.replace("[deps]", "[web/deps]")).await, "a");
    assert!(message.contains("a symbolic link is there"), "{message}");
    assert!(outside.path().join("deps").is_dir());
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_run_that_stops_ends_its_setup() {
    for forced in [false, true] {
        let (scene, _) = scene();
        let reason = StopReason::Interrupted;
        let stop = if forced {
            Shutdown::Forced(reason)
        } else {
            Shutdown::Graceful(reason)
        };
        let shutdown = scene.shutdown.clone();
        let setup = Script::runs_forever().ignoring_term().on_start(move |_| {
            shutdown.send_replace(stop);
        });
        scene.engine.script("setup", setup);
        let summary = scene.run(TWO).await;
        for task in &summary.tasks {
            let stopped = matches!(
                task.outcome,
                TaskOutcome::Cancelled | TaskOutcome::Skipped { .. }
            );
            assert!(stopped, "{summary:#?}");
        }
        assert_eq!(prepared(&scene), Vec::<PathBuf>::new());
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_stopped_leaves_the_setup_to_the_others() {
    let (scene, runs) = scene();
    let stops = scene.stops.clone();
    let counted = runs.clone();
    let setup = Script::exits(0)
        .after(Duration::from_secs(10))
        .on_start(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            stops.send_modify(|stops| {
                stops.insert("a".parse().unwrap(), false);
            });
        })
        .on_exit(make_deps);
    scene.engine.script("setup", setup);
    let summary = scene.run(TWO).await;
    assert_eq!(report(&summary, "a").outcome, TaskOutcome::Cancelled);
    assert!(report(&summary, "b").is_good(), "{summary:#?}");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_setup_of_root_makes_an_image_that_its_tasks_run_in() {
    let (mut scene, runs) = scene();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    for task in ["a", "b"] {
        let images = seen.clone();
        let script = Scene::hands_off(0).on_start(move |config| {
            sees_deps(config);
            assert!(config.capabilities.is_empty());
            images.lock().unwrap().push(config.image.clone());
        });
        scene.engine.script(&format!("task/{task}"), script);
    }
    let setup = Script::exits(0).on_exit(|config| {
        assert_eq!(config.user, "0:0");
        assert!(
            config.environment.is_empty(),
            "it would be part of the image"
        );
        assert!(config.command.is_empty(), "it would be the image's");
        make_deps(config);
    });
    scene.engine.script("setup", setup);
    let yaml = as_root(TWO).replace("defaults:", "defaults:\n  environment: { TOKEN: hunter2 }");
    all_good(&scene.run(&yaml).await);
    let made = scene.engine.made_images();
    assert_eq!(made.len(), 1);
    let images = seen.lock().unwrap().clone();
    assert!(images.len() == 2 && images[0] == images[1], "{images:?}");
    // An image that somebody removed is made again.
    scene.run = "261120-101501-abcd".parse().unwrap();
    let engine = scene.engine.clone();
    agent_run::engine::Engine::remove_image(&engine, &made[0])
        .await
        .unwrap();
    all_good(&scene.run(&yaml).await);
    assert_eq!(scene.engine.made_images(), made);
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn all_but_the_start_is_made_while_a_setup_runs_that_makes_no_image() {
    for (yaml, expected) in [(TWO.to_owned(), 2), (as_root(TWO), 0)] {
        let (scene, _) = scene();
        let engine = scene.engine.clone();
        let made = Arc::new(Mutex::new(None));
        let seen = made.clone();
        let setup = Script::exits(0).after(Duration::from_secs(10));
        let setup = setup.on_exit(move |config| {
            let is_of_task = |c: &ContainerConfig| !c.name.contains("setup");
            let created = engine.containers().iter().filter(|c| is_of_task(c)).count();
            let calls = engine.calls();
            let starts = calls.iter().filter(|(call, name)| {
                *call == Operation::Start && !name.contains("setup") && !name.contains("probe")
            });
            *seen.lock().unwrap() = Some((created, starts.count()));
            make_deps(config);
        });
        scene.engine.script("setup", setup);
        all_good(&scene.run(&yaml).await);
        assert_eq!(*made.lock().unwrap(), Some((expected, 0)), "{yaml}");
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_setup_ran_in_goes_beside_the_tasks_and_before_the_run() {
    let (scene, _) = scene();
    let hour = Duration::from_secs(3600);
    let removal = Operation::RemoveContainer;
    scene.engine.fault("setup", removal, Fault::Slow(hour));
    let began = tokio::time::Instant::now();
    let summary = scene.run(TWO).await;
    all_good(&summary);
    assert!(report(&summary, "a").ran < hour);
    assert!(began.elapsed() >= hour);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn whatever_call_fails_leaves_nothing_that_is_believed() {
    use Operation as Op;
    for operation in [
        Op::CreateContainer,
        Op::Attach,
        Op::Start,
        Op::Wait,
        Op::Commit,
    ] {
        let refused = || Fault::Fail(ErrorKind::Refused("no".into()));
        for fault in [refused(), Fault::DoneBut(ErrorKind::Timeout)] {
            let (scene, _) = scene();
            scene.engine.fault("setup", operation, fault);
            let summary = scene.run(&as_root(TWO)).await;
            infra(&summary, "a");
            infra(&summary, "b");
            assert_eq!(prepared(&scene), Vec::<PathBuf>::new(), "{operation}");
            scene.assert_nothing_left();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_in_its_setup_leaves_nothing_that_is_believed() {
    let (scene, runs) = scene();
    let name = run_container_name(&scene.run, Role::Setup, "");
    let started = |seen: &Seen| {
        seen.events
            .iter()
            .any(|e| matches!(e.kind, EventKind::Setup { .. }))
    };
    scene.engine.script("setup", Script::runs_forever());
    {
        let mut seen = Seen::default();
        let run = scene.observed(TWO, &mut seen);
        let limit = tokio::time::timeout(Duration::from_secs(30), run);
        assert!(limit.await.is_err(), "it was to go on");
        assert!(started(&seen));
    }
    scene.is_dead().await;
    let counted = runs.clone();
    let setup = Script::exits(0).on_exit(move |config| {
        counted.fetch_add(1, Ordering::SeqCst);
        make_deps(config);
    });
    scene.engine.script("setup", setup);
    let mut seen = Seen::default();
    let summary = scene.resumed(TWO, &mut seen).await.unwrap();
    all_good(&summary);
    assert_eq!(runs.load(Ordering::SeqCst), 1, "{name}");
    assert_eq!(prepared(&scene).len(), 1);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn where_views_cannot_be_mounted_each_task_gets_a_copy_and_one_warning() {
    let (scene, runs) = scene();
    scene.engine.refuse_volumes("invalid argument");
    let copy = Script::exits(0).on_exit(|config| {
        let from = host_path(config, "/agent/prepared/0/lib");
        std::fs::copy(from, host_path(config, "/agent/copy/0").join("lib")).unwrap();
    });
    for task in ["a", "b"] {
        scene.engine.script(&format!("setup/{task}"), copy.clone());
        let script = Scene::hands_off(0).on_start(|config| {
            assert!(config.volumes.is_empty());
            let lib = host_path(config, "/workspace/deps/lib");
            assert_eq!(std::fs::read_to_string(lib).unwrap(), "made\n");
        });
        scene.engine.script(&format!("task/{task}"), script);
    }
    let mut seen = Seen::default();
    all_good(&scene.observed(TWO, &mut seen).await.unwrap());
    let warnings = seen.events.iter().filter_map(|event| match &event.kind {
        EventKind::Warning { message } => Some(message.as_str()),
        _ => None,
    });
    assert_eq!(
        warnings.collect::<Vec<_>>(),
        [
            "prepared directories cannot be mounted copy-on-write here, so that each task gets a copy: invalid argument"
        ]
    );
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    scene.assert_nothing_left();
    // A copy that fails is that task's.
    scene.engine.script("setup/a", Script::exits(1));
    let mut scene = scene;
    scene.run = "261120-101501-abcd".parse().unwrap();
    let summary = scene.run(TWO).await;
    infra(&summary, "a");
    assert!(report(&summary, "b").is_good(), "{summary:#?}");
    scene.assert_nothing_left();
}

const CACHES: &str = "\
version: 1
max_parallel: 8
defaults:
  cache: [{ key: npm, path: ~/.npm }, { key: go, path: /go, mode: private }]
tasks:
  a: { run: x }
  b: { run: x }
";

#[tokio::test(start_paused = true)]
async fn a_shared_cache_is_one_and_private_ones_are_apart() {
    let mut scene = Scene::new();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    for task in ["a", "b"] {
        let places = seen.clone();
        let script = Scene::hands_off(0)
            .after(Duration::from_secs(5))
            .on_start(move |config| {
                let place = (
                    host_path(config, "/home/agent/.npm"),
                    host_path(config, "/go"),
                );
                places.lock().unwrap().push(place);
            });
        scene.engine.script(&format!("task/{task}"), script);
    }
    all_good(&scene.run(CACHES).await);
    scene.assert_nothing_left();
    let first = seen.lock().unwrap().clone();
    assert_eq!(first[0].0, first[1].0);
    assert_ne!(first[0].1, first[1].1);
    // One after the other they have the same.
    scene.run = "261120-101501-abcd".parse().unwrap();
    all_good(
        &scene
            .run(&CACHES.replace("max_parallel: 8", "max_parallel: 1"))
            .await,
    );
    let all = seen.lock().unwrap().clone();
    assert_eq!(all[2], all[3]);
    assert!(first.contains(&all[2]), "{all:?}");
    scene.assert_nothing_left();
}
