//! The files that a run writes for others, and where they cannot be written; readers that have gone
//! or stopped.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent_run::event::events_schema;
use serde_json::Value;

use super::scene::{Ended, Scene, expect, interrupt, start, task, until};
use crate::formats::Validator;

const MIXED: &str = r"
version: 1
defaults: { mem_limit: 64m, network_mode: none }
tasks:
  good: { run: echo a > a }
  bad:
    run: |
      echo b > b
      echo '</system-out> ]]> ``` | <b>'
      exit 3
";

fn path(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// Reads a `JUnit` report as Python's standard library does: (name, what is below it).
fn cases(file: &Path) -> Vec<(String, String)> {
    let script = "import sys, xml.etree.ElementTree as E\n\
        for case in E.parse(sys.argv[1]).getroot().iter('testcase'):\n\
        \x20   print(case.get('name'), *[part.tag for part in case if part.tag != 'properties'], sep='\\t')";
    let ended: Ended = Command::new("python3")
        .args(["-c", script, path(file)])
        .output()
        .expect("python3")
        .into();
    assert_eq!(ended.code, Some(0), "{ended}");
    let lines = ended.stdout.lines();
    let case = |line: &str| {
        let (name, rest) = line.split_once('\t').unwrap_or((line, ""));
        (name.to_owned(), rest.replace('\t', " "))
    };
    lines.map(case).collect()
}

fn events(text: &str) -> Vec<Value> {
    let validator = Validator::new(events_schema());
    let event = |line: &str| {
        let event = serde_json::from_str(line).expect("JSON");
        validator.expect_valid(&event);
        event
    };
    text.lines().map(event).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let kinds = events.iter().map(|event| event["kind"]["type"].as_str());
    kinds.map(|kind| kind.expect("a type")).collect()
}

#[test]
fn a_failed_run_writes_all_that_was_asked_for() {
    let scene = Scene::new();
    let spec = scene.spec(MIXED);
    let mut command = scene.command(&["run", path(&spec), "--junit", "out/junit.xml"]);
    command.env("AGENT_RUN_EVENTS", "out/events.ndjson");
    command.env("AGENT_RUN_SUMMARY", "out/summary.md");
    let ended: Ended = command.output().expect("agent-run").into();
    assert_eq!(ended.code, Some(100), "{ended}");
    let out = |name: &str| scene.path().join("out").join(name);
    let cases = cases(&out("junit.xml"));
    let bad = "failure system-out".to_owned();
    assert_eq!(
        cases,
        [("good".to_owned(), String::new()), ("bad".to_owned(), bad)]
    );
    let summary = std::fs::read_to_string(out("summary.md")).expect("a summary");
    assert!(
        summary.starts_with("## 2 tasks: 1 passed, 1 failed\n"),
        "{summary}"
    );
    assert!(
        summary.contains("````text\n</system-out> ]]> ``` | <b>\n````"),
        "{summary}"
    );
    let written = std::fs::read_to_string(out("events.ndjson")).expect("events");
    let events = events(&written);
    assert_eq!(events, scene.events());
    assert_eq!(kinds(&events).first(), Some(&"run_started"));
    let last = events.last().expect("an event");
    assert_eq!(last["kind"]["type"], "run_finished");
    let seqs: Vec<u64> = events.iter().filter_map(|e| e["seq"].as_u64()).collect();
    assert_eq!(seqs, (0..events.len() as u64).collect::<Vec<_>>());
    // The last event and the result are the same, but for the version.
    let (mut result, mut told) = (scene.result(), last["kind"]["summary"].clone());
    result.as_object_mut().expect("a map").remove("version");
    told.as_object_mut().expect("a map").remove("version");
    assert_eq!(result, told);
    let good = task(&result, "good");
    assert!(
        good["image"]
            .as_str()
            .expect("an image")
            .starts_with("sha256:")
    );
    let phases = good["phases"].as_array().expect("phases");
    let phases: Vec<_> = phases.iter().map(|p| p["phase"].as_str()).collect();
    let all = ["waiting", "preparing", "running", "collecting"];
    assert_eq!(phases, all.map(Some));
}

#[test]
fn usage_is_measured_where_a_task_runs_long_enough() {
    let scene = Scene::new();
    let script = "import time; x = bytearray(150 << 20); x = None; end = time.time() + 3\n\
                  while time.time() < end: pass";
    let yaml = format!(
        "version: 1\ntasks:\n  busy: {{ mem_limit: 256m, cpus: 1, command: [python3, -c, {script:?}] }}\n"
    );
    let (ended, result) = scene.run(&yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    let usage = &task(&result, "busy")["usage"];
    let number = |key: &str| {
        usage[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{key} in {usage}"))
    };
    // Gone before the last measurement, if not the first: the kernel's own count tells.
    let peak = number("peak_memory_bytes") >> 20;
    assert!((150..=256).contains(&peak), "{usage}");
    assert!(number("memory_bytes") >> 20 < 150, "{usage}");
    assert!(number("cpu_ms") > 200, "{usage}");
    assert!(number("after_ms") >= 1000, "{usage}");
    assert!(number("received_bytes") > 0, "{usage}");
    let events = scene.events();
    let last = events.iter().rfind(|e| e["kind"]["type"] == "usage");
    assert_eq!(last.expect("an event")["kind"]["usage"], *usage);
}

#[test]
fn events_on_standard_output_are_all_that_is_there() {
    let scene = Scene::new();
    let spec = scene.spec(MIXED);
    let ended = scene.agent_run(&["run", path(&spec), "--events", "-"]);
    assert_eq!(ended.code, Some(100), "{ended}");
    let events = events(&ended.stdout);
    assert_eq!(kinds(&events).last(), Some(&"run_finished"));
    assert!(ended.stderr.contains("Summary ["), "{ended}");
}

#[test]
fn an_interrupted_run_writes_its_files() {
    let scene = Scene::new();
    let yaml = "version: 1\ndefaults: { mem_limit: 64m, network_mode: none }\n\
                tasks: { t: { run: 'echo up; exec sleep 600' }, u: { run: 'true' } }\nmax_parallel: 1\n";
    let spec = scene.spec(yaml);
    let more = [
        "--junit",
        "j.xml",
        "--summary",
        "s.md",
        "--events",
        "e.ndjson",
    ];
    let arguments = [&["run", path(&spec)], &more[..]].concat();
    let (mut child, mut lines) = start(&scene, &arguments);
    expect(&mut lines, "| up");
    interrupt(&child);
    lines.for_each(drop);
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    let file = |name: &str| scene.path().join(name);
    let cases = cases(&file("j.xml"));
    let tags: Vec<&str> = cases.iter().map(|(_, below)| below.as_str()).collect();
    assert_eq!(tags, ["error system-out", "skipped"], "{cases:?}");
    let summary = std::fs::read_to_string(file("s.md")).expect("a summary");
    assert!(summary.contains("**interrupted**"), "{summary}");
    let events = events(&std::fs::read_to_string(file("e.ndjson")).expect("events"));
    assert!(kinds(&events).contains(&"stopping"));
    assert_eq!(kinds(&events).last(), Some(&"run_finished"));
}

#[test]
fn files_that_cannot_be_written_are_refused_before_anything_starts() {
    let scene = Scene::new();
    let spec = scene.spec(MIXED);
    for flag in ["--junit", "--summary", "--events"] {
        let below_a_file = spec.join("x");
        for place in [scene.path(), &below_a_file] {
            let ended = scene.agent_run(&["run", path(&spec), flag, path(place)]);
            assert_eq!(ended.code, Some(2), "{flag}: {ended}");
            assert!(ended.stderr.contains(path(place)), "{ended}");
            assert!(ended.stderr.contains("nothing has been started"), "{ended}");
        }
    }
    assert!(scene.runs().is_empty());
}

/// A file system of 64 KiB, until it is dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf) -> Self {
        std::fs::create_dir(&at).expect("a directory");
        let mounted: Ended = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "none", path(&at)])
            .output()
            .expect("mount")
            .into();
        assert_eq!(
            mounted.code,
            Some(0),
            "this test must run as root: {mounted}"
        );
        Self(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Fills a file system but for one page, which is what a file there gets.
fn fill(file: &Path) {
    let mut filler = std::fs::File::create(file).expect("a file");
    while filler.write_all(&[0; 4096]).is_ok() {}
    let size = filler.metadata().expect("its size").len();
    assert!(size > 4096);
    filler.set_len(size - 4096).expect("a page");
}

#[test]
fn a_full_disk_is_told_of_and_costs_no_work() {
    for (exit, code) in [(0, 1), (3, 100)] {
        let scene = Scene::new();
        let small = Small::mount(scene.path().join("small"));
        let file = |name: &str| path(&small.0.join(name)).to_owned();
        std::fs::write(file("s.md"), "of the run before\n").expect("a file");
        fill(Path::new(&file("filler")));
        let tasks = (0..6).map(|n| format!("  t{n}: {{ run: 'echo a > a; exit {exit}' }}\n"));
        let yaml = format!(
            "version: 1\ndefaults: {{ mem_limit: 64m, network_mode: none }}\ntasks:\n{}",
            tasks.collect::<String>()
        );
        let spec = scene.spec(&yaml);
        let (junit, summary, events) = (file("j.xml"), file("s.md"), file("e.ndjson"));
        let ended = scene.agent_run(&[
            "run",
            path(&spec),
            "--junit",
            &junit,
            "--summary",
            &summary,
            "--events",
            &events,
        ]);
        assert_eq!(ended.code, Some(code), "{ended}");
        for file in [&junit, &summary, &events] {
            let words = format!("error: cannot write {file}: No space left on device");
            assert!(ended.stderr.contains(&words), "{words}: {ended}");
        }
        assert!(ended.stderr.contains("its events end here"), "{ended}");
        assert_eq!(names(&small.0), ["e.ndjson", "filler", "s.md"], "{ended}");
        let before = std::fs::read_to_string(&summary).expect("a file");
        assert_eq!(before, "of the run before\n");
        let own = scene.events();
        assert_eq!(
            kinds(&own).last(),
            Some(&"run_finished"),
            "the run's own record is whole"
        );
        let result = scene.result();
        let run = result["run"].as_str().expect("a run");
        for n in 0..6 {
            scene.git(&["show", &format!("agent/{run}/t{n}:a")]);
        }
        assert_eq!(scene.left(), Vec::<String>::new());
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().expect("a name");
    let mut names: Vec<String> = entries
        .map(|entry| name(entry.expect("an entry")))
        .collect();
    names.sort();
    names
}

#[test]
fn readers_that_go_away_change_nothing() {
    let scene = Scene::new();
    let spec = scene.spec(MIXED);
    for more in [&["--events", "-"][..], &[]] {
        let arguments = [&["run", path(&spec)], more].concat();
        let mut command = scene.command(&arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("agent-run");
        // As `| head -1` does.
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
        stdout.read_line(&mut first).expect("a line");
        drop(stdout);
        let mut stderr = String::new();
        let mut rest = child.stderr.take().expect("stderr");
        rest.read_to_string(&mut stderr).expect("text");
        assert_eq!(child.wait().expect("an end").code(), Some(100), "{stderr}");
        assert!(!stderr.contains("error:"), "{stderr}");
        assert_eq!(task(&scene.result(), "good")["branch"]["result"], "created");
    }
}

#[test]
fn a_reader_that_stops_reading_holds_no_task_up() {
    let scene = Scene::new();
    let yaml = "version: 1\ndefaults: { mem_limit: 64m, network_mode: none }\ntasks:\n  \
                loud: { run: 'echo a > a; seq 200000' }\n  later: { run: 'echo b > b' }\nmax_parallel: 1\n";
    let spec = scene.spec(yaml);
    let mut command = scene.command(&["run", path(&spec), "--progress", "plain"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("agent-run");
    // Nobody reads, and both tasks' work arrives all the same.
    until("both branches", || {
        let branches = scene.git(&["for-each-ref", "refs/heads/agent/"]);
        branches.lines().count() == 2
    });
    assert!(
        child.try_wait().expect("a child").is_none(),
        "it has more to say"
    );
    let ended: Ended = child.wait_with_output().expect("an end").into();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(
        ended.stderr.contains("lines not shown, see the log"),
        "nobody could take all of them"
    );
    let run = scene.runs().pop().expect("a run");
    let log = scene.state().join("runs").join(run).join("logs/loud.1.log");
    let log = std::fs::read_to_string(log).expect("a log");
    assert_eq!(log.lines().count(), 200_000);
}
