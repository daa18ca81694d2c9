//! The command in a container that has the host's engine, by its socket.

use std::path::Path;

use super::scene::{Ended, Scene, docker, until};
use crate::docker::BASE_IMAGE;

const SPEC: &str = "version: 1\nrepo: /src\ntasks:\n  hello:\n    run: echo hello > hello.txt\n";

/// Runs agent-run in a container that sees these as volumes, in the words of `docker run`.
fn in_container(scene: &Scene, volumes: &[String], arguments: &[&str]) -> Ended {
    scene.spec(SPEC);
    let own = [
        "/var/run/docker.sock:/var/run/docker.sock".to_owned(),
        format!(
            "{}:/usr/local/bin/agent-run:ro",
            env!("CARGO_BIN_EXE_agent-run")
        ),
        format!("{}:/src", scene.repo().display()),
        format!("{}:/spec.yaml:ro", scene.path().join("spec.yaml").display()),
    ];
    let volumes = own.iter().chain(volumes).flat_map(|volume| ["-v", volume]);
    let mut words = vec![
        "run",
        "--rm",
        "--init",
        "--user=0:0",
        "--entrypoint=agent-run",
    ];
    words.extend(["-e", "HOME=/root", "--tmpfs=/memory"]);
    words.extend(volumes);
    words.push(BASE_IMAGE);
    words.extend(arguments);
    docker(&words)
}

/// Expects that the task ran, and that its work is in the repository.
#[track_caller]
fn ran(scene: &Scene, ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{ended}");
    let branches = scene.git(&["branch", "--list", "--format=%(refname:short)", "agent/*"]);
    let text = scene.git(&["show", &format!("{}:hello.txt", branches.trim())]);
    assert_eq!(text, "hello\n", "{ended}");
    scene.git(&["branch", "-D", branches.trim()]);
}

fn volume(outside: &Path, inside: &str) -> String {
    format!("{}:{inside}", outside.display())
}

#[test]
fn directories_are_found_on_the_host_by_the_innermost_mount() {
    let scene = Scene::new();
    let (outer, inner) = (scene.path().join("outer"), scene.path().join("inner"));
    for directory in [&outer, &inner] {
        std::fs::create_dir(directory).expect("a directory");
    }
    let volumes = [volume(&outer, "/data"), volume(&inner, "/data/deep er")];
    for state in ["/data/of/ours", "/data/deep er/state"] {
        let ended = in_container(&scene, &volumes, &["/spec.yaml", "--state-dir", state]);
        ran(&scene, &ended);
    }
    assert!(outer.join("of/ours/runs").is_dir());
    assert!(inner.join("state/runs").is_dir());
}

#[test]
fn a_volume_of_the_engines_own_holds_the_state_directory() {
    let scene = Scene::new();
    let name = format!("agent-run-test-{}", std::process::id());
    let ended = in_container(
        &scene,
        &[format!("{name}:/state")],
        &["/spec.yaml", "--state-dir", "/state/here"],
    );
    until("the volume is gone", || {
        docker(&["volume", "rm", "-f", &name]).code == Some(0)
    });
    ran(&scene, &ended);
}

#[test]
fn a_state_directory_that_the_host_does_not_have_is_refused_with_what_helps() {
    let scene = Scene::new();
    let shared = scene.path().join("shared");
    std::fs::create_dir(&shared).expect("a directory");
    let volumes = [volume(&shared, "/cache")];
    let state = "/root/.local/state/agent-run";
    for (arguments, state) in [
        (&["/spec.yaml"][..], state),
        (&["plan", "/spec.yaml"], state),
        (&["/spec.yaml", "--state-dir=/memory/x"], "/memory/x"),
    ] {
        let ended = in_container(&scene, &volumes, arguments);
        assert_eq!(ended.code, Some(96), "{ended}");
        let what = format!("the state directory {state} lies in this container's own file system");
        assert!(ended.stderr.contains(&what), "{ended}");
        let hint = format!("start this container with -v {state}:{state}");
        assert!(ended.stderr.contains(&hint), "{ended}");
        assert!(
            ended.stderr.contains("(mounted here: /cache, /src)"),
            "{ended}"
        );
    }
    let made = scene.path().join("state");
    let fixed = [volume(&made, state)];
    ran(&scene, &in_container(&scene, &fixed, &["/spec.yaml"]));
}
