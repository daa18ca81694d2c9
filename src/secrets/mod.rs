//! Secret values: types that cannot be printed or serialised, and the streaming redactor.

mod forms;
mod redact;

use std::fmt;

pub use redact::{MASK, Needles, Redactor};

/// A secret or possibly secret text, such as the value of an environment variable.
///
/// It has no `Serialize` and its `Debug` shows nothing, so that it cannot reach a plan, a journal,
/// an event or an error by accident.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SecretString(String);

impl SecretString {
    /// Wraps a value.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value, for the one place that hands it on.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its lines without the white space around them, empty ones left out: where something can mask
    /// no more than a line, such as the log of a CI system, it must be told each of them.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        lines(&self.0)
    }
}

fn lines(value: &str) -> impl Iterator<Item = &str> {
    let lines = value.split(['\n', '\r']).map(str::trim);
    lines.filter(|line| !line.is_empty())
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Secret bytes on their way to a container.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Wraps a value.
    pub fn new(value: Vec<u8>) -> Self {
        Self(value)
    }

    /// The value, for the one place that hands it on.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}
