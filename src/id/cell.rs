//! Tasks of a matrix: the ids of its cells, the values in them, and the names that are made of both.
//!
//! `review[model=small,os=linux]` is the cell of the task `review` with these values. What an id may not
//! hold is replaced in it, so that whatever shows ids need not care what a spec has for values.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InvalidName, TaskId, hex_hash, invalid};

/// Longest id of a cell, in bytes.
const LONGEST_ID: usize = 200;
/// Longest value in an id, in bytes: of a longer one the beginning and a hash of all of it.
const LONGEST_VALUE: usize = 40;
/// Longest slug, in bytes: a file name that has it takes 255 with what is added.
const LONGEST_SLUG: usize = 80;
/// Longest host name, in bytes: one DNS label.
const LONGEST_LABEL: usize = 63;

/// What a cell of a matrix has for an axis. As JSON a truth value, a number or a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CellValue {
    /// `true` or `false`.
    Claim(bool),
    /// A number that is written as everybody writes it.
    Number(serde_json::Number),
    /// Anything else.
    Text(String),
}

impl CellValue {
    /// A value as it is written; `plain` if it had no quotes, so that it may be a number.
    pub fn new(text: String, plain: bool) -> Self {
        if plain && (text == "true" || text == "false") {
            return Self::Claim(text == "true");
        }
        // `1.10` and `1e3` would be written otherwise than their author did.
        match text.parse::<serde_json::Number>() {
            Ok(number) if plain && number.to_string() == text => Self::Number(number),
            _ => Self::Text(text),
        }
    }
}

impl fmt::Display for CellValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(claim) => claim.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl TaskId {
    /// The id of a task that a spec may name: no cell.
    ///
    /// # Errors
    /// [`InvalidName`].
    pub fn plain(text: &str) -> Result<Self, InvalidName> {
        check_plain(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The id of this task's cell with these values, in this order.
    ///
    /// # Errors
    /// [`InvalidName`], where it would be too long.
    pub fn cell<'a>(
        &self,
        values: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Result<Self, InvalidName> {
        let values = values.into_iter();
        let values = values.map(|(name, value)| format!("{name}={}", shown(&value)));
        let values: Vec<String> = values.collect();
        format!("{}[{}]", self.0, values.join(",")).parse()
    }

    /// The task as the spec names it: `review` of `review[model=small]`, else all of it.
    pub fn task(&self) -> &str {
        self.0.split('[').next().unwrap_or_default()
    }

    /// Whether it is a cell of a matrix.
    pub fn is_cell(&self) -> bool {
        self.0.ends_with(']')
    }

    /// The values of a cell, as its id shows them; of another task none.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        let values = self.0.split_once('[').map_or("", |(_, values)| values);
        let values = values.trim_end_matches(']').split(',');
        values.filter_map(|value| value.split_once('='))
    }

    /// Whether this is the name of a task of which the other is a cell, or that with some of its values.
    pub fn means_cell(&self, other: &Self) -> bool {
        let has = |value| other.values().any(|known| known == value);
        other.is_cell() && other.task() == self.task() && self.values().all(has)
    }

    /// What names of files, branches and refs have for the id: the id itself; of a cell
    /// `review+model=small`, with a hash of the id where that would not fit or not tell it from others.
    pub fn slug(&self) -> Cow<'_, str> {
        if !self.is_cell() {
            return self.as_str().into();
        }
        let slug = self.0.trim_end_matches(']').replace(['[', ','], "+");
        let is_exact = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+=_-".contains(c);
        let values = slug.strip_prefix(self.task()).unwrap_or_default();
        let is_ref = !slug.contains("..") && !slug.ends_with('.') && !slug.ends_with(".lock");
        let is_whole = values.chars().all(|c| is_exact(c) || c == '.');
        if slug.len() <= LONGEST_SLUG && is_whole && is_ref {
            return slug.into();
        }
        let values = values.to_ascii_lowercase();
        let values = values.replace(|c| !is_exact(c), "-");
        let mut slug = format!("{}{values}", self.task());
        slug.truncate(LONGEST_SLUG - 9);
        // Each part of a slug without a hash has a `=`.
        format!("{slug}+{}", hex_hash(self.0.as_bytes(), 8)).into()
    }

    /// The same with letters, digits, `.`, `_` and `-` only: of a cell always with a hash.
    pub fn word(&self) -> Cow<'_, str> {
        if !self.is_cell() {
            return self.as_str().into();
        }
        let slug = self.slug().replace(['+', '='], "-");
        format!("{slug}-{}", hex_hash(self.0.as_bytes(), 8)).into()
    }

    /// The id as one DNS label.
    pub(super) fn label(&self) -> String {
        let slug = self.slug();
        let label = slug.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let label = &label[..label.len().min(LONGEST_LABEL)];
        label.trim_end_matches('-').to_owned()
    }
}

/// A value as ids have it.
fn shown(value: &str) -> String {
    let replaced = value.replace(|c| !is_shown(c), "_");
    if replaced.len() <= LONGEST_VALUE {
        return replaced;
    }
    let hash = hex_hash(value.as_bytes(), 8);
    format!("{}~{hash}", &replaced[..LONGEST_VALUE - 9])
}

/// Whether ids may have a character in their values.
fn is_shown(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-/:@+~".contains(c)
}

/// Whether a text can be the name of an axis, so that `AGENT_MATRIX_` and it in capitals is a variable.
pub fn is_axis(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 40 && name.chars().all(fits)
}

impl std::str::FromStr for TaskId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let Some((task, values)) = text.split_once('[') else {
            return Self::plain(text);
        };
        check_plain(task)?;
        let is_value = |value: &str| {
            value
                .split_once('=')
                .is_some_and(|(name, value)| is_axis(name) && value.chars().all(is_shown))
        };
        let values = values.strip_suffix(']');
        if text.len() > LONGEST_ID {
            let problem = "is longer than 200 characters: shorten the values of its matrix";
            Err(invalid("task id", text, problem))
        } else if values.is_none_or(|values| !values.split(',').all(is_value)) {
            let problem = "is not of the form TASK[AXIS=VALUE,…]";
            Err(invalid("task id", text, problem))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

fn check_plain(text: &str) -> Result<(), InvalidName> {
    let refuse = |problem| Err(invalid("task id", text, problem));
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if text.is_empty() {
        refuse("is empty")
    } else if text.len() > 48 {
        refuse("is longer than 48 characters")
    } else if !plain(text.as_bytes()[0]) {
        refuse("does not start with a lower-case letter or a digit")
    } else if !text.bytes().all(|b| plain(b) || b"._-".contains(&b)) {
        refuse("has characters other than lower-case letters, digits, `.`, `_` and `-`")
    } else if text.ends_with(".lock") || text.ends_with('.') || text.contains("..") {
        refuse("ends in `.lock` or `.`, or has `..` in it, which no branch name may")
    } else {
        Ok(())
    }
}
