//! `doctor`: what it finds on this machine, on engines that are not as they should be, and that it
//! leaves nothing behind.

use serde_json::{Value, json};

use super::engine::falsify;
use super::scene::{Ended, Scene, docker, interrupt, start, until};
use crate::engine::server::{Reply, Server};

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"))
}

fn finding<'a>(report: &'a Value, check: &str) -> &'a Value {
    let findings = report["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("no {check} in {report:#}"))
}

/// The containers that a process made, by the owner label.
fn containers_of(process: u32) -> Vec<String> {
    let format = "{{.Label \"agent-run.owner\"}} {{.Names}}";
    let listed = docker(&["ps", "-a", "--format", format]);
    assert_eq!(listed.code, Some(0), "{listed}");
    let owned = |line: &&str| line.contains(&format!(":{process}:"));
    listed
        .stdout
        .lines()
        .filter(owned)
        .map(str::to_owned)
        .collect()
}

#[test]
fn this_machine_is_examined_and_left_as_it_was() {
    let scene = Scene::new();
    let child = scene
        .command(&["doctor", "--format", "json", "-C", "repo"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("agent-run");
    let process = child.id();
    let ended: Ended = child.wait_with_output().expect("an end").into();
    assert_eq!(ended.code, Some(0), "{ended}");
    let report = json(&ended);
    assert_eq!(
        (&report["version"], &report["usable"]),
        (&json!(1), &json!(true))
    );
    for check in [
        "git",
        "repository",
        "state directory",
        "engine",
        "base image",
        "bind mounts",
        "limits",
        "isolation",
    ] {
        let found = finding(&report, check);
        assert_eq!(found["verdict"], "ok", "{found:#}");
    }
    for check in [
        "engine's data",
        "network pool",
        "internet",
        "metadata",
        "host",
        "registry log-ins",
        "runc",
    ] {
        let found = finding(&report, check);
        let calm = ["ok", "warn", "skip"].map(|word| found["verdict"] == word);
        assert!(calm.contains(&true), "{found:#}");
        assert!(
            found["verdict"] != "warn" || found["fix"].is_string(),
            "{found:#}"
        );
    }
    assert_eq!(containers_of(process), [] as [&str; 0]);
    assert_eq!(scene.runs(), [] as [&str; 0]);
}

#[test]
fn what_a_task_reaches_of_the_host_is_what_the_network_allows() {
    let scene = Scene::new();
    let spec = "version: 1\ntasks:\n  a:\n    run: |\n      python3 - <<'END'\n      import socket\n      \
        routes = [line.split() for line in open('/proc/net/route')][1:]\n      \
        gateway = next(r[2] for r in routes if r[1] == '00000000')\n      \
        host = '.'.join(str(b) for b in reversed(bytes.fromhex(gateway)))\n      \
        socket.create_connection((host, PORT), 5)\n      END\n";
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (ended, result) = scene.run(&spec.replace("PORT", &port.to_string()));
    let reached = super::scene::task(&result, "a")["outcome"]["outcome"] == "succeeded";
    let report = json(&scene.agent_run(&["doctor", "--format", "json"]));
    let warned = finding(&report, "host")["verdict"] == "warn";
    assert_eq!(warned, reached, "{report:#}\n{ended}");
}

#[test]
fn no_engine_is_a_finding_beside_the_others() {
    let scene = Scene::new();
    let host = "unix:///nonexistent/docker.sock";
    let ended = scene.agent_run(&["doctor", "--host", host]);
    assert_eq!(ended.code, Some(96), "{ended}");
    for words in [
        "  ok  git",
        "fail  engine",
        host,
        "(from --host)",
        "fix: start Docker",
        "cannot run here: 1 problem",
    ] {
        assert!(ended.stdout.contains(words), "no {words:?} in {ended}");
    }
    // Outside of any repository, too: that is a warning, since a spec can name one.
    assert!(ended.stdout.contains("warn  repository"), "{ended}");
    let nowhere = scene
        .command(&["doctor", "--format", "json"])
        .env("HOME", scene.path())
        .env("DOCKER_HOST", host)
        .output()
        .expect("agent-run")
        .into();
    assert_eq!(json(&nowhere)["usable"], false, "{nowhere}");
}

#[test]
fn an_engine_that_is_too_old_or_gives_no_answer_is_named() {
    let scene = Scene::new();
    let old = Server::any_engine(|_| {
        Reply::Json(200, json!({"Version": "19.03.15", "ApiVersion": "1.40"}))
    });
    let ended = scene.agent_run(&["doctor", "--host", old.url()]);
    assert_eq!(ended.code, Some(96), "{ended}");
    assert!(
        ended.stdout.contains("1.40") && ended.stdout.contains("20.10 or newer"),
        "{ended}"
    );
    let hangs = Server::any_engine(|_| Reply::Hang);
    let ended = scene.agent_run(&["doctor", "--host", hangs.url()]);
    assert_eq!(ended.code, Some(96), "{ended}");
    assert!(ended.stdout.contains("no answer in time"), "{ended}");
}

#[test]
fn an_engine_that_says_its_version_and_nothing_more_is_named() {
    let scene = Scene::new();
    let engine = Server::engine(|_| Reply::Hang);
    let ended = scene.agent_run(&["doctor", "--host", engine.url()]);
    assert_eq!(ended.code, Some(96), "{ended}");
    for words in ["fail  engine", "no answer in time", "fix: "] {
        assert!(ended.stdout.contains(words), "no {words:?} in {ended}");
    }
}

#[test]
fn a_state_directory_that_cannot_be_used_is_told_of_and_not_made() {
    let scene = Scene::new();
    let inside = scene.agent_run(&["doctor", "-C", "repo", "--state-dir", "deep/state"]);
    assert_eq!(inside.code, Some(96), "{inside}");
    for words in ["fail  repository", "lies inside", "skip  containers"] {
        assert!(inside.stdout.contains(words), "no {words:?} in {inside}");
    }
    assert_eq!(scene.git(&["status", "--porcelain"]), "");
    assert!(!scene.repo().join("deep").exists());
    std::fs::create_dir(scene.state()).expect("a directory");
    std::fs::write(scene.state().join("runs"), "no directory").expect("a file");
    let broken = scene.agent_run(&["doctor"]);
    assert_eq!(broken.code, Some(96), "{broken}");
    for words in ["fail  containers", "fix: name another directory"] {
        assert!(broken.stdout.contains(words), "no {words:?} in {broken}");
    }
}

#[test]
fn an_engine_without_the_base_image_is_a_warning_and_its_words_are_printable() {
    let scene = Scene::new();
    let engine = Server::any_engine(|request| match request.what.as_str() {
        "GET /version" => Reply::Json(
            200,
            json!({
                "Version": "28.0.0\u{1b}[2J", "ApiVersion": "1.48",
                "Components": [{"Name": "runc", "Version": "1.2.7"}, {"Name": "containerd", "Version": "odd"}],
            }),
        ),
        "GET /info" => Reply::Json(
            200,
            json!({
                "NCPU": 2, "MemTotal": 1 << 30, "CgroupVersion": "2", "DockerRootDir": "/nonexistent\u{202e}",
                "MemoryLimit": true, "SwapLimit": true, "CpuCfsQuota": true, "PidsLimit": true,
            }),
        ),
        other if other.starts_with("GET /images/") => Reply::Json(404, json!({"message": "none"})),
        other => panic!("{other}"),
    });
    let ended = scene.agent_run(&["doctor", "--host", engine.url(), "--color", "never"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    for words in [
        "warn  base image",
        "warn  runc",
        "CVE-2025-31133",
        "skip  containerd",
        "cgroup v2",
        "skip  engine's data",
    ] {
        assert!(ended.stdout.contains(words), "no {words:?} in {ended}");
    }
    assert!(!ended.stdout.contains(['\u{1b}', '\u{202e}']), "{ended}");
}

#[test]
fn a_limit_that_the_engine_drops_is_a_problem() {
    let scene = Scene::new();
    let socket = scene.path().join("engine.sock");
    falsify(
        &socket,
        br#""NanoCpus":500000000"#,
        br#""NanoCpus":100000000"#,
    );
    let host = format!("unix://{}", socket.display());
    let ended = scene.agent_run(&["doctor", "--host", &host, "--format", "json"]);
    assert_eq!(ended.code, Some(96), "{ended}");
    let report = json(&ended);
    let limits = finding(&report, "limits");
    assert_eq!(limits["verdict"], "fail", "{report:#}");
    assert!(
        limits["message"]
            .as_str()
            .expect("words")
            .contains("`cpus`"),
        "{report:#}"
    );
    assert_eq!(finding(&report, "isolation")["verdict"], "ok", "{report:#}");
}

#[test]
fn log_ins_that_cannot_be_used_are_told_of() {
    let scene = Scene::new();
    let folder = scene.path().join("docker");
    std::fs::create_dir(&folder).expect("a directory");
    for (config, verdict, words) in [
        (
            r#"{"auths": {"b.example": {}, "a.example": {}}}"#,
            "ok",
            "a.example, b.example",
        ),
        (
            r#"{"credHelpers": {"a.example": "of-nobody"}}"#,
            "warn",
            "docker-credential-of-nobody",
        ),
        ("{", "warn", "cannot be used"),
    ] {
        std::fs::write(folder.join("config.json"), config).expect("a file");
        let mut command = scene.command(&["doctor", "--format", "json"]);
        command
            .args(["--host", "unix:///nonexistent"])
            .env("DOCKER_CONFIG", &folder);
        let report = json(&command.output().expect("agent-run").into());
        let found = finding(&report, "registry log-ins");
        assert_eq!(found["verdict"], verdict, "{found:#}");
        assert!(
            found["message"].as_str().expect("words").contains(words),
            "{found:#}"
        );
    }
}

#[test]
fn an_interrupt_removes_what_was_made() {
    let scene = Scene::new();
    let (mut child, lines) = start(&scene, &["doctor"]);
    until("a container", || !containers_of(child.id()).is_empty());
    interrupt(&child);
    let code = child.wait().expect("an end").code();
    assert_eq!(code, Some(130), "{:?}", lines.collect::<Vec<_>>());
    assert_eq!(containers_of(child.id()), [] as [&str; 0]);
    assert_eq!(scene.runs(), [] as [&str; 0]);
}

#[test]
fn what_a_killed_one_leaves_is_cleaned() {
    let scene = Scene::new();
    let (mut child, _lines) = start(&scene, &["doctor"]);
    until("a container", || !containers_of(child.id()).is_empty());
    child.kill().expect("a signal");
    child.wait().expect("an end");
    // The engine finishes what it was asked for last, which a first `clean` may be too early for.
    let mut empty = 0;
    until("nothing is left", || {
        let cleaned = scene.agent_run(&["clean"]);
        // One that is too early says what it could not remove.
        assert!(matches!(cleaned.code, Some(0 | 1)), "{cleaned}");
        let is_clean = cleaned.code == Some(0);
        empty = if is_clean && containers_of(child.id()).is_empty() {
            empty + 1
        } else {
            0
        };
        empty == 3
    });
}
