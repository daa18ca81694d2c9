//! Reads `budget`: what an agent may use of its model, in what its client tells of that.

use super::diagnostic::shown;
use super::hints::BUDGET_KEYS;
use super::model::Budget;
use super::reader::{Field, Fields, Reader};
use super::tree::Value;
use super::units;
use crate::agents::{PRESETS, Preset};

/// Most tokens that may be given.
const MOST_TOKENS: i64 = 1_000_000_000_000;

/// What a client can tell while it works, in the words of the keys of a budget.
const TOLD: &[(&str, &str)] = &[("tokens", "tokens"), ("usd", "usd")];

/// The budget of a task; nothing where it says nothing that can be understood.
pub(super) fn budget(reader: &mut Reader<'_>, field: Field<'_>) -> Option<Budget> {
    let fields = reader.fields(field, "a map with `tokens` or `usd`", BUDGET_KEYS)?;
    let (tokens, usd) = (fields.get("tokens"), fields.get("usd"));
    if tokens.is_none() && usd.is_none() {
        let hint = "write `tokens`, `usd` or both, such as `budget: { usd: 2.50 }`";
        reader.problem(field.span(), "`budget` says nothing", hint);
    }
    let tokens = tokens.and_then(|f| reader.integer(f, (1, MOST_TOKENS)));
    let usd = usd.and_then(|f| reader.value(f, "a number of US dollars", units::micro_usd));
    let budget = Budget {
        tokens: tokens.and_then(|tokens| u64::try_from(tokens.value).ok()),
        micro_usd: usd.map(|usd| usd.value),
    };
    (budget != Budget::default()).then_some(budget)
}

/// What an agent's client tells of its use while it works, in the words of `budget`.
pub(super) fn told(reader: &mut Reader<'_>, field: Field<'_>) -> Vec<&'static str> {
    let items = reader.one_or_many(field, "`tokens`, `usd` or a list of both");
    let told = items.into_iter().filter_map(|item| reader.word(item, TOLD));
    told.collect()
}

/// The budget of a task with that agent, whose client tells that much of its use.
pub(super) fn held(
    reader: &mut Reader<'_>,
    field: Field<'_>,
    (agent, told): (&str, &[&str]),
) -> Option<Budget> {
    if let Value::Map(parts) = &field.node.value {
        for key in BUDGET_KEYS.iter().filter(|key| !told.contains(key)) {
            let Some(part) = Fields(parts).get(key) else {
                continue;
            };
            let what = if *key == "usd" { "cost" } else { "tokens" };
            let title = format!("`{}` does not tell its {what} while it works", shown(agent));
            let hint = format!(
                "leave out `{key}`; of agent-run's agents, {} tell it",
                telling(key)
            );
            reader.problem(part.span(), title, hint);
        }
    }
    budget(reader, field)
}

/// The agents of agent-run's that tell that.
fn telling(key: &str) -> String {
    let is_word = |told: &str| told.split([' ', ',', '[', ']']).any(|word| word == key);
    let tells = |preset: &&Preset| {
        let mut lines = preset.text.lines();
        lines.any(|line| line.strip_prefix("tells:").is_some_and(is_word))
    };
    let names = PRESETS.iter().filter(tells).map(|preset| preset.name);
    names.collect::<Vec<_>>().join(", ")
}
