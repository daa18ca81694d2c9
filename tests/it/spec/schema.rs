//! The JSON Schema is current, and has the keys that the readers have.

use std::collections::BTreeSet;

use agent_run::spec::{AGENT_KEYS, INNER_KEYS, NOT_OF_AGENTS, TASK_KEYS, TOP_KEYS, schema};
use serde_json::Value;

use super::{bad, read};

#[test]
fn the_file_is_current() {
    crate::formats::is_current("agent-run.v1.json", &schema());
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
        if name == "AgentForm" {
            let mut known = set(TASK_KEYS);
            known.retain(|key| !NOT_OF_AGENTS.contains(key));
            known.extend(AGENT_KEYS);
            assert_eq!(keys(definition), known);
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
    for key in AGENT_KEYS {
        refused(&format!(
            "version: 1\nagents: {{a: {{run: x, {key}: {nonsense}}}}}\ntasks: {{t: {{run: x}}}}"
        ));
    }
    for key in TASK_KEYS {
        refused(&format!("version: 1\ntasks: {{t: {{{key}: {nonsense}}}}}"));
    }
    let parents = [
        ("author: {", "}", "AuthorParts"),
        ("history: {", "}", "HistoryDepth"),
        ("collect: {", "}", "CollectSpec"),
        ("collect: {limits: {", "}}", "CollectLimitsSpec"),
        ("claims: {", "}", "ClaimsSpec"),
        ("secrets: {s: {", "}}", "SecretForm"),
        ("agents: {a: {credentials: {c: {", "}}}}", "CredentialForm"),
        ("tasks: {u: {artifacts: {", "}}}", "ArtifactsParts"),
        ("tasks: {u: {budget: {", "}}}", "BudgetForm"),
        ("tasks: {u: {build: {", "}}}", "BuildParts"),
        ("tasks: {u: {cache: [{", "}]}}", "CacheForm"),
        ("tasks: {u: {egress: {", "}}}", "EgressForm"),
        ("tasks: {u: {env_file: {", "}}}", "EnvFileParts"),
        ("tasks: {u: {secrets: [{", "}]}}", "GrantParts"),
        ("tasks: {u: {matrix: {", "}}}", "MatrixParts"),
        ("tasks: {u: {preview: {", "}}}", "PreviewForm"),
        ("tasks: {u: {prompt: {", "}}}", "PromptFile"),
        ("tasks: {u: {retry: {", "}}}", "RetryParts"),
        ("tasks: {u: {services: {", "}}}", "ComposeFileParts"),
        (
            "tasks: {u: {services: {s: {depends_on: {t: {",
            "}}}}}}",
            "DependsOnParts",
        ),
        (
            "tasks: {u: {services: {s: {healthcheck: {",
            "}}}}}",
            "HealthcheckParts",
        ),
        (
            "tasks: {u: {services: {s: {snapshot: {",
            "}}}}}",
            "SnapshotParts",
        ),
        ("tasks: {u: {services: {s: {", "}}}}", "ServiceParts"),
        ("tasks: {u: {setup: {", "}}}", "SetupParts"),
        ("tasks: {u: {ulimits: {core: {", "}}}}", "UlimitParts"),
        ("tasks: {u: {verify: {", "}}}", "VerifyParts"),
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
