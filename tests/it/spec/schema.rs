//! The JSON Schema is current, and has the keys that the readers have.

use std::collections::BTreeSet;
use std::path::Path;

use agent_run::spec::{INNER_KEYS, TASK_KEYS, TOP_KEYS, schema};
use serde_json::Value;

use super::{bad, read};

/// `AGENT_RUN_BLESS=1 cargo nextest run -E 'test(schema)'` writes the file.
#[test]
fn the_file_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/agent-run.v1.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if option_env("AGENT_RUN_BLESS") {
        std::fs::write(&path, &current).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        held == current,
        "{} is stale: run this test with AGENT_RUN_BLESS=1",
        path.display()
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "a switch of the test, not of the product"
)]
fn option_env(name: &str) -> bool {
    std::env::var_os(name).is_some()
}

fn keys(object: &Value) -> BTreeSet<&str> {
    let properties = object["properties"].as_object().expect("an object");
    properties.keys().map(String::as_str).collect()
}

#[test]
fn readers_and_schema_know_the_same_keys() {
    let schema = schema();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let set = |keys: &[&'static str]| keys.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(keys(&schema), set(TOP_KEYS));
    let mut inner = BTreeSet::new();
    for (name, definition) in schema["definitions"].as_object().unwrap() {
        if definition.get("properties").is_none() {
            continue;
        }
        assert_eq!(definition["additionalProperties"], false, "{name}");
        if name == "TaskSpec" {
            assert_eq!(keys(definition), set(TASK_KEYS));
            continue;
        }
        let known = INNER_KEYS.iter().find(|(form, _)| form == name);
        let (_, known) = known.unwrap_or_else(|| panic!("no reader of {name}"));
        assert_eq!(keys(definition), set(known), "{name}");
        inner.insert(name.as_str());
    }
    assert_eq!(inner, INNER_KEYS.iter().map(|(form, _)| *form).collect());
}

/// A key that no reader looked at would take anything.
#[test]
fn every_key_is_read() {
    let refused = |text: &str| {
        let message = bad(text);
        assert!(message.contains("must be"), "{message}");
    };
    let nonsense = "[[[1]]]";
    for key in TOP_KEYS {
        let rest = |k: &str, line: &str| {
            if k == *key {
                String::new()
            } else {
                line.to_owned()
            }
        };
        let version = rest("version", "version: 1\n");
        let tasks = rest("tasks", "tasks: {t: {run: x}}\n");
        refused(&format!("{version}{tasks}{key}: {nonsense}\n"));
    }
    for key in TASK_KEYS {
        refused(&format!("version: 1\ntasks: {{t: {{{key}: {nonsense}}}}}"));
    }
    let parents = [
        ("author: {", "}", "AuthorParts"),
        ("history: {", "}", "HistoryDepth"),
        ("secrets: {s: {", "}}", "SecretForm"),
        ("tasks: {u: {build: {", "}}}", "BuildParts"),
        ("tasks: {u: {env_file: {", "}}}", "EnvFileParts"),
        ("tasks: {u: {secrets: [{", "}]}}", "GrantParts"),
        ("tasks: {u: {prompt: {", "}}}", "PromptFile"),
        ("tasks: {u: {ulimits: {core: {", "}}}}", "UlimitParts"),
    ];
    assert_eq!(parents.len(), INNER_KEYS.len());
    for (open, close, form) in parents {
        let (_, keys) = INNER_KEYS.iter().find(|(name, _)| *name == form).unwrap();
        for key in *keys {
            let problems = read(&format!("{open}{key}: {nonsense}{close}")).unwrap_err();
            let here = format!("`{key}` must be");
            let found = problems.list().iter().any(|p| p.title.contains(&here));
            assert!(found, "{form}.{key}: {problems}");
        }
    }
}
