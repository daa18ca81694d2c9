//! What dead runs leave behind is collected and removed, and nothing else is.

use serde_json::json;

use super::scene::{Scene, docker, expect, interrupt, start, task, until};
use crate::engine::server::{Reply, Server};

#[test]
fn two_interrupts_kill_and_clean_collects_the_work() {
    let scene = Scene::new();
    let yaml = r"
version: 1
defaults: { stop_grace_period: 5m }
tasks:
  stubborn:
    run: |
      trap '' TERM
      echo half > half.txt
      echo ready
      while :; do sleep 1; done
";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    interrupt(&child);
    expect(&mut lines, "Stopping");
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
    let result = scene.result();
    assert_eq!(task(&result, "stubborn")["branch"]["result"], "kept");
    let run = result["run"].as_str().expect("a run");
    let containers = docker(&[
        "ps",
        "-aq",
        "--filter",
        &format!("label=agent-run.run={run}"),
    ]);
    assert_eq!(containers.stdout, "");
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert_eq!(
        scene.git(&["show", &format!("agent/{run}/stubborn:half.txt")]),
        "half\n",
        "{cleaned}"
    );
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
}

#[test]
fn runs_of_a_newer_version_are_left_alone_and_others_cleaned() {
    let scene = Scene::new();
    let place = |run: &str| scene.state().join("runs").join(run);
    for (run, name, text) in [
        (
            "260101-000000-aaaa",
            "plan.json",
            r#"{"version": 2, "all": "new"}"#,
        ),
        ("260101-000001-aaaa", "result.json", r#"{"version": 2}"#),
        // Cut off while it was written: nothing says of which version it was to be.
        (
            "260101-000002-aaaa",
            "plan.json",
            r#"{"version": 1, "run": "2601"#,
        ),
    ] {
        std::fs::create_dir_all(place(run).join("tasks/t/1")).expect("a directory");
        std::fs::write(place(run).join("tasks/t/1/work"), "work").expect("a file");
        std::fs::write(place(run).join(name), text).expect("a file");
    }
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(1), "{cleaned}");
    for words in [
        "260101-000000-aaaa  warning: left alone: ",
        "plan.json is of version 2",
        "260101-000001-aaaa  warning: left alone: ",
        "result.json is of version 2",
        "260101-000002-aaaa  warning: work of 260101-000002-aaaa is kept: its plan cannot be read",
    ] {
        assert!(cleaned.stdout.contains(words), "{words}: {cleaned}");
    }
    assert!(!cleaned.stdout.contains("nothing to clean"), "{cleaned}");
    assert_eq!(scene.left().len(), 3, "{cleaned}");
    let named = scene.agent_run(&["clean", "--run", "260101-000000-aaaa"]);
    assert_eq!(named.code, Some(96), "{named}");
    assert!(named.stderr.contains("is of version 2"), "{named}");
    assert!(
        named.stderr.contains("use the agent-run that wrote it"),
        "{named}"
    );
}

#[test]
fn clean_after_kill_9_collects_and_removes_and_spares_live_runs() {
    let scene = Scene::new();
    let yaml = r"
version: 1
tasks:
  orphan:
    run: |
      echo half > half.txt
      echo ready
      sleep 600
";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    let run = scene.runs()[0].clone();
    let spared = scene.agent_run(&["clean"]);
    assert_eq!(spared.code, Some(0), "{spared}");
    let refused = scene.agent_run(&["clean", "--run", &run]);
    assert_eq!(refused.code, Some(96), "{refused}");
    let filter = format!("label=agent-run.run={run}");
    let running = docker(&["ps", "-q", "--filter", &filter]);
    assert_eq!(running.stdout.lines().count(), 1, "{running}");
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let shown = scene.agent_run(&["clean", "--dry-run"]);
    assert!(shown.stdout.contains(&run), "{shown}");
    assert!(!scene.left().is_empty());
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert_eq!(
        scene.git(&["show", &format!("agent/{run}/orphan:half.txt")]),
        "half\n"
    );
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
    let again = scene.agent_run(&["clean"]);
    assert_eq!(again.code, Some(0), "{again}");
    // What else there is on the engine is of other runs.
    assert!(!again.stdout.contains(&run), "{again}");
    let result = scene.result();
    assert_eq!(result["stopped"], "interrupted", "{result}");
    assert_eq!(task(&result, "orphan")["outcome"]["outcome"], "cancelled");
    assert_eq!(task(&result, "orphan")["branch"]["result"], "created");
}

