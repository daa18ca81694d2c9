//! Logs of real containers: nothing is lost, and `logs` shows them.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use agent_run::journal::log::{LogReader, LogRecord, LogStream};

use super::scene::{Ended, Scene, expect, start, task, until};

const DOCUMENT: &str = include_str!("../../../docs/logs.md");

/// What each stream of a task wrote, by its log.
fn streams(scene: &Scene, task: &str) -> HashMap<LogStream, Vec<u8>> {
    let run = scene.runs().pop().expect("a run");
    let path = scene.state().join("runs").join(run).join("logs");
    let mut streams: HashMap<LogStream, Vec<u8>> = HashMap::new();
    let each = |record: LogRecord<'_>| {
        let stream = streams.entry(record.stream).or_default();
        stream.extend_from_slice(record.text);
        if record.ends_line {
            stream.push(b'\n');
        }
        Ok(())
    };
    let log = LogReader::open(&path.join(format!("{task}.1.log")));
    log.expect("a log").read(each).expect("records");
    streams
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// `logs` in the repository.
fn logs(scene: &Scene, arguments: &[&str]) -> Ended {
    let arguments = [&["logs"], arguments].concat();
    let mut command = scene.command(&arguments);
    command.current_dir(scene.repo());
    command.output().expect("agent-run").into()
}

fn shown(scene: &Scene, arguments: &[&str]) -> String {
    let ended = logs(scene, arguments);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(ended.stderr, "");
    ended.stdout
}

/// What a person types in the repository.
fn bash(scene: &Scene, script: &str) -> Ended {
    let own = scene.command(&[]);
    let directory = Path::new(own.get_program()).parent().expect("a directory");
    let path = std::env::var_os("PATH").expect("a PATH");
    let directories = std::iter::once(directory.to_owned()).chain(std::env::split_paths(&path));
    let mut bash = Command::new("bash");
    bash.args(["-c", script])
        .current_dir(scene.repo())
        .envs(
            own.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("PATH", std::env::join_paths(directories).expect("a PATH"));
    bash.output().expect("bash").into()
}

const TALKS: &str = r"
version: 1
max_parallel: 1
defaults: { network_mode: none }
tasks:
  talks:
    run: |
      echo one
      printf '\033[31mred\033[0m \033]0;title\007plain\r\n'
      printf '10%%\r20%%\r30%%\n'
      printf 'no end'
  other-task:
    run: echo other
";

#[test]
fn logs_shows_what_tasks_have_written() {
    let scene = Scene::new();
    let (ended, _) = scene.run(TALKS);
    assert_eq!(ended.code, Some(0), "{ended}");
    let lines = "one\nred plain\n10%\n20%\n30%\nno end\n";
    assert_eq!(shown(&scene, &["talks"]), lines);
    let all: String = lines
        .lines()
        .map(|l| format!("talks      | {l}\n"))
        .collect();
    assert_eq!(shown(&scene, &[]), format!("{all}other-task | other\n"));
    assert_eq!(
        shown(&scene, &["other-task", "talks", "--tail", "1"]),
        "other-task | other\ntalks      | no end\n"
    );
    assert_eq!(
        shown(&scene, &["talks", "--tail", "2"]),
        "10%\n20%\n30%\nno end\n"
    );
    assert_eq!(shown(&scene, &["talks", "--tail", "0"]), "");
    assert_eq!(shown(&scene, &["-f", "--attempt", "1", "talks"]), lines);
    assert_eq!(
        shown(&scene, &["--raw", "talks"]),
        "one\n\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}plain\r\n10%\r20%\r30%\nno end"
    );
    let colored = shown(&scene, &["--color", "always", "--tail", "5", "talks"]);
    assert!(
        colored.contains("\u{1b}[31mred\u{1b}[0m plain"),
        "{colored:?}"
    );
    let timed = shown(&scene, &["-t", "other-task"]);
    let (time, line) = timed.split_once(' ').expect("a time");
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{timed}");
    assert_eq!(line, "other\n");
    let run = scene.runs().pop().expect("a run");
    let elsewhere = scene.agent_run(&["logs", "--run", &run, "talks"]);
    assert_eq!(elsewhere.stdout, lines);
}

#[test]
fn the_commands_of_the_document_give_what_it_says() {
    let scene = Scene::new();
    let yaml = TALKS.replace("talks:", "fix-login:");
    let (ended, _) = scene.run(&yaml.replace("echo one", "seq 1 30; echo one"));
    assert_eq!(ended.code, Some(0), "{ended}");
    let run = scene.runs().pop().expect("a run");
    let (_, commands) = DOCUMENT.split_once("```console\n").expect("commands");
    let (commands, _) = commands.split_once("```").expect("an end");
    let commands = commands
        .lines()
        .map(|line| line.strip_prefix("$ ").expect("a command"));
    let commands = commands.map(|line| line.split('#').next().unwrap_or_default().trim());
    let mut shown = commands.map(|command| {
        let ended = bash(&scene, &command.replace("261120-135107-u6ke", &run));
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{ended}"
        );
        ended.stdout
    });
    let mut next = || shown.next().expect("a command");
    let (all, one) = (next(), next());
    assert!(all.starts_with("fix-login  | 1\n"), "{all}");
    assert!(all.ends_with("\nother-task | other\n"), "{all}");
    let lines: Vec<&str> = one.lines().collect();
    assert_eq!((lines.len(), lines[30]), (36, "one"), "{one}");
    assert_eq!(next(), one, "-f");
    // In the file, 10%, 20% and 30% are one line.
    let tail = lines[14..].join("\n") + "\n";
    assert_eq!(next(), tail, "--tail");
    let timed = next();
    let is_timed = |(line, text): (&str, &&str)| {
        let (time, rest) = line.split_once(' ').expect("a time");
        time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok() && rest == *text
    };
    assert!(timed.lines().zip(&lines).all(is_timed), "{timed}");
    assert_eq!(next(), one, "--attempt");
    assert_eq!(next(), all, "--run");
    assert_eq!(next(), "", "--raw");
    assert!(shown.next().is_none());
    let raw = std::fs::read_to_string(scene.repo().join("build.log")).expect("a file");
    assert!(raw.ends_with("plain\r\n10%\r20%\r30%\nno end"), "{raw:?}");
}

