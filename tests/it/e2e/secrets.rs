//! Secrets that programs of the host print, that change between attempts, and what is told of them.

use super::scene::{Ended, Scene, task};

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
