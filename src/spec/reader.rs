//! What every reader of the tree uses: typed values out of nodes, problems collected.
//!
//! Nothing here knows what a key means.

use std::path::PathBuf;
use std::str::FromStr;

use super::Context;
use super::diagnostic::{Diagnostic, shown};
use super::hints::{Level, unknown_key};
use super::interpolate::{Names, interpolate};
use super::source::{At, SourceFile, Span};
use super::tree::{Entry, Node, Value};
use super::units::BadValue;
use crate::id::InvalidName;

/// A node and the key it stands under, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'n> {
    pub key: &'n str,
    pub node: &'n Node,
}

impl<'n> Field<'n> {
    pub fn span(self) -> Span {
        self.node.span
    }

    /// The same key with another node: an item of its list.
    pub fn item(self, node: &'n Node) -> Self {
        Self {
            key: self.key,
            node,
        }
    }
}

/// The entries of a map whose keys were checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'n>(pub &'n [Entry]);

impl<'n> Fields<'n> {
    /// The value of a key; `None` if it is absent or null.
    pub fn get(self, key: &str) -> Option<Field<'n>> {
        let entry = self.0.iter().find(|e| e.key == key)?;
        let (key, node) = (entry.key.as_str(), &*entry.node);
        (!matches!(node.value, Value::Null)).then_some(Field { key, node })
    }
}

/// Reads nodes and collects what is wrong with them.
pub(super) struct Reader<'a> {
    pub source: &'a SourceFile,
    pub context: &'a Context<'a>,
    /// What names with a dot stand for.
    pub names: Names,
    pub problems: Vec<Diagnostic>,
}

