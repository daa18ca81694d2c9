//! What the fake lists as agent-run's own.

use agent_run::engine::{OwnedKind, OwnedObject};
use agent_run::id::label;

use super::{Phase, State};

impl State {
    /// Everything with agent-run's labels and one of its names.
    pub(super) fn owned(&self) -> Vec<OwnedObject> {
        let containers = self.containers.values().map(|container| OwnedObject {
            kind: OwnedKind::Container,
            name: container.config.name.clone(),
            labels: container.config.labels.iter().cloned().collect(),
            running: container.phase == Phase::Started && container.running.borrow().is_none(),
        });
        let networks = self.networks.values().map(|network| OwnedObject {
            kind: OwnedKind::Network,
            name: network.name.clone(),
            labels: network.labels.iter().cloned().collect(),
            running: false,
        });
        let volumes = self.volumes.values().map(|volume| OwnedObject {
            kind: OwnedKind::Volume,
            name: volume.name.clone(),
            labels: volume.labels.iter().cloned().collect(),
            running: false,
        });
        let ours = |object: &OwnedObject| {
            let needed = match object.kind {
                OwnedKind::Container | OwnedKind::Volume => &[label::SCHEMA, label::RUN][..],
                OwnedKind::Network => &[label::SCHEMA],
            };
            let labelled = needed.iter().all(|key| object.labels.contains_key(*key));
            object.name.starts_with("agent-run-") && labelled
        };
        let all = containers.chain(networks).chain(volumes);
        all.filter(ours).collect()
    }
}
