//! `docs/spec.md` is right: its examples parse and plan, and it has every key.

use std::collections::BTreeSet;

use agent_run::spec::{INNER_KEYS, TASK_KEYS, TOP_KEYS};

use super::{good, with_task};
use crate::plan::planned;

const REFERENCE: &str = include_str!("../../../docs/spec.md");

/// The rows of the tables below a heading, as cells without backticks around them.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = REFERENCE.split_once(heading).expect("the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        line.trim_matches('|')
            .split(" | ")
            .map(|c| c.trim().trim_matches('`'))
            .collect()
    })
    .collect()
}

#[test]
fn examples_plan() {
    let blocks: Vec<&str> = REFERENCE.split("```yaml\n").skip(1).collect();
    assert!(blocks.len() >= 8, "{}", blocks.len());
    for block in blocks {
        let (example, _) = block.split_once("```").unwrap();
        assert!(!planned(&good(example)).tasks.is_empty(), "{example}");
    }
}

#[test]
fn every_key_of_the_top_level_has_an_example_that_parses() {
    let rows = rows("## Top level\n");
    let keys: Vec<&str> = rows.iter().map(|r| r[0]).collect();
    assert_eq!(keys, TOP_KEYS);
    for row in rows {
        let needed = ["version: 1", "tasks: { t: { run: x } }"];
        let needed = needed.iter().filter(|line| !line.starts_with(row[0]));
        let rest: Vec<&str> = needed.copied().collect();
        good(&format!("{}\n{}\n", rest.join("\n"), row[3]));
    }
}

#[test]
fn every_key_of_a_task_has_an_example_that_plans() {
    let mut rows_of_tasks = rows("## Tasks: what runs\n");
    rows_of_tasks.retain(|row| row.len() == 4);
    rows_of_tasks.extend(rows("## Tasks: limits\n"));
    rows_of_tasks.extend(rows("## Tasks: order\n"));
    let keys: BTreeSet<&str> = rows_of_tasks.iter().map(|r| r[0]).collect();
    assert_eq!(keys, TASK_KEYS.iter().copied().collect());
    for row in rows_of_tasks {
        assert!(row[3].starts_with(row[0]), "{row:?}");
        let secrets = "version: 1\nsecrets: { npm_token: { environment: NPM_TOKEN }, anthropic_key: { file: x } }";
        let needs = match row[0] {
            "feedback" => "\nverify: make test",
            "agent" => "\nprompt: x",
            "model" | "max_turns" | "budget" | "session" | "args" => "\nagent: opencode\nprompt: x",
            _ => "",
        };
        let lines = format!("{}{needs}", row[3]);
        let other = with_task(&lines) + "  other: { run: make }\n";
        let mut spec = good(&other.replacen("version: 1", secrets, 1));
        spec.tasks[0].prompt = None;
        planned(&spec);
    }
}

#[test]
fn every_key_of_the_smaller_maps_is_named() {
    for key in INNER_KEYS.iter().flat_map(|(_, keys)| keys.iter()) {
        let named =
            REFERENCE.contains(&format!("`{key}`")) || REFERENCE.contains(&format!("{key}: "));
        assert!(named, "{key}");
    }
}
