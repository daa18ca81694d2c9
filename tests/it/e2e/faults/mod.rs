//! An engine that is killed, stopped and restarted in mid-run: never the task's failure, and no work
//! is lost.

pub mod daemon;
mod output;

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use super::scene::{Scene, expect, spawn, task, until};
use daemon::Daemon;

/// Prints, works, and goes on when it is told to.
const LONG: &str = "      echo begun > work.txt
      i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i + 1)); done
      echo ready
      until [ -e go ]; do sleep 0.1; done; rm go
      seq -f 'line %.0f' 100 LAST
      echo done >> work.txt
";

fn spec(scene: &Scene, last: u32, rest: &str) -> String {
    let long = LONG.replace("LAST", &last.to_string());
    let yaml = format!(
        "version: 1\nmax_parallel: 1\ndefaults: {{ network_mode: none, mem_limit: 256m }}\ntasks:\n  \
         long:\n{rest}    run: |\n{long}  last: {{ run: 'echo last > last.txt' }}\n"
    );
    scene.spec(&yaml).to_str().expect("a path").to_owned()
}

/// Starts a run on an engine, and gives the lines of its standard error from where its task waits.
fn started(
    scene: &Scene,
    daemon: &Daemon,
    spec: &str,
) -> (std::process::Child, impl Iterator<Item = String> + use<>) {
    let arguments = ["run", "--host", &daemon.url(), spec];
    let (child, mut lines) = spawn(scene.command(&arguments));
    expect(&mut lines, "| ready");
    until("the engine says that it runs", || {
        !daemon.docker(&["ps", "-q"]).stdout.is_empty()
    });
    (child, lines)
}

fn worktree(scene: &Scene, attempt: u32) -> PathBuf {
    let run = scene.state().join("runs").join(&scene.runs()[0]);
    run.join(format!("tasks/long/{attempt}/worktree"))
}

fn go(scene: &Scene, attempt: u32) {
    std::fs::write(worktree(scene, attempt).join("go"), "").expect("a file");
}

fn ended(
    scene: &Scene,
    (mut child, lines): (std::process::Child, impl Iterator<Item = String>),
) -> (Option<i32>, Value, String) {
    let rest: Vec<String> = lines.collect();
    let code = child.wait().expect("an end").code();
    (code, scene.result(), rest.join("\n"))
}

/// Expects each numbered line once and in order in the log of the first attempt.
fn assert_numbers(scene: &Scene, count: u32) {
    let run = scene.state().join("runs").join(&scene.runs()[0]);
    let log = std::fs::read_to_string(run.join("logs/long.1.log")).expect("a log");
    let number = |line: &str| line.split_once(" F line ")?.1.parse().ok();
    let numbers: Vec<u32> = log.lines().filter_map(number).collect();
    let wrong = (0..count).zip(&numbers).find(|(n, found)| n != *found);
    assert_eq!((wrong, numbers.len()), (None, count as usize));
}

