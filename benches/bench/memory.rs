//! Memory: of all processes of a run together, beside the shell loop's; and of agent-run's heap, for
//! each task that waits.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::HEAP;
use crate::loops::{JOBS, Sides, TASKS};
use crate::rows::{Goal, Row, median};
use crate::scene::{Scene, refuse_if_interrupted};
use crate::shell::Networks;

const MIB: f64 = 1024.0 * 1024.0;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub fn of_processes(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let sides = Sides::new(scene, TASKS)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        ours.push(peak(&mut scene.agent_run(sides.spec(), JOBS))?);
        scene.forget_runs()?;
        let mut shell = sides
            .shell(scene, Networks::Own)
            .command(&format!("own-{round}"))?;
        theirs.push(peak(&mut shell)?);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    Ok(vec![Row {
        what: format!("peak memory of all processes, {TASKS} tasks, {JOBS} parallel"),
        against: "the loop, with networks".into(),
        goal: Goal::AtMost(30.0),
        measured: ours,
        unit: " MiB",
        detail: format!("the loop's {theirs:.0} MiB; proportional set size (PSS)"),
    }])
}

/// The most memory that a program and all that it started had together while it ran, in MiB.
pub fn peak(command: &mut Command) -> Result<f64> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut most = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        most = most.max(memory_of_tree(child.id()));
        std::thread::sleep(LOOK_AGAIN);
    };
    refuse_if_interrupted()?;
    ensure!(
        status.success(),
        "{} ended with {status}",
        command.get_program().display()
    );
    Ok(f64::from(most) / 1024.0)
}

/// The proportional set sizes of a process and its descendants, in KiB. One that ends counts nothing.
fn memory_of_tree(root: u32) -> u32 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = ids.filter_map(|id| Some((id, parent(id)?))).collect();
    let mut tree = vec![root];
    let mut next = 0;
    let mut sum = 0;
    while let Some(&process) = tree.get(next) {
        let children = parents.iter().filter(|(_, parent)| *parent == process);
        tree.extend(children.map(|(id, _)| id));
        next += 1;
        // Before it starts its program, a child has its parent's memory, which is counted already.
        let is_started = process == root
            || parent(process).is_none_or(|parent| command_line(parent) != command_line(process));
        if is_started {
            sum += proportional_set_size(process).unwrap_or(0);
        }
    }
    sum
}

fn command_line(process: u32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{process}/cmdline")).ok()
}

fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Its name stands in brackets, and may hold spaces.
    stat.rsplit(')')
        .next()?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

fn proportional_set_size(process: u32) -> Option<u32> {
    let sizes = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = sizes.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fewer and more tasks, all but one of which wait.
const FEW: u32 = 100;
const MANY: u32 = 1000;

pub fn of_queue(scene: &Scene, _rounds: u32) -> Result<Vec<Row>> {
    let (few, many) = (heap_with(scene, FEW)?, heap_with(scene, MANY)?);
    let each = (many - few) / f64::from(MANY - FEW) / 1024.0;
    Ok(vec![Row {
        what: "live heap for each task that waits".into(),
        against: "–".into(),
        goal: Goal::AtMost(20.0),
        measured: each,
        unit: " KiB",
        detail: format!(
            "{:.1} MiB with {FEW} tasks, {:.1} MiB with {MANY}, one of them running",
            few / MIB,
            many / MIB
        ),
    }])
}

/// The heap of agent-run while one task of so many runs and the others wait, in bytes.
fn heap_with(scene: &Scene, tasks: u32) -> Result<f64> {
    let repository = scene.repository("queue", 1)?;
    let scripts = vec!["sleep 600".to_owned(); tasks as usize];
    let spec = scene.spec(&repository, &scripts, &json!({ "network_mode": "none" }))?;
    // This program, which is agent-run when it is told to run: its allocator counts.
    let mut agent_run = crate::scene::command(&std::env::current_exe()?.to_string_lossy());
    scene.arguments(&mut agent_run, &spec, 1);
    // Its own: what an earlier run told is no sign of this one.
    let events = scene.path(&format!("queue-{tasks}.ndjson"));
    agent_run.arg("--events").arg(&events);
    let mut agent_run = agent_run
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let heap = heap_when_running(&events, &mut agent_run);
    kill_process(Pid::from_child(&agent_run), Signal::INT)?;
    agent_run.wait()?;
    scene.forget_runs()?;
    heap
}

fn heap_when_running(events: &Path, agent_run: &mut Child) -> Result<f64> {
    let told = BufReader::new(agent_run.stdout.take().context("its standard output")?);
    for line in told.lines() {
        let line = line?;
        let heap = line.strip_prefix("heap ");
        let heap = heap.with_context(|| format!("agent-run ended:\n{line}"))?;
        if is_running(events) {
            return Ok(heap.parse()?);
        }
    }
    anyhow::bail!("agent-run ended without running a task")
}

/// Whether a task runs by now.
fn is_running(events: &Path) -> bool {
    let events = fs::read_to_string(events).unwrap_or_default();
    events.contains(r#""phase":"running""#)
}

/// agent-run in this process, which tells all the while how much of its heap is in use, in bytes.
pub fn as_agent_run() -> ExitCode {
    std::thread::spawn(|| {
        loop {
            println!("heap {}", HEAP.current_usage());
            std::thread::sleep(LOOK_AGAIN);
        }
    });
    agent_run::cli::main()
}
