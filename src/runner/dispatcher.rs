//! The run loop: admits tasks to slots, tells what happens, ends when all is done.
//!
//! Tasks are spawned and never dropped. Everything they report comes through here, so that what is
//! shown is always consistent; what they leave to remove is removed in the background meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::admission::{Admission, Admitted};
use super::attempts::{TaskDone, run_task};
use super::claim::HeldClaims;
use super::egress::{self, Egress};
use super::failures::Failures;
use super::floor::Floor;
use super::forecast;
use super::images::Images;
use super::measure::Allowance;
use super::network::Network;
use super::outage::Outage;
use super::outcome;
use super::past::{Past, Record};
use super::prepare;
use super::proof::Proofs;
use super::record::{Stamp, Writer};
use super::schedule::Skip;
use super::setup::Setups;
use super::start::{self, Results};
use super::teardown::{sentence, teardown, unpin};
use super::views::{self, Views};
use super::{RunContext, RunError, Shared, Shutdown, StepError, blocking};
use crate::engine::{Engine, ErrorKind};
use crate::event::{
    AgentUsage, Event, EventKind, PhaseTime, RunSummary, StopReason, TaskOutcome, TaskPhase,
    TaskReport,
};
use crate::id::TaskId;
use crate::plan::TaskPlan;

/// How many lines may wait for the observer before further ones are only counted.
const LINES_WAITING: usize = 4096;

/// A line of a task's output, masked and sanitised, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The task.
    pub task: TaskId,
    /// The line, without its end.
    pub text: String,
}

/// What is told of a run as it goes. Called from one place, in order.
pub trait Observer: Send {
    /// Something happened.
    fn event(&mut self, event: &Event);
    /// A task wrote a line.
    fn line(&mut self, line: &LogLine);
}

/// Runs a plan to its end, whatever happens on the way. What happens is in the journal before it is
/// told. Dropped before its end it leaves what a killed process would.
///
/// # Errors
/// When it turned out, before any task had run, that none can.
pub async fn run<E: Engine>(
    context: RunContext<E>,
    Record {
        journal,
        events: earlier,
        owned,
    }: Record,
    shutdown: watch::Receiver<Shutdown>,
    observer: &mut impl Observer,
) -> Result<RunSummary, RunError> {
    let (notes, to_write) = mpsc::unbounded_channel();
    let (told, mut events) = mpsc::unbounded_channel();
    let (lines, mut line_receiver) = mpsc::channel(LINES_WAITING);
    let (stop, run_shutdown) = watch::channel(Shutdown::None);
    let stop = Arc::new(stop);
    let past = Past::new(&context.plan, &earlier, &owned);
    let shared = Arc::new(Shared {
        notes,
        lines,
        shutdown: run_shutdown,
        network: Network::new(context.pool, &context.plan.run),
        images: Images::default(),
        measurements: Allowance::default(),
        outage: Outage::default(),
        floor: Floor::default(),
        began: Instant::now(),
        pin: std::sync::Mutex::default(),
        admission: Admission::new(&context.plan, &past),
        views: Views::default(),
        claims: HeldClaims::default(),
        setups: Setups::default(),
        egress: Egress::new(&context.plan),
        proofs: Proofs::default(),
        fatal: std::sync::OnceLock::new(),
        failures: Failures::new(context.plan.max_fail, &past.finished),
        past,
        unwritable: Notify::new(),
        context,
    });
    let stamp = Stamp::after(&earlier, shared.began);
    let before = stamp.before();
    let writer = Writer::new(journal, stamp, told);
    let alarmed = shared.clone();
    let alarm = move |error| {
        alarmed.give_up(error);
        alarmed.unwritable.notify_one();
    };
    let _writer = EndsWithRun(tokio::spawn(writer.write(to_write, alarm)).abort_handle());
    let watcher = EndsWithRun(
        tokio::spawn(forward_shutdown(shared.clone(), (shutdown, stop), before)).abort_handle(),
    );
    let mut work = tokio::spawn(Dispatch::new(shared.clone()).until_the_end());
    let _work = EndsWithRun(work.abort_handle());
    let summary = loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => {
                let is_end = matches!(
                    event.kind,
                    EventKind::TaskFinished { .. } | EventKind::Retry { .. }
                );
                if is_end {
                    // Its last lines were sent before.
                    waiting_lines(&mut line_receiver, observer);
                }
                observer.event(&event);
            }
            Some(line) = line_receiver.recv() => observer.line(&line),
            ended = &mut work => break ended,
        }
    };
    drop(watcher);
    let mut summary = match summary {
        Ok(summary) => summary,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    summary.took = before + shared.began.elapsed();
    let nothing_ran = {
        let mut attempts = summary.tasks.iter().flat_map(TaskReport::attempts);
        attempts.all(|attempt| attempt.ran.is_zero())
    };
    let in_vain = shared.fatal.get().filter(|_| nothing_ran);
    let finished = EventKind::RunFinished {
        summary: summary.clone(),
    };
    let written = match in_vain {
        None => shared.intent(None, finished).await,
        Some(_) => Ok(()),
    };
    if written.is_err() {
        summary.stopped.get_or_insert(StopReason::JournalFailed);
    }
    while let Ok(event) = events.try_recv() {
        observer.event(&event);
    }
    waiting_lines(&mut line_receiver, observer);
    match in_vain {
        Some(error) => Err(error.clone()),
        None => Ok(summary),
    }
}

