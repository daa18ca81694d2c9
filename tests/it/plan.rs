//! Plans: what defaults fill in, what the engine cannot give, which branches cannot be made.

use std::sync::OnceLock;

use agent_run::engine::config::{BuildConfig, PullPolicy};
use agent_run::id::{CommitId, RepoKey, TaskId};
use agent_run::plan::{
    EngineCapacity, Identity, Over, PlanInputs, RepositoryPlan, RetryCause, RunPlan, Work, plan,
};
use agent_run::spec::{Diagnostics, History, RunSpec};
use insta::assert_snapshot;
use proptest::prelude::*;

use crate::spec::{RUN, good, with_task};

/// What the engine can run containers with.
static RUNTIMES: OnceLock<Vec<String>> = OnceLock::new();
const GIB: i64 = 1 << 30;
const ENGINE: EngineCapacity = EngineCapacity {
    own: 0,
    cpus: 4,
    memory: 8 * GIB,
};

fn inputs<'a>(branches: &'a [String], select: &'a [TaskId]) -> PlanInputs<'a> {
    let git_dir = "/project/.git";
    PlanInputs {
        run: RUN.parse().expect("a run id"),
        repository: RepositoryPlan {
            path: "/project".into(),
            git_dir: git_dir.into(),
            key: RepoKey::of(git_dir.as_ref()),
            base_ref: "HEAD".into(),
            base: "1".repeat(40).parse::<CommitId>().expect("a commit"),
            history: History::Full,
        },
        branches,
        engine: ENGINE,
        runtimes: RUNTIMES.get_or_init(|| vec!["runc".into(), "runsc".into()]),
        identity_default: Identity {
            name: "agent-run".into(),
            email: "user@example.org".into(),
        },
        select,
        spec_path: None,
        over: Over::default(),
    }
}

pub fn planned(spec: &RunSpec) -> RunPlan {
    plan(spec, inputs(&[], &[])).unwrap_or_else(|problems| panic!("{problems}"))
}

fn refused(text: &str, branches: &[&str]) -> String {
    let branches: Vec<String> = branches.iter().map(|b| (*b).to_owned()).collect();
    let refused: Result<RunPlan, Diagnostics> = plan(&good(text), inputs(&branches, &[]));
    refused.expect_err("planned").to_string()
}

#[test]
fn the_first_day() {
    let spec = good("version: 1\ntasks:\n  hello:\n    run: echo hi > hello.txt\n");
    let image = format!("agent-run-base:{}", env!("CARGO_PKG_VERSION"));
    let plan = serde_json::to_string_pretty(&planned(&spec)).unwrap();
    assert_snapshot!(
        "the_first_day",
        plan.replace(&image, "agent-run-base:VERSION")
    );
}

#[test]
fn everything() {
    let spec = good(include_str!("spec/everything.yaml"));
    let plan = serde_json::to_string_pretty(&planned(&spec)).unwrap();
    assert_snapshot!("everything", plan);
}

#[test]
fn a_plan_knows_the_lines_that_set_its_limits() {
    let spec = good(
        "\
version: 1
x-big: &big
  mem_limit: 4g
x-time: &time 20m
defaults:
  timeout: *time
  mem_limit: 1g
tasks:
  own:
    run: x
    mem_limit: 2g
    timeout: 5m
    disk_limit: 20g
  merged: { run: x, <<: *big }
  reset:
    run: x
    timeout: null
",
    );
    let plan = planned(&spec);
    let lines: Vec<_> = plan.tasks.iter().map(|t| t.lines).collect();
    let lines = lines
        .iter()
        .map(|l| (l.task, l.mem_limit, l.timeout, l.disk_limit));
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            (9, Some(11), Some(12), Some(13)),
            (14, Some(3), Some(4), None),
            (15, Some(7), None, None)
        ]
    );
    assert_eq!(plan.spec, "agent-run.yaml");
}

#[test]
fn plans_hold_no_values_of_the_environment() {
    let spec = good(&with_task("env: { A: \"${TOKEN}\" }"));
    let plan = planned(&spec);
    assert_eq!(
        plan.tasks[0].environment["A"].expose(),
        "hunter2-very-secret"
    );
    let json = serde_json::to_string(&plan).unwrap();
    assert!(!format!("{json}{plan:?}{spec:?}").contains("hunter2"));
}

#[test]
fn more_cpus_than_there_are_is_a_warning() {
    let plan = planned(&good(&with_task("cpus: 16.5")));
    assert_eq!(plan.tasks[0].limits.nano_cpus, 4_000_000_000);
    assert_eq!(
        plan.warnings,
        ["task `t` asks for 16.5 CPUs and gets 4: the engine has no more"]
    );
}

