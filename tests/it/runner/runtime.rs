//! `runtime`: which containers have it, and what its name promises, asked from inside before a task starts.

use std::sync::{Arc, Mutex};

use agent_run::engine::Operation;
use agent_run::engine::config::ContainerConfig;
use agent_run::event::TaskReport;
use agent_run::runner::RunError;

use super::scene::{Scene, Seen, answer_probe, report};
use crate::fake::{Script, host_path};

const OLD: &str = "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n";
const NEW: &str = "Linux version 4.19.0-gvisor #1 SMP Sun Jan 10 15:06:54 PST 2016\n";
const OTHERS: &str = "Linux version 6.1.0-18-amd64 (builder@host) (gcc-12) #1 SMP\n";

/// Answers each probe, that of the kernel with these words.
fn probes(kernel: &'static str) -> Script {
    Script::exits(0).replies(move |config, _| {
        if config.name.contains("probe-kernel") {
            kernel.as_bytes().to_vec()
        } else {
            answer_probe(config)
        }
    })
}

fn scene(kernel: &'static str) -> Scene {
    let scene = Scene::new();
    scene.engine.script("task", Scene::hands_off(0));
    scene.engine.script("probe", probes(kernel));
    scene
}

/// The containers that were started, of those whose names have this part.
fn started(scene: &Scene, part: &str) -> usize {
    let calls = scene.engine.calls();
    let is_one = |(operation, name): &&(Operation, String)| {
        *operation == Operation::Start && name.contains(part)
    };
    calls.iter().filter(is_one).count()
}

#[tokio::test(start_paused = true)]
async fn the_kernel_of_gvisor_is_asked_for_once_in_each_run() {
    let mut scene = scene(OLD);
    let yaml =
        "version: 1\ndefaults: { runtime: runsc }\ntasks:\n  a: { run: x }\n  b: { run: x }\n";
    for (number, kernel) in [OLD, NEW].into_iter().enumerate() {
        scene.run = format!("261120-10160{number}-abcd").parse().unwrap();
        scene.engine.script("probe", probes(kernel));
        let summary = scene.run(yaml).await;
        assert!(
            summary.tasks.iter().all(TaskReport::is_good),
            "{summary:#?}"
        );
        assert_eq!(started(&scene, "probe-kernel"), number + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn another_kernel_than_its_name_promises_ends_the_run_before_any_task() {
    for kernel in [OTHERS, "", "Linux version 4.4.0-gvisor-not\n"] {
        let scene = scene(kernel);
        let yaml = "version: 1\ntasks:\n  a: { run: x, runtime: runsc, setup: y }\n";
        let ended = scene.observed(yaml, &mut Seen::default()).await;
        let Err(RunError::NotGvisor { runtime, .. }) = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(runtime, "runsc");
        let begun = [started(&scene, "-task-"), started(&scene, "-setup-")];
        assert_eq!((begun, started(&scene, "probe-kernel")), ([0, 0], 1));
    }
}

#[tokio::test(start_paused = true)]
async fn all_that_runs_what_an_agent_wrote_has_the_runtime_of_its_task() {
    let scene = scene(OTHERS);
    let makes = |config: &ContainerConfig| {
        std::fs::create_dir(host_path(config, "/workspace/made")).unwrap();
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noting = |script: Script| {
        let seen = seen.clone();
        script.on_start(move |config| {
            let runtime = config.runtime.clone();
            seen.lock().unwrap().push((config.name.clone(), runtime));
        })
    };
    scene.engine.script("task", noting(Scene::hands_off(0)));
    scene.engine.script("verify", noting(Scene::hands_off(0)));
    scene
        .engine
        .script("setup", noting(Script::exits(0).on_exit(makes)));
    scene.engine.script("probe", noting(probes(OTHERS)));
    let yaml = "version: 1\nmax_parallel: 1\ntasks:\n  \
        a: { run: x, runtime: other, verify: { run: y }, setup: { run: z, user: agent, paths: [made] } }\n  \
        b: { run: x, image: 'b:1' }\n";
    let summary = scene.run(yaml).await;
    assert!(report(&summary, "a").is_good(), "{summary:#?}");
    let seen = seen.lock().unwrap();
    let count = |part: &str, runtime: Option<&str>| {
        let seen = seen.iter();
        let found = seen.filter(|(name, of)| name.contains(part) && of.as_deref() == runtime);
        found.count()
    };
    for (part, of_a, of_b) in [
        ("-1-a", 1, 0),
        ("-1-verify-a", 1, 0),
        ("-1-b", 0, 1),
        ("-setup-", 1, 0),
        ("probe-image", 1, 1),
        ("probe-mounts", 1, 1),
        ("probe-kernel", 0, 0),
    ] {
        let found = (count(part, Some("other")), count(part, None));
        assert_eq!(found, (of_a, of_b), "{part}: {seen:#?}");
    }
}
