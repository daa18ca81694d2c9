//! Ports of containers on the engine's host: each at one that is free, which the engine chooses.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};

use bollard::models::{HostConfig, PortBinding, PortMap};
use bollard::query_parameters::InspectContainerOptions;

use super::DockerEngine;
use super::call::{Call, QUICK};
use crate::engine::config::Publish;
use crate::engine::{EngineError, Operation, PublishedAt};

impl DockerEngine {
    pub(super) async fn read_published(
        &self,
        container: &str,
    ) -> Result<Vec<PublishedAt>, EngineError> {
        let call = Call::new(Operation::Published, container);
        let inspected = self
            .docker
            .inspect_container(container, None::<InspectContainerOptions>);
        let settings = call.within(QUICK, inspected).await?.network_settings;
        let ports = settings.and_then(|settings| settings.ports);
        Ok(places(&ports.unwrap_or_default()))
    }
}

fn places(ports: &PortMap) -> Vec<PublishedAt> {
    let one = |(name, bindings): (&String, &Option<Vec<PortBinding>>)| {
        let port = number(name)?;
        let at = |binding: &PortBinding| {
            let address: Ipv4Addr = binding.host_ip.as_ref()?.parse().ok()?;
            let host_port = binding.host_port.as_ref()?.parse().ok()?;
            Some(SocketAddrV4::new(address, host_port))
        };
        let at = bindings.iter().flatten().find_map(at)?;
        Some(PublishedAt { port, at })
    };
    ports.iter().filter_map(one).collect()
}

/// The engine's name of a TCP port: `3000/tcp`.
fn name(port: Publish) -> String {
    format!("{}/tcp", port.port)
}

fn number(name: &str) -> Option<u16> {
    name.strip_suffix("/tcp")?.parse().ok()
}

/// What a container is said to listen on.
pub(super) fn exposed(publish: &[Publish]) -> Option<Vec<String>> {
    (!publish.is_empty()).then(|| publish.iter().copied().map(name).collect())
}

/// Where that is published: an empty port is one that is free.
pub(super) fn bindings(publish: &[Publish]) -> Option<PortMap> {
    let binding = |port: &Publish| {
        let binding = PortBinding {
            host_ip: Some(port.address.to_string()),
            host_port: Some(String::new()),
        };
        (name(*port), Some(vec![binding]))
    };
    let bindings: HashMap<_, _> = publish.iter().map(binding).collect();
    (!bindings.is_empty()).then_some(bindings)
}

/// Whether what is published is what was asked for, at the addresses that were.
pub(super) fn is_as_asked(publish: &[Publish], host: &HostConfig) -> bool {
    let made = host.port_bindings.iter().flatten();
    let made = made.flat_map(|(name, bindings)| {
        let bindings = bindings.iter().flatten();
        bindings.map(move |binding| (name.clone(), binding.host_ip.clone().unwrap_or_default()))
    });
    let asked = publish
        .iter()
        .map(|port| (name(*port), port.address.to_string()));
    host.publish_all_ports != Some(true)
        && made.collect::<BTreeSet<_>>() == asked.collect::<BTreeSet<_>>()
}
