//! The patterns of `.dockerignore`: moby/patternmatcher's rules, which are not gitignore's.
//!
//! Every pattern is anchored at the context's root; a pattern that matches a directory covers all
//! below it; the last pattern that matches decides; `!` brings back.

use std::path::Path;

/// The patterns of one file, in order.
#[derive(Debug, Default)]
pub(super) struct IgnoreRules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    parts: Vec<String>,
    exception: bool,
}

impl IgnoreRules {
    /// Reads the patterns of a file's text; lines that start with `#` are comments.
    pub(super) fn parse(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(Rule::parse).collect())
    }

    /// Whether a path relative to the context's root is left out.
    pub(super) fn ignores(&self, path: &Path) -> bool {
        let names: Vec<String> = path
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        let last = self.0.iter().rev().find(|rule| rule.covers(&names));
        last.is_some_and(|rule| !rule.exception)
    }

    /// Whether some pattern brings paths back.
    pub(super) fn has_exceptions(&self) -> bool {
        self.0.iter().any(|rule| rule.exception)
    }
}

impl Rule {
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let (exception, pattern) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        let mut parts: Vec<String> = Vec::new();
        for part in pattern.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                other => parts.push(other.to_owned()),
            }
        }
        (!parts.is_empty()).then_some(Self { parts, exception })
    }

    /// Whether the pattern matches the path or one of the directories above it.
    fn covers(&self, names: &[String]) -> bool {
        (1..=names.len()).any(|length| matches_path(&self.parts, &names[..length]))
    }
}

fn matches_path(pattern: &[String], names: &[String]) -> bool {
    match pattern.split_first() {
        None => names.is_empty(),
        Some((first, rest)) if first == "**" => {
            // A trailing `**` matches what is below, not the directory itself.
            let at_least = usize::from(rest.is_empty());
            (at_least..=names.len()).any(|skipped| matches_path(rest, &names[skipped..]))
        }
        Some((first, rest)) => names.split_first().is_some_and(|(name, below)| {
            let pattern: Vec<char> = first.chars().collect();
            let name: Vec<char> = name.chars().collect();
            matches_name(&pattern, &name) && matches_path(rest, below)
        }),
    }
}

/// Matches one name by Go's `filepath.Match`: `*`, `?`, `[a-z]`, `[^a-z]`, and `\` before a character.
fn matches_name(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => (0..=name.len()).any(|skipped| matches_name(rest, &name[skipped..])),
        Some(('?', rest)) => !name.is_empty() && matches_name(rest, &name[1..]),
        Some(('[', rest)) => name.split_first().is_some_and(|(c, below)| {
            match_class(rest, *c)
                .is_some_and(|(inside, after)| inside && matches_name(after, below))
        }),
        Some(('\\', [escaped, rest @ ..]) | (escaped, rest)) => {
            name.first() == Some(escaped) && matches_name(rest, &name[1..])
        }
    }
}

/// Whether `c` is in the class that starts the pattern, and what follows the class. A class
/// without an end matches nothing.
fn match_class(pattern: &[char], c: char) -> Option<(bool, &[char])> {
    let (negated, mut rest) = match pattern {
        ['^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    let mut inside = false;
    let mut first = true;
    loop {
        match rest {
            [']', after @ ..] if !first => return Some((inside != negated, after)),
            _ => {
                let (low, after) = class_char(rest)?;
                let (high, after) = match after {
                    ['-', end @ ..] => class_char(end)?,
                    _ => (low, after),
                };
                inside |= (low..=high).contains(&c);
                rest = after;
            }
        }
        first = false;
    }
}

fn class_char(pattern: &[char]) -> Option<(char, &[char])> {
    match pattern {
        [']' | '-', ..] | [] => None,
        ['\\', c, rest @ ..] | [c, rest @ ..] => Some((*c, rest)),
    }
}
