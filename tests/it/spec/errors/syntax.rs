//! Errors of the text: YAML itself, and what is not a spec at all.

use insta::assert_snapshot;

use crate::spec::{bad, bad_task};

#[test]
fn all_problems_at_once() {
    assert_snapshot!(bad("\
version: 1
nmae: nightly
base: ${BASE_REF}
defaults:
  mem_limit: 4m
tasks:
  fix-login:
    image: ghcr.io/acme/agent:1.4
    timout: 30m
    timeout: 30
  add/tests:
    run: [make]
"), @r#"
    error: unknown key `nmae` at the top level
     --> agent-run.yaml:2:1
      |
    2 | nmae: nightly
      | ^^^^ did you mean `name`?

    error: environment variable `BASE_REF` is not set and has no default
     --> agent-run.yaml:3:7
      |
    3 | base: ${BASE_REF}
      |       ^^^^^^^^^^^ set it, or write `${BASE_REF:-default}`

    error: `mem_limit: 4m` is too little
     --> agent-run.yaml:5:14
      |
    5 |   mem_limit: 4m
      |              ^^ write at least 6m, the least that an engine takes

    error: unknown key `timout` in task `fix-login`
     --> agent-run.yaml:9:5
      |
    9 |     timout: 30m
      |     ^^^^^^ did you mean `timeout`?

    error: `timeout: 30` has no unit
      --> agent-run.yaml:10:14
       |
    10 |     timeout: 30
       |              ^^ write 30s or 30m

    error: task id `add/tests` has characters other than lower-case letters, digits, `.`, `_` and `-`
      --> agent-run.yaml:11:3
       |
    11 |   add/tests:
       |   ^^^^^^^^^ write a name such as fix-login

    error: `run` must be a script, not a list
      --> agent-run.yaml:12:10
       |
    12 |     run: [make]
       |          ^^^^^^

    agent-run: 7 errors in agent-run.yaml
    "#);
}

#[test]
fn not_yaml() {
    assert_snapshot!(bad_task("env: { A: ${SET} }"), @r#"
    error: not YAML: while parsing a flow mapping, did not find expected ',' or '}'
     --> agent-run.yaml:4:16
      |
    4 |     env: { A: ${SET} }
      |                ^ inside of `{…}` and `[…]`, quote a value with `${NAME}`

    agent-run: 1 error in agent-run.yaml
    "#);
    assert_snapshot!(bad_task("env: [A=${SET}]"), @r#"
    error: not YAML: while parsing a flow sequence, expected ',' or ']'
     --> agent-run.yaml:4:14
      |
    4 |     env: [A=${SET}]
      |              ^ inside of `{…}` and `[…]`, quote a value with `${NAME}`

    agent-run: 1 error in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: 1\ntasks: {a: {run: x}\n"), @r#"
    error: not YAML: unclosed bracket '{'
     --> agent-run.yaml:2:8
      |
    2 | tasks: {a: {run: x}
      |        ^

    agent-run: 1 error in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: 1\ntasks:\n\ta:\n\t\trun: x\n"), @r#"
    error: not YAML: tabs disallowed within this context (block indentation)
     --> agent-run.yaml:3:2
      |
    3 |     a:
      |     ^ YAML is indented with spaces, not tabs

    agent-run: 1 error in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: 1\ntasks:\n  a:\n    run: \"x\n"), @r#"
    error: not YAML: invalid indentation in multiline quoted scalar
     --> agent-run.yaml:5:1
      |
    5 |
      | ^

    agent-run: 1 error in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: *nowhere\n"), @r#"
    error: not YAML: while parsing node, found unknown anchor
     --> agent-run.yaml:1:10
      |
    1 | version: *nowhere
      |          ^

    agent-run: 1 error in agent-run.yaml
    "#);
}

#[test]
fn nothing_there() {
    assert_snapshot!(bad(""), @r#"
    error: the spec is empty
     --> agent-run.yaml:1:1
      |
    1 |
      | ^ write `version: 1` and `tasks:` with at least one task

    agent-run: 1 error in agent-run.yaml
    "#);
    assert_snapshot!(bad("# only a comment\n"), @r#"
    error: the spec is empty
     --> agent-run.yaml:1:1
      |
    1 | # only a comment
      | ^ write `version: 1` and `tasks:` with at least one task

    agent-run: 1 error in agent-run.yaml
    "#);
    assert_snapshot!(bad("- version: 1\n"), @r#"
    error: a spec is a map of keys
     --> agent-run.yaml:1:1
      |
    1 | - version: 1
      | ^^^^^^^^^^^^ write `version: 1` and `tasks:`

    agent-run: 1 error in agent-run.yaml
    "#);
    assert_snapshot!(bad("name: x\n"), @r#"
    error: the spec has no `version`
     --> agent-run.yaml:1:1
      |
    1 | name: x
      | ^ write `version: 1` on top

    error: the spec has no tasks
     --> agent-run.yaml:1:1
      |
    1 | name: x
      | ^ write `tasks:` with at least one task

    agent-run: 2 errors in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: 1\ntasks: {}\n"), @r#"
    error: `tasks` is empty
     --> agent-run.yaml:2:8
      |
    2 | tasks: {}
      |        ^^ write at least one task

    agent-run: 1 error in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: 1\ntasks: [a]\n"), @r#"
    error: `tasks` must be a map of tasks by id, not a list
     --> agent-run.yaml:2:8
      |
    2 | tasks: [a]
      |        ^^^

    agent-run: 1 error in agent-run.yaml
    "#);
}

#[test]
fn two_documents() {
    assert_snapshot!(bad("version: 1\ntasks: {a: {run: x}}\n---\nversion: 1\n"), @r#"
    error: a second YAML document starts here
     --> agent-run.yaml:3:1
      |
    3 | ---
      | ^^^ one document is one run: remove it, or put it into a file of its own

    agent-run: 1 error in agent-run.yaml
    "#);
}

#[test]
fn duplicate_keys() {
    assert_snapshot!(bad("\
version: 1
tasks:
  a:
    run: x
    cpus: 1
    cpus: 2
  a:
    run: y
"), @r#"
    error: duplicate key `cpus`
     --> agent-run.yaml:6:5
      |
    6 |     cpus: 2
      |     ^^^^ first given at 5:5

    error: duplicate key `a`
     --> agent-run.yaml:7:3
      |
    7 |   a:
      |   ^ first given at 3:3

    agent-run: 2 errors in agent-run.yaml
    "#);
}

#[test]
fn keys_that_are_no_text() {
    assert_snapshot!(bad("version: 1\n[a, b]: 1\ntasks: {a: {run: x}}\n"), @r#"
    error: a key must be text
     --> agent-run.yaml:2:1
      |
    2 | [a, b]: 1
      | ^^^^^^

    agent-run: 1 error in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: 1\ntasks: {a: {run: !custom x}}\n"), @r#"
    error: the tag `!custom` has no meaning here
     --> agent-run.yaml:2:26
      |
    2 | tasks: {a: {run: !custom x}}
      |                          ^ remove the tag

    agent-run: 1 error in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: 1\ntasks: {a: {<<: x, run: x}}\n"), @r#"
    error: `<<` must be a map or a list of maps
     --> agent-run.yaml:2:17
      |
    2 | tasks: {a: {<<: x, run: x}}
      |                 ^ write `<<: *name`

    agent-run: 1 error in agent-run.yaml
    "#);
}

#[test]
fn control_characters_are_escaped() {
    let message = bad("version: 1\ntasks: {a: {run: x}}\n\"k\\e[2Jey\": \"\u{9b}31m\"\n");
    assert!(
        !message.contains(|c: char| c.is_control() && c != '\n'),
        "{message:?}"
    );
    assert_snapshot!(message, @r#"
    error: not YAML: unexpected character: `\u{9b}'
     --> agent-run.yaml:3:14
      |
    3 | "k\e[2Jey": "\u{9b}31m"
      |              ^

    agent-run: 1 error in agent-run.yaml
    "#);
}
