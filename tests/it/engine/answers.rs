//! Docker's answers, scripted: limits dropped, calls that hang, answers that are garbled or lost.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_run::engine::config::{
    BuildConfig, ContainerConfig, ImageRequest, Mount, NetworkConfig, Publish, PullPolicy, Trusted,
    Ulimit,
};
use agent_run::engine::{ContainerUsage, Engine, ErrorKind, Exit, Operation};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::calls::{CALLS, call};
use super::contract::plain_container;
use super::server::{Reply, Request, Server};

pub(super) fn config() -> ContainerConfig {
    let mut config = plain_container("agent-run-scripted", vec!["true".into()]);
    let options = "rw,exec,size=8m".to_owned();
    config.limits.tmpfs.insert("/tmp".into(), options);
    let core = Ulimit { soft: 1, hard: 2 };
    config.limits.ulimits.insert("core".into(), core);
    config.mounts.push(Mount {
        source: "/srv".into(),
        target: "/srv".into(),
        read_only: true,
    });
    config.read_only = true;
    config.runtime = Some("other".into());
    config.publish.push(Publish {
        port: 3000,
        address: std::net::Ipv4Addr::LOCALHOST,
    });
    config
}

/// An engine that makes what it is asked for, but for one change.
fn altering(pointer: &'static str, value: Value) -> Server {
    let made = Arc::new(Mutex::new(Value::Null));
    Server::engine(move |request: &Request| match request.what.as_str() {
        "POST /containers/create" => {
            *made.lock().unwrap() = request.json();
            Reply::Json(
                201,
                json!({"Id": "0123", "Warnings": ["a limit was discarded"]}),
            )
        }
        "GET /containers/0123/json" => {
            let asked = made.lock().unwrap().clone();
            let mount = &asked["HostConfig"]["Mounts"][0];
            let mut answer = json!({
                "HostConfig": asked["HostConfig"],
                "Config": {"User": asked["User"]},
                "Mounts": [{
                    "Type": "bind", "Source": mount["Source"],
                    "Destination": mount["Target"], "RW": false,
                }],
                "NetworkSettings": {"Networks": {"none": {}}},
            });
            if let Some(place) = answer.pointer_mut(pointer) {
                *place = value.clone();
            }
            Reply::Json(200, answer)
        }
        "DELETE /containers/0123" => Reply::Header(204, "X: y"),
        other => panic!("{other}"),
    })
}

#[tokio::test]
async fn what_the_engine_dropped_is_named_and_the_container_removed() {
    let host = |rest| format!("/HostConfig/{rest}");
    for (pointer, value, key) in [
        (host("Memory"), json!(0), "mem_limit"),
        (host("MemorySwap"), json!(-1), "memswap_limit"),
        (host("NanoCpus"), json!(0), "cpus"),
        (host("PidsLimit"), Value::Null, "pids_limit"),
        (host("ShmSize"), json!(67_108_865), "shm_size"),
        (host("Ulimits"), json!([]), "ulimits"),
        (host("Ulimits/0/Hard"), json!(-1), "ulimits"),
        (host("Tmpfs/~1tmp"), json!(""), "tmpfs"),
        (host("Init"), json!(false), "init"),
        (host("Privileged"), json!(true), "privileged"),
        (host("CapDrop"), Value::Null, "cap_drop"),
        (host("SecurityOpt"), json!([]), "security_opt"),
        (
            host("SecurityOpt"),
            json!(["no-new-privileges:false"]),
            "security_opt",
        ),
        (
            host("SecurityOpt"),
            json!(["no-new-privileges", "seccomp=unconfined"]),
            "security_opt",
        ),
        (host("IpcMode"), json!("host"), "ipc"),
        (host("OomScoreAdj"), json!(0), "oom_score_adj"),
        (host("ReadonlyRootfs"), json!(false), "read_only"),
        (host("NetworkMode"), json!("bridge"), "network_mode"),
        (
            host("PortBindings/3000~1tcp/0/HostIp"),
            json!("0.0.0.0"),
            "ports",
        ),
        (host("PortBindings"), json!({}), "ports"),
        (host("Runtime"), json!("runc"), "runtime"),
        (host("Runtime"), Value::Null, "runtime"),
        (
            "/NetworkSettings/Networks".into(),
            json!({"bridge": {}}),
            "network_mode",
        ),
        ("/Config/User".into(), json!("root"), "user"),
        ("/Mounts".into(), json!([]), "mounts"),
        ("/Mounts/0/RW".into(), json!(true), "mounts"),
        ("/Mounts/0/Destination".into(), json!("/etc"), "mounts"),
    ] {
        let server = altering(pointer.clone().leak(), value);
        let engine = server.connect().await.unwrap();
        let error = engine.create_container(&config()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::LimitNotHonoured(key), "{pointer}");
        assert!(server.was_asked("DELETE /containers/0123"), "{pointer}");
    }
}

