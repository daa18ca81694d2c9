//! The proxy of tasks with an allow-list, on the fake engine: one for all, there before they are, started
//! again where it ends, gone with the run.

use std::time::Duration;

use agent_run::engine::config::{ContainerConfig, NetworkAttachment};
use agent_run::engine::{ErrorKind, Operation, OutputSource};
use agent_run::event::{EventKind, HostUse, StopReason, TaskOutcome};
use agent_run::runner::Shutdown;

use super::scene::{Scene, Seen, report};
use super::setup::all_good;
use crate::fake::{Fault, Script, host_path};

const TWO: &str = "\
version: 1
defaults:
  egress: { allow: [www.example.com, '*.example.org:8443'] }
tasks:
  a: { run: x }
  b: { run: x, verify: y }
  open: { run: x, egress: null }
";

/// How long a task with a list runs.
const TASKS: Duration = Duration::from_secs(60);

/// The proxy as its image's programs are.
fn proxy() -> Script {
    Script::runs_forever().on_start(|config| {
        let conf = std::fs::read_to_string(host_path(config, "/agent/proxy/squid.conf")).unwrap();
        assert!(conf.ends_with("http_access deny all\n"), "{conf}");
        assert!(host_path(config, "/egress/way-1").is_dir());
        assert!(config.read_only && config.capabilities.is_empty());
        assert!(matches!(config.network, NetworkAttachment::Network { .. }));
    })
}

fn scene(proxy: Script) -> Scene {
    let scene = Scene::new();
    scene.engine.script("egress", proxy);
    scene.engine.script("task", Scene::hands_off(0));
    for task in ["task/a", "task/b", "verify/b"] {
        let script = Scene::hands_off(0).after(TASKS);
        scene.engine.script(task, script.on_start(is_listed));
    }
    scene
}

