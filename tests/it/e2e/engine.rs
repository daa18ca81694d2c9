//! Engines that are not there, are elsewhere, or cannot see our files.

use super::scene::Scene;

const HELLO: &str = "version: 1\ntasks:\n  hello:\n    run: echo hello > hello.txt\n";

#[test]
fn no_engine_names_what_was_tried() {
    let scene = Scene::new();
    let spec = scene.spec(HELLO);
    let host = "unix:///nonexistent/docker.sock";
    let ended = scene.agent_run(&["run", spec.to_str().expect("a path"), "--host", host]);
    assert_eq!(ended.code, Some(96), "{ended}");
    assert!(
        ended.stderr.contains(host) && ended.stderr.contains("hint:"),
        "{ended}"
    );
    assert!(scene.runs().is_empty());
}

#[test]
fn bind_mounts_that_do_not_arrive_are_found_before_any_task_runs() {
    let scene = Scene::new();
    let spec = scene.spec(HELLO);
    std::fs::create_dir(scene.state()).expect("a directory");
    // In a mount namespace of its own agent-run writes to a file system that the engine cannot see.
    let script = "mount -t tmpfs none \"$1\" && exec \"$2\" run \"$3\"";
    let state = scene.state();
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&state)
        .arg(env!("CARGO_BIN_EXE_agent-run"))
        .arg(&spec)
        .current_dir(scene.path())
        .env("AGENT_RUN_STATE_DIR", &state)
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    let ended: super::scene::Ended = command.output().expect("unshare").into();
    assert_eq!(ended.code, Some(96), "this test must run as root: {ended}");
    assert!(ended.stderr.contains("bind mount"), "{ended}");
    assert_eq!(scene.git(&["for-each-ref", "refs/agent-run"]), "");
    assert_eq!(scene.git(&["branch", "--list", "agent/*"]), "");
}