fn assert_nothing_left(scene: &Scene, daemon: &Daemon) {
    for list in [&["ps", "-aq"][..], &["volume", "ls", "-q"]] {
        assert_eq!(daemon.docker(list).stdout, "");
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_container_that_outlives_its_engine_is_watched_on_and_its_log_is_whole() {
    let (scene, mut daemon) = (Scene::new(), Daemon::start(true));
    // More than the pipes between it and the engine take: it stands still until there is one.
    let spec = spec(&scene, 99_999, "");
    let (child, mut lines) = started(&scene, &daemon, &spec);
    daemon.end(Signal::KILL);
    expect(&mut lines, "does not answer");
    go(&scene, 1);
    until("it goes on", || !worktree(&scene, 1).join("go").exists());
    daemon.restart(true);
    let (code, result, said) = ended(&scene, (child, lines));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("answers again"), "{said}");
    assert_eq!(task(&result, "long")["attempt"], 1, "{said}");
    assert_numbers(&scene, 100_000);
    assert!(!said.contains("the log is not whole"), "{said}");
    assert!(!said.contains("the log may"), "{said}");
    assert_nothing_left(&scene, &daemon);
}

/// Without live-restore an engine ends its containers: at its own end, or when it starts again.
#[test]
fn what_an_engine_takes_with_it_is_interrupted_and_tried_again() {
    for signal in [Signal::TERM, Signal::KILL] {
        let (scene, mut daemon) = (Scene::new(), Daemon::start(false));
        let retry = "    retry: { max: 1, when: [infra_failure] }\n";
        let spec = spec(&scene, 199, retry);
        let (child, mut lines) = started(&scene, &daemon, &spec);
        daemon.end(signal);
        expect(&mut lines, "does not answer");
        daemon.restart(false);
        expect(&mut lines, "| ready");
        go(&scene, 2);
        let (code, result, said) = ended(&scene, (child, lines));
        assert_eq!(code, Some(0), "{signal:?}: {said}");
        let report = task(&result, "long");
        assert_eq!(report["attempt"], 2, "{report:#}");
        let first = &report["earlier_attempts"][0];
        assert_eq!(first["outcome"]["outcome"], "infra", "{first:#}");
        assert_eq!(first["outcome"]["stage"], "interrupted", "{first:#}");
        let kept = first["branch"]["kept_ref"].as_str().expect("a ref");
        let work = scene.git(&["show", &format!("{kept}:work.txt")]);
        assert_eq!(work, "begun\n");
        assert_eq!(task(&result, "last")["outcome"]["outcome"], "succeeded");
        assert_nothing_left(&scene, &daemon);
    }
}

#[test]
fn a_container_that_ends_without_its_engine_is_collected_and_its_gap_is_told() {
    let (scene, mut daemon) = (Scene::new(), Daemon::start(true));
    let spec = spec(&scene, 199, "");
    let (child, mut lines) = started(&scene, &daemon, &spec);
    daemon.end(Signal::KILL);
    expect(&mut lines, "does not answer");
    go(&scene, 1);
    let status = worktree(&scene, 1).with_file_name("out").join("status");
    until("it hands off", || status.exists());
    until("it has ended", || !daemon.runs_containers());
    daemon.restart(true);
    let (code, result, said) = ended(&scene, (child, lines));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ended while the engine was away"), "{said}");
    let run = result["run"].as_str().expect("a run");
    let work = scene.git(&["show", &format!("agent/{run}/long:work.txt")]);
    assert_eq!(work, "begun\ndone\n");
    assert_nothing_left(&scene, &daemon);
}

#[test]
fn a_container_that_its_engine_has_lost_is_told_of_and_its_work_is_collected() {
    let (scene, mut daemon) = (Scene::new(), Daemon::start(true));
    let spec = spec(&scene, 199, "");
    let (child, mut lines) = started(&scene, &daemon, &spec);
    daemon.end(Signal::KILL);
    expect(&mut lines, "does not answer");
    std::fs::remove_dir_all(daemon.path("data/containers")).expect("its containers");
    daemon.restart(true);
    let (code, result, said) = ended(&scene, (child, lines));
    assert_eq!(code, Some(100), "{said}");
    let report = task(&result, "long");
    assert_eq!(report["outcome"]["stage"], "interrupted", "{report:#}");
    let run = result["run"].as_str().expect("a run");
    let work = scene.git(&["show", &format!("agent/{run}/long:work.txt")]);
    assert_eq!(work, "begun\n");
    assert_eq!(task(&result, "last")["outcome"]["outcome"], "succeeded");
    assert_nothing_left(&scene, &daemon);
}

#[test]
fn an_engine_that_stands_still_for_a_while_changes_nothing() {
    let (scene, daemon) = (Scene::new(), Daemon::start(true));
    let spec = spec(&scene, 199, "");
    let running = started(&scene, &daemon, &spec);
    daemon.signal(Signal::STOP);
    go(&scene, 1);
    let status = worktree(&scene, 1).with_file_name("out").join("status");
    until("it hands off", || status.exists());
    daemon.signal(Signal::CONT);
    let (code, result, said) = ended(&scene, running);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(task(&result, "long")["outcome"]["outcome"], "succeeded");
    assert_numbers(&scene, 200);
    assert_nothing_left(&scene, &daemon);
}
