//! Looking at runs while they go on, after they were killed, and once they have ended; and going in.

use serde_json::Value;

use super::scene::{Ended, Scene};

/// Runs the command in the repository, as people do.
fn in_repo(scene: &Scene, arguments: &[&str]) -> Ended {
    let mut command = scene.command(arguments);
    command.current_dir(scene.repo());
    command.output().expect("agent-run").into()
}

/// The same, which must go well; gives what it printed.
#[track_caller]
fn good(scene: &Scene, arguments: &[&str]) -> String {
    let ended = in_repo(scene, arguments);
    assert_eq!(ended.code, Some(0), "{arguments:?}: {ended}");
    ended.stdout
}

#[track_caller]
fn json(scene: &Scene, arguments: &[&str]) -> Value {
    let text = good(scene, arguments);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[track_caller]
fn contains(text: &str, words: &[&str]) {
    for words in words {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
}

#[test]
fn a_finished_run_tells_what_became_of_each_task() {
    let scene = Scene::new();
    let (ended, result) = scene.run(
        r#"
version: 1
defaults: { mem_limit: 64m }
tasks:
  good:
    run: |
      printf 'a\n' > a.txt
      mkdir -p .github/workflows && echo 'on: push' > .github/workflows/ci.yml
      git add -A && git commit -qm "$(printf 'add \033[31mtwo\033[2J files')"
      git commit -q --allow-empty -m second
  bad: { run: 'echo half > half.txt; echo no idea >&2; exit 3' }
  idle: { run: 'true' }
"#,
    );
    assert_eq!(ended.code, Some(100), "{ended}");
    let run = result["run"].as_str().expect("a run");
    let shown = good(&scene, &["show", "good"]);
    contains(
        &shown,
        &[
            "        PASS good of run",
            "2 commits, 2 files",
            " second\n",
        ],
    );
    contains(
        &shown,
        &[" a.txt  +1 −0\n", "     look at .github/workflows/ci.yml: "],
    );
    contains(
        &shown,
        &[&format!("git merge agent/{run}/good\n"), "logs/good.1.log"],
    );
    assert!(shown.contains(" add two files\n"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let shown = good(&scene, &["show", "bad"]);
    contains(
        &shown,
        &[
            "        FAIL bad of run",
            "       cause exit code 3\n",
            "| no idea\n",
        ],
    );
    contains(&shown, &["the newest holds what was left uncommitted"]);
    assert!(!shown.contains("git merge"), "{shown}");
    contains(
        &good(&scene, &["show", "idle"]),
        &["        PASS idle", "no change"],
    );
    let shown = json(&scene, &["show", "good", "--run", run, "--format", "json"]);
    assert_eq!(shown["commits"][0]["subject"], "second", "{shown:#}");
    assert_eq!(
        shown["report"]["outcome"]["outcome"], "succeeded",
        "{shown:#}"
    );
    let listed = good(&scene, &["ps"]);
    contains(&listed, &[run, "finished", "3 tasks: 2 passed, 1 failed"]);
    contains(&listed, &["        FAIL bad: exit code 3"]);
    // Its branch may be gone since: what it was is still told.
    scene.git(&["branch", "-D", &format!("agent/{run}/good")]);
    contains(&good(&scene, &["show", "good"]), &["2 commits, 2 files"]);
    // A later run is the latest; the earlier one is told of in a line.
    scene.run("version: 1\ntasks:\n  other: { run: 'true' }\n");
    let listed = good(&scene, &["ps"]);
    contains(&listed, &["PASS other", "3 tasks: 2 passed, 1 failed"]);
    assert!(!listed.contains("FAIL bad"), "{listed}");
    contains(
        &good(&scene, &["ps", "--limit", "1"]),
        &["1 older run not shown: --limit 2\n"],
    );
    let unknown = in_repo(&scene, &["show", "good"]);
    assert_eq!(unknown.code, Some(2), "{unknown}");
    contains(&unknown.stderr, &["has no task `good`", "its tasks: other"]);
}

#[test]
fn a_config_is_a_spec() {
    let scene = Scene::new();
    let yaml = "version: 1\nrepo: repo\nx-a: &a { cpus: 1 }\ndefaults: { <<: *a, mem_limit: 64m }\n\
                tasks:\n  hello: { run: echo hi, image: '${IMAGE:-alpine}', env: [TOKEN] }\n  other: { run: 'true' }\n";
    let spec = scene.spec(yaml);
    let mut command = scene.command(&["config", spec.to_str().expect("a path"), "hello"]);
    let ended: Ended = command
        .env("TOKEN", "sesame")
        .output()
        .expect("agent-run")
        .into();
    assert_eq!(ended.code, Some(0), "{ended}");
    contains(
        &ended.stdout,
        &["image: alpine", "cpus: 1", "mem_limit: 64m", "${TOKEN}"],
    );
    contains(
        &ended.stdout,
        &[&format!("repo: {}", scene.repo().display())],
    );
    for gone in ["sesame", "other", "defaults", "x-a"] {
        assert!(!ended.stdout.contains(gone), "{gone}: {ended}");
    }
    let again = scene.path().join("again.yaml");
    std::fs::write(&again, &ended.stdout).expect("a spec");
    let mut command = scene.command(&["plan", "-f", again.to_str().expect("a path")]);
    let planned: Ended = command
        .env("TOKEN", "x")
        .output()
        .expect("agent-run")
        .into();
    contains(
        &planned.stdout,
        &["image     alpine, pulled where missing", "sets      TOKEN"],
    );
    let mut command = scene.command(&["config", again.to_str().expect("a path")]);
    let same: Ended = command
        .env("TOKEN", "x")
        .output()
        .expect("agent-run")
        .into();
    assert_eq!(same.stdout, ended.stdout);
    let wrong = scene.spec("version: 1\ntasks:\n  a: { runn: x }\n");
    let refused = scene.agent_run(&["config", wrong.to_str().expect("a path")]);
    assert_eq!(refused.code, Some(94), "{refused}");
}
