//! Registry log-ins: taken as the docker command takes them, and sent so that the engine reads them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_run::engine::config::{BuildConfig, ImageRequest, PullPolicy};
use agent_run::engine::docker::{DockerEngine, EngineLocator};
use agent_run::engine::{Engine, EngineError, ErrorKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

use super::server::{Reply, Server};
use crate::docker;

/// Gives `+` and `/` in plain base64, wherever it stands.
const PASSWORD: &str = "p@ss~~~???>>>~~~???>>>~~~???>>>";

/// A registry that lets only `ann` in, and has no image.
fn registry() -> (Server, String) {
    let (server, address) = Server::tcp(|request| {
        let expected = format!("Basic {}", STANDARD.encode(format!("ann:{PASSWORD}")));
        if request.headers.get("authorization") != Some(&expected) {
            return Reply::Header(401, "WWW-Authenticate: Basic realm=\"test\"");
        }
        match request.what.as_str() {
            "GET /v2/" => Reply::Json(200, json!({})),
            _ => Reply::Json(
                404,
                json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "let in"}]}),
            ),
        }
    });
    (server, address.to_string())
}

fn write_config(dir: &Path, config: &Value) {
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

fn auths(server: &str, password: &str) -> Value {
    json!({"auths": {server: {"auth": STANDARD.encode(format!("ann:{password}"))}}})
}

async fn pull(locator: EngineLocator, reference: &str) -> EngineError {
    let engine = DockerEngine::connect(&locator).await.unwrap();
    let request = ImageRequest {
        reference: reference.parse().unwrap(),
        pull_policy: PullPolicy::Always,
        build: None,
    };
    engine.ensure_image(&request).await.unwrap_err()
}

#[tokio::test]
async fn a_real_engine_reads_every_password() {
    let (server, address) = registry();
    let dir = tempfile::tempdir().unwrap();
    // The locator's own configuration directory would hide the engine of a context.
    let endpoint = docker::engine().await.info().await.unwrap().endpoint;
    for (password, admitted) in [(PASSWORD, true), ("wrong", false)] {
        write_config(dir.path(), &auths(&address, password));
        let locator = EngineLocator {
            host: Some(endpoint.clone()),
            docker_config_dir: Some(dir.path().to_owned()),
            ..EngineLocator::default()
        };
        let error = pull(locator, &format!("{address}/acme/agent:1")).await;
        assert!(
            matches!(error.kind, ErrorKind::ImageUnavailable(_)),
            "{error}"
        );
        let asked_for_image = server.requests().iter().any(|request| {
            request.what.contains("/v2/acme/agent/manifests/1")
                && request.headers.get("authorization").is_some_and(|auth| {
                    *auth == format!("Basic {}", STANDARD.encode(format!("ann:{PASSWORD}")))
                })
        });
        assert!(asked_for_image, "{error}");
        let text = error.to_string();
        assert_eq!(
            text.contains("manifest") || text.contains("let in"),
            admitted,
            "{text}"
        );
    }
}

/// What an engine is told of the caller's log-in.
async fn header_for(config: &Value, reference: &str) -> (Option<Value>, String) {
    let server = Server::engine(|request| match request.what.as_str() {
        "POST /images/create" => Reply::Json(500, json!({"message": "no route to it"})),
        other => panic!("{other}"),
    });
    let dir = tempfile::tempdir().unwrap();
    write_config(dir.path(), config);
    let locator = EngineLocator {
        host: Some(server.url().to_owned()),
        docker_config_dir: Some(dir.path().to_owned()),
        ..EngineLocator::default()
    };
    let error = pull(locator, reference).await;
    let requests = server.requests();
    let pull = requests
        .iter()
        .find(|r| r.what == "POST /images/create")
        .unwrap();
    let header = pull.headers.get("x-registry-auth");
    let header = header.map(|text| URL_SAFE.decode(text).expect("URL-safe base64"));
    let header = header.map(|json| serde_json::from_slice(&json).unwrap());
    (header, error.to_string())
}

#[tokio::test]
async fn each_registry_gets_its_own_log_in() {
    for (registry, reference) in [
        ("ghcr.io", "ghcr.io/acme/agent:1"),
        ("localhost:5000", "localhost:5000/agent"),
        ("https://index.docker.io/v1/", "acme/agent@sha256:0000"),
        ("https://index.docker.io/v1/", "debian"),
    ] {
        let (header, _) = header_for(&auths(registry, PASSWORD), reference).await;
        let header = header.unwrap();
        assert_eq!(header["username"], "ann", "{reference}");
        assert_eq!(header["password"], PASSWORD);
        assert_eq!(header["serveraddress"], registry);
    }
    let (header, error) = header_for(&auths("ghcr.io", PASSWORD), "quay.io/acme/agent").await;
    assert_eq!((header, error.contains("log-in")), (None, false), "{error}");
    let (header, error) = header_for(&json!({"credsStore": "absent-helper"}), "ghcr.io/a").await;
    assert_eq!(header, None);
    assert!(
        error.contains("no route to it") && error.contains("its log-in"),
        "{error}"
    );
}

#[tokio::test]
async fn a_build_gets_every_log_in() {
    let server = Server::engine(|request| match request.what.as_str() {
        "POST /build" => Reply::Json(
            200,
            json!({"error": "no", "errorDetail": {"message": "no"}}),
        ),
        other => panic!("{other}"),
    });
    let dir = tempfile::tempdir().unwrap();
    let auth = json!({"auth": STANDARD.encode(format!("ann:{PASSWORD}"))});
    let logged_out = json!({});
    write_config(
        dir.path(),
        &json!({"auths": {"ghcr.io": auth, "quay.io": auth, "gone.io": logged_out}}),
    );
    let locator = EngineLocator {
        host: Some(server.url().to_owned()),
        docker_config_dir: Some(dir.path().to_owned()),
        ..EngineLocator::default()
    };
    let engine = DockerEngine::connect(&locator).await.unwrap();
    let request = ImageRequest {
        reference: "agent-run-base:9".parse().unwrap(),
        pull_policy: PullPolicy::Build,
        build: Some(BuildConfig::EmbeddedBase),
    };
    engine.ensure_image(&request).await.unwrap_err();
    let requests = server.requests();
    let build = requests.iter().find(|r| r.what == "POST /build").unwrap();
    let header = URL_SAFE
        .decode(&build.headers["x-registry-config"])
        .unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header.as_object().unwrap().len(), 2, "{header}");
    assert_eq!(header["quay.io"]["password"], PASSWORD);
    assert_eq!(header["ghcr.io"]["username"], "ann");
}

