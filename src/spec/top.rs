//! Reads the top level of a spec.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use super::Context;
use super::agent::{self, Agents};
use super::diagnostic::{Diagnostic, shown};
use super::graph;
use super::hints::{
    AUTHOR_KEYS, CLAIMS_KEYS, HISTORY_KEYS, Level, SECRET_KEYS, TASK_KEYS, TOP_KEYS,
};
use super::interpolate::{MatrixNames, Names};
use super::limits::collect;
use super::matrix::{Cell, cells};
use super::merge::{merge, normalise, variable_name};
use super::model::{ClaimsSpec, History, HostCommand, Identity, RunSpec, SecretOrigin, TaskSpec};
use super::reader::{Field, Fields, Reader};
use super::source::{At, SourceFile, Span};
use super::task::{Known, read_task, words};
use super::tree::{self, Entry, Node, Value};
use super::units::{self, BadValue};
use crate::id::TaskId;

/// The id in place of one that is none, and of that of no task.
const NO_TASK: &str = "task";

/// Most cells of all matrices of a spec.
const MOST_CELLS_OF_ALL: usize = 2048;

/// Most tasks that run at once.
const MOST_PARALLEL: i64 = 10_000;

/// Reads a spec; what it yields is whole only where there are no problems.
pub(super) fn read(
    source: &Arc<SourceFile>,
    context: &Context<'_>,
) -> (Option<RunSpec>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let root = tree::parse(source, &mut problems);
    let mut reader = Reader {
        source,
        context,
        names: Names::default(),
        problems,
    };
    let spec = root.and_then(|root| read_root(&mut reader, source, &root));
    (spec, reader.problems)
}

fn read_root(reader: &mut Reader<'_>, source: &Arc<SourceFile>, root: &Node) -> Option<RunSpec> {
    let Value::Map(entries) = &root.value else {
        let hint = "write `version: 1` and `tasks:`";
        reader.problem(root.span, "a spec is a map of keys", hint);
        return None;
    };
    reader.check_keys(entries, "at the top level", TOP_KEYS, Level::Top);
    let fields = Fields(entries);
    let version = version(reader, fields, root);
    let secrets = fields
        .get("secrets")
        .map(|f| secrets(reader, f))
        .unwrap_or_default();
    let timeout = fields
        .get("timeout")
        .and_then(|f| reader.value(f, "a duration", units::duration));
    let name = fields.get("name").and_then(|f| reader.line(f));
    let agents = Agents::read(reader, fields.get("agents"));
    let spec = RunSpec {
        source: Arc::clone(source),
        version: version?,
        name: name.map(|n| n.value),
        repo: fields.get("repo").and_then(|f| repo(reader, f)),
        base: fields.get("base").and_then(|f| base(reader, f)),
        history: fields.get("history").and_then(|f| history(reader, f)),
        max_parallel: fields
            .get("max_parallel")
            .and_then(|f| max_parallel(reader, f)),
        fail_fast: fields
            .get("fail_fast")
            .and_then(|f| reader.claim(f))
            .unwrap_or(false),
        timeout: timeout.map(|t| t.value),
        author: fields.get("author").and_then(|f| author(reader, f)),
        collect: fields
            .get("collect")
            .and_then(|f| collect(reader, f))
            .unwrap_or_default(),
        claims: fields
            .get("claims")
            .and_then(|f| claims(reader, f))
            .unwrap_or_default(),
        tasks: tasks(reader, root, &secrets, &agents),
        secrets,
    };
    reader.problems.extend(graph::check(&spec));
    Some(spec)
}

fn version(reader: &mut Reader<'_>, fields: Fields<'_>, root: &Node) -> Option<u32> {
    let Some(field) = fields.get("version") else {
        let start = Span {
            start: root.span.start,
            end: root.span.start,
        };
        reader.problem(
            start,
            "the spec has no `version`",
            "write `version: 1` on top",
        );
        return Some(1);
    };
    let known = reader.value(field, "1", |text| match text {
        "1" => Ok(1),
        _ => Err(BadValue::new(
            "is not a version that this agent-run knows",
            "write `version: 1`",
        )),
    });
    known.map_or(Some(1), |v| Some(v.value))
}

