//! What every engine does: the same functions run against the fake and against Docker, so that
//! the fake cannot drift from what it stands for.

mod exec;
mod images;
mod shared;
mod sides;
mod volumes;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use agent_run::engine::config::{
    ContainerConfig, ImageRequest, Limits, Mount, NetworkAttachment, NetworkConfig, PullPolicy,
    Trusted,
};
use agent_run::engine::{Engine, ErrorKind, Exit, OutputSource, OutputStream, OwnedKind};
use agent_run::id::{AttemptId, Role, label};
use agent_run::secrets::SecretBytes;
use futures::StreamExt;
use tokio::time::Instant;

use crate::docker::{self, Scope};
use crate::fake::FakeEngine;
use exec::{
    a_command_has_output_and_an_exit_code, a_command_needs_a_container_that_runs,
    a_command_reads_its_input_to_the_end,
};
use images::an_image_is_made_of_a_container_and_removed;
use shared::a_network_is_shared_by_a_container_that_runs;
use sides::{Docker, Does, Fake, Side};
use volumes::{
    a_container_needs_its_volumes, a_volume_is_made_once_and_found_by_its_labels,
    a_volume_stays_while_a_container_has_it,
};

const MIB: i64 = 1 << 20;

/// A container without network that does something.
fn container(side: &impl Side, does: Does) -> ContainerConfig {
    let name = side.scope().container();
    let command = side.teach(&name, does);
    plain_container(&name, command)
}

/// A container without network, with small limits.
pub fn plain_container(name: &str, command: Vec<String>) -> ContainerConfig {
    ContainerConfig {
        name: name.to_owned(),
        labels: attempt().labels(Role::Task),
        image: docker::BASE_IMAGE.into(),
        entrypoint: Vec::new(),
        command,
        environment: vec![("GREETING".into(), "hello".into())],
        working_dir: "/".into(),
        user: "10001:10001".into(),
        host_name: "contract".into(),
        local_names: Vec::new(),
        mounts: Vec::new(),
        volumes: Vec::new(),
        limits: Limits {
            nano_cpus: 1_000_000_000,
            memory: 64 * MIB,
            memory_swap: 64 * MIB,
            pids: 32,
            shm_size: 16 * MIB,
            ulimits: BTreeMap::new(),
            tmpfs: BTreeMap::new(),
        },
        capabilities: &[],
        trusted: Trusted::default(),
        read_only: false,
        network: NetworkAttachment::None,
        publish: Vec::new(),
        runtime: None,
        stop_signal: None,
        stop_timeout: Duration::from_secs(5),
        open_stdin: false,
    }
}

fn attempt() -> AttemptId {
    AttemptId {
        run: "260101-000000-aaaa".parse().unwrap(),
        task: "contract".parse().unwrap(),
        number: 1,
    }
}

