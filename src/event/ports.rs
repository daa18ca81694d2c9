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

impl fmt::Display for PublishedPort {
    /// As a link, which may or may not be one of HTTP.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match self.address {
            Ipv4Addr::UNSPECIFIED => Ipv4Addr::LOCALHOST,
            address => address,
        };
        write!(f, "{} at http://{address}:{}", self.port, self.host_port)
    }
}
