//! Errors of keys and names: unknown ones, ids, versions, defaults.

use insta::assert_snapshot;

use crate::spec::{bad, bad_task};

#[test]
fn unknown_keys() {
    assert_snapshot!(bad_task("mem_limits: 1g\nenvironmint: {}\nxyz: 1"), @r#"
    error: unknown key `mem_limits` in task `t`
     --> agent-run.yaml:4:5
      |
    4 |     mem_limits: 1g
      |     ^^^^^^^^^^ did you mean `mem_limit`?

    error: unknown key `environmint` in task `t`
     --> agent-run.yaml:5:5
      |
    5 |     environmint: {}
      |     ^^^^^^^^^^^ did you mean `environment`?

    error: unknown key `xyz` in task `t`
     --> agent-run.yaml:6:5
      |
    6 |     xyz: 1
      |     ^^^

    agent-run: 3 errors in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: 1\nx-mine: 1\ncpus: 1\nfetch: a\ntasks: {a: {run: x, repo: y, fetch: b}}\n"), @r#"
    error: unknown key `cpus` at the top level
     --> agent-run.yaml:3:1
      |
    3 | cpus: 1
      | ^^^^ a key of tasks: put it under `defaults` or into a task

    error: unknown key `fetch` at the top level
     --> agent-run.yaml:4:1
      |
    4 | fetch: a
      | ^^^^^ not supported by this version of agent-run

    error: unknown key `repo` in task `a`
     --> agent-run.yaml:5:21
      |
    5 | tasks: {a: {run: x, repo: y, fetch: b}}
      |                     ^^^^ a key of the top level

    error: unknown key `fetch` in task `a`
     --> agent-run.yaml:5:30
      |
    5 | tasks: {a: {run: x, repo: y, fetch: b}}
      |                              ^^^^^ not supported by this version of agent-run

    agent-run: 4 errors in agent-run.yaml
    "#);
    assert_snapshot!(bad_task("build: {contxt: ., context: .}\nprompt: {fle: x}"), @r#"
    error: unknown key `contxt` in `build`
     --> agent-run.yaml:4:13
      |
    4 |     build: {contxt: ., context: .}
      |             ^^^^^^ did you mean `context`?

    error: `prompt` has no `file`
     --> agent-run.yaml:5:13
      |
    5 |     prompt: {fle: x}
      |             ^^^^^^^^ write a text, or `file` and a path

    error: unknown key `fle` in `prompt`
     --> agent-run.yaml:5:14
      |
    5 |     prompt: {fle: x}
      |              ^^^ did you mean `file`?

    agent-run: 3 errors in agent-run.yaml
    "#);
}

#[test]
fn keys_from_elsewhere() {
    let keys = [
        "timeout-minutes",
        "script",
        "steps",
        "commands",
        "variables",
        "container",
        "runs-on",
        "memory",
        "cpu",
        "continue-on-error",
        "strategy",
        "concurrency",
        "restart",
        "network",
        "workdir",
        "depends_on",
    ];
    let lines: Vec<String> = keys.iter().map(|k| format!("{k}: 1")).collect();
    let message = bad_task(&lines.join("\n"));
    let hints: Vec<&str> = message.lines().filter(|l| l.contains("^^")).collect();
    assert_snapshot!(hints.join("\n"), @r#"
    |     ^^^^^^^^^^^^^^^ write `timeout`, such as `timeout: 30m`
    |     ^^^^^^ write `run`, one script
    |     ^^^^^ write `run`, one script
    |     ^^^^^^^^ write `run`, one script
    |     ^^^^^^^^^ write `environment`
    |     ^^^^^^^^^ write `image`
     |     ^^^^^^^ remove it: tasks run on this machine's engine, in `image`
     |     ^^^^^^ write `mem_limit`, such as `mem_limit: 2g`
     |     ^^^ write `cpus`
     |     ^^^^^^^^^^^^^^^^^ write `allow_failure: true`
     |     ^^^^^^^^ write `matrix` in the task, `max_parallel` and `fail_fast` at the top level
     |     ^^^^^^^^^^^ write `max_parallel` at the top level
     |     ^^^^^^^ write `retry`, such as `retry: 2`
     |     ^^^^^^^ write `network_mode`, bridge or none, or `egress` and hosts
     |     ^^^^^^^ write `working_dir`
     |     ^^^^^^^^^^ write `needs`, such as `needs: [build]`
    "#);
}

#[test]
fn versions() {
    assert_snapshot!(bad("version: 2\ntasks: {a: {run: x}}\n"), @r#"
    error: `version: 2` is not a version that this agent-run knows
     --> agent-run.yaml:1:10
      |
    1 | version: 2
      |          ^ write `version: 1`

    agent-run: 1 error in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: [1]\ntasks: {a: {run: x}}\n"), @r#"
    error: `version` must be 1, not a list
     --> agent-run.yaml:1:10
      |
    1 | version: [1]
      |          ^^^

    agent-run: 1 error in agent-run.yaml
    "#);
}

#[test]
fn task_ids() {
    let long = "a".repeat(300);
    assert_snapshot!(bad(&format!("\
version: 1
tasks:
  ../x: {{ run: x }}
  a/b: {{ run: x }}
  -rf: {{ run: x }}
  x.lock: {{ run: x }}
  a@{{0}}: {{ run: x }}
  {long}: {{ run: x }}
  \"a\\e[31mb\": {{ run: x }}
  Upper: {{ run: x }}
")), @r#"
    error: task id `../x` does not start with a lower-case letter or a digit
     --> agent-run.yaml:3:3
      |
    3 |   ../x: { run: x }
      |   ^^^^ write a name such as fix-login

    error: task id `a/b` has characters other than lower-case letters, digits, `.`, `_` and `-`
     --> agent-run.yaml:4:3
      |
    4 |   a/b: { run: x }
      |   ^^^ write a name such as fix-login

    error: task id `-rf` does not start with a lower-case letter or a digit
     --> agent-run.yaml:5:3
      |
    5 |   -rf: { run: x }
      |   ^^^ write a name such as fix-login

    error: task id `x.lock` ends in `.lock` or `.`, or has `..` in it, which no branch name may
     --> agent-run.yaml:6:3
      |
    6 |   x.lock: { run: x }
      |   ^^^^^^ write a name such as fix-login

    error: task id `a@{0}` has characters other than lower-case letters, digits, `.`, `_` and `-`
     --> agent-run.yaml:7:3
      |
    7 |   a@{0}: { run: x }
      |   ^^^^^ write a name such as fix-login

    error: task id `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa` is longer than 48 characters
     --> agent-run.yaml:8:3
      |
    8 |   aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...
      |   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ write a name such as fix-login

    error: task id `a\u{1b}[31mb` has characters other than lower-case letters, digits, `.`, `_` and `-`
     --> agent-run.yaml:9:3
      |
    9 |   "a\e[31mb": { run: x }
      |   ^^^^^^^^^^ write a name such as fix-login

    error: task id `Upper` does not start with a lower-case letter or a digit
      --> agent-run.yaml:10:3
       |
    10 |   Upper: { run: x }
       |   ^^^^^ write a name such as fix-login

    agent-run: 8 errors in agent-run.yaml
    "#);
}

#[test]
fn problems_of_defaults_are_found_once_and_without_a_task_that_takes_them() {
    assert_snapshot!(bad("\
version: 1
defaults: { cpus: none, timeout: 5, mem: 1g, branch: 'a..${task.id}' }
tasks:
  a: { run: x, timeout: 5m }
  b: { run: x, timeout: 5m }
"), @r#"
    error: `cpus: none` is not a number of CPUs
     --> agent-run.yaml:2:19
      |
    2 | defaults: { cpus: none, timeout: 5, mem: 1g, branch: 'a..${task.id}' }
      |                   ^^^^ write a number such as 2 or 0.5

    error: `timeout: 5` has no unit
     --> agent-run.yaml:2:34
      |
    2 | defaults: { cpus: none, timeout: 5, mem: 1g, branch: 'a..${task.id}' }
      |                                  ^ write 5s or 5m

    error: unknown key `mem` in `defaults`
     --> agent-run.yaml:2:37
      |
    2 | defaults: { cpus: none, timeout: 5, mem: 1g, branch: 'a..${task.id}' }
      |                                     ^^^ write `mem_limit`, such as `mem_limit: 2g`

    error: `branch: a..${task.id}` has `..` or `@{` in it, or ends in `.`
     --> agent-run.yaml:2:54
      |
    2 | defaults: { cpus: none, timeout: 5, mem: 1g, branch: 'a..${task.id}' }
      |                                                      ^^^^^^^^^^^^^^^

    agent-run: 4 errors in agent-run.yaml
    "#);
}

#[test]
fn branches() {
    assert_snapshot!(bad_task("branch: refs/heads/x"), @r#"
    error: `branch: refs/heads/x` must be given without `refs/heads/`
     --> agent-run.yaml:4:13
      |
    4 |     branch: refs/heads/x
      |             ^^^^^^^^^^^^

    agent-run: 1 error in agent-run.yaml
    "#);
    assert_snapshot!(bad_task("branch: a..b"), @r#"
    error: `branch: a..b` has `..` or `@{` in it, or ends in `.`
     --> agent-run.yaml:4:13
      |
    4 |     branch: a..b
      |             ^^^^

    agent-run: 1 error in agent-run.yaml
    "#);
}

#[test]
fn repositories_and_bases() {
    assert_snapshot!(bad("version: 1\nrepo: https://example.org/x.git\nbase: --all\ntasks: {a: {run: x}}\n"), @r#"
    error: `repo: https://example.org/x.git` is an address, which this version does not support
     --> agent-run.yaml:2:7
      |
    2 | repo: https://example.org/x.git
      |       ^^^^^^^^^^^^^^^^^^^^^^^^^ clone it and write the clone's path

    error: `base: --all` is not a ref
     --> agent-run.yaml:3:7
      |
    3 | base: --all
      |       ^^^^^ write a branch, a tag or a commit

    agent-run: 2 errors in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: 1\nrepo: ''\nbase: \"a\\nb\"\ntasks: {a: {run: x}}\n"), @r#"
    error: `repo: ` is empty
     --> agent-run.yaml:2:7
      |
    2 | repo: ''
      |       ^^

    error: `base: a\nb` holds control characters
     --> agent-run.yaml:3:7
      |
    3 | base: "a\nb"
      |       ^^^^^^ write one line

    agent-run: 2 errors in agent-run.yaml
    "#);
}

#[test]
fn authors_and_history() {
    assert_snapshot!(bad("version: 1\nauthor: Ann\nhistory: shallow\ntasks: {a: {run: x}}\n"), @r#"
    error: `author: Ann` is not a name and an address
     --> agent-run.yaml:2:9
      |
    2 | author: Ann
      |         ^^^ write `Name <name@example.org>`

    error: `history: shallow` is not known
     --> agent-run.yaml:3:10
      |
    3 | history: shallow
      |          ^^^^^^^ write `full` or `{ depth: 50 }`

    agent-run: 2 errors in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: 1\nauthor: {name: Ann}\nhistory: {depth: 0}\ntasks: {a: {run: x}}\n"), @r#"
    error: `author` needs both `name` and `email`
     --> agent-run.yaml:2:9
      |
    2 | author: {name: Ann}
      |         ^^^^^^^^^^^

    error: `depth: 0` is out of bounds
     --> agent-run.yaml:3:18
      |
    3 | history: {depth: 0}
      |                  ^ write a whole number from 1 to 2147483647

    agent-run: 2 errors in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: 1\nauthor: {name: 'A<', email: b}\nhistory: {}\ntasks: {a: {run: x}}\n"), @r#"
    error: `author` has an empty part, or `<` or `>` in it
     --> agent-run.yaml:2:9
      |
    2 | author: {name: 'A<', email: b}
      |         ^^^^^^^^^^^^^^^^^^^^^^ write `Name <name@example.org>`

    error: `history` has no `depth`
     --> agent-run.yaml:3:10
      |
    3 | history: {}
      |          ^^ write `{ depth: 50 }`

    agent-run: 2 errors in agent-run.yaml
    "#);
}
