//! Errors of what a task runs: images, commands, variables, secrets.

use insta::assert_snapshot;

use crate::spec::{bad, bad_task};

#[test]
fn images_and_builds() {
    assert_snapshot!(bad("\
version: 1
tasks:
  a: { image: --privileged }
  b: { image: 'debian latest' }
  c: { build: { dockerfile: Dockerfile } }
  d: { run: x, pull_policy: build }
  e: { run: x, pull_policy: daily }
  f: { build: { context: ., args: { '1X': y } } }
  g: { cpus: 1 }
"), @r#"
    error: `image: --privileged` does not start with a letter or a digit
     --> agent-run.yaml:3:15
      |
    3 |   a: { image: --privileged }
      |               ^^^^^^^^^^^^

    error: `image: debian latest` has characters that no image reference may have
     --> agent-run.yaml:4:15
      |
    4 |   b: { image: 'debian latest' }
      |               ^^^^^^^^^^^^^^^

    error: `build` has no `context`
     --> agent-run.yaml:5:15
      |
    5 |   c: { build: { dockerfile: Dockerfile } }
      |               ^^^^^^^^^^^^^^^^^^^^^^^^^^ write the directory that holds the Dockerfile, such as `context: ./image`

    error: `pull_policy: build` without `build`
     --> agent-run.yaml:6:29
      |
    6 |   d: { run: x, pull_policy: build }
      |                             ^^^^^ add `build`, such as `build: ./image`

    error: `pull_policy: daily` is not known
     --> agent-run.yaml:7:29
      |
    7 |   e: { run: x, pull_policy: daily }
      |                             ^^^^^ write one of: always, missing, never, build

    error: `1X` is not the name of an environment variable
     --> agent-run.yaml:8:37
      |
    8 |   f: { build: { context: ., args: { '1X': y } } }
      |                                     ^^^^ letters, digits and `_`, no digit first

    error: task `g` has nothing to run
     --> agent-run.yaml:9:3
      |
    9 |   g: { cpus: 1 }
      |   ^ give it `run`, or an `image` with a command of its own

    agent-run: 7 errors in agent-run.yaml
    "#);
}

#[test]
fn run_and_command() {
    assert_snapshot!(bad("\
version: 1
defaults:
  command: make
tasks:
  a: { run: x }
  b: { run: '' }
  c: { command: \"sh -c 'x\" }
  d: { run: { script: x } }
"), @r#"
    error: both `run` and `command` are given
     --> agent-run.yaml:5:13
      |
    5 |   a: { run: x }
      |             ^ keep one; `null` resets what `defaults` gives

    error: `run` is empty
     --> agent-run.yaml:6:13
      |
    6 |   b: { run: '' }
      |             ^^

    error: both `run` and `command` are given
     --> agent-run.yaml:6:13
      |
    6 |   b: { run: '' }
      |             ^^ keep one; `null` resets what `defaults` gives

    error: `command: sh -c 'x` has a quote that is not closed
     --> agent-run.yaml:7:17
      |
    7 |   c: { command: "sh -c 'x" }
      |                 ^^^^^^^^^^ close it, or write a list

    error: `run` must be a script, not a map
     --> agent-run.yaml:8:13
      |
    8 |   d: { run: { script: x } }
      |             ^^^^^^^^^^^^^

    error: both `run` and `command` are given
     --> agent-run.yaml:8:13
      |
    8 |   d: { run: { script: x } }
      |             ^^^^^^^^^^^^^ keep one; `null` resets what `defaults` gives

    agent-run: 6 errors in agent-run.yaml
    "#);
}

#[test]
fn environments() {
    assert_snapshot!(bad("\
version: 1
tasks:
  a:
    run: x
    env: { A: 1 }
    environment: { B: 1 }
  b:
    run: x
    env: { MISSING: , '2B': 1, MAP: {} }
  c:
    run: x
    env: [A=1, A=2, UNSET, 'X-Y', [x]]
  d:
    run: x
    env: \"NUL\\0\"
  e:
    run: x
    env: { N: \"a\\0b\" }
"), @r#"
    error: `env` and `environment` are the same key
     --> agent-run.yaml:6:5
      |
    6 |     environment: { B: 1 }
      |     ^^^^^^^^^^^ write one of them

    error: `MISSING` has no value
     --> agent-run.yaml:9:12
      |
    9 |     env: { MISSING: , '2B': 1, MAP: {} }
      |            ^^^^^^^ write `MISSING: ${MISSING}` to pass yours through, or `MISSING: ""`

    error: `2B` is not the name of an environment variable
     --> agent-run.yaml:9:23
      |
    9 |     env: { MISSING: , '2B': 1, MAP: {} }
      |                       ^^^^ letters, digits and `_`, no digit first

    error: `MAP` must be a single value, not a map
     --> agent-run.yaml:9:37
      |
    9 |     env: { MISSING: , '2B': 1, MAP: {} }
      |                                     ^^

    error: duplicate variable `A`
      --> agent-run.yaml:12:16
       |
    12 |     env: [A=1, A=2, UNSET, 'X-Y', [x]]
       |                ^^^

    error: environment variable `UNSET` is not set and has no default
      --> agent-run.yaml:12:21
       |
    12 |     env: [A=1, A=2, UNSET, 'X-Y', [x]]
       |                     ^^^^^ set it, or write `${UNSET:-default}`

    error: `X-Y` is not the name of an environment variable
      --> agent-run.yaml:12:28
       |
    12 |     env: [A=1, A=2, UNSET, 'X-Y', [x]]
       |                            ^^^^^ letters, digits and `_`, no digit first

    error: an item of `environment` must be `KEY=value` or `KEY`
      --> agent-run.yaml:12:35
       |
    12 |     env: [A=1, A=2, UNSET, 'X-Y', [x]]
       |                                   ^^^

    error: `environment` must be a map or a list of `KEY=value`, not a single value
      --> agent-run.yaml:15:10
       |
    15 |     env: "NUL\0"
       |          ^^^^^^^

    error: `N` holds a NUL character
      --> agent-run.yaml:18:15
       |
    18 |     env: { N: "a\0b" }
       |               ^^^^^^

    agent-run: 10 errors in agent-run.yaml
    "#);
}

#[test]
fn secrets() {
    assert_snapshot!(bad("\
version: 1
secrets:
  npm_token: { environment: NPM_TOKEN }
  ../x: { file: x }
  both: { file: x, environment: Y }
  none: {}
  text: x
tasks:
  a:
    run: x
    secrets: [npm_tokn, other, { environment: X }, { source: npm_token, environment: 1X }]
  b:
    run: x
    env: { NPM_TOKEN: x }
    secrets:
      - { source: npm_token, environment: NPM_TOKEN }
      - { source: both, environment: SAME }
      - { source: none, environment: SAME }
"), @r#"
    error: `../x` cannot be the name of a secret
     --> agent-run.yaml:4:3
      |
    4 |   ../x: { file: x }
      |   ^^^^ at most 64 letters, digits, `_`, `-` and `.`: it becomes a file name

    error: secret `both` needs one of `environment`, `file` and `command`
     --> agent-run.yaml:5:9
      |
    5 |   both: { file: x, environment: Y }
      |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^ write `environment: NAME`, `file: path` or `command: [program, argument]`

    error: secret `none` needs one of `environment`, `file` and `command`
     --> agent-run.yaml:6:9
      |
    6 |   none: {}
      |         ^^ write `environment: NAME`, `file: path` or `command: [program, argument]`

    error: `text` must be a map with `environment`, `file` or `command`, not a single value
     --> agent-run.yaml:7:9
      |
    7 |   text: x
      |         ^

    error: `secrets: npm_tokn` is not a secret of this spec
      --> agent-run.yaml:11:15
       |
    11 |     secrets: [npm_tokn, other, { environment: X }, { source: npm_token, environment: 1X }]
       |               ^^^^^^^^ did you mean `npm_token`?

    error: `secrets: other` is not a secret of this spec
      --> agent-run.yaml:11:25
       |
    11 |     secrets: [npm_tokn, other, { environment: X }, { source: npm_token, environment: 1X }]
       |                         ^^^^^ declare it under `secrets` at the top level

    error: `secrets` has an item without `source`
      --> agent-run.yaml:11:32
       |
    11 |     secrets: [npm_tokn, other, { environment: X }, { source: npm_token, environment: 1X }]
       |                                ^^^^^^^^^^^^^^^^^^ write the secret's name, such as `source: npm_token`

    error: `1X` is not the name of an environment variable
      --> agent-run.yaml:11:86
       |
    11 |     secrets: [npm_tokn, other, { environment: X }, { source: npm_token, environment: 1X }]
       |                                                                                      ^^ letters, digits and `_`, no digit first

    error: `NPM_TOKEN` is filled by a secret and by `environment`
      --> agent-run.yaml:16:9
       |
    16 |       - { source: npm_token, environment: NPM_TOKEN }
       |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ keep one of them

    error: two secrets fill the same variable
      --> agent-run.yaml:18:9
       |
    18 |       - { source: none, environment: SAME }
       |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

    agent-run: 10 errors in agent-run.yaml
    "#);
}

#[test]
fn interpolation() {
    assert_snapshot!(bad("\
version: 1
name: ${task.id}
base: ${BASE_REF}
tasks:
  a:
    run: x
    env:
      A: before ${UNSET:?tell me why} after
      B: ${EMPTY:?}
      C: ${run.name}
      D: ${run.id:-x}
      E: ${NOT CLOSED
      F: ${1X} ${}
      G: ${SET:-${SET}}
      H: \"${SET!x}\"
"), @r#"
    error: `task.id` has a value in tasks only
     --> agent-run.yaml:2:7
      |
    2 | name: ${task.id}
      |       ^^^^^^^^^^

    error: environment variable `BASE_REF` is not set and has no default
     --> agent-run.yaml:3:7
      |
    3 | base: ${BASE_REF}
      |       ^^^^^^^^^^^ set it, or write `${BASE_REF:-default}`

    error: environment variable `UNSET` is not set: tell me why
     --> agent-run.yaml:8:17
      |
    8 |       A: before ${UNSET:?tell me why} after
      |                 ^^^^^^^^^^^^^^^^^^^^^

    error: environment variable `EMPTY` is not set and has no default
     --> agent-run.yaml:9:10
      |
    9 |       B: ${EMPTY:?}
      |          ^^^^^^^^^^ set it, or write `${EMPTY:-default}`

    error: unknown name `run.name`
      --> agent-run.yaml:10:10
       |
    10 |       C: ${run.name}
       |          ^^^^^^^^^^^ names with a dot are agent-run's own: `run.id`, `task.id`, `task.slug`, `matrix.…`, `services.…`

    error: `run.id` is always set and takes no default
      --> agent-run.yaml:11:10
       |
    11 |       D: ${run.id:-x}
       |          ^^^^^^^^^^^^ write `${run.id}`

    error: `${` without `}`
      --> agent-run.yaml:12:10
       |
    12 |       E: ${NOT CLOSED
       |          ^^^^^^^^^^^^ write `$${` for the characters themselves

    error: `${1X}` is not a variable
      --> agent-run.yaml:13:10
       |
    13 |       F: ${1X} ${}
       |          ^^^^^ write `${NAME}` or `${NAME:-default}`, or `$${` for the characters themselves

    error: `${` inside of `${…}`
      --> agent-run.yaml:14:10
       |
    14 |       G: ${SET:-${SET}}
       |          ^^^^^^^^^^^^^ use a default without it

    error: `${SET!x}` is not a variable
      --> agent-run.yaml:15:11
       |
    15 |       H: "${SET!x}"
       |           ^^^^^^^^ write `${NAME}` or `${NAME:-default}`, or `$${` for the characters themselves

    agent-run: 10 errors in agent-run.yaml
    "#);
}

#[test]
fn values_of_the_environment_are_not_shown() {
    let message =
        bad_task("cpus: ${TOKEN}\nmem_limit: ${TOKEN}\nworking_dir: ${TOKEN}\nbranch: -${TOKEN}");
    assert!(!message.contains("hunter2"), "{message}");
    assert_snapshot!(message, @r#"
    error: `cpus: ${TOKEN}` is not a number of CPUs
     --> agent-run.yaml:4:11
      |
    4 |     cpus: ${TOKEN}
      |           ^^^^^^^^ write a number such as 2 or 0.5

    error: `mem_limit: ${TOKEN}` is not a size
     --> agent-run.yaml:5:16
      |
    5 |     mem_limit: ${TOKEN}
      |                ^^^^^^^^ write a size such as 512m or 4g

    error: `working_dir: ${TOKEN}` is not an absolute path without `.` and `..`
     --> agent-run.yaml:6:18
      |
    6 |     working_dir: ${TOKEN}
      |                  ^^^^^^^^ write a path such as /workspace/web

    error: `branch: -${TOKEN}` cannot be a branch
     --> agent-run.yaml:7:13
      |
    7 |     branch: -${TOKEN}
      |             ^^^^^^^^^

    agent-run: 4 errors in agent-run.yaml
    "#);
}

#[test]
fn names_of_our_own() {
    assert_snapshot!(bad_task("environment: { AGENT_BASE: x }"), @r"
    error: `AGENT_BASE` is a name of agent-run's own
     --> agent-run.yaml:4:20
      |
    4 |     environment: { AGENT_BASE: x }
      |                    ^^^^^^^^^^ choose one that does not start with `AGENT_`

    agent-run: 1 error in agent-run.yaml
    ");
}

#[test]
fn claims() {
    assert_snapshot!(bad("\
version: 1
claims: {}
tasks:
  a: { run: x, claim: '' }
  b: { run: x, claim: \"two\\nlines\" }
  c: { run: x, claim: [a, b] }
  d: { run: x, claims: a }
"), @r#"
    error: `claims` has no `remote`
     --> agent-run.yaml:2:9
      |
    2 | claims: {}
      |         ^^ write a remote of the repository, such as `remote: origin`

    error: `claim: ` is empty
     --> agent-run.yaml:4:23
      |
    4 |   a: { run: x, claim: '' }
      |                       ^^

    error: `claim: two\nlines` holds control characters
     --> agent-run.yaml:5:23
      |
    5 |   b: { run: x, claim: "two\nlines" }
      |                       ^^^^^^^^^^^^

    error: `claim` must be a text, not a list
     --> agent-run.yaml:6:23
      |
    6 |   c: { run: x, claim: [a, b] }
      |                       ^^^^^^

    error: unknown key `claims` in task `d`
     --> agent-run.yaml:7:16
      |
    7 |   d: { run: x, claims: a }
      |                ^^^^^^ a key of the top level

    agent-run: 5 errors in agent-run.yaml
    "#);
    assert_snapshot!(bad("\
version: 1
claims: { remote: --upload-pack=x, key: y }
tasks:
  a: { run: x }
"), @"
    error: `remote: --upload-pack=x` is no remote
     --> agent-run.yaml:2:19
      |
    2 | claims: { remote: --upload-pack=x, key: y }
      |                   ^^^^^^^^^^^^^^^ write a remote of the repository, such as origin, or its address

    error: unknown key `key` in `claims`
     --> agent-run.yaml:2:36
      |
    2 | claims: { remote: --upload-pack=x, key: y }
      |                                    ^^^

    agent-run: 2 errors in agent-run.yaml
    ");
}

#[test]
fn grounds() {
    assert_snapshot!(bad("\
version: 1
tasks:
  a: { run: x, touches: [/src, ../x, 'a[', ''] }
  b: { run: x, touches_strict: true }
  c: { run: x, touches: src, touches_strict: maybe }
"), @r"
    error: `touches: /src` is not relative to /workspace
     --> agent-run.yaml:3:26
      |
    3 |   a: { run: x, touches: [/src, ../x, 'a[', ''] }
      |                          ^^^^ write a pattern such as reports/**/*.xml, relative to /workspace

    error: `touches: ../x` has `..` in it
     --> agent-run.yaml:3:32
      |
    3 |   a: { run: x, touches: [/src, ../x, 'a[', ''] }
      |                                ^^^^ write a pattern such as reports/**/*.xml, relative to /workspace

    error: `touches: a[` has an open `[`, `{` or `\`; `{…}` may hold no `/`
     --> agent-run.yaml:3:38
      |
    3 |   a: { run: x, touches: [/src, ../x, 'a[', ''] }
      |                                      ^^^^ write a pattern such as reports/**/*.xml, relative to /workspace

    error: `touches: ` is empty
     --> agent-run.yaml:3:44
      |
    3 |   a: { run: x, touches: [/src, ../x, 'a[', ''] }
      |                                            ^^ write a pattern such as reports/**/*.xml, relative to /workspace

    error: `touches_strict` without `touches`
     --> agent-run.yaml:4:32
      |
    4 |   b: { run: x, touches_strict: true }
      |                                ^^^^ write what the task may change, such as `touches: [src/api]`

    error: `touches_strict: maybe` is not a truth value
     --> agent-run.yaml:5:46
      |
    5 |   c: { run: x, touches: src, touches_strict: maybe }
      |                                              ^^^^^ write true or false

    agent-run: 6 errors in agent-run.yaml
    ");
}

#[test]
fn programs_that_print_secrets() {
    assert_snapshot!(bad("\
version: 1
secrets:
  no_words: { command: [] }
  no_program: { command: ['', x] }
  blank: { command: '  ' }
  open: { command: gh 'auth }
  map: { command: { gh: x } }
  three: { command: gh, environment: Y }
tasks: { a: { run: x } }
"), @r#"
    error: `command` names no program
     --> agent-run.yaml:3:24
      |
    3 |   no_words: { command: [] }
      |                        ^^ write a program and its arguments, such as `[gh, auth, token]`

    error: `command` names no program
     --> agent-run.yaml:4:26
      |
    4 |   no_program: { command: ['', x] }
      |                          ^^^^^^^ write a program and its arguments, such as `[gh, auth, token]`

    error: `command` names no program
     --> agent-run.yaml:5:21
      |
    5 |   blank: { command: '  ' }
      |                     ^^^^ write a program and its arguments, such as `[gh, auth, token]`

    error: `command: gh 'auth` has a quote that is not closed
     --> agent-run.yaml:6:20
      |
    6 |   open: { command: gh 'auth }
      |                    ^^^^^^^^ close it, or write a list

    error: `command` must be a text or a list of words, not a map
     --> agent-run.yaml:7:19
      |
    7 |   map: { command: { gh: x } }
      |                   ^^^^^^^^^

    error: secret `three` needs one of `environment`, `file` and `command`
     --> agent-run.yaml:8:10
      |
    8 |   three: { command: gh, environment: Y }
      |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ write `environment: NAME`, `file: path` or `command: [program, argument]`

    agent-run: 6 errors in agent-run.yaml
    "#);
}
