//! Services on the fake engine: there before their task, in their order, gone after it; what becomes of a
//! task whose services fail.

use std::time::Duration;

use agent_run::engine::config::{ContainerConfig, NetworkAttachment};
use agent_run::engine::{ErrorKind, ImageInfo, Operation};
use agent_run::event::{EventKind, StopReason, TaskOutcome, TaskReport};
use agent_run::id::{AttemptId, Role};
use agent_run::runner::Shutdown;

use super::scene::{Scene, Seen, report, variable};
use crate::fake::{Fault, Script};

const SECOND: Duration = Duration::from_secs(1);
const TABLE: [&str; 3] = ["/bin/cat", "/proc/net/tcp", "/proc/net/tcp6"];

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A scene whose services run until they are stopped, and are ready at once.
fn scene() -> Scene {
    let scene = Scene::new();
    for role in ["pod", "service", "verify-pod", "verify-service"] {
        scene.engine.script(role, Script::runs_forever());
    }
    scene
        .engine
        .script("task", Scene::hands_off(0).after(SECOND));
    scene.engine.command(&words(&["ready"]), Script::exits(0));
    scene
}

fn yaml(task: &str) -> String {
    format!("version: 1\ntasks:\n  a: {{ run: x, {task} }}\n")
}

const DB: &str =
    "services: { db: { image: db, healthcheck: { test: [CMD, ready], interval: 10s } } }";

async fn ended(scene: &Scene, yaml: &str, seen: &mut Seen) -> TaskReport {
    let summary = scene.observed(yaml, seen).await.unwrap();
    scene.assert_nothing_left();
    report(&summary, "a").clone()
}

fn warnings(seen: &Seen) -> Vec<String> {
    let events = seen.events.iter();
    let messages = events.filter_map(|event| match &event.kind {
        EventKind::Warning { message } => Some(message.clone()),
        _ => None,
    });
    messages.collect()
}

#[track_caller]
fn failure(report: &TaskReport) -> String {
    match &report.outcome {
        TaskOutcome::Infra { stage, message } if stage == "services" => message.clone(),
        other => panic!("{other:?}"),
    }
}

/// The names that were started, without the run's.
fn started(scene: &Scene) -> Vec<String> {
    let prefix = format!("agent-run-{}-", scene.run);
    let calls = scene.engine.calls().into_iter();
    let starts = calls.filter(|(operation, _)| *operation == Operation::Start);
    let names = starts.filter_map(|(_, name)| name.strip_prefix(&prefix).map(str::to_owned));
    names.filter(|name| !name.starts_with("probe")).collect()
}

fn is_hardened(config: &ContainerConfig) {
    let kept = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "KILL",
        "SETGID",
        "SETUID",
    ];
    assert_eq!(config.capabilities, kept);
    assert!(config.mounts.is_empty() && config.volumes.is_empty());
    assert_eq!(config.limits.memory, 64 << 20);
    assert_eq!(config.limits.memory_swap, 64 << 20);
    assert_eq!(config.limits.pids, 512);
    let shared = matches!(&config.network, NetworkAttachment::Shared { container } if container.ends_with("-1-pod-a"));
    assert!(shared, "{:?}", config.network);
}

const ORDERED: &str = "\
version: 1
tasks:
  a:
    run: x
    NETWORK
    services:
      web: { image: web, mem_limit: 64m, depends_on: { db: { condition: service_healthy } }, healthcheck: { disable: true } }
      db: { image: db, mem_limit: 64m, command: serve, environment: { A: b }, healthcheck: { test: [CMD, ready] } }
";

async fn in_order(network: &str, pod_is: fn(&NetworkAttachment) -> bool) {
    let scene = scene();
    scene
        .engine
        .script("service", Script::runs_forever().on_start(is_hardened));
    let pod = Script::runs_forever().on_start(move |config| {
        assert!(pod_is(&config.network), "{:?}", config.network);
        assert_eq!(config.local_names, ["web", "db"]);
        assert_eq!(config.host_name, "a");
        assert!(config.read_only && config.capabilities.is_empty());
    });
    scene.engine.script("pod", pod);
    let task = Scene::hands_off(0).on_start(|config| {
        let shared = matches!(&config.network, NetworkAttachment::Shared { container } if container.ends_with("-1-pod-a"));
        assert!(shared && config.mounts.iter().all(|mount| mount.target != "/etc/hosts"));
    });
    scene.engine.script("task", task);
    let report = ended(
        &scene,
        &ORDERED.replace("NETWORK", network),
        &mut Seen::default(),
    )
    .await;
    assert!(report.is_good(), "{report:#?}");
    assert_eq!(
        started(&scene),
        ["1-pod-a", "1-service-db.a", "1-service-web.a", "1-a"]
    );
}

