//! Writes what was measured into `docs/benchmarks.json`, and all of that as a table into
//! `docs/benchmarks.md`, between two marks; the rest is by hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rows::Row;
use crate::scene::{Scene, command, run};

const MEASURED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.json");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.md");
const BEGIN: &str = "<!-- written by `make bench` -->\n";
const END: &str = "<!-- end of what `make bench` wrote -->\n";

/// A comparison as it was measured last.
#[derive(Serialize, Deserialize)]
struct Measured {
    /// When, as a date.
    on: String,
    /// In words: what, against what, the goal, the measure, the medians.
    rows: Vec<[String; 5]>,
}

/// Replaces what was measured of these comparisons before; `order` is that of the table. Comparisons that
/// failed are named.
pub fn write(
    scene: &Scene,
    measured: &[(&str, Vec<Row>)],
    failed: &[&str],
    order: &[&str],
) -> Result<()> {
    let known = fs::read_to_string(MEASURED)?;
    let mut known: BTreeMap<String, Measured> = serde_json::from_str(&known)?;
    known.retain(|name, _| order.contains(&name.as_str()));
    for (name, rows) in measured {
        let on = jiff::Zoned::now().date().to_string();
        let rows = rows.iter().map(Row::words).collect();
        known.insert((*name).to_owned(), Measured { on, rows });
    }
    fs::write(MEASURED, serde_json::to_string_pretty(&known)? + "\n")?;
    let document = fs::read_to_string(DOCUMENT)?;
    let parts = document.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| format!("{DOCUMENT} has lost its marks"))?;
    let text = format!(
        "{before}{BEGIN}\n{}\n{}{}\n{END}{after}",
        table(order.iter().filter_map(|name| known.get(*name))),
        not_measured(failed),
        machine(scene)?
    );
    fs::write(DOCUMENT, text)?;
    println!("written: {DOCUMENT}");
    Ok(())
}

fn table<'a>(all: impl Iterator<Item = &'a Measured>) -> String {
    let mut table = String::from(
        "| what | against | goal | measured | medians | on |\n|---|---|---|---|---|---|\n",
    );
    for Measured { on, rows } in all {
        for row in rows {
            table += &format!("| {} | {on} |\n", row.join(" | "));
        }
    }
    table
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
            "Measured by `make bench`, agent-run {}, each comparison on its day, the last ones on this machine:",
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
