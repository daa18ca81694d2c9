//! The direction of the architecture: which module may use which, as one table.
//!
//! Reads the source text, so that a forbidden path fails here before anybody gets used to it.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module with what it may use besides itself and [`LEAVES`], in the order of `lib.rs`.
const TABLE: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("secrets", &[]),
    ("sanitize", &[]),
    ("event", &[]),
    ("engine", &[]),
    ("egress", &[]),
    ("agents", &[]),
    ("spec", &["agents", "engine::config"]),
    (
        "plan",
        &[
            "agents",
            "spec",
            "egress",
            "engine::config",
            "collect::limits",
        ],
    ),
    ("git", &[]),
    ("workspace", &["git", "engine::config"]),
    ("journal", &["event"]),
    ("claims", &["git", "journal"]),
    ("collect", &["git", "workspace", "event"]),
    ("forecast", &["git", "event"]),
    ("publish", &["git", "event"]),
    (
        "runner",
        &[
            "event",
            "egress",
            "plan",
            "git",
            "workspace",
            "engine",
            "journal",
            "claims",
            "collect",
            "forecast",
            "publish",
        ],
    ),
    ("report", &["event"]),
    (
        "cli",
        &[
            "event",
            "agents",
            "spec",
            "plan",
            "git",
            "workspace",
            "engine",
            "journal",
            "claims",
            "collect",
            "forecast",
            "publish",
            "runner",
            "report",
        ],
    ),
    ("main", &["cli"]),
];

/// Modules that know nothing of the others: anybody may use them, they use only each other.
const LEAVES: &[&str] = &["id", "secrets", "sanitize"];

const LINES_AT_MOST: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The module that a file of `src` is: `engine/docker/mod.rs` is `engine`, `docker`.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> = file
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if module.len() > 1 && module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// The code of a source text, without line comments.
fn code_of(source: &str) -> String {
    source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// All paths that a use tree stands for: `a::{b, c::d}` is `a::b` and `a::c::d`.
/// Returns the text after it.
fn expand<'a>(tree: &'a str, prefix: &[&'a str], paths: &mut Vec<String>) -> &'a str {
    let tree = tree.trim_start();
    if let Some(mut rest) = tree.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
            if rest.is_empty() || rest.starts_with('}') {
                return rest.strip_prefix('}').unwrap_or(rest);
            }
            let before = rest.len();
            rest = expand(rest, prefix, paths);
            if rest.len() == before {
                rest = rest
                    .split_at(rest.chars().next().map_or(0, char::len_utf8))
                    .1;
            }
        }
    }
    let end = tree
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*'))
        .unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    let mut path = prefix.to_vec();
    if !name.is_empty() {
        path.push(name);
    }
    match rest.strip_prefix("::") {
        Some(deeper) if !name.is_empty() => expand(deeper, &path, paths),
        _ => {
            paths.push(path.join("::"));
            rest
        }
    }
}

/// Paths from the root of the crate that the code of `module` names, however it gets there.
fn crate_paths(module: &[String], source: &str) -> Vec<String> {
    let code = code_of(source);
    let climb = "super::".repeat(module.len());
    let mut paths = Vec::new();
    for start in ["crate::", "agent_run::", &climb] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            expand(&code[at + start.len()..], &[], &mut paths);
        }
    }
    paths
}

/// What `file` (below `src`) uses and may not, one sentence each.
fn violations(file: &Path, source: &str) -> Vec<String> {
    let module = module_of(file);
    let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == module[0]) else {
        return vec![format!(
            "{}: module `{}` is not in the table",
            file.display(),
            module[0]
        )];
    };
    crate_paths(&module, source)
        .into_iter()
        // `super::` in a test module names the file's own items, which are no modules.
        .filter(|path| TABLE.iter().any(|(name, _)| is_below(path, name)))
        .filter(|path| {
            let own = is_below(path, &module[0]);
            let leaf = LEAVES.iter().any(|leaf| is_below(path, leaf));
            let listed = allowed.iter().any(|module| is_below(path, module));
            !(own || leaf || listed)
        })
        .map(|path| format!("{}: `{}` may not use `{path}`", file.display(), module[0]))
        .collect()
}

fn is_below(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let src = root().join("src");
    let mut found = Vec::new();
    for path in rust_files(&src) {
        let file = path.strip_prefix(&src).expect("a file below src");
        if file == Path::new("lib.rs") {
            continue;
        }
        let source = fs::read_to_string(&path).expect("a readable source file");
        found.extend(violations(file, &source));
    }
    assert!(found.is_empty(), "forbidden paths:\n{}", found.join("\n"));
}

#[test]
fn the_crate_lists_its_modules_in_flow_order() {
    let source = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let declared: Vec<&str> = source
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';'))
        .filter_map(|line| line.strip_prefix("pub mod ").or(line.strip_prefix("mod ")))
        .collect();
    let flow: Vec<&str> = TABLE
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| declared.contains(name))
        .collect();
    assert_eq!(declared, flow);
}

#[test]
fn no_file_is_too_long() {
    let root = root();
    let long: Vec<String> = [root.join("src"), root.join("tests")]
        .iter()
        .flat_map(|folder| rust_files(folder))
        .filter_map(|path| {
            let lines = fs::read_to_string(&path)
                .expect("a readable file")
                .lines()
                .count();
            (lines > LINES_AT_MOST).then(|| format!("{}: {lines} lines", path.display()))
        })
        .collect();
    assert!(
        long.is_empty(),
        "more than {LINES_AT_MOST} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn a_forbidden_path_is_found_in_every_form() {
    let forbidden = [
        ("engine/docker/mod.rs", "use crate::runner::Runner;"),
        ("engine/docker/mod.rs", "use super::super::plan::RunPlan;"),
        ("event.rs", "use super::spec::RunSpec;"),
        ("plan/mod.rs", "use crate::engine::Engine;"),
        (
            "plan/mod.rs",
            "use crate::engine::{config::Limits, Engine};",
        ),
        (
            "plan/mod.rs",
            "use crate::{\n    id::RunId,\n    git::{self},\n};",
        ),
        (
            "report/terminal.rs",
            "fn f() { crate::runner::start::<u8>(1); }",
        ),
        ("id/layout.rs", "pub use crate::event::*;"),
        ("main.rs", "use agent_run::runner;"),
        ("elsewhere.rs", ""),
    ];
    for (file, source) in forbidden {
        let found = violations(Path::new(file), source);
        assert_eq!(found.len(), 1, "{file}: {source}: {found:?}");
    }
}

#[test]
fn an_allowed_path_is_not_reported() {
    let allowed = [
        (
            "plan/mod.rs",
            "use crate::engine::config::{ImageRequest, Limits};",
        ),
        (
            "plan/graph.rs",
            "use super::RunPlan; use crate::{id::TaskId, spec::RunSpec};",
        ),
        (
            "report/mod.rs",
            "// crate::runner is below\nuse crate::event::Event;",
        ),
        (
            "git/mod.rs",
            "mod tests { use super::*; use crate::secrets::SecretString; }",
        ),
        ("main.rs", "use agent_run::cli;"),
    ];
    for (file, source) in allowed {
        assert_eq!(
            violations(Path::new(file), source),
            Vec::<String>::new(),
            "{file}: {source}"
        );
    }
}
