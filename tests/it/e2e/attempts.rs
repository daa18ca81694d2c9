//! Tasks that are tried again: what becomes of the work of each attempt, and where it is told.

use serde_json::Value;

use super::scene::{Scene, expect, interrupt, start, task};

/// The file of a task's result at a ref; `None` where there is none.
fn file_at(scene: &Scene, name: &str, file: &str) -> Option<String> {
    let tree = scene.git(&["ls-tree", "--name-only", name]);
    let there = tree.lines().any(|line| line == file);
    there.then(|| scene.git(&["show", &format!("{name}:{file}")]))
}

fn refs(scene: &Scene, below: &str) -> Vec<String> {
    let refs = scene.git(&["for-each-ref", "--format=%(refname)", below]);
    refs.lines().map(str::to_owned).collect()
}

fn words(ended: &str) -> Vec<&str> {
    ended.lines().map(str::trim).collect()
}

#[test]
fn the_work_of_every_attempt_is_kept_and_told() {
    let scene = Scene::new();
    let spec = scene.spec(
        r#"
version: 1
defaults: { network_mode: none, retry: 1 }
tasks:
  passes-at-last:
    run: |
      echo "attempt $AGENT_ATTEMPT"
      echo "$AGENT_ATTEMPT" > "work-$AGENT_ATTEMPT.txt"
      test "$AGENT_ATTEMPT" = 2
  never-passes:
    run: |
      echo "$AGENT_ATTEMPT" > "work-$AGENT_ATTEMPT.txt"
      exit "7$AGENT_ATTEMPT"
  passes: { run: echo > work-1.txt }
"#,
    );
    let junit = scene.path().join("junit.xml");
    let summary = scene.path().join("summary.md");
    let path = |path: &std::path::Path| path.to_str().expect("a path").to_owned();
    let ended = scene.agent_run(&[
        "run",
        &path(&spec),
        "--junit",
        &path(&junit),
        "--summary",
        &path(&summary),
    ]);
    assert_eq!(ended.code, Some(100), "{ended}");
    let result = scene.result();
    let run = result["run"].as_str().expect("a run");
    for (id, outcome) in [("passes-at-last", "succeeded"), ("never-passes", "failed")] {
        let report = task(&result, id);
        assert_eq!(report["outcome"]["outcome"], outcome, "{report:#}");
        assert_eq!(report["attempt"], 2, "{report:#}");
        let branch = format!("refs/heads/agent/{run}/{id}");
        assert_eq!(
            file_at(&scene, &branch, "work-2.txt").as_deref(),
            Some("2\n")
        );
        assert_eq!(file_at(&scene, &branch, "work-1.txt"), None);
        let first = &report["earlier_attempts"][0];
        assert_eq!(first["branch"]["result"], "set_aside", "{first:#}");
        let kept = first["branch"]["kept_ref"].as_str().expect("a ref");
        assert_eq!(kept, format!("refs/agent-run/attempts/{run}/{id}/1/0"));
        assert_eq!(file_at(&scene, kept, "work-1.txt").as_deref(), Some("1\n"));
        for number in [1, 2] {
            let log =
                scene.agent_run(&["logs", id, "--run", run, "--attempt", &number.to_string()]);
            let said = format!("attempt {number}\n");
            let said = if id == "passes-at-last" { &said } else { "" };
            assert_eq!(log.stdout, *said, "{log}");
        }
    }
    assert_eq!(
        task(&result, "passes")["earlier_attempts"],
        Value::Array(Vec::new())
    );
    assert_eq!(task(&result, "never-passes")["outcome"]["exit_code"], 72);
    is_told(&scene, run, &ended);
    let junit = std::fs::read_to_string(junit).expect("a report");
    for element in [
        "<flakyFailure",
        "<rerunFailure",
        "exit code 71",
        "exit code 72",
    ] {
        assert_eq!(junit.matches(element).count(), 1, "{element}: {junit}");
    }
    let markdown = std::fs::read_to_string(summary).expect("a summary");
    for part in [
        "TRY 2 PASS",
        "TRY 2 FAIL",
        "### Earlier attempts",
        "TRY 1 FAIL",
    ] {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
    // Cleaning removes no work.
    let kept = refs(&scene, "refs/agent-run/attempts");
    assert_eq!(kept.len(), 2);
    let cleaned = scene.agent_run(&["clean"]);
    assert!(!cleaned.stdout.contains(run), "{cleaned}");
    assert_eq!(refs(&scene, "refs/agent-run/attempts"), kept);
    assert_eq!(scene.left(), Vec::<String>::new());
}

/// On the terminal, by `show` and by `ps`.
fn is_told(scene: &Scene, run: &str, ended: &super::scene::Ended) {
    for word in ["TRY 1 FAIL", "RETRY 2", "TRY 2 PASS", "TRY 2 FAIL"] {
        let lines = words(&ended.stderr);
        assert!(lines.iter().any(|l| l.starts_with(word)), "{word}: {ended}");
    }
    let has = |text: &str| ended.stdout.contains(text);
    assert!(has("3 tasks: 2 passed (1 flaky), 1 failed"), "{ended}");
    assert!(
        words(&ended.stdout).iter().any(|l| l.starts_with("FLAKY")),
        "{ended}"
    );
    assert!(has("try 1 [") && has("exit code 71"), "{ended}");
    let shown = scene.agent_run(&["show", "never-passes", "--run", run]);
    let lines = words(&shown.stdout);
    for start in [
        "TRY 2 FAIL",
        "try 1 exit code 71",
        "work refs/agent-run/attempts/",
    ] {
        assert!(
            lines.iter().any(|l| l.starts_with(start)),
            "{start}: {shown}"
        );
    }
    let listed = scene.agent_run(&["ps"]);
    assert!(
        listed.stdout.contains("TRY 2 PASS passes-at-last"),
        "{listed}"
    );
}

#[test]
fn what_an_attempt_plants_is_nowhere_for_the_next() {
    let scene = Scene::new();
    let outside = scene.path().join("outside");
    std::fs::create_dir(&outside).expect("a directory");
    let (ended, result) = scene.run(&format!(
        r#"
version: 1
tasks:
  plants:
    retry: 1
    network_mode: none
    run: |
      if test "$AGENT_ATTEMPT" = 2; then
        test -z "$(ls -A /agent/out)" && test "$(ls -A "$HOME")" = ""
        test ! -e ../2 && test ! -L link && echo second > second.txt
        exit 0
      fi
      echo first > first.txt
      for name in 2 ../2 ../../2 link logs; do ln -s {0} "$name" || true; done
      for name in status result.bundle 2; do ln -s {0}/$name /agent/out/$name; done
      ln -s {0} "$HOME/.config"; ln -s {0} /agent/git/logs || true
      kill -9 -1
"#,
        outside.display()
    ));
    assert_eq!(ended.code, Some(0), "{ended}");
    let report = task(&result, "plants");
    assert_eq!(report["attempt"], 2, "{report:#}");
    assert_eq!(report["branch"]["result"], "created", "{report:#}");
    let run = result["run"].as_str().expect("a run");
    let branch = format!("agent/{run}/plants");
    assert_eq!(
        scene.git(&["show", &format!("{branch}:second.txt")]),
        "second\n"
    );
    assert_eq!(file_at(&scene, &branch, "first.txt"), None);
    // Nothing is behind the links, and what the first attempt did is somewhere.
    assert_eq!(std::fs::read_dir(&outside).expect("it").count(), 0);
    let first = &report["earlier_attempts"][0]["branch"];
    let place = if let Some(kept) = first["kept_ref"].as_str() {
        scene.git(&["show", &format!("{kept}:first.txt")])
    } else {
        let path = first["path"].as_str().expect("a path");
        std::fs::read_to_string(format!("{path}/worktree/first.txt")).expect("the work")
    };
    assert_eq!(place, "first\n", "{first:#}");
    let log = scene
        .state()
        .join("runs")
        .join(run)
        .join("logs/plants.2.log");
    assert!(std::fs::symlink_metadata(log).expect("a log").is_file());
}

#[test]
fn an_interrupt_between_two_attempts_gives_the_branch_to_the_first() {
    let scene = Scene::new();
    let spec = scene.spec(
        "version: 1\ntasks:\n  a:\n    retry: { backoff: 1h }\n    run: echo a > a.txt; exit 3\n",
    );
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "again in 1h");
    let run = scene.runs().pop().expect("a run");
    let kept = refs(&scene, "refs/agent-run/attempts");
    assert_eq!(kept, [format!("refs/agent-run/attempts/{run}/a/1/0")]);
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
    let report = scene.result();
    let report = task(&report, "a");
    assert_eq!(report["outcome"]["exit_code"], 3, "{report:#}");
    assert_eq!(report["branch"]["result"], "created", "{report:#}");
    assert_eq!(scene.git(&["show", &format!("agent/{run}/a:a.txt")]), "a\n");
    assert_eq!(
        refs(&scene, "refs/agent-run/attempts"),
        Vec::<String>::new()
    );
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn clean_after_kill_9_in_the_second_attempt_gives_that_the_branch() {
    let scene = Scene::new();
    let spec = scene.spec(
        r#"
version: 1
tasks:
  a:
    retry: 1
    run: |
      echo "$AGENT_ATTEMPT" > work.txt
      test "$AGENT_ATTEMPT" = 2
      echo ready
      sleep 600
"#,
    );
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    let run = scene.runs().pop().expect("a run");
    child.kill().expect("a signal");
    child.wait().expect("an end");
    let listed = scene.agent_run(&["ps"]);
    assert!(listed.stdout.contains("cut off a  try 2"), "{listed}");
    let shown = scene.agent_run(&["show", "a", "--run", &run]);
    assert!(shown.stdout.contains("try 1 exit code 1"), "{shown}");
    let cleaned = scene.agent_run(&["clean", "--run", &run]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    let kept = format!("refs/agent-run/attempts/{run}/a/1/0");
    for (name, work) in [(kept, "1\n"), (format!("agent/{run}/a"), "2\n")] {
        assert_eq!(file_at(&scene, &name, "work.txt").as_deref(), Some(work));
    }
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
}

#[test]
fn the_command_line_says_how_many_attempts_follow() {
    let scene = Scene::new();
    let spec = scene.spec(
        "version: 1\ntasks:\n  a: { retry: { when: exit_code }, run: 'echo $AGENT_ATTEMPT; exit 3' }\n",
    );
    let spec = spec.to_str().expect("a path");
    let attempts = |flags: &[&str], variable: Option<&str>| {
        let mut command = scene.command(&[&["run", spec], flags].concat());
        if let Some(value) = variable {
            command.env("AGENT_RUN_RETRIES", value);
        }
        let ended: super::scene::Ended = command.output().expect("agent-run").into();
        assert_eq!(ended.code, Some(100), "{ended}");
        task(&scene.result(), "a")["attempt"]
            .as_u64()
            .expect("a number")
    };
    assert_eq!(attempts(&["--retries", "0"], Some("2")), 1);
    assert_eq!(attempts(&[], Some("2")), 3);
    let planned = scene.agent_run(&["plan", spec, "--retries", "4"]);
    let retry = "retry     4 further attempts after exit_code\n";
    assert!(planned.stdout.contains(retry), "{planned}");
}

#[test]
fn logs_follow_a_task_from_attempt_to_attempt() {
    let scene = Scene::new();
    let spec = scene.spec(
        r#"
version: 1
tasks:
  a:
    retry: 1
    run: |
      echo "begin $AGENT_ATTEMPT"
      for i in $(seq 200); do test ! -e go || break; sleep 0.3; done
      echo "end $AGENT_ATTEMPT"
      test "$AGENT_ATTEMPT" = 2
"#,
    );
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "begin 1");
    let run = scene.runs().pop().expect("a run");
    let mut follower = scene.command(&["logs", "-f", "a", "--run", &run]);
    let follower = follower.stdout(std::process::Stdio::piped());
    let mut follower = follower.spawn().expect("agent-run");
    let mut read = std::io::BufReader::new(follower.stdout.take().expect("its output"));
    let mut text = String::new();
    std::io::BufRead::read_line(&mut read, &mut text).expect("a line");
    assert_eq!(text, "begin 1\n");
    for number in [1, 2] {
        let listed = scene.agent_run(&["ps", "--format", "json"]);
        let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
        let earlier = &listed["runs"][0]["tasks"][0]["earlier_attempts"];
        assert_eq!(earlier.as_array().expect("a list").len(), number - 1);
        let shown = scene.agent_run(&["show", "a", "--run", &run]);
        let log = format!("logs/a.{number}.log");
        assert!(shown.stdout.contains(&log), "{shown}");
        let go = ["exec", "--run", &run, "a", "touch", "/workspace/go"];
        let gone = scene.agent_run(&go);
        assert_eq!(gone.code, Some(0), "{gone}");
        if number == 1 {
            expect(&mut lines, "begin 2");
        }
    }
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{rest:?}");
    std::io::Read::read_to_string(&mut read, &mut text).expect("the rest");
    assert_eq!(text, "begin 1\nend 1\nbegin 2\nend 2\n");
    assert_eq!(follower.wait().expect("an end").code(), Some(0));
}
