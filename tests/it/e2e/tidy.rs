//! What a start does about runs that died: kill -9 on a real engine, in an attempt, in a view, between
//! two attempts, and with leftovers that nobody needs.

use super::scene::{Scene, docker, expect, start, task};

/// Starts a run, and kills agent-run when a line of it has these words.
fn killed_at(scene: &Scene, yaml: &str, words: &str) -> String {
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, words);
    child.kill().expect("a kill");
    child.wait().expect("an end");
    scene.runs().pop().expect("a run")
}

/// What a killed removal leaves of a task that has ended.
fn leave_behind(scene: &Scene, run: &str) {
    let name = format!("agent-run-{run}-1-done");
    let labels = [
        "agent-run.schema=1".to_owned(),
        format!("agent-run.run={run}"),
        "agent-run.task=done".to_owned(),
        "agent-run.attempt=1".to_owned(),
        "agent-run.role=task".to_owned(),
    ];
    let mut arguments = vec!["create", "--name", &name];
    for label in &labels {
        arguments.extend(["--label", label]);
    }
    let image = format!("agent-run-base:{}", env!("CARGO_PKG_VERSION"));
    arguments.extend([image.as_str(), "true"]);
    let created = docker(&arguments);
    assert_eq!(created.code, Some(0), "{created}");
    let directory = scene.state().join("runs").join(run).join("tasks/done/1");
    std::fs::create_dir_all(directory.join("worktree")).expect("a directory");
    std::fs::create_dir_all(scene.state().join("runs/.new-260101-000000-aaaa"))
        .expect("a directory");
}

#[test]
fn a_start_removes_what_nobody_needs_of_a_run_that_died_and_resume_goes_on_with_the_rest() {
    let scene = Scene::new();
    let yaml = r"
version: 1
max_parallel: 1
tasks:
  done: { run: echo done > done.txt }
  long:
    run: |
      echo ready
      until [ -e /home/agent/go ]; do sleep 0.1; done
      echo long > long.txt
";
    let run = killed_at(&scene, yaml, "| ready");
    leave_behind(&scene, &run);
    let (ended, result) = scene.run("version: 1\ntasks:\n  quick: { run: sleep 1 }\n");
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_ne!(result["run"], run.as_str());
    for line in [
        format!("work is left of 1 interrupted run: agent-run resume {run} goes on"),
        // Networks that nobody uses just now go too.
        "tidied up after 1 earlier run: removed 1 container".to_owned(),
        "1 worktree".to_owned(),
    ] {
        assert!(ended.stderr.contains(&line), "{line}: {ended}");
    }
    let filter = format!("label=agent-run.run={run}");
    let left = docker(&["ps", "-a", "--format", "{{.Names}}", "--filter", &filter]);
    assert_eq!(left.stdout, format!("agent-run-{run}-1-long\n"));
    let place = scene.state().join("runs").join(&run);
    assert!(!place.join("tasks/done").exists());
    assert!(!scene.state().join("runs/.new-260101-000000-aaaa").exists());
    let (mut child, mut lines) = start(&scene, &["resume", &run]);
    expect(&mut lines, "| ready");
    std::fs::write(place.join("tasks/long/1/home/go"), "").expect("a file");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{rest:?}");
    let text = std::fs::read(place.join("result.json")).expect("a result");
    let result: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    for name in ["done", "long"] {
        assert_eq!(task(&result, name)["outcome"]["outcome"], "succeeded");
        let file = format!("agent/{run}/{name}:{name}.txt");
        assert_eq!(scene.git(&["show", &file]), format!("{name}\n"));
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_run_that_was_killed_between_two_attempts_goes_on_with_the_second() {
    let scene = Scene::new();
    let yaml = r#"
version: 1
tasks:
  a:
    retry: { backoff: 1h }
    run: |
      echo "$AGENT_ATTEMPT" > work.txt
      test "$AGENT_ATTEMPT" = 2
"#;
    let run = killed_at(&scene, yaml, "again in 1h");
    let resumed = scene.agent_run(&["resume", &run]);
    assert_eq!(resumed.code, Some(0), "{resumed}");
    assert!(resumed.stderr.contains("TRY 2 PASS"), "{resumed}");
    let result = scene.result();
    let a = task(&result, "a");
    assert_eq!(a["attempt"], 2, "{a:#}");
    assert_eq!(a["earlier_attempts"][0]["outcome"]["exit_code"], 1, "{a:#}");
    let work = format!("agent/{run}/a:work.txt");
    assert_eq!(scene.git(&["show", &work]), "2\n");
    let first = format!("refs/agent-run/attempts/{run}/a/1/0:work.txt");
    assert_eq!(scene.git(&["show", &first]), "1\n");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_run_that_was_killed_between_two_attempts_and_cleaned_has_the_first_as_its_result() {
    let scene = Scene::new();
    let yaml =
        "version: 1\ntasks:\n  a:\n    retry: { backoff: 1h }\n    run: echo a > a.txt; exit 3\n";
    let run = killed_at(&scene, yaml, "again in 1h");
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    let result = scene.result();
    let a = task(&result, "a");
    assert_eq!(a["outcome"]["exit_code"], 3, "{a:#}");
    assert_eq!(a["branch"]["result"], "created", "{a:#}");
    assert_eq!(scene.git(&["show", &format!("agent/{run}/a:a.txt")]), "a\n");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_view_of_a_run_that_was_killed_is_gone_on_with() {
    let scene = Scene::new();
    let yaml = r"
version: 1
tasks:
  a:
    workspace: overlay
    run: |
      echo half > half.txt
      echo ready
      until [ -e /home/agent/go ]; do sleep 0.1; done
      echo whole > whole.txt
";
    let run = killed_at(&scene, yaml, "| ready");
    let (mut child, mut lines) = start(&scene, &["resume", &run]);
    expect(&mut lines, "| ready");
    let home = scene.state().join("runs").join(&run).join("tasks/a/1/home");
    std::fs::write(home.join("go"), "").expect("a file");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{rest:?}");
    for (name, text) in [("half.txt", "half\n"), ("whole.txt", "whole\n")] {
        let file = format!("agent/{run}/a:{name}");
        assert_eq!(scene.git(&["show", &file]), text);
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}