#[test]
fn the_log_in_the_document_is_read_as_it_says() {
    let scene = Scene::empty();
    let (_, example) = DOCUMENT.split_once("```text\n").expect("a log");
    let (example, _) = example.split_once("```").expect("an end");
    let path = scene.path().join("example.log");
    std::fs::write(&path, example).expect("a log");
    let mut records = Vec::new();
    let each = |record: LogRecord<'_>| {
        let text = text(record.text).to_owned();
        records.push((record.time.len(), record.stream, record.ends_line, text));
        Ok(())
    };
    let log = LogReader::open(&path);
    log.expect("a log").read(each).expect("records");
    let expected = [
        (LogStream::Stdout, true, "Compiling agent v0.1.0"),
        (LogStream::Stderr, false, "Password: "),
        (LogStream::Stderr, true, "hunter2"),
    ];
    let expected = expected.map(|(stream, ends, text)| (24, stream, ends, text.to_owned()));
    assert_eq!(records, expected);
}

#[test]
fn logs_says_what_is_wrong() {
    let scene = Scene::new();
    let refused = |arguments: &[&str], code: i32, words: &[&str]| {
        let ended = logs(&scene, arguments);
        assert_eq!(ended.code, Some(code), "{ended}");
        assert_eq!(ended.stdout, "", "{ended}");
        for word in words {
            assert!(ended.stderr.contains(word), "no {word:?} in {ended}");
        }
    };
    refused(&["talks"], 2, &["error: no run of ", "hint: "]);
    let (ended, _) =
        scene.run(&TALKS.replace("run: echo other", "image: no/such:image\n    run: x"));
    assert_eq!(ended.code, Some(100), "{ended}");
    refused(
        &["talk"],
        2,
        &["has no task `talk`", "did you mean `talks`?"],
    );
    refused(
        &["--run", "261120-101500-abcd"],
        2,
        &["no run 261120-101500-abcd"],
    );
    refused(
        &["--attempt", "2", "talks"],
        2,
        &["no log of an attempt 2", "its attempts: 1"],
    );
    refused(
        &["other-task"],
        4,
        &["other-task", "has never started", "show"],
    );
    refused(&["-f", "other-task"], 4, &["has never started"]);
    refused(&["--raw"], 2, &["--raw shows one task"]);
    // Of all tasks, those that have one.
    assert!(shown(&scene, &[]).starts_with("talks      | one\n"));
    let run = scene.runs().pop().expect("a run");
    let plan = scene.state().join("runs").join(&run).join("plan.json");
    let whole = std::fs::read_to_string(&plan).expect("a plan");
    std::fs::write(&plan, &whole[..whole.len() / 2]).expect("half a plan");
    refused(&["--run", &run], 96, &["plan.json is not whole"]);
    let newer = whole.replacen("\"version\": 1", "\"version\": 99", 1);
    assert_ne!(newer, whole);
    std::fs::write(&plan, newer).expect("a newer plan");
    refused(&["--run", &run], 96, &["of version 99"]);
    std::fs::remove_file(&plan).expect("a removal");
    refused(&["--run", &run], 96, &["plan.json"]);
}