/// Runs itself again with a PATH that holds a credential helper: the process environment cannot
/// be changed while other tests read it.
#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "the helper is found by the PATH of the process"
)]
async fn a_credential_helper_is_asked() {
    const CHILD: &str = "AGENT_RUN_TEST_WITH_HELPER";
    const NAME: &str = "engine::registry::a_credential_helper_is_asked";
    if std::env::var_os(CHILD).is_some() {
        let config =
            json!({"credHelpers": {"ghcr.io": "it-agent-run"}, "credsStore": "it-agent-run"});
        let (header, _) = header_for(&config, "ghcr.io/acme/agent:1").await;
        let header = header.unwrap();
        assert_eq!(header["username"], "ann of ghcr.io");
        assert_eq!(header["password"], PASSWORD);
        let (header, _) = header_for(&config, "debian").await;
        assert_eq!(
            header.unwrap()["username"],
            "ann of https://index.docker.io/v1/"
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("docker-credential-it-agent-run");
    let script = format!(
        "#!/bin/sh\nread -r server\nprintf '{{\"Username\":\"ann of %s\",\"Secret\":\"{PASSWORD}\"}}' \"$server\"\n"
    );
    fs::write(&helper, script).unwrap();
    let runnable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&helper, runnable).unwrap();
    let path = format!(
        "{}:{}",
        dir.path().display(),
        std::env::var("PATH").unwrap()
    );
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env("PATH", path)
        .env(CHILD, "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && output.contains("1 passed"),
        "{output}"
    );
}

#[tokio::test]
async fn callers_share_a_pull_and_a_failed_one_is_tried_again() {
    let broken = Arc::new(AtomicBool::new(true));
    let answer_broken = Arc::clone(&broken);
    let server = Server::engine(move |request| match request.what.as_str() {
        "POST /images/create" if answer_broken.load(Ordering::SeqCst) => {
            Reply::Json(500, json!({"message": "toomanyrequests"}))
        }
        "POST /images/create" => Reply::Json(200, json!({"status": "Pulled"})),
        "GET /images/acme/agent:1/json" => Reply::Json(200, json!({"Id": "sha256:1"})),
        other => panic!("{other}"),
    });
    let engine = server.connect().await.unwrap();
    let request = ImageRequest {
        reference: "acme/agent:1".parse().unwrap(),
        pull_policy: PullPolicy::Always,
        build: None,
    };
    let ask = || engine.ensure_image(&request);
    let pulls = || {
        let requests = server.requests().into_iter();
        requests.filter(|r| r.what == "POST /images/create").count()
    };
    for answer in futures::future::join_all((0..5).map(|_| ask())).await {
        let words = answer.unwrap_err().kind.describe();
        assert!(words.contains("toomanyrequests"), "{words}");
    }
    assert_eq!(pulls(), 1);
    broken.store(false, Ordering::SeqCst);
    for answer in futures::future::join_all((0..5).map(|_| ask())).await {
        assert_eq!(answer.unwrap().id, "sha256:1");
    }
    ask().await.unwrap();
    assert_eq!(pulls(), 2);
}