#[test]
fn clean_collects_also_where_a_collector_was_left_running() {
    let scene = Scene::new();
    let yaml = r#"
version: 1
tasks:
  orphan:
    run: |
      echo half > half.txt
      git config filter.slow.clean 'sleep 5; cat'
      echo 'half.txt filter=slow' > .gitattributes
      kill -9 "$PPID"
      sleep 600
"#;
    let spec = scene.spec(yaml);
    let (mut child, _lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    let collectors = || {
        let runs = scene.runs();
        let filter = format!("label=agent-run.run={}", runs.first().map_or("", |r| r));
        let role = "label=agent-run.role=collector";
        docker(&["ps", "-q", "--filter", &filter, "--filter", role]).stdout
    };
    until("a collector runs", || !collectors().is_empty());
    child.kill().expect("a kill");
    child.wait().expect("an end");
    assert!(!collectors().is_empty(), "the collector ended too soon");
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    let run = scene.runs()[0].clone();
    assert_eq!(
        scene.git(&["show", &format!("agent/{run}/orphan:half.txt")]),
        "half\n",
        "{cleaned}"
    );
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
}

#[test]
fn clean_removes_a_worktree_that_was_never_finished() {
    let scene = Scene::new();
    let (ended, result) = scene.run("version: 1\ntasks:\n  a: { run: echo a > a.txt }\n");
    assert_eq!(ended.code, Some(0), "{ended}");
    let run = result["run"].as_str().expect("a run");
    let attempt = scene.state().join("runs").join(run).join("tasks/a/1");
    std::fs::create_dir_all(attempt.join("worktree/src")).expect("directories");
    let pin = format!("refs/agent-run/base/{run}");
    scene.git(&["update-ref", &pin, "main"]);
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert!(cleaned.stdout.contains("removed worktree"), "{cleaned}");
    assert_eq!(scene.left(), Vec::<String>::new(), "{cleaned}");
}

#[test]
fn clean_tells_of_runs_that_it_does_not_know_and_leaves_them_alone() {
    let scene = Scene::new();
    let yaml =
        "version: 1\ntasks:\n  long: { run: 'echo ready; sleep 600', stop_grace_period: 1s }\n";
    let spec = scene.spec(yaml);
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "| ready");
    let elsewhere = scene.path().join("elsewhere");
    let cleaned = scene.agent_run(&["clean", "--state-dir", elsewhere.to_str().expect("a path")]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert!(cleaned.stdout.contains("left alone: "), "{cleaned}");
    let filter = format!("label=agent-run.run={}", scene.runs()[0]);
    let running = docker(&["ps", "-q", "--filter", &filter]);
    assert_eq!(running.stdout.lines().count(), 1, "{running}");
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
}

/// Nobody can remove it before the engine is restarted, so that it is no failure of `clean`.
#[test]
fn a_network_that_the_engine_keeps_for_nobody_is_told_of() {
    let scene = Scene::new();
    let name = "agent-run-net-10.213.0.0-20";
    let engine = Server::engine(move |request| match request.what.as_str() {
        "GET /info" => Reply::Json(200, json!({"NCPU": 2, "MemTotal": 1 << 30})),
        "GET /containers/json" | "GET /images/json" => Reply::Json(200, json!([])),
        "GET /volumes" => Reply::Json(200, json!({"Volumes": []})),
        "GET /networks" => {
            let labels = json!({"agent-run.schema": "1"});
            Reply::Json(200, json!([{"Name": name, "Labels": labels}]))
        }
        "DELETE /networks/agent-run-net-10.213.0.0-20" => {
            let words = format!("network {name} id 0123 has active endpoints");
            Reply::Json(403, json!({"message": words}))
        }
        other => panic!("{other}"),
    });
    let cleaned = scene.agent_run(&["clean", "--host", engine.url()]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    let told = format!("warning: removing network {name} failed: the engine keeps it");
    assert!(cleaned.stdout.contains(&told), "{cleaned}");
    assert!(!cleaned.stdout.contains("nothing to clean"), "{cleaned}");
}

#[test]
fn directories_of_runs_and_their_refs_go_only_when_that_is_asked_for() {
    let scene = Scene::new();
    let (ended, result) = scene.run("version: 1\ntasks:\n  a: { run: echo a > a.txt }\n");
    assert_eq!(ended.code, Some(0), "{ended}");
    let run = result["run"].as_str().expect("a run");
    let kept = format!("refs/agent-run/attempts/{run}/a/1/1");
    let other = "refs/agent-run/attempts/260101-000000-aaaa/a/1/1";
    for name in [&kept, other] {
        scene.git(&["update-ref", name, "main"]);
    }
    let refs = || scene.git(&["for-each-ref", "--format=%(refname)", "refs/agent-run"]);
    for arguments in [&["clean"][..], &["clean", "--older-than", "1h"]] {
        let cleaned = scene.agent_run(arguments);
        assert_eq!(cleaned.code, Some(0), "{cleaned}");
        // What else there is on the engine is of other runs.
        assert!(!cleaned.stdout.contains(run), "{cleaned}");
        assert_eq!(scene.runs(), [run]);
    }
    let shown = scene.agent_run(&["clean", "--all", "--dry-run"]);
    assert!(
        shown.stdout.contains("would remove its directory"),
        "{shown}"
    );
    assert!(shown.stdout.contains(&kept), "{shown}");
    assert_eq!(refs().lines().count(), 2, "{shown}");
    let cleaned = scene.agent_run(&["clean", "--all"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert_eq!(scene.runs(), Vec::<String>::new(), "{cleaned}");
    assert_eq!(refs().trim(), other, "{cleaned}");
    let branch = format!("agent/{run}/a:a.txt");
    assert_eq!(scene.git(&["show", &branch]), "a\n");
}

#[test]
fn merged_branches_of_runs_go_and_no_others() {
    let scene = Scene::new();
    let yaml = "version: 1\ntasks:\n  merged: { run: echo a > a.txt }\n  open: { run: echo b > b.txt }\n  used: { run: echo c > c.txt }\n";
    let (ended, result) = scene.run(yaml);
    assert_eq!(ended.code, Some(0), "{ended}");
    let run = result["run"].as_str().expect("a run");
    let branch = |task: &str| format!("agent/{run}/{task}");
    for task in ["merged", "used"] {
        scene.git(&["merge", "-q", "--no-edit", &branch(task)]);
    }
    scene.git(&["branch", "own", &branch("merged")]);
    scene.git(&["worktree", "add", "-q", "../used", &branch("used")]);
    let alone = scene.agent_run(&["clean", "--branches"]);
    assert_eq!(alone.code, Some(2), "{alone}");
    let shown = scene.agent_run(&["clean", "-n", "--branches", "--merged"]);
    assert!(
        shown
            .stdout
            .contains(&format!("would remove branch {}", branch("merged"))),
        "{shown}"
    );
    let cleaned = scene.agent_run(&["clean", "--branches", "--merged"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    let left = scene.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
    let left: Vec<&str> = left.lines().collect();
    assert_eq!(left, [&branch("open"), &branch("used"), "main", "own"]);
    scene.git(&["worktree", "remove", "../used"]);
}
