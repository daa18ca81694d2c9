//! Which tasks are meant by words of a command line, and which are run where there are none. Pure.

use std::collections::BTreeSet;

use globset::GlobBuilder;

use crate::id::TaskId;
use crate::spec::RunSpec;

/// What selects all profiles, as in compose.
const ALL_PROFILES: &str = "*";

/// Whether a word is no name but a pattern: `*` stands for any characters, `?` for one.
pub fn is_pattern(word: &str) -> bool {
    word.contains(['*', '?'])
}

/// The tasks that a word means, in their order: the one with this id; else the cells of the task with this
/// name, all or those with these values; else those whose ids match this pattern.
pub fn matching<'a>(ids: &[&'a TaskId], word: &str) -> Vec<&'a TaskId> {
    let those = |is_meant: &dyn Fn(&TaskId) -> bool| -> Vec<&'a TaskId> {
        ids.iter().copied().filter(|id| is_meant(id)).collect()
    };
    let the_one = those(&|id| id.as_str() == word);
    if !the_one.is_empty() {
        return the_one;
    }
    if let Ok(meant) = word.parse::<TaskId>() {
        return those(&|id| meant.means_cell(id));
    }
    if !is_pattern(word) {
        return Vec::new();
    }
    let glob = GlobBuilder::new(&escaped(word))
        .backslash_escape(true)
        .build();
    let Ok(glob) = glob.map(|glob| glob.compile_matcher()) else {
        return Vec::new();
    };
    those(&|id| glob.is_match(id.as_str()))
}

/// Ids have brackets, which mean nothing here; several stars are as one.
fn escaped(word: &str) -> String {
    let mut pattern = String::new();
    for c in word.chars() {
        if c == '*' && pattern.ends_with('*') {
            continue;
        }
        if !c.is_ascii_alphanumeric() && c != '*' && c != '?' {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// The tasks of a spec that are run where none is named: those without profiles, and those of one of these.
///
/// # Errors
/// The first of the profiles that no task has.
pub fn of_profiles(spec: &RunSpec, profiles: &[String]) -> Result<Vec<TaskId>, String> {
    let known: BTreeSet<&str> = self::profiles(spec).collect();
    let is_unknown = |name: &&String| *name != ALL_PROFILES && !known.contains(name.as_str());
    if let Some(unknown) = profiles.iter().find(is_unknown) {
        return Err(unknown.clone());
    }
    let is_on = |name: &String| profiles.iter().any(|on| on == ALL_PROFILES || on == name);
    let tasks = spec.tasks.iter();
    let tasks = tasks.filter(|task| task.profiles.is_empty() || task.profiles.iter().any(is_on));
    Ok(tasks.map(|task| task.id.value.clone()).collect())
}

/// The profiles of a spec's tasks, some of them several times.
pub fn profiles(spec: &RunSpec) -> impl Iterator<Item = &str> {
    spec.tasks
        .iter()
        .flat_map(|task| task.profiles.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(word: &str) -> String {
        let ids = [
            "fix",
            "review[model=small,os=linux]",
            "review[model=small,os=mac]",
            "review[model=large,os=mac]",
            "review-all",
            "lint[v=a/b]",
        ];
        let ids: Vec<TaskId> = ids.iter().map(|id| id.parse().expect("an id")).collect();
        let ids: Vec<&TaskId> = ids.iter().collect();
        let matched = matching(&ids, word);
        let places = ids.iter().zip(0..).filter(|(id, _)| matched.contains(id));
        places.map(|(_, place)| char::from(b'0' + place)).collect()
    }

    #[test]
    fn names_and_values() {
        for (word, expected) in [
            ("fix", "0"),
            ("fi", ""),
            ("review", "123"),
            ("review[model=small,os=mac]", "2"),
            ("review[model=small]", "12"),
            ("review[os=mac,model=small]", "2"),
            ("review[os=mac]", "23"),
            ("review[os=win]", ""),
            ("fix[os=mac]", ""),
            ("review-all", "4"),
            ("", ""),
        ] {
            assert_eq!(matched(word), expected, "{word}");
        }
    }

    #[test]
    fn patterns() {
        for (word, expected) in [
            ("*", "012345"),
            ("review*", "1234"),
            ("review[*", "123"),
            ("review[*os=mac]", "23"),
            ("*[model=small,*]", "12"),
            ("**small**", "12"),
            ("f?x", "0"),
            ("f??x", ""),
            ("lint*", "5"),
            ("*/b]", "5"),
            ("{fix,lint}*", ""),
            ("[a-z]*", ""),
            ("\\*", ""),
        ] {
            assert_eq!(matched(word), expected, "{word}");
        }
    }
}
