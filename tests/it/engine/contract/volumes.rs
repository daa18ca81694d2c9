//! What every engine does with volumes.

use std::fs;

use agent_run::engine::config::{VolumeConfig, VolumeMount};
use agent_run::engine::{Engine, ErrorKind, OwnedKind};
use agent_run::id::Role;
use tempfile::TempDir;

use super::{Does, Side, attempt, container};

/// A view of a directory with one file, and the directories that it needs.
fn view(side: &impl Side) -> (TempDir, VolumeConfig) {
    let directory = TempDir::new().unwrap();
    let place = |name| {
        let path = directory.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let config = VolumeConfig {
        name: side.scope().volume(),
        labels: attempt().labels(Role::View),
        lower: place("lower"),
        upper: place("upper"),
        work: place("work"),
    };
    fs::write(config.lower.join("file"), "below").unwrap();
    (directory, config)
}

pub(super) async fn a_volume_is_made_once_and_found_by_its_labels(side: impl Side) {
    let engine = side.engine();
    let (_directory, config) = view(&side);
    engine.create_volume(&config).await.unwrap();
    engine.create_volume(&config).await.unwrap();
    let mut other = config.clone();
    other.upper = config.lower.clone();
    let refused = engine.create_volume(&other).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NameInUse);
    let mut other = config.clone();
    other.labels.pop();
    let refused = engine.create_volume(&other).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NameInUse);
    let owned = engine.list_owned().await.unwrap();
    let mut owned = owned.iter().filter(|object| object.name == config.name);
    let found = owned.next().unwrap();
    assert_eq!((found.kind, found.running), (OwnedKind::Volume, false));
    let labels: Vec<_> = found.labels.clone().into_iter().collect();
    let mut expected = config.labels.clone();
    expected.sort();
    assert_eq!(labels, expected);
    assert_eq!(owned.next(), None);
    engine.remove_volume(&config.name).await.unwrap();
    engine.remove_volume(&config.name).await.unwrap();
    let owned = engine.list_owned().await.unwrap();
    assert!(owned.iter().all(|object| object.name != config.name));
}

pub(super) async fn a_volume_stays_while_a_container_has_it(side: impl Side) {
    let engine = side.engine();
    let (_directory, volume) = view(&side);
    engine.create_volume(&volume).await.unwrap();
    let mut config = container(&side, Does::Exits(0));
    config.volumes = vec![VolumeMount {
        volume: volume.name.clone(),
        target: "/view".into(),
    }];
    engine.create_container(&config).await.unwrap();
    let refused = engine.remove_volume(&volume.name).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InUse);
    engine.start(&config.name).await.unwrap();
    engine.wait(&config.name).await.unwrap();
    let refused = engine.remove_volume(&volume.name).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InUse);
    engine.remove_container(&config.name).await.unwrap();
    engine.remove_volume(&volume.name).await.unwrap();
    assert_eq!(fs::read(volume.lower.join("file")).unwrap(), b"below");
}

pub(super) async fn a_container_needs_its_volumes(side: impl Side) {
    let engine = side.engine();
    let mut config = container(&side, Does::Exits(0));
    let volume = side.scope().volume();
    config.volumes = vec![VolumeMount {
        volume: volume.clone(),
        target: "/view".into(),
    }];
    let refused = engine.create_container(&config).await.unwrap_err();
    let words = refused.kind.describe();
    assert!(
        words.contains(&format!("volume {volume} has gone")),
        "{words}"
    );
    engine.remove_container(&config.name).await.unwrap();
    engine.remove_volume(&volume).await.unwrap();
}
