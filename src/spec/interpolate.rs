//! `${NAME}` in values: only the braced form, and only what compose-spec defines for it.
//!
//! Works on one scalar's text after parsing, so that a value never changes the YAML around it.

use super::Context;

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

/// The text with every `${…}` replaced and every `$$` made a dollar. `task` is the value of
/// `${task.id}`, where there is a task.
pub(super) fn interpolate(
    text: &str,
    context: &Context<'_>,
    task: Option<&str>,
) -> Result<String, Refusal> {
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
            result.push_str(&evaluate(expression, context, task)?);
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

fn evaluate(
    expression: &str,
    context: &Context<'_>,
    task: Option<&str>,
) -> Result<String, Refusal> {
    let inside = &expression[2..expression.len() - 1];
    if inside.contains("${") {
        let title = "`${` inside of `${…}`".into();
        return Err(Refusal::new(expression, title, "use a default without it"));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let end = inside.find(|c| !is_name(c)).unwrap_or(inside.len());
    let (name, operation) = inside.split_at(end);
    if name.contains('.') {
        return own_name(expression, name, operation, context, task);
    }
    let operator = OPERATORS.iter().find(|o| operation.starts_with(**o));
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || (operator.is_none() && !operation.is_empty()) {
        let title = format!("`{expression}` is not a variable");
        let hint = "write `${NAME}` or `${NAME:-default}`, or `$${` for the characters themselves";
        return Err(Refusal::new(expression, title, hint));
    }
    let value = (context.environment)(name);
    let operator = operator.copied().unwrap_or_default();
    let word = operation[operator.len()..].replace("$$", "$");
    let counts = |v: &String| !operator.starts_with(':') || !v.is_empty();
    let value = value.filter(counts);
    match (operator.trim_start_matches(':'), value) {
        ("+", Some(_)) | ("-", None) => Ok(word),
        ("+", None) => Ok(String::new()),
        (_, Some(value)) => Ok(value),
        ("?", None) if !word.is_empty() => {
            let title = format!("environment variable `{name}` is not set: {word}");
            Err(Refusal::new(expression, title, ""))
        }
        (_, None) => {
            let title = format!("environment variable `{name}` is not set and has no default");
            let hint = format!("set it, or write `${{{name}:-default}}`");
            Err(Refusal::new(expression, title, hint))
        }
    }
}

fn own_name(
    expression: &str,
    name: &str,
    operation: &str,
    context: &Context<'_>,
    task: Option<&str>,
) -> Result<String, Refusal> {
    let refuse = |title: String, hint| Err(Refusal::new(expression, title, hint));
    if !operation.is_empty() {
        let title = format!("`{name}` is always set and takes no default");
        return refuse(title, format!("write `${{{name}}}`"));
    }
    match (name, task) {
        ("run.id", _) => Ok(context.run.to_string()),
        ("task.id", Some(task)) => Ok(task.to_owned()),
        ("task.id", None) => refuse("`task.id` has a value in tasks only".into(), String::new()),
        _ => refuse(
            format!("unknown name `{name}`"),
            "names with a dot are agent-run's own: `run.id`, `task.id`".into(),
        ),
    }
}
