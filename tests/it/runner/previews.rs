//! Previews on the fake engine: told once people reach them, over when their time is, and why nobody
//! ever did.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_run::engine::{ErrorKind, Operation};
use agent_run::event::{BranchResult, EventKind, RunSummary, StopReason, TaskOutcome, TaskPhase};
use agent_run::runner::Shutdown;

use super::scene::{Scene, Seen, report, variable};
use super::setup::{all_good, make_deps};
use crate::fake::{Fault, Script};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const TABLE: [&str; 3] = ["/bin/cat", "/proc/net/tcp", "/proc/net/tcp6"];
const OPEN: &str = "   0: 00000000:0BB8 00000000:0000 0A 0:0 0:0 0 0 0 1\n";
const LOCAL: &str = "   0: 0100007F:0BB8 00000000:0000 0A 0:0 0:0 0 0 0 1\n";
const OTHER: &str = "   0: 00000000:0BB9 00000000:0000 0A 0:0 0:0 0 0 0 1\n";

const YAML: &str = "\
version: 1
defaults: { startup_timeout: 60s, retry: 3 }
tasks:
  a:
    run: work
    claim: x
    verify: check
    artifacts: [x]
    cache: [{ key: k, path: /home/agent/k }]
    ports: [8080]
    environment: { OWN: value }
    services: { db: { image: db, healthcheck: { test: [CMD, ready] } } }
    preview: { run: serve, port: 3000 }
";

/// A scene whose pod has these tables of sockets, one after the other; the last one stays.
fn scene(tables: &'static [&str]) -> Scene {
    let scene = Scene::new();
    for role in ["pod", "service", "preview"] {
        scene.engine.script(role, Script::runs_forever());
    }
    let words = |words: &[&str]| -> Vec<String> { words.iter().map(|&w| w.to_owned()).collect() };
    scene.engine.command(&words(&["ready"]), Script::exits(0));
    let asked = AtomicUsize::new(0);
    let table = Script::exits(0).replies(move |_, _| {
        let at = asked.fetch_add(1, Ordering::SeqCst);
        tables[at.min(tables.len() - 1)].into()
    });
    scene.engine.command(&words(&TABLE), table);
    scene
}

fn links(seen: &Seen) -> Vec<String> {
    let events = seen.events.iter();
    let links = events.filter_map(|event| match &event.kind {
        EventKind::Answers { port } => Some(port.link()),
        _ => None,
    });
    links.collect()
}

fn warnings(seen: &Seen) -> Vec<String> {
    let events = seen.events.iter();
    let messages = events.filter_map(|event| match &event.kind {
        EventKind::Warning { message } => Some(message.clone()),
        _ => None,
    });
    messages.collect()
}

