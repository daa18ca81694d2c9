//! Networks of agent-run, and finding everything that carries its labels.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bollard::models::{ContainerSummaryStateEnum, Ipam, IpamConfig, Network, NetworkCreateRequest};
use bollard::query_parameters::{
    InspectNetworkOptions, ListContainersOptions, ListNetworksOptions,
};

use super::DockerEngine;
use super::call::{Call, QUICK, WORK};
use crate::engine::config::NetworkConfig;
use crate::engine::{EngineError, ErrorKind, Operation, OwnedKind, OwnedObject};
use crate::id::label;

/// Whether containers of a bridge may reach each other. `false` is a rule of its own for the bridge,
/// beside those between bridges.
const INTER_CONTAINER: (&str, &str) = ("com.docker.network.bridge.enable_icc", "false");

/// How long addresses that no network has may be taken, and how long apart they are asked for.
const SETTLING: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);

impl DockerEngine {
    pub(super) async fn make_network(&self, config: &NetworkConfig) -> Result<(), EngineError> {
        let call = Call::new(Operation::CreateNetwork, &config.name);
        let deadline = Instant::now() + SETTLING;
        loop {
            let others = self.networks(None, &call).await?;
            // Engines before API 1.44 take a second network of the same name without a word.
            if let Some(other) = others
                .iter()
                .find(|n| n.name.as_ref() == Some(&config.name))
            {
                // Nor is it known who made that one, or whether he came to look.
                separates(other.options.as_ref(), &call)?;
                return Err(call.error(ErrorKind::NameInUse));
            }
            let made = self.docker.create_network(request(config));
            match call.within(WORK, made).await {
                Ok(_) => match self.look_at_network(config, &call).await {
                    // Another run, or `clean`, has just removed what nobody used yet.
                    Err(error) if error.kind == ErrorKind::NotFound => {}
                    looked => return looked,
                },
                // The engine takes addresses before it lists their network, and gives them back
                // after: nobody's are those of one that is just being made or removed.
                Err(error)
                    if error.kind == ErrorKind::AddressInUse
                        && !others.iter().any(|other| overlaps(other, config)) => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Err(call.error(ErrorKind::AddressInUse));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Looks whether a network that was just made is what was asked for, and removes it if not.
    async fn look_at_network(
        &self,
        config: &NetworkConfig,
        call: &Call,
    ) -> Result<(), EngineError> {
        let made = self
            .docker
            .inspect_network(&config.name, None::<InspectNetworkOptions>);
        let options = call.within(QUICK, made).await?.options;
        let separates = separates(options.as_ref(), call);
        if separates.is_err() {
            self.delete_network(&config.name).await?;
        }
        separates
    }

    pub(super) async fn delete_network(&self, network: &str) -> Result<(), EngineError> {
        let call = Call::new(Operation::RemoveNetwork, network);
        // The last container on it may go between the two questions.
        for _ in 0..2 {
            match call.within(WORK, self.docker.remove_network(network)).await {
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
                Err(error) if error.kind == ErrorKind::InUse && self.has_nobody(network).await => {}
                other => return other,
            }
        }
        Err(call.error(ErrorKind::HeldByNobody))
    }

    /// Whether no container is on a network, or is to be; false where the engine does not tell.
    async fn has_nobody(&self, network: &str) -> bool {
        let call = Call::new(Operation::RemoveNetwork, network);
        let options = ListContainersOptions {
            all: true,
            filters: Some(filter("network", network)),
            ..ListContainersOptions::default()
        };
        let containers = self.docker.list_containers(Some(options));
        let containers = call.within(QUICK, containers).await;
        containers.is_ok_and(|containers| containers.is_empty())
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
                    started: container
                        .state
                        .is_some_and(|state| state != ContainerSummaryStateEnum::CREATED),
                })
            })
            .collect();
        let networks = self.networks(Some(label::SCHEMA), &call).await?;
        owned.extend(networks.into_iter().filter_map(|network| {
            Some(OwnedObject {
                kind: OwnedKind::Network,
                name: network.name?,
                labels: network.labels.unwrap_or_default().into_iter().collect(),
                running: false,
                started: false,
            })
        }));
        owned.extend(self.volumes(&call).await?);
        owned.retain(is_ours);
        Ok(owned)
    }

    /// The networks, all or those with a label.
    async fn networks(
        &self,
        label: Option<&str>,
        call: &Call,
    ) -> Result<Vec<Network>, EngineError> {
        let options = ListNetworksOptions {
            filters: label.map(|label| filter("label", label)),
        };
        let networks = self.docker.list_networks(Some(options));
        call.within(QUICK, networks).await
    }
}

fn request(config: &NetworkConfig) -> NetworkCreateRequest {
    let gateway = Ipv4Addr::from_bits(config.subnet.to_bits() + 1);
    let (option, value) = INTER_CONTAINER;
    NetworkCreateRequest {
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
        options: Some(HashMap::from([(option.into(), value.into())])),
        labels: Some(config.labels.iter().cloned().collect()),
        ..NetworkCreateRequest::default()
    }
}

/// Refuses a network on which containers may reach each other, by its options.
fn separates(options: Option<&HashMap<String, String>>, call: &Call) -> Result<(), EngineError> {
    let (option, value) = INTER_CONTAINER;
    match options.and_then(|options| options.get(option)) {
        Some(found) if found == value => Ok(()),
        _ => Err(call.error(ErrorKind::LimitNotHonoured(option))),
    }
}

/// Whether a network has addresses in the subnet of one that is to be made.
fn overlaps(network: &Network, config: &NetworkConfig) -> bool {
    let ranges = network
        .ipam
        .iter()
        .flat_map(|ipam| ipam.config.iter().flatten());
    ranges
        .filter_map(|range| range.subnet.as_ref()?.split_once('/'))
        .any(|(first, prefix)| {
            let (Ok(first), Ok(prefix)) = (first.parse::<Ipv4Addr>(), prefix.parse::<u8>()) else {
                return false;
            };
            let shift = 32 - u32::from(prefix.min(config.prefix));
            (first.to_bits() ^ config.subnet.to_bits())
                .checked_shr(shift)
                .unwrap_or(0)
                == 0
        })
}

/// Whether agent-run made it. Its image may have given a foreign container our labels, but then
/// not one of our names.
fn is_ours(object: &OwnedObject) -> bool {
    let run = object.labels.get(label::RUN);
    let of_run = object.kind == OwnedKind::Network || run.is_some_and(|run| !run.is_empty());
    object.name.starts_with("agent-run-") && of_run
}

pub(super) fn filter(key: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([(key.to_owned(), vec![value.to_owned()])])
}

fn is_running(state: ContainerSummaryStateEnum) -> bool {
    use ContainerSummaryStateEnum as State;
    matches!(state, State::RUNNING | State::PAUSED | State::RESTARTING)
}