fn tasks(
    reader: &mut Reader<'_>,
    root: &Node,
    secrets: &BTreeMap<String, At<SecretOrigin>>,
    agents: &Agents,
) -> Vec<TaskSpec> {
    let declared: Vec<&str> = secrets.keys().map(String::as_str).collect();
    let known = Known {
        secrets: &declared,
        agents,
    };
    reader.names = Names::of(&no_task());
    reader.names.matrix = MatrixNames::Later;
    agent::check(reader, known);
    reader.names = Names::default();
    let fields = Fields(match &root.value {
        Value::Map(entries) => entries,
        _ => &[],
    });
    let defaults = fields.get("defaults").map(|f| defaults(reader, f, known));
    let defaults = defaults.unwrap_or_default();
    let Some(field) = fields.get("tasks") else {
        let place = Span {
            start: root.span.start,
            end: root.span.start,
        };
        reader.problem(
            place,
            "the spec has no tasks",
            "write `tasks:` with at least one task",
        );
        return Vec::new();
    };
    let entries = reader.entries(field, "a map of tasks by id");
    if matches!(&field.node.value, Value::Map(e) if e.is_empty()) {
        reader.problem(field.span(), "`tasks` is empty", "write at least one task");
    }
    let mut tasks: Vec<TaskSpec> = Vec::new();
    let mut cells = 0;
    for entry in entries.iter().filter(|e| !e.key.starts_with("x-")) {
        let read = task(reader, entry, &defaults, known);
        cells += read.iter().filter(|task| task.id.value.is_cell()).count();
        tasks.extend(read);
        if cells > MOST_CELLS_OF_ALL {
            let title =
                format!("the matrices of this spec have more than {MOST_CELLS_OF_ALL} cells");
            reader.problem(
                entry.key_span,
                title,
                "leave some out, or make several runs of it",
            );
            break;
        }
    }
    reader.names = Names::default();
    tasks
}

/// Checks `defaults` by itself, so that its problems are found also where no task takes it.
fn defaults(reader: &mut Reader<'_>, field: Field<'_>, known: Known<'_>) -> Vec<Entry> {
    let entries = reader.entries(field, "a map of a task's keys");
    reader.check_keys(entries, "in `defaults`", TASK_KEYS, Level::Task);
    let entries = normalise(reader, field.node, &[]);
    let none = no_task();
    reader.names = Names::of(&none);
    let merged = merge(&[], &entries);
    if let Some(field) = Fields(&merged).get("matrix") {
        cells(reader, &none, field);
    }
    reader.names.matrix = MatrixNames::Later;
    read_task(reader, None, &merged, known);
    reader.names = Names::default();
    entries
}

fn no_task() -> TaskId {
    TaskId::plain(NO_TASK).expect("an id")
}

/// Reads a task; one with a matrix to a task for each cell.
fn task(
    reader: &mut Reader<'_>,
    entry: &Entry,
    defaults: &[Entry],
    known: Known<'_>,
) -> Vec<TaskSpec> {
    let id = task_id(reader, entry);
    let place = format!("task `{}`", shown(&entry.key));
    let node = &*entry.node;
    match &node.value {
        Value::Map(entries) => {
            reader.check_keys(entries, &format!("in {place}"), TASK_KEYS, Level::Task);
        }
        Value::Null => {}
        _ => {
            let title = format!("{place} must be a map of keys");
            reader.problem(node.span, title, "write `run` and a script below it");
            return Vec::new();
        }
    }
    let known_id = id.as_ref().map_or_else(no_task, |id| id.value.clone());
    reader.names = Names::of(&known_id);
    let own = normalise(reader, node, defaults);
    let merged = agent::meant(merge(defaults, &own), &own);
    let fields = Fields(&merged);
    let work = ["image", "build", "run", "command", "entrypoint", "agent"];
    if work.iter().all(|key| fields.get(key).is_none()) {
        let hint = "give it `run`, or an `image` with a command of its own";
        reader.problem(entry.key_span, format!("{place} has nothing to run"), hint);
    }
    let Some(matrix) = fields.get("matrix") else {
        let task = read_task(reader, id, &merged, known);
        return task.into_iter().collect();
    };
    let cells = cells(reader, &known_id, matrix);
    let Some((cells, id)) = cells.zip(id) else {
        reader.names.matrix = MatrixNames::Later;
        read_task(reader, None, &merged, known);
        return Vec::new();
    };
    read_cells(reader, cells, id.span, &merged, known)
}