/// A spawned task that ends with the run, also where the run is dropped.
pub(super) struct EndsWithRun(pub(super) AbortHandle);

impl Drop for EndsWithRun {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Hands on the lines that wait, no more than could wait at once: others may go on writing.
fn waiting_lines(lines: &mut mpsc::Receiver<LogLine>, observer: &mut impl Observer) {
    for _ in 0..LINES_WAITING {
        let Ok(line) = lines.try_recv() else { return };
        observer.line(&line);
    }
}

/// Passes the caller's shutdown on, and adds the time limit of the whole run, which has lasted for
/// `before` already.
async fn forward_shutdown<E: Engine>(
    shared: Arc<Shared<E>>,
    (mut asked, stop): (watch::Receiver<Shutdown>, Arc<watch::Sender<Shutdown>>),
    before: Duration,
) {
    let limit = shared.context.plan.timeout;
    let left = limit.map(|limit| limit.saturating_sub(before));
    let over = until(left.map(|left| Instant::now() + left));
    tokio::pin!(over);
    let mut timed_out = false;
    let patience = shared.context.patience;
    let mut cut_short = None;
    loop {
        let next = tokio::select! {
            changed = asked.changed() => match changed {
                Ok(()) => {
                    let at = || patience.map(|patience| Instant::now() + patience);
                    cut_short = cut_short.or_else(at);
                    *asked.borrow_and_update()
                }
                Err(_) => return,
            },
            () = until(cut_short) => {
                cut_short = None;
                Shutdown::Forced(StopReason::Interrupted)
            }
            () = shared.unwritable.notified() => Shutdown::Graceful(StopReason::JournalFailed),
            () = &mut over, if !timed_out => {
                timed_out = true;
                Shutdown::Graceful(StopReason::TimedOut)
            }
        };
        // The first reason stays the reason; a later request can only make it more urgent.
        let now = match (*stop.borrow(), next) {
            (Shutdown::None, next) => next,
            (Shutdown::Graceful(why), Shutdown::Forced(_)) => Shutdown::Forced(why),
            (now, _) => now,
        };
        if *stop.borrow() == now {
            continue;
        }
        if let Shutdown::Graceful(reason) | Shutdown::Forced(reason) = now {
            let forced = matches!(now, Shutdown::Forced(_));
            shared.event(None, EventKind::Stopping { reason, forced });
        }
        stop.send_replace(now);
    }
}

/// Returns at that time; never, where there is none.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

struct Dispatch<E: Engine> {
    shared: Arc<Shared<E>>,
    running: JoinSet<TaskDone>,
    removing: JoinSet<(TaskId, Vec<String>)>,
    /// The place of each task in the spec.
    places: HashMap<TaskId, usize>,
    /// By the place of the task.
    reports: BTreeMap<usize, TaskReport>,
}

impl<E: Engine> Dispatch<E> {
    fn new(shared: Arc<Shared<E>>) -> Self {
        let plan = &shared.context.plan;
        let finished = &shared.past.finished;
        let places: HashMap<_, _> = plan.tasks.iter().map(|t| t.id.clone()).zip(0..).collect();
        Self {
            running: JoinSet::new(),
            removing: JoinSet::new(),
            reports: finished
                .iter()
                .filter_map(|report| Some((*places.get(&report.task)?, report.clone())))
                .collect(),
            places,
            shared,
        }
    }

