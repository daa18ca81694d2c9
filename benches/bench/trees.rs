//! What worktrees of a large repository take, against `git worktree add`: a checkout, made by the
//! function that makes it for a task; a view of a shared one, with its container; and twenty views at
//! once.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use agent_run::git::{Git, Repository};
use agent_run::id::{AttemptId, BranchName, Role, RunId, StateDir};
use agent_run::workspace::{self, BaseStore, PreparedPaths, Timing, Workspace, WorkspaceRequest};
use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::loops::phase;
use crate::rows::{Goal, Pair, Row};
use crate::scene::{Scene, command, git, refuse_if_interrupted, run};

const FILES: u32 = 60_000;
const AT_ONCE: usize = 20;
/// Whom root gives a task's files to.
const OWNER: (u32, u32) = (10_001, 10_001);

pub fn compare(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("large", FILES)?;
    let preparing = |mode: &str| -> Result<f64> {
        let keys = json!({ "network_mode": "none", "workspace": mode });
        let spec = scene.spec(&repository, &["true".to_owned()], &keys)?;
        phase(&scene.run(&spec, 1)?.result, "preparing")
    };
    let (mut checkouts, mut views) = (Vec::new(), Vec::new());
    let checkout = Checkout::new(scene, &repository)?;
    for _ in 0..=rounds {
        let (theirs, _) = worktrees(scene, &repository, 1)?;
        checkouts.push(Pair {
            ours: checkout.make()?,
            theirs,
        });
        views.push(Pair {
            ours: preparing("overlay")?,
            theirs,
        });
    }
    let what = format!("a worktree of {FILES} files, `workspace: checkout`, without its container");
    let view = format!("a worktree of {FILES} files, `workspace: overlay`, and its container made");
    let add = "`git worktree add`";
    let mut rows = vec![
        Row::ratio(&what, add, Goal::AtMost(1.1), &checkouts),
        Row::ratio(&view, add, Goal::AtMost(0.1), &views),
    ];
    rows.extend(at_once(scene, &repository)?);
    Ok(rows)
}

/// What checkouts are made from.
struct Checkout<'a> {
    scene: &'a Scene,
    repository: Repository,
    store: BaseStore,
    attempt: AttemptId,
}

impl<'a> Checkout<'a> {
    fn new(scene: &'a Scene, directory: &Path) -> Result<Self> {
        let state = StateDir::new(scene.state());
        let search_path = std::env::var_os("PATH").context("no PATH")?;
        let git = Git::new(&search_path, &scene.path("git"))?;
        let repository = Repository::open(&git, directory)?;
        let base = repository.resolve_base("HEAD")?;
        let store = BaseStore::ensure(&repository, &state, &base, None)?;
        let attempt = AttemptId {
            run: RunId::new(jiff::Timestamp::now(), 0),
            task: "t0".parse()?,
            number: 1,
        };
        Ok(Self {
            scene,
            repository,
            store,
            attempt,
        })
    }

    /// Makes a task's worktree, with the git directory of its own, and removes it; how long the former
    /// took, in seconds.
    fn make(&self) -> Result<f64> {
        let state = StateDir::new(self.scene.state());
        let branch = BranchName::default_for(&self.attempt.run, &self.attempt.task);
        let second = Duration::from_secs(1);
        let request = WorkspaceRequest {
            git: self.repository.git(),
            state: &state,
            attempt: &self.attempt,
            branch: &branch,
            store: &self.store,
            start: None,
            shared: None,
            feedback: None,
            role: Role::Task,
            prepared: PreparedPaths::default(),
            owner: rustix::process::geteuid().is_root().then_some(OWNER),
            author: ("bench", "bench@localhost"),
            exclude: b"",
            script: Some("true"),
            session: None,
            prompt: None,
            passwd: "",
            group: "",
            hosts: None,
            working_dir: "/workspace",
            mount_points: &[],
            timing: Timing {
                deadline: second,
                grace: second,
                handoff: second,
            },
        };
        let began = Instant::now();
        Workspace::create(&request)?;
        let took = began.elapsed().as_secs_f64();
        workspace::remove(&state, &state.run(&self.attempt.run))?;
        Ok(took)
    }
}

