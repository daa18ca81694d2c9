//! Docker's answers about networks, scripted: made and removed by others meanwhile, or kept for nobody.

use std::sync::atomic::{AtomicUsize, Ordering};

use agent_run::engine::{Engine, ErrorKind};
use serde_json::json;

use super::answers::network;
use super::server::{Reply, Server};

/// The engine takes addresses before it lists their network.
#[tokio::test]
async fn a_network_that_another_is_just_making_is_found() {
    let option = "com.docker.network.bridge.enable_icc";
    for (listed, reach, kind) in [
        ("agent-run-scripted", "false", ErrorKind::NameInUse),
        // Made by an engine that drops the option, for somebody who died before he saw it.
        (
            "agent-run-scripted",
            "true",
            ErrorKind::LimitNotHonoured(option),
        ),
        ("foreign", "true", ErrorKind::AddressInUse),
    ] {
        let asked = AtomicUsize::new(0);
        let server = Server::engine(move |request| match request.what.as_str() {
            "GET /networks" if asked.fetch_add(1, Ordering::Relaxed) < 2 => {
                Reply::Json(200, json!([]))
            }
            "GET /networks" => {
                let ipam = json!({"Config": [{"Subnet": "10.214.0.0/15"}]});
                let options = json!({ option: reach });
                Reply::Json(
                    200,
                    json!([{"Name": listed, "IPAM": ipam, "Options": options}]),
                )
            }
            "POST /networks/create" => {
                let words = "Pool overlaps with other one on this address space";
                Reply::Json(403, json!({"message": words}))
            }
            other => panic!("{other}"),
        });
        let engine = server.connect().await.unwrap();
        let error = engine.create_network(&network()).await.unwrap_err();
        assert_eq!(error.kind, kind);
    }
}

/// A network is in use by whom it has, also where that one is not started yet; else by nobody.
#[tokio::test]
async fn a_network_that_the_engine_keeps_for_nobody_is_told_from_one_in_use() {
    for (on_it, kind) in [
        (
            json!([{"Id": "0123", "State": "created"}]),
            ErrorKind::InUse,
        ),
        (json!([]), ErrorKind::HeldByNobody),
    ] {
        let server = Server::engine(move |request| match request.what.as_str() {
            "DELETE /networks/agent-run-scripted" => {
                let words = "network agent-run-scripted id 0123 has active endpoints";
                Reply::Json(403, json!({"message": words}))
            }
            "GET /containers/json" => Reply::Json(200, on_it.clone()),
            other => panic!("{other}"),
        });
        let engine = server.connect().await.unwrap();
        let error = engine.remove_network("agent-run-scripted").await;
        assert_eq!(error.unwrap_err().kind, kind);
    }
}

/// Another run may remove a network that nobody uses yet.
#[tokio::test]
async fn a_network_that_another_has_just_removed_is_made_again() {
    let looks = AtomicUsize::new(0);
    let server = Server::engine(move |request| match request.what.as_str() {
        "GET /networks" => Reply::Json(200, json!([])),
        "POST /networks/create" => Reply::Json(201, json!({"Id": "0123", "Warning": ""})),
        "GET /networks/agent-run-scripted" if looks.fetch_add(1, Ordering::Relaxed) == 0 => {
            Reply::Json(
                404,
                json!({"message": "network agent-run-scripted not found"}),
            )
        }
        "GET /networks/agent-run-scripted" => {
            let options = json!({"com.docker.network.bridge.enable_icc": "false"});
            Reply::Json(200, json!({"Options": options}))
        }
        other => panic!("{other}"),
    });
    let engine = server.connect().await.unwrap();
    engine.create_network(&network()).await.unwrap();
    let made = server.requests();
    let made = made.iter().filter(|r| r.what == "POST /networks/create");
    assert_eq!(made.count(), 2);
}
