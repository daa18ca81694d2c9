//! The table of the tasks that run, at the widths that terminals have.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use agent_run::event::{
    BranchReport, BranchResult, Event, EventKind, TaskOutcome, TaskPhase, TaskReport, Usage,
};
use agent_run::id::TaskId;
use agent_run::report::{Limit, Limits, Paint, Table};
use insta::assert_snapshot;

/// A table and the clock that it is shown.
struct Scene {
    table: Table,
    began: Instant,
}

fn id(task: &str) -> TaskId {
    task.parse().expect("a task id")
}

impl Scene {
    fn new(tasks: &[&str]) -> Self {
        let limit = |value: &str| Limit {
            value: value.into(),
            place: None,
        };
        let limits = |task: &&str| {
            let limits = Limits {
                mem_limit: limit("4g"),
                disk_limit: limit("10g"),
                timeout: limit("1h30m"),
                verify_timeout: None,
                slow_after: "45m".into(),
            };
            (id(task), limits)
        };
        let limits: HashMap<TaskId, Limits> = tasks.iter().map(limits).collect();
        let tasks: Vec<TaskId> = tasks.iter().map(|task| id(task)).collect();
        let began = Instant::now();
        let table = Table::new(&tasks, &limits, Paint { color: false }, began);
        Self { table, began }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.began + Duration::from_secs(seconds)
    }

    fn event(&mut self, seconds: u64, task: &str, kind: EventKind) {
        let event = Event {
            seq: 0,
            at: String::new(),
            elapsed_ms: 0,
            task: Some(id(task)),
            kind,
        };
        let now = self.at(seconds);
        self.table.event(&event, now);
    }

    fn phase(&mut self, seconds: u64, task: &str, phase: TaskPhase) {
        self.event(seconds, task, EventKind::Phase { phase });
    }

    fn finished(&mut self, task: &str, outcome: TaskOutcome) {
        let report = TaskReport {
            attempt: 1,
            branch: Some(BranchReport::bare(BranchResult::NoChange)),
            ..TaskReport::bare(id(task), outcome)
        };
        let report = Box::new(report);
        self.event(0, task, EventKind::TaskFinished { report });
    }

    /// What is shown, behind a bar at the terminal's last column.
    fn show(&self, seconds: u64, height: usize, width: usize) -> String {
        let lines = self.table.lines(self.at(seconds), height, width);
        assert!(lines.len() <= height, "{lines:#?}");
        let lines = lines.iter().map(|line| {
            let columns = console::measure_text_width(line);
            assert!(columns < width, "{line}");
            format!("{line}{}|\n", " ".repeat(width - columns))
        });
        lines.collect()
    }
}

fn usage(memory: u64) -> EventKind {
    let usage = Usage {
        memory,
        ..Usage::default()
    };
    EventKind::Usage { usage }
}

/// Tasks in every phase.
fn busy() -> Scene {
    let mut scene = Scene::new(&[
        "fix-login",
        "add-tests",
        "refactor-the-whole-storage-layer",
        "docs",
        "ci",
        "later",
    ]);
    scene.finished("ci", TaskOutcome::OutOfMemory);
    scene.phase(0, "fix-login", TaskPhase::Preparing);
    scene.phase(5, "fix-login", TaskPhase::Running);
    scene.event(3005, "fix-login", EventKind::Slow);
    scene.event(5, "fix-login", usage(4 << 30));
    scene.phase(2900, "add-tests", TaskPhase::Running);
    scene.event(2901, "add-tests", usage(1_992_294_400));
    scene.phase(
        3000,
        "refactor-the-whole-storage-layer",
        TaskPhase::Stopping,
    );
    scene.phase(3009, "docs", TaskPhase::Preparing);
    scene.table.line(&id("fix-login"), "an older line");
    scene.table.line(
        &id("fix-login"),
        "\u{1b}[32mok\u{1b}[0m\t34 passing, 漢字 and some more to be cut",
    );
    scene.table.line(&id("fix-login"), "   ");
    scene
}

#[test]
fn one_task() {
    let mut scene = Scene::new(&["fix-login"]);
    scene.phase(0, "fix-login", TaskPhase::Running);
    scene.table.line(&id("fix-login"), "reading src/main.rs");
    assert_snapshot!(scene.show(4, 12, 80), @"
         running [     4s/1h30m] fix-login          | reading src/main.rs           |
    ");
}

#[test]
fn every_phase_at_80_columns() {
    assert_snapshot!(busy().show(3010, 12, 80), @"
         slow [ 50m05s/1h30m] fix-login               4g/4g | ok 34 passing, 漢… |
      running [  1m50s/1h30m] add-tests             1.8g/4g                      |
     stopping [    10s      ] refactor-…rage-layer                               |
    preparing [     1s      ] docs                                               |
      Running [ 50m10s] 6 tasks: 0 passed, 1 failed, 4 running, 1 waiting        |
    ");
}

#[test]
fn every_phase_at_200_columns() {
    assert_snapshot!(busy().show(3010, 12, 200), @"
         slow [ 50m05s/1h30m] fix-login                           4g/4g | ok 34 passing, 漢字 and some more to be cut                                                                                    |
      running [  1m50s/1h30m] add-tests                         1.8g/4g                                                                                                                                  |
     stopping [    10s      ] refactor-the-whole-storage-layer                                                                                                                                           |
    preparing [     1s      ] docs                                                                                                                                                                       |
      Running [ 50m10s] 6 tasks: 0 passed, 1 failed, 4 running, 1 waiting                                                                                                                                |
    ");
}

#[test]
fn the_oldest_of_a_hundred() {
    let names: Vec<String> = (0..100).map(|n| format!("task-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut scene = Scene::new(&names);
    for (n, name) in names.iter().enumerate().take(20) {
        scene.phase(n as u64, name, TaskPhase::Running);
    }
    scene.finished("task-0", TaskOutcome::Succeeded);
    scene.finished("task-2", TaskOutcome::Failed { exit_code: 1 });
    assert_snapshot!(scene.show(60, 6, 80), @"
    running [    59s/1h30m] task-1                                             |
    running [    57s/1h30m] task-3                                             |
    running [    56s/1h30m] task-4                                             |
    running [    55s/1h30m] task-5                                             |
            and 14 more                                                        |
    Running [  1m00s] 100 tasks: 1 passed, 1 failed, 18 running, 80 waiting    |
    ");
    // However small the terminal is, something is told.
    assert_eq!(scene.show(60, 3, 20).lines().count(), 3);
}

#[test]
fn a_listing_has_all_tasks_and_their_last_lines() {
    let mut scene = busy();
    for n in 0..5 {
        scene.table.line(&id("docs"), &format!("line {n}"));
    }
    assert_snapshot!(scene.table.listing(scene.at(3010)).join("\n"), @"
         slow [ 50m05s/1h30m] fix-login                           4g/4g
              | an older line
              | ok	34 passing, 漢字 and some more to be cut
      running [  1m50s/1h30m] add-tests                         1.8g/4g
     stopping [    10s      ] refactor-the-whole-storage-layer
    preparing [     1s      ] docs
              | line 2
              | line 3
              | line 4
      Running [ 50m10s] 6 tasks: 0 passed, 1 failed, 4 running, 1 waiting
    ");
}
