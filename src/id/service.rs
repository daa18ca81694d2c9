//! The names of services: what a task calls them, and what their containers are called.

use std::str::FromStr;

use super::{AttemptId, InvalidName, Role, ServiceName, fit, invalid};

/// The longest one, in bytes.
const LONGEST: usize = 32;

impl FromStr for ServiceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let fits = (1..=LONGEST).contains(&bytes.len())
            && plain(bytes[0])
            && bytes.iter().all(|&b| plain(b) || b == b'-' || b == b'_');
        match text {
            "localhost" => Err(invalid(
                "service",
                text,
                "is the name of the task's own host",
            )),
            _ if fits => Ok(Self(text.to_owned())),
            _ => Err(invalid(
                "service",
                text,
                "is not 1 to 32 lower-case letters, digits, `-` and `_`, a letter or digit first",
            )),
        }
    }
}

impl AttemptId {
    /// The container of a service that serves this attempt in `role`. No service has a dot in its name,
    /// so that no two have one container.
    pub fn service_container_name(&self, role: Role, service: &ServiceName) -> String {
        let Self { run, task, number } = self;
        let (role, task) = (role.as_str(), task.word());
        fit(&format!("agent-run-{run}-{number}-{role}-{service}.{task}"))
    }
}