#[test]
fn logs_ends_quietly_where_nobody_reads_on() {
    let scene = Scene::new();
    let (ended, _) =
        scene.run("version: 1\ntasks:\n  a: { network_mode: none, run: seq 1 200000 }\n");
    assert_eq!(ended.code, Some(0), "{ended}");
    for flags in ["", "--raw", "-f"] {
        let script = format!("set -o pipefail; agent-run logs {flags} a | head -1");
        let ended = bash(&scene, &script);
        assert_eq!(ended.code, Some(0), "{ended}");
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("1\n", ""));
    }
}

#[test]
fn logs_follows_a_task_to_its_end() {
    let scene = Scene::new();
    let yaml = r"
version: 1
max_parallel: 1
defaults: { network_mode: none }
tasks:
  first:
    run: |
      echo ready
      until [ -e go ]; do sleep 0.05; done
      printf 'Password: '
      until [ -e on ]; do sleep 0.05; done
      echo; echo end
  second:
    run: echo second
";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    let not_yet = logs(&scene, &["second"]);
    assert_eq!(not_yet.code, Some(4), "{not_yet}");
    assert!(not_yet.stderr.contains("has not started yet"), "{not_yet}");
    assert!(not_yet.stderr.contains("--follow"), "{not_yet}");
    assert_eq!(shown(&scene, &["first"]), "ready\n");
    let follow = |tasks: &[&str]| {
        let mut command = scene.command(&[&["logs", "-f"], tasks].concat());
        let command = command.current_dir(scene.repo()).stdout(Stdio::piped());
        command.spawn().expect("agent-run")
    };
    let mut one = follow(&["first"]);
    let all = follow(&[]);
    let mut output = one.stdout.take().expect("stdout");
    let mut seen = String::new();
    let mut read_to = |end: &str| {
        let mut byte = [0];
        while !seen.ends_with(end) {
            output.read_exact(&mut byte).expect("more output");
            seen.push(char::from(byte[0]));
        }
        seen.clone()
    };
    assert_eq!(read_to("ready\n"), "ready\n");
    let run = scene.runs().pop().expect("a run");
    let tree = scene
        .state()
        .join("runs")
        .join(run)
        .join("tasks/first/1/worktree");
    std::fs::write(tree.join("go"), "").expect("a file");
    // It is shown though its line has not ended.
    assert_eq!(read_to("Password: "), "ready\nPassword: ");
    std::fs::write(tree.join("on"), "").expect("a file");
    assert_eq!(read_to("end\n"), "ready\nPassword: \nend\n");
    assert_eq!(one.wait().expect("an end").code(), Some(0));
    let all: Ended = all.wait_with_output().expect("an end").into();
    assert_eq!(all.code, Some(0), "{all}");
    assert_eq!(
        all.stdout,
        "first  | ready\nfirst  | Password: \nfirst  | end\nsecond | second\n"
    );
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{rest:?}");
}

#[test]
fn the_last_words_before_a_stop_are_in_the_log() {
    let scene = Scene::new();
    let (ended, result) = scene.run(
        r#"
version: 1
defaults: { network_mode: none, timeout: 3s }
tasks:
  obeys:
    run: |
      trap 'seq 1 100000; printf "last words" >&2; printf "no end"; exit 7' TERM
      echo ready
      sleep 60 & wait
"#,
    );
    assert_eq!(ended.code, Some(100), "{ended}");
    let obeys = task(&result, "obeys");
    assert_eq!(obeys["outcome"]["outcome"], "timed_out", "{ended}");
    let streams = streams(&scene, "obeys");
    let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(
        text(&streams[&LogStream::Stdout]),
        format!("ready\n{expected}no end")
    );
    assert_eq!(text(&streams[&LogStream::Stderr]), "last words");
}

