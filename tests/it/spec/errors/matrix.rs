//! Errors of a matrix: axes, values, `exclude`, `include`, and names that it does not give.

use insta::assert_snapshot;

use crate::spec::{bad, bad_task};

#[test]
fn forms() {
    let message = bad_task(
        "\
matrix:
  Model: [small]
  node-version: [22]
  empty: []
  one: small
  nested: [[a], {b: c}]
  nothing: [null]
  twice: [1, \"1\"]
  long: [\"two\\nlines\"]
  include: {a: b}
  exclude: [a, {}]",
    );
    assert_snapshot!("matrix_forms", message);
}

#[test]
fn nothing_to_choose_from() {
    assert_snapshot!("matrix_without_an_axis", bad_task("matrix: {}"));
    assert_snapshot!("matrix_that_is_none", bad_task("matrix: [small, large]"));
    let all = "matrix:\n  model: [small, large]\n  exclude: [{ model: small }, { model: large }]";
    assert_snapshot!("matrix_without_a_cell", bad_task(all));
}

#[test]
fn what_excludes_nothing() {
    let message = bad_task(
        "\
matrix:
  model: [small, large]
  os: [linux]
  include: [{ extra: 1 }]
  exclude:
    - { modle: small }
    - { model: smal }
    - { os: mac }
    - { extra: 1 }",
    );
    assert_snapshot!("matrix_exclude", message);
}

#[test]
fn names_that_it_does_not_give() {
    let message = bad("\
version: 1
name: ${matrix.model}
defaults:
  environment: { A: \"${matrix.model}\" }
tasks:
  cells:
    matrix:
      model: [small, \"${matrix.model}\"]
  all:
    run: x
    matrix: { model: [small, large], include: [{ model: small, flags: -q }] }
    environment:
      B: ${matrix.modle}
      C: ${matrix.flags}
      D: ${matrix.flags:-none}
    branch: ${task.name}
  none: { run: x }
");
    assert_snapshot!("matrix_names", message);
}

#[test]
fn too_many_cells() {
    let values = |name: &str, number: u32| {
        let values: Vec<String> = (0..number).map(|n| n.to_string()).collect();
        format!("  {name}: [{}]\n", values.join(", "))
    };
    let message = bad_task(&format!("matrix:\n{}{}", values("a", 20), values("b", 20)));
    assert!(
        message.contains("the matrix has 400 cells, and 256 are the most"),
        "{message}"
    );
    let axes: Vec<String> = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m",
    ]
    .iter()
    .map(|name| values(name, 99))
    .collect();
    let message = bad_task(&format!("matrix:\n{}", axes.concat()));
    assert!(message.contains("and 256 are the most"), "{message}");
    let include: Vec<String> = (0..300).map(|n| format!("{{ a: {n} }}")).collect();
    let message = bad_task(&format!("matrix:\n  include: [{}]", include.join(", ")));
    assert!(message.contains("the matrix has 300 cells"), "{message}");
    let tasks: Vec<String> = (0..9).map(|n| format!("  t{n}: *t\n")).collect();
    let matrix = format!(
        "{{\n{}{}}}",
        values("a", 16).trim_end().to_owned() + ",\n",
        values("b", 16)
    );
    let message = bad(&format!(
        "version: 1\nx-t: &t\n  run: x\n  matrix: {matrix}\ntasks:\n{}",
        tasks.concat()
    ));
    let title = "the matrices of this spec have more than 2048 cells";
    assert!(message.contains(title), "{message}");
}

#[test]
fn ids_that_are_the_same_or_too_long() {
    assert_snapshot!(
        "matrix_same_ids",
        bad_task("matrix:\n  title: [\"a b\", \"a?b\", \"1\"]")
    );
    let axes: Vec<String> = (0..6)
        .map(|n| format!("  axis_{n}: [{}]\n", "v".repeat(40)))
        .collect();
    let message = bad_task(&format!("matrix:\n{}", axes.concat()));
    assert!(
        message.contains("is longer than 200 characters: shorten the values"),
        "{message}"
    );
}

#[test]
fn a_cell_is_no_task_of_the_spec() {
    let message = bad("version: 1\ntasks:\n  \"t[a=b]\": { run: x }\n");
    assert!(
        message.contains("task id `t[a=b]` has characters other than"),
        "{message}"
    );
}
