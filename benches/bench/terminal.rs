//! How much of a core a terminal costs on which 200 tasks run and write ten lines a second each.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::IsTerminal as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use agent_run::event::{Event, EventKind, TaskPhase};
use agent_run::id::TaskId;
use agent_run::report::{EventLog, Hints, Look, Mode, Output, Paint, Reporter};
use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};

use crate::rows::{Goal, Row, median};
use crate::scene::{Scene, command, run};

const TASKS: u32 = 200;
const LINES_A_SECOND: u32 = 10 * TASKS;
const LASTS: Duration = Duration::from_secs(10);
const LINE: &str = "\u{1b}[32mtest\u{1b}[0m a_line_of_the_usual_length_that_a_test_prints ... ok";

/// Measures it in processes of their own, which have a terminal.
pub fn compare(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let told = scene.path("terminal.txt");
    let this = std::env::current_exe()?;
    let measure = format!(
        "stty rows 50 cols 200; '{}' terminal > '{}'",
        this.display(),
        told.display()
    );
    let (mut table, mut lines) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        run(command("script")
            .args(["-qec", &measure, "/dev/null"])
            .stdin(Stdio::null()))?;
        let percents = fs::read_to_string(&told)?;
        let mut percents = percents.lines().map(str::parse);
        let mut next = || percents.next().context("no answer of the terminal");
        table.push(next()??);
        lines.push(next()??);
    }
    let row = |what: &str, percents: Vec<f64>| Row {
        what: format!("a terminal with {TASKS} tasks that write 10 lines/s each, {what}"),
        against: "–".into(),
        goal: Goal::AtMost(10.0),
        measured: median(percents),
        unit: " % of a core",
        detail: String::new(),
    };
    Ok(vec![row("the table", table), row("and every line", lines)])
}

/// Prints the percentages, a line each.
pub fn measure() {
    assert!(
        std::io::stderr().is_terminal(),
        "standard error must be a terminal"
    );
    for output in [Output::None, Output::Prefixed] {
        println!("{:.1}", percent_of_a_core(output));
    }
}

fn percent_of_a_core(output: Output) -> f64 {
    let name = |n| -> TaskId { format!("task-{n}").parse().expect("a task") };
    let tasks: Vec<TaskId> = (0..TASKS).map(name).collect();
    let look = Look {
        mode: Mode::Terminal,
        output,
        paint: Paint { color: true },
    };
    let hints = Hints {
        base: "main".into(),
        limits: HashMap::new(),
        previews: HashSet::new(),
    };
    let mut reporter = Reporter::new(look, &tasks, &hints, None, EventLog::default());
    for (seq, task) in (0..).zip(&tasks) {
        let phase = TaskPhase::Running;
        reporter.event(&Event {
            seq,
            at: "2026-11-20T13:51:07.112Z".into(),
            elapsed_ms: seq,
            task: Some(task.clone()),
            kind: EventKind::Phase { phase },
        });
    }
    let (began, used) = (Instant::now(), cpu());
    for (n, task) in (0..LINES_A_SECOND * 10).zip(tasks.iter().cycle()) {
        let due = LASTS * n / (LINES_A_SECOND * 10);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        reporter.line(task, LINE);
    }
    let percent = cpu().saturating_sub(used).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    reporter.area().clear();
    percent
}

/// The CPU time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("a time after the start")
}
