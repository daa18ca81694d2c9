//! One attempt at one task, from admission to a safe result.
//!
//! admit → prepare → start → watch → stop → drain log → collect → verify. What it leaves on the engine and on
//! disk is handed to `teardown`, which goes on after the slot is free again.

mod budget;
mod launch;
mod make;
mod preview;
mod stop;
mod take_up;
mod verify;
mod wait;

use std::convert::Infallible;
use std::future::pending;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::container::{Launch, volume_names};
use super::course::{Course, Next};
use super::disk::DiskWatch;
use super::images::PreparedImage;
use super::measure::Measuring;
use super::outcome::{StoppedBy, secrets_of};
use super::prepare::{Connection, user_of};
use super::pump::{Ending, Pumped};
use super::services::{Services, Snapshots};
use super::setup::{self, Job};
use super::stops::{Stops, Urgency};
use super::teardown::Remains;
use super::user::ContainerUser;
use super::{Shared, StepError, agent, collector, egress, session, views};
use crate::engine::{Engine, Exit};
use crate::event::{
    AgentReport, ArtifactsReport, BranchReport, BranchResult, EventKind, PhaseTime, TaskOutcome,
    TaskPhase, TaskReport, Usage, VerifyReport,
};
use crate::id::{AttemptId, CommitId, Role};
use crate::plan::TaskPlan;
use crate::workspace::{Start, Workspace};

pub(super) use take_up::unknown_image;
pub(super) use wait::to_the_end;

/// How long the engine may take to report the end of a container that it says has stopped.
const REAP: Duration = Duration::from_secs(10);

/// A finished attempt: its report, and what is still to be removed.
pub(super) struct AttemptDone {
    pub(super) report: TaskReport,
    pub(super) remains: Remains,
    /// What is to follow, so that its work got no branch.
    pub(super) next: Option<Next>,
}

/// Makes an attempt at a task that starts there, on that course, and has waited since then; whatever goes
/// wrong becomes its outcome.
pub(super) async fn run_attempt<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    begin: (AttemptId, Instant),
    from: (Option<&Start>, &Course),
) -> AttemptDone {
    let mut life = Life::new(shared, task, begin, from);
    let outcome = match life.live().await {
        Ok(outcome) => outcome,
        Err(error) => {
            let error = life.looked_into(error).await;
            failed(&error)
        }
    };
    let next = life.next(&outcome);
    let report = life.report(outcome);
    AttemptDone {
        report,
        remains: life.remains,
        next,
    }
}

struct Life<'a, E: Engine> {
    shared: &'a Arc<Shared<E>>,
    task: &'a TaskPlan,
    attempt: AttemptId,
    /// Where the task starts; at the run's base where there is none.
    start: Option<&'a Start>,
    course: &'a Course,
    /// What its container is for: the task, or the check of its result.
    role: Role,
    remains: Remains,
    /// The phase that it is in, and since when.
    phase: (TaskPhase, Instant),
    phases: Vec<PhaseTime>,
    image: Option<String>,
    image_digest: Option<String>,
    usage: Option<Usage>,
    /// What its agent has told at the end.
    told: agent::Told,
    ran: Duration,
    pumped: Pumped,
    child_oom_killed: bool,
    may_have_run: bool,
    /// The log of a setup or a service that failed.
    setup_log: Option<PathBuf>,
    services: Services<E>,
    /// What its services hold when it begins.
    snapshots: OnceLock<Snapshots>,
    /// Whether people reach a preview; else why they never did.
    reached: OnceLock<Result<(), String>>,
    branch: Option<BranchReport>,
    artifacts: Option<ArtifactsReport>,
    agent: Option<AgentReport>,
    verify: Option<VerifyReport>,
    /// Decided once, before its work gets its place.
    next: OnceLock<Option<Next>>,
}

/// A container that can be started, and what it was made with.
struct Made {
    workspace: Arc<Workspace>,
    network: Connection,
    created: (String, Pumping),
}

/// Everything a started container needs to be watched.
struct Running {
    name: String,
    pump: Pumping,
    started: Instant,
}

/// A pump at work, and how to tell it that its container has ended.
struct Pumping {
    pump: JoinHandle<Pumped>,
    tell: oneshot::Sender<Ending>,
}

