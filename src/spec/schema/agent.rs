//! The forms of what a task says to its agent, and of an agent.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::{OneOrMany, WordsForm, object};

/// What a task says to its agent, and the short form of a prompt's file.
#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct OptionsForm {
    /// The model, as the agent names it. Default: the agent's own.
    model: Option<String>,
    /// After how many turns of the model the agent ends. Default: the agent's own.
    #[schemars(range(min = 1, max = 100_000))]
    max_turns: Option<u32>,
    /// What the agent may use of its model in all attempts; then the task is stopped. Default: no limit.
    budget: Option<BudgetForm>,
    /// Whether attempts that go on from another one, and `agent-run continue`, go on in its conversation.
    /// Default: new.
    session: Option<SessionForm>,
    /// Further words for the agent's command; a text is split into words without a shell.
    args: Option<WordsForm>,
    /// The file that the prompt is in: short for `prompt: { file: … }`.
    prompt_file: Option<String>,
}

/// An agent: the keys of a task, and these.
#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct AgentForm {
    /// The agent whose keys it has where it does not give them: one below it, or one of agent-run's.
    extends: Option<String>,
    /// What it is, for people.
    description: Option<String>,
    /// The secrets that it can use, by name; a task is granted the first one that the spec declares.
    credentials: Option<BTreeMap<String, CredentialForm>>,
    /// The hosts that it needs, with every credential.
    hosts: Option<OneOrMany>,
    /// Whether a task has to name a `model`. Default: false.
    needs_model: Option<bool>,
    /// Whether a task may have `max_turns`. Default: true.
    has_max_turns: Option<bool>,
    /// What its client tells of its use while it works: `tokens`, `usd`. Default: nothing.
    tells: Option<OneOrMany>,
    /// The files of its home that its conversation is in: patterns. Default: none.
    session_files: Option<OneOrMany>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "a form of the file")]
enum SessionForm {
    /// It goes on in the same conversation.
    Keep,
    /// It begins one of its own.
    New,
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
struct BudgetForm {
    /// Tokens, read and written.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    tokens: Option<u64>,
    /// What they cost, in US dollars.
    usd: Option<UsdForm>,
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
struct CredentialForm {
    /// The variable that it is put into. Default: none, it is a file.
    environment: Option<String>,
    /// Whose models it is for: what stands before the `/` of a `model`. Default: all.
    provider: Option<String>,
    /// The hosts that are needed with it.
    hosts: Option<OneOrMany>,
}

/// US dollars: a decimal number.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a form of the file")]
enum UsdForm {
    Number(#[schemars(range(min = 0.000_001))] f64),
    Text(String),
}