    /// Removes what an earlier process had no time to, and pins what it had pinned.
    async fn tidy_up(&mut self) {
        let past = &self.shared.past;
        if past.is_none() {
            return;
        }
        let shared = self.shared.clone();
        if let Err(error) = blocking(move || prepare::pin(&shared)).await {
            let message = StepError::new("workspace", &error).message;
            self.shared.event(None, EventKind::Warning { message });
        }
        let shared = self.shared.clone();
        let remembered = blocking(move || {
            let context = &shared.context;
            shared
                .egress
                .remember(&context.state.egress_log(&context.plan.run))
        });
        if let Err(error) = remembered.await {
            let message = StepError::new("log", &error).message;
            let message = format!("the log of the egress proxy cannot be read: {message}");
            self.shared.event(None, EventKind::Warning { message });
        }
        // The network is removed with the run, like any other's.
        let on_it = |task: &&TaskPlan| !task.has_only_loopback();
        if let Some(task) = self.shared.context.plan.tasks.iter().find(on_it) {
            let _ = prepare::network(&self.shared, task).await;
        }
        // Those of no attempt first: others will have their names.
        for message in teardown(&self.shared, past.nobodys()).await {
            self.shared.event(None, EventKind::Warning { message });
        }
        // What runs still is without its proxy.
        let tasks = &self.shared.context.plan.tasks;
        let mut left = tasks.iter().filter(|task| past.left.contains_key(&task.id));
        if let Some(task) = left.find(|task| task.egress.is_some()) {
            let proxied = prepare::network(&self.shared, task).await;
            if let Err(StepError { stage, message }) = proxied {
                let message = format!("{stage}: {message}: what runs still reaches nothing");
                self.shared.event(None, EventKind::Warning { message });
            }
        }
        for (task, remains) in past.ended() {
            let shared = self.shared.clone();
            self.removing
                .spawn(async move { (task, teardown(&shared, remains).await) });
        }
    }

    async fn until_the_end(mut self) -> RunSummary {
        let plan = &self.shared.context.plan;
        let started = EventKind::RunStarted {
            run: plan.run.clone(),
            tasks: plan.tasks.len(),
            parallel: plan.parallel,
        };
        // One that cannot be written stops the run: the writer says so.
        let _ = self.shared.intent(None, started).await;
        for warning in &self.shared.context.plan.warnings {
            let message = warning.clone();
            self.shared.event(None, EventKind::Warning { message });
        }
        self.tidy_up().await;
        for report in &self.shared.past.finished.clone() {
            self.let_others_run(report).await;
        }
        loop {
            self.skip_if_over().await;
            let is_open = self.reports.len() < self.places.len();
            let shared = self.shared.clone();
            let admitted = async move {
                if shared.admission.wants_room() {
                    shared.room().await;
                }
                shared.admission.next().await
            };
            tokio::select! {
                Some(done) = self.running.join_next() => self.finish(done).await,
                Some(removed) = self.removing.join_next(), if !self.removing.is_empty() => {
                    self.removed(removed);
                }
                admitted = admitted, if is_open => self.admit(admitted).await,
                else => break,
            }
        }
        self.summary().await
    }

    /// Starts a task, or tells why it never will.
    async fn admit(&mut self, admitted: Admitted) {
        let (at, place) = match admitted {
            Admitted::Starts(at, place) => (at, place),
            Admitted::Hopeless(at) => return self.no_room(at).await,
        };
        let task = self.shared.context.plan.tasks[at].clone();
        if let Some(reason) = self.is_over() {
            // Asked to stop while it was given its place.
            let report = skipped(&task, reason, self.shared.began.elapsed());
            return self.report(report).await;
        }
        let result = |id: &TaskId| {
            let report = self.reports.get(self.places.get(id)?)?;
            Some((id.clone(), start::result(report)?))
        };
        let results = Results {
            from: task.starts_from.iter().filter_map(result).collect(),
            needs: task.needs.iter().filter_map(result).collect(),
        };
        let run = run_task(self.shared.clone(), (at, task), results, place);
        self.running.spawn(run);
    }

    /// Ends a task for which there will be no memory.
    async fn no_room(&mut self, at: usize) {
        let task = &self.shared.context.plan.tasks[at];
        let message = "its memory is with containers that could not be removed".to_owned();
        let stage = "memory".to_owned();
        let outcome = TaskOutcome::Infra { stage, message };
        let report = outcome::bare_report(task, outcome);
        self.report(report.clone()).await;
        self.let_others_run(&report).await;
    }

    /// Lets those that need a task that has ended run, or tells why they do not.
    async fn let_others_run(&mut self, report: &TaskReport) {
        let at = self.places[&report.task];
        let plan = &self.shared.context.plan;
        let is_skipped = matches!(report.outcome, TaskOutcome::Skipped { .. });
        let may_fail = plan.tasks[at].allow_failure && !is_skipped;
        let skips = self
            .shared
            .admission
            .ended(at, report.is_good() || may_fail);
        let reports: Vec<TaskReport> = skips
            .into_iter()
            .map(|Skip { task, need }| {
                let reason = because(report, &plan.tasks[need].id);
                skipped(&plan.tasks[task], reason, self.shared.began.elapsed())
            })
            .collect();
        for report in reports {
            self.report(report).await;
        }
    }

    /// Skips what has not begun once nothing more is started.
    async fn skip_if_over(&mut self) {
        let Some(reason) = self.is_over() else { return };
        for at in self.shared.admission.abandon() {
            let task = &self.shared.context.plan.tasks[at];
            let report = skipped(task, reason.clone(), self.shared.began.elapsed());
            self.report(report).await;
        }
    }