#[test]
fn default_limits_fit_a_small_engine() {
    let mut small = inputs(&[], &[]);
    small.engine = EngineCapacity {
        own: 0,
        cpus: 1,
        memory: GIB,
    };
    let limits = &plan(&good(&with_task("")), small).unwrap().tasks[0].limits;
    assert_eq!(limits.nano_cpus, 1_000_000_000);
    let most = GIB - (256 << 20);
    assert_eq!((limits.memory, limits.memory_swap), (most, most));
    assert_eq!(
        limits.tmpfs["/tmp"],
        "rw,exec,nosuid,nodev,size=201326592,mode=1777"
    );
}

#[test]
fn memory_that_is_not_there() {
    assert_snapshot!(refused("\
version: 1
defaults: { mem_limit: 9g }
tasks:
  a: { run: x }
  b: { run: x, mem_limit: 3g, memswap_limit: 2g }
  c: { run: x, mem_limit: null, memswap_limit: 1g }
", &[]), @r#"
    error: `mem_limit: 9g` can never be given: the engine has 8192m, of which containers get 7372m
     --> agent-run.yaml:2:24
      |
    2 | defaults: { mem_limit: 9g }
      |                        ^^ write at most 7372m

    error: `memswap_limit: 2g` is less than `mem_limit: 3g`
     --> agent-run.yaml:5:46
      |
    5 |   b: { run: x, mem_limit: 3g, memswap_limit: 2g }
      |                                              ^^ it is memory and swap together; leave it out for no swap

    error: `memswap_limit: 1g` is less than `mem_limit: 2g`
     --> agent-run.yaml:6:48
      |
    6 |   c: { run: x, mem_limit: null, memswap_limit: 1g }
      |                                                ^^ it is memory and swap together; leave it out for no swap

    agent-run: 3 errors in agent-run.yaml
    "#);
}

#[test]
fn the_memory_of_services_is_their_tasks() {
    let service = |memory: &str| format!("services: {{ db: {{ image: x, mem_limit: {memory} }} }}");
    let text = |task: &str| format!("version: 1\ntasks:\n  a: {{ run: x, {task} }}\n");
    let task = planned(&good(&text(&service("6g")))).tasks.remove(0);
    // What is left of 7372m, and 16m are the pod's.
    assert_eq!(task.limits.memory >> 20, 7372 - 6144 - 16);
    assert_eq!(task.memory() >> 20, 7372);
    let too_much = text(&format!("mem_limit: 2g, {}", service("6g")));
    let message = refused(&too_much, &[]);
    let wanted = "task `a` can never run: with its services it needs 8208m of memory";
    assert!(message.contains(wanted), "{message}");
    let five = format!(
        "version: 1\ndefaults: {{ run: x, mem_limit: 1g, cpus: 0.1, {} }}\ntasks: {{ a: , b: , c: , d: , e: }}\n",
        service("1g")
    );
    assert_eq!(planned(&good(&five)).parallel, 3);
}

#[test]
fn a_tmp_of_the_spec_replaces_ours() {
    let plan = planned(&good(&with_task("tmpfs: ['/tmp:size=64m', /cache]")));
    let tmpfs = &plan.tasks[0].limits.tmpfs;
    assert_eq!(tmpfs["/tmp"], "size=67108864");
    assert_eq!(tmpfs["/cache"], "");
    assert_eq!(tmpfs.len(), 2);
}

#[test]
fn branches_that_cannot_be() {
    assert_snapshot!(refused("\
version: 1
tasks:
  a: { run: x, branch: work }
  b: { run: x, branch: work }
  c: { run: x, branch: work/c }
  d: { run: x, branch: fix/d }
  e: { run: x, branch: old }
  f: { run: x, branch: deep/er }
  g: { run: x, branch: working }
", &["fix", "old", "deep/er/still", "older"]), @r#"
    error: task `a` has the same branch `work`
     --> agent-run.yaml:4:24
      |
    4 |   b: { run: x, branch: work }
      |                        ^^^^ give each task a branch of its own

    error: the branch `work/c` cannot be beside the branch `work` of task `a`
     --> agent-run.yaml:5:24
      |
    5 |   c: { run: x, branch: work/c }
      |                        ^^^^^^ give each task a branch of its own

    error: the branch `work/c` cannot be beside the branch `work` of task `b`
     --> agent-run.yaml:5:24
      |
    5 |   c: { run: x, branch: work/c }
      |                        ^^^^^^ give each task a branch of its own

    error: the branch `fix/d` cannot be made: a branch `fix` exists
     --> agent-run.yaml:6:24
      |
    6 |   d: { run: x, branch: fix/d }
      |                        ^^^^^ choose another name, or rename the one that exists

    error: the branch `old` exists already
     --> agent-run.yaml:7:24
      |
    7 |   e: { run: x, branch: old }
      |                        ^^^ choose another name, or rename the one that exists

    error: the branch `deep/er` cannot be made: a branch `deep/er/still` exists
     --> agent-run.yaml:8:24
      |
    8 |   f: { run: x, branch: deep/er }
      |                        ^^^^^^^ choose another name, or rename the one that exists

    agent-run: 6 errors in agent-run.yaml
    "#);
    assert_snapshot!(refused("version: 1\ntasks:\n  t: { run: x }\n", &["agent"]), @r#"
    error: the branch `agent/251120-131500-abcd/t` cannot be made: a branch `agent` exists
     --> agent-run.yaml:3:3
      |
    3 |   t: { run: x }
      |   ^ choose another name by `branch`, or rename the one that exists

    agent-run: 1 error in agent-run.yaml
    "#);
}

#[test]
fn only_selected_tasks_are_planned() {
    let spec = good(
        "version: 1\ntasks:\n  a: { run: x }\n  b: { run: y, mem_limit: 99g }\n  c: { run: z }\n",
    );
    let select: Vec<TaskId> = vec!["c".parse().unwrap(), "a".parse().unwrap()];
    let plan = plan(&spec, inputs(&[], &select)).unwrap();
    let ids: Vec<&str> = plan.tasks.iter().map(|t| t.id.as_str()).collect();
    assert_eq!(ids, ["a", "c"]);
}

#[test]
fn unknown_selected_tasks() {
    let spec = good("version: 1\ntasks:\n  fix: { run: x }\n");
    let select: Vec<TaskId> = vec![
        "fx".parse().unwrap(),
        "fix".parse().unwrap(),
        "other".parse().unwrap(),
    ];
    assert_snapshot!(plan(&spec, inputs(&[], &select)).unwrap_err(), @r#"
    error: the spec has no task `fx`
     |
     = help: did you mean `fix`?

    error: the spec has no task `other`

    agent-run: 2 errors in agent-run.yaml
    "#);
}

#[test]
fn nothing_to_run_is_an_empty_plan() {
    let spec = good("version: 1\ntasks: { x-later: { run: x } }\n");
    assert!(planned(&spec).tasks.is_empty());
}

#[test]
fn parallel_is_what_is_said_or_what_fits() {
    let spec = |limit: &str, top: &str| {
        let tasks: Vec<String> = (0..20).map(|i| format!("  t{i}: {{ run: x }}\n")).collect();
        let tasks = tasks.concat();
        good(&format!(
            "version: 1\n{top}\ndefaults: {{ mem_limit: {limit} }}\ntasks:\n{tasks}"
        ))
    };
    assert_eq!(planned(&spec("1g", "")).parallel, 4);
    assert_eq!(planned(&spec("3g", "")).parallel, 2);
    assert_eq!(planned(&spec("7g", "")).parallel, 1);
    assert_eq!(planned(&spec("1g", "max_parallel: 7")).parallel, 7);
    assert_eq!(planned(&spec("1g", "max_parallel: 70")).parallel, 7);
    assert_eq!(planned(&spec("100m", "max_parallel: 70")).parallel, 20);
    assert_eq!(planned(&spec("100m, cpus: 0.5", "")).parallel, 16);
    assert_eq!(planned(&spec("100m, cpus: 4", "")).parallel, 2);
    let mut asked = inputs(&[], &[]);
    asked.over.jobs = Some(3);
    let plan = plan(&spec("2g", "max_parallel: 7"), asked).unwrap();
    assert_eq!(plan.parallel, 3);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    assert_eq!(plan.memory, 8 * GIB - 8 * GIB / 10);
}

#[test]
fn retries_of_the_command_line_are_those_of_every_task() {
    let spec = good(
        "version: 1\ntasks:\n  a: { run: x }\n  b: { run: x, retry: { max: 2, when: oom, backoff: 1m } }\n",
    );
    let maxes = |retries| {
        let mut asked = inputs(&[], &[]);
        asked.over.retries = retries;
        let plan = plan(&spec, asked).unwrap();
        assert_eq!(plan.tasks[1].retry.when, [RetryCause::Oom]);
        plan.tasks.iter().map(|t| t.retry.max).collect::<Vec<_>>()
    };
    assert_eq!(maxes(None), [0, 2]);
    assert_eq!(maxes(Some(5)), [5, 5]);
    assert_eq!(maxes(Some(0)), [0, 0]);
}

#[test]
fn images_of_builds() {
    let spec = good(
        "\
version: 1
tasks:
  a: { build: image }
  b: { build: { context: image } }
  c: { build: { context: image, target: dev } }
  d: { build: image, image: 'me/agent:1', pull_policy: missing }
  e: { run: x, pull_policy: never }
",
    );
    let plan = planned(&spec);
    let image = |i: usize| &plan.tasks[i].image;
    assert_eq!(image(0), image(1));
    assert!(image(0).reference.as_str().starts_with("agent-run-build-"));
    assert_eq!(image(0).pull_policy, PullPolicy::Build);
    assert_ne!(image(0).reference, image(2).reference);
    assert_eq!(image(3).reference.as_str(), "me/agent:1");
    assert_eq!(image(3).pull_policy, PullPolicy::Missing);
    assert_eq!(image(4).build, Some(BuildConfig::EmbeddedBase));
    assert_eq!(image(4).pull_policy, PullPolicy::Never);
    assert_eq!(plan.tasks[0].work, Work::Command(None));
}

proptest! {
    #[test]
    fn no_two_branches_exclude_each_other(names in prop::collection::vec("[ab](/[ab]){0,2}", 1..6)) {
        let tasks: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(i, name)| format!("  t{i}: {{ run: x, branch: {name} }}\n"))
            .collect();
        let spec = good(&format!("version: 1\ntasks:\n{}", tasks.concat()));
        let clash = |a: &str, b: &str| a == b || format!("{a}/").starts_with(&format!("{b}/")) || format!("{b}/").starts_with(&format!("{a}/"));
        let clashes = names.iter().enumerate().any(|(i, a)| names[..i].iter().any(|b| clash(a, b)));
        prop_assert_eq!(plan(&spec, inputs(&[], &[])).is_err(), clashes);
    }
}

#[test]
fn needs_give_order_levels_and_starts() {
    let spec = good(
        "\
version: 1
defaults: { run: x }
tasks:
  late: {}
  join: { needs: [part, first], touches: [src] }
  apart: { needs: join, base: HEAD }
  part: { needs: first, touches: [src], matrix: { v: [1, 2] } }
  first: {}
",
    );
    let plan = planned(&spec);
    let names = |ids: &[TaskId]| ids.iter().map(TaskId::to_string).collect::<Vec<_>>();
    let task = |id: &str| plan.tasks.iter().find(|t| t.id.as_str() == id).unwrap();
    let parts = ["part[v=1]", "part[v=2]", "first"];
    assert_eq!(names(&task("join").needs), parts);
    assert_eq!(names(&task("join").starts_from), parts);
    assert_eq!(names(&task("apart").needs), ["join"]);
    assert!(task("apart").starts_from.is_empty());
    let order = ["first", "part[v=1]", "part[v=2]", "join", "late", "apart"];
    assert_eq!(names(&plan.order.order), order);
    let levels: Vec<_> = plan.order.levels.iter().map(|ids| names(ids)).collect();
    let [first, second, third, fourth] = &levels[..] else {
        panic!("{levels:?}")
    };
    assert_eq!(
        (&first[..], &fourth[..]),
        (&["late".into(), "first".into()][..], &["apart".into()][..])
    );
    assert_eq!((second.len(), &third[..]), (2, &["join".to_owned()][..]));
    assert_eq!(plan.order.widest(), 2);
    // Of two tasks of which one needs the other none can be in the other's way.
    let said = plan.warnings.join("\n");
    assert!(said.contains("part[v=1] and part[v=2]"), "{said}");
    assert!(!said.contains("join"), "{said}");
    // What is named is run with what it needs.
    let chosen = ["join".parse().unwrap()];
    let plan = agent_run::plan::plan(&spec, inputs(&[], &chosen)).unwrap();
    assert_eq!(names(&plan.order.order), order[..4]);
}

#[test]
fn a_runtime_is_one_that_the_engine_has() {
    let text = "\
version: 1
defaults: { runtime: runsc }
tasks:
  a: { command: x }
  b: { command: x, runtime: null }
  c: { command: x, runtime: kata }
  d: { command: x, runtime: runcs }
  e: { command: x, runtime: runsc-kvm }
";
    assert_snapshot!(refused(text, &[]));
    let text = text.lines().take(5).collect::<Vec<_>>().join("\n");
    let runtimes = planned(&good(&text))
        .tasks
        .into_iter()
        .map(|task| task.runtime);
    assert_eq!(runtimes.collect::<Vec<_>>(), [Some("runsc".into()), None]);
}

#[test]
fn what_gvisor_keeps_to_itself_is_told_of_before() {
    let text = with_task(
        "command: [make]\nruntime: runsc\nsetup: make deps\negress: { allow: [a.example] }",
    );
    let warnings = planned(&good(&text)).warnings;
    assert_snapshot!(warnings.join("\n"));
    let other = planned(&good(&text.replace("runsc", "runc"))).warnings;
    assert_eq!(other, Vec::<String>::new());
}
