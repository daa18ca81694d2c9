//! A state directory on a small disk that fills in mid-run: nothing is called a success that is none,
//! nothing is left running, and what was done is found again.

use std::path::Path;
use std::process::Child;

use super::scene::{Scene, docker, expect, start, task};
use crate::records::Small;

const WAITS: &str = "no further task begins";

/// Two tasks, one after the other; the first one waits for a file once it has done its work.
fn begin(scene: &Scene, then: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let yaml = format!(
        "version: 1\nmax_parallel: 1\ntasks:\n  a:\n    run: |\n      echo work > a.txt\n      \
         git add a.txt && git commit -qm work\n      echo begun\n      {then}\n  \
         b: {{ run: 'echo more > b.txt' }}\n"
    );
    let spec = scene.spec(&yaml);
    let (child, mut lines) = start(scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| begun");
    (child, lines)
}

fn running(scene: &Scene) -> String {
    let run = scene.runs().pop().expect("a run");
    let filter = format!("label=agent-run.run={run}");
    docker(&["ps", "-q", "--filter", &filter]).stdout
}

/// The work of the first task is on its branch or in its directory, and never both missing.
fn assert_kept(scene: &Scene, run: &str, told: &str) {
    let branches = scene.git(&["branch", "--list", &format!("agent/{run}/a")]);
    let worktree = scene
        .state()
        .join("runs")
        .join(run)
        .join("tasks/a/1/worktree");
    if branches.is_empty() {
        let work = std::fs::read_to_string(worktree.join("a.txt"));
        assert_eq!(work.ok().as_deref(), Some("work\n"), "{told}");
    } else {
        let work = scene.git(&["show", &format!("agent/{run}/a:a.txt")]);
        assert_eq!(work, "work\n", "{told}");
    }
}

/// What is told as good has its branch; work that has none is told as kept, and the run has failed.
fn assert_told_truly(scene: &Scene, code: Option<i32>, told: &str) {
    let result = scene.result();
    let run = scene.runs().pop().expect("a run");
    for name in ["a", "b"] {
        let is_good = task(&result, name)["outcome"]["outcome"] == "succeeded";
        let is_created = task(&result, name)["branch"]["result"] == "created";
        assert!(is_good && is_created || code != Some(0), "{name}: {told}");
        if is_created {
            let branch = format!("agent/{run}/{name}");
            let found = scene.git(&["branch", "--list", &branch]);
            assert!(found.contains(&branch), "{name}: {told}");
        }
    }
}

fn on_a_disk() -> (Scene, Small) {
    let scene = Scene::new();
    std::fs::create_dir(scene.state()).expect("a directory");
    let disk = Small::in_a_file(&scene.path().join("disk"), &scene.state(), "96m");
    (scene, disk)
}

fn go(scene: &Scene) {
    let run = scene.runs().pop().expect("a run");
    let home = scene.state().join("runs").join(run).join("tasks/a/1/home");
    std::fs::write(home.join("go"), "").expect("a file without content needs no room");
}

fn free(filler: &Path) {
    std::fs::remove_file(filler).expect("the filler");
}

#[test]
fn a_disk_that_fills_under_a_running_task_loses_nothing() {
    let (scene, disk) = on_a_disk();
    let (mut child, mut lines) = begin(&scene, "until [ -e ~/go ]; do sleep 0.1; done");
    let filler = disk.fill();
    go(&scene);
    expect(&mut lines, WAITS);
    assert_eq!(running(&scene), "");
    free(&filler);
    let rest: Vec<String> = lines.collect();
    let code = child.wait().expect("an end").code();
    let told = format!("{code:?} {}\n{rest:#?}", scene.result());
    let run = scene.runs().pop().expect("a run");
    assert_told_truly(&scene, code, &told);
    assert_kept(&scene, &run, &told);
    let b = task(&scene.result(), "b")["outcome"]["outcome"].clone();
    assert_eq!(b, "succeeded", "{told}");
    assert_eq!(running(&scene), "");
    for arguments in [&["clean"][..], &["clean", "--all"]] {
        let cleaned = scene.agent_run(arguments);
        assert_eq!(cleaned.code, Some(0), "{cleaned}");
        assert_kept(&scene, &run, &format!("{told} {cleaned}"));
    }
}

#[test]
fn a_task_that_fills_the_disk_itself_ends_alone_and_its_work_is_kept() {
    let (scene, _disk) = on_a_disk();
    let (mut child, mut lines) = begin(&scene, "cat /dev/zero > zeros");
    expect(&mut lines, WAITS);
    assert_eq!(running(&scene), "");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    let rest: Vec<String> = lines.collect();
    let code = child.wait().expect("an end").code();
    let told = format!("{code:?} {}\n{rest:#?}", scene.result());
    let run = scene.runs().pop().expect("a run");
    assert_eq!(code, Some(130), "{told}");
    assert_ne!(
        task(&scene.result(), "a")["outcome"]["outcome"],
        "succeeded"
    );
    assert_kept(&scene, &run, &told);
}

#[test]
fn a_disk_that_fills_and_a_kill_leave_a_run_that_goes_on() {
    let (scene, disk) = on_a_disk();
    let (mut child, lines) = begin(&scene, "until [ -e ~/go ]; do sleep 0.1; done");
    let filler = disk.fill();
    child.kill().expect("a kill");
    child.wait().expect("an end");
    drop(lines);
    let listed = scene.agent_run(&["ps"]);
    assert!(listed.stdout.contains("interrupted"), "{listed}");
    go(&scene);
    free(&filler);
    let run = scene.runs().pop().expect("a run");
    let resumed = scene.agent_run(&["resume", &run]);
    assert_eq!(resumed.code, Some(0), "{resumed}");
    let told = format!("{} {resumed}", scene.result());
    assert_told_truly(&scene, resumed.code, &told);
    assert_kept(&scene, &run, &told);
    assert_eq!(scene.left(), Vec::<String>::new(), "{told}");
}
