//! Paths of files and directories in a worktree, as a spec names them. Nothing looks at a disk.

use std::path::Path;
use std::str::FromStr;

use super::{InvalidName, WorktreePath, invalid};

/// Longest path, in bytes.
const LONGEST: usize = 1000;

impl WorktreePath {
    /// It as a relative path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Its names, from the top of the worktree.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Where a container sees it.
    pub fn inside(&self) -> String {
        format!("/workspace/{}", self.0)
    }

    /// Whether one is the other, or lies in it.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.as_path().starts_with(other.as_path()) || other.as_path().starts_with(self.as_path())
    }
}

impl FromStr for WorktreePath {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |problem| Err(invalid("path", text, problem));
        let trimmed = text.trim_end_matches('/');
        let has = |bad: &[&str]| trimmed.split('/').any(|part| bad.contains(&part));
        if text.is_empty() {
            refuse("is empty")
        } else if text.len() > LONGEST {
            refuse("is longer than 1000 bytes")
        } else if text.contains(char::is_control) {
            refuse("holds control characters")
        } else if text.starts_with('/') {
            refuse("is not relative to /workspace")
        } else if has(&[".."]) {
            refuse("has `..` in it")
        } else if has(&["", "."]) {
            refuse("has an empty part, or `.`")
        } else if trimmed.split('/').any(|p| p.eq_ignore_ascii_case(".git")) {
            refuse("lies in `.git`")
        } else {
            Ok(Self(trimmed.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_worktree_stays_in_it() {
        let read = |text: &str| text.parse::<WorktreePath>();
        for text in ["node_modules", "web/node_modules", "a b/ü", "..x/.github"] {
            assert_eq!(read(text).expect("a path").as_str(), text);
        }
        assert_eq!(read("target/").expect("a path").as_str(), "target");
        for text in [
            "",
            "/",
            "/etc",
            "..",
            "a/../b",
            ".",
            "./a",
            "a//b",
            ".git",
            ".git/hooks",
            "a/.GIT/b",
            "a\nb",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_overlap_by_whole_names() {
        let overlap = |a: &str, b: &str| {
            let (a, b): (WorktreePath, WorktreePath) =
                (a.parse().expect("a path"), b.parse().expect("a path"));
            a.overlaps(&b)
        };
        assert!(overlap("a/b", "a") && overlap("a", "a/b/c") && overlap("a", "a"));
        assert!(!overlap("a", "ab") && !overlap("a/b", "a/c"));
    }
}