fn task_id(reader: &mut Reader<'_>, entry: &Entry) -> Option<At<TaskId>> {
    match TaskId::plain(&entry.key) {
        Ok(value) => Some(At {
            value,
            span: entry.key_span,
        }),
        Err(refused) => {
            let hint = "write a name such as fix-login";
            reader.problem(entry.key_span, refused.to_string(), hint);
            None
        }
    }
}

/// Reads a task once for each cell of its matrix.
fn read_cells(
    reader: &mut Reader<'_>,
    cells: Vec<Cell>,
    span: Span,
    merged: &[Entry],
    named: Known<'_>,
) -> Vec<TaskSpec> {
    let known = cells.iter().flat_map(|cell| cell.values.keys().cloned());
    let known: Rc<BTreeSet<String>> = Rc::new(known.collect());
    let mut tasks = Vec::new();
    for Cell { id, values } in cells {
        reader.names = Names::of(&id);
        let texts = values.iter();
        let texts = texts.map(|(name, value)| (name.clone(), value.to_string()));
        reader.names.matrix = MatrixNames::Cell {
            values: texts.collect(),
            known: Rc::clone(&known),
        };
        let task = read_task(reader, Some(At { value: id, span }), merged, named);
        tasks.extend(task.map(|task| TaskSpec {
            matrix: values,
            ..task
        }));
    }
    tasks
}

fn secrets(reader: &mut Reader<'_>, field: Field<'_>) -> BTreeMap<String, At<SecretOrigin>> {
    let mut secrets = BTreeMap::new();
    for entry in reader.entries(field, "a map of secrets by name") {
        if entry.key.starts_with("x-") {
            continue;
        }
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = entry.key.as_str();
        let fits = name.starts_with(letter)
            && name.len() <= 64
            && name.chars().all(|c| letter(c) || c == '-' || c == '.');
        if !fits {
            let title = format!("`{}` cannot be the name of a secret", shown(name));
            let hint = "at most 64 letters, digits, `_`, `-` and `.`: it becomes a file name";
            reader.problem(entry.key_span, title, hint);
        }
        let field = Field {
            key: name,
            node: &entry.node,
        };
        // Also one that is wrong is declared: its grants are not wrong for that.
        let origin = secret(reader, field);
        let value = origin.unwrap_or_else(|| SecretOrigin::File(PathBuf::new()));
        secrets.insert(
            name.to_owned(),
            At {
                value,
                span: entry.key_span,
            },
        );
    }
    secrets
}

fn secret(reader: &mut Reader<'_>, field: Field<'_>) -> Option<SecretOrigin> {
    let hint = "write `environment: NAME`, `file: path` or `command: [program, argument]`";
    let expected = "a map with `environment`, `file` or `command`";
    let fields = reader.fields(field, expected, SECRET_KEYS)?;
    let [variable, file, command] = ["environment", "file", "command"].map(|key| fields.get(key));
    match (variable, file, command) {
        (Some(variable), None, None) => {
            let name = reader.line(variable)?;
            let fits = variable_name(reader, &name.value, name.span);
            fits.then_some(SecretOrigin::Environment(name.value))
        }
        (None, Some(file), None) => Some(SecretOrigin::File(reader.path(file)?.value)),
        (None, None, Some(command)) => Some(SecretOrigin::Command(host_command(reader, command)?)),
        _ => {
            let title = format!(
                "secret `{}` needs one of `environment`, `file` and `command`",
                shown(field.key)
            );
            reader.problem(field.span(), title, hint);
            None
        }
    }
}

fn host_command(reader: &mut Reader<'_>, field: Field<'_>) -> Option<HostCommand> {
    let problems = reader.problems.len();
    let words = words(reader, field)?;
    if reader.problems.len() > problems {
        return None;
    }
    if words.first().is_none_or(String::is_empty) {
        let hint = "write a program and its arguments, such as `[gh, auth, token]`";
        reader.problem(field.span(), "`command` names no program", hint);
        return None;
    }
    Some(HostCommand {
        words,
        directory: reader.context.directory.to_owned(),
    })
}

