//! What a container prints: all of it is in the log, whatever ends it and whoever looks.

use std::time::Duration;

use agent_run::engine::{ErrorKind, Operation, OutputSource};
use agent_run::event::{Event, EventKind};
use agent_run::runner::{LogLine, Observer};

use super::scene::{Scene, Seen, report};
use crate::fake::Fault;

const ONE: &str = "version: 1\ntasks:\n  a: { run: x }\n";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The warnings of a run.
fn warnings(seen: &Seen) -> Vec<&str> {
    let warnings = seen.events.iter().filter_map(|event| match &event.kind {
        EventKind::Warning { message } => Some(message.as_str()),
        _ => None,
    });
    warnings.collect()
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_whole_in_the_file_and_missing_lines_are_counted() {
    /// Takes no line before the task has ended.
    #[derive(Default)]
    struct Slow(Seen);
    impl Observer for Slow {
        fn event(&mut self, event: &Event) {
            self.0.event(event);
        }
        fn line(&mut self, line: &LogLine) {
            std::thread::yield_now();
            self.0.line(line);
        }
    }
    let scene = Scene::new();
    let mut script = Scene::hands_off(0);
    let frame: String = (0..1000).map(|n| format!("line {n}\n")).collect();
    for _ in 0..200 {
        script = script.prints(&frame);
    }
    scene.engine.script("task/a", script.prints("the end"));
    let mut slow = Slow::default();
    let ended = scene
        .observed("version: 1\ntasks:\n  a: { run: x }\n", &mut slow)
        .await;
    assert!(ended.unwrap().tasks[0].is_good());
    let log = scene.log("a");
    assert_eq!(log.len(), frame.len() * 200 + "the end".len());
    let shown = slow
        .0
        .lines
        .iter()
        .filter(|line| line.contains("| line "))
        .count();
    let missing: usize = slow
        .0
        .lines
        .iter()
        .filter_map(|line| line.split_once("| … ")?.1.split_once(" lines not shown"))
        .map(|(count, _)| count.parse::<usize>().unwrap())
        .sum();
    let end = slow
        .0
        .lines
        .iter()
        .filter(|line| line.ends_with("| the end"))
        .count();
    assert_eq!(
        shown + missing + end,
        200_001,
        "{shown} shown, {missing} missing"
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn one_endless_line_does_not_fill_the_report() {
    let scene = Scene::new();
    let endless = Scene::hands_off(3).prints(&"x".repeat(100_000));
    scene.engine.script("task/a", endless);
    let summary = scene.run("version: 1\ntasks:\n  a: { run: x }\n").await;
    let lines = &report(&summary, "a").last_lines;
    assert!(
        lines.iter().all(|line| line.chars().count() <= 400),
        "{lines:?}"
    );
    assert_eq!(scene.log("a").len(), 100_000);
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_the_end_is_read_as_long_as_it_comes() {
    let scene = Scene::new();
    let mut script = Scene::hands_off(3).prints("first\n");
    for n in 0..20 {
        script = script.late(seconds(4), &format!("late {n}\n"));
    }
    scene
        .engine
        .script("task/a", script.late(seconds(4), "the end"));
    let mut seen = Seen::default();
    let summary = scene.observed(ONE, &mut seen).await.unwrap();
    let late: String = (0..20).map(|n| format!("late {n}\n")).collect();
    assert_eq!(scene.log("a"), format!("first\n{late}the end"));
    assert_eq!(report(&summary, "a").last_lines.last().unwrap(), "the end");
    assert_eq!(seen.lines.last().unwrap(), "a | the end");
    assert_eq!(warnings(&seen), Vec::<&str>::new());
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_never_ended_is_told_and_holds_nothing_up() {
    let scene = Scene::new();
    let script = Scene::hands_off(0).prints("all\nthere is").holding_output();
    scene.engine.script("task/a", script);
    let mut seen = Seen::default();
    let summary = scene.observed(ONE, &mut seen).await.unwrap();
    assert!(report(&summary, "a").is_good(), "{summary:#?}");
    assert_eq!(scene.log("a"), "all\nthere is");
    assert_eq!(seen.lines, ["a | all", "a | there is"]);
    assert_eq!(
        warnings(&seen),
        ["the log may lack its end: the engine did not end the output"]
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn the_last_words_before_a_stop_are_there() {
    let scene = Scene::new();
    let script = Scene::hands_off(0)
        .after(seconds(3600))
        .obeying_term_after(seconds(3))
        .writes(seconds(9), OutputSource::Stdout, b"working\n")
        .writes(seconds(12), OutputSource::Stderr, b"I was asked to stop\n")
        .late(seconds(1), "and so I did");
    scene.engine.script("task/a", script);
    let summary = scene
        .run("version: 1\ntasks:\n  a: { run: x, timeout: 10s }\n")
        .await;
    assert_eq!(scene.log("a"), "working\nI was asked to stop\nand so I did");
    let last = &report(&summary, "a").last_lines;
    assert_eq!(*last, ["working", "I was asked to stop", "and so I did"]);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_container_that_nobody_knows_is_not_waited_for() {
    let scene = Scene::new();
    let mut script = Scene::hands_off(0).after(seconds(3600)).ignoring_term();
    for n in 0..3600 {
        script = script.writes(seconds(n), OutputSource::Stdout, b"still here\n");
    }
    scene.engine.script("task/a", script);
    let broken = Fault::Fail(ErrorKind::Broken("gone".into()));
    scene
        .engine
        .fault("task/a", Operation::Wait, broken.clone());
    scene.engine.fault("task/a", Operation::Stop, broken);
    let mut seen = Seen::default();
    let summary = scene.observed(ONE, &mut seen).await.unwrap();
    let ran = report(&summary, "a").ran;
    assert!(ran < seconds(60), "{ran:?}");
    let told = "the log may lack its end: its container may still run";
    assert!(warnings(&seen).contains(&told), "{:?}", warnings(&seen));
    let lines = scene.log("a").lines().count();
    assert!((1..60).contains(&lines), "{lines}");
}

#[tokio::test(start_paused = true)]
async fn streams_are_apart_and_a_lone_carriage_return_ends_a_line() {
    let scene = Scene::new();
    let script = Scene::hands_off(0)
        .writes(seconds(0), OutputSource::Stdout, b"10%\r20%\r")
        .writes(seconds(0), OutputSource::Stderr, b"oh\r")
        .writes(seconds(0), OutputSource::Stdout, b"\ndo")
        .writes(seconds(0), OutputSource::Stderr, b"\nno\n")
        .writes(seconds(0), OutputSource::Stdout, b"ne\r\n\r\n");
    scene.engine.script("task/a", script);
    let mut seen = Seen::default();
    scene.observed(ONE, &mut seen).await.unwrap();
    let shown = ["a | 10%", "a | 20%", "a | oh", "a | no", "a | done", "a | "];
    assert_eq!(seen.lines, shown);
    let log = scene.log("a");
    assert_eq!(log, "10%\r20%\r\noh\r\nno\ndone\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_long_line_is_shown_cut_and_kept_whole() {
    let scene = Scene::new();
    let mut script = Scene::hands_off(0);
    for _ in 0..10 {
        script = script.prints(&"x".repeat(32 * 1024));
    }
    scene.engine.script("task/a", script.prints("\nnext\n"));
    let mut seen = Seen::default();
    scene.observed(ONE, &mut seen).await.unwrap();
    assert_eq!(seen.lines.len(), 2);
    assert_eq!(seen.lines[0], format!("a | {}…", "x".repeat(4096)));
    assert_eq!(
        scene.log("a"),
        format!("{}\nnext\n", "x".repeat(320 * 1024))
    );
}
