//! How the engine is found: flags, variables, contexts, known sockets; and engines that are none.

use std::fs;
use std::path::{Path, PathBuf};

use agent_run::engine::docker::endpoint::resolve;
use agent_run::engine::docker::{DockerEngine, EngineLocator};
use agent_run::engine::{Engine, ErrorKind};
use agent_run::id::hex_hash;
use serde_json::json;

use super::server::{Reply, Server};

fn urls(locator: &EngineLocator) -> Vec<String> {
    let endpoints = resolve(locator).unwrap();
    endpoints.into_iter().map(|endpoint| endpoint.url).collect()
}

fn refusal(locator: &EngineLocator) -> String {
    match resolve(locator).unwrap_err() {
        ErrorKind::Refused(words) => words,
        other => panic!("{other:?}"),
    }
}

fn write_context(config: &Path, name: &str, host: &str) -> PathBuf {
    let dir = config
        .join("contexts/meta")
        .join(hex_hash(name.as_bytes(), 64));
    fs::create_dir_all(&dir).unwrap();
    let meta = json!({"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host}}});
    fs::write(dir.join("meta.json"), meta.to_string()).unwrap();
    dir.join("meta.json")
}

fn set_current(config: &Path, name: &str) {
    let text = json!({"auths": {}, "currentContext": name}).to_string();
    fs::write(config.join("config.json"), text).unwrap();
}

#[test]
fn the_first_that_names_an_endpoint_wins() {
    let dir = tempfile::tempdir().unwrap();
    write_context(dir.path(), "vm", "unix:///run/vm.sock");
    write_context(dir.path(), "work", "tcp://10.0.0.1:2375");
    set_current(dir.path(), "vm");
    let mut locator = EngineLocator {
        host: Some("unix:///run/flag.sock".into()),
        docker_host: Some("tcp://127.0.0.1:2375/".into()),
        docker_context: Some("work".into()),
        docker_config_dir: Some(dir.path().to_owned()),
        home: Some("/home/ann".into()),
        xdg_runtime_dir: Some("/run/user/7".into()),
    };
    assert_eq!(urls(&locator), ["unix:///run/flag.sock"]);
    locator.host = Some(String::new());
    assert_eq!(urls(&locator), ["tcp://127.0.0.1:2375"]);
    locator.docker_host = None;
    assert_eq!(urls(&locator), ["tcp://10.0.0.1:2375"]);
    locator.docker_context = None;
    assert_eq!(urls(&locator), ["unix:///run/vm.sock"]);
    set_current(dir.path(), "default");
    assert_eq!(urls(&locator)[0], "unix:///var/run/docker.sock");
}

#[test]
fn known_sockets_are_tried_in_order() {
    let locator = EngineLocator {
        home: Some("/home/ann".into()),
        xdg_runtime_dir: Some("/run/user/7".into()),
        ..EngineLocator::default()
    };
    let expected = [
        "unix:///var/run/docker.sock",
        "unix:///run/user/7/docker.sock",
        "unix:///home/ann/.docker/run/docker.sock",
        "unix:///home/ann/.docker/desktop/docker.sock",
        "unix:///home/ann/.colima/default/docker.sock",
        "unix:///home/ann/.orbstack/run/docker.sock",
        "unix:///home/ann/.rd/docker.sock",
    ];
    assert_eq!(urls(&locator), expected);
    assert_eq!(urls(&EngineLocator::default()), expected[..1]);
}

#[test]
fn the_configuration_directory_defaults_to_the_home() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join(".docker");
    fs::create_dir(&config).unwrap();
    write_context(&config, "vm", "unix:///run/vm.sock");
    set_current(&config, "vm");
    let locator = EngineLocator {
        home: Some(home.path().to_owned()),
        ..EngineLocator::default()
    };
    assert_eq!(urls(&locator), ["unix:///run/vm.sock"]);
}

#[test]
fn what_is_not_spoken_is_refused() {
    for (host, reason) in [
        ("ssh://ann@host", "run agent-run on that machine"),
        ("https://host:2376", "behind TLS"),
        ("/var/run/docker.sock", "not of the form"),
        ("unix://relative", "not of the form"),
        ("npipe:////./pipe/docker", "not of the form"),
        ("tcp://", "not of the form"),
    ] {
        let words = refusal(&EngineLocator {
            docker_host: Some(host.into()),
            ..EngineLocator::default()
        });
        assert!(
            words.contains(reason) && words.contains("DOCKER_HOST"),
            "{words}"
        );
    }
}

#[test]
fn a_context_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut locator = EngineLocator {
        docker_config_dir: Some(dir.path().to_owned()),
        docker_context: Some("gone".into()),
        ..EngineLocator::default()
    };
    assert!(refusal(&locator).contains("meta.json"));
    let meta = write_context(dir.path(), "gone", "");
    assert!(refusal(&locator).contains("names no docker host"));
    fs::write(&meta, "{").unwrap();
    assert!(refusal(&locator).contains("cannot be used"));
    write_context(dir.path(), "gone", "tcp://host:2376");
    fs::create_dir_all(dir.path().join("contexts/tls").join(hex_hash(b"gone", 64))).unwrap();
    assert!(refusal(&locator).contains("behind TLS"));
    locator.docker_context = None;
    fs::write(dir.path().join("config.json"), "[").unwrap();
    assert!(refusal(&locator).contains("config.json"));
}

