//! What agent-run costs beside the tools that people would use instead: `make bench`, or
//! `cargo bench --bench bench -- --only loop,first --rounds 9`.
//!
//! Each comparison makes its pairs in turn, in one run, on a tmpfs. A whole run writes what it
//! measured to `docs/benchmarks.md`. A comparison that fails keeps no other from being made.
#![expect(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a benchmark starts the programs that it compares, and prints what it measured"
)]

mod document;
mod egress;
mod events;
#[path = "../../tests/it/fake/mod.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "it is of the tests, which use all of it"
)]
mod fake;
mod forecast;
mod idle;
mod layers;
mod logs;
mod loops;
mod many;
mod memory;
mod prepared;
mod rows;
mod scene;
mod services;
mod shell;
mod sleepers;
mod terminal;
mod trees;

use anyhow::{Result, bail, ensure};
use clap::Parser as _;
use peak_alloc::PeakAlloc;

use rows::Row;
use scene::Scene;

/// Counts what is in use: `many` reads it in a process that is agent-run.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Compares agent-run with what people would use instead, on this machine.
#[derive(clap::Parser)]
struct Options {
    /// Comparisons to make; all without it
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Rounds that count, besides the first, in place of each comparison's own number
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Write what was measured into docs/benchmarks.md
    #[arg(long)]
    write: bool,
    /// Given by `cargo bench`; says nothing
    #[arg(long, hide = true)]
    bench: bool,
}

/// A comparison: its name, how many rounds of it count, and what makes it.
type Comparison = (&'static str, u32, fn(&Scene, u32) -> Result<Vec<Row>>);

const COMPARISONS: [Comparison; 21] = [
    ("loop", 4, loops::forty),
    ("one", 8, loops::one),
    ("first", 8, loops::first),
    ("collect", 4, loops::collect),
    ("memory", 1, memory::of_processes),
    ("heap", 1, memory::of_queue),
    ("many", 1, many::compare),
    ("layers", 2, layers::compare),
    ("trees", 4, trees::compare),
    ("setup", 4, prepared::setup),
    ("prepared", 3, prepared::compare),
    ("egress", 6, egress::first),
    ("requests", 2, egress::requests),
    ("services", 4, services::first),
    ("seeded", 1, services::seeded),
    ("forecast", 3, forecast::compare),
    ("sleepers", 2, sleepers::compare),
    ("idle", 1, idle::compare),
    ("logs", 3, logs::compare),
    ("events", 3, events::compare),
    ("terminal", 1, terminal::compare),
];

fn main() -> Result<std::process::ExitCode> {
    match std::env::args().nth(1).as_deref() {
        // What measures this process itself runs in one of its own.
        Some("run") => return Ok(memory::as_agent_run()),
        Some("terminal") => terminal::measure(),
        _ => compare(&Options::parse())?,
    }
    Ok(std::process::ExitCode::SUCCESS)
}

fn compare(options: &Options) -> Result<()> {
    let names = COMPARISONS.map(|(name, ..)| name);
    for name in &options.only {
        let known = names.contains(&name.as_str());
        ensure!(
            known,
            "no comparison `{name}`; there are: {}",
            names.join(", ")
        );
    }
    let scene = Scene::new()?;
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for (name, rounds, compare) in COMPARISONS {
        if !options.only.is_empty() && options.only.iter().all(|only| only != name) {
            continue;
        }
        println!("{name}");
        match compare(&scene, options.rounds.unwrap_or(rounds)) {
            Ok(made) => {
                for row in &made {
                    println!("  {row}");
                }
                rows.push((name, made));
            }
            Err(error) => {
                eprintln!("bench: {name} failed: {error:#}");
                failed.push(name);
                scene.clean_up();
                scene::refuse_if_interrupted()?;
            }
        }
    }
    if options.write {
        document::write(&scene, &rows, &failed, &names)?;
    }
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}
