//! What agent-run costs while tasks do nothing: its own CPU time, and what the engine spends because
//! agent-run runs. So it is stopped for a while, and what the engine spends then is taken off.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::rows::{Goal, Row, median};
use crate::scene::{Scene, refuse_if_interrupted};
use crate::trees::until_all_run;

const TASKS: u32 = 50;
/// Until each task was measured for the first time.
const SETTLE: Duration = Duration::from_secs(15);
const WINDOW: Duration = Duration::from_secs(30);
/// What /proc counts in, on Linux (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
/// Of the kernel's name of a process, which has fifteen bytes.
const ENGINE: [&str; 3] = ["dockerd", "containerd", "containerd-shim"];

pub fn compare(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("idle", 1000)?;
    let scripts = vec!["sleep 600".to_owned(); TASKS as usize];
    let small = json!({ "mem_limit": "64m" });
    let spec = scene.spec(&repository, &scripts, &small)?;
    let events = scene.path("idle.ndjson");
    let mut agent_run = scene.agent_run(&spec, TASKS);
    agent_run.arg("--events").arg(&events);
    let mut agent_run = agent_run
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let measured = until_all_run(&events, &mut agent_run, TASKS as usize)
        .and_then(|_| windows(&agent_run, rounds));
    kill_process(Pid::from_child(&agent_run), Signal::CONT)?;
    kill_process(Pid::from_child(&agent_run), Signal::INT)?;
    agent_run.wait()?;
    scene.forget_runs()?;
    let (costs, own) = measured?;
    Ok(vec![Row {
        what: format!("{TASKS} tasks that sleep: agent-run, and the engine for it"),
        against: "the same tasks while agent-run is stopped".into(),
        goal: Goal::AtMost(1.0),
        measured: median(costs),
        unit: " % of a core",
        detail: format!(
            "agent-run's own {:.2} %; {} s each, with the watch on their disks",
            median(own),
            WINDOW.as_secs()
        ),
    }])
}

/// Percentages of a core: what it costs in all, and what agent-run spends of it.
fn windows(agent_run: &Child, rounds: u32) -> Result<(Vec<f64>, Vec<f64>)> {
    pause(SETTLE)?;
    let process = Pid::from_child(agent_run);
    let (mut costs, mut own) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (ours, engine) = window(agent_run)?;
        kill_process(process, Signal::STOP)?;
        let (_, without) = window(agent_run)?;
        kill_process(process, Signal::CONT)?;
        costs.push(ours + engine - without);
        own.push(ours);
    }
    Ok((costs, own))
}

/// What agent-run and the engine spend for a while, in percent of a core.
fn window(agent_run: &Child) -> Result<(f64, f64)> {
    let spent = || -> Result<(u64, u64)> {
        let ours = ticks(agent_run.id());
        let (_, ours) = ours.context("agent-run has ended")?;
        Ok((ours, of_engine()?))
    };
    let (began, (ours, engine)) = (Instant::now(), spent()?);
    pause(WINDOW)?;
    let (ours_then, engine_then) = spent()?;
    let percent = |ticks: u64| -> Result<f64> {
        let seconds = f64::from(u32::try_from(ticks)?) / TICKS_PER_SECOND;
        Ok(seconds / began.elapsed().as_secs_f64() * 100.0)
    };
    let engine = engine_then.saturating_sub(engine);
    Ok((percent(ours_then.saturating_sub(ours))?, percent(engine)?))
}

/// The CPU time of all processes of engines, in ticks.
fn of_engine() -> Result<u64> {
    let processes = fs::read_dir("/proc")?.flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of_engine = ids
        .filter_map(ticks)
        .filter(|(name, _)| ENGINE.contains(&name.as_str()));
    let ticks: Vec<u64> = of_engine.map(|(_, ticks)| ticks).collect();
    ensure!(
        !ticks.is_empty(),
        "no engine's process can be seen in /proc"
    );
    Ok(ticks.iter().sum())
}

/// A process's name and CPU time; of its children only those that it has waited for count.
fn ticks(process: u32) -> Option<(String, u64)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let times = rest.split_whitespace().skip(11).take(4);
    Some((
        name.to_owned(),
        times.map_while(|t| t.parse::<u64>().ok()).sum(),
    ))
}

fn pause(time: Duration) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < time {
        refuse_if_interrupted()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