#[test]
fn long_lines_and_all_bytes_are_kept_as_they_are() {
    let scene = Scene::new();
    let (ended, _) = scene.run(
        r#"
version: 1
defaults: { network_mode: none }
tasks:
  a:
    run: |
      python3 - <<'END'
      import sys
      line = b"0123456789" * 100_000 + b"\n"
      sys.stdout.buffer.write(line * 3 + bytes(range(256)) * 1000)
      sys.stderr.buffer.write(line)
      END
"#,
    );
    assert_eq!(ended.code, Some(0), "{ended}");
    let streams = streams(&scene, "a");
    let line = [b"0123456789".repeat(100_000), b"\n".to_vec()].concat();
    let bytes: Vec<u8> = (0..=255).collect();
    let expected = [line.repeat(3), bytes.repeat(1000)].concat();
    assert!(streams[&LogStream::Stdout] == expected);
    assert!(streams[&LogStream::Stderr] == line);
}

/// At full speed on both streams, and with a reader that never reads.
#[test]
fn three_million_lines_are_whole() {
    let lines = 1_500_000_u32;
    let scene = Scene::new();
    let yaml = format!(
        "version: 1\ntasks:\n  a:\n    network_mode: none\n    run: |\n      \
         seq 1 {lines} & seq 1 {lines} >&2; wait\n"
    );
    let spec = scene.spec(&yaml);
    let (mut child, shown) = start(&scene, &["run", spec.to_str().expect("a path")]);
    let expected: String = (1..=lines).map(|n| format!("{n}\n")).collect();
    let prefixes = 2 * lines as usize * "2026-11-20T15:58:01.123Z stdout F ".len();
    let size = (2 * expected.len() + prefixes) as u64;
    until("the log is whole though nobody reads", || {
        let run = scene.runs().pop().unwrap_or_default();
        let log = scene.state().join("runs").join(run).join("logs/a.1.log");
        std::fs::metadata(log).is_ok_and(|log| log.len() >= size)
    });
    let rest: Vec<String> = shown.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{rest:?}");
    let streams = streams(&scene, "a");
    assert!(text(&streams[&LogStream::Stdout]) == expected);
    assert!(text(&streams[&LogStream::Stderr]) == expected);
    let counts = rest.iter().filter_map(|line| {
        // In its place, or where the reader took nothing at all, as a warning.
        let words = line.strip_suffix(" lines not shown, see the log")?;
        words.rsplit_once(' ')?.1.parse::<u32>().ok()
    });
    let missing: u32 = counts.sum();
    let numbers = rest
        .iter()
        .filter_map(|line| line.split_once("| ")?.1.parse::<u32>().ok());
    let there = u32::try_from(numbers.count()).expect("a number");
    assert_eq!(
        there + missing,
        2 * lines,
        "{there} shown, {missing} missing"
    );
}

#[test]
#[ignore = "slow: make test-all runs it"]
fn a_log_of_five_gigabytes_keeps_its_ends() {
    let scene = Scene::new();
    let line = "x".repeat(999);
    let spec = scene.spec(&format!(
        "version: 1\ntasks:\n  a:\n    network_mode: none\n    log_limit: 8m\n    run: |\n      \
         echo begin\n      yes {line} | head -c 5000000000\n      echo end\n",
    ));
    let ended = scene.agent_run(&["run", "--quiet", spec.to_str().expect("a path")]);
    assert_eq!(ended.code, Some(0), "{ended}");
    let streams = streams(&scene, "a");
    let out = text(&streams[&LogStream::Stdout]);
    assert!(out.starts_with("begin\nxxx") && out.ends_with("xxx\nend\n"));
    let note = text(&streams[&LogStream::Stderr]);
    let words = note.strip_prefix("[agent-run: log_limit: ").expect(note);
    let (bytes, lines) = words.split_once(" bytes in ").expect(note);
    let (lines, _) = lines.split_once(" lines are not kept here]").expect(note);
    let bytes: usize = bytes.parse().expect("a number");
    let lines: usize = lines.parse().expect("a number");
    assert_eq!(bytes + out.len(), 5_000_000_000 + "begin\nend\n".len());
    assert_eq!(lines + out.lines().count(), 5_000_000 + 2);
    assert!(shown(&scene, &["--tail", "1", "a"]) == "end\n");
}