    /// Why nothing more is started: somebody has asked to stop, no task can run, or enough have failed.
    fn is_over(&self) -> Option<String> {
        if *self.shared.shutdown.borrow() != Shutdown::None {
            return Some("the run stopped before it began".into());
        }
        if self.shared.fatal.get().is_some() {
            return Some("no task can run here".into());
        }
        self.shared.failures.reason()
    }

    async fn finish(&mut self, done: Result<TaskDone, tokio::task::JoinError>) {
        // A panic in a task is a fault of ours: the run ends as loudly as it can.
        let done = match done {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let task = done.report.task.clone();
        self.report(done.report.clone()).await;
        self.let_others_run(&done.report).await;
        drop(done.slot);
        let shared = self.shared.clone();
        self.removing
            .spawn(async move { (task, teardown(&shared, done.remains).await) });
    }

    fn removed(&mut self, removed: Result<(TaskId, Vec<String>), tokio::task::JoinError>) {
        let (task, errors) = match removed {
            Ok(removed) => removed,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        for message in &errors {
            let message = message.clone();
            self.shared
                .event(Some(&task), EventKind::Warning { message });
        }
        if let Some(report) = self.reports.get_mut(&self.places[&task]) {
            report.teardown_errors.extend(errors);
        }
    }

    /// A result counts once it is on the disk.
    async fn report(&mut self, mut report: TaskReport) {
        let finished = |report: &TaskReport| EventKind::TaskFinished {
            report: Box::new(report.clone()),
        };
        let written = self
            .shared
            .intent(Some(&report.task), finished(&report))
            .await;
        if let Err(StepError { stage, message }) = written {
            if report.outcome == TaskOutcome::Succeeded {
                let stage = stage.into();
                report.outcome = TaskOutcome::Infra { stage, message };
            }
            self.shared.event(Some(&report.task), finished(&report));
        }
        self.shared.failures.count(&report);
        self.reports.insert(self.places[&report.task], report);
    }

    /// Removes what the tasks shared, and tells of all of them in the order of the spec.
    async fn summary(self) -> RunSummary {
        let context = &self.shared.context;
        let tasks: Vec<TaskReport> = self.reports.into_values().collect();
        let removal = async {
            // It is on the network, and knows all that was asked for once it has ended.
            let mut problems = egress::close(&self.shared).await;
            problems.extend(self.shared.setups.close().await);
            let removed = tokio::join!(
                self.shared.network.release(&*context.engine),
                views::release(&self.shared),
                unpin(&self.shared)
            );
            (problems, removed)
        };
        let forecast = forecast::of_results(&self.shared, &tasks);
        let (forecast, (problems, removed)) = tokio::join!(forecast, removal);
        let (removed, not_released, not_unpinned) = removed;
        let not_removed = match removed {
            // The next run uses it, and nobody can remove it before the engine is restarted.
            Err(error) if error.kind == ErrorKind::HeldByNobody => {
                let StepError { message, .. } = StepError::new("remove", &error);
                self.shared.event(None, EventKind::Warning { message });
                None
            }
            removed => sentence(removed),
        };
        let stopped = match *self.shared.shutdown.borrow() {
            Shutdown::None => None,
            Shutdown::Graceful(reason) | Shutdown::Forced(reason) => Some(reason),
        };
        self.shared.masked(RunSummary {
            run: context.plan.run.clone(),
            agents: AgentUsage::of(&tasks),
            tasks,
            stopped,
            took: Duration::ZERO,
            egress: self.shared.egress.report(&context.plan),
            forecast,
            teardown_errors: [not_removed, not_released, not_unpinned]
                .into_iter()
                .flatten()
                .chain(problems)
                .collect(),
            directory: context.state.run(&context.plan.run),
        })
    }
}

/// Why a task is skipped that needs `need`, after this report.
fn because(ended: &TaskReport, need: &TaskId) -> String {
    let what = match &ended.outcome {
        TaskOutcome::Skipped { .. } => "was skipped",
        TaskOutcome::Cancelled => "was stopped",
        TaskOutcome::Succeeded => "has work that was not taken",
        _ => "failed",
    };
    let root = &ended.task;
    if root == need {
        format!("it needs {root}, which {what}")
    } else {
        format!("it needs {need}, and that {root}, which {what}")
    }
}

fn skipped(task: &TaskPlan, reason: String, waited: Duration) -> TaskReport {
    let outcome = TaskOutcome::Skipped {
        reason,
        claimed: false,
    };
    TaskReport {
        phases: vec![PhaseTime {
            phase: TaskPhase::Waiting,
            took: waited,
        }],
        ..outcome::bare_report(task, outcome)
    }
}
