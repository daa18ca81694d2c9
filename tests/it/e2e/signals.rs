//! Interrupts and time limits of a run: what is heard, and what becomes of the work.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use super::scene::{Scene, docker, expect, interrupt, spawn, start, task, until};

#[test]
fn an_interrupt_keeps_the_work() {
    let scene = Scene::new();
    let yaml = r"
version: 1
tasks:
  obeys:
    run: |
      echo half > half.txt
      echo ready
      sleep 60
  waits:
    run: echo never
";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", "-j", "1", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
    let result = scene.result();
    assert_eq!(task(&result, "obeys")["outcome"]["outcome"], "cancelled");
    assert_eq!(task(&result, "obeys")["branch"]["result"], "created");
    assert_eq!(task(&result, "waits")["outcome"]["outcome"], "skipped");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_hang_up_keeps_the_work_and_a_broken_pipe_ends_nothing() {
    let scene = Scene::new();
    let yaml = "version: 1\ntasks:\n  a: { run: echo half > half.txt; echo ready; sleep 600 }\n";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    let pid = rustix::process::Pid::from_child(&child);
    let send = |signal| rustix::process::kill_process(pid, signal).expect("a signal");
    send(rustix::process::Signal::PIPE);
    // Nobody reads standard error any more either.
    drop(lines);
    send(rustix::process::Signal::HUP);
    assert_eq!(child.wait().expect("an end").code(), Some(143));
    let result = scene.result();
    assert_eq!(result["stopped"], "terminated");
    assert_eq!(task(&result, "a")["branch"]["result"], "created");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn an_interrupt_is_heard_while_another_run_holds_the_repository() {
    let scene = Scene::new();
    let yaml = "version: 1\ntasks:\n  a: { run: echo a > a.txt }\n";
    let (ended, _) = scene.run(yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    let (fresh, spec) = (scene.path().join("fresh"), scene.spec(yaml));
    let planned = scene
        .command(&["plan"])
        .arg("--state-dir")
        .arg(&fresh)
        .arg(spec)
        .output();
    assert!(planned.expect("agent-run").status.success());
    let mode = std::fs::metadata(fresh).expect("a directory").mode();
    assert_eq!(
        mode & 0o777,
        0o700,
        "others may not read what is copied there"
    );
    let repositories = std::fs::read_dir(scene.state().join("repos")).expect("repositories");
    let place = repositories.map(|e| e.expect("an entry").path()).next();
    let lock = std::fs::File::open(place.expect("one").join("lock")).expect("a lock");
    lock.lock().expect("the lock");
    let spec = scene.spec(yaml);
    let (mut child, _lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    until("it has a plan", || {
        let runs = scene.runs();
        let plan = |run| scene.state().join("runs").join(run).join("plan.json");
        runs.len() == 2 && plan(&runs[1]).exists()
    });
    interrupt(&child);
    let mut ended = None;
    until("it has left", || {
        ended = child.try_wait().expect("a state");
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(130));
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_hang_up_that_nohup_ignores_stays_ignored() {
    let scene = Scene::new();
    let yaml = "version: 1\ntasks:\n  a: { run: echo ready; sleep 3; echo a > a.txt }\n";
    let spec = scene.spec(yaml);
    let plain = scene.command(&[]);
    let mut nohup = Command::new("sh");
    nohup
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(plain.get_program())
        .arg("run")
        .arg(spec)
        .current_dir(scene.path())
        .envs(
            plain
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    let (mut child, mut lines) = spawn(nohup);
    expect(&mut lines, "| ready");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("a signal");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{rest:?}");
}

#[test]
fn a_reader_that_has_stopped_reading_makes_no_signal_unheard() {
    let scene = Scene::new();
    let yaml = r"
version: 1
tasks:
  flood:
    run: |
      echo ready
      i=0; while [ $i -lt 20000 ]; do echo a line that nobody reads $i; i=$((i+1)); done
      sleep 600
";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    let log = scene.state().join("runs").join(&scene.runs()[0]);
    let log = log.join("logs/flood.1.log");
    until("the log is whole", || {
        let text = std::fs::read_to_string(&log).expect("a log");
        text.contains(" 19999")
    });
    interrupt(&child);
    let filter = format!("label=agent-run.run={}", scene.runs()[0]);
    until("its container is gone", || {
        let left = docker(&["ps", "-aq", "--filter", &filter]);
        left.stdout.is_empty()
    });
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn the_whole_run_has_a_time_limit() {
    let scene = Scene::new();
    let yaml = "version: 1\ntimeout: 10s\ntasks:\n  long:\n    run: echo a > a.txt; sleep 60\n";
    let (ended, result) = scene.run(yaml);
    assert_eq!(ended.code, Some(124), "{ended}");
    assert_eq!(result["stopped"], "timed_out");
    assert_eq!(task(&result, "long")["branch"]["result"], "created");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn the_third_interrupt_leaves_at_once_and_says_how_to_clean() {
    let scene = Scene::new();
    let (ended, _) = scene.run("version: 1\ntasks:\n  a: { run: echo a > a.txt }\n");
    assert_eq!(ended.code, Some(0), "{ended}");
    let repositories = std::fs::read_dir(scene.state().join("repos")).expect("repositories");
    let place = repositories.map(|e| e.expect("an entry").path()).next();
    let lock = std::fs::File::open(place.expect("one").join("lock")).expect("a lock");
    let spec = scene.spec(
        "version: 1\ntasks:\n  long: { run: 'echo half > half.txt; echo ready; sleep 600' }\n",
    );
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    // Its work cannot come into the repository as long as this is held: the run cannot end.
    lock.lock().expect("the lock");
    interrupt(&child);
    expect(&mut lines, "Stopping");
    let pid = child.id().to_string();
    until("it waits for the lock", || {
        let locks = std::fs::read_to_string("/proc/locks").expect("the locks");
        let waits = |line: &str| line.contains("->") && line.split(' ').any(|word| word == pid);
        locks.lines().any(waits)
    });
    interrupt(&child);
    expect(&mut lines, "Stopping");
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
    let run = scene.runs().pop().expect("a run");
    let advice = format!("agent-run clean --run {run}");
    assert!(rest.iter().any(|line| line.contains(&advice)), "{rest:?}");
    assert!(!scene.left().is_empty());
    lock.unlock().expect("the lock");
    let advice: Vec<&str> = advice.split(' ').skip(1).collect();
    let cleaned = scene.agent_run(&advice);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    let half = format!("agent/{run}/long:half.txt");
    assert_eq!(scene.git(&["show", &half]), "half\n", "{cleaned}");
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
}
