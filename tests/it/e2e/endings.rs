//! How tasks end, badly above all: the right outcome, the work kept, siblings untouched, nothing left.

use std::time::Instant;

use serde_json::Value;

use super::scene::{Scene, task};

const BAD_ENDINGS: &str = r#"
version: 1
max_parallel: 4
defaults:
  mem_limit: 256m
  stop_grace_period: 1s
  network_mode: none
  timeout: 60s
tasks:
  sibling:
    run: echo fine > sibling.txt
  exit-3:
    run: echo work > work.txt; exit 3
  leaves-its-branch:
    run: |
      git checkout -q -b feature/x
      echo work > work.txt; git add .; git commit -qm work
  detached:
    run: |
      git checkout -q --detach
      echo work > work.txt; git add .; git commit -qm work
  mid-rebase:
    run: |
      echo mine > readme.md; git commit -qam mine
      git checkout -q -b other HEAD~1
      echo theirs > readme.md; git commit -qam theirs
      git rebase main-of-agent 2>/dev/null || git rebase - || true
      git status | head -1
  nested-repository:
    run: |
      echo work > work.txt
      git init -q app; cd app; echo inner > inner.txt; git add .
      git commit -qm inner
  ignores-term:
    timeout: 2s
    run: |
      trap '' TERM
      echo work > work.txt
      while :; do sleep 1; done
  setsid-children:
    run: |
      echo work > work.txt
      setsid sh -c 'trap "" TERM; while :; do sleep 1; done' &
      exit 0
  kills-the-wrapper:
    run: |
      echo work > work.txt
      kill -9 -1
  memory-of-main:
    command: [python3, -c, "open('work.txt','w').write('work'); x = bytearray(2 << 30)"]
  memory-of-child:
    run: |
      echo work > work.txt
      python3 -c "x = bytearray(2 << 30)" || true
      echo survived
  deletes-git:
    run: |
      echo work > work.txt
      rm -rf .git || true
  wipes-git:
    run: |
      echo work > work.txt
      rm -rf /agent/git/* || true
  runs-past-its-time:
    timeout: 2s
    run: echo work > work.txt; sleep 600
  own-signal:
    run: |
      echo work > work.txt
      kill -SEGV $$
"#;

#[test]
fn every_bad_ending_has_its_outcome_and_keeps_its_work() {
    let scene = Scene::new();
    let (ended, result) = scene.run(BAD_ENDINGS);
    assert_eq!(ended.code, Some(100), "{ended}");
    let outcomes = [
        ("sibling", "succeeded"),
        ("exit-3", "failed"),
        ("leaves-its-branch", "succeeded"),
        ("detached", "succeeded"),
        ("mid-rebase", "succeeded"),
        ("nested-repository", "succeeded"),
        ("ignores-term", "timed_out"),
        ("setsid-children", "succeeded"),
        ("kills-the-wrapper", "killed"),
        ("memory-of-main", "out_of_memory"),
        ("memory-of-child", "succeeded"),
        ("deletes-git", "succeeded"),
        ("wipes-git", "succeeded"),
        ("runs-past-its-time", "timed_out"),
        ("own-signal", "killed"),
    ];
    let run = result["run"].as_str().expect("a run");
    for (id, outcome) in outcomes {
        let report = task(&result, id);
        assert_eq!(
            report["outcome"]["outcome"], outcome,
            "{id}: {report:#}\n{ended}"
        );
        assert_eq!(
            report["branch"]["result"], "created",
            "{id}: {report:#}\n{ended}"
        );
        let file = match id {
            "sibling" => "sibling.txt",
            "mid-rebase" => "readme.md",
            _ => "work.txt",
        };
        scene.git(&["show", &format!("agent/{run}/{id}:{file}")]);
    }
    assert_eq!(task(&result, "exit-3")["outcome"]["exit_code"], 3);
    assert_eq!(task(&result, "kills-the-wrapper")["outcome"]["signal"], 9);
    assert_eq!(task(&result, "own-signal")["outcome"]["signal"], 11);
    assert_eq!(task(&result, "memory-of-child")["child_oom_killed"], true);
    let rebased = format!("agent/{run}/mid-rebase:readme.md");
    assert_eq!(scene.git(&["show", &rebased]), "theirs\n");
    half_done_work_is_a_second_ref(&scene, task(&result, "mid-rebase"));
    let nested = task(&result, "nested-repository")["branch"].to_string();
    assert!(nested.contains("app"), "{nested}");
    // What no branch can hold is kept, and nothing else.
    let mut left = scene.left();
    left.sort();
    let names: Vec<_> = left
        .iter()
        .filter_map(|path| path.rsplit('/').next())
        .collect();
    assert_eq!(names, ["nested-repository", "wipes-git"], "{ended}");
    let inner = format!("{}/1/worktree/app/inner.txt", left[0]);
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert!(cleaned.stdout.contains("kept"), "{cleaned}");
    assert_eq!(
        std::fs::read_to_string(inner).expect("the nested file"),
        "inner\n"
    );
    scene.git(&["fsck", "--strict"]);
}

fn half_done_work_is_a_second_ref(scene: &Scene, report: &Value) {
    let refs = report["branch"]["side_refs"].as_array().expect("side refs");
    let name = refs[0][0].as_str().expect("a ref");
    assert!(name.starts_with("refs/agent-run/attempts/"), "{report:#}");
    scene.git(&["rev-parse", "--verify", name]);
}

#[test]
fn an_image_without_a_shell_or_git_is_collected_all_the_same() {
    let scene = Scene::new();
    let context = scene.path().join("image");
    std::fs::create_dir(&context).expect("a directory");
    // A static program is all that a scratch image holds; busybox of the base's distribution is one.
    std::fs::write(
        context.join("Dockerfile"),
        concat!(
            "FROM agent-run-base:",
            env!("CARGO_PKG_VERSION"),
            " AS tools\nUSER root\n",
            "RUN apt-get update && apt-get install -y --no-install-recommends busybox-static\n",
            "FROM scratch\nCOPY --from=tools /bin/busybox /touch\n"
        ),
    )
    .expect("a Dockerfile");
    std::fs::write(
        context.join("NoGit"),
        concat!(
            "FROM agent-run-base:",
            env!("CARGO_PKG_VERSION"),
            "\nUSER root\nRUN rm /usr/bin/git\n"
        ),
    )
    .expect("a Dockerfile");
    let (ended, result) = scene.run(
        r"
version: 1
tasks:
  no-shell:
    build: { context: image }
    command: [/touch, work.txt]
  no-shell-run:
    build: { context: image }
    run: echo never
  no-shell-egress:
    build: { context: image }
    command: [/touch, work.txt]
    egress: { allow: [] }
  no-git:
    build: { context: image, dockerfile: NoGit }
    run: echo work > work.txt
  missing:
    image: no-such-image-anywhere:1
    pull_policy: never
    run: echo never
  sibling:
    run: echo fine > work.txt
",
    );
    assert_eq!(ended.code, Some(100), "{ended}");
    let run = result["run"].as_str().expect("a run");
    for id in ["no-shell", "no-git", "sibling"] {
        let report = task(&result, id);
        assert_eq!(
            report["outcome"]["outcome"], "succeeded",
            "{report:#}\n{ended}"
        );
        scene.git(&["show", &format!("agent/{run}/{id}:work.txt")]);
    }
    for (id, stage, words) in [
        ("no-shell-run", "command", "has no /bin/sh"),
        ("no-shell-egress", "command", "which `egress` needs"),
        ("missing", "image", "no-such-image-anywhere"),
    ] {
        let outcome = &task(&result, id)["outcome"];
        assert_eq!(outcome["outcome"], "infra", "{outcome:#}");
        assert_eq!(outcome["stage"], stage, "{outcome:#}");
        assert!(
            outcome["message"]
                .as_str()
                .expect("a message")
                .contains(words),
            "{outcome:#}"
        );
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn sleeping_tasks_sleep_at_the_same_time() {
    let scene = Scene::new();
    let tasks: String = (0..3)
        .map(|n| format!("  t{n}: {{ mem_limit: 64m, run: sleep 8 }}\n"))
        .collect();
    let began = Instant::now();
    let (ended, _) = scene.run(&format!("version: 1\nmax_parallel: 3\ntasks:\n{tasks}"));
    assert_eq!(ended.code, Some(0), "{ended}");
    // One after another they would take 24 s; how much less than that is for `make bench` to say.
    assert!(began.elapsed().as_secs() < 24, "{ended}");
}
