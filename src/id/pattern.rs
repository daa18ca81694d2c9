//! Patterns of paths, taken apart at `/`: each part matches one name, or any number of directories.
//!
//! Names are bytes here, as the file system has them. Nothing looks at a disk.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use super::{InvalidName, PathPattern, invalid};

/// Longest pattern, in bytes.
const LONGEST: usize = 1000;

/// One part of a [`PathPattern`].
#[derive(Debug, Clone)]
pub enum Part {
    /// `**`: any number of directories, none as well.
    AnyDirectories,
    /// A name with `*`, `?`, `[…]` and `{…,…}` in it.
    Name(GlobMatcher),
}

impl Part {
    /// Whether this part is a name that matches `name`.
    pub fn names(&self, name: &[u8]) -> bool {
        match self {
            Self::AnyDirectories => false,
            Self::Name(glob) => glob.is_match(Path::new(OsStr::from_bytes(name))),
        }
    }

    fn new(text: &str) -> Result<Self, globset::Error> {
        if text == "**" {
            return Ok(Self::AnyDirectories);
        }
        let glob = GlobBuilder::new(text).backslash_escape(true).build()?;
        Ok(Self::Name(glob.compile_matcher()))
    }
}

impl PathPattern {
    /// Its parts; none for the directory itself.
    pub fn parts(&self) -> Vec<Part> {
        // It was valid at birth.
        parts(&self.0)
            .map(Part::new)
            .filter_map(Result::ok)
            .collect()
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split('/').filter(|part| !matches!(*part, "" | "."))
}

impl FromStr for PathPattern {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |problem| Err(invalid("pattern", text, problem));
        if text.is_empty() {
            refuse("is empty")
        } else if text.len() > LONGEST {
            refuse("is longer than 1000 bytes")
        } else if text.contains(char::is_control) {
            refuse("holds control characters")
        } else if text.starts_with('/') {
            refuse("is not relative to /workspace")
        } else if parts(text).any(|part| part == "..") {
            refuse("has `..` in it")
        } else if parts(text).any(|part| Part::new(part).is_err()) {
            refuse("has an open `[`, `{` or `\\`; `{…}` may hold no `/`")
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}
