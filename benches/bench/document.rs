//! Writes what was measured into `docs/benchmarks.md`, between two marks; the rest is by hand.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::rows::Row;
use crate::scene::{Scene, command, run};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.md");
const BEGIN: &str = "<!-- written by `make bench` -->\n";
const END: &str = "<!-- end of what `make bench` wrote -->\n";

/// Replaces what an earlier run wrote. Comparisons that failed are named.
pub fn write(scene: &Scene, rows: &[Row], failed: &[&str]) -> Result<()> {
    let document = fs::read_to_string(DOCUMENT)?;
    let parts = document.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| format!("{DOCUMENT} has lost its marks"))?;
    let text = format!(
        "{before}{BEGIN}\n{}\n{}{}\n{END}{after}",
        table(rows),
        not_measured(failed),
        machine(scene)?
    );
    fs::write(DOCUMENT, text)?;
    println!("written: {DOCUMENT}");
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let head = "| what | against | goal | measured | medians |\n|---|---|---|---|---|\n";
    let row = |row: &Row| {
        let (goal, measured) = (row.goal(), row.measured());
        format!(
            "| {} | {} | {goal} | {measured} | {} |\n",
            row.what, row.against, row.detail
        )
    };
    head.to_owned() + &rows.iter().map(row).collect::<String>()
}

fn not_measured(failed: &[&str]) -> String {
    match failed {
        [] => String::new(),
        failed => format!("Not measured, for an error: {}.\n\n", failed.join(", ")),
    }
}

/// What it was measured on, and when.
fn machine(scene: &Scene) -> Result<String> {
    let info = run(command("docker").args(["info", "--format", "{{json .}}"]))?.stdout;
    let info: Value = serde_json::from_str(&info)?;
    let said = |key: &str| info[key].as_str().unwrap_or("unknown").to_owned();
    let commit = |key: &str| info[key]["ID"].as_str().unwrap_or("unknown").to_owned();
    let root = said("DockerRootDir");
    let git = run(command("git").arg("--version"))?.stdout;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let memory = info["MemTotal"].as_u64().unwrap_or_default() >> 20;
    let lines = [
        format!(
            "Measured on {} by `make bench`, agent-run {}.",
            jiff::Zoned::now().date(),
            env!("CARGO_PKG_VERSION")
        ),
        String::new(),
        format!(
            "- CPU: {}, {} cores; {memory} MiB of memory; Linux {}",
            processor()?,
            info["NCPU"],
            kernel.trim()
        ),
        format!(
            "- Engine: Docker {} (containerd {}, runc {}), storage driver {}, cgroup v{}; {}",
            said("ServerVersion"),
            commit("ContainerdCommit"),
            commit("RuncCommit"),
            said("Driver"),
            said("CgroupVersion"),
            git.trim()
        ),
        format!(
            "- Repositories, worktrees and state on {}; the engine's data on {}",
            file_system(&scene.path("."))?,
            file_system(Path::new(&root))?
        ),
        format!("- Limits of each container: `{}`", crate::shell::limits()),
    ];
    Ok(lines.join("\n") + "\n")
}

fn processor() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    Ok(name
        .map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':']))
        .to_owned())
}

fn file_system(path: &Path) -> Result<String> {
    let name = run(command("stat").args(["-f", "-c", "%T"]).arg(path))?.stdout;
    Ok(name.trim().to_owned())
}
