//! Whether planning and scheduling cost more for each of a thousand tasks than of a hundred, all in layers of
//! which each needs the one before. On the scripted engine of the tests: there are no containers.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use agent_run::engine::Engine as _;
use agent_run::engine::config::ContainerConfig;
use agent_run::event::{Event, TaskReport};
use agent_run::git::{Git, Repository};
use agent_run::id::{RunId, StateDir};
use agent_run::journal::RunDirectory;
use agent_run::plan::{
    self, EngineCapacity, History, Identity, Over, PlanInputs, RepositoryPlan, RunPlan,
};
use agent_run::runner::{self, LogLine, Observer, Pool, RunContext, Secrets, Shutdown, TaskStops};
use agent_run::secrets::Needles;
use agent_run::spec::{self, Context, SourceFile};
use agent_run::workspace::BaseStore;
use anyhow::{Context as _, Result, anyhow, ensure};
use tokio::sync::watch;

use crate::fake::{FakeEngine, Script, host_path};
use crate::rows::{Goal, Row, median};
use crate::scene::Scene;

/// Tasks of a layer; each needs two of the layer before.
const WIDTH: u32 = 20;
const FEW: u32 = 100;
const MANY: u32 = 1000;
const JOBS: u32 = 16;

pub fn compare(scene: &Scene, rounds: u32) -> Result<Vec<Row>> {
    let repository = scene.repository("layers", 1)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let each = |tasks: u32| -> Result<f64> {
        let took = runtime.block_on(time(scene, &repository, tasks))?;
        Ok(took / f64::from(tasks))
    };
    let (mut few, mut many) = (vec![each(FEW)?], Vec::new());
    for _ in 0..rounds {
        many.push(each(MANY)?);
        few.push(each(FEW)?);
    }
    // What runs before and after it bears the same drift.
    let (few, many) = (median(few), median(many));
    Ok(vec![Row {
        what: format!(
            "planning and running each of {MANY} tasks in {} layers, without containers",
            MANY / WIDTH
        ),
        against: format!("each of {FEW} in {}", FEW / WIDTH),
        goal: Goal::AtMost(1.1),
        measured: many / few,
        unit: "",
        detail: format!(
            "{:.1} ms to {:.1} ms, with a worktree each, {JOBS} parallel",
            many * 1000.0,
            few * 1000.0
        ),
    }])
}

fn spec_of(tasks: u32) -> String {
    let mut text = format!(
        "version: 1\nmax_parallel: {JOBS}\ndefaults: {{ mem_limit: 64m, network_mode: none, base: HEAD, run: 'true' }}\ntasks:\n"
    );
    for task in 0..tasks {
        let needs = match task.checked_sub(WIDTH) {
            None => String::new(),
            Some(above) => {
                let beside = above / WIDTH * WIDTH + (above + 1) % WIDTH;
                format!(" needs: [t{above}, t{beside}] ")
            }
        };
        text += &format!("  t{task}: {{{needs}}}\n");
    }
    text
}

/// Seconds that a run of so many tasks that do nothing takes, with its planning.
async fn time(scene: &Scene, directory: &Path, tasks: u32) -> Result<f64> {
    let state = StateDir::new(scene.directory("layers-state")?);
    let search_path = std::env::var_os("PATH").context("no PATH")?;
    let git = Git::new(&search_path, &scene.path("git"))?;
    let repository = Repository::open(&git, directory)?;
    let engine = FakeEngine::new();
    engine.script(
        "probe",
        Script::exits(0).replies(|config, _| answer(config)),
    );
    engine.script("task", Script::exits(0).on_exit(nothing_changed));
    let info = engine.info().await?;
    let text = spec_of(tasks);

    let began = Instant::now();
    let run = RunId::new(jiff::Timestamp::now(), tasks);
    let plan = planned(&text, &run, &repository, (info.cpus, info.memory))?;
    let record = RunDirectory::create(&state, &run)?.journal()?.into();
    let store = BaseStore::ensure(&repository, &state, &plan.repository.base, None)?;
    let context = RunContext {
        engine: Arc::new(engine),
        info,
        plan,
        repository,
        store,
        state,
        secrets: Secrets::none(),
        needles: Needles::default(),
        owner: "bench".into(),
        pool: Pool::default(),
        patience: None,
        stops: watch::channel(TaskStops::new()).1,
    };
    let (_shutdown, asked) = watch::channel(Shutdown::None);
    let summary = runner::run(context, record, asked, &mut Silent).await?;
    let took = began.elapsed().as_secs_f64();
    let good = summary
        .tasks
        .iter()
        .filter(|task| TaskReport::is_good(task));
    let good = good.count();
    ensure!(good == tasks as usize, "{good} of {tasks} tasks ended well");
    Ok(took)
}

fn planned(
    text: &str,
    run: &RunId,
    repository: &Repository,
    (cpus, memory): (usize, i64),
) -> Result<RunPlan> {
    let context = Context {
        run,
        directory: Path::new("/"),
        environment: &|_| None,
    };
    let source = SourceFile::new("layers.yaml", text.to_owned());
    let spec = spec::parse(&source, &context).map_err(|e| anyhow!("{e}"))?;
    let inputs = PlanInputs {
        run: run.clone(),
        repository: RepositoryPlan {
            path: repository.directory().to_owned(),
            git_dir: repository.common_dir().to_owned(),
            key: repository.key().clone(),
            base_ref: "HEAD".into(),
            base: repository.resolve_base("HEAD")?,
            history: History::Full,
        },
        branches: &["main".to_owned()],
        engine: EngineCapacity {
            cpus,
            memory,
            own: 0,
        },
        runtimes: &[],
        identity_default: Identity {
            name: "bench".into(),
            email: "bench@localhost".into(),
        },
        select: &[],
        over: Over::default(),
        spec_path: None,
    };
    plan::plan(&spec, inputs).map_err(|e| anyhow!("{e}"))
}

/// What the probe's container prints, and writes where directories arrive.
fn answer(config: &ContainerConfig) -> Vec<u8> {
    let mark = variable(config, "AGENT_MARK");
    let probes = |target: &str| config.mounts.iter().any(|mount| mount.target == target);
    let mut sent = String::new();
    if probes("/agent/probe") {
        let read = std::fs::read_to_string(host_path(config, "/agent/probe/sent"));
        sent = read.unwrap_or_default();
        // A proof that fails ends the run, which is told.
        let _ = std::fs::write(host_path(config, "/agent/probe/received"), &sent);
    }
    format!("git\n{mark}\nroot:x:0:0::/root:/bin/sh\n{mark}\nroot:x:0:\n{mark}\n{sent}")
        .into_bytes()
}

/// The hand-off of a task that changed nothing.
fn nothing_changed(config: &ContainerConfig) {
    let base = variable(config, "AGENT_BASE");
    let status = format!("format=1\nhead={base}\nchanged=0\n");
    // Without it the task does not end well, which is told.
    let _ = std::fs::write(host_path(config, "/agent/out/status"), status);
}

fn variable<'a>(config: &'a ContainerConfig, name: &str) -> &'a str {
    let mut variables = config.environment.iter();
    let found = variables.find(|(known, _)| known == name);
    found.map_or("", |(_, value)| value)
}

/// Shows nothing.
struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event) {}

    fn line(&mut self, _: &LogLine) {}
}
