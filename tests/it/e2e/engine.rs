//! Engines that are not there, are elsewhere, or cannot see our files.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::scene::Scene;
use crate::engine::server::{Reply, Server};

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
    std::fs::create_dir_all(scene.state()).expect("a directory");
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

#[test]
fn an_engine_that_is_too_old_is_named() {
    let scene = Scene::new();
    let spec = scene.spec(HELLO);
    let engine = Server::any_engine(|_| {
        Reply::Json(200, json!({"Version": "19.03.15", "ApiVersion": "1.40"}))
    });
    for command in ["run", "plan", "clean"] {
        let mut arguments = vec![command, "--host", engine.url()];
        if command != "clean" {
            arguments.push(spec.to_str().expect("a path"));
        }
        let ended = scene.agent_run(&arguments);
        assert_eq!(ended.code, Some(96), "{command}: {ended}");
        for words in ["1.40", "20.10 or newer"] {
            assert!(ended.stderr.contains(words), "no {words:?} in {ended}");
        }
    }
    assert!(scene.runs().is_empty());
}

#[test]
fn a_limit_that_the_engine_drops_makes_it_unusable() {
    let scene = Scene::new();
    let spec = scene.spec(&HELLO.replace("run:", "shm_size: 65m\n    run:"));
    let socket = scene.path().join("engine.sock");
    // As engines do on kernels that lack a limit: it is asked for, and is not there afterwards.
    falsify(&socket, br#""ShmSize":68157440"#, br#""ShmSize":67108864"#);
    let host = format!("unix://{}", socket.display());
    let ended = scene.agent_run(&["run", "--host", &host, spec.to_str().expect("a path")]);
    assert_eq!(ended.code, Some(96), "{ended}");
    assert!(
        ended.stderr.contains("does not honour `shm_size`") && ended.stderr.contains("hint:"),
        "{ended}"
    );
    assert_eq!(scene.git(&["branch", "--list", "agent/*"]), "");
    assert_eq!(scene.left(), Vec::<String>::new());
}

/// Puts a socket before the engine of this machine that changes what it answers.
pub fn falsify(socket: &Path, truth: &'static [u8], lie: &'static [u8]) {
    assert_eq!(truth.len(), lie.len(), "lengths are part of the answer");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let endpoint = runtime.block_on(async {
        use agent_run::engine::Engine as _;
        let info = crate::docker::engine().await.info().await;
        info.expect("the engine's information").endpoint
    });
    let engine = PathBuf::from(endpoint.strip_prefix("unix://").expect("a unix socket"));
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("a client");
            let engine = UnixStream::connect(&engine).expect("the engine");
            let (from, to) = (clone(&client), clone(&engine));
            std::thread::spawn(move || pass(from, to, b"", b""));
            std::thread::spawn(move || pass(engine, client, truth, lie));
        }
    });
}

fn clone(stream: &UnixStream) -> UnixStream {
    stream.try_clone().expect("a socket")
}

/// Passes bytes on until they end, and puts `lie` where `truth` is, also across two reads.
fn pass(mut from: UnixStream, mut to: UnixStream, truth: &[u8], lie: &[u8]) {
    let (mut held, mut buffer) = (Vec::new(), [0; 8192]);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        held.extend_from_slice(&buffer[..read]);
        let mut at = 0;
        while !truth.is_empty() && at + truth.len() <= held.len() {
            if held[at..].starts_with(truth) {
                held[at..at + truth.len()].copy_from_slice(lie);
            }
            at += 1;
        }
        let begun = (0..truth.len().min(held.len() + 1)).rev();
        let begun = begun.into_iter().find(|&n| held.ends_with(&truth[..n]));
        let kept = held.split_off(held.len() - begun.unwrap_or(0));
        // Whoever went away wants no more.
        if to.write_all(&held).is_err() {
            return;
        }
        held = kept;
    }
    drop(to.write_all(&held));
    drop(to.shutdown(Shutdown::Write));
}
