//! Errors of `setup` and `cache`, by themselves and against the base.

use std::collections::BTreeMap;

use agent_run::plan::{check_setups, paths_of_setups};
use agent_run::spec::{CacheMode, SetupSpec, SetupUser};
use insta::assert_snapshot;

use super::super::{bad, bad_task, good, with_task};

fn setup(lines: &str) -> SetupSpec {
    let text = with_task(&format!("command: [make]\n{lines}"));
    good(&text).tasks.remove(0).setup.expect("a setup")
}

#[test]
fn all_forms_mean_what_they_say() {
    let short = setup("setup: apt-get install -y jq");
    assert_eq!(short.user, SetupUser::Root);
    assert_eq!(short, setup("setup: { run: apt-get install -y jq }"));
    let paths = setup("setup: { run: npm ci, files: package-lock.json, paths: node_modules/ }");
    assert_eq!(paths.user, SetupUser::Agent);
    assert_eq!(paths.paths[0].value.as_str(), "node_modules");
    let root = setup("setup: { run: x, paths: [a, b/c], user: root }");
    assert_eq!((root.user, root.paths.len()), (SetupUser::Root, 2));
    let never = setup("setup: { run: 'echo ${HOME}' }");
    assert_eq!(never.run, "echo ${HOME}");
}

