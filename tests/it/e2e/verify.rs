//! `verify` and `feedback` in real containers: what a check has, what it cannot do, and what is told.

use serde_json::Value;

use super::scene::{Ended, Scene, docker, expect, start, task, until};

/// The example of `docs/spec.md`, as it stands there.
fn example() -> &'static str {
    let document = include_str!("../../../docs/spec.md");
    let (_, section) = document
        .split_once("\n## Verification\n")
        .expect("the section");
    let (_, block) = section.split_once("```yaml\n").expect("a block");
    block.split_once("```").expect("its end").0
}

fn branch(report: &Value) -> String {
    let name = report["branch"]["branch"].as_str();
    name.unwrap_or_else(|| panic!("no branch: {report:#}"))
        .to_owned()
}

/// What a command said, without the times.
fn words(ended: &Ended) -> String {
    format!("{}{}", ended.stdout, ended.stderr)
}

#[test]
fn the_example_of_the_documentation_passes_at_its_second_attempt() {
    let scene = Scene::new();
    let (ended, result) = scene.run(example());
    assert_eq!(ended.code, Some(0), "{ended}");
    let greet = task(&result, "greet");
    assert_eq!(greet["attempt"], 2, "{greet:#}");
    let first = &greet["earlier_attempts"][0];
    assert_eq!(first["outcome"]["outcome"], "verify_failed", "{first:#}");
    assert_eq!(first["outcome"]["cause"]["exit_code"], 1, "{first:#}");
    assert_eq!(first["last_lines"], serde_json::json!(["it greets nobody"]));
    let branch = branch(greet);
    let range = format!("main..{branch}");
    let log = scene.git(&["log", "--reverse", "--format=%s", &range]);
    assert_eq!(log, "docs: greet, attempt 1\ndocs: greet, attempt 2\n");
    let said = words(&ended);
    for part in [
        "verification failed: exit code 1",
        "goes on from there",
        "TRY 1 FAIL",
        "TRY 2 PASS",
        "FLAKY",
        ", verified in ",
        "greet | 1:Hello, world",
    ] {
        assert!(said.contains(part), "{part}: {ended}");
    }
    let run = scene.runs().pop().expect("a run");
    let logs = scene.agent_run(&["logs", "greet", "--run", &run]);
    let told = "agent-run: the result of attempt 1 did not pass verify: exit code 1.\nIts output:\n\nit greets nobody\n";
    assert!(logs.stdout.starts_with(told), "{logs}");
    assert!(logs.stdout.ends_with("1:Hello, world\n"), "{logs}");
    let show = scene.agent_run(&["show", "greet", "--run", &run]);
    assert!(show.stdout.contains("verify"), "{show}");
    assert!(show.stdout.contains("greet.2.verify.log"), "{show}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

/// Whatever a check does, the branch is what the agent made; and it has what it is granted only.
#[test]
fn a_check_sees_the_result_and_nothing_of_the_agents_and_changes_nothing() {
    let scene = Scene::new();
    scene.write(".gitignore", "ignored\n");
    scene.commit("ignore");
    let (ended, result) = scene.run(
        r#"
version: 1
secrets:
  key: { environment: HOME }
  other: { environment: PATH }
defaults: { network_mode: none }
tasks:
  a:
    secrets: [key, other]
    environment: { LEVEL: high }
    run: |
      echo done > work; echo no > ignored; echo no > ~/from-before; sleep 1000 &
    verify:
      secrets: [key]
      run: |
        set -x
        test "$(git status --porcelain)" = ""
        test "$(cat work)" = done
        test ! -e ignored; test ! -e ~/from-before; test ! -e /agent/prompt.md
        test "$LEVEL" = high; test "$AGENT_TASK" = a
        test "$(ls /run/secrets)" = key
        test "$(git log --format=%s "$AGENT_BASE"..HEAD)" = "Uncommitted work of a"
        test "$(git symbolic-ref --short HEAD)" = "$AGENT_BRANCH"
        echo spoilt > readme.md; git checkout -q "$AGENT_BASE" -- readme.md
        test "$(cat readme.md)" = one
        if pgrep -f "sleep 1000"; then exit 5; fi
        echo spoilt > work; git commit -qam spoilt; git branch -f more
        git update-ref refs/agent-run/base HEAD; echo x >> .git/config || true
        (setsid sleep 1000 > /dev/null 2>&1 &)
"#,
    );
    assert_eq!(ended.code, Some(0), "{ended}");
    let a = task(&result, "a");
    let branch = branch(a);
    assert_eq!(scene.git(&["show", &format!("{branch}:work")]), "done\n");
    assert_eq!(a["branch"]["commits"], 1, "{a:#}");
    assert_eq!(a["verify"]["commit"], a["branch"]["commit"], "{a:#}");
    assert_eq!(scene.git(&["for-each-ref", "refs/agent-run"]), "");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn each_ending_of_a_check_is_told_and_its_branch_is_there() {
    let scene = Scene::new();
    let spec = scene.spec(
        r#"
version: 1
defaults: { network_mode: none, run: "echo > work" }
tasks:
  code: { verify: "echo it is not so; exit 3" }
  tool: { verify: no-such-tool-anywhere }
  late: { verify: { run: sleep 1000, timeout: 1s }, stop_grace_period: 1s }
  none: { run: "true", verify: "test ! -e work" }
  failed: { run: "echo > work; exit 4", verify: "true" }
"#,
    );
    let path = |name: &str| scene.path().join(name).to_str().expect("a path").to_owned();
    let ended = scene.agent_run(&[
        "run",
        spec.to_str().expect("a path"),
        "--junit",
        &path("junit.xml"),
        "--summary",
        &path("summary.md"),
    ]);
    assert_eq!(ended.code, Some(100), "{ended}");
    let result = scene.checked_result(&ended);
    for (id, cause) in [
        ("code", "failed"),
        ("tool", "failed"),
        ("late", "timed_out"),
    ] {
        let report = task(&result, id);
        assert_eq!(report["outcome"]["outcome"], "verify_failed", "{report:#}");
        assert_eq!(report["outcome"]["cause"]["outcome"], cause, "{report:#}");
        scene.git(&["rev-parse", &branch(report)]);
    }
    assert_eq!(task(&result, "none")["outcome"]["outcome"], "succeeded");
    assert_eq!(task(&result, "failed")["outcome"]["exit_code"], 4);
    assert_eq!(task(&result, "failed")["verify"], Value::Null);
    for part in [
        "code: verification failed: exit code 3\n",
        "tool: verification failed: exit code 127, a command that it needs is not in its image",
        "late: verification failed: ran past its time (verify.timeout: 1s)",
        "| it is not so",
        "code.1.verify.log",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {ended}");
    }
    let read = |name: &str| std::fs::read_to_string(path(name)).expect("a file");
    let (junit, markdown) = (read("junit.xml"), read("summary.md"));
    assert!(
        junit.contains("verification failed: exit code 3"),
        "{junit}"
    );
    assert!(junit.contains("code.1.verify.log"), "{junit}");
    assert!(
        markdown.contains("verification failed: exit code 3"),
        "{markdown}"
    );
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn a_check_may_have_an_image_of_its_own_and_it_is_pinned() {
    let scene = Scene::new();
    let base = format!("agent-run-base:{}", env!("CARGO_PKG_VERSION"));
    let tag = format!("agent-run-test-verify-{}:1", std::process::id());
    assert_eq!(docker(&["tag", &base, &tag]).code, Some(0));
    let yaml = format!(
        "version: 1\ntasks:\n  a: {{ run: 'echo > work', network_mode: none, verify: {{ run: test -e work, image: '{tag}' }} }}\n"
    );
    let (ended, result) = scene.run(&yaml);
    docker(&["rmi", &tag]);
    assert_eq!(ended.code, Some(0), "{ended}");
    let a = task(&result, "a");
    assert!(a["verify"]["image"].is_string(), "{a:#}");
    let run = scene.runs().pop().expect("a run");
    let plan = scene.state().join("runs").join(run).join("plan.json");
    let plan = std::fs::read_to_string(plan).expect("a plan");
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    let pinned = &plan["tasks"][0]["verify"]["image"]["pinned"];
    assert_eq!(*pinned, a["verify"]["image"], "{plan:#}");
}

/// Killed in a check, a run that is resumed checks the same commit again.
#[test]
fn a_run_that_was_killed_in_a_check_is_verified_again() {
    let scene = Scene::new();
    let spec = scene.spec(
        r"
version: 1
tasks:
  a:
    network_mode: none
    run: echo > work
    verify: |
      echo checking
      sleep 3
",
    );
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "checking");
    child.kill().expect("a signal");
    child.wait().expect("its end");
    let run = scene.runs().pop().expect("a run");
    let name = format!("agent-run-{run}-1-verify-a");
    let listed = docker(&["ps", "-aq", "--filter", &format!("name={name}")]);
    assert_ne!(listed.stdout, "", "the check is left behind");
    let ended = scene.agent_run(&["resume", &run]);
    assert_eq!(ended.code, Some(0), "{ended}");
    let result = scene.checked_result(&ended);
    let a = task(&result, "a");
    assert_eq!(a["verify"]["commit"], a["branch"]["commit"], "{a:#}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

/// Stopped in a check, a task is no success, and its branch is there.
#[test]
fn a_task_that_is_stopped_in_a_check_has_its_branch() {
    let scene = Scene::new();
    let spec = scene.spec(
        "version: 1\ntasks:\n  a: { network_mode: none, run: 'echo > work', verify: 'echo checking; sleep 1000' }\n",
    );
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    expect(&mut lines, "checking");
    let ps = scene.agent_run(&["ps"]);
    assert!(ps.stdout.contains("verifying a"), "{ps}");
    let run = scene.runs().pop().expect("a run");
    let stopped = scene.agent_run(&["stop", &run]);
    assert_eq!(stopped.code, Some(0), "{stopped}");
    until("the run has ended", || {
        child.try_wait().expect("a status").is_some()
    });
    let result = scene.result();
    let a = task(&result, "a");
    assert_eq!(a["outcome"]["outcome"], "cancelled", "{a:#}");
    scene.git(&["rev-parse", &branch(a)]);
    assert_eq!(scene.left(), Vec::<String>::new());
}