impl Reader<'_> {
    pub fn problem(&mut self, span: Span, title: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Diagnostic::new(span, title, hint));
    }

    pub fn wrong_type(&mut self, field: Field<'_>, expected: &str) {
        let found = match &field.node.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        };
        let title = format!("`{}` must be {expected}, not {found}", shown(field.key));
        self.problem(field.span(), title, "");
    }

    pub fn bad_value(&mut self, field: Field<'_>, text: &str, bad: BadValue) {
        let title = format!("`{}: {}` {}", shown(field.key), shown(text), bad.problem);
        self.problem(field.span(), title, bad.hint);
    }

    /// The text of a scalar as it is written.
    pub fn raw<'n>(&mut self, field: Field<'n>, expected: &str) -> Option<&'n str> {
        match &field.node.value {
            Value::Scalar { text, .. } if text.contains('\0') => {
                let title = format!("`{}` holds a NUL character", shown(field.key));
                self.problem(field.span(), title, "");
                None
            }
            Value::Scalar { text, .. } => Some(text),
            _ => {
                self.wrong_type(field, expected);
                None
            }
        }
    }

    /// The text of a scalar, interpolated.
    pub fn text(&mut self, field: Field<'_>, expected: &str) -> Option<String> {
        let raw = self.raw(field, expected)?;
        self.interpolate(field, raw)
    }

    /// Interpolates a text of a field.
    pub fn interpolate(&mut self, field: Field<'_>, text: &str) -> Option<String> {
        match interpolate(text, self.context, &self.names) {
            Ok(Some(text)) if !text.contains('\0') => Some(text),
            // Whoever takes it over finds what is wrong with it.
            Ok(None) => None,
            Ok(Some(_)) => {
                let title = format!("`{}` holds a NUL character", shown(field.key));
                self.problem(field.span(), title, "");
                None
            }
            Err(refusal) => {
                let written = self.source.text().get(field.span().range());
                let span = match written.and_then(|w| w.find(&refusal.expression)) {
                    Some(at) => Span {
                        start: field.span().start + at,
                        end: field.span().start + at + refusal.expression.len(),
                    },
                    None => field.span(),
                };
                self.problem(span, refusal.title, refusal.hint);
                None
            }
        }
    }

    /// A scalar as a checked value. Messages show what is written, never what it expands to:
    /// that may be secret.
    pub fn value<T>(
        &mut self,
        field: Field<'_>,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, BadValue>,
    ) -> Option<At<T>> {
        let raw = self.raw(field, expected)?;
        let text = self.interpolate(field, raw)?;
        match parse(&text) {
            Ok(value) => Some(At {
                value,
                span: field.span(),
            }),
            Err(bad) => {
                self.bad_value(field, raw, bad);
                None
            }
        }
    }

    /// A scalar as one of the names of [`crate::id`].
    pub fn name<T>(&mut self, field: Field<'_>, expected: &str) -> Option<At<T>>
    where
        T: FromStr<Err = InvalidName>,
    {
        let parse = |text: &str| {
            text.parse()
                .map_err(|e: InvalidName| BadValue::new(e.problem, ""))
        };
        self.value(field, expected, parse)
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, field: Field<'_>, bounds: (i64, i64)) -> Option<At<i64>> {
        let (least, most) = bounds;
        self.value(field, "a whole number", |text| match text.parse::<i64>() {
            Ok(number) if number >= least && number <= most => Ok(number),
            Ok(_) => {
                let hint = format!("write a whole number from {least} to {most}");
                Err(BadValue::new("is out of bounds", hint))
            }
            Err(_) => Err(BadValue::new("is not a whole number", "")),
        })
    }

    /// `true` or `false`; nothing else, as in YAML 1.2.
    pub fn claim(&mut self, field: Field<'_>) -> Option<bool> {
        let value = self.value(field, "true or false", |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(BadValue::new("is not a truth value", "write true or false")),
        });
        value.map(|v| v.value)
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, field: Field<'_>, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let value = self.value(field, "a word", |text| {
            let found = words.iter().find(|(name, _)| *name == text);
            let hint = || format!("write one of: {}", names.join(", "));
            found.map_or_else(
                || Err(BadValue::new("is not known", hint())),
                |(_, value)| Ok(*value),
            )
        });
        value.map(|v| v.value)
    }

    /// A text that is not empty.
    pub fn line(&mut self, field: Field<'_>) -> Option<At<String>> {
        self.value(field, "text", |text| match text {
            "" => Err(BadValue::new("is empty", "")),
            t if t.contains(char::is_control) => {
                Err(BadValue::new("holds control characters", "write one line"))
            }
            t => Ok(t.to_owned()),
        })
    }

    /// A path, relative to the spec's directory.
    pub fn path(&mut self, field: Field<'_>) -> Option<At<PathBuf>> {
        let text = self.line(field)?;
        Some(At {
            value: self.context.directory.join(text.value),
            span: text.span,
        })
    }

    /// The items of a list.
    pub fn items<'n>(&mut self, field: Field<'n>, expected: &str) -> Vec<Field<'n>> {
        if let Value::List(nodes) = &field.node.value {
            nodes.iter().map(|node| field.item(node)).collect()
        } else {
            self.wrong_type(field, expected);
            Vec::new()
        }
    }

    /// The items of a list, or a scalar as its only item.
    pub fn one_or_many<'n>(&mut self, field: Field<'n>, expected: &str) -> Vec<Field<'n>> {
        match field.node.value {
            Value::Scalar { .. } => vec![field],
            _ => self.items(field, expected),
        }
    }

    /// The entries of a map with keys of the user's.
    pub fn entries<'n>(&mut self, field: Field<'n>, expected: &str) -> &'n [Entry] {
        if let Value::Map(entries) = &field.node.value {
            entries
        } else {
            self.wrong_type(field, expected);
            &[]
        }
    }

    /// The entries of a map with keys of ours, the unknown ones refused.
    pub fn fields<'n>(
        &mut self,
        field: Field<'n>,
        expected: &str,
        keys: &[&str],
    ) -> Option<Fields<'n>> {
        let Value::Map(entries) = &field.node.value else {
            self.wrong_type(field, expected);
            return None;
        };
        let place = format!("in `{}`", shown(field.key));
        self.check_keys(entries, &place, keys, Level::Inner);
        Some(Fields(entries))
    }

    pub fn check_keys(&mut self, entries: &[Entry], place: &str, keys: &[&str], level: Level) {
        for entry in entries {
            let key = entry.key.as_str();
            if !key.starts_with("x-") && !keys.contains(&key) {
                let title = format!("unknown key `{}` {place}", shown(key));
                self.problem(entry.key_span, title, unknown_key(key, keys, level));
            }
        }
    }
}
