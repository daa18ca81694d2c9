//! Networks of agent-run, and finding everything that carries its labels.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use bollard::models::{
    ContainerSummaryStateEnum, Ipam, IpamConfig, NetworkCreateRequest, NetworkDisconnectRequest,
};
use bollard::query_parameters::{
    InspectNetworkOptions, ListContainersOptions, ListNetworksOptions,
};

use super::DockerEngine;
use super::call::{Call, QUICK, WORK};
use crate::engine::config::NetworkConfig;
use crate::engine::{EngineError, ErrorKind, Operation, OwnedKind, OwnedObject};
use crate::id::label;

/// How often a network is emptied and removed again while something still joins it.
const REMOVAL_ATTEMPTS: usize = 3;

impl DockerEngine {
    pub(super) async fn make_network(&self, config: &NetworkConfig) -> Result<(), EngineError> {
        let call = Call::new(Operation::CreateNetwork, &config.name);
        // Engines before API 1.44 take a second network of the same name without a word.
        let taken = self.networks("name", &config.name, &call).await?;
        if taken.iter().any(|(name, _)| *name == config.name) {
            return Err(call.error(ErrorKind::NameInUse));
        }
        let gateway = Ipv4Addr::from_bits(config.subnet.to_bits() + 1);
        let request = NetworkCreateRequest {
            name: config.name.clone(),
            driver: Some("bridge".into()),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(format!("{}/{}", config.subnet, config.prefix)),
                    gateway: Some(gateway.to_string()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            enable_ipv6: Some(false),
            labels: Some(config.labels.iter().cloned().collect()),
            ..NetworkCreateRequest::default()
        };
        call.within(WORK, self.docker.create_network(request))
            .await?;
        Ok(())
    }

    pub(super) async fn delete_network(&self, network: &str) -> Result<(), EngineError> {
        let call = Call::new(Operation::RemoveNetwork, network);
        let mut attempt = 1;
        loop {
            match call.within(WORK, self.docker.remove_network(network)).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
                Err(error) if attempt < REMOVAL_ATTEMPTS && has_endpoints(&error.kind) => {
                    self.empty_network(network, &call).await?;
                }
                Err(error) => return Err(error),
            }
            attempt += 1;
        }
    }

    /// Takes every container off a network, running or not.
    async fn empty_network(&self, network: &str, call: &Call) -> Result<(), EngineError> {
        let inspected = self
            .docker
            .inspect_network(network, None::<InspectNetworkOptions>);
        let inspected = match call.within(QUICK, inspected).await {
            Ok(inspected) => inspected,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for container in inspected.containers.unwrap_or_default().into_keys() {
            let request = NetworkDisconnectRequest {
                container,
                force: Some(true),
            };
            let disconnected = self.docker.disconnect_network(network, request);
            match call.within(QUICK, disconnected).await {
                Ok(()) => {}
                // It left by itself, or is just leaving: the next removal tells.
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) if matches!(error.kind, ErrorKind::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) async fn find_owned(&self) -> Result<Vec<OwnedObject>, EngineError> {
        let call = Call::new(Operation::ListOwned, "what agent-run made");
        let options = ListContainersOptions {
            all: true,
            filters: Some(filter("label", label::SCHEMA)),
            ..ListContainersOptions::default()
        };
        let containers = self.docker.list_containers(Some(options));
        let containers = call.within(QUICK, containers).await?;
        let mut owned: Vec<OwnedObject> = containers
            .into_iter()
            .filter_map(|container| {
                let names = container.names?;
                let name = names.first()?.trim_start_matches('/').to_owned();
                Some(OwnedObject {
                    kind: OwnedKind::Container,
                    name,
                    labels: container.labels.unwrap_or_default().into_iter().collect(),
                    running: container.state.is_some_and(is_running),
                })
            })
            .collect();
        let networks = self.networks("label", label::SCHEMA, &call).await?;
        owned.extend(networks.into_iter().map(|(name, labels)| OwnedObject {
            kind: OwnedKind::Network,
            name,
            labels,
            running: false,
        }));
        owned.retain(is_ours);
        Ok(owned)
    }

    /// The networks that a filter finds, by name, with their labels.
    async fn networks(
        &self,
        key: &str,
        value: &str,
        call: &Call,
    ) -> Result<Vec<(String, BTreeMap<String, String>)>, EngineError> {
        let options = ListNetworksOptions {
            filters: Some(filter(key, value)),
        };
        let networks = self.docker.list_networks(Some(options));
        let networks = call.within(QUICK, networks).await?;
        let described = networks.into_iter().filter_map(|network| {
            let labels = network.labels.unwrap_or_default();
            Some((network.name?, labels.into_iter().collect()))
        });
        Ok(described.collect())
    }
}

/// Whether agent-run made it. Its image may have given a foreign container our labels, but then
/// not one of our names.
fn is_ours(object: &OwnedObject) -> bool {
    object.name.starts_with("agent-run-") && object.labels.contains_key(label::RUN)
}

fn filter(key: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([(key.to_owned(), vec![value.to_owned()])])
}

/// The engine's words for a network that is still in use (moby/libnetwork `error.go`).
fn has_endpoints(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Refused(words) if words.contains("active endpoints"))
}

fn is_running(state: ContainerSummaryStateEnum) -> bool {
    use ContainerSummaryStateEnum as State;
    matches!(state, State::RUNNING | State::PAUSED | State::RESTARTING)
}