#[tokio::test]
async fn what_a_trusted_container_has_is_asked_for() {
    let config = ContainerConfig {
        trusted: Trusted {
            privileged: false,
            cap_add: vec!["SYS_PTRACE".into()],
            devices: vec!["/dev/a".into(), "/dev/b:/dev/c:r".into()],
            host_pid: true,
        },
        ..config()
    };
    let server = altering("/HostConfig/PidMode", json!("host"));
    let engine = server.connect().await.unwrap();
    engine.create_container(&config).await.unwrap();
    let requests = server.requests();
    let create = requests
        .iter()
        .find(|r| r.what == "POST /containers/create");
    let host = create.unwrap().json()["HostConfig"].clone();
    assert_eq!(host["CapAdd"], json!(["SYS_PTRACE"]));
    assert_eq!(host["PidMode"], "host");
    let device = |on_host: &str, inside: &str, may: &str| json!({"PathOnHost": on_host, "PathInContainer": inside, "CgroupPermissions": may});
    let devices = [
        device("/dev/a", "/dev/a", "rwm"),
        device("/dev/b", "/dev/c", "r"),
    ];
    assert_eq!(host["Devices"], json!(devices));
}

#[tokio::test]
async fn an_engine_that_honours_all_keeps_the_container() {
    let server = altering("/nothing", Value::Null);
    let engine = server.connect().await.unwrap();
    engine.create_container(&config()).await.unwrap();
    assert!(!server.was_asked("DELETE /containers/0123"));
    let requests = server.requests();
    let create = requests
        .iter()
        .find(|r| r.what == "POST /containers/create");
    let host = create.unwrap().json()["HostConfig"].clone();
    for absent in [
        "Binds",
        "MaskedPaths",
        "ReadonlyPaths",
        "CapAdd",
        "Devices",
        "PidMode",
    ] {
        assert_eq!(host.get(absent), None, "{absent}");
    }
    let log = json!({"Type": "local", "Config": {"max-size": "32m", "max-file": "2", "compress": "false"}});
    assert_eq!(host["LogConfig"], log);
    assert_eq!(host["RestartPolicy"], json!({"Name": "no"}));
}

/// A network that is asked for.
pub(super) fn network() -> NetworkConfig {
    NetworkConfig {
        name: "agent-run-scripted".into(),
        labels: Vec::new(),
        subnet: Ipv4Addr::new(10, 214, 0, 0),
        prefix: 28,
    }
}

#[tokio::test]
async fn every_call_but_wait_has_a_deadline() {
    let server = Server::engine(|_| Reply::Hang);
    let engine = server.connect().await.unwrap();
    tokio::time::pause();
    for operation in CALLS {
        let start = Instant::now();
        let day = Duration::from_secs(24 * 3600);
        match timeout(day, call(&engine, operation)).await {
            Ok(answer) => {
                assert_eq!(answer.unwrap_err().kind, ErrorKind::Timeout, "{operation}");
                assert!(start.elapsed() <= Duration::from_secs(121), "{operation}");
            }
            Err(_) => assert_eq!(operation, Operation::Wait),
        }
    }
    let start = Instant::now();
    engine
        .stop("agent-run-scripted", Duration::from_secs(300))
        .await
        .unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 320);
}

