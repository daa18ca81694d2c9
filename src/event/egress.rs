//! What tasks with an allow-list asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::TaskId;

/// The hosts that a task with an allow-list has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskEgress {
    /// The task.
    pub task: TaskId,
    /// The hosts, of many the first ones.
    pub hosts: Vec<HostUse>,
    /// How many requests were for others.
    pub others: u64,
}

/// A host that a task has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostUse {
    /// Its name, or what was given for it; untrusted, sanitised. `-` where nothing was.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How many requests passed, whether or not they came through.
    pub passed: u64,
    /// How many were refused.
    pub denied: u64,
}