/// A network of the scope, on a subnet that is free.
pub async fn network(engine: &impl Engine, scope: &Scope) -> NetworkConfig {
    let name = scope.network();
    loop {
        let config = NetworkConfig {
            name: name.clone(),
            labels: agent_run::id::network_labels(),
            subnet: scope.subnet(),
            prefix: 28,
        };
        match engine.create_network(&config).await {
            Ok(()) => return config,
            Err(error) if error.kind == ErrorKind::AddressInUse => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Creates, attaches and starts.
pub async fn launch(engine: &impl Engine, config: &ContainerConfig) -> OutputStream {
    engine.create_container(config).await.unwrap();
    let output = engine.attach(&config.name, None).await.unwrap();
    engine.start(&config.name).await.unwrap();
    output
}

/// All that is left of an output: standard output and standard error.
pub async fn read_all(mut output: OutputStream) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(frame) = output.next().await {
        let frame = frame.unwrap();
        match frame.source {
            OutputSource::Stdout => out.extend_from_slice(&frame.bytes),
            OutputSource::Stderr => err.extend_from_slice(&frame.bytes),
        }
    }
    (
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

/// Waits for the first frame: a container that has spoken has set its traps.
async fn until_ready(output: &mut OutputStream) {
    let first = output.next().await.unwrap().unwrap();
    assert_eq!(first.bytes, "ready\n");
}

fn ended(code: i64) -> Exit {
    Exit {
        code,
        oom_killed: false,
    }
}

async fn a_life_in_order(side: impl Side) {
    let engine = side.engine();
    let config = container(&side, Does::Exits(0));
    let output = launch(engine, &config).await;
    assert_eq!(engine.wait(&config.name).await.unwrap(), ended(0));
    assert_eq!(read_all(output).await, (String::new(), String::new()));
    engine.remove_container(&config.name).await.unwrap();
    let owned = engine.list_owned().await.unwrap();
    assert!(owned.iter().all(|object| object.name != config.name));
}

async fn a_non_zero_exit_is_a_value(side: impl Side) {
    let engine = side.engine();
    let config = container(&side, Does::Exits(7));
    drop(launch(engine, &config).await);
    assert_eq!(engine.wait(&config.name).await.unwrap(), ended(7));
    // One that has already ended answers the same.
    assert_eq!(engine.wait(&config.name).await.unwrap(), ended(7));
    engine
        .stop(&config.name, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(engine.wait(&config.name).await.unwrap(), ended(7));
    engine.remove_container(&config.name).await.unwrap();
}

async fn output_is_complete(side: impl Side) {
    let engine = side.engine();
    let config = container(&side, Does::Speaks);
    let output = launch(engine, &config).await;
    let whole = ("out\ntail".into(), "err\n".into());
    assert_eq!(read_all(output).await, whole);
    assert_eq!(engine.wait(&config.name).await.unwrap(), ended(0));
    let kept = engine.logs(&config.name, true).await.unwrap();
    assert_eq!(read_all(kept).await, whole, "the engine keeps it");
    engine.remove_container(&config.name).await.unwrap();
}

async fn stop_and_removal_are_idempotent(side: impl Side) {
    let engine = side.engine();
    let (never, no_network) = (side.scope().container(), side.scope().network());
    engine.stop(&never, Duration::ZERO).await.unwrap();
    engine.remove_container(&never).await.unwrap();
    engine.remove_network(&no_network).await.unwrap();

    let config = container(&side, Does::Exits(0));
    engine.create_container(&config).await.unwrap();
    engine.stop(&config.name, Duration::ZERO).await.unwrap();
    engine.remove_container(&config.name).await.unwrap();
    engine.remove_container(&config.name).await.unwrap();
    engine.stop(&config.name, Duration::ZERO).await.unwrap();

    let network = network(engine, side.scope()).await;
    engine.remove_network(&network.name).await.unwrap();
    engine.remove_network(&network.name).await.unwrap();
}

async fn stop_is_obeyed(side: impl Side) {
    let engine = side.engine();
    let config = container(&side, Does::Waits);
    let mut output = launch(engine, &config).await;
    until_ready(&mut output).await;
    let start = Instant::now();
    engine
        .stop(&config.name, Duration::from_secs(60))
        .await
        .unwrap();
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(engine.wait(&config.name).await.unwrap(), ended(143));
    engine.remove_container(&config.name).await.unwrap();
}

async fn usage_is_of_what_runs(side: impl Side) {
    let engine = side.engine();
    let config = container(&side, Does::Waits);
    engine.create_container(&config).await.unwrap();
    assert_eq!(engine.usage(&config.name).await.unwrap(), None);
    let mut output = engine.attach(&config.name, None).await.unwrap();
    engine.start(&config.name).await.unwrap();
    until_ready(&mut output).await;
    let used = engine.usage(&config.name).await.unwrap().expect("it runs");
    assert!(used.cpu > Duration::ZERO, "{used:?}");
    let limit = 64 << 20;
    assert!((1..limit).contains(&used.memory), "{used:?}");
    assert!(used.droppable < used.memory, "{used:?}");
    assert!(
        used.highest_memory
            .is_none_or(|m| (used.memory..=limit).contains(&m)),
        "{used:?}"
    );
    assert_eq!((used.received, used.sent), (0, 0), "it has no network");
    engine.stop(&config.name, Duration::ZERO).await.unwrap();
    assert_eq!(engine.usage(&config.name).await.unwrap(), None);
    engine.remove_container(&config.name).await.unwrap();
    let gone = engine.usage(&config.name).await.unwrap_err();
    assert_eq!(gone.kind, ErrorKind::NotFound);
}

async fn disk_use_is_what_was_written_beside_the_mounts(side: impl Side) {
    let engine = side.engine();
    for (does, bytes) in [(Does::Waits, 0), (Does::WritesAMebibyte, 1 << 20)] {
        let mut config = container(&side, does);
        config
            .limits
            .tmpfs
            .insert("/tmp".into(), "size=2m,mode=1777".into());
        engine.create_container(&config).await.unwrap();
        assert_eq!(engine.disk_use(&config.name).await.unwrap(), Some(0));
        let mut output = engine.attach(&config.name, None).await.unwrap();
        engine.start(&config.name).await.unwrap();
        until_ready(&mut output).await;
        assert_eq!(engine.disk_use(&config.name).await.unwrap(), Some(bytes));
        engine.stop(&config.name, Duration::ZERO).await.unwrap();
        assert_eq!(engine.disk_use(&config.name).await.unwrap(), Some(bytes));
        engine.remove_container(&config.name).await.unwrap();
        let gone = engine.disk_use(&config.name).await.unwrap_err();
        assert_eq!(gone.kind, ErrorKind::NotFound);
    }
}

async fn stop_kills_after_the_grace(side: impl Side) {
    let engine = side.engine();
    let config = container(&side, Does::IgnoresTerm);
    let mut output = launch(engine, &config).await;
    until_ready(&mut output).await;
    let start = Instant::now();
    engine
        .stop(&config.name, Duration::from_secs(1))
        .await
        .unwrap();
    let taken = start.elapsed();
    assert!((1..15).contains(&taken.as_secs()), "{taken:?}");
    assert_eq!(engine.wait(&config.name).await.unwrap(), ended(137));
    assert_eq!(read_all(output).await.0, "");
    engine.remove_container(&config.name).await.unwrap();
}

async fn a_second_stop_cuts_the_grace(side: impl Side) {
    let engine = side.engine();
    let config = container(&side, Does::IgnoresTerm);
    let mut output = launch(engine, &config).await;
    until_ready(&mut output).await;
    let start = Instant::now();
    let (patient, hasty) = tokio::join!(
        engine.stop(&config.name, Duration::from_secs(60)),
        engine.stop(&config.name, Duration::ZERO)
    );
    patient.unwrap();
    hasty.unwrap();
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(engine.wait(&config.name).await.unwrap(), ended(137));
    engine.remove_container(&config.name).await.unwrap();
}

async fn removal_ends_a_running_container(side: impl Side) {
    let engine = side.engine();
    let config = container(&side, Does::Waits);
    let mut output = launch(engine, &config).await;
    until_ready(&mut output).await;
    // Two removals at once: the second finds the first under way.
    let (exit, first, second) = tokio::join!(
        engine.wait(&config.name),
        engine.remove_container(&config.name),
        engine.remove_container(&config.name)
    );
    first.unwrap();
    second.unwrap();
    assert_eq!(exit.unwrap(), ended(137));
    assert_eq!(read_all(output).await.0, "");
}

async fn labels_find_what_is_ours(side: impl Side) {
    let engine = side.engine();
    let config = container(&side, Does::Waits);
    let network = network(engine, side.scope()).await;
    engine.create_container(&config).await.unwrap();
    let find = async |name: &str, labels: &[(String, String)]| {
        let owned = engine.list_owned().await.unwrap();
        let found = owned
            .into_iter()
            .find(|object| object.name == name)
            .unwrap();
        for (key, value) in labels {
            assert_eq!(found.labels.get(key), Some(value));
        }
        (found.kind, found.running)
    };
    let found = find(&config.name, &config.labels).await;
    assert_eq!(found, (OwnedKind::Container, false));
    engine.start(&config.name).await.unwrap();
    let found = find(&config.name, &config.labels).await;
    assert_eq!(found, (OwnedKind::Container, true));
    let found = find(&network.name, &network.labels).await;
    assert_eq!(found, (OwnedKind::Network, false));
    engine.remove_container(&config.name).await.unwrap();
    engine.remove_network(&network.name).await.unwrap();
}

async fn what_others_made_is_not_ours(side: impl Side) {
    let engine = side.engine();
    let mut unlabelled = container(&side, Does::Exits(0));
    unlabelled.labels.retain(|(key, _)| key != label::RUN);
    engine.create_container(&unlabelled).await.unwrap();
    let name = side.scope().foreign_container();
    let mut foreign = plain_container(&name, vec!["true".into()]);
    foreign.labels = attempt().labels(Role::Task);
    engine.create_container(&foreign).await.unwrap();
    let owned = engine.list_owned().await.unwrap();
    let names = [&unlabelled.name, &foreign.name];
    let found = owned.iter().find(|object| names.contains(&&object.name));
    for name in names {
        engine.remove_container(name).await.unwrap();
    }
    assert_eq!(found, None);
}

async fn networks_have_their_own_name_and_subnet(side: impl Side) {
    let engine = side.engine();
    let first = network(engine, side.scope()).await;
    let create = async |name: String, subnet: Ipv4Addr, prefix: u8| {
        let config = NetworkConfig {
            name,
            labels: first.labels.clone(),
            subnet,
            prefix,
        };
        engine.create_network(&config).await.unwrap_err().kind
    };
    let inside = Ipv4Addr::from_bits(first.subnet.to_bits() + 8);
    assert_eq!(
        create(side.scope().network(), inside, 29).await,
        ErrorKind::AddressInUse
    );
    let elsewhere = Ipv4Addr::from_bits(first.subnet.to_bits() ^ 0x1_0000);
    assert_eq!(
        create(first.name.clone(), elsewhere, 28).await,
        ErrorKind::NameInUse
    );
    engine.remove_network(&first.name).await.unwrap();
}

async fn an_address_is_given_once(side: impl Side) {
    let engine = side.engine();
    let network = network(engine, side.scope()).await;
    let attached = |does| {
        let mut config = container(&side, does);
        config.network = NetworkAttachment::Network {
            name: network.name.clone(),
            address: Ipv4Addr::from_bits(network.subnet.to_bits() + 5),
        };
        config
    };
    let (first, second) = (attached(Does::Waits), attached(Does::Exits(0)));
    drop(launch(engine, &first).await);
    engine.create_container(&second).await.unwrap();
    let refused = engine.start(&second.name).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::AddressInUse);
    for name in [&first.name, &second.name] {
        engine.remove_container(name).await.unwrap();
    }
    engine.remove_network(&network.name).await.unwrap();
}

async fn a_failed_start_says_why_and_leaves_a_removable_container(side: impl Side) {
    let engine = side.engine();
    let mut config = container(&side, Does::Exits(0));
    config.network = NetworkAttachment::Network {
        name: side.scope().network(),
        address: Ipv4Addr::new(10, 214, 0, 2),
    };
    // Some engines look for the network when they create.
    let (failed, output) = match engine.create_container(&config).await {
        Ok(()) => {
            let output = engine.attach(&config.name, None).await.unwrap();
            (engine.start(&config.name).await, Some(output))
        }
        Err(error) => (Err(error), None),
    };
    let kind = failed.unwrap_err().kind;
    assert_eq!(kind, ErrorKind::NoNetwork);
    if output.is_some() {
        let no_exit = engine.wait(&config.name).await.unwrap_err();
        assert!(matches!(no_exit.kind, ErrorKind::Broken(_)), "{no_exit:?}");
    }
    engine.remove_container(&config.name).await.unwrap();
    if let Some(output) = output {
        assert_eq!(read_all(output).await, (String::new(), String::new()));
    }
}

async fn a_network_stays_while_a_container_runs_on_it(side: impl Side) {
    let engine = side.engine();
    let network = network(engine, side.scope()).await;
    let mut config = container(&side, Does::Waits);
    config.network = NetworkAttachment::Network {
        name: network.name.clone(),
        address: Ipv4Addr::from_bits(network.subnet.to_bits() + 2),
    };
    let there = async || {
        let owned = engine.list_owned().await.unwrap();
        owned.iter().any(|object| object.name == network.name)
    };
    drop(launch(engine, &config).await);
    let refused = engine.remove_network(&network.name).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InUse);
    assert!(there().await);
    engine.remove_container(&config.name).await.unwrap();
    engine.remove_network(&network.name).await.unwrap();
    assert!(!there().await);
}

async fn input_arrives_and_ends(side: impl Side) {
    let engine = side.engine();
    let mut config = container(&side, Does::Echoes);
    config.open_stdin = true;
    engine.create_container(&config).await.unwrap();
    let text = "a secret\n".repeat(40_000);
    let input = SecretBytes::new(text.clone().into_bytes());
    let output = engine.attach(&config.name, Some(input)).await.unwrap();
    engine.start(&config.name).await.unwrap();
    let (out, _) = read_all(output).await;
    assert!(
        out == text,
        "{} of {} bytes came back",
        out.len(),
        text.len()
    );
    assert_eq!(engine.wait(&config.name).await.unwrap(), ended(0));
    engine.remove_container(&config.name).await.unwrap();
}

async fn a_missing_mount_source_is_refused(side: impl Side) {
    let engine = side.engine();
    let mut config = container(&side, Does::Exits(0));
    config.mounts.push(Mount {
        source: PathBuf::from("/nonexistent/agent-run-it"),
        target: "/there".into(),
        read_only: true,
    });
    let refused = engine.create_container(&config).await.unwrap_err();
    let words = refused.kind.describe();
    assert!(matches!(refused.kind, ErrorKind::Refused(_)), "{words}");
    assert!(words.contains("/nonexistent/agent-run-it"), "{words}");
    engine.remove_container(&config.name).await.unwrap();
}

async fn an_image_that_must_not_be_pulled_is_missing(side: impl Side) {
    let request = ImageRequest {
        reference: format!("localhost/{}", side.scope().name())
            .parse()
            .unwrap(),
        pull_policy: PullPolicy::Never,
        build: None,
    };
    let missing = side.engine().ensure_image(&request).await.unwrap_err();
    assert!(
        matches!(missing.kind, ErrorKind::ImageUnavailable(_)),
        "{missing}"
    );
}

macro_rules! contract {
    ($($name:ident)*) => {
        mod fake_engine {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                let engine = super::FakeEngine::new();
                let scope = super::Scope::unused(stringify!($name));
                super::$name(super::Fake(engine.clone(), scope)).await;
                engine.assert_no_leaks();
            })*
        }

        mod docker_engine {
            $(#[tokio::test]
            async fn $name() {
                let scope = super::Scope::new("contract");
                super::$name(super::Docker(super::docker::engine().await, scope)).await;
            })*
        }
    };
}

contract! {
    a_life_in_order
    a_network_is_shared_by_a_container_that_runs
    a_non_zero_exit_is_a_value
    output_is_complete
    stop_and_removal_are_idempotent
    stop_is_obeyed
    usage_is_of_what_runs
    disk_use_is_what_was_written_beside_the_mounts
    stop_kills_after_the_grace
    a_second_stop_cuts_the_grace
    removal_ends_a_running_container
    labels_find_what_is_ours
    what_others_made_is_not_ours
    networks_have_their_own_name_and_subnet
    an_address_is_given_once
    a_failed_start_says_why_and_leaves_a_removable_container
    a_network_stays_while_a_container_runs_on_it
    input_arrives_and_ends
    a_missing_mount_source_is_refused
    an_image_that_must_not_be_pulled_is_missing
    a_command_has_output_and_an_exit_code
    a_command_reads_its_input_to_the_end
    a_command_needs_a_container_that_runs
    a_volume_is_made_once_and_found_by_its_labels
    a_volume_stays_while_a_container_has_it
    a_container_needs_its_volumes
    an_image_is_made_of_a_container_and_removed
}