#[tokio::test]
async fn garbled_and_lost_answers_are_errors_of_the_call() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{]}",
        "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n{",
        "garbage\r\n\r\n",
        "",
    ] {
        let server = Server::engine(move |_| Reply::Raw(answer));
        let engine = server.connect().await.unwrap();
        for operation in CALLS {
            // These need the status only.
            let status_is_enough = matches!(
                operation,
                Operation::Start
                    | Operation::Stop
                    | Operation::RemoveContainer
                    | Operation::RemoveNetwork
                    | Operation::RemoveVolume
            );
            match call(&engine, operation).await {
                Ok(()) => assert!(
                    status_is_enough && answer.contains("200"),
                    "{operation} {answer:?}"
                ),
                Err(error) => {
                    assert_eq!(error.operation, operation);
                    assert!(
                        matches!(error.kind, ErrorKind::Broken(_)),
                        "{answer:?}: {error:?}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn what_the_engine_says_is_made_printable() {
    let message = "no\u{1b}[2J\u{202e}way\u{7}\u{0}";
    let server = Server::engine(move |_| Reply::Json(500, json!({ "message": message })));
    let engine = server.connect().await.unwrap();
    let error = engine.start("agent-run-scripted").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused("no[2Jway".into()));
}

fn state(status: &str, code: i64, oom: bool) -> Value {
    json!({"State": {"Status": status, "ExitCode": code, "OOMKilled": oom}})
}

#[tokio::test]
async fn an_exit_is_believed_only_when_it_is_one() {
    let lost = "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n";
    let said = "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"StatusCode\":7}";
    let missing = Reply::Json(404, json!({"message": "No such container: x"}));
    let exit = |code, oom_killed| Ok(Exit { code, oom_killed });
    for (answer, look, expected) in [
        (
            said,
            Reply::Json(200, state("exited", 7, true)),
            exit(7, true),
        ),
        (said, missing, exit(7, false)),
        (
            lost,
            Reply::Json(200, state("exited", 5, false)),
            exit(5, false),
        ),
        (lost, Reply::Json(200, state("running", 0, false)), Err(())),
        (said, Reply::Json(200, state("running", 0, false)), Err(())),
    ] {
        let look = Mutex::new(Some(look));
        let server = Server::engine(move |request| match request.what.as_str() {
            "POST /containers/agent-run-scripted/wait" => Reply::Raw(answer),
            "GET /_ping" => Reply::Header(200, "X: y"),
            _ => look.lock().unwrap().take().unwrap(),
        });
        let engine = server.connect().await.unwrap();
        let exit = engine.wait("agent-run-scripted").await;
        let exit = exit.map_err(|error| assert!(matches!(error.kind, ErrorKind::Broken(_))));
        assert_eq!(exit, expected);
    }
}

/// Answers as Docker 20.10 on cgroup v1 and Docker 24 on cgroup v2 give them.
#[tokio::test]
async fn usage_is_read_of_both_versions_of_cgroups() {
    let cpu = json!({
        "cpu_usage": {"total_usage": 33_399_138, "usage_in_kernelmode": 10_000_000, "usage_in_usermode": 10_000_000},
        "system_cpu_usage": 22_912_440_000_000_u64, "online_cpus": 2,
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    });
    let v1 = json!({"usage": 2_633_728, "max_usage": 4_435_968, "limit": 16_777_216, "stats": {
        "cache": 2_195_456, "inactive_file": 1, "total_inactive_file": 274_432,
        "active_file": 2, "total_active_file": 4096,
        "hierarchical_memory_limit": 9_223_372_036_854_771_712_u64,
    }});
    let v2 = json!({"usage": 11_902_976, "limit": 16_692_396_032_u64, "stats": {
        "anon": 4_096_000, "file": 7_000_064, "active_file": 212_992, "inactive_file": 6_782_976,
        "pgfault": 8003,
    }});
    let network = |received: u64| json!({"rx_bytes": received, "rx_packets": 1, "tx_bytes": 5, "tx_packets": 1});
    let used = |memory, droppable, highest_memory, received, sent| {
        Some(ContainerUsage {
            cpu: Duration::from_nanos(33_399_138),
            memory,
            droppable,
            highest_memory,
            received,
            sent,
        })
    };
    let answers = [
        (
            json!({"read": "2026-11-20T16:05:24.540248911Z", "preread": "0001-01-01T00:00:00Z", "cpu_stats": cpu, "memory_stats": v1,
                "networks": {"eth0": network(7), "eth1": network(1)}}),
            used(2_633_728, 278_528, Some(4_435_968), 8, 10),
        ),
        (
            json!({"read": "2026-11-20T16:05:24.540248911Z", "cpu_stats": cpu, "memory_stats": v2}),
            used(11_902_976, 6_995_968, None, 0, 0),
        ),
        // What they say of a container that does not run.
        (
            json!({"read": "0001-01-01T00:00:00Z", "cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}}),
            None,
        ),
        (json!({"id": "0123", "name": "/x"}), None),
    ];
    for (answer, expected) in answers {
        let server = Server::engine({
            let answer = answer.clone();
            move |_| Reply::Json(200, answer.clone())
        });
        let engine = server.connect().await.unwrap();
        let usage = engine.usage("agent-run-scripted").await.unwrap();
        assert_eq!(usage, expected, "{answer}");
        let asked = server.requests().pop().unwrap();
        assert_eq!(asked.what, "GET /containers/agent-run-scripted/stats");
        assert_eq!(asked.query, "stream=false&one-shot=true");
    }
}

#[tokio::test]
async fn a_removal_under_way_is_waited_for() {
    let server = Server::engine(|request| match request.what.as_str() {
        "DELETE /containers/agent-run-scripted" => {
            let message = "removal of container agent-run-scripted is already in progress";
            Reply::Json(409, json!({ "message": message }))
        }
        "POST /containers/agent-run-scripted/wait" => Reply::Json(200, json!({"StatusCode": 137})),
        other => panic!("{other}"),
    });
    let engine = server.connect().await.unwrap();
    engine.remove_container("agent-run-scripted").await.unwrap();
    assert!(server.was_asked("POST /containers/agent-run-scripted/wait"));
}

#[tokio::test]
async fn an_engine_that_would_not_keep_containers_apart_is_found_out() {
    let server = Server::engine(|request| match request.what.as_str() {
        "GET /networks" => Reply::Json(200, json!([])),
        "POST /networks/create" => Reply::Json(201, json!({"Id": "0123", "Warning": ""})),
        "GET /networks/agent-run-scripted" => Reply::Json(200, json!({"Options": {}})),
        "DELETE /networks/agent-run-scripted" => Reply::Json(204, json!(null)),
        other => panic!("{other}"),
    });
    let engine = server.connect().await.unwrap();
    let error = engine.create_network(&network()).await.unwrap_err();
    assert!(
        matches!(error.kind, ErrorKind::LimitNotHonoured(_)),
        "{error}"
    );
    assert!(server.was_asked("DELETE /networks/agent-run-scripted"));
}

#[tokio::test]
async fn info_tells_rootless_remapped_and_weak_engines_apart() {
    let cases = [
        (
            json!({"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}),
            true,
            None,
        ),
        (
            json!({"SecurityOptions": ["name=userns"], "DockerRootDir": "/var/lib/docker/100000.200000"}),
            false,
            Some((100_000, 200_000)),
        ),
        (
            json!({"SecurityOptions": [], "DockerRootDir": "/var/lib/docker/1.2"}),
            false,
            None,
        ),
    ];
    for (mut answer, rootless, userns_root) in cases {
        answer["NCPU"] = json!(3);
        answer["MemTotal"] = json!(1 << 30);
        answer["MemoryLimit"] = json!(true);
        answer["SwapLimit"] = json!(false);
        answer["CpuCfsQuota"] = json!(true);
        answer["CgroupVersion"] = json!("2");
        let server = Server::engine(move |_| Reply::Json(200, answer.clone()));
        let info = server.connect().await.unwrap().info().await.unwrap();
        assert_eq!((info.rootless, info.userns_root), (rootless, userns_root));
        assert_eq!((info.cpus, info.memory), (3, 1 << 30));
        assert_eq!(info.missing_limits, ["memswap_limit", "pids_limit"]);
        assert!(!info.remote);
        assert_eq!(info.cgroup_version, Some(2));
        assert_eq!(
            (info.version.as_str(), info.api_version.as_str()),
            ("20.10.1", "1.41")
        );
    }
    let server = Server::engine(|_| Reply::Json(200, json!({})));
    let error = server.connect().await.unwrap().info().await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Broken(_)), "{error}");
}

#[tokio::test]
async fn info_names_the_programs_of_the_engine_in_printable_words() {
    let server = Server::any_engine(|request| match request.what.as_str() {
        "GET /version" => Reply::Json(
            200,
            json!({
                "Version": "28.1.1",
                "ApiVersion": "1.49",
                "Platform": {"Name": "Docker Desktop 4.41.2 (191736)"},
                "Components": [
                    {"Name": "Engine", "Version": "28.1.1"},
                    {"Name": "runc", "Version": "1.2.5\u{1b}[31m"},
                ],
            }),
        ),
        _ => Reply::Json(200, json!({"NCPU": 1, "MemTotal": 1 << 30})),
    });
    let info = server.connect().await.unwrap().info().await.unwrap();
    let named = info.components.iter();
    let found: Vec<_> = named.map(|c| (&*c.name, &*c.version)).collect();
    let expected = [("runc", "1.2.5[31m"), ("Docker Desktop", "4.41.2 (191736)")];
    assert_eq!(found, expected);
}

/// An engine without the base image, whose build says that; after it, the image is there or not.
fn builder(answer: Value, status: u16) -> Server {
    let built = AtomicBool::new(false);
    Server::engine(move |request| match request.what.as_str() {
        "GET /images/agent-run-base:9/json" if built.load(Ordering::SeqCst) => Reply::Json(
            200,
            json!({"Id": "sha256:9", "Config": {"Entrypoint": null}}),
        ),
        "GET /images/agent-run-base:9/json" => Reply::Json(404, json!({"message": "none"})),
        "POST /build" => {
            built.store(true, Ordering::SeqCst);
            Reply::Json(status, answer.clone())
        }
        other => panic!("{other}"),
    })
}

fn base() -> ImageRequest {
    ImageRequest {
        reference: "agent-run-base:9".parse().unwrap(),
        pull_policy: PullPolicy::Missing,
        build: Some(BuildConfig::EmbeddedBase),
    }
}

#[tokio::test]
async fn the_embedded_base_is_built_and_not_pulled() {
    let server = builder(json!({"stream": "Step 1/1"}), 200);
    let engine = server.connect().await.unwrap();
    let image = engine.ensure_image(&base()).await.unwrap();
    assert_eq!((image.id.as_str(), image.entrypoint.len()), ("sha256:9", 0));
    let requests = server.requests();
    let build = requests.iter().find(|r| r.what == "POST /build").unwrap();
    assert!(
        build.query.contains("t=agent-run-base%3A9"),
        "{}",
        build.query
    );
    assert!(build.query.contains("agent-run.image") && !build.query.contains("schema"));
    let body = String::from_utf8_lossy(&build.body);
    assert!(body.starts_with("Dockerfile\0"));
    assert!(body.contains(include_str!("../../../images/base/Dockerfile")));
}

#[tokio::test]
async fn a_base_that_cannot_be_built_says_so_in_the_engines_words() {
    let no_registry = "Get \"https://registry.example/v2/\": dial tcp: no such host\u{1b}[0m";
    for (answer, status) in [
        (
            json!({"errorDetail": {"message": no_registry}, "error": no_registry}),
            200,
        ),
        (json!({ "message": no_registry }), 500),
        (json!({ "message": no_registry }), 404),
    ] {
        let server = builder(answer, status);
        let engine = server.connect().await.unwrap();
        match engine.ensure_image(&base()).await.unwrap_err().kind {
            ErrorKind::ImageUnavailable(words) => {
                assert!(words.contains("no such host[0m"), "{words:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}