#[tokio::test]
async fn a_named_endpoint_that_does_not_answer_is_an_error_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = dir.path().join("nothing.sock");
    let dead = dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    for (socket, reason) in [(nothing, "no socket"), (dead, "refused")] {
        write_context(dir.path(), "vm", &format!("unix://{}", socket.display()));
        let locator = EngineLocator {
            docker_config_dir: Some(dir.path().to_owned()),
            docker_context: Some("vm".into()),
            ..EngineLocator::default()
        };
        let error = DockerEngine::connect(&locator).await.unwrap_err();
        let ErrorKind::Unreachable(tried) = error.kind else {
            panic!("{error:?}");
        };
        assert_eq!(tried.len(), 1, "{tried:?}");
        for part in [
            socket.to_str().unwrap(),
            "context `vm` of DOCKER_CONTEXT",
            reason,
        ] {
            assert!(tried[0].contains(part), "{tried:?}");
        }
    }
}

#[tokio::test]
async fn an_engine_of_a_context_answers() {
    let server = Server::engine(|_| Reply::Json(500, json!({"message": "no"})));
    let dir = tempfile::tempdir().unwrap();
    write_context(dir.path(), "scripted", server.url());
    set_current(dir.path(), "scripted");
    let locator = EngineLocator {
        docker_config_dir: Some(dir.path().to_owned()),
        ..EngineLocator::default()
    };
    DockerEngine::connect(&locator).await.unwrap();
    assert!(server.was_asked("GET /version"));
}

#[tokio::test]
async fn an_old_engine_is_named_with_its_version() {
    for (version, accepted) in [
        ("1.40", false),
        ("0.99", false),
        ("1.41", true),
        ("1.100", true),
        ("2.0", true),
    ] {
        let answer = json!({"Version": "x", "ApiVersion": version});
        let server = Server::any_engine(move |_| Reply::Json(200, answer.clone()));
        let connected = server.connect().await;
        match connected {
            Ok(_) => assert!(accepted, "{version}"),
            Err(error) => {
                assert!(!accepted, "{version}: {error}");
                assert_eq!(error.kind, ErrorKind::TooOld(version.into()));
                assert!(error.to_string().contains(server.url()), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_engine_is_not_taken_for_one() {
    for answer in [
        "\u{1b}[31mnot http\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html></a",
        "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"ApiVersion\":",
        "",
    ] {
        let server = Server::any_engine(move |_| Reply::Raw(answer));
        let error = server.connect().await.unwrap_err();
        assert!(
            matches!(error.kind, ErrorKind::Unreachable(_)),
            "{answer:?}: {error:?}"
        );
        assert!(!error.to_string().contains('\u{1b}'));
    }
    for body in [
        json!({}),
        json!({"ApiVersion": "one"}),
        json!({"ApiVersion": ""}),
    ] {
        let server = Server::any_engine(move |_| Reply::Json(200, body.clone()));
        let error = server.connect().await.unwrap_err();
        assert!(error.to_string().contains("no container engine"), "{error}");
    }
}

#[tokio::test]
async fn an_engine_behind_tcp_is_remote() {
    let (server, _) = Server::tcp(|request| match request.what.as_str() {
        "GET /version" => Reply::Json(200, json!({"Version": "29.0", "ApiVersion": "1.52"})),
        _ => Reply::Json(200, json!({"NCPU": 1, "MemTotal": 1 << 30})),
    });
    let engine = server.connect().await.unwrap();
    let info = engine.info().await.unwrap();
    assert_eq!((info.endpoint.as_str(), info.remote), (server.url(), true));
}
