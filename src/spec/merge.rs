//! `defaults` under a task: maps by key, lists replace, null resets.
//!
//! Works on the tree, before anything is read, so that `${task.id}` in `defaults` has each task's
//! value.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::diagnostic::shown;
use super::reader::Reader;
use super::source::Span;
use super::tree::{Entry, Node, Value};

/// The entries of a task with those of `defaults` under them. Both were normalised.
pub(super) fn merge(below: &[Entry], above: &[Entry]) -> Vec<Entry> {
    let mut merged: Vec<Entry> = Vec::new();
    let under: HashMap<&str, &Entry> = below.iter().map(|e| (e.key.as_str(), e)).collect();
    for entry in above {
        merged.push(match under.get(entry.key.as_str()) {
            Some(other) => merge_entry(other, entry),
            None => entry.clone(),
        });
    }
    let over: HashSet<&str> = above.iter().map(|e| e.key.as_str()).collect();
    let is_new = |e: &&Entry| !over.contains(e.key.as_str());
    merged.extend(below.iter().filter(is_new).cloned());
    merged.retain(|e| !matches!(e.node.value, Value::Null));
    merged
}

fn merge_entry(below: &Entry, above: &Entry) -> Entry {
    let (Value::Map(under), Value::Map(over)) = (&below.node.value, &above.node.value) else {
        return above.clone();
    };
    let node = Node {
        span: above.node.span,
        value: Value::Map(merge(under, over)),
    };
    Entry {
        node: Rc::new(node),
        ..above.clone()
    }
}

/// Brings `env` and `environment`, in all their forms, to one map under `environment`, and `prompt_file`
/// to `prompt`.
/// `inherited` are the names that null may reset.
pub(super) fn normalise(reader: &mut Reader<'_>, node: &Node, inherited: &[Entry]) -> Vec<Entry> {
    let Value::Map(entries) = &node.value else {
        return Vec::new();
    };
    let mut result: Vec<Entry> = Vec::new();
    for entry in entries {
        if entry.key == "prompt_file" {
            prompt_file(reader, entry, entries, &mut result);
        } else if entry.key != "env" && entry.key != "environment" {
            result.push(entry.clone());
        } else if result.iter().any(|e| e.key == "environment") {
            let title = "`env` and `environment` are the same key";
            reader.problem(entry.key_span, title, "write one of them");
        } else {
            let value = environment(reader, entry, inherited);
            let node = Rc::new(Node {
                span: entry.node.span,
                value,
            });
            result.push(Entry {
                key: "environment".to_owned(),
                key_span: entry.key_span,
                node,
            });
        }
    }
    result
}

/// `prompt_file: PATH` is short for `prompt: { file: PATH }`.
fn prompt_file(reader: &mut Reader<'_>, entry: &Entry, entries: &[Entry], result: &mut Vec<Entry>) {
    if entries.iter().any(|e| e.key == "prompt") {
        let title = "both `prompt` and `prompt_file` are given";
        reader.problem(entry.key_span, title, "keep one");
        return;
    }
    let value = match &entry.node.value {
        Value::Null => Value::Null,
        Value::Scalar { .. } => Value::Map(vec![Entry {
            key: "file".to_owned(),
            ..entry.clone()
        }]),
        _ => {
            let title = "`prompt_file` must be a path";
            reader.problem(entry.node.span, title, "");
            return;
        }
    };
    let node = Rc::new(Node {
        span: entry.node.span,
        value,
    });
    result.push(Entry {
        key: "prompt".to_owned(),
        key_span: entry.key_span,
        node,
    });
}

fn environment(reader: &mut Reader<'_>, entry: &Entry, inherited: &[Entry]) -> Value {
    match &entry.node.value {
        Value::Map(variables) => {
            let inherited = inherited.iter().find(|e| e.key == "environment");
            let inherited = match inherited.map(|e| &e.node.value) {
                Some(Value::Map(names)) => names.as_slice(),
                _ => &[],
            };
            let fits = |variable: &&Entry| {
                container_variable(reader, &variable.key, variable.key_span)
                    && has_meaning(reader, variable, inherited)
            };
            Value::Map(variables.iter().filter(fits).cloned().collect())
        }
        Value::List(items) => {
            let mut variables: Vec<Entry> = Vec::new();
            for item in items {
                let Some(variable) = listed(reader, item) else {
                    continue;
                };
                if variables.iter().any(|v| v.key == variable.key) {
                    let title = format!("duplicate variable `{}`", variable.key);
                    reader.problem(item.span, title, "");
                } else {
                    variables.push(variable);
                }
            }
            Value::Map(variables)
        }
        other => other.clone(),
    }
}

/// Null resets, and nothing else: compose-spec's null would pass a variable through unseen.
fn has_meaning(reader: &mut Reader<'_>, variable: &Entry, inherited: &[Entry]) -> bool {
    let is_null = matches!(variable.node.value, Value::Null);
    let meant = !is_null || inherited.iter().any(|e| e.key == variable.key);
    if !meant {
        let key = shown(&variable.key);
        let title = format!("`{key}` has no value");
        let hint = format!("write `{key}: ${{{key}}}` to pass yours through, or `{key}: \"\"`");
        reader.problem(variable.key_span, title, hint);
    }
    meant
}

/// `KEY=value`, or `KEY` as short for `KEY=${KEY}`.
fn listed(reader: &mut Reader<'_>, item: &Rc<Node>) -> Option<Entry> {
    let Value::Scalar { text, .. } = &item.value else {
        let title = "an item of `environment` must be `KEY=value` or `KEY`";
        reader.problem(item.span, title, "");
        return None;
    };
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, value.to_owned()),
        None => (text.as_str(), format!("${{{text}}}")),
    };
    container_variable(reader, key, item.span).then(|| Entry {
        key: key.to_owned(),
        key_span: item.span,
        node: Rc::new(Node {
            span: item.span,
            value: Value::Scalar {
                text: value,
                plain: false,
            },
        }),
    })
}

/// Whether a text is the name of a variable that a spec may set inside; a problem if not.
pub(super) fn container_variable(reader: &mut Reader<'_>, name: &str, span: Span) -> bool {
    if is_own(name) {
        let title = format!("`{name}` is a name of agent-run's own");
        reader.problem(span, title, "choose one that does not start with `AGENT_`");
        return false;
    }
    variable_name(reader, name, span)
}

/// Whether the name is one of those that agent-run tells a task about itself by.
pub(super) fn is_own(name: &str) -> bool {
    name.starts_with("AGENT_")
}

/// Whether a text is the name of an environment variable; a problem if not.
pub(super) fn variable_name(reader: &mut Reader<'_>, name: &str, span: Span) -> bool {
    let fits = is_variable_name(name);
    if !fits {
        let title = format!(
            "`{}` is not the name of an environment variable",
            shown(name)
        );
        reader.problem(span, title, "letters, digits and `_`, no digit first");
    }
    fits
}

pub(super) fn is_variable_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}
