//! Specs that are wrong, as the command meets them: exit code 94, each problem with its position,
//! no engine asked, nothing created.

use std::fmt::Write as _;
use std::path::Path;

use super::scene::{Ended, Scene};

/// The command is killed after this much CPU time, in seconds; other load does not count.
const CPU_SECONDS: &str = "1";

/// Runs a spec where no engine is: had the command asked for one, its exit code would be 96.
fn refused(scene: &Scene, spec: &Path) -> Ended {
    let script = format!("ulimit -t {CPU_SECONDS} && exec \"$@\"");
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_agent-run"), "run"])
        .args(["--host", "unix:///nonexistent/engine.sock", "-f"])
        .arg(spec)
        .current_dir(scene.repo())
        .env("AGENT_RUN_STATE_DIR", scene.state())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env_remove("GITHUB_ACTIONS")
        .env_remove("GITLAB_CI");
    let ended: Ended = command.output().expect("sh").into();
    assert_eq!(ended.code, Some(94), "{}: {ended}", spec.display());
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.ends_with('\n'), "{ended}");
    assert!(!scene.state().exists(), "{ended}");
    let refs = scene.git(&["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/heads/main\n", "{ended}");
    ended
}

/// Runs these texts as specs and expects these words, positions among them.
fn refused_with(cases: &[(&str, &[&str])]) {
    let scene = Scene::new();
    let spec = scene.repo().join("spec.yaml");
    for (text, expected) in cases {
        std::fs::write(&spec, text).expect("a spec");
        let ended = refused(&scene, &spec);
        for words in *expected {
            assert!(ended.stderr.contains(words), "no {words:?} in {ended}");
        }
    }
}

/// A spec of one task with this line.
fn with(line: &str) -> String {
    format!("version: 1\ntasks:\n  a:\n    run: make\n    {line}\n")
}

#[test]
fn texts_that_are_no_spec() {
    let mut bomb = "version: 1\nx-a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let items = vec![format!("*a{}", n - 1); 9].join(", ");
        let _ = writeln!(bomb, "x-a{n}: &a{n} [{items}]");
    }
    refused_with(&[
        ("version: 1\ntasks: {a: {run: x}\n", &["spec.yaml:2:8"]),
        (
            "version: 1\ntasks:\n\ta:\n\t\trun: x\n",
            &["spec.yaml:3:2", "spaces, not tabs"],
        ),
        (&with("run: other"), &["spec.yaml:5:5", "`run`"]),
        (
            "version: 1\ntasks:\n  a:\n    run: [make]\n    timout: 3m\n",
            &[
                "spec.yaml:4:10",
                "spec.yaml:5:5",
                "did you mean `timeout`?",
                "2 errors",
            ],
        ),
        (&bomb, &["spec.yaml:6:", "10000 values"]),
        ("", &["spec.yaml:1:1", "empty"]),
        (
            "version: 1\ntasks:\n  a: {run: x}\n---\nversion: 1\n",
            &["spec.yaml:4:1"],
        ),
    ]);
}

#[test]
fn files_that_are_no_spec() {
    let scene = Scene::new();
    let path = scene.path().join("spec.yaml");
    let large = std::fs::File::create(&path).expect("a file");
    large.set_len(50 << 20).expect("a size");
    let ended = refused(&scene, &path);
    assert!(ended.stderr.contains("1 MiB"), "{ended}");
    std::fs::remove_file(&path).expect("a removal");
    std::fs::create_dir(&path).expect("a directory");
    let ended = refused(&scene, &path);
    assert!(ended.stderr.contains("not a regular file"), "{ended}");
    let fifo = scene.path().join("fifo.yaml");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo").success());
    let ended = refused(&scene, &fifo);
    assert!(ended.stderr.contains("not a regular file"), "{ended}");
    let ended = refused(&scene, &scene.path().join("missing.yaml"));
    assert!(ended.stderr.contains("missing.yaml"), "{ended}");
}

#[test]
fn task_ids() {
    let long = "a".repeat(300);
    for id in ["../x", "a/b", "-rf", "x.lock", "a@{0}", &long] {
        let text = format!("version: 1\ntasks:\n  \"{id}\": {{ run: make }}\n");
        refused_with(&[(&text, &["spec.yaml:3:3", "task id"])]);
    }
}

#[test]
fn limits() {
    for line in [
        "mem_limit: -1",
        "mem_limit: 0",
        "mem_limit: 1e30",
        "mem_limit: 99999999999g",
        "mem_limit: 4m",
    ] {
        refused_with(&[(&with(line), &["spec.yaml:5:16", "mem_limit"])]);
    }
    for line in ["timeout: 30", "timeout: 0"] {
        refused_with(&[(&with(line), &["spec.yaml:5:14", "timeout", "write "])]);
    }
}
