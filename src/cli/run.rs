//! `run`: runs the tasks of a spec and collects their branches.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tokio::sync::watch;

use super::args::{OutputWhich, PlanFormat, ProgressWhen, RunArgs, ViewArgs};
use super::error::Failure;
use super::exit_code::{Exit, of_run};
use super::keys::{self, Keys};
use super::outputs::not_there;
use super::prepare::{self, Prepared, Request};
use super::secrets::{self, Secrets};
use super::signals::{Controls, Signals};
use super::stop::Requests;
use super::surroundings::{self, Surroundings};
use super::{ci, dead, exposure, plan, print_error, print_result};
use crate::engine::docker::DockerEngine;
use crate::event::{Event, EventKind, RunSummary, Versioned};
use crate::git::Repository;
use crate::id::StateDir;
use crate::journal::{self, JournalError, RunDirectory};
use crate::plan::{History, RepositoryPlan, RunPlan};
use crate::report::{
    self, EventLog, Hints, Limit, Limits, Look, Mode, Output, Paint, Reporter, limit, summary,
};
use crate::runner::{
    self, LogLine, Observer, Patience, Pool, Record, RunContext, Shutdown, TaskStops,
};
use crate::secrets::{Needles, SecretString};
use crate::spec::units;
use crate::workspace::BaseStore;

/// GitHub kills a cancelled step 10 s after INT, and 7.5 s after it sends TERM: so much of that is
/// for what can be collected, the rest for removing what runs.
const PATIENCE: Duration = Duration::from_secs(5);
/// A base store that took longer than this to fill is told of.
const WORTH_TELLING: Duration = Duration::from_secs(1);

pub(super) async fn run(
    surroundings: &Surroundings,
    request: Request,
    arguments: &RunArgs,
) -> Result<Exit, Failure> {
    // Containers of another uid must be able to read what we make for them.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let prepared = prepare::prepare(surroundings, request, arguments.over).await?;
    if arguments.dry_run {
        return plan::print(surroundings, prepared, PlanFormat::Text);
    }
    Box::pin(start(surroundings, prepared, &arguments.view)).await
}

/// Begins a run.
pub(super) async fn start(
    surroundings: &Surroundings,
    mut prepared: Prepared,
    view: &ViewArgs,
) -> Result<Exit, Failure> {
    let ready = Ready::new(surroundings, &mut prepared, view)?;
    dead::tell(surroundings)?;
    let directory = RunDirectory::create(&surroundings.state, &prepared.plan.run)?;
    directory.write_json("plan.json", &prepared.plan)?;
    let record = directory.journal()?.into();
    let carried_out = carry_out(surroundings, prepared, ready, (directory, record));
    Box::pin(carried_out).await
}

/// What a run needs that can be looked at before anything is made.
pub(super) struct Ready<'a> {
    view: &'a ViewArgs,
    secrets: Secrets,
    events: EventLog,
    signals: Signals,
}

impl<'a> Ready<'a> {
    /// Reads secrets, opens files, and catches signals from now on.
    pub(super) fn new(
        surroundings: &Surroundings,
        prepared: &mut Prepared,
        view: &'a ViewArgs,
    ) -> Result<Self, Failure> {
        view.outputs.prepare()?;
        let secrets = secrets::read_all(surroundings, &mut prepared.plan)?;
        let mut events = EventLog::default();
        if let Some(path) = &view.outputs.events {
            // It may wait for the reader of a pipe: signals still end the process.
            events.open(path).map_err(not_there)?;
        }
        Ok(Self {
            view,
            secrets,
            events,
            signals: Signals::catch()?,
        })
    }
}