/// Why nobody ever looked at it.
#[track_caller]
fn failure(scene: &Scene, summary: &RunSummary) -> String {
    scene.assert_nothing_left();
    match &report(summary, "a").outcome {
        TaskOutcome::Infra { stage, message } if stage == "preview" => message.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_told_once_it_answers_and_ends_when_its_time_is_over() {
    let scene = scene(&["", OTHER, OPEN]);
    let started = Arc::new(Mutex::new(Vec::new()));
    let configs = started.clone();
    let script = Script::runs_forever().on_start(move |config| {
        configs.lock().unwrap().push(config.clone());
    });
    scene.engine.script("preview", script);
    let mut seen = Seen::default();
    let summary = scene.previews(YAML, HOUR, &mut seen).await;
    scene.assert_nothing_left();
    let report = report(&summary, "a");
    assert!(report.is_good(), "{report:#?}");
    assert_eq!((report.attempt, report.ran), (1, HOUR));
    let branch = report.branch.as_ref().map(|branch| &branch.result);
    assert_eq!(branch, Some(&BranchResult::NoChange));
    assert!(report.verify.is_none() && report.artifacts.is_none());
    assert_eq!(links(&seen), ["http://127.0.0.1:43000"]);
    assert_eq!(warnings(&seen), Vec::<String>::new());
    let [config] = &started.lock().unwrap()[..] else {
        panic!("one container");
    };
    for (name, value) in [
        ("OWN", Some("value")),
        ("AGENT_PORT_3000", Some("43000")),
        ("AGENT_PORT_8080", None),
    ] {
        assert_eq!(variable(config, name).as_deref(), value, "{name}");
    }
    let is_mounted = |target| config.mounts.iter().any(|mount| mount.target == target);
    assert!(is_mounted("/workspace") && is_mounted("/agent/script"));
    assert!(!is_mounted("/agent/handoff") && !is_mounted("/home/agent/k"));
    let phases: Vec<TaskPhase> = report.phases.iter().map(|phase| phase.phase).collect();
    let wanted = [
        TaskPhase::Waiting,
        TaskPhase::Preparing,
        TaskPhase::Running,
        TaskPhase::Stopping,
    ];
    assert_eq!(phases, wanted);
    assert_eq!(scene.git(&["branch", "--list"]).trim(), "* main");
}

#[tokio::test(start_paused = true)]
async fn what_a_setup_makes_of_a_result_is_for_nobody_else() {
    let setup = "    setup: { run: make deps, files: [readme.md], paths: [deps] }\n";
    let yaml = YAML.replace(
        "    claim: x\n    verify: check\n    artifacts: [x]\n",
        setup,
    );
    let mut scene = scene(&[OPEN]);
    scene.engine.script("task", Scene::hands_off(0));
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let setup = Script::exits(0).on_exit(move |config| {
        counted.fetch_add(1, Ordering::SeqCst);
        make_deps(config);
    });
    scene.engine.script("setup", setup);
    for (run, is_preview, setups) in [
        ("261120-101501-aaaa", true, 1),
        ("261120-101501-bbbb", false, 2),
        ("261120-101501-cccc", true, 2),
    ] {
        scene.run = run.parse().unwrap();
        let summary = if is_preview {
            scene.previews(&yaml, HOUR, &mut Seen::default()).await
        } else {
            scene.run(&yaml).await
        };
        all_good(&summary);
        assert_eq!(runs.load(Ordering::SeqCst), setups, "{run}");
        scene.assert_nothing_left();
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_that_nobody_reaches_is_told_of_after_the_time_for_that() {
    for (tables, wanted) in [
        (
            &["", OTHER][..],
            "nothing listens on port 3000, 60 s (startup_timeout) after it was started",
        ),
        (
            &["", LOCAL],
            "port 3000 is open on its loopback alone: let the server listen on all addresses, as many do with \
             `--host 0.0.0.0`, 60 s (startup_timeout) after it was started",
        ),
    ] {
        let scene = scene(tables);
        let mut seen = Seen::default();
        let summary = scene.previews(YAML, HOUR, &mut seen).await;
        assert_eq!(failure(&scene, &summary), wanted);
        assert_eq!(report(&summary, "a").ran, 60 * SECOND);
        assert_eq!(links(&seen), Vec::<String>::new());
        let is_local = wanted.contains("loopback");
        assert_eq!(
            warnings(&seen).len(),
            usize::from(is_local),
            "{seen:?}",
            seen = warnings(&seen)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_answer_is_asked_for_no_longer_than_that() {
    let scene = scene(&[OPEN]);
    scene.engine.fault("pod", Operation::Exec, Fault::Hang);
    let summary = scene.previews(YAML, HOUR, &mut Seen::default()).await;
    let wanted = "nothing listens on port 3000, 60 s (startup_timeout) after it was started";
    assert_eq!(failure(&scene, &summary), wanted);
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_by_itself_says_how() {
    let scene = scene(&[""]);
    scene
        .engine
        .script("preview", Script::exits(0).after(SECOND));
    let summary = scene.previews(YAML, HOUR, &mut Seen::default()).await;
    let wanted = "its script ended with 0 before anybody could reach it";
    assert_eq!(failure(&scene, &summary), wanted);

    let scene = self::scene(&[""]);
    let script = Script::exits(3).after(SECOND).prints("no such module\n");
    scene.engine.script("preview", script);
    let mut seen = Seen::default();
    let summary = scene.previews(YAML, HOUR, &mut seen).await;
    scene.assert_nothing_left();
    let ended = report(&summary, "a");
    assert_eq!(ended.outcome, TaskOutcome::Failed { exit_code: 3 });
    assert_eq!(ended.last_lines, ["no such module"]);
    assert_eq!(seen.lines, ["a | no such module"]);

    let scene = self::scene(&[OPEN]);
    scene
        .engine
        .script("preview", Script::exits(0).after(60 * SECOND));
    let summary = scene.previews(YAML, HOUR, &mut Seen::default()).await;
    scene.assert_nothing_left();
    assert!(report(&summary, "a").is_good());
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_a_free_port_and_services_that_fail_are_told_of() {
    let scene = scene(&[OPEN]);
    let words = "driver failed programming external connectivity: all ports are allocated";
    let refused = Fault::Fail(ErrorKind::Refused(words.into()));
    scene.engine.fault("pod", Operation::Start, refused);
    let summary = scene.previews(YAML, HOUR, &mut Seen::default()).await;
    scene.assert_nothing_left();
    let ended = &report(&summary, "a").outcome;
    let told =
        matches!(ended, TaskOutcome::Infra { message, .. } if message.contains("has no free port"));
    assert!(told, "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_it_is_stopped_and_leaves_nothing() {
    let scene = scene(&[OPEN]);
    let stopped = async {
        tokio::time::sleep(600 * SECOND).await;
        let stop = Shutdown::Graceful(StopReason::Interrupted);
        scene.shutdown.send_replace(stop);
    };
    let mut seen = Seen::default();
    let (summary, ()) = tokio::join!(scene.previews(YAML, HOUR, &mut seen), stopped);
    scene.assert_nothing_left();
    assert_eq!(report(&summary, "a").outcome, TaskOutcome::Cancelled);
    assert_eq!(summary.stopped, Some(StopReason::Interrupted));
}

#[tokio::test(start_paused = true)]
async fn of_one_whose_process_died_nothing_is_collected() {
    let scene = scene(&[OPEN]);
    let mut seen = Seen::default();
    {
        let info = async { tokio::time::sleep(600 * SECOND).await };
        tokio::select! {
            biased;
            () = info => {}
            _ = scene.previews(YAML, HOUR, &mut seen) => panic!("it ended"),
        }
    }
    scene.is_dead().await;
    assert!(!scene.engine.owned().is_empty());
    // The next start ends what runs of it.
    let tidied = scene.tidied().await;
    assert_eq!(tidied.problems, Vec::<String>::new());
    let containers = tidied
        .removed
        .iter()
        .filter(|removed| removed.what == "container");
    assert_eq!(containers.count(), 3, "{tidied:?}");
    let cleaned = scene.cleaned().await;
    assert_eq!(cleaned.problems, Vec::<String>::new());
    assert!(cleaned.collected.is_empty(), "{cleaned:?}");
    scene.assert_nothing_left();
    assert_eq!(scene.git(&["branch", "--list"]).trim(), "* main");
}
