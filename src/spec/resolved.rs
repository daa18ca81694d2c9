//! A spec as it is understood, written as a spec again: anchors, `defaults` and `${…}` resolved.
//!
//! Works on the tree, so that values stay in the words of their author. What comes out means the
//! same when it is read again, wherever that is.

use std::collections::BTreeSet;

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_yaml::LitStr;

use super::agent::meant;
use super::diagnostic::Diagnostics;
use super::interpolate::{CLOSE, MatrixNames, Names, OPEN, kept};
use super::merge::{merge, normalise};
use super::reader::{Field, Fields, Reader};
use super::source::SourceFile;
use super::tree::{self, Entry, Node, Value};
use super::{Context, parse};
use crate::agents::OWN;
use crate::id::TaskId;

/// Writes a spec that reads without problems, with these tasks of it and what they need, or all if none
/// are named.
///
/// Variables of a task stay as the spec writes them, `${…}` and all: their values may be secret.
/// So do scripts and prompts, where nothing is ever interpolated. Paths are absolute.
///
/// # Errors
/// The problems of the spec.
pub fn resolved(
    source: &SourceFile,
    context: &Context<'_>,
    select: &[TaskId],
) -> Result<String, Diagnostics> {
    let spec = parse(source, context)?;
    let select = &spec.with_needs(select);
    let source = spec.source;
    let mut problems = Vec::new();
    let root = tree::parse(&source, &mut problems);
    let mut writer = Writer {
        reader: Reader {
            source: &source,
            context,
            names: Names::default(),
            problems,
        },
    };
    let written = root.map(|root| writer.root(&root, select));
    let problems = writer.reader.problems;
    Diagnostics::check(&source, problems)?;
    let text = serde_yaml::to_string(&written.unwrap_or(Written::Map(Vec::new())));
    // Only a map whose keys are no text cannot be written, and here is none.
    Ok(text.unwrap_or_default())
}

/// A value on its way to YAML.
enum Written {
    /// `plain` if it had no quotes, so that it may be a number.
    Text {
        text: String,
        plain: bool,
    },
    List(Vec<Written>),
    Map(Vec<(String, Written)>),
}

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text { text, plain: true } if text == "true" || text == "false" => {
                serializer.serialize_bool(text == "true")
            }
            // A number that is written otherwise than the library does would change: `1.10`.
            Self::Text { text, plain: true } => match (text.parse::<i64>(), text.parse::<f64>()) {
                (Ok(n), _) if n.to_string() == *text => serializer.serialize_i64(n),
                (_, Ok(n)) if n.to_string() == *text && is_short(text) => {
                    serializer.serialize_f64(n)
                }
                _ => serializer.serialize_str(text),
            },
            Self::Text { text, .. } if text.contains('\n') => LitStr(text).serialize(serializer),
            Self::Text { text, .. } => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

/// Whether a number has a point and few digits, so that nobody writes it with an exponent.
fn is_short(number: &str) -> bool {
    let parts = number.split_once('.');
    parts.is_some_and(|(whole, part)| whole.len() < 10 && part.len() < 4)
}

/// What to do with the texts of a value.
#[derive(Clone, Copy)]
enum Texts {
    /// They are never interpolated, or must not be shown.
    AsWritten,
    Interpolated,
    /// Interpolated, and made absolute.
    Paths,
}

struct Writer<'a> {
    reader: Reader<'a>,
}

