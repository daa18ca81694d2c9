//! Which paths a set of patterns asks for, told name by name on the way down a tree, so that nobody
//! looks into directories where nothing can match.

use crate::id::{Part, PathPattern};

/// Patterns, taken apart.
pub(super) struct Patterns(Vec<Vec<Part>>);

/// What the patterns ask for at some place of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The place, and everything below it.
    pub(super) all: bool,
    /// Something of this very name, here or below: not only whatever any number of directories holds.
    pub(super) named: bool,
    /// How far patterns have come that may match below: a pattern and its next part.
    open: Vec<(usize, usize)>,
}

impl Wanted {
    /// Whether anything here or below can be asked for.
    pub(super) fn any(&self) -> bool {
        self.all || !self.open.is_empty()
    }
}

impl Patterns {
    pub(super) fn new(patterns: &[PathPattern]) -> Self {
        Self(patterns.iter().map(PathPattern::parts).collect())
    }

    /// What is asked for of the top.
    pub(super) fn top(&self) -> Wanted {
        let mut wanted = Wanted::default();
        for pattern in 0..self.0.len() {
            self.reach(&mut wanted, pattern, 0);
        }
        wanted.named = wanted.all;
        wanted
    }

    /// What is asked for of `name` in a directory of which `above` is asked.
    pub(super) fn step(&self, above: &Wanted, name: &[u8]) -> Wanted {
        let mut wanted = Wanted {
            all: above.all,
            named: above.all,
            open: Vec::new(),
        };
        if above.all {
            return wanted;
        }
        for &(pattern, part) in &above.open {
            match &self.0[pattern][part] {
                Part::AnyDirectories => self.reach(&mut wanted, pattern, part),
                own if own.names(name) => {
                    wanted.named = true;
                    self.reach(&mut wanted, pattern, part + 1);
                }
                Part::Name(_) => {}
            }
        }
        wanted
    }

    /// Notes that a pattern has come to a part, and to what follows where that may stand for nothing.
    fn reach(&self, wanted: &mut Wanted, pattern: usize, part: usize) {
        let place = (pattern, part);
        match self.0[pattern].get(part) {
            None => wanted.all = true,
            Some(_) if wanted.open.contains(&place) => {}
            Some(Part::AnyDirectories) => {
                wanted.open.push(place);
                self.reach(wanted, pattern, part + 1);
            }
            Some(Part::Name(_)) => wanted.open.push(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the patterns ask for of a path: itself, on the way, or nothing.
    fn asked(patterns: &[&str], path: &str) -> &'static str {
        let patterns: Vec<PathPattern> = patterns.iter().map(|p| p.parse().unwrap()).collect();
        let patterns = Patterns::new(&patterns);
        let mut wanted = patterns.top();
        for name in path.split('/') {
            wanted = patterns.step(&wanted, name.as_bytes());
        }
        match wanted {
            Wanted { all: true, .. } => "all",
            Wanted { named: true, .. } => "named",
            ref on_the_way if on_the_way.any() => "way",
            _ => "no",
        }
    }

    #[test]
    fn patterns_match_names_and_directories_stand_for_what_they_hold() {
        for (pattern, path, told) in [
            ("a.txt", "a.txt", "all"),
            ("a.txt", "b.txt", "no"),
            ("a.txt", "d/a.txt", "no"),
            ("*.txt", "a.txt", "all"),
            ("*.txt", ".a.txt", "all"),
            ("*.txt", "d/a.txt", "no"),
            ("reports", "reports/deep/down", "all"),
            ("./reports//", "reports/x", "all"),
            ("reports/**", "reports", "all"),
            ("reports/*.xml", "reports", "named"),
            ("reports/*.xml", "reports/a.xml", "all"),
            ("reports/*.xml", "reports/a.txt", "no"),
            ("**/a.xml", "a.xml", "all"),
            ("**/a.xml", "x/y/a.xml", "all"),
            ("**/a.xml", "x/y", "way"),
            ("**/r/*.xml", "x/r", "named"),
            ("**/r/*.xml", "x/r/a.xml", "all"),
            ("**/r/**/a", "r/x/y/r/a", "all"),
            ("**", "x/y", "all"),
            (".", "x/y", "all"),
            ("{a,b}/?[0-9]", "b/x7", "all"),
            ("{a,b}/?[0-9]", "b/xy", "no"),
            (r"\*", "*", "all"),
            (r"\*", "a", "no"),
        ] {
            assert_eq!(asked(&[pattern], path), told, "{pattern} {path}");
        }
        assert_eq!(asked(&["a", "b/c"], "b/c"), "all");
        assert_eq!(asked(&["a", "b/c"], "b"), "named");
    }

    #[test]
    fn many_stars_cost_little() {
        let pattern = ["**/a"; 100].join("/");
        let path = ["a"; 1000].join("/");
        assert_eq!(asked(&[&pattern], &path), "all");
        assert_eq!(asked(&[&"*a".repeat(200)], &"a".repeat(199)), "no");
    }
}