/// A task with a list has no network, and finds its socket, the forwarder and its proxy.
fn is_listed(config: &ContainerConfig) {
    assert_eq!(config.network, NetworkAttachment::None);
    for inside in ["/agent/egress", "/agent/forward"] {
        let mount = config.mounts.iter().find(|mount| mount.target == inside);
        assert!(mount.is_some_and(|mount| mount.read_only && mount.source.is_dir()));
    }
    let value = |name: &str| {
        let found = config.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(value("https_proxy"), Some("http://127.0.0.1:3128"));
    assert_eq!(value("NO_PROXY"), Some("localhost,127.0.0.1,::1"));
}

fn warnings(seen: &Seen) -> Vec<String> {
    let events = seen.events.iter();
    let messages = events.filter_map(|event| match &event.kind {
        EventKind::Warning { message } => Some(message.clone()),
        _ => None,
    });
    messages.collect()
}

fn count(scene: &Scene, operation: Operation) -> usize {
    let calls = scene.engine.calls();
    let of_proxy = calls
        .iter()
        .filter(|(made, name)| *made == operation && name.contains("-egress-"));
    of_proxy.count()
}

#[tokio::test(start_paused = true)]
async fn one_proxy_serves_all_and_tells_who_asked_for_what() {
    let asked = "egress 127.64.0.1 TCP_DENIED/403 403 evil.example 443\n\
                 egress 127.64.0.1 TCP_DENIED/403 403 EVIL.example 443\n\
                 egress 127.64.0.2 TCP_TUNNEL 200 www.example.com 443\n\
                 egress 127.64.0.2 NONE_NONE/400 400 - 0\n\
                 egress 127.64.0.9 TCP_DENIED 403 nobody.example 443\n\
                 egress 127.64.0.0 TCP_TUNNEL 200 trial.example 443\n\
                 some other words\nunreached www.example.com:443 503\n";
    let late = Duration::from_secs(30);
    let proxy = proxy().prints("ready\n");
    let proxy = proxy.writes(late, OutputSource::Stdout, &asked.as_bytes()[..100]);
    let proxy = proxy.writes(late, OutputSource::Stdout, &asked.as_bytes()[100..]);
    let scene = scene(proxy);
    let mut seen = Seen::default();
    let summary = scene.observed(TWO, &mut seen).await.unwrap();
    all_good(&summary);
    let used = |host: &str, port, passed, denied| HostUse {
        host: host.into(),
        port,
        passed,
        denied,
    };
    let told: Vec<_> = summary
        .egress
        .iter()
        .map(|e| (e.task.as_str(), e.hosts.clone()))
        .collect();
    assert_eq!(
        told,
        [
            ("a", vec![used("evil.example", 443, 0, 2)]),
            (
                "b",
                vec![used("-", 0, 0, 1), used("www.example.com", 443, 1, 0)]
            ),
        ]
    );
    let denied = seen.events.iter().filter_map(|event| match &event.kind {
        EventKind::EgressDenied { host, port } => {
            Some((event.task.clone()?.to_string(), host.clone(), *port))
        }
        _ => None,
    });
    let denied: Vec<_> = denied.collect();
    assert_eq!(
        denied,
        [
            ("a".to_owned(), "evil.example".to_owned(), 443),
            ("b".to_owned(), "-".to_owned(), 0)
        ]
    );
    let reached =
        "www.example.com:443 of an allow-list is not reached by the egress proxy: HTTP status 503";
    assert_eq!(warnings(&seen), [reached]);
    assert_eq!(count(&scene, Operation::Start), 1);
    scene.assert_nothing_left();
    assert!(!scene.state().egress(&scene.run).exists());
}

#[tokio::test(start_paused = true)]
async fn without_a_proxy_a_task_that_needs_it_fails() {
    for (script, why) in [
        (proxy().prints("words\n"), "it was not ready within 60 s"),
        (
            Script::exits(1).prints("words\n"),
            "it ended with exit code 1",
        ),
    ] {
        let scene = scene(script);
        let summary = scene.run(TWO).await;
        assert_eq!(report(&summary, "open").outcome, TaskOutcome::Succeeded);
        for task in ["a", "b"] {
            match &report(&summary, task).outcome {
                TaskOutcome::Infra { stage, message } if stage == "egress" => {
                    assert!(message.starts_with(why), "{message}");
                    assert!(message.contains("egress.log"), "{message}");
                }
                other => panic!("{other:?}"),
            }
        }
        // Each was started and waits in its wrapper, for what does not come: its time is not waited for.
        assert!(
            summary.took < Duration::from_secs(100),
            "{:?}",
            summary.took
        );
        scene.assert_nothing_left();
        let log = scene.state().egress_log(&scene.run);
        assert!(std::fs::read_to_string(log).unwrap().contains("words"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_ends_is_said_and_started_again() {
    let scene = scene(proxy().prints("ready\n").after(Duration::from_secs(20)));
    let mut seen = Seen::default();
    let summary = scene.observed(TWO, &mut seen).await.unwrap();
    all_good(&summary);
    let said = warnings(&seen);
    assert!(said.len() >= 2, "{said:?}");
    for message in &said {
        assert!(
            message.contains("the egress proxy does not run"),
            "{message}"
        );
        assert!(message.contains("reach nothing"), "{message}");
    }
    assert!(count(&scene, Operation::Start) > said.len());
    scene.assert_nothing_left();
}

/// The time of a task that starts meanwhile begins once it can reach what is on its list.
#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_started_again_is_waited_for() {
    let scene = scene(proxy().prints("ready\n").after(Duration::from_secs(55)));
    let slow = Duration::from_secs(20);
    let name = format!("agent-run-{}-egress-proxy", scene.run);
    let again = ((Operation::CreateContainer, name), 2);
    scene.engine.fault_at(again, Fault::Slow(slow));
    let one_by_one = TWO.replace("version: 1", "version: 1\nmax_parallel: 1");
    let summary = scene.run(&one_by_one).await;
    all_good(&summary);
    assert!(scene.engine.went_wrong());
    let [a, b] = ["a", "b"].map(|task| report(&summary, task).ran);
    assert!(a >= TASKS, "{a:?}");
    // Its container was there all that time, but for what the proxy had begun before.
    assert!(b + Duration::from_secs(10) < TASKS, "{b:?}");
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn whatever_call_of_it_goes_wrong_ends_nothing_else() {
    for operation in [
        Operation::EnsureImage,
        Operation::CreateContainer,
        Operation::Attach,
        Operation::Start,
        Operation::RemoveContainer,
        Operation::Stop,
        Operation::Wait,
    ] {
        let scene = scene(proxy().prints("ready\n").after(Duration::from_secs(20)));
        let subject = match operation {
            Operation::EnsureImage => concat!("agent-run-egress-proxy:", env!("CARGO_PKG_VERSION")),
            _ => "egress",
        };
        scene
            .engine
            .fault_once(subject, operation, Fault::Fail(ErrorKind::Timeout));
        let summary = scene.run(TWO).await;
        assert_eq!(
            report(&summary, "open").outcome,
            TaskOutcome::Succeeded,
            "{operation}"
        );
        for task in ["a", "b"] {
            let outcome = &report(&summary, task).outcome;
            let is_fine = match outcome {
                TaskOutcome::Succeeded => true,
                TaskOutcome::Infra { stage, .. } => stage == "egress" || stage == "image",
                _ => false,
            };
            assert!(is_fine, "{operation}: {outcome:?}");
        }
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_waits_for_no_proxy() {
    let scene = scene(proxy());
    let stop = scene.shutdown.clone();
    let stopped = Shutdown::Graceful(StopReason::Interrupted);
    let proxy = proxy().on_start(move |_| {
        stop.send_replace(stopped);
    });
    scene.engine.script("egress", proxy);
    let summary = scene.run(TWO).await;
    for task in ["a", "b"] {
        assert_eq!(report(&summary, task).outcome, TaskOutcome::Cancelled);
    }
    assert!(summary.took < Duration::from_secs(20), "{:?}", summary.took);
    scene.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_being_made_is_not_given_up_half_way() {
    let scene = scene(proxy());
    let slow = Duration::from_secs(40);
    let create = Operation::CreateContainer;
    scene.engine.fault_once("egress", create, Fault::Slow(slow));
    let stop = scene.shutdown.clone();
    let stopped = Shutdown::Graceful(StopReason::Interrupted);
    let open = Scene::hands_off(0).on_start(move |_| {
        stop.send_replace(stopped);
    });
    scene.engine.script("task/open", open);
    let summary = scene.run(TWO).await;
    // The engine may make it whoever waits: then it must be there to be removed.
    assert!(summary.took >= slow, "{:?}", summary.took);
    assert_eq!(count(&scene, Operation::Start), 1);
    scene.assert_nothing_left();
}