/// Runs what a plan has left to do, and tells what became of it all.
pub(super) async fn carry_out(
    surroundings: &Surroundings,
    mut prepared: Prepared,
    ready: Ready<'_>,
    (directory, record): (RunDirectory, Record),
) -> Result<Exit, Failure> {
    let Ready {
        view: arguments,
        secrets,
        events,
        mut signals,
    } = ready;
    let outputs = &arguments.outputs;
    let run = prepared.plan.run.clone();
    let tidying = dead::begin(surroundings, &prepared, arguments.network_pool)?;
    let exposure = exposure::of(surroundings, &mut prepared, arguments.network_pool);
    let store = {
        let (repository, state) = (prepared.repository.clone(), surroundings.state.clone());
        let plan = prepared.plan.repository.clone();
        let filling = tokio::task::spawn_blocking(move || base_store(&repository, &state, &plan));
        signals.or_leave(filling).await??
    };
    prepared.plan.warnings.extend_from_slice(store.notes());
    let paint = surroundings.paint;
    let tasks: Vec<_> = prepared.plan.tasks.iter().map(|t| t.id.clone()).collect();
    let is_preview = prepared.plan.previews.is_some();
    let service = ci::service(&prepared.plan, &surroundings.directory);
    let hints = hints(&prepared.plan, &surroundings.directory);
    let look = look(arguments, (service.is_some(), is_preview), paint);
    let reporter = Reporter::new(look, &tasks, &hints, service, events);
    let plan = prepared.plan.clone();
    let (stop_tasks, stops) = watch::channel(TaskStops::new());
    let context = context(
        prepared,
        store,
        surroundings,
        (secrets.values, secrets.needles),
        arguments.network_pool,
        stops,
    );
    let (sender, shutdown) = watch::channel(Shutdown::None);
    let requests = Requests::open(&directory)?.forward(sender.clone(), stop_tasks);
    let mut view = View {
        reporter,
        prints_link: !outputs.take_stdout() && !surroundings::is_read_by_people(),
        secrets: secrets.further,
    };
    let (controls, guard) = controls(&view.reporter, look.mode, sender);
    #[expect(
        clippy::disallowed_methods,
        reason = "a terminal that blocks the reporter must not make requests unheard"
    )]
    {
        tokio::spawn(signals.forward(run, controls));
        tokio::spawn(requests);
    }
    let run = runner::run(context, record, shutdown, &mut view);
    let (ended, exposed) = exposure::beside(exposure, run).await;
    let ended = ended?;
    drop(guard);
    let mut failed: Vec<anyhow::Error> =
        view.reporter.failed().into_iter().map(Into::into).collect();
    let result = directory.write_json("result.json", &Versioned::new(&ended));
    failed.extend(result.err().map(Into::into));
    failed.extend(outputs.write(&ended, &hints).into_iter().map(Into::into));
    failed.extend(ci::tell(&plan, &ended, &hints).err());
    // The run has ended well or badly by now: a plan that is less exact changes nothing of it.
    let _ = directory.write_json("plan.json", &pinned(plan, &ended));
    let patience = match ended.stopped {
        Some(_) => Patience::None,
        None => Patience::ForTheBegun,
    };
    let tidied = tidying.end(patience).await;
    if !arguments.quiet {
        print_error(&dead::told(&tidied));
        print_error(&exposure::told(exposed, paint));
    }
    match (is_preview, outputs.take_stdout()) {
        (true, _) => print_error(&report::preview(&ended, paint)),
        (false, true) => print_error(&summary(&ended, &hints, paint)),
        (false, false) => print_result(&summary(&ended, &hints, surroundings.result_paint)),
    }
    Ok(told(failed, of_run(&ended), paint))
}

/// Tells what could not be written. The work is safe: where tasks failed, their exit code says more.
fn told(failed: Vec<anyhow::Error>, exit: Exit, paint: Paint) -> Exit {
    let exit = match exit {
        Exit::Success if !failed.is_empty() => Exit::Unexpected,
        exit => exit,
    };
    for error in failed {
        print_error(&Failure::new(exit, error).render(paint));
    }
    exit
}

/// The plan with the images that its tasks did run in.
fn pinned(mut plan: RunPlan, ended: &RunSummary) -> RunPlan {
    let reports = ended.tasks.iter().map(|report| (&report.task, report));
    let reports: HashMap<_, _> = reports.collect();
    for task in &mut plan.tasks {
        let Some(report) = reports.get(&task.id) else {
            continue;
        };
        let image = report.image_digest.as_ref().or(report.image.as_ref());
        if let Some(image) = image.and_then(|image| image.parse().ok()) {
            task.pinned_image = Some(image);
        }
        let own = task.verify.as_mut().and_then(|v| v.image.as_mut());
        if let (Some(own), Some(report)) = (own, &report.verify) {
            let image = report.image_digest.as_ref().or(report.image.as_ref());
            let image = image.and_then(|image| image.parse().ok());
            own.pinned = image.or(own.pinned.take());
        }
    }
    plan
}

fn hints(plan: &RunPlan, here: &Path) -> Hints {
    let spec = Path::new(&plan.spec);
    let spec = spec.strip_prefix(here).unwrap_or(spec);
    let place = |line: Option<usize>| line.map(|line| format!("{}:{line}", spec.display()));
    let limits = plan.tasks.iter().map(|task| {
        let limits = Limits {
            mem_limit: Limit {
                value: units::show_bytes(task.limits.memory),
                place: place(task.lines.mem_limit),
            },
            disk_limit: Limit {
                value: units::show_bytes(task.disk_limit),
                place: place(task.lines.disk_limit),
            },
            timeout: Limit {
                value: limit(task.timeout),
                place: place(task.lines.timeout),
            },
            verify_timeout: task.verify.as_ref().map(|v| limit(v.timeout)),
            slow_after: limit(task.slow_after),
        };
        (task.id.clone(), limits)
    });
    let previews = plan.tasks.iter().filter(|task| task.preview.is_some());
    Hints {
        base: plan.repository.base_ref.clone(),
        limits: limits.collect(),
        previews: previews.map(|task| task.id.clone()).collect(),
    }
}

