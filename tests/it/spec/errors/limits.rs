//! Errors of limits: sizes, durations, CPUs, file systems.

use insta::assert_snapshot;

use crate::spec::{bad, bad_task, good, with_task};

#[test]
fn sizes() {
    assert_snapshot!(bad("\
version: 1
tasks:
  a: { run: x, mem_limit: -1 }
  b: { run: x, mem_limit: 0 }
  c: { run: x, mem_limit: 1e30 }
  d: { run: x, mem_limit: 99999999999g }
  e: { run: x, mem_limit: 4m, shm_size: 0 }
  f: { run: x, mem_limit: 1.5g, memswap_limit: much }
  g: { run: x, mem_limit: [1g] }
"), @r#"
    error: `mem_limit: -1` is negative
     --> agent-run.yaml:3:27
      |
    3 |   a: { run: x, mem_limit: -1 }
      |                           ^^ write a size such as 512m or 4g

    error: `mem_limit: 0` is too little
     --> agent-run.yaml:4:27
      |
    4 |   b: { run: x, mem_limit: 0 }
      |                           ^ write at least 6m, the least that an engine takes

    error: `mem_limit: 1e30` is not a size
     --> agent-run.yaml:5:27
      |
    5 |   c: { run: x, mem_limit: 1e30 }
      |                           ^^^^ write a size such as 512m or 4g

    error: `mem_limit: 99999999999g` is larger than any machine
     --> agent-run.yaml:6:27
      |
    6 |   d: { run: x, mem_limit: 99999999999g }
      |                           ^^^^^^^^^^^^ write a size such as 512m or 4g

    error: `mem_limit: 4m` is too little
     --> agent-run.yaml:7:27
      |
    7 |   e: { run: x, mem_limit: 4m, shm_size: 0 }
      |                           ^^ write at least 6m, the least that an engine takes

    error: `shm_size: 0` is too little
     --> agent-run.yaml:7:41
      |
    7 |   e: { run: x, mem_limit: 4m, shm_size: 0 }
      |                                         ^ write a size such as 64m

    error: `mem_limit: 1.5g` is not a size
     --> agent-run.yaml:8:27
      |
    8 |   f: { run: x, mem_limit: 1.5g, memswap_limit: much }
      |                           ^^^^ write a size such as 512m or 4g

    error: `memswap_limit: much` is not a size
     --> agent-run.yaml:8:48
      |
    8 |   f: { run: x, mem_limit: 1.5g, memswap_limit: much }
      |                                                ^^^^ write a size such as 512m or 4g

    error: `mem_limit` must be a size, not a list
     --> agent-run.yaml:9:27
      |
    9 |   g: { run: x, mem_limit: [1g] }
      |                           ^^^^

    agent-run: 9 errors in agent-run.yaml
    "#);
}

#[test]
fn durations() {
    assert_snapshot!(bad("\
version: 1
timeout: -1s
tasks:
  a: { run: x, timeout: 30 }
  b: { run: x, timeout: 0 }
  c: { run: x, timeout: 0s }
  d: { run: x, timeout: 99999999999999999999d }
  e: { run: x, timeout: 400d }
  f: { run: x, startup_timeout: soon, stop_grace_period: 1x, handoff_timeout: '' }
"), @r#"
    error: `timeout: -1s` is negative
     --> agent-run.yaml:2:10
      |
    2 | timeout: -1s
      |          ^^^ write a duration such as 90s, 30m or 1h30m

    error: `timeout: 30` has no unit
     --> agent-run.yaml:4:25
      |
    4 |   a: { run: x, timeout: 30 }
      |                         ^^ write 30s or 30m

    error: `timeout: 0` is no time at all
     --> agent-run.yaml:5:25
      |
    5 |   b: { run: x, timeout: 0 }
      |                         ^ write a duration such as 90s, 30m or 1h30m

    error: `timeout: 0s` is no time at all
     --> agent-run.yaml:6:25
      |
    6 |   c: { run: x, timeout: 0s }
      |                         ^^ write a duration such as 90s, 30m or 1h30m

    error: `timeout: 99999999999999999999d` is longer than a year
     --> agent-run.yaml:7:25
      |
    7 |   d: { run: x, timeout: 99999999999999999999d }
      |                         ^^^^^^^^^^^^^^^^^^^^^ write a duration such as 90s, 30m or 1h30m

    error: `timeout: 400d` is longer than a year
     --> agent-run.yaml:8:25
      |
    8 |   e: { run: x, timeout: 400d }
      |                         ^^^^ write a duration such as 90s, 30m or 1h30m

    error: `startup_timeout: soon` is not a duration
     --> agent-run.yaml:9:33
      |
    9 |   f: { run: x, startup_timeout: soon, stop_grace_period: 1x, handoff_timeout: '' }
      |                                 ^^^^ write a duration such as 90s, 30m or 1h30m

    error: `stop_grace_period: 1x` is not a duration
     --> agent-run.yaml:9:58
      |
    9 |   f: { run: x, startup_timeout: soon, stop_grace_period: 1x, handoff_timeout: '' }
      |                                                          ^^ write a duration such as 90s, 30m or 1h30m

    error: `handoff_timeout: ` is not a duration
     --> agent-run.yaml:9:79
      |
    9 |   f: { run: x, startup_timeout: soon, stop_grace_period: 1x, handoff_timeout: '' }
      |                                                                               ^^ write a duration such as 90s, 30m or 1h30m

    agent-run: 9 errors in agent-run.yaml
    "#);
}

#[test]
fn cpus_and_pids() {
    assert_snapshot!(bad("\
version: 1
max_parallel: 0
tasks:
  a: { run: x, cpus: 0 }
  b: { run: x, cpus: -2 }
  c: { run: x, cpus: 1e3 }
  d: { run: x, cpus: 99999999999999999999 }
  e: { run: x, pids_limit: 0 }
  f: { run: x, pids_limit: -1 }
  g: { run: x, pids_limit: many }
"), @r#"
    error: `max_parallel: 0` is out of bounds
     --> agent-run.yaml:2:15
      |
    2 | max_parallel: 0
      |               ^ write a whole number from 1 to 10000

    error: `cpus: 0` is less than 0.01, the least that an engine gives
     --> agent-run.yaml:4:22
      |
    4 |   a: { run: x, cpus: 0 }
      |                      ^ write a number such as 2 or 0.5

    error: `cpus: -2` is negative
     --> agent-run.yaml:5:22
      |
    5 |   b: { run: x, cpus: -2 }
      |                      ^^ write a number such as 2 or 0.5

    error: `cpus: 1e3` is not a number of CPUs
     --> agent-run.yaml:6:22
      |
    6 |   c: { run: x, cpus: 1e3 }
      |                      ^^^ write a number such as 2 or 0.5

    error: `cpus: 99999999999999999999` is more than any machine has
     --> agent-run.yaml:7:22
      |
    7 |   d: { run: x, cpus: 99999999999999999999 }
      |                      ^^^^^^^^^^^^^^^^^^^^ write a number such as 2 or 0.5

    error: `pids_limit: 0` is out of bounds
     --> agent-run.yaml:8:28
      |
    8 |   e: { run: x, pids_limit: 0 }
      |                            ^ write a whole number from 1 to 4194304

    error: `pids_limit: -1` is out of bounds
     --> agent-run.yaml:9:28
      |
    9 |   f: { run: x, pids_limit: -1 }
      |                            ^^ write a whole number from 1 to 4194304

    error: `pids_limit: many` is not a whole number
      --> agent-run.yaml:10:28
       |
    10 |   g: { run: x, pids_limit: many }
       |                            ^^^^

    agent-run: 8 errors in agent-run.yaml
    "#);
}

#[test]
fn tmpfs_and_ulimits() {
    assert_snapshot!(bad("\
version: 1
tasks:
  a:
    run: x
    tmpfs: [cache, /a/../b, /workspace, '/c:size=1x', '/d:mode=999', '/e:bind', /f, /f, '/g:size=0']
    ulimits:
      nofiles: 1
      core: { soft: 2, hard: 1 }
      nproc: { soft: 1 }
      stack: -2
"), @r#"
    error: `tmpfs: cache` is not an absolute path below /
     --> agent-run.yaml:5:13
      |
    5 |     tmpfs: [cache, /a/../b, /workspace, '/c:size=1x', '/d:mode=999', '/e:bind', /f, /f, '/g:size=0']
      |             ^^^^^ write a path such as /cache or /cache:size=1g,mode=1777

    error: `tmpfs: /a/../b` is not an absolute path below /
     --> agent-run.yaml:5:20
      |
    5 |     tmpfs: [cache, /a/../b, /workspace, '/c:size=1x', '/d:mode=999', '/e:bind', /f, /f, '/g:size=0']
      |                    ^^^^^^^ write a path such as /cache or /cache:size=1g,mode=1777

    error: `tmpfs: /workspace` is in the place of something that a task needs
     --> agent-run.yaml:5:29
      |
    5 |     tmpfs: [cache, /a/../b, /workspace, '/c:size=1x', '/d:mode=999', '/e:bind', /f, /f, '/g:size=0']
      |                             ^^^^^^^^^^ write a path such as /cache or /cache:size=1g,mode=1777

    error: `tmpfs: /c:size=1x` is not a size
     --> agent-run.yaml:5:41
      |
    5 |     tmpfs: [cache, /a/../b, /workspace, '/c:size=1x', '/d:mode=999', '/e:bind', /f, /f, '/g:size=0']
      |                                         ^^^^^^^^^^^^ write a size such as 512m or 4g

    error: `tmpfs: /d:mode=999` has an option that is not known
     --> agent-run.yaml:5:55
      |
    5 |     tmpfs: [cache, /a/../b, /workspace, '/c:size=1x', '/d:mode=999', '/e:bind', /f, /f, '/g:size=0']
      |                                                       ^^^^^^^^^^^^^ `mode=999`: write size=SIZE, mode=OCTAL, uid=N, gid=N, rw, ro, exec, noexec, suid, nosuid, dev, nodev

    error: `tmpfs: /e:bind` has an option that is not known
     --> agent-run.yaml:5:70
      |
    5 |     tmpfs: [cache, /a/../b, /workspace, '/c:size=1x', '/d:mode=999', '/e:bind', /f, /f, '/g:size=0']
      |                                                                      ^^^^^^^^^ `bind`: write size=SIZE, mode=OCTAL, uid=N, gid=N, rw, ro, exec, noexec, suid, nosuid, dev, nodev

    error: `tmpfs` names the same path twice
     --> agent-run.yaml:5:85
      |
    5 |     tmpfs: [cache, /a/../b, /workspace, '/c:size=1x', '/d:mode=999', '/e:bind', /f, /f, '/g:size=0']
      |                                                                                     ^^

    error: `tmpfs: /g:size=0` has no size
     --> agent-run.yaml:5:89
      |
    5 |     tmpfs: [cache, /a/../b, /workspace, '/c:size=1x', '/d:mode=999', '/e:bind', /f, /f, '/g:size=0']
      |                                                                                         ^^^^^^^^^^^ write a size such as size=64m

    error: unknown limit `nofiles` in `ulimits`
     --> agent-run.yaml:7:7
      |
    7 |       nofiles: 1
      |       ^^^^^^^ did you mean `nofile`?

    error: `core` has a soft limit above its hard limit
     --> agent-run.yaml:8:13
      |
    8 |       core: { soft: 2, hard: 1 }
      |             ^^^^^^^^^^^^^^^^^^^^

    error: `nproc` needs both `soft` and `hard`
     --> agent-run.yaml:9:14
      |
    9 |       nproc: { soft: 1 }
      |              ^^^^^^^^^^^

    error: `stack: -2` is out of bounds
      --> agent-run.yaml:10:14
       |
    10 |       stack: -2
       |              ^^ write a whole number from -1 to 9223372036854775807

    agent-run: 12 errors in agent-run.yaml
    "#);
}

#[test]
fn users_directories_networks() {
    assert_snapshot!(bad("\
version: 1
tasks:
  a: { run: x, user: root, working_dir: web, network_mode: host, read_only: yes }
  b: { run: x, user: '1000:', working_dir: '', read_only: 'on' }
"), @r#"
    error: `user: root` is not `uid` or `uid:gid`
     --> agent-run.yaml:3:22
      |
    3 |   a: { run: x, user: root, working_dir: web, network_mode: host, read_only: yes }
      |                      ^^^^ write numbers, such as 1000 or 1000:1000

    error: `working_dir: web` is not an absolute path without `.` and `..`
     --> agent-run.yaml:3:41
      |
    3 |   a: { run: x, user: root, working_dir: web, network_mode: host, read_only: yes }
      |                                         ^^^ write a path such as /workspace/web

    error: `network_mode: host` is not known
     --> agent-run.yaml:3:60
      |
    3 |   a: { run: x, user: root, working_dir: web, network_mode: host, read_only: yes }
      |                                                            ^^^^ write one of: bridge, none

    error: `read_only: yes` is not a truth value
     --> agent-run.yaml:3:77
      |
    3 |   a: { run: x, user: root, working_dir: web, network_mode: host, read_only: yes }
      |                                                                             ^^^ write true or false

    error: `user: 1000:` is not `uid` or `uid:gid`
     --> agent-run.yaml:4:22
      |
    4 |   b: { run: x, user: '1000:', working_dir: '', read_only: 'on' }
      |                      ^^^^^^^ write numbers, such as 1000 or 1000:1000

    error: `working_dir: ` is empty
     --> agent-run.yaml:4:44
      |
    4 |   b: { run: x, user: '1000:', working_dir: '', read_only: 'on' }
      |                                            ^^

    error: `read_only: on` is not a truth value
     --> agent-run.yaml:4:59
      |
    4 |   b: { run: x, user: '1000:', working_dir: '', read_only: 'on' }
      |                                                           ^^^^ write true or false

    agent-run: 7 errors in agent-run.yaml
    "#);
}

#[test]
fn nothing_is_mounted_into_what_a_task_brings_back() {
    for path in ["/workspace/target", "/home/agent/.cache", "/agent/out/x"] {
        let message = bad_task(&format!("tmpfs: [{path}]"));
        assert!(message.contains("in the place of something"), "{message}");
    }
    good(&with_task("tmpfs: [/workspaces, /home/agents/x]"));
}

#[test]
fn logs_and_disks_need_room_for_something() {
    for key in ["log_limit", "disk_limit"] {
        for size in ["0", "1023k"] {
            let message = bad_task(&format!("{key}: {size}"));
            assert!(message.contains("is too little"), "{message}");
            assert!(message.contains("write at least 1m"), "{message}");
        }
        good(&with_task(&format!("{key}: 1m")));
    }
}

#[test]
fn limits_of_a_result() {
    assert_snapshot!(bad("\
version: 1
collect:
  limits:
    bundle: 0
    file: much
    commits: 0
    depth: 2049
    paths: 1e9
    time: 5
    leftover: 1g
  limit: {}
tasks:
  a: { run: x, collect: {} }
"), @r#"
    error: `bundle: 0` is too little
     --> agent-run.yaml:4:13
      |
    4 |     bundle: 0
      |             ^ write a size such as 64m

    error: `file: much` is not a size
     --> agent-run.yaml:5:11
      |
    5 |     file: much
      |           ^^^^ write a size such as 512m or 4g

    error: `commits: 0` is out of bounds
     --> agent-run.yaml:6:14
      |
    6 |     commits: 0
      |              ^ write a whole number from 1 to 1000000000

    error: `depth: 2049` is out of bounds
     --> agent-run.yaml:7:12
      |
    7 |     depth: 2049
      |            ^^^^ write a whole number from 1 to 2048

    error: `paths: 1e9` is not a whole number
     --> agent-run.yaml:8:12
      |
    8 |     paths: 1e9
      |            ^^^

    error: `time: 5` has no unit
     --> agent-run.yaml:9:11
      |
    9 |     time: 5
      |           ^ write 5s or 5m

    error: unknown key `leftover` in `limits`
      --> agent-run.yaml:10:5
       |
    10 |     leftover: 1g
       |     ^^^^^^^^ did you mean `leftovers`?

    error: unknown key `limit` in `collect`
      --> agent-run.yaml:11:3
       |
    11 |   limit: {}
       |   ^^^^^ did you mean `limits`?

    error: unknown key `collect` in task `a`
      --> agent-run.yaml:13:16
       |
    13 |   a: { run: x, collect: {} }
       |                ^^^^^^^ a key of the top level

    agent-run: 9 errors in agent-run.yaml
    "#);
    assert_snapshot!(bad("version: 1\ncollect: 2g\ntasks: { a: { run: x } }\n"), @r#"
    error: `collect` must be a map with `limits`, not a single value
     --> agent-run.yaml:2:10
      |
    2 | collect: 2g
      |          ^^

    agent-run: 1 error in agent-run.yaml
    "#);
    let spec =
        good("version: 1\ncollect: { limits: { file: 3g, time: 1m } }\ntasks: { a: { run: x } }\n");
    let limits = &spec.collect.limits;
    assert_eq!((limits.file, limits.total), (Some(3 << 30), None));
    good("version: 1\ncollect:\ntasks: { a: { run: x } }\n");
    good("version: 1\ncollect: { limits: }\ntasks: { a: { run: x } }\n");
}
