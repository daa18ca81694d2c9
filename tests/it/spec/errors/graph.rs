//! Errors of needs and of the bases of tasks.

use insta::assert_snapshot;

use crate::spec::{bad, good};

#[test]
fn needs_that_are_not_there() {
    assert_snapshot!(bad("\
version: 1
tasks:
  fix-login: { run: x }
  a: { run: x, needs: fix-logn }
  b: { run: x, needs: [other, a, a, b] }
  c: { run: x, base: 'task:Other' }
  d: { run: x, base: task:nothing, needs: { a: b } }
  e: { run: x, base: other }
"), @r"
    error: the spec has no task `fix-logn`
     --> agent-run.yaml:4:23
      |
    4 |   a: { run: x, needs: fix-logn }
      |                       ^^^^^^^^ did you mean `fix-login`?

    error: the spec has no task `other`
     --> agent-run.yaml:5:24
      |
    5 |   b: { run: x, needs: [other, a, a, b] }
      |                        ^^^^^ its tasks: a, b, c, d, e, fix-login

    error: `needs` names `a` twice
     --> agent-run.yaml:5:34
      |
    5 |   b: { run: x, needs: [other, a, a, b] }
      |                                  ^ keep one of them

    error: task `b` needs itself
     --> agent-run.yaml:5:37
      |
    5 |   b: { run: x, needs: [other, a, a, b] }
      |                                     ^ take it out

    error: `base: task:Other` does not start with a lower-case letter or a digit
     --> agent-run.yaml:6:22
      |
    6 |   c: { run: x, base: 'task:Other' }
      |                      ^^^^^^^^^^^^ write `task:` and an id

    error: the spec has no task `nothing`
     --> agent-run.yaml:7:22
      |
    7 |   d: { run: x, base: task:nothing, needs: { a: b } }
      |                      ^^^^^^^^^^^^ its tasks: a, b, c, d, e, fix-login

    error: `needs` must be a task or a list of tasks, not a map
     --> agent-run.yaml:7:43
      |
    7 |   d: { run: x, base: task:nothing, needs: { a: b } }
      |                                           ^^^^^^^^

    error: `base: other` is neither a task nor the base of the run, `HEAD`
     --> agent-run.yaml:8:22
      |
    8 |   e: { run: x, base: other }
      |                      ^^^^^ write `task:` and an id, or `HEAD`, which all tasks start from otherwise

    agent-run: 8 errors in agent-run.yaml
    ");
}

#[test]
fn circles_are_told_whole() {
    assert_snapshot!(bad("\
version: 1
tasks:
  a: { run: x, needs: c }
  b: { run: x, base: task:a }
  c:
    run: x
    needs:
      - b
      - free
  d: { run: x, needs: [a, e] }
  e: { run: x, needs: d }
  free: { run: x }
"), @r"
    error: tasks need each other: `a` (line 3) → `c` (line 8) → `b` (line 4) → `a`
     --> agent-run.yaml:3:23
      |
    3 |   a: { run: x, needs: c }
      |                       ^ none of them could ever start: take one of these needs out

    error: tasks need each other: `d` (line 10) → `e` (line 11) → `d`
      --> agent-run.yaml:10:27
       |
    10 |   d: { run: x, needs: [a, e] }
       |                           ^ none of them could ever start: take one of these needs out

    agent-run: 2 errors in agent-run.yaml
    ");
}

#[test]
fn a_long_circle_names_its_first_tasks() {
    let tasks = (0..1500).map(|n| {
        let next = (n + 1) % 1500;
        format!("  t{n}: {{ run: x, needs: t{next} }}\n")
    });
    let told = bad(&format!(
        "version: 1\ntasks:\n{}",
        tasks.collect::<String>()
    ));
    let title = told.lines().next().unwrap();
    assert!(
        title.contains("`t0` (line 3) → `t1` (line 4) → "),
        "{title}"
    );
    assert!(title.ends_with("→ 1488 more → `t0`"), "{title}");
}

#[test]
fn a_lattice_is_no_circle() {
    let mut text = "version: 1\ntasks:\n  t0x0: { run: x }\n".to_owned();
    for layer in 1..40 {
        for task in 0..4 {
            let above = if layer == 1 { 1 } else { 4 };
            let needs: Vec<String> = (0..above).map(|n| format!("t{}x{n}", layer - 1)).collect();
            let needs = needs.join(", ");
            text += &format!("  t{layer}x{task}: {{ run: x, needs: [{needs}] }}\n");
        }
    }
    good(&text);
}