impl Writer<'_> {
    fn root(&mut self, root: &Node, select: &BTreeSet<TaskId>) -> Written {
        let entries = entries_of(root);
        let defaults = entries.iter().find(|e| e.key == "defaults");
        let defaults = defaults.map(|e| normalise(&mut self.reader, &e.node, &[]));
        let defaults = defaults.unwrap_or_default();
        let mut written = Vec::new();
        for entry in entries
            .iter()
            .filter(|e| is_meant(e) && e.key != "defaults")
        {
            let value = match entry.key.as_str() {
                "tasks" => self.tasks(&entry.node, &defaults, select),
                "agents" => self.agents(&entry.node),
                "secrets" => self.secrets(&entry.node),
                "repo" => self.value(entry, Texts::Paths),
                _ => self.value(entry, Texts::Interpolated),
            };
            written.push((entry.key.clone(), value));
        }
        Written::Map(written)
    }

    fn tasks(&mut self, node: &Node, defaults: &[Entry], select: &BTreeSet<TaskId>) -> Written {
        let selected = |e: &&Entry| select.iter().any(|id| id.task() == e.key);
        let tasks = entries_of(node).iter().filter(|e| !e.key.starts_with("x-"));
        let tasks = tasks.filter(selected).map(|entry| {
            let own = normalise(&mut self.reader, &entry.node, defaults);
            let keys = meant(merge(defaults, &own), &own);
            self.reader.names = names(&entry.key, Fields(&keys).get("matrix").is_some());
            let keys = keys.iter().filter(|e| is_meant(e));
            let keys = keys.map(|entry| (entry.key.clone(), self.task_value(entry)));
            (entry.key.clone(), Written::Map(keys.collect()))
        });
        let tasks = tasks.collect();
        self.reader.names = Names::default();
        Written::Map(tasks)
    }

    /// Names of a task and of a cell stay as they are: each task has its own.
    fn agents(&mut self, node: &Node) -> Written {
        let agents = entries_of(node).iter().filter(|e| is_meant(e));
        self.reader.names = names("", true);
        let agents = agents.map(|entry| {
            let keys = normalise(&mut self.reader, &entry.node, &[]);
            let keys = keys.iter().filter(|e| is_meant(e));
            let keys = keys.map(|entry| (entry.key.clone(), self.task_value(entry)));
            (entry.key.clone(), Written::Map(keys.collect()))
        });
        let agents = agents.collect();
        self.reader.names = Names::default();
        Written::Map(agents)
    }

    fn task_value(&mut self, entry: &Entry) -> Written {
        let is_text = matches!(entry.node.value, Value::Scalar { .. });
        match entry.key.as_str() {
            "run" | "environment" => self.value(entry, Texts::AsWritten),
            "prompt" | "setup" | "verify" if is_text => self.value(entry, Texts::AsWritten),
            "preview" | "setup" | "verify" => self.inner(entry, (&["run"], Texts::AsWritten)),
            "command" | "entrypoint" | "args" if is_text => self.words(entry),
            "build" if is_text => self.value(entry, Texts::Paths),
            "build" => self.inner(entry, (&["context"], Texts::Paths)),
            "prompt" => self.inner(entry, (&["file"], Texts::Paths)),
            "env_file" => self.env_files(entry),
            "services" => self.services(entry),
            _ => self.value(entry, Texts::Interpolated),
        }
    }

    fn secrets(&mut self, node: &Node) -> Written {
        let secrets = entries_of(node).iter().filter(|e| is_meant(e));
        let secrets = secrets.map(|entry| {
            let origin = entries_of(&entry.node).iter().filter(|e| is_meant(e));
            let origin = origin.map(|entry| {
                let value = match entry.key.as_str() {
                    "command" => self.words(entry),
                    "file" => self.value(entry, Texts::Paths),
                    _ => self.value(entry, Texts::Interpolated),
                };
                (entry.key.clone(), value)
            });
            (entry.key.clone(), Written::Map(origin.collect()))
        });
        Written::Map(secrets.collect())
    }

    /// Variables and scripts of services stay as the spec writes them, like those of tasks.
    fn services(&mut self, entry: &Entry) -> Written {
        const AS_WRITTEN: &[&str] = &["environment", "snapshot"];
        let Value::Map(services) = &entry.node.value else {
            return self.value(entry, Texts::Interpolated);
        };
        let services = services.iter().filter(|e| is_meant(e));
        let services = services.map(|entry| {
            let value = match entry.node.value {
                Value::Map(_) => self.inner(entry, (AS_WRITTEN, Texts::AsWritten)),
                _ if entry.key == "compose" => self.value(entry, Texts::Paths),
                _ => self.value(entry, Texts::Interpolated),
            };
            (entry.key.clone(), value)
        });
        Written::Map(services.collect())
    }

    /// A map of ours, in which the texts of some keys are treated otherwise.
    fn inner(&mut self, entry: &Entry, (keys, texts): (&[&str], Texts)) -> Written {
        let inner = entries_of(&entry.node).iter().filter(|e| is_meant(e));
        let inner = inner.map(|entry| {
            let texts = if keys.contains(&entry.key.as_str()) {
                texts
            } else {
                Texts::Interpolated
            };
            (entry.key.clone(), self.value(entry, texts))
        });
        Written::Map(inner.collect())
    }

    fn env_files(&mut self, entry: &Entry) -> Written {
        let mut file = |node: &std::rc::Rc<Node>| {
            let item = Entry {
                node: node.clone(),
                ..entry.clone()
            };
            match item.node.value {
                Value::Map(_) => self.inner(&item, (&["path"], Texts::Paths)),
                _ => self.value(&item, Texts::Paths),
            }
        };
        match &entry.node.value {
            Value::List(items) => Written::List(items.iter().map(file).collect()),
            _ => file(&entry.node),
        }
    }

    /// A text that is split first and interpolated then is a list of words from now on.
    fn words(&mut self, entry: &Entry) -> Written {
        let Value::Scalar { text, .. } = &entry.node.value else {
            return self.value(entry, Texts::Interpolated);
        };
        // It was read before: it can be split.
        let words = shell_words::split(text).unwrap_or_default();
        let words = words.iter().map(|word| {
            let text = self.text(entry, word, Texts::Interpolated);
            Written::Text { text, plain: false }
        });
        Written::List(words.collect())
    }

    fn value(&mut self, entry: &Entry, texts: Texts) -> Written {
        let child = |key: &str, node: &std::rc::Rc<Node>| Entry {
            key: key.to_owned(),
            node: node.clone(),
            ..entry.clone()
        };
        match &entry.node.value {
            Value::Null => Written::Text {
                text: String::new(),
                plain: true,
            },
            Value::Scalar { text, plain } => Written::Text {
                plain: *plain,
                text: self.text(entry, text, texts),
            },
            Value::List(items) => {
                let items = items.iter();
                let items = items.map(|node| self.value(&child(&entry.key, node), texts));
                Written::List(items.collect())
            }
            Value::Map(entries) => {
                let entries = entries.iter().filter(|e| is_meant(e));
                let entries = entries.map(|e| (e.key.clone(), self.value(e, texts)));
                Written::Map(entries.collect())
            }
        }
    }

    fn text(&mut self, entry: &Entry, text: &str, texts: Texts) -> String {
        if matches!(texts, Texts::AsWritten) {
            return text.to_owned();
        }
        let field = Field {
            key: &entry.key,
            node: &entry.node,
        };
        let text = self.reader.interpolate(field, text).unwrap_or_default();
        let text = match texts {
            Texts::Paths if !text.starts_with(OWN) => {
                let path = self.reader.context.directory.join(&text);
                path.display().to_string()
            }
            _ => text,
        };
        // Each run has an id of its own, and so has each cell.
        let text = escaped(&text).replace(self.reader.context.run.as_str(), "${run.id}");
        text.replace(OPEN, "${").replace(CLOSE, "}")
    }
}

/// A matrix has values of its own for its names in each cell: they stay as they are.
fn names(task: &str, has_matrix: bool) -> Names {
    let own = |name: &str| {
        if has_matrix {
            kept(name)
        } else {
            task.to_owned()
        }
    };
    Names {
        task: Some((own("task.id"), own("task.slug"))),
        matrix: if has_matrix {
            MatrixNames::Kept
        } else {
            MatrixNames::None
        },
        services: None,
    }
}

fn entries_of(node: &Node) -> &[Entry] {
    match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

/// Whether an entry says anything: `x-` keys and what is null do not.
fn is_meant(entry: &Entry) -> bool {
    !entry.key.starts_with("x-") && !matches!(entry.node.value, Value::Null)
}

/// A text that interpolation makes this text of.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        escaped.push(character);
        if character == '$' && matches!(characters.peek(), Some('$' | '{')) {
            escaped.push('$');
        }
    }
    escaped
}