#[tokio::test(start_paused = true)]
async fn they_are_there_before_the_task_in_their_order_and_gone_after_it() {
    in_order("", |network| {
        matches!(network, NetworkAttachment::Network { .. })
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_task_without_a_network_has_its_services_all_the_same() {
    in_order("network_mode: none", |network| {
        *network == NetworkAttachment::None
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_never_ready_fails_the_task_with_its_last_words() {
    let scene = scene();
    scene
        .engine
        .script("service", Script::runs_forever().prints("cannot bind\n"));
    let check = Script::exits(1).prints("no answer\nconnection refused\n");
    scene.engine.command(&words(&["ready"]), check);
    let report = ended(&scene, &yaml(DB), &mut Seen::default()).await;
    let message = failure(&report);
    for part in [
        "service `db` was not ready after 30 s",
        "no answer / connection refused",
        "its log: ",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(report.last_lines, ["cannot bind"]);
    let log = report.log.expect("a log");
    let log = std::fs::read_to_string(log).expect("a file");
    assert!(log.contains("cannot bind"), "{log}");
    assert!(!started(&scene).contains(&"1-a".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn startup_timeout_bounds_it() {
    let scene = scene();
    scene.engine.command(&words(&["ready"]), Script::exits(1));
    let lines = format!("startup_timeout: 7s, {DB}");
    let report = ended(&scene, &yaml(&lines), &mut Seen::default()).await;
    let message = failure(&report);
    assert!(
        message.contains("within startup_timeout (7 s): the check ended with exit code 1"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_at_once_fails_the_task() {
    for (script, how) in [
        (Script::exits(0), "exit code 0"),
        (Script::exits(3).after(SECOND), "exit code 3"),
        (
            Script::exits(137).oom_killed(),
            "out of memory (`mem_limit: 512m`, exit code 137)",
        ),
    ] {
        let scene = scene();
        scene.engine.script("service", script);
        scene.engine.command(&words(&["ready"]), Script::exits(1));
        let report = ended(&scene, &yaml(DB), &mut Seen::default()).await;
        let message = failure(&report);
        let wanted = format!("service `db` ended before it was ready: {how}");
        assert!(message.contains(&wanted), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_the_first_time_is_tried_again_and_passes() {
    let scene = scene();
    let first = format!("agent-run-{}-1-service-db.a", scene.run);
    scene.engine.script(&first, Script::exits(1));
    let not_running = Fault::Fail(ErrorKind::NotFound);
    scene.engine.fault(&first, Operation::Exec, not_running);
    let lines = format!("{DB}, retry: {{ max: 1, when: service_failure }}");
    let report = ended(&scene, &yaml(&lines), &mut Seen::default()).await;
    assert!(report.is_good(), "{report:#?}");
    let [earlier] = &report.earlier_attempts[..] else {
        panic!("{report:#?}");
    };
    assert!(failure(earlier).contains("ended before it was ready: exit code 1"));
}

#[tokio::test(start_paused = true)]
async fn other_failures_are_none_of_services() {
    let scene = scene();
    scene.engine.script("service", Script::exits(1));
    scene.engine.command(&words(&["ready"]), Script::exits(1));
    let lines = format!("{DB}, retry: {{ max: 1, when: infra_failure }}");
    let report = ended(&scene, &yaml(&lines), &mut Seen::default()).await;
    assert!(report.earlier_attempts.is_empty());
    failure(&report);
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_in_mid_task_is_told_while_the_task_goes_on() {
    let scene = scene();
    let dies = Script::exits(137).oom_killed().after(60 * SECOND);
    scene.engine.script("service", dies);
    scene
        .engine
        .script("task", Scene::hands_off(0).after(600 * SECOND));
    let mut seen = Seen::default();
    let report = ended(&scene, &yaml(DB), &mut seen).await;
    assert!(report.is_good(), "{report:#?}");
    let told = warnings(&seen);
    assert_eq!(told.len(), 1, "{told:?}");
    let wanted = "service `db` has ended while its task goes on: out of memory";
    assert!(told[0].starts_with(wanted), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_was_ready_and_is_not_any_more_is_told_once() {
    let scene = scene();
    let engine = scene.engine.clone();
    let task = Scene::hands_off(0).after(600 * SECOND);
    let task = task.on_start(move |_| {
        engine.command(&words(&["ready"]), Script::exits(2).prints("gone\n"));
    });
    scene.engine.script("task", task);
    let mut seen = Seen::default();
    let report = ended(&scene, &yaml(DB), &mut seen).await;
    assert!(report.is_good(), "{report:#?}");
    let told = warnings(&seen);
    assert_eq!(told.len(), 1, "{told:?}");
    let wanted = "service `db` is not healthy while its task goes on: the check ended with exit code 2, its output: gone";
    assert!(told[0].starts_with(wanted), "{told:?}");
}

fn listens_on(port: u16) -> Script {
    let line = format!("   0: 00000000:{port:04X} 00000000:0000 0A 0:0 0:0 0 0 0 1\n");
    Script::exits(0).prints(&line)
}

#[tokio::test(start_paused = true)]
async fn without_a_healthcheck_an_open_port_says_that_it_is_ready() {
    for (of_image, service, open, is_ready) in [
        (vec![], "expose: [80, 81]", 80, false),
        (vec![], "expose: [80]", 80, true),
        (vec![81, 443], "pull_policy: never", 443, true),
        (vec![81, 443], "pull_policy: never", 80, false),
    ] {
        let scene = scene();
        let image = ImageInfo {
            id: "sha256:db".into(),
            command: words(&["serve"]),
            ports: of_image,
            ..ImageInfo::default()
        };
        scene.engine.set_image("db", image);
        scene.engine.command(&words(&TABLE), listens_on(open));
        let lines = format!("startup_timeout: 20s, services: {{ db: {{ image: db, {service} }} }}");
        let report = ended(&scene, &yaml(&lines), &mut Seen::default()).await;
        assert_eq!(report.is_good(), is_ready, "{service}: {report:#?}");
        if !is_ready {
            assert!(
                failure(&report).contains("nothing listens on port 81"),
                "{report:#?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_which_nothing_says_when_it_is_ready_is_no_service() {
    let scene = scene();
    let report = ended(
        &scene,
        &yaml("services: { db: { image: db } }"),
        &mut Seen::default(),
    )
    .await;
    let message = failure(&report);
    assert!(
        message.contains("has no HEALTHCHECK and exposes no port"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_check_has_services_of_its_own_after_those_of_the_task() {
    let scene = scene();
    let engine = scene.engine.clone();
    scene.engine.script("task", Scene::commits("work", "1"));
    let check = Script::exits(0).on_start(move |config| {
        let shared = matches!(&config.network, NetworkAttachment::Shared { container } if container.ends_with("-1-verify-pod-a"));
        assert!(shared);
        let names = engine.containers().into_iter().map(|config| config.name);
        let of_task: Vec<String> = names.filter(|name| name.contains("-1-service-")).collect();
        assert!(of_task.is_empty(), "{of_task:?}");
    });
    scene.engine.script("verify", check);
    let lines = format!("{DB}, verify: test");
    let report = ended(&scene, &yaml(&lines), &mut Seen::default()).await;
    assert!(report.is_good(), "{report:#?}");
    let started = started(&scene);
    let of_check = ["1-verify-pod-a", "1-verify-service-db.a", "1-verify-a"];
    assert_eq!(started[3..], of_check, "{started:?}");
    let attempt = AttemptId {
        run: scene.run.clone(),
        task: "a".parse().unwrap(),
        number: 1,
    };
    let db = "db".parse().unwrap();
    for role in [Role::Service, Role::VerifyService] {
        assert!(scene.state().service_log(&attempt, role, &db).is_file());
    }
}

#[tokio::test(start_paused = true)]
async fn services_of_a_check_that_fail_have_the_same_cause() {
    let scene = scene();
    scene.engine.script("task", Scene::commits("work", "1"));
    scene.engine.script("verify-service", Script::exits(1));
    scene.engine.fault(
        "verify-service",
        Operation::Exec,
        Fault::Fail(ErrorKind::NotFound),
    );
    let lines = format!("{DB}, verify: test");
    let report = ended(&scene, &yaml(&lines), &mut Seen::default()).await;
    let message = failure(&report);
    assert!(
        message.contains("service `db` ended before it was ready"),
        "{message}"
    );
    assert!(report.branch.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_while_one_is_waited_for_leaves_nothing() {
    let scene = scene();
    let stop = scene.shutdown.clone();
    let server = Script::runs_forever().on_start(move |_| {
        stop.send_replace(Shutdown::Graceful(StopReason::Interrupted));
    });
    scene.engine.script("service", server);
    scene.engine.command(&words(&["ready"]), Script::exits(1));
    let report = ended(&scene, &yaml(DB), &mut Seen::default()).await;
    assert_eq!(report.outcome, TaskOutcome::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_on_watches_the_services_of_what_still_runs() {
    let scene = scene();
    scene.engine.script(
        "service",
        Script::exits(4).after(100 * SECOND).prints("here\n"),
    );
    scene
        .engine
        .script("task", Scene::hands_off(0).after(200 * SECOND));
    let yaml = yaml(DB);
    let killed = tokio::time::sleep(10 * SECOND);
    scene.killed(&yaml, &mut Seen::default(), killed).await;
    let mut seen = Seen::default();
    let summary = scene.resumed(&yaml, &mut seen).await.unwrap();
    assert!(report(&summary, "a").is_good(), "{summary:#?}");
    let told = warnings(&seen);
    let wanted = "service `db` has ended while its task goes on: exit code 4";
    assert!(told.iter().any(|told| told.starts_with(wanted)), "{told:?}");
    assert_eq!(started(&scene).len(), 3);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn the_memory_of_services_counts() {
    let scene = scene();
    scene.engine.set_info(|info| info.memory = 4 << 30);
    // Each by itself takes more than half of it.
    let one = "run: x, mem_limit: 1g, services: { db: { image: db, mem_limit: 1g, healthcheck: { test: [CMD, ready] } } }";
    let yaml = format!("version: 1\nmax_parallel: 2\ntasks:\n  a: {{ {one} }}\n  b: {{ {one} }}\n");
    let engine = scene.engine.clone();
    let task = Scene::hands_off(0).after(SECOND).on_start(move |_| {
        let names = engine.containers().into_iter().map(|config| config.name);
        let pods = names.filter(|name| name.contains("-pod-")).count();
        assert_eq!(pods, 1);
    });
    scene.engine.script("task", task);
    let summary = scene.run(&yaml).await;
    assert!(
        summary.tasks.iter().all(TaskReport::is_good),
        "{summary:#?}"
    );
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_task_with_ports_knows_where_they_are_before_it_starts() {
    let scene = scene();
    let pod = Script::runs_forever().on_start(|config| {
        let ports: Vec<_> = config.publish.iter().map(|port| port.port).collect();
        assert_eq!(ports, [3000, 8080]);
        assert!(config.publish[0].address.is_loopback());
        assert!(config.publish[1].address.is_unspecified());
    });
    scene.engine.script("pod", pod);
    let task = Scene::hands_off(0).on_start(|config| {
        assert!(config.publish.is_empty());
        assert_eq!(
            variable(config, "AGENT_PORT_3000").as_deref(),
            Some("43000")
        );
        assert_eq!(
            variable(config, "AGENT_PORT_8080").as_deref(),
            Some("48080")
        );
    });
    scene.engine.script("task", task);
    // Nobody looks at a check.
    scene.engine.script(
        "verify",
        Scene::hands_off(0).on_start(|config| {
            assert_eq!(variable(config, "AGENT_PORT_3000"), None);
        }),
    );
    let yaml = yaml("ports: [3000, '0.0.0.0::8080'], verify: x");
    let mut seen = Seen::default();
    let report = ended(&scene, &yaml, &mut seen).await;
    assert!(report.is_good(), "{report:#?}");
    let told = seen.events.iter().find_map(|event| match &event.kind {
        EventKind::Ports { ports } => Some(ports.clone()),
        _ => None,
    });
    assert_eq!(told.as_ref(), Some(&report.ports));
    let words: Vec<String> = report.ports.iter().map(ToString::to_string).collect();
    let links = [
        "3000 at http://127.0.0.1:43000",
        "8080 at http://127.0.0.1:48080",
    ];
    assert_eq!(words, links);
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_a_free_port_is_told_of() {
    let words =
        "driver failed programming external connectivity on endpoint x: all ports are allocated";
    for (operation, fault, wanted) in [
        (
            Operation::Start,
            Fault::Fail(ErrorKind::Refused(words.into())),
            "the engine's machine has no free port for `ports`: end what holds them (`ss -ltnp`), or run \
             fewer tasks at once with `max_parallel`: ",
        ),
        (
            Operation::Published,
            Fault::Lie,
            "the engine does not say where port 3000 is published",
        ),
    ] {
        let scene = scene();
        scene.engine.fault("pod", operation, fault);
        let report = ended(&scene, &yaml("ports: [3000]"), &mut Seen::default()).await;
        let message = failure(&report);
        assert!(message.starts_with(wanted), "{message}");
    }
}
