//! Where people reach what a task listens on.

use std::fmt;
use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A port of a task that is published on the engine's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishedPort {
    /// The task's port.
    pub port: u16,
    /// The address of the engine's machine; `0.0.0.0` is each of them.
    pub address: Ipv4Addr,
    /// The port there.
    pub host_port: u16,
}

impl PublishedPort {
    /// Where people at the engine's machine reach it, which may or may not be by HTTP.
    pub fn link(&self) -> String {
        let address = match self.address {
            Ipv4Addr::UNSPECIFIED => Ipv4Addr::LOCALHOST,
            address => address,
        };
        format!("http://{address}:{}", self.host_port)
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.port, self.link())
    }
}
