//! What the fake objects to at a start, and what it lists as agent-run's own.

use std::net::Ipv4Addr;

use agent_run::engine::config::{ContainerConfig, NetworkAttachment, NetworkConfig};
use agent_run::engine::{ErrorKind, OwnedKind, OwnedObject};
use agent_run::id::label;

use super::{Container, FakeEngine, Phase, State};

impl FakeEngine {
    /// Makes every start of a container with a volume fail with these words.
    pub fn refuse_volumes(&self, why: &str) {
        self.state().unmountable = Some(why.to_owned());
    }
}

impl State {
    /// The objections to a start: of a volume, of the network and the address.
    pub(super) fn joins(&self, config: &ContainerConfig) -> Result<(), ErrorKind> {
        if let Some(why) = self
            .unmountable
            .as_ref()
            .filter(|_| !config.volumes.is_empty())
        {
            return Err(ErrorKind::Refused(why.clone()));
        }
        if let NetworkAttachment::Shared { container } = &config.network {
            let is_it = |other: &Container| other.config.name == *container;
            let words = format!("cannot join network of a non running container: {container}");
            let runs = self.running().any(is_it);
            return if runs {
                Ok(())
            } else {
                Err(ErrorKind::Refused(words))
            };
        }
        let NetworkAttachment::Network { name, address } = &config.network else {
            return Ok(());
        };
        if !self.networks.contains_key(name) {
            return Err(ErrorKind::NoNetwork);
        }
        let holds = |other: &Container| {
            matches!(&other.config.network, NetworkAttachment::Network { name: n, address: a }
                if n == name && a == address)
        };
        if self.running().any(holds) {
            return Err(ErrorKind::AddressInUse);
        }
        Ok(())
    }

    /// Everything with agent-run's labels and one of its names.
    pub(super) fn owned(&self) -> Vec<OwnedObject> {
        let containers = self.containers.values().map(|container| OwnedObject {
            kind: OwnedKind::Container,
            name: container.config.name.clone(),
            labels: container.config.labels.iter().cloned().collect(),
            running: container.phase == Phase::Started && container.running.borrow().is_none(),
            started: container.phase == Phase::Started,
        });
        let networks = self.networks.values().map(|network| OwnedObject {
            kind: OwnedKind::Network,
            name: network.name.clone(),
            labels: network.labels.iter().cloned().collect(),
            running: false,
            started: false,
        });
        let volumes = self.volumes.values().map(|volume| OwnedObject {
            kind: OwnedKind::Volume,
            name: volume.name.clone(),
            labels: volume.labels.iter().cloned().collect(),
            running: false,
            started: false,
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

/// Whether two networks have addresses in common.
pub(super) fn overlap(a: &NetworkConfig, b: &NetworkConfig) -> bool {
    let shift = 32 - u32::from(a.prefix.min(b.prefix));
    let head = |address: Ipv4Addr| address.to_bits().checked_shr(shift).unwrap_or(0);
    head(a.subnet) == head(b.subnet)
}
