//! Tasks that commit: forty of them and one alone, against the shell loop; how soon the first process
//! runs; what collecting a commit takes.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::rows::{Goal, Pair, Row, median};
use crate::scene::{Scene, command, run, timed};
use crate::shell::{Loop, Networks, branches, limits};

pub const TASKS: u32 = 40;
pub const JOBS: u32 = 8;
pub const FILES: u32 = 1000;
pub const WORK: &str = "date > note-$TASK.txt && git add . && git commit -qm note-$TASK";

/// Two repositories that are alike: branches of one side would make git slower for the other.
pub struct Sides {
    ours: PathBuf,
    theirs: PathBuf,
    spec: PathBuf,
    tasks: u32,
}

impl Sides {
    pub fn new(scene: &Scene, tasks: u32) -> Result<Self> {
        let ours = scene.repository("ours", FILES)?;
        let scripts = vec![WORK.to_owned(); tasks as usize];
        Ok(Self {
            spec: scene.spec(&ours, &scripts, &json!({}))?,
            theirs: scene.repository("theirs", FILES)?,
            ours,
            tasks,
        })
    }

    /// The shell loop over the tasks.
    pub fn shell<'a>(&'a self, scene: &'a Scene, networks: Networks) -> Loop<'a> {
        Loop {
            scene,
            repository: &self.theirs,
            work: WORK,
            tasks: self.tasks,
            jobs: JOBS.min(self.tasks),
            networks,
        }
    }

    /// The spec of the tasks.
    pub fn spec(&self) -> &Path {
        &self.spec
    }

    fn time_ours(&self, scene: &Scene, round: u32) -> Result<f64> {
        let took = scene.run(&self.spec, JOBS.min(self.tasks))?.took;
        let wanted = self.tasks * (round + 1);
        expect_branches(&self.ours, "refs/heads/agent/", wanted)?;
        Ok(took)
    }

    fn time_theirs(&self, scene: &Scene, round: u32, networks: Networks) -> Result<f64> {
        let name = match networks {
            Networks::Own => format!("own-{round}"),
            Networks::DefaultBridge => format!("default-{round}"),
        };
        let took = timed(&mut self.shell(scene, networks).command(&name)?)?;
        let pattern = format!("refs/heads/shell-{name}-*");
        expect_branches(&self.theirs, &pattern, self.tasks)?;
        Ok(took)
    }
}

fn expect_branches(repository: &Path, pattern: &str, wanted: u32) -> Result<()> {
    let found = branches(repository, pattern)?;
    ensure!(found == wanted as usize, "{found} branches, not {wanted}");
    Ok(())
}

pub fn forty(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let sides = Sides::new(scene, TASKS)?;
    let (mut own, mut default) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let ours = sides.time_ours(scene, round)?;
        let theirs = sides.time_theirs(scene, round, Networks::Own)?;
        own.push(Pair { ours, theirs });
        let theirs = sides.time_theirs(scene, round, Networks::DefaultBridge)?;
        default.push(Pair { ours, theirs });
    }
    let what = format!("{TASKS} tasks, {JOBS} parallel, each committing one file");
    let against = "a shell loop with a worktree, a network and a container each";
    let without = "the loop without networks, all on the default bridge";
    Ok(vec![
        Row::ratio(&what, against, Goal::AtMost(0.9), &own),
        Row::ratio(&what, without, Goal::AtMost(1.1), &default),
    ])
}

pub fn one(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let sides = Sides::new(scene, 1)?;
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        pairs.push(Pair {
            ours: sides.time_ours(scene, round)?,
            theirs: sides.time_theirs(scene, round, Networks::Own)?,
        });
    }
    let what = "one task, from its start until all of it is gone";
    Ok(vec![Row::ratio(
        what,
        "the loop, with a network",
        Goal::AtMost(1.1),
        &pairs,
    )])
}

pub fn first(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("first", FILES)?;
    // What the process in the container writes is the time; its clock is the host's.
    let script = "date +%s.%N";
    let spec = scene.spec(&repository, &[script.to_owned()], &json!({}))?;
    let mut pairs = Vec::new();
    for _ in 0..=rounds {
        let began = now()?;
        let ours = time_in(&scene.run(&spec, 1)?.printed)? - began;
        let began = now()?;
        let network = format!("agent-run-bench-{}", std::process::id());
        let label = ["--label", &scene.label];
        run(command("docker")
            .args(["network", "create"])
            .args(label)
            .arg(&network))?;
        let mut docker_run = command("docker");
        docker_run
            .args(["run", "--rm", "--init", "--network", &network])
            .args(label);
        docker_run
            .args(limits().split(' '))
            .args([&scene.image, "sh", "-c", script]);
        let theirs = time_in(&run(&mut docker_run)?.stdout)? - began;
        run(command("docker").args(["network", "rm", &network]))?;
        pairs.push(Pair { ours, theirs });
    }
    let what = "the first process of a task, one task, warm";
    let against = "`docker network create` and `docker run`";
    Ok(vec![Row::ratio(what, against, Goal::AtMost(1.1), &pairs)])
}

pub fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

/// The one time that is printed: a word like `1795200000.123456789`.
pub fn time_in(printed: &str) -> Result<f64> {
    let is_time = |word: &&str| word.len() == 20 && word.as_bytes()[10] == b'.';
    let word = printed.split_whitespace().find(is_time);
    Ok(word
        .with_context(|| format!("no time in:\n{printed}"))?
        .parse()?)
}

pub fn collect(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("collect", FILES)?;
    let script =
        "for n in $(seq 100); do echo $n > new-$n.txt; done; git add . && git commit -qm new";
    let spec = scene.spec(&repository, &[script.to_owned()], &json!({}))?;
    let mut times = Vec::new();
    for _ in 0..=rounds {
        times.push(phase(&scene.run(&spec, 1)?.result, "collecting")?);
    }
    Ok(vec![Row {
        what: "collecting a commit of 100 files, after the container's end".into(),
        against: "–".into(),
        goal: Goal::AtMost(0.2),
        measured: median(times[1..].iter().copied()),
        unit: " s",
        detail: format!("first round {:.2} s", times[0]),
    }])
}

/// How long the first task of a run was in a phase, in seconds.
pub fn phase(result: &serde_json::Value, name: &str) -> Result<f64> {
    let phases = result["tasks"][0]["phases"]
        .as_array()
        .context("no phases")?;
    let phase = phases.iter().find(|phase| phase["phase"] == name);
    let took = phase.and_then(|phase| phase["took_ms"].as_f64());
    Ok(took.with_context(|| format!("no phase {name}"))? / 1000.0)
}
