//! Versions of an engine's programs against the advisories that are known of them.

use serde::Deserialize;

use super::finding::Finding;
use crate::engine::{Component, EngineInfo};
use crate::sanitize;

/// The table; a test holds it readable.
const TABLE: &str = include_str!("advisories.yaml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    as_of: String,
    advisories: Vec<Advisory>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advisory {
    component: String,
    ids: Vec<String>,
    fixed: Vec<String>,
    what: String,
    source: String,
}

/// A version up to its patch level, and the number of the candidate for it; a release is newer than
/// its candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    numbers: [u32; 3],
    candidate: u32,
}

impl Version {
    /// Reads `1.1.5`, `1.0.0-rc95`, `1.4.0-rc.3`; gives what follows as well: a distribution's part.
    fn read(text: &str) -> Option<(Self, &str)> {
        let text = text.trim().trim_start_matches('v');
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.'));
        let (numbers, rest) = text.split_at(end.unwrap_or(text.len()));
        let mut parts = numbers.split('.').map(|part| part.parse().ok());
        let first = parts.next()??;
        let mut next = || parts.next().flatten().unwrap_or(0);
        let numbers = [first, next(), next()];
        let candidate = rest.strip_prefix("-rc").map(|rest| {
            let rest = rest.trim_start_matches('.');
            let end = rest.find(|c: char| !c.is_ascii_digit());
            rest.split_at(end.unwrap_or(rest.len()))
        });
        let (candidate, rest) = match candidate {
            Some((number, rest)) => (number.parse().ok()?, rest),
            None => (u32::MAX, rest),
        };
        Some((Self { numbers, candidate }, rest))
    }

    fn same_line(&self, other: &Self) -> bool {
        self.numbers[..2] == other.numbers[..2]
    }
}

impl Advisory {
    fn concerns(&self, version: &Version) -> bool {
        let fixed = || self.fixed.iter().filter_map(|text| Version::read(text));
        let of_line = fixed().find(|(fix, _)| fix.same_line(version));
        let first_good = of_line.or_else(|| fixed().max_by_key(|(fix, _)| *fix));
        first_good.is_some_and(|(fix, _)| *version < fix)
    }
}

/// One finding for each program that the table knows and the engine names.
pub(super) fn findings(info: &EngineInfo) -> Vec<Finding> {
    let table: Table = match serde_yaml::from_str(TABLE) {
        Ok(table) => table,
        Err(error) => return vec![Finding::warn("advisories", error.to_string())],
    };
    let engine = Component {
        name: "Docker".into(),
        version: info.version.clone(),
    };
    let known = |component: &&Component| {
        let mut of_table = table.advisories.iter();
        of_table.any(|advisory| advisory.component == component.name)
    };
    let components = std::iter::once(&engine).chain(&info.components);
    components
        .filter(known)
        .map(|c| finding(&table, c))
        .collect()
}

fn finding(table: &Table, component: &Component) -> Finding {
    let Component { name, version } = component;
    let shown = sanitize::line(version.as_bytes(), false);
    let Some((number, rest)) = Version::read(version) else {
        return Finding::skip(name, format!("{shown}: not compared with any advisory"));
    };
    let mut of_component = table.advisories.iter().filter(|a| a.component == *name);
    let open: Vec<&Advisory> = of_component
        .by_ref()
        .filter(|a| a.concerns(&number))
        .collect();
    if open.is_empty() {
        let as_of = &table.as_of;
        return Finding::ok(
            name,
            format!("{shown}: no advisory known on {as_of} concerns it"),
        );
    }
    let details = open.iter().map(|advisory| {
        let (ids, fixed) = (advisory.ids.join(", "), advisory.fixed.join(", "));
        format!("{ids}: {} (fixed in {fixed})", advisory.what)
    });
    let sources = open.iter().map(|advisory| advisory.source.clone());
    let message = format!("{shown} is older than the fixes of these advisories");
    let upgrade = format!("upgrade {name}, or put the engine into a virtual machine of its own");
    let fix = if rest.starts_with(['+', '~', '-']) {
        let package = match name.as_str() {
            "Docker" => "docker.io",
            other => other,
        };
        format!(
            "see which of them your distribution has fixed in it (apt changelog {package} | grep CVE-); {upgrade}"
        )
    } else {
        upgrade
    };
    Finding::warn(name, message)
        .details(details)
        .sources(sources)
        .fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::read(text).expect("a version").0
    }

    #[test]
    fn the_table_is_readable_and_every_version_in_it_is_one() {
        let table: Table = serde_yaml::from_str(TABLE).expect("the table");
        assert!(table.as_of.parse::<jiff::civil::Date>().is_ok());
        for advisory in &table.advisories {
            assert!(advisory.source.starts_with("https://"));
            assert!(advisory.ids.iter().all(|id| id.starts_with("CVE-")));
            for fixed in &advisory.fixed {
                assert!(advisory.concerns(&version("0.1")), "{advisory:?}");
                assert!(!advisory.concerns(&version(fixed)), "{advisory:?}");
            }
        }
    }

    #[test]
    fn a_version_is_held_against_the_fix_of_its_own_line() {
        let table: Table = serde_yaml::from_str(TABLE).expect("the table");
        let of = |name: &str, text: &str| -> Vec<&str> {
            let (version, _) = Version::read(text).expect("a version");
            let concerning = table.advisories.iter().filter(|a| a.component == name);
            let concerning = concerning.filter(|a| a.concerns(&version));
            concerning.map(|a| a.ids[0].as_str()).collect()
        };
        assert_eq!(
            of("runc", "1.1.5+ds1"),
            ["CVE-2024-21626", "CVE-2025-31133"]
        );
        assert_eq!(of("runc", "1.0.0-rc93").len(), 4);
        for good in [
            "1.2.8",
            "1.3.3",
            "1.4.0-rc.3",
            "1.4.0",
            "1.5.0-rc.1",
            "2.0.0",
        ] {
            assert_eq!(of("runc", good), [] as [&str; 0], "{good}");
        }
        for bad in ["1.1.15", "1.2.7", "1.3.2", "1.4.0-rc.2"] {
            assert_eq!(of("runc", bad), ["CVE-2025-31133"], "{bad}");
        }
        assert_eq!(of("Docker", "24.0.9").first(), Some(&"CVE-2024-41110"));
        assert_eq!(of("Docker", "29.4.3"), [] as [&str; 0]);
        assert_eq!(
            of("Docker Desktop", "4.41.2 (191736)"),
            ["CVE-2025-9074", "CVE-2026-5843"]
        );
    }
}
