//! What an agent used, as its client says.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TaskReport;

/// The agent of a task, and what it used. The numbers are its own word: nothing but the end of a budget
/// and the wait before a further attempt is decided by them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct AgentReport {
    /// Its name in the spec.
    pub name: String,
    /// The version of its client in an image of agent-run's own; none in another.
    pub version: Option<String>,
    /// What it used, as far as the client tells.
    #[serde(flatten)]
    pub used: AgentUsage,
    /// How long its model asks to be left alone, in milliseconds, at most six hours; none where the client
    /// tells nothing of that.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    /// What the client wrote of its work, in its own format, with secrets masked; none where it wrote
    /// nothing.
    pub transcript: Option<PathBuf>,
}

/// What agents used, as far as their clients tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct AgentUsage {
    /// Turns of the model.
    pub turns: Option<u64>,
    /// Tokens, read and written.
    pub tokens: Option<u64>,
    /// What that costs, in millionths of a US dollar.
    pub micro_usd: Option<u64>,
}

impl AgentUsage {
    /// What all attempts at these tasks used together; nothing where no client has told anything.
    pub fn of(tasks: &[TaskReport]) -> Option<Self> {
        let attempts = tasks
            .iter()
            .flat_map(|task| task.earlier_attempts.iter().chain([task]));
        let used = attempts.filter_map(|attempt| Some(attempt.agent.as_ref()?.used));
        let sum = used.fold(Self::default(), Self::and);
        (sum != Self::default()).then_some(sum)
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let add = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        Self {
            turns: add(self.turns, other.turns),
            tokens: add(self.tokens, other.tokens),
            micro_usd: add(self.micro_usd, other.micro_usd),
        }
    }
}

/// What a task may use of its agent's model, in all of its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Budget {
    /// Tokens, read and written.
    pub tokens: Option<u64>,
    /// What they cost, in millionths of a US dollar.
    pub micro_usd: Option<u64>,
}

impl Budget {
    /// Whether nothing is left of one of them.
    pub fn is_used_up(self, used: AgentUsage) -> bool {
        let is_over = |most: Option<u64>, used: Option<u64>| {
            most.zip(used).is_some_and(|(most, used)| used >= most)
        };
        is_over(self.tokens, used.tokens) || is_over(self.micro_usd, used.micro_usd)
    }
}
