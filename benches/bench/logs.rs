//! One task that writes a gibibyte, against `docker run > file`: with and without secrets to mask.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::memory::peak;
use crate::rows::{Goal, Pair, Row};
use crate::scene::{MEMORY, Scene, command, refuse_if_interrupted};

/// Lines of 100 bytes, as fast as they come.
const LINES: u64 = (1 << 30) / 100;
const SECRETS: u64 = 50;

pub fn compare(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("logs", 1)?;
    let script = format!("yes {}012345678 | head -n {LINES}", "0123456789".repeat(9));
    let (mut plain, mut masked, mut most) = (Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..=rounds {
        let theirs = to_docker(scene, &script)?;
        let (ours, _) = to_agent_run(scene, &repository, &script, 0)?;
        let (with_secrets, peak) = to_agent_run(scene, &repository, &script, SECRETS)?;
        most = most.max(peak);
        plain.push(Pair { ours, theirs });
        masked.push(Pair {
            ours: with_secrets,
            theirs: ours,
        });
    }
    let what = "one task that writes 1 GiB";
    let with = format!("the same, with {SECRETS} secrets to mask");
    Ok(vec![
        Row::ratio(what, "`docker run > file`", Goal::None, &plain),
        Row::ratio(&with, "without", Goal::None, &masked),
        Row {
            what: "peak memory of all processes, while 1 GiB is written and masked".into(),
            against: "–".into(),
            goal: Goal::AtMost(30.0),
            measured: most,
            unit: " MiB",
            detail: "proportional set size (PSS)".into(),
        },
    ])
}

fn to_docker(scene: &Scene, script: &str) -> Result<f64> {
    let log = scene.path("docker.log");
    let mut docker = command("docker");
    docker.args([
        "run",
        "--rm",
        "--init",
        "--network",
        "none",
        "--label",
        &scene.label,
    ]);
    docker.args([
        "--memory",
        MEMORY,
        "--cpus",
        "2",
        &scene.image,
        "sh",
        "-c",
        script,
    ]);
    docker.stdout(fs::File::create(&log)?);
    let began = Instant::now();
    let status = docker.status()?;
    let took = began.elapsed().as_secs_f64();
    refuse_if_interrupted()?;
    ensure!(status.success(), "docker ended with {status}");
    ensure!(
        fs::metadata(&log)?.len() == LINES * 100,
        "docker lost output"
    );
    fs::remove_file(log)?;
    Ok(took)
}

/// How long agent-run took, in seconds, and the most memory that it had, in MiB.
fn to_agent_run(
    scene: &Scene,
    repository: &Path,
    script: &str,
    secrets: u64,
) -> Result<(f64, f64)> {
    let names: Vec<String> = (0..secrets).map(|n| format!("SECRET_{n:02}")).collect();
    let declared = names
        .iter()
        .map(|name| (name.clone(), json!({ "environment": name })));
    let defaults = json!({
        "cpus": 2, "network_mode": "none", "log_limit": "4g", "timeout": "10m", "secrets": names,
    });
    let declared = Value::Object(declared.collect());
    let spec = scene.spec_with(repository, &[script.to_owned()], &defaults, &declared)?;
    let mut agent_run = scene.agent_run(&spec, 1);
    for (n, name) in (0_u64..).zip(&names) {
        let value = format!("sk-{n:02}-{:08x}/Tr0ub4dor&{:x}", n * 7919, n * 104_729);
        agent_run.env(name, value);
    }
    let began = Instant::now();
    let peak = peak(&mut agent_run)?;
    let took = began.elapsed().as_secs_f64();
    let log = scene.run_directory()?.join("logs/t0.1.log");
    let written = fs::metadata(log)?.len();
    // Each line has a time, a stream and a tag before it; one that stood still has them twice.
    let whole = LINES * 134..LINES * 135;
    ensure!(
        whole.contains(&written),
        "agent-run lost output: {written} bytes"
    );
    scene.forget_runs()?;
    Ok((took, peak))
}
