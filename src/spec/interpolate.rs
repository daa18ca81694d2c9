//! `${NAME}` in values: only the braced form, and only what compose-spec defines for it.
//!
//! Works on one scalar's text after parsing, so that a value never changes the YAML around it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::Context;
use super::matrix::nearest;
use super::services::ServiceNames;
use crate::id::TaskId;

/// Why a text cannot be interpolated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The expression, from `${` on, as written.
    pub expression: String,
    /// What is wrong.
    pub title: String,
    /// What to do.
    pub hint: String,
}

impl Refusal {
    fn new(expression: &str, title: String, hint: impl Into<String>) -> Self {
        Self {
            expression: expression.to_owned(),
            title,
            hint: hint.into(),
        }
    }
}

/// What stands for `${` and `}` of an expression that is kept. Unicode assigns no meaning to them.
pub(super) const OPEN: char = '\u{fdd0}';
pub(super) const CLOSE: char = '\u{fdd1}';

/// What names with a dot stand for, at some place of a spec.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// `${task.id}` and `${task.slug}`, where there is a task.
    pub task: Option<(String, String)>,
    /// `${matrix.…}`.
    pub matrix: MatrixNames,
    /// `${services.…}`, where they are known.
    pub services: Option<ServiceNames>,
}

/// What `${matrix.…}` stands for.
#[derive(Debug, Clone, Default)]
pub(super) enum MatrixNames {
    /// There is no matrix.
    #[default]
    None,
    /// That is known only where the value is taken over, as from `defaults`.
    Later,
    /// They stay as they are, between [`OPEN`] and [`CLOSE`].
    Kept,
    /// The values of a cell.
    Cell {
        values: BTreeMap<String, String>,
        /// The names of all cells of the matrix.
        known: Rc<BTreeSet<String>>,
    },
}

impl Names {
    /// Those of a task that is no cell.
    pub fn of(task: &TaskId) -> Self {
        Self {
            task: Some((task.to_string(), task.slug().into_owned())),
            matrix: MatrixNames::None,
            services: None,
        }
    }
}

/// Why there is no text.
enum Stop {
    Refused(Refusal),
    /// It has a name whose value is known later.
    Later,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The text with every `${…}` replaced and every `$$` made a dollar; none where that is known later.
pub(super) fn interpolate(
    text: &str,
    context: &Context<'_>,
    names: &Names,
) -> Result<Option<String>, Refusal> {
    match replaced(text, context, names) {
        Ok(text) => Ok(Some(text)),
        Err(Stop::Later) => Ok(None),
        Err(Stop::Refused(refusal)) => Err(refusal),
    }
}

fn replaced(text: &str, context: &Context<'_>, names: &Names) -> Result<String, Stop> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let tail = &rest[at..];
        if let Some(after) = tail.strip_prefix("$$") {
            result.push('$');
            rest = after;
        } else if tail.starts_with("${") {
            let end = tail.find('}').ok_or_else(|| unclosed(tail))?;
            let expression = &tail[..=end];
            result.push_str(&evaluate(expression, context, names)?);
            rest = &tail[end + 1..];
        } else {
            result.push('$');
            rest = &tail[1..];
        }
    }
    result.push_str(rest);
    Ok(result)
}

fn unclosed(tail: &str) -> Refusal {
    Refusal::new(
        tail,
        "`${` without `}`".into(),
        "write `$${` for the characters themselves",
    )
}

/// The operators of compose-spec, the longer ones first.
const OPERATORS: [&str; 6] = [":-", ":?", ":+", "-", "?", "+"];

