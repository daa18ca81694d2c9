//! Docker's scripted answers about volumes: one that a container did not get, and paths that the
//! options of a mount cannot hold.

use std::sync::Mutex;

use agent_run::engine::config::{VolumeConfig, VolumeMount};
use agent_run::engine::{Engine, ErrorKind};
use serde_json::{Value, json};

use super::contract::plain_container;
use super::server::{Reply, Request, Server};

const NAME: &str = "agent-run-scripted";

/// A view of a directory.
pub fn volume(lower: &str) -> VolumeConfig {
    VolumeConfig {
        name: NAME.into(),
        labels: vec![("agent-run.schema".into(), "1".into())],
        lower: lower.into(),
        upper: "/upper".into(),
        work: "/work".into(),
    }
}

/// An engine that gives a container this instead of the volume that it was asked for.
fn giving(mount: Value) -> Server {
    let asked = Mutex::new(Value::Null);
    Server::engine(move |request: &Request| match request.what.as_str() {
        "POST /containers/create" => {
            *asked.lock().unwrap() = request.json();
            Reply::Json(201, json!({"Id": "0123", "Warnings": []}))
        }
        "GET /containers/0123/json" => {
            let asked = asked.lock().unwrap();
            let answer = json!({
                "HostConfig": asked["HostConfig"],
                "Config": {"User": asked["User"]},
                "Mounts": [mount],
                "NetworkSettings": {"Networks": {"none": {}}},
            });
            Reply::Json(200, answer)
        }
        "GET /volumes/agent-run-scripted" => Reply::Json(
            200,
            json!({"Name": NAME, "Driver": "local", "Mountpoint": "/x", "Labels": {},
                "Options": {"type": "overlay"}, "Scope": "local"}),
        ),
        _ => Reply::Header(204, "Server: scripted"),
    })
}

#[tokio::test]
async fn a_volume_that_a_container_did_not_get_is_an_error() {
    let mount = json!({"Type": "volume", "Name": NAME, "Destination": "/workspace", "RW": true});
    let altered = |key: &str, value: Value| {
        let mut mount = mount.clone();
        mount[key] = value;
        mount
    };
    let mut config = plain_container(NAME, vec!["true".into()]);
    config.volumes = vec![VolumeMount {
        volume: NAME.into(),
        target: "/workspace".into(),
    }];
    for wrong in [
        altered("Type", json!("bind")),
        altered("Name", json!("another")),
        altered("Destination", json!("/elsewhere")),
        altered("RW", json!(false)),
    ] {
        let server = giving(wrong.clone());
        let engine = server.connect().await.unwrap();
        let error = engine.create_container(&config).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::LimitNotHonoured("mounts"), "{wrong}");
        assert!(server.was_asked("DELETE /containers/0123"), "{wrong}");
    }
    let server = giving(mount);
    let engine = server.connect().await.unwrap();
    engine.create_container(&config).await.unwrap();
    assert!(!server.was_asked("DELETE /containers/0123"));
}

#[tokio::test]
async fn a_directory_that_a_mount_cannot_name_is_refused_before_it_is_made() {
    let server = Server::engine(|_| Reply::Hang);
    let engine = server.connect().await.unwrap();
    let long = format!("/{}", "x/".repeat(2000));
    for (lower, words) in [("/a:b", "/a:b cannot be named"), (&long, "bytes")] {
        let error = engine.create_volume(&volume(lower)).await.unwrap_err();
        assert!(
            matches!(&error.kind, ErrorKind::Refused(why) if why.contains(words)),
            "{error}"
        );
    }
    assert!(!server.was_asked("POST /volumes/create"));
}

#[tokio::test]
async fn what_is_in_a_volume_that_cannot_be_read_is_not_known() {
    let mounts = json!([
        {"Type": "volume", "Name": "x", "Destination": "/data", "RW": true},
        {"Type": "bind", "Source": "/x", "Destination": "/etc/x", "RW": false},
    ]);
    let server = |archive: fn() -> Reply| {
        let mounts = mounts.clone();
        Server::engine(move |request: &Request| match request.what.as_str() {
            "GET /containers/it/json" => Reply::Json(200, json!({"Mounts": mounts})),
            "GET /containers/it/archive" => archive(),
            other => panic!("{other}"),
        })
    };
    let readable = server(|| Reply::Json(200, json!("an archive")));
    let contents = readable
        .connect()
        .await
        .unwrap()
        .volume_contents("it")
        .await;
    let paths: Vec<String> = contents.unwrap().into_keys().collect();
    assert_eq!(paths, ["/data"]);
    let broken = server(|| Reply::Json(500, json!({"message": "an input/output error"})));
    let error = broken.connect().await.unwrap().volume_contents("it").await;
    let error = error.unwrap_err();
    assert_eq!(
        error.kind,
        ErrorKind::Refused("an input/output error".into())
    );
}
