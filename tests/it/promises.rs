//! `docs/reliability.md` names a test for its promises, and each of them is there.

use std::fs;
use std::path::Path;

/// The text of all files below a directory.
fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    text
}

#[test]
fn the_documentation_of_reliability_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let sources = sources(&root.join("src")) + &sources(&root.join("tests/it"));
    let brackets = document.split("[`").skip(1);
    let brackets = brackets.filter_map(|rest| rest.split_once("`]"));
    let names: Vec<&str> = brackets
        .flat_map(|(names, _)| names.split('`'))
        .filter(|name| name.contains('_'))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        let is_there = sources.contains(&format!("fn {name}("));
        assert!(is_there, "no test {name}");
    }
}
