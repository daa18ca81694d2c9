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
/// Characters by which a name stands for others than itself.
const SPECIAL: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

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

impl Part {
    /// Whether one name may match both.
    fn may_be_same(&self, other: &Self) -> bool {
        let (Self::Name(one), Self::Name(two)) = (self, other) else {
            return true;
        };
        let (one, two) = (one.glob().glob(), two.glob().glob());
        match (is_plain(one), is_plain(two)) {
            (true, true) => one == two,
            (true, false) => other.names(one.as_bytes()),
            (false, true) => self.names(two.as_bytes()),
            (false, false) => {
                let (ours, theirs) = (plain_ends(one), plain_ends(two));
                let begins = ours.0.starts_with(theirs.0) || theirs.0.starts_with(ours.0);
                begins && (ours.1.ends_with(theirs.1) || theirs.1.ends_with(ours.1))
            }
        }
    }
}

/// Whether a part of a pattern stands for itself only.
fn is_plain(part: &str) -> bool {
    !part.contains(SPECIAL)
}

/// What a part begins and ends with, whatever stands between.
fn plain_ends(part: &str) -> (&str, &str) {
    let first = part.find(SPECIAL).unwrap_or(part.len());
    let after_last = part.rfind(SPECIAL).map_or(0, |at| at + 1);
    (&part[..first], &part[after_last..])
}

/// A set of patterns of paths: a directory stands for everything in it.
#[derive(Debug, Clone)]
pub struct Area(Vec<Vec<Part>>);

impl Area {
    /// What these patterns cover together.
    pub fn of(patterns: &[PathPattern]) -> Self {
        Self(patterns.iter().map(PathPattern::parts).collect())
    }

    /// Whether a path, as git names it, or a directory that it is in is in the area.
    pub fn covers(&self, path: &[u8]) -> bool {
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        self.0.iter().any(|pattern| covers(pattern, &names))
    }

    /// Whether some path may be in both areas. Says so too often rather than not often enough:
    /// of two names with wildcards only what they begin and end with is compared.
    pub fn may_meet(&self, other: &Self) -> bool {
        let pairs = self
            .0
            .iter()
            .flat_map(|p| other.0.iter().map(move |q| (p, q)));
        pairs.into_iter().any(|(p, q)| may_meet(p, q))
    }
}

/// Walks all ways through the pattern at once: `open` holds where each of them is.
fn covers(pattern: &[Part], names: &[&[u8]]) -> bool {
    let skip_any = |open: &mut Vec<bool>| {
        for at in 0..pattern.len() {
            if open[at] && matches!(pattern[at], Part::AnyDirectories) {
                open[at + 1] = true;
            }
        }
    };
    let mut open = vec![false; pattern.len() + 1];
    open[0] = true;
    skip_any(&mut open);
    for name in names {
        if open[pattern.len()] {
            return true;
        }
        let mut next = vec![false; pattern.len() + 1];
        for (at, part) in pattern.iter().enumerate().filter(|(at, _)| open[*at]) {
            match part {
                Part::AnyDirectories => next[at] = true,
                Part::Name(_) => next[at + 1] |= part.names(name),
            }
        }
        open = next;
        skip_any(&mut open);
    }
    open[pattern.len()]
}

/// Whether two patterns may cover one path, by what can follow from each pair of places.
fn may_meet(one: &[Part], two: &[Part]) -> bool {
    let width = two.len() + 1;
    let mut meets = vec![false; (one.len() + 1) * width];
    for i in (0..=one.len()).rev() {
        for j in (0..=two.len()).rev() {
            meets[i * width + j] = match (one.get(i), two.get(j)) {
                // Everything below is covered by the one that is at its end.
                (None, _) | (_, None) => true,
                (Some(Part::AnyDirectories), Some(_)) | (Some(_), Some(Part::AnyDirectories)) => {
                    meets[(i + 1) * width + j] || meets[i * width + j + 1]
                }
                (Some(p), Some(q)) => p.may_be_same(q) && meets[(i + 1) * width + j + 1],
            };
        }
    }
    meets[0]
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn area(patterns: &[&str]) -> Area {
        let patterns: Vec<PathPattern> = patterns.iter().map(|p| p.parse().expect(p)).collect();
        Area::of(&patterns)
    }

    #[test]
    fn a_directory_covers_what_is_in_it() {
        let cases = [
            ("src/api", "src/api", true),
            ("src/api", "src/api/v1/a.rs", true),
            ("src/api/", "src/api/a", true),
            ("src/api", "src/apis", false),
            ("src/api/**", "src/api/v1/a.rs", true),
            ("src/**/a.rs", "src/a.rs", true),
            ("src/**/a.rs", "src/x/y/a.rs", true),
            ("src/**/a.rs", "src/x/y/b.rs", false),
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "docs/a/README.md", true),
            ("**", "anything", true),
            (".", "anything/below", true),
        ];
        for (pattern, path, covered) in cases {
            assert_eq!(
                area(&[pattern]).covers(path.as_bytes()),
                covered,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn areas_meet_where_one_path_may_be_in_both() {
        let cases = [
            ("src/api", "src/web", false),
            ("src/api", "src/api/v1", true),
            ("src", "src/api/**", true),
            ("*.md", "*.rs", false),
            ("docs/*.md", "docs/a*", true),
            ("docs/*.md", "src/**", false),
            ("**/*.md", "src/**", true),
            ("**/a.rs", "src/b.rs", true),
            ("**/a.rs", "**/b.rs", true),
            ("src/{a,b}.rs", "src/b.rs", true),
            ("src/{a,b}.rs", "src/c.rs", false),
            ("src/lib*", "src/main*", false),
        ];
        for (one, two, meet) in cases {
            assert_eq!(area(&[one]).may_meet(&area(&[two])), meet, "{one} {two}");
            assert_eq!(area(&[two]).may_meet(&area(&[one])), meet, "{two} {one}");
        }
    }

    proptest! {
        #[test]
        fn areas_that_cover_one_path_meet(
            path in "[ab]{1,3}(/[ab]{1,3}){0,3}",
            patterns in proptest::array::uniform2("(\\*\\*/)?[ab*?]{1,3}(/(\\*\\*|[ab*?]{1,3})){0,3}"),
        ) {
            let [one, two] = patterns.map(|pattern| area(&[&pattern]));
            if one.covers(path.as_bytes()) && two.covers(path.as_bytes()) {
                prop_assert!(one.may_meet(&two));
            }
        }
    }
}
