//! What is prepared once: what a `setup` adds to a run, and when eight tasks have the files of 400 packages,
//! prepared or installed by each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use agent_run::id::{RepoKey, StateDir};
use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::rows::{Goal, Pair, Row, median};
use crate::scene::{Scene, command, git, refuse_if_interrupted, run};
use crate::trees::disk;

const TASKS: u32 = 8;
/// What the setup of the first comparison sleeps for, in seconds.
const SETUP: f64 = 10.0;
const PACKAGES: u32 = 400;
/// In each package; 20 000 in all.
const FILES: u32 = 50;
/// As a package manager does it, without the network: each package's archive is unpacked.
const INSTALL: &str =
    "mkdir node_modules && for p in packages/*.tgz; do tar xzf $p -C node_modules; done";
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub fn setup(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("setup", 1000)?;
    let scripts = vec![crate::loops::WORK.to_owned(); TASKS as usize];
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        let spec = scene.spec(&repository, &scripts, &json!({}))?;
        let theirs = scene.run(&spec, TASKS)?.took;
        // Another script each time: what was prepared is there already.
        let script = format!("sleep {SETUP}; mkdir deps; echo {round} > deps/round");
        let keys = json!({ "setup": { "run": script, "paths": ["deps"] } });
        let spec = scene.spec(&repository, &scripts, &keys)?;
        let ours = scene.run(&spec, TASKS)?.took - SETUP;
        pairs.push(Pair { ours, theirs });
    }
    let what = format!("{TASKS} tasks and their `setup` of {SETUP} s, less these {SETUP} s");
    let without = "the tasks without it";
    Ok(vec![Row::ratio(&what, without, Goal::AtMost(1.2), &pairs)])
}

pub fn compare(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = packages(scene)?;
    let ready = "touch ~/ready; sleep 600";
    let limits = json!({ "network_mode": "none" });
    let installs = vec![format!("{INSTALL}; {ready}"); TASKS as usize];
    let sees = vec![format!("test -e node_modules/package-1 && {ready}"); TASKS as usize];
    let prepared = json!({
        "network_mode": "none",
        "setup": { "run": INSTALL, "paths": ["node_modules"] },
    });
    let (mut times, mut disks) = (Vec::new(), Vec::new());
    for _ in 0..=rounds {
        let spec = scene.spec(&repository, &sees, &prepared)?;
        let (ours, ours_disk) = until_ready(scene, &spec)?;
        let spec = scene.spec(&repository, &installs, &limits)?;
        let (theirs, theirs_disk) = until_ready(scene, &spec)?;
        times.push(Pair { ours, theirs });
        disks.push((ours_disk, theirs_disk));
    }
    // The first round has carried the setup out, which is kept for the others.
    let first = format!("{:.1} s with the setup itself", times[0].ours);
    let files = PACKAGES * FILES;
    let what = format!("{TASKS} tasks with {files} files of `setup`: time until all have them");
    let against = format!("installed by each of the {TASKS}");
    let mut time = Row::ratio(&what, &against, Goal::AtMost(0.2), &times);
    time.detail = format!("{}; {first}", time.detail);
    let kept = disk(&prepared_directory(scene, &repository)?)?;
    let middle = |of: fn(&(f64, f64)) -> f64| median(disks.iter().map(of)) / 1024.0;
    let (ours, theirs) = (middle(|d| d.0) + kept / 1024.0, middle(|d| d.1));
    Ok(vec![
        time,
        Row {
            what: "the same: disk, with what was prepared".into(),
            against,
            goal: Goal::AtMost(0.2),
            measured: ours / theirs,
            unit: "",
            detail: format!("{ours:.0} MiB to {theirs:.0} MiB"),
        },
    ])
}

/// A repository with an archive of each package.
fn packages(scene: &Scene) -> Result<PathBuf> {
    let repository = scene.repository("packages", 20)?;
    let archives = repository.join("packages");
    fs::create_dir(&archives)?;
    let made = scene.directory("package")?;
    for package in 0..PACKAGES {
        let name = format!("package-{package}");
        let directory = made.join(&name);
        fs::create_dir_all(directory.join("lib"))?;
        for file in 0..FILES {
            let text = format!("exports.value{file} = {package};\n").repeat(20);
            fs::write(directory.join(format!("lib/{file}.js")), text)?;
        }
        let archive = archives.join(format!("{name}.tgz"));
        let mut tar = command("tar");
        run(tar.arg("czf").arg(&archive).arg("-C").arg(&made).arg(&name))?;
    }
    fs::remove_dir_all(made)?;
    fs::write(repository.join(".gitignore"), "/node_modules\n")?;
    git(&repository, &["add", "."])?;
    git(&repository, &["commit", "-qm", "packages"])?;
    Ok(repository)
}

/// How long it takes until all tasks say that they are ready, in seconds, and what the run's directory takes
/// then, in KiB.
fn until_ready(scene: &Scene, spec: &Path) -> Result<(f64, f64)> {
    let began = Instant::now();
    let mut agent_run = scene.agent_run(spec, TASKS);
    let mut agent_run = agent_run
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut wait = || -> Result<(f64, f64)> {
        loop {
            if let Ok(run) = scene.run_directory()
                && (0..TASKS).all(|task| run.join(format!("tasks/t{task}/1/home/ready")).exists())
            {
                return Ok((began.elapsed().as_secs_f64(), disk(&run)?));
            }
            refuse_if_interrupted()?;
            let ended = agent_run.try_wait()?;
            ensure!(
                ended.is_none(),
                "agent-run ended before all tasks were ready"
            );
            std::thread::sleep(LOOK_AGAIN);
        }
    };
    let ready = wait();
    // It may have ended.
    let _ = kill_process(Pid::from_child(&agent_run), Signal::INT);
    agent_run.wait()?;
    scene.forget_runs()?;
    ready
}

/// The one directory that setups of this repository have made.
fn prepared_directory(scene: &Scene, repository: &Path) -> Result<PathBuf> {
    let key = RepoKey::of(&repository.join(".git").canonicalize()?);
    let entries = fs::read_dir(StateDir::new(scene.state()).repo(&key))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("prepared-") && path.is_dir()
    };
    let mut found: Vec<PathBuf> = paths.filter(is_it).collect();
    ensure!(
        found.len() == 1,
        "{} directories were prepared, not 1",
        found.len()
    );
    Ok(found.remove(0))
}