#[test]
fn a_setup_must_be_whole() {
    assert_snapshot!(bad("\
version: 1
tasks:
  a: { command: x, setup: {} }
  b: { command: x, setup: ' ' }
  c: { command: x, setup: [npm ci] }
  d: { command: x, setup: { run: npm ci, path: node_modules } }
  e: { command: x, setup: { run: npm ci, user: agent } }
  f: { command: x, setup: { run: npm ci, user: '0' } }
  g: { command: x, setup: { run: npm ci, secrets: [npm_token] } }
"), @r#"
    error: `setup` has no `run`
     --> agent-run.yaml:3:27
      |
    3 |   a: { command: x, setup: {} }
      |                           ^^ write the script, such as `run: npm ci`

    error: the script of `setup` is empty
     --> agent-run.yaml:4:27
      |
    4 |   b: { command: x, setup: ' ' }
      |                           ^^^

    error: `setup` must be a script, or `run` and more, not a list
     --> agent-run.yaml:5:27
      |
    5 |   c: { command: x, setup: [npm ci] }
      |                           ^^^^^^^^

    error: unknown key `path` in `setup`
     --> agent-run.yaml:6:42
      |
    6 |   d: { command: x, setup: { run: npm ci, path: node_modules } }
      |                                          ^^^^ did you mean `paths`?

    error: a setup of `user: agent` without `paths` leaves nothing
     --> agent-run.yaml:7:48
      |
    7 |   e: { command: x, setup: { run: npm ci, user: agent } }
      |                                                ^^^^^ name the directories to keep, such as `paths: [node_modules]`; what is installed into the image needs `user: root`

    error: `user: 0` is not known
     --> agent-run.yaml:8:48
      |
    8 |   f: { command: x, setup: { run: npm ci, user: '0' } }
      |                                                ^^^ write one of: agent, root

    error: `secrets: npm_token` is not a secret of this spec
     --> agent-run.yaml:9:52
      |
    9 |   g: { command: x, setup: { run: npm ci, secrets: [npm_token] } }
      |                                                    ^^^^^^^^^ declare it under `secrets` at the top level

    agent-run: 7 errors in agent-run.yaml
    "#);
}

#[test]
fn prepared_directories_lie_in_the_worktree_and_apart() {
    for (path, told) in [
        ("../x", "has `..` in it"),
        ("/etc", "is not relative to /workspace"),
        (".git/hooks", "lies in `.git`"),
        ("./a", "has an empty part, or `.`"),
    ] {
        let message = bad_task(&format!(
            "command: x\nsetup: {{ run: x, paths: ['{path}'] }}"
        ));
        assert!(message.contains(told), "{message}");
        let message = bad_task(&format!(
            "command: x\nsetup: {{ run: x, files: ['{path}'] }}"
        ));
        assert!(message.contains(told), "{message}");
    }
    assert_snapshot!(bad("\
version: 1
tasks:
  a: { command: x, setup: { run: npm ci, paths: [../node_modules] } }
  b: { command: x, setup: { run: npm ci, paths: [web, web/dist] } }
"), @r#"
    error: `paths: ../node_modules` has `..` in it
     --> agent-run.yaml:3:50
      |
    3 |   a: { command: x, setup: { run: npm ci, paths: [../node_modules] } }
      |                                                  ^^^^^^^^^^^^^^^ write a path below the worktree, such as node_modules

    error: `paths` has web and web/dist, and one lies in the other
     --> agent-run.yaml:4:55
      |
    4 |   b: { command: x, setup: { run: npm ci, paths: [web, web/dist] } }
      |                                                       ^^^^^^^^ keep the outer one

    agent-run: 2 errors in agent-run.yaml
    "#);
}

#[test]
fn a_cache_has_a_key_and_a_place() {
    let spec = good(&with_task(
        "cache: [{ key: npm, path: ~/.npm }, { key: go, path: /go/pkg, mode: private }]",
    ));
    let caches = &spec.tasks[0].cache;
    assert_eq!(caches[0].path, "/home/agent/.npm");
    assert_eq!(
        (caches[0].mode, caches[1].mode),
        (CacheMode::Shared, CacheMode::Private)
    );
    assert_snapshot!(bad("\
version: 1
tasks:
  a: { run: x, cache: { key: npm, path: /npm } }
  b: { run: x, cache: [{ key: npm }] }
  c: { run: x, cache: [{ key: ../npm, path: npm, mode: locked }] }
  d: { run: x, cache: [{ key: npm, path: /workspace/.npm }, { key: tmp, path: /tmp/x }] }
  e: { run: x, cache: [{ key: a, path: /a }, { key: a, path: /b }, { key: c, path: /a/c }] }
"), @r#"
    error: `cache` must be a list of `key` and `path`, not a map
     --> agent-run.yaml:3:23
      |
    3 |   a: { run: x, cache: { key: npm, path: /npm } }
      |                       ^^^^^^^^^^^^^^^^^^^^^^^^

    error: a cache needs `key` and `path`
     --> agent-run.yaml:4:24
      |
    4 |   b: { run: x, cache: [{ key: npm }] }
      |                        ^^^^^^^^^^^^ write both, such as `{ key: npm, path: ~/.npm }`

    error: `key: ../npm` cannot be the key of a cache
     --> agent-run.yaml:5:31
      |
    5 |   c: { run: x, cache: [{ key: ../npm, path: npm, mode: locked }] }
      |                               ^^^^^^ write at most 40 lower-case letters, digits, `-` and `_`, such as npm

    error: `path: npm` is not an absolute path without `.` and `..`
     --> agent-run.yaml:5:45
      |
    5 |   c: { run: x, cache: [{ key: ../npm, path: npm, mode: locked }] }
      |                                             ^^^ write an absolute path inside, or one in the home, such as ~/.npm

    error: `mode: locked` is not known
     --> agent-run.yaml:5:56
      |
    5 |   c: { run: x, cache: [{ key: ../npm, path: npm, mode: locked }] }
      |                                                        ^^^^^^ write one of: shared, private

    error: `path: /workspace/.npm` is a place that is not free for a cache
     --> agent-run.yaml:6:42
      |
    6 |   d: { run: x, cache: [{ key: npm, path: /workspace/.npm }, { key: tmp, path: /tmp/x }] }
      |                                          ^^^^^^^^^^^^^^^ directories of the worktree are prepared by `setup: { paths: … }`

    error: `path: /tmp/x` is a place that is not free for a cache
     --> agent-run.yaml:6:79
      |
    6 |   d: { run: x, cache: [{ key: npm, path: /workspace/.npm }, { key: tmp, path: /tmp/x }] }
      |                                                                               ^^^^^^ write an absolute path inside, or one in the home, such as ~/.npm

    error: `cache` has the key a twice
     --> agent-run.yaml:7:46
      |
    7 |   e: { run: x, cache: [{ key: a, path: /a }, { key: a, path: /b }, { key: c, path: /a/c }] }
      |                                              ^^^^^^^^^^^^^^^^^^^^ keep one of them

    error: `cache` has two for /a/c
     --> agent-run.yaml:7:68
      |
    7 |   e: { run: x, cache: [{ key: a, path: /a }, { key: a, path: /b }, { key: c, path: /a/c }] }
      |                                                                    ^^^^^^^^^^^^^^^^^^^^^^ keep one of them

    agent-run: 9 errors in agent-run.yaml
    "#);
}

#[test]
fn the_base_must_be_as_a_setup_needs_it() {
    let text = "\
version: 1
defaults:
  setup:
    run: npm ci
    files: [package-lock.json, src, missing.json]
    paths: [node_modules, src/made, tracked, link/x, lib/deps, readme.md/x]
tasks:
  a: { command: x }
  b: { command: x }
";
    let spec = good(text);
    let paths = paths_of_setups(&spec, &[]);
    assert!(paths.iter().any(|path| path == "link"), "{paths:?}");
    let modes = [
        ("package-lock.json", 0o100_644),
        ("src", 0o040_000),
        ("tracked", 0o040_000),
        ("link", 0o120_000),
        ("lib", 0o160_000),
        ("readme.md", 0o100_644),
    ];
    let modes: BTreeMap<_, _> = modes.map(|(path, mode)| (path.to_owned(), mode)).into();
    let refused = check_setups(&spec, &[], &modes).expect_err("accepted");
    assert_snapshot!(refused.to_string(), @r#"
    error: `src`, which `setup` depends on, is no file in the base
     --> agent-run.yaml:5:32
      |
    5 |     files: [package-lock.json, src, missing.json]
      |                                ^^^ name files: a setup is made anew when one of them changes

    error: the base has no file `missing.json`, which `setup` depends on
     --> agent-run.yaml:5:37
      |
    5 |     files: [package-lock.json, src, missing.json]
      |                                     ^^^^^^^^^^^^ commit it, or take it out of `files`

    error: `tracked` is tracked by git, so that no setup can prepare it
     --> agent-run.yaml:6:37
      |
    6 |     paths: [node_modules, src/made, tracked, link/x, lib/deps, readme.md/x]
      |                                     ^^^^^^^ name a directory that git ignores, such as node_modules

    error: `link/x` cannot be prepared: `link` is a symbolic link in the base
     --> agent-run.yaml:6:46
      |
    6 |     paths: [node_modules, src/made, tracked, link/x, lib/deps, readme.md/x]
      |                                              ^^^^^^ name a directory below directories of the repository

    error: `lib/deps` cannot be prepared: `lib` is a submodule in the base
     --> agent-run.yaml:6:54
      |
    6 |     paths: [node_modules, src/made, tracked, link/x, lib/deps, readme.md/x]
      |                                                      ^^^^^^^^ name a directory below directories of the repository

    error: `readme.md/x` cannot be prepared: `readme.md` is a file in the base
     --> agent-run.yaml:6:64
      |
    6 |     paths: [node_modules, src/made, tracked, link/x, lib/deps, readme.md/x]
      |                                                                ^^^^^^^^^^^ name a directory below directories of the repository

    agent-run: 6 errors in agent-run.yaml
    "#);
    let fine = good(
        "version: 1\ntasks:\n  a: { command: x, setup: { run: x, files: a/b, paths: c/d } }\n",
    );
    let modes = [("a/b".to_owned(), 0o100_755), ("c".to_owned(), 0o040_000)].into();
    check_setups(&fine, &[], &modes).expect("accepted");
}