/// What signals controls, and the keys of a terminal until the guard is dropped.
fn controls(
    reporter: &Reporter,
    mode: Mode,
    shutdown: watch::Sender<Shutdown>,
) -> (Controls, Option<keys::Guard>) {
    let area = reporter.area();
    let taken = (mode == Mode::Terminal).then(Keys::take).flatten();
    let (keys, guard) = taken.unzip();
    if let Some(keys) = &keys {
        let area = area.clone();
        keys.read(move || area.print_running());
    }
    let controls = Controls {
        shutdown,
        area: Some(area),
        keys,
    };
    (controls, guard)
}

/// Bridges the runner's observer to the reporter: neither knows the other.
struct View {
    reporter: Reporter,
    /// Whether the link of a preview goes to standard output, too: for a program that reads that.
    prints_link: bool,
    secrets: Receiver<SecretString>,
}

impl View {
    /// What was read is told before any line can hold it: no container has it before.
    fn mask(&mut self) {
        while let Ok(value) = self.secrets.try_recv() {
            self.reporter.mask(&value);
        }
    }
}

impl Observer for View {
    fn event(&mut self, event: &Event) {
        self.mask();
        self.reporter.event(event);
        if let EventKind::Answers { port } = &event.kind
            && self.prints_link
        {
            print_result(&format!("{}\n", port.link()));
        }
    }

    fn line(&mut self, line: &LogLine) {
        self.mask();
        self.reporter.line(&line.task, &line.text);
    }
}

fn context(
    prepared: Prepared,
    store: BaseStore,
    surroundings: &Surroundings,
    (secrets, needles): (runner::Secrets, Needles),
    pool: Pool,
    stops: watch::Receiver<TaskStops>,
) -> RunContext<DockerEngine> {
    RunContext {
        engine: prepared.engine,
        info: prepared.info,
        plan: prepared.plan,
        repository: prepared.repository,
        store,
        state: surroundings.state.clone(),
        secrets,
        needles,
        owner: journal::owner(),
        pool,
        patience: surroundings::is_github().then_some(PATIENCE),
        stops,
    }
}

fn base_store(
    repository: &Repository,
    state: &StateDir,
    plan: &RepositoryPlan,
) -> Result<BaseStore, Failure> {
    let depth = match plan.history {
        History::Full => None,
        History::Depth(depth) => Some(depth),
    };
    let store = BaseStore::ensure(repository, state, &plan.base, depth)
        .map_err(|e| Failure::new(Exit::EnvironmentUnusable, e))?;
    if let Some(cost) = store.cold_cost()
        && cost.took > WORTH_TELLING
    {
        print_error(&format!(
            "copied {} MiB of history in {:.1?}; later runs copy only what is new\n",
            cost.bytes >> 20,
            cost.took
        ));
    }
    Ok(store)
}

fn look(arguments: &ViewArgs, (is_ci, is_preview): (bool, bool), paint: Paint) -> Look {
    let mode = mode(arguments);
    let output = match arguments.output {
        Some(OutputWhich::Group) => Output::Group,
        Some(OutputWhich::None) => Output::None,
        None if is_preview => Output::Prefixed,
        None if mode == Mode::Terminal => Output::None,
        None if is_ci => Output::Group,
        Some(OutputWhich::Prefixed) | None => Output::Prefixed,
    };
    Look {
        mode,
        output,
        paint,
    }
}

fn mode(arguments: &ViewArgs) -> Mode {
    match arguments.progress {
        _ if arguments.quiet => Mode::Quiet,
        ProgressWhen::Quiet => Mode::Quiet,
        ProgressWhen::Tty if surroundings::has_terminal() => Mode::Terminal,
        ProgressWhen::Auto if surroundings::can_stay_in_place() => Mode::Terminal,
        ProgressWhen::Tty | ProgressWhen::Plain | ProgressWhen::Auto => Mode::Plain,
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        let (exit, hint) = match &error {
            JournalError::Live(_) => (
                Exit::EnvironmentUnusable,
                "wait for it, or interrupt it with Ctrl-C where it runs",
            ),
            JournalError::NoSuchRun { .. } => (
                Exit::Usage,
                "`agent-run ps --all` lists the runs of all repositories",
            ),
            JournalError::NewerVersion { .. } => (
                Exit::EnvironmentUnusable,
                "use the agent-run that wrote it, or a later one",
            ),
            JournalError::Damaged { .. } => (
                Exit::EnvironmentUnusable,
                "the run was cut off while it was written; `agent-run ps` tells what else there is",
            ),
            JournalError::Io { .. } => return Self::new(Exit::EnvironmentUnusable, error),
        };
        Self::new(exit, error).hint(hint)
    }
}