fn repo(reader: &mut Reader<'_>, field: Field<'_>) -> Option<At<PathBuf>> {
    let text = reader.line(field)?.value;
    if text.contains("://") {
        let raw = reader.raw(field, "a path")?;
        let bad = BadValue::new(
            "is an address, which this version does not support",
            "clone it and write the clone's path",
        );
        reader.bad_value(field, raw, bad);
        return None;
    }
    reader.path(field)
}

fn base(reader: &mut Reader<'_>, field: Field<'_>) -> Option<At<String>> {
    let base = reader.line(field)?;
    if base.value.starts_with('-') {
        let raw = reader.raw(field, "a ref")?;
        let bad = BadValue::new("is not a ref", "write a branch, a tag or a commit");
        reader.bad_value(field, raw, bad);
        return None;
    }
    Some(base)
}

fn claims(reader: &mut Reader<'_>, field: Field<'_>) -> Option<ClaimsSpec> {
    let fields = reader.fields(field, "a map with `remote`", CLAIMS_KEYS)?;
    let Some(remote) = fields.get("remote") else {
        let hint = "write a remote of the repository, such as `remote: origin`";
        reader.problem(field.span(), "`claims` has no `remote`", hint);
        return None;
    };
    let remote = reader.value(remote, "a remote", |text| {
        let fits =
            !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_whitespace);
        let hint = "write a remote of the repository, such as origin, or its address";
        let is_line = fits && !text.contains(char::is_control);
        is_line
            .then(|| text.to_owned())
            .ok_or_else(|| BadValue::new("is no remote", hint))
    })?;
    let remote = Some(remote.value);
    Some(ClaimsSpec { remote })
}

fn history(reader: &mut Reader<'_>, field: Field<'_>) -> Option<History> {
    if matches!(field.node.value, Value::Scalar { .. }) {
        let value = reader.value(field, "`full` or `depth`", |text| match text {
            "full" => Ok(History::Full),
            _ => Err(BadValue::new(
                "is not known",
                "write `full` or `{ depth: 50 }`",
            )),
        });
        return value.map(|v| v.value);
    }
    let fields = reader.fields(field, "`full` or `depth`", HISTORY_KEYS)?;
    let Some(depth) = fields.get("depth") else {
        reader.problem(
            field.span(),
            "`history` has no `depth`",
            "write `{ depth: 50 }`",
        );
        return None;
    };
    let depth = reader.integer(depth, (1, i64::from(i32::MAX)))?;
    u32::try_from(depth.value).ok().map(History::Depth)
}

fn max_parallel(reader: &mut Reader<'_>, field: Field<'_>) -> Option<At<usize>> {
    let number = reader.integer(field, (1, MOST_PARALLEL))?;
    let value = usize::try_from(number.value).ok()?;
    Some(At {
        value,
        span: number.span,
    })
}

/// Neither part may hold what git would take as the end of it.
fn author(reader: &mut Reader<'_>, field: Field<'_>) -> Option<Identity> {
    let identity = |name: &str, email: &str| {
        let (name, email) = (name.trim(), email.trim());
        let plain =
            |t: &str| !t.is_empty() && !t.contains(['<', '>']) && !t.contains(char::is_control);
        (plain(name) && plain(email)).then(|| Identity {
            name: name.to_owned(),
            email: email.to_owned(),
        })
    };
    let bad = || {
        BadValue::new(
            "is not a name and an address",
            "write `Name <name@example.org>`",
        )
    };
    if matches!(field.node.value, Value::Scalar { .. }) {
        let value = reader.value(field, "`Name <mail>`", |text| {
            let parts = text
                .trim()
                .strip_suffix('>')
                .and_then(|t| t.split_once('<'));
            parts
                .and_then(|(name, email)| identity(name, email))
                .ok_or_else(bad)
        });
        return value.map(|v| v.value);
    }
    let fields = reader.fields(field, "`Name <mail>`, or `name` and `email`", AUTHOR_KEYS)?;
    let mut part = |key| fields.get(key).map(|f| reader.line(f));
    let (Some(name), Some(email)) = (part("name"), part("email")) else {
        reader.problem(field.span(), "`author` needs both `name` and `email`", "");
        return None;
    };
    let made = identity(&name?.value, &email?.value);
    if made.is_none() {
        let title = "`author` has an empty part, or `<` or `>` in it";
        reader.problem(field.span(), title, bad().hint);
    }
    made
}
