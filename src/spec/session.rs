//! Reads `session`: whether what an agent's client keeps of its conversation stays from attempt to attempt.

use super::diagnostic::shown;
use super::reader::{Field, Reader};
use super::units::BadValue;
use crate::agents::{PRESETS, Preset};
use crate::id::{InvalidName, PathPattern};

pub(super) const WORDS: &[(&str, bool)] = &[("keep", true), ("new", false)];

/// The files of an agent's home that its conversation is in.
pub(super) fn files(reader: &mut Reader<'_>, field: Field<'_>) -> Vec<PathPattern> {
    let items = reader.one_or_many(field, "a path or a list of paths");
    let files = items.into_iter().filter_map(|item| {
        let hint = "write a path such as .agent/sessions, relative to the home";
        let file = reader.value(item, "a path", |text| {
            let parsed = text.parse();
            parsed.map_err(|e: InvalidName| BadValue::new(e.problem, hint))
        });
        file.map(|at| at.value)
    });
    files.collect()
}

/// The files that are kept of a task with that agent: those, if it asks for it.
pub(super) fn kept(
    reader: &mut Reader<'_>,
    field: Option<Field<'_>>,
    (agent, files): (&str, Vec<PathPattern>),
) -> Vec<PathPattern> {
    let Some(field) = field.filter(|field| reader.word(*field, WORDS) == Some(true)) else {
        return Vec::new();
    };
    if files.is_empty() {
        let can = |preset: &&Preset| preset.text.contains("\nsession_files:");
        let names = PRESETS.iter().filter(can).map(|preset| preset.name);
        let names: Vec<&str> = names.collect();
        let title = format!("`{}` cannot go on with a session", shown(agent));
        let hint = format!(
            "leave it out; of agent-run's agents, {} can",
            names.join(", ")
        );
        reader.problem(field.span(), title, hint);
    }
    files
}
