//! Many at once: tasks on one network, and runs on one repository.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use super::scene::{Ended, Scene, docker};

/// More than an engine has networks for by itself (about 30).
const TASKS: usize = 40;

fn spec(scene: &Scene, tasks: usize, script: &str) -> String {
    let tasks: String = (0..tasks)
        .map(|n| format!("  t{n}:\n    run: {script}\n"))
        .collect();
    let yaml = format!("version: 1\ndefaults: {{ mem_limit: 64m }}\ntasks:\n{tasks}");
    scene
        .spec(&yaml)
        .into_os_string()
        .into_string()
        .expect("a path")
}

fn branches(scene: &Scene) -> usize {
    scene.git(&["branch", "--list", "agent/*"]).lines().count()
}

#[test]
fn forty_tasks_at_once() {
    let scene = Scene::new();
    let spec = spec(&scene, TASKS, "echo work > work; echo ready; sleep 600");
    let mut child = scene
        .command(&["run", "-j", &TASKS.to_string(), &spec])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("agent-run");
    let stderr = BufReader::new(child.stderr.take().expect("standard error"));
    let mut lines = stderr.lines().map(|line| line.expect("a line"));
    let ready = lines.by_ref().filter(|line| line.ends_with("| ready"));
    assert_eq!(ready.take(TASKS).count(), TASKS, "not all tasks came up");
    let network = docker(&[
        "network",
        "inspect",
        "-f",
        "{{len .Containers}}",
        &scene.network(),
    ]);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
    assert_eq!(network.stdout.trim(), TASKS.to_string(), "{network}");
    assert_eq!(branches(&scene), TASKS, "{rest:?}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
#[ignore = "slow: make test-all runs it"]
fn a_hundred_tasks_fifty_at_once_on_a_branch_of_the_origin() {
    let scene = Scene::new();
    let origin = scene.path().join("origin.git");
    let origin = origin.to_str().expect("a path");
    scene.git(&["clone", "-q", "--bare", ".", origin]);
    scene.git(&["remote", "add", "origin", origin]);
    scene.git(&["fetch", "-q"]);
    // Not what is checked out.
    scene.write("ahead.txt", "ahead\n");
    scene.commit("ahead of the origin");
    let tasks: String = (0..100)
        .map(|n| format!("  t{n}: {{ run: 'test ! -e ahead.txt; echo {n} > work.txt' }}\n"))
        .collect();
    let yaml = format!(
        "version: 1\nbase: origin/main\nmax_parallel: 50\ndefaults: {{ mem_limit: 64m }}\n\
         tasks:\n{tasks}"
    );
    let (ended, result) = scene.run(&yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    let run = result["run"].as_str().expect("a run");
    let base = scene.git(&["rev-parse", "origin/main"]);
    for n in 0..100 {
        let branch = format!("agent/{run}/t{n}");
        let work = scene.git(&["show", &format!("{branch}:work.txt")]);
        assert_eq!(work, format!("{n}\n"));
        assert_eq!(scene.git(&["rev-parse", &format!("{branch}^")]), base);
    }
    assert_eq!(scene.left(), Vec::<String>::new());
    scene.git(&["fsck", "--strict"]);
}

#[test]
fn two_runs_on_one_repository() {
    let scene = Scene::new();
    let spec = spec(
        &scene,
        4,
        "echo work > work; git add work; git commit -qm work",
    );
    let start = || -> Child {
        let mut command = scene.command(&["run", "-j", "4", &spec]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("agent-run")
    };
    for child in [start(), start()] {
        let ended: Ended = child.wait_with_output().expect("an end").into();
        assert_eq!(ended.code, Some(0), "{ended}");
    }
    assert_eq!(scene.runs().len(), 2);
    assert_eq!(branches(&scene), 8);
    assert_eq!(scene.left(), Vec::<String>::new());
    scene.git(&["fsck", "--strict"]);
}
