//! Reads `preview`: how people start what a task has made, to look at it.

use super::hints::PREVIEW_KEYS;
use super::ports::{GVISOR, port, runs_in_gvisor};
use super::reader::{Fields, Reader};
use super::source::At;
use super::task::script;
use crate::engine::config::Publish;

/// How what a task has made is started again.
#[derive(Debug, Clone)]
pub struct PreviewSpec {
    /// The script that starts it.
    pub run: At<String>,
    /// The port that it listens on then.
    pub port: Publish,
}

/// Reads it, and says what a task cannot have beside it.
pub(super) fn preview(reader: &mut Reader<'_>, task: Fields<'_>) -> Option<PreviewSpec> {
    let field = task.get("preview")?;
    let fields = reader.fields(field, "a map with `run` and `port`", PREVIEW_KEYS)?;
    if runs_in_gvisor(reader, task) {
        let title = "`preview` in a task with gVisor as its `runtime`";
        reader.problem(field.span(), title, GVISOR);
    }
    let mut part = |key, hint| {
        let part = fields.get(key);
        if part.is_none() {
            reader.problem(field.span(), format!("`preview` has no `{key}`"), hint);
        }
        part
    };
    let run = part(
        "run",
        "write the script that starts it, such as `run: npm start`",
    );
    let listens = part(
        "port",
        "write the port that it listens on, such as `port: 3000`",
    );
    let run = run.and_then(|f| script(reader, f));
    let listens = listens.and_then(|f| reader.value(f, "a port", port));
    Some(PreviewSpec {
        run: run?,
        port: listens?.value,
    })
}
