//! `retry`: its forms, what it means without them, and what is wrong with others.

use std::time::Duration;

use agent_run::spec::{Retry, RetryCause};
use insta::assert_snapshot;

use super::{bad, good, with_task};

fn read(yaml: &str) -> Retry {
    let spec = good(&with_task(&format!("retry: {yaml}")));
    spec.tasks[0].retry.clone().expect("a retry")
}

#[test]
fn forms() {
    let any = |max| Retry {
        max,
        ..Retry::default()
    };
    assert_eq!(read("2"), any(2));
    assert_eq!(read("0"), any(0));
    assert_eq!(read("{}"), any(1));
    assert_eq!(read("{ max: 3 }"), any(3));
    assert_eq!(read("{ when: any }"), any(1));
    assert_eq!(read("{ when: [timeout, any] }"), any(1));
    let named = Retry {
        max: 2,
        when: vec![RetryCause::ExitCode, RetryCause::Timeout],
        exit_codes: vec![75, 1],
        backoff: Duration::from_secs(30),
    };
    let yaml = "{ max: 2, when: [exit_code, timeout], exit_codes: [75, 1], backoff: 30s }";
    assert_eq!(read(yaml), named);
}

#[test]
fn codes_without_when_are_what_is_tried_again() {
    let retry = read("{ exit_codes: 75 }");
    assert_eq!(retry.when, [RetryCause::ExitCode]);
    assert_eq!(retry.exit_codes, [75]);
}

#[test]
fn a_task_has_the_keys_that_it_does_not_name_from_defaults() {
    let spec = good(
        "\
version: 1
defaults: { run: x, retry: { max: 4, backoff: 1m } }
tasks:
  a: { retry: { when: oom } }
  b: { retry: 1 }
  c: { retry: null }
",
    );
    let a = Retry {
        max: 4,
        when: vec![RetryCause::Oom],
        exit_codes: Vec::new(),
        backoff: Duration::from_secs(60),
    };
    let b = Retry {
        max: 1,
        ..Retry::default()
    };
    let retries = spec.tasks.iter().map(|task| task.retry.clone());
    assert_eq!(retries.collect::<Vec<_>>(), [Some(a), Some(b), None]);
}

#[test]
fn what_is_wrong() {
    assert_snapshot!(bad("\
version: 1
defaults: { run: x }
tasks:
  a: { retry: 11 }
  b: { retry: { max: many, when: services_failure } }
  c: { retry: { when: [] } }
  d: { retry: { when: [timeout], exit_codes: [1] } }
  e: { retry: { when: any, exit_codes: [1] } }
  f: { retry: { exit_codes: [0, 256], backoff: 30 } }
  g: { retry: { times: 2 } }
  h: { retry: [2] }
"), @r#"
    error: `retry: 11` is out of bounds
     --> agent-run.yaml:4:15
      |
    4 |   a: { retry: 11 }
      |               ^^ write a whole number from 0 to 10

    error: `max: many` is not a whole number
     --> agent-run.yaml:5:22
      |
    5 |   b: { retry: { max: many, when: services_failure } }
      |                      ^^^^

    error: `when: services_failure` is not known
     --> agent-run.yaml:5:34
      |
    5 |   b: { retry: { max: many, when: services_failure } }
      |                                  ^^^^^^^^^^^^^^^^ write one of: infra_failure, pull_failure, service_failure, timeout, oom, exit_code, verify_failure, rate_limited, any

    error: `when` is empty
     --> agent-run.yaml:6:23
      |
    6 |   c: { retry: { when: [] } }
      |                       ^^ write `any`, or `max: 0` for no further attempt

    error: `exit_codes` without `exit_code` in `when`
     --> agent-run.yaml:7:46
      |
    7 |   d: { retry: { when: [timeout], exit_codes: [1] } }
      |                                              ^^^ write `exit_code` into `when`, and no `any`

    error: `exit_codes` without `exit_code` in `when`
     --> agent-run.yaml:8:40
      |
    8 |   e: { retry: { when: any, exit_codes: [1] } }
      |                                        ^^^ write `exit_code` into `when`, and no `any`

    error: `exit_codes: 0` is out of bounds
     --> agent-run.yaml:9:30
      |
    9 |   f: { retry: { exit_codes: [0, 256], backoff: 30 } }
      |                              ^ write a whole number from 1 to 255

    error: `exit_codes: 256` is out of bounds
     --> agent-run.yaml:9:33
      |
    9 |   f: { retry: { exit_codes: [0, 256], backoff: 30 } }
      |                                 ^^^ write a whole number from 1 to 255

    error: `backoff: 30` has no unit
     --> agent-run.yaml:9:48
      |
    9 |   f: { retry: { exit_codes: [0, 256], backoff: 30 } }
      |                                                ^^ write 30s or 30m

    error: unknown key `times` in `retry`
      --> agent-run.yaml:10:17
       |
    10 |   g: { retry: { times: 2 } }
       |                 ^^^^^

    error: `retry` must be a number, or `max` and more, not a list
      --> agent-run.yaml:11:15
       |
    11 |   h: { retry: [2] }
       |               ^^^

    agent-run: 11 errors in agent-run.yaml
    "#);
}
