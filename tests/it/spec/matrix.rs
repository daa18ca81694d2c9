//! `matrix`: which cells it makes, what they have, and where their values go.

use std::collections::BTreeMap;

use agent_run::spec::RunSpec;
use serde_json::{Value, json};

use super::{good, with_task};
use crate::plan::planned;

fn ids(spec: &RunSpec) -> Vec<&str> {
    spec.tasks
        .iter()
        .map(|task| task.id.value.as_str())
        .collect()
}

fn values(spec: &RunSpec) -> Vec<Value> {
    let tasks = spec.tasks.iter();
    tasks
        .map(|task| serde_json::to_value(&task.matrix).unwrap())
        .collect()
}

#[test]
fn each_value_with_each_of_the_others() {
    let spec = good(&with_task(
        "matrix: { model: [small, large], os: [linux, mac] }",
    ));
    let all = [
        "t[model=small,os=linux]",
        "t[model=small,os=mac]",
        "t[model=large,os=linux]",
        "t[model=large,os=mac]",
    ];
    assert_eq!(ids(&spec), all);
    assert_eq!(values(&spec)[1], json!({"model": "small", "os": "mac"}));
}

/// The example of GitHub's documentation of `include`, with the outcome that it tells.
#[test]
fn include_is_github_s() {
    let spec = good(&with_task(
        "\
matrix:
  fruit: [apple, pear]
  animal: [cat, dog]
  include:
    - color: green
    - { color: pink, animal: cat }
    - { fruit: apple, shape: circle }
    - { fruit: banana }
    - { fruit: banana, animal: cat }",
    ));
    let expected = [
        json!({"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"}),
        json!({"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"}),
        json!({"fruit": "pear", "animal": "cat", "color": "pink"}),
        json!({"fruit": "pear", "animal": "dog", "color": "green"}),
        json!({"fruit": "banana"}),
        json!({"fruit": "banana", "animal": "cat"}),
    ];
    assert_eq!(values(&spec), expected);
    // What was added to a cell is no part of its id.
    assert_eq!(ids(&spec)[0], "t[fruit=apple,animal=cat]");
    assert_eq!(ids(&spec)[5], "t[fruit=banana,animal=cat]");
}

/// The example of GitHub's documentation of `exclude`; `include` comes after it.
#[test]
fn exclude_is_github_s() {
    let yaml = |include: &str| {
        let matrix = "\
matrix:
  os: [macos, windows]
  version: [12, 14, 16]
  environment: [staging, production]
  exclude:
    - { os: macos, version: 12, environment: production }
    - { os: windows, version: 16 }
";
        with_task(&format!("{matrix}{include}"))
    };
    assert_eq!(good(&yaml("")).tasks.len(), 9);
    let again = "  include: [{ os: windows, version: 16, environment: staging }]";
    let spec = good(&yaml(again));
    assert_eq!(spec.tasks.len(), 10);
    let last = spec.tasks.last().unwrap();
    let id = "t[os=windows,version=16,environment=staging]";
    assert_eq!(last.id.value.as_str(), id);
}

#[test]
fn cells_of_include_alone() {
    let spec = good(&with_task(
        "matrix: { include: [{ site: a, n: 1 }, { site: b }] }",
    ));
    assert_eq!(ids(&spec), ["t[site=a,n=1]", "t[site=b]"]);
}

#[test]
fn values_stay_as_they_are_written() {
    let spec = good(&with_task(
        "matrix: { v: [1, 1.5, 1.10, \"2\", true, \"false\", \"${SET}\", 1e3, a b/c] }\nenv: { V: \"${matrix.v}\" }",
    ));
    let data: Vec<Value> = values(&spec).iter().map(|v| v["v"].clone()).collect();
    let expected = json!([1, 1.5, "1.10", "2", true, "false", "value", "1e3", "a b/c"]);
    assert_eq!(Value::Array(data), expected);
    let texts = spec.tasks.iter().map(|task| task.environment["V"].expose());
    let texts: Vec<&str> = texts.collect();
    assert_eq!(
        texts,
        [
            "1", "1.5", "1.10", "2", "true", "false", "value", "1e3", "a b/c"
        ]
    );
    assert_eq!(ids(&spec)[8], "t[v=a_b/c]");
}

#[test]
fn values_go_where_values_are_interpolated_and_nowhere_else() {
    let spec = good(
        "\
version: 1
defaults:
  cpus: ${matrix.cpus:-1}
tasks:
  a:
    run: echo ${matrix.model}
    prompt: use ${matrix.model}
    image: agent:${matrix.model}
    branch: bot/${task.slug}
    matrix:
      model: [small, large]
      include: [{ model: large, cpus: 2 }]
    environment: { ID: \"${task.id}\" }
  b:
    command: [\"x\"]
    cpus: 1
",
    );
    let plan = planned(&spec);
    let [small, large, b] = &plan.tasks[..] else {
        panic!("{plan:#?}");
    };
    assert_eq!(small.image.reference.as_str(), "agent:small");
    assert_eq!(small.branch.as_str(), "bot/a+model=small");
    assert_eq!(small.prompt.as_deref(), Some("use ${matrix.model}"));
    assert_eq!(small.environment["ID"].expose(), "a[model=small]");
    let cpus = [small, large, b].map(|task| task.limits.nano_cpus / 1_000_000_000);
    assert_eq!(cpus, [1, 2, 1]);
    assert_eq!(b.matrix, BTreeMap::new());
}

#[test]
fn defaults_may_have_it_and_null_takes_it_away() {
    let spec = good(
        "version: 1\ndefaults: { matrix: { m: [1, 2] }, run: x }\ntasks:\n  a: {}\n  b: { matrix: null }\n  c: { matrix: { m: [3] } }\n",
    );
    assert_eq!(ids(&spec), ["a[m=1]", "a[m=2]", "b", "c[m=3]"]);
}