fn evaluate(expression: &str, context: &Context<'_>, names: &Names) -> Result<String, Stop> {
    let inside = &expression[2..expression.len() - 1];
    if inside.contains("${") {
        let title = "`${` inside of `${…}`".into();
        return Err(Refusal::new(expression, title, "use a default without it").into());
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let end = inside.find(|c| !is_name(c)).unwrap_or(inside.len());
    let (name, operation) = inside.split_at(end);
    let operator = OPERATORS.iter().find(|o| operation.starts_with(**o));
    let is_axis = name.starts_with("matrix.");
    if name.contains('.') && !is_axis {
        return Ok(own_name(expression, name, operation, context, names)?);
    }
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || (operator.is_none() && !operation.is_empty()) {
        let title = format!("`{expression}` is not a variable");
        let hint = "write `${NAME}` or `${NAME:-default}`, or `$${` for the characters themselves";
        return Err(Refusal::new(expression, title, hint).into());
    }
    if is_axis && matches!(names.matrix, MatrixNames::Kept) {
        return Ok(kept(inside));
    }
    let (value, what) = if is_axis {
        let value = cell_value(expression, name, names)?;
        (value, format!("`{name}` has no value in this cell"))
    } else {
        let what = format!("environment variable `{name}` is not set");
        ((context.environment)(name), what)
    };
    let operator = operator.copied().unwrap_or_default();
    let word = operation[operator.len()..].replace("$$", "$");
    let counts = |v: &String| !operator.starts_with(':') || !v.is_empty();
    let value = value.filter(counts);
    match (operator.trim_start_matches(':'), value) {
        ("+", Some(_)) | ("-", None) => Ok(word),
        ("+", None) => Ok(String::new()),
        (_, Some(value)) => Ok(value),
        ("?", None) if !word.is_empty() => {
            Err(Refusal::new(expression, format!("{what}: {word}"), "").into())
        }
        (_, None) => {
            let set = if is_axis { "give it one" } else { "set it" };
            let hint = format!("{set}, or write `${{{name}:-default}}`");
            let title = format!("{what} and has no default");
            Err(Refusal::new(expression, title, hint).into())
        }
    }
}

/// An expression that is interpolated another time.
pub(super) fn kept(inside: &str) -> String {
    format!("{OPEN}{}{CLOSE}", inside.replace("$$", "$"))
}

/// The value of `matrix.…` in a cell; none where only other cells have one.
fn cell_value(expression: &str, name: &str, names: &Names) -> Result<Option<String>, Stop> {
    let axis = name.split_once('.').map_or("", |(_, axis)| axis);
    match &names.matrix {
        MatrixNames::Later => Err(Stop::Later),
        MatrixNames::Cell { values, known } if known.contains(axis) => {
            Ok(values.get(axis).cloned())
        }
        MatrixNames::Cell { known, .. } => {
            let title = format!("the matrix has no `{axis}`");
            let hint = nearest(axis, known.iter().map(String::as_str), "it has");
            Err(Refusal::new(expression, title, hint).into())
        }
        MatrixNames::None | MatrixNames::Kept => {
            let title = format!("`{name}` where there is no matrix");
            let hint = "it has a value in the other keys of a task with a `matrix`";
            Err(Refusal::new(expression, title, hint).into())
        }
    }
}

fn own_name(
    expression: &str,
    name: &str,
    operation: &str,
    context: &Context<'_>,
    names: &Names,
) -> Result<String, Refusal> {
    let refuse = |title: String, hint| Err(Refusal::new(expression, title, hint));
    if !operation.is_empty() {
        let title = format!("`{name}` is always set and takes no default");
        return refuse(title, format!("write `${{{name}}}`"));
    }
    match (name, &names.task) {
        ("run.id", _) => Ok(context.run.to_string()),
        ("task.id", Some((id, _))) => Ok(id.clone()),
        ("task.slug", Some((_, slug))) => Ok(slug.clone()),
        ("task.id" | "task.slug", None) => {
            refuse(format!("`{name}` has a value in tasks only"), String::new())
        }
        _ if name.starts_with("services.") => of_service(expression, name, names),
        _ => {
            let title = format!("unknown name `{name}`");
            let hint = "names with a dot are agent-run's own: `run.id`, `task.id`, `task.slug`, `matrix.…`, `services.…`";
            refuse(title, hint.into())
        }
    }
}

/// What the task of a service is to call it by.
fn of_service(expression: &str, name: &str, names: &Names) -> Result<String, Refusal> {
    let refuse = |title: String, hint: String| Err(Refusal::new(expression, title, hint));
    let Some(known) = &names.services else {
        let title = format!("`{name}` where no services are known");
        return refuse(
            title,
            "it has a value in the other keys of their task".into(),
        );
    };
    let words = name.split('.').skip(1).collect::<Vec<_>>();
    let [service, what @ ("host" | "port")] = words[..] else {
        let title = format!("unknown name `{name}`");
        return refuse(
            title,
            "write `services.NAME.host` or `services.NAME.port`".into(),
        );
    };
    let port = match known {
        ServiceNames::InFile if what == "host" => return Ok(service.to_owned()),
        ServiceNames::InFile => {
            let title = format!("`{name}` is not known: a file names the services");
            return refuse(title, "write the number".into());
        }
        ServiceNames::Known(known) => match known.get(service) {
            None => {
                let title = format!("the task has no service `{service}`");
                let hint = nearest(service, known.keys().map(String::as_str), "it has");
                return refuse(title, hint);
            }
            Some(_) if what == "host" => return Ok(service.to_owned()),
            Some(port) => port,
        },
    };
    let Some(port) = port else {
        let title = format!("nothing says on which port service `{service}` listens");
        return refuse(title, "write `expose`, such as `expose: [5432]`".into());
    };
    Ok(port.to_string())
}