/// Seconds and KiB that so many worktrees take git. One after the other: in parallel some fail.
fn worktrees(scene: &Scene, repository: &Path, number: usize) -> Result<(f64, f64)> {
    let trees = scene.directory("trees")?;
    let began = Instant::now();
    for index in 0..number {
        let tree = trees.join(index.to_string()).display().to_string();
        git(repository, &["worktree", "add", "-q", "--detach", &tree])?;
    }
    let took = began.elapsed().as_secs_f64();
    let disk = disk(&trees)?;
    fs::remove_dir_all(trees)?;
    git(repository, &["worktree", "prune"])?;
    Ok((took, disk))
}

fn at_once(scene: &Scene, repository: &Path) -> Result<Vec<Row>> {
    let keys = json!({ "network_mode": "none", "workspace": "overlay" });
    let scripts = vec!["sleep 600".to_owned(); AT_ONCE];
    let spec = scene.spec(repository, &scripts, &keys)?;
    let events = scene.path("at-once.ndjson");
    let mut agent_run = scene.agent_run(&spec, 20);
    agent_run.arg("--events").arg(&events);
    let mut agent_run = agent_run
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let took = until_all_run(&events, &mut agent_run, AT_ONCE);
    let ours_disk = scene.run_directory().and_then(|run| disk(&run));
    kill_process(Pid::from_child(&agent_run), Signal::INT)?;
    agent_run.wait()?;
    scene.forget_runs()?;
    let (took, ours_disk) = (took?, ours_disk?);
    let (theirs, theirs_disk) = worktrees(scene, repository, AT_ONCE)?;
    let against = format!("`git worktree add`, {AT_ONCE} times");
    let row = |what: &str, measured: f64, detail: String| Row {
        what: format!("{AT_ONCE} of these views at once: {what}"),
        against: against.clone(),
        goal: Goal::AtMost(0.05),
        measured,
        unit: "",
        detail,
    };
    let mebibytes = |kibibytes: f64| kibibytes / 1024.0;
    let disk_detail = format!(
        "{:.0} MiB, besides one checkout that all share, to {:.0} MiB",
        mebibytes(ours_disk),
        mebibytes(theirs_disk)
    );
    Ok(vec![
        row(
            "time until all containers are made",
            took / theirs,
            format!("{took:.2} s to {theirs:.2} s"),
        ),
        row("disk", ours_disk / theirs_disk, disk_detail),
    ])
}

/// Waits until all tasks run; how long that took from when the first was prepared, in seconds.
pub fn until_all_run(events: &Path, agent_run: &mut Child, tasks: usize) -> Result<f64> {
    loop {
        let text = fs::read_to_string(events).unwrap_or_default();
        let times = |phase: &str| -> Vec<f64> {
            let whole = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let entered = whole.filter(|event| event["kind"]["phase"] == phase);
            entered
                .filter_map(|event| event["elapsed_ms"].as_f64())
                .collect()
        };
        let running = times("running");
        if running.len() == tasks {
            let first = times("preparing")
                .first()
                .copied()
                .context("no beginning")?;
            let last = running.last().copied().context("no end")?;
            return Ok((last - first) / 1000.0);
        }
        refuse_if_interrupted()?;
        ensure!(
            agent_run.try_wait()?.is_none(),
            "agent-run ended before all tasks ran"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What a directory takes, in KiB.
pub fn disk(directory: &Path) -> Result<f64> {
    let used = run(command("du").args(["-skx"]).arg(directory))?.stdout;
    let number = used.split_whitespace().next().context("du said nothing")?;
    Ok(number.parse()?)
}