impl<'a, E: Engine> Life<'a, E> {
    fn new(
        shared: &'a Arc<Shared<E>>,
        task: &'a TaskPlan,
        (attempt, since): (AttemptId, Instant),
        (start, course): (Option<&'a Start>, &'a Course),
    ) -> Self {
        Self {
            shared,
            task,
            attempt,
            start,
            course,
            role: Role::Task,
            remains: Remains::default(),
            phase: (TaskPhase::Waiting, since),
            phases: Vec::new(),
            image: None,
            image_digest: None,
            usage: None,
            told: agent::Told::default(),
            ran: Duration::ZERO,
            pumped: Pumped::default(),
            child_oom_killed: false,
            may_have_run: false,
            setup_log: None,
            services: Services::none(shared),
            snapshots: OnceLock::new(),
            reached: OnceLock::new(),
            branch: None,
            artifacts: None,
            agent: None,
            verify: None,
            next: OnceLock::new(),
        }
    }
}

impl<E: Engine> Life<'_, E> {
    async fn live(&mut self) -> Result<TaskOutcome, StepError> {
        if self.shared.context.plan.previews.is_some() {
            return self.preview().await;
        }
        if let Some(left) = self.shared.past.left.get(&self.task.id)
            && left.attempt == self.attempt.number
            && let Some(outcome) = self.take_up(left).await?
        {
            return Ok(outcome);
        }
        self.enter(TaskPhase::Preparing).await?;
        egress::begin(self.shared, self.task);
        let Some(image) = self.image(&self.task.image).await? else {
            return Ok(TaskOutcome::Cancelled);
        };
        let repository = self.task.image.reference.repository();
        self.image_digest = image.info.digest(repository).cloned();
        self.image = Some(image.info.id.clone());
        let user = user_of(&self.shared.context.info, self.task)?;
        if self.is_further() && !self.read_secrets_again().await? {
            return Ok(TaskOutcome::Cancelled);
        }
        let mut setup = self.setup(self.task, &image, user).await?;
        // Services are not kept waiting for a setup.
        let beside = setup.as_ref().filter(|_| !self.task.has_pod());
        let ready = if let Some(expected) = beside.and_then(Job::expected) {
            Arc::new(expected)
        } else {
            let Some(ready) = self.set_up(setup.take()).await? else {
                return Ok(TaskOutcome::Cancelled);
            };
            ready
        };
        let image = ready.image.clone().unwrap_or(image);
        self.remains.attempt = Some(self.attempt.clone());
        // A shared checkout is of the run's base.
        let as_view = self.start.is_none() && views::wanted(self.shared, self.task, user).await;
        self.remains.volumes = volume_names(&self.attempt, self.role, self.task);
        self.remains.containers = self.served().containers();
        let view = as_view.then(|| self.attempt.volume_name());
        self.remains.volumes.extend(view);
        let (begun, setup_runs) = oneshot::channel();
        let (setup, made) = tokio::join!(
            setup::ready(setup, self.is_further(), begun),
            self.make_beside((&image, user), (as_view, &ready), setup_runs),
        );
        if self.take_setup(setup)?.is_none() {
            return Ok(TaskOutcome::Cancelled);
        }
        let Some(made) = made? else {
            return Ok(TaskOutcome::Cancelled);
        };
        let workspace = made.workspace.clone();
        self.fill((&image, user), &workspace).await?;
        let running = match self.start((&image, user), made).await {
            Ok(Some(running)) => running,
            Ok(None) => return Ok(TaskOutcome::Cancelled),
            Err(error) => {
                if self.may_have_run {
                    let name = self.attempt.container_name(self.role);
                    self.stop(&name, self.grace(), pending()).await;
                    let outcome = failed(&error);
                    self.collect(&image, user, workspace, &outcome).await;
                }
                return Err(error);
            }
        };
        let (stopped, exit) = self.watch(running, workspace.clone()).await;
        if exit.is_ok() {
            // Nobody writes in them any more, and the next task may want them.
            setup::release_caches(std::mem::take(&mut self.remains.caches));
        }
        let outcome = match exit {
            Ok(exit) => self.ending(stopped, exit, &workspace).await,
            Err(error) => failed(&error),
        };
        self.collect(&image, user, workspace.clone(), &outcome)
            .await;
        Ok(self.verified(&workspace, outcome).await)
    }

    /// What is to follow an attempt that ends so.
    fn next(&self, outcome: &TaskOutcome) -> Option<Next> {
        *self.next.get_or_init(|| {
            let goes_on = self.stops().now() == Urgency::None
                && self.shared.fatal.get().is_none()
                && self.shared.failures.reason().is_none();
            let asked = self.told.retry_after.map(Duration::from_secs);
            let next = self.course.next(outcome, asked);
            let next = next.filter(|_| goes_on)?;
            self.has_budget_left().then_some(next)
        })
    }

    /// Enters a phase; what is done in it is done once that is on the disk.
    async fn enter(&mut self, phase: TaskPhase) -> Result<(), StepError> {
        let is_one = match self.role {
            // All of a check is one phase of its task.
            Role::Verify => false,
            Role::Preview => phase != TaskPhase::Collecting,
            _ => true,
        };
        if !is_one {
            return Ok(());
        }
        self.leave_phase(phase);
        let kind = EventKind::Phase { phase };
        self.shared.intent(Some(&self.task.id), kind).await
    }

    fn leave_phase(&mut self, for_phase: TaskPhase) {
        let now = Instant::now();
        let (phase, since) = std::mem::replace(&mut self.phase, (for_phase, now));
        let took = now - since;
        self.phases.push(PhaseTime { phase, took });
    }

    fn stops(&self) -> Stops {
        self.shared.stops(&self.task.id)
    }

    /// Waits for the container's end, or ends it; then for the last of its output.
    async fn watch(
        &mut self,
        running: Running,
        workspace: Arc<Workspace>,
    ) -> (Option<StoppedBy>, Result<Exit, StepError>) {
        let engine = &*self.shared.context.engine;
        let Running {
            name,
            pump,
            started,
        } = running;
        let mut stops = self.stops();
        let measuring = Measuring::start(self.shared.clone(), self.task.id.clone(), name.clone());
        let caches = self.remains.caches.iter();
        let caches = caches.map(|cache| cache.directory.clone()).collect();
        let places = (workspace.written(), caches);
        let disk = DiskWatch::of_task(engine, &name, self.task, places);
        let wait = wait::to_the_end(self.shared, &self.task.id, &name);
        let disk = disk.over_limit();
        tokio::pin!(wait, disk);
        let (stopped, exit) = tokio::select! {
            exit = &mut wait => (None, Some(exit)),
            () = tokio::time::sleep_until(started + self.task.timeout) => (Some(StoppedBy::Deadline), None),
            used = &mut disk => (Some(StoppedBy::Disk(used)), None),
            by = self.budget_used_up(&workspace) => (Some(by), None),
            by = self.never_reached(started) => (Some(by), None),
            never = self.tell_when_slow() => match never {},
            () = stops.asked(Urgency::Graceful) => (Some(StoppedBy::Shutdown), None),
        };
        let exit = if let Some(exit) = exit {
            exit
        } else {
            self.note_stop(stopped).await;
            match stopped {
                // It would go on writing in its grace.
                Some(StoppedBy::Disk(_)) => self.stop(&name, Duration::ZERO, pending()).await,
                _ => self.stop(&name, self.grace(), disk).await,
            }
            match timeout(REAP, &mut wait).await {
                Ok(exit) => exit,
                Err(_) => Err(StepError {
                    stage: "container",
                    message: format!("container {name} did not end after it was killed"),
                }),
            }
        };
        self.remains.may_run = exit.is_err();
        self.ran = started.elapsed().max(Duration::from_millis(1));
        self.usage = measuring.usage();
        drop(measuring);
        // Work is collected also where that cannot be written.
        let _ = self.enter(TaskPhase::Collecting).await;
        if exit.is_err() {
            // Nobody may write while the work is collected.
            self.stop(&name, self.grace(), pending()).await;
        }
        self.drain(pump, exit.is_ok()).await;
        self.services.close().await;
        (stopped, exit)
    }

    async fn tell_when_slow(&self) -> Infallible {
        if self.task.slow_after < self.task.timeout {
            tokio::time::sleep(self.task.slow_after).await;
            self.shared.event(Some(&self.task.id), EventKind::Slow);
        }
        pending().await
    }

    /// Waits for the last of the output.
    async fn drain(&mut self, Pumping { pump, tell }: Pumping, has_ended: bool) {
        let ending = if has_ended {
            Ending::Ended
        } else {
            Ending::Unknown
        };
        // One that has ended by itself does not listen any more.
        let _ = tell.send(ending);
        self.pumped = match pump.await {
            Ok(pumped) => pumped,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        for message in std::mem::take(&mut self.pumped.gaps) {
            self.warn(message);
        }
    }

    fn warn(&self, message: String) {
        self.shared
            .event(Some(&self.task.id), EventKind::Warning { message });
    }

    /// Brings the work into the repository, or says where it is.
    async fn collect(
        &mut self,
        image: &PreparedImage,
        user: ContainerUser,
        workspace: Arc<Workspace>,
        outcome: &TaskOutcome,
    ) {
        // Set aside where it is to be checked, or where another attempt follows.
        let is_placed = !self.is_to_be_verified(outcome) && self.next(outcome).is_none();
        let branch = is_placed.then_some(&self.task.branch);
        let report = if self.stops().now() == Urgency::Forced {
            let mut report = BranchReport::bare(BranchResult::Kept {
                path: workspace.directory().to_owned(),
                reason: "the run had no time for it; `agent-run clean` collects it".into(),
            });
            report.content_left_behind = true;
            report
        } else {
            let launch = Launch {
                context: &self.shared.context,
                task: self.task,
                attempt: &self.attempt,
                image,
                user,
                workspace: &workspace,
                caches: &[],
            };
            let notes =
                collector::hand_off_if_missing(self.shared, &launch, &mut self.remains).await;
            let path = workspace.directory().display().to_string();
            let (shared, attempt) = (self.shared, &self.attempt);
            let mut report = collector::collect(shared, branch, attempt, workspace.clone()).await;
            self.agent = agent::report(shared, self.task, attempt, workspace.clone()).await;
            let kept = session::keep(shared, self.task, attempt, workspace.clone()).await;
            report.notes.extend(kept);
            let succeeded = *outcome == TaskOutcome::Succeeded;
            self.artifacts =
                collector::artifacts(shared, self.task, attempt, workspace, succeeded).await;
            report.notes.extend(notes);
            let is_safe = matches!(
                report.result,
                BranchResult::Created { .. } | BranchResult::SetAside { .. }
            );
            if is_safe && report.content_left_behind {
                let note = format!("what is not in the branch is kept in {path}");
                report.notes.push(note);
            }
            report
        };
        self.branch = Some(report);
    }

    /// What its work is measured against, where that is not the run's base.
    fn base(&self) -> Option<CommitId> {
        let base = self.start.map(|start| &start.base);
        let of_run = self.shared.context.store.base();
        base.filter(|base| *base != of_run).cloned()
    }

    fn report(&mut self, outcome: TaskOutcome) -> TaskReport {
        let log = (!self.ran.is_zero()).then(|| self.shared.context.state.log(&self.attempt));
        let left_behind = |branch: &BranchReport| branch.content_left_behind;
        self.remains.keep_work = self.branch.as_ref().is_some_and(left_behind);
        self.leave_phase(TaskPhase::Finished);
        TaskReport {
            task: self.task.id.clone(),
            matrix: self.task.matrix.clone(),
            secrets: secrets_of(self.task),
            attempt: self.attempt.number,
            last_lines: match outcome {
                TaskOutcome::Succeeded => Vec::new(),
                _ => std::mem::take(&mut self.pumped.last_lines),
            },
            outcome,
            allow_failure: self.task.allow_failure,
            base: self.base(),
            branch: self.branch.take(),
            artifacts: self.artifacts.take(),
            ports: std::mem::take(&mut self.services.ports),
            agent: self.agent.take(),
            ran: self.ran,
            phases: std::mem::take(&mut self.phases),
            usage: self.usage,
            image: self.image.take(),
            image_digest: self.image_digest.take(),
            child_oom_killed: self.child_oom_killed,
            log: self.setup_log.take().or(log),
            verify: self.verify.take(),
            teardown_errors: Vec::new(),
            earlier_attempts: Vec::new(),
        }
    }
}

/// The outcome of an attempt that could not go on.
fn failed(error: &StepError) -> TaskOutcome {
    TaskOutcome::Infra {
        stage: error.stage.into(),
        message: error.message.clone(),
    }
}
