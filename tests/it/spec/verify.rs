//! `verify` and `feedback`: their forms, and what is wrong with others.

use std::time::Duration;

use insta::assert_snapshot;

use super::{bad, good, with_task};

#[test]
fn forms() {
    let spec = good(&with_task("verify: make ${test}"));
    let verify = spec.tasks[0].verify.as_ref().unwrap();
    assert_eq!(verify.run.value, "make ${test}");
    assert!(verify.timeout.is_none() && verify.image.is_none() && verify.secrets.is_empty());
    assert_eq!(spec.tasks[0].feedback, None);
    let spec = good(
        "\
version: 1
secrets: { key: { environment: TOKEN } }
defaults: { run: x, secrets: [key], feedback: 3, verify: { timeout: 5m, run: no } }
tasks:
  a: { verify: { run: test, image: 'tester:1', secrets: [{ source: key, environment: KEY }] } }
  b: { verify: test, feedback: 0 }
  c: { verify: null, feedback: null }
",
    );
    let [a, b, c] = &spec.tasks[..] else { panic!() };
    let verify = a.verify.as_ref().unwrap();
    assert_eq!(verify.run.value, "test");
    assert_eq!(verify.timeout, Some(Duration::from_secs(300)));
    assert_eq!(verify.image.as_ref().unwrap().value.as_str(), "tester:1");
    assert_eq!(verify.secrets[0].environment.as_deref(), Some("KEY"));
    assert_eq!(a.feedback, Some(3));
    let verify = b.verify.as_ref().unwrap();
    assert_eq!((verify.run.value.as_str(), verify.timeout), ("test", None));
    assert!(verify.secrets.is_empty(), "not those of the task");
    assert_eq!(b.feedback, Some(0));
    assert!(c.verify.is_none());
}

#[test]
fn defaults_may_leave_the_check_to_the_tasks() {
    let spec = good("version: 1\ndefaults: { run: x, feedback: 1 }\ntasks: { a: { verify: y } }\n");
    assert_eq!(spec.tasks[0].feedback, Some(1));
}

#[test]
fn what_is_wrong() {
    assert_snapshot!(bad("\
version: 1
defaults: { run: x }
tasks:
  a: { verify: '' }
  b: { verify: { timeout: 5m } }
  c: { verify: { run: ' ', timeout: 5 } }
  d: { verify: { run: y, image: 'A B', secrets: [unknown] } }
  e: { verify: [make, test] }
  f: { feedback: 1 }
  g: { verify: y, feedback: 11 }
  h: { verify: { command: y } }
"), @r#"
    error: `verify` is empty
     --> agent-run.yaml:4:16
      |
    4 |   a: { verify: '' }
      |                ^^

    error: `verify` has no `run`
     --> agent-run.yaml:5:16
      |
    5 |   b: { verify: { timeout: 5m } }
      |                ^^^^^^^^^^^^^^^ write the script that checks the result, such as `run: make test`

    error: `run` is empty
     --> agent-run.yaml:6:23
      |
    6 |   c: { verify: { run: ' ', timeout: 5 } }
      |                       ^^^

    error: `timeout: 5` has no unit
     --> agent-run.yaml:6:37
      |
    6 |   c: { verify: { run: ' ', timeout: 5 } }
      |                                     ^ write 5s or 5m

    error: `image: A B` has characters that no image reference may have
     --> agent-run.yaml:7:33
      |
    7 |   d: { verify: { run: y, image: 'A B', secrets: [unknown] } }
      |                                 ^^^^^

    error: `secrets: unknown` is not a secret of this spec
     --> agent-run.yaml:7:50
      |
    7 |   d: { verify: { run: y, image: 'A B', secrets: [unknown] } }
      |                                                  ^^^^^^^ declare it under `secrets` at the top level

    error: `verify` must be a script, or `run` and more, not a list
     --> agent-run.yaml:8:16
      |
    8 |   e: { verify: [make, test] }
      |                ^^^^^^^^^^^^

    error: `feedback` without `verify`
     --> agent-run.yaml:9:18
      |
    9 |   f: { feedback: 1 }
      |                  ^ write `verify` and a script: what it says is what the agent is told

    error: `feedback: 11` is out of bounds
      --> agent-run.yaml:10:29
       |
    10 |   g: { verify: y, feedback: 11 }
       |                             ^^ write a whole number from 0 to 10

    error: `verify` has no `run`
      --> agent-run.yaml:11:16
       |
    11 |   h: { verify: { command: y } }
       |                ^^^^^^^^^^^^^^ write the script that checks the result, such as `run: make test`

    error: unknown key `command` in `verify`
      --> agent-run.yaml:11:18
       |
    11 |   h: { verify: { command: y } }
       |                  ^^^^^^^

    agent-run: 11 errors in agent-run.yaml
    "#);
}
