//! Removes what dead runs left behind, after collecting the work that is still in it.
//!
//! A run is dead when its lock can be taken. Only runs of this state directory are touched: by their
//! directories, their labels on the engine, and their refs. Never a bare prune.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::admission::Admission;
use super::claim::{self, HeldClaims};
use super::container::Launch;
use super::container::volume_configs;
use super::egress::{Egress, Place};
use super::failures::Failures;
use super::images::Images;
use super::measure::Allowance;
use super::past::Past;
use super::prepare::user_of;
use super::probe::Prober;
use super::proof::Proofs;
use super::secrets::Secrets;
use super::setup::Setups;
use super::stops::TaskStops;
use super::task::unknown_image;
use super::teardown::{Remains, Removed, Torn, teardown};
use super::views::{self, Views};
use super::{RunContext, Shared, Shutdown, StepError, blocking, collector, network, settle};
use crate::engine::{Engine, EngineInfo, OwnedKind, OwnedObject};
use crate::event::{self, BranchReport, BranchResult, RunSummary};
use crate::git::{GitError, Repository};
use crate::id::{AttemptId, CommitId, RunId, StateDir, TaskId, label, task_directories};
use crate::journal::log::logged_attempts;
use crate::journal::{FoundRun, JournalError, RunDirectory};
use crate::plan::{self, History, RunPlan, TaskPlan};
use crate::secrets::Needles;
use crate::workspace::{self, BaseStore, Workspace, WorkspaceRequest};

/// What an orphaned container gets to hand its work off, beside its own grace.
const GRACE: Duration = Duration::from_secs(30);

/// What a directory with work is called that would be collected and removed.
const WORK: &str = "work of";

/// What became of one run's leftovers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CleanReport {
    /// Work that was found: of which attempt, and what became of it.
    pub collected: Vec<(AttemptId, BranchReport)>,
    /// Work that was collected as far as it can be and is kept: its directory.
    pub kept: Vec<PathBuf>,
    /// What was removed, or would be.
    pub removed: Vec<Removed>,
    /// What could not be removed or collected, each a sentence.
    pub problems: Vec<String>,
}

impl CleanReport {
    /// Whether there is work that would be collected.
    pub fn would_collect(&self) -> bool {
        self.removed.iter().any(|removed| removed.what == WORK)
    }

    /// Whether there was nothing to do, and nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What cleaning works with.
pub struct Cleaner<E: Engine> {
    /// The engine.
    pub engine: Arc<E>,
    /// What the engine said of itself.
    pub info: EngineInfo,
    /// The state directory.
    pub state: StateDir,
    /// Everything that the engine has under agent-run's labels.
    pub owned: Vec<OwnedObject>,
}

impl<E: Engine> Cleaner<E> {
    /// Takes over a dead run, collects its work, and removes what it left.
    ///
    /// # Errors
    /// [`JournalError::Live`] if the run is alive.
    pub async fn clean(
        &self,
        run: &RunId,
        open: impl Fn(&RunPlan) -> Result<Repository, String> + Send,
        dry_run: bool,
    ) -> Result<CleanReport, JournalError> {
        let directory = Arc::new(RunDirectory::take_over(&self.state, run)?);
        let mut report = CleanReport::default();
        let plan: Option<RunPlan> = directory.read_json("plan.json", plan::VERSION)?;
        let result: Option<RunSummary> = directory.read_json("result.json", event::VERSION)?;
        let past = plan.as_ref().map(|plan| self.past(result, plan));
        let past = past.transpose()?;
        if dry_run {
            self.shown(run, (plan.as_ref(), past.as_ref()), &mut report);
            if let Some(Ok(repository)) = plan.as_ref().map(open) {
                report.removed.extend(held(run, &repository).await);
            }
            return Ok(report);
        }
        if let Some(past) = &past {
            report.take(self.remove_useless(past, &watch::channel(false).1).await);
        }
        let (attempts, kept) = self.attempts(run, plan.as_ref(), past.as_ref());
        report.kept = kept.iter().map(|a| self.state.attempt(a)).collect();
        let all_gone = self.end_objects(run, &mut report).await;
        let repository = plan.as_ref().map(open).transpose();
        match (plan, repository) {
            _ if !all_gone && !attempts.is_empty() => {
                report.keep(run, "a container of it may still run");
            }
            (Some(plan), Ok(Some(repository))) => {
                self.collect(&mut report, plan.clone(), &repository, &attempts)
                    .await;
                // A result says that all is done.
                let collected = report.collected.clone();
                let collected = Some(collected).filter(|_| report.problems.is_empty());
                let held = held(run, &repository).await;
                let (directory, whose) = (directory.clone(), (plan, repository));
                let problems = settle::conclude(&self.state, directory, whose, collected).await;
                report
                    .removed
                    .extend(held.into_iter().filter(|_| problems.is_empty()));
                report.problems.extend(problems);
            }
            (_, Err(why)) if !attempts.is_empty() => report.keep(run, &why),
            (None, _) if FoundRun::of(&self.state, run)?.holds_work() => {
                report.keep(run, "its plan cannot be read");
            }
            _ => {}
        }
        if all_gone {
            let directories = self.directories(run);
            match self.release_views(run).await {
                None => report.removed.extend(directories),
                problem => report.note(problem),
            }
        }
        Ok(report)
    }

    /// What there is of a run on the engine and in its directory.
    fn shown(
        &self,
        run: &RunId,
        (plan, past): (Option<&RunPlan>, Option<&Past>),
        report: &mut CleanReport,
    ) {
        let (attempts, kept) = self.attempts(run, plan, past);
        report.kept = kept.iter().map(|a| self.state.attempt(a)).collect();
        if let Some(past) = past {
            let of_attempts = past.ended().into_iter().chain(past.unused());
            let remains = of_attempts.map(|(_, remains)| remains);
            let remains = [past.nobodys()].into_iter().chain(remains);
            let named = remains.flat_map(|remains| remains.named(&self.state));
            report.removed.extend(named);
        }
        let objects = self.objects_of(run).into_iter();
        let objects = objects.map(|o| Removed::new(kind(&o), &o.name));
        let useless = |a: &&AttemptId| report.removed.contains(&Removed::new("worktree", *a));
        let (_, attempts): (Vec<_>, Vec<_>) = attempts.iter().partition(useless);
        let work = attempts.into_iter().map(|a| Removed::new(WORK, a));
        for left in objects.chain(work).chain(self.directories(run)) {
            if !report.removed.contains(&left) {
                report.removed.push(left);
            }
        }
    }

    /// What the views of a run and its proxy need, if it has any.
    fn directories(&self, run: &RunId) -> Vec<Removed> {
        let all = [self.state.views(run), self.state.egress(run)];
        let there = all.iter().filter(|directory| directory.is_dir());
        there
            .map(|directory| Removed::new("directory", &directory.display()))
            .collect()
    }

    /// Ends and removes what is left of a run on the engine, before its work is collected: nobody may
    /// write meanwhile, and the names are needed. Says whether all is gone.
    async fn end_objects(&self, run: &RunId, report: &mut CleanReport) -> bool {
        let mut objects = self.objects_of(run);
        objects.retain(|object| {
            let gone = Removed::new(kind(object), &object.name);
            !report.removed.contains(&gone)
        });
        for object in &objects {
            if object.kind == OwnedKind::Container && object.running {
                let stopped = self.engine.stop(&object.name, GRACE).await;
                report.note(stopped.err().map(|e| StepError::new("stop", &e).message));
            }
        }
        self.remove_objects(report, &objects).await
    }

    /// The attempts that still have a directory: those to collect, and those whose work has its place
    /// and that were kept on purpose.
    fn attempts(
        &self,
        run: &RunId,
        plan: Option<&RunPlan>,
        past: Option<&Past>,
    ) -> (Vec<AttemptId>, Vec<AttemptId>) {
        let decided = |attempt: &AttemptId| {
            let mut reports = past.into_iter().flat_map(Past::reports);
            let report = reports.find(|r| r.task == attempt.task && r.attempt == attempt.number);
            let branch = report.and_then(|report| report.branch.as_ref());
            let left = |b: &BranchReport| {
                b.content_left_behind && !matches!(b.result, BranchResult::Kept { .. })
            };
            branch.is_some_and(left)
        };
        let all = attempts(&self.state, run, plan).into_iter();
        let (kept, open) = all.partition(decided);
        (open, kept)
    }

    /// How many things on the engine belong to runs that this state directory does not know: they may
    /// be somebody's, so they are only told of.
    pub fn of_unknown_runs(&self) -> usize {
        let unknown = |o: &&OwnedObject| {
            let run = o
                .labels
                .get(label::RUN)
                .and_then(|run| run.parse::<RunId>().ok());
            run.is_none_or(|run| !self.state.run(&run).is_dir())
        };
        let of_runs = self.owned.iter().filter(|o| o.kind != OwnedKind::Network);
        of_runs.filter(unknown).count()
    }

    pub(super) fn objects_of(&self, run: &RunId) -> Vec<OwnedObject> {
        let of_run = |o: &&OwnedObject| {
            o.kind != OwnedKind::Network
                && o.labels.get(label::RUN).is_some_and(|r| *r == run.as_str())
        };
        self.owned.iter().filter(of_run).cloned().collect()
    }

    /// Brings the work of every attempt that is still on disk into the repository.
    async fn collect(
        &self,
        report: &mut CleanReport,
        plan: RunPlan,
        repository: &Repository,
        attempts: &[AttemptId],
    ) {
        if attempts.is_empty() {
            return;
        }
        let shared = match self.shared(plan, repository) {
            Ok(shared) => Arc::new(shared),
            Err(error) => {
                report
                    .problems
                    .push(format!("work is kept: {}", error.message));
                return;
            }
        };
        for attempt in attempts {
            let task = shared
                .context
                .plan
                .tasks
                .iter()
                .find(|t| t.id == attempt.task);
            let collected = match task {
                Some(task) => collect_one(&shared, task, attempt).await,
                None => Err("the plan does not know the task".into()),
            };
            match collected {
                Ok((branch, errors)) => {
                    if let Some(branch) = branch {
                        report.collected.push((attempt.clone(), branch));
                    } else {
                        let removed = Removed::new("unfinished worktree", attempt);
                        report.removed.push(removed);
                    }
                    report.problems.extend(errors);
                }
                Err(why) => report
                    .problems
                    .push(format!("work of {attempt} is kept: {why}")),
            }
        }
    }

    /// What the runner's own steps need, for a run that has no loop any more.
    fn shared(&self, plan: RunPlan, repository: &Repository) -> Result<Shared<E>, StepError> {
        let from = &plan.repository;
        let depth = match from.history {
            History::Full => None,
            History::Depth(depth) => Some(depth),
        };
        let store = BaseStore::ensure(repository, &self.state, &from.base, depth)
            .map_err(|e| StepError::new("base store", &e))?;
        let past = Past::none(&plan.run);
        Ok(Shared {
            admission: Admission::new(&plan, &past),
            egress: Egress::new(&plan),
            network: network::Network::new(network::Pool::default(), &plan.run),
            context: RunContext {
                engine: self.engine.clone(),
                info: self.info.clone(),
                repository: repository.clone(),
                store,
                state: self.state.clone(),
                secrets: Secrets::none(),
                needles: Needles::default(),
                owner: crate::journal::owner(),
                pool: network::Pool::default(),
                patience: None,
                stops: watch::channel(TaskStops::new()).1,
                plan,
            },
            notes: mpsc::unbounded_channel().0,
            lines: mpsc::channel(1).0,
            shutdown: watch::channel(Shutdown::None).1,
            images: Images::default(),
            outage: super::outage::Outage::default(),
            floor: super::floor::Floor::default(),
            measurements: Allowance::default(),
            began: Instant::now(),
            pin: std::sync::Mutex::default(),
            views: Views::default(),
            claims: HeldClaims::default(),
            setups: Setups::default(),
            proofs: Proofs::default(),
            fatal: std::sync::OnceLock::new(),
            failures: Failures::new(None, &[]),
            past,
            unwritable: Notify::new(),
        })
    }

    /// Removes the containers, then the volumes, which are made anew for what is collected; says
    /// whether all are gone.
    async fn remove_objects(&self, report: &mut CleanReport, objects: &[OwnedObject]) -> bool {
        let of = |kind| objects.iter().filter(move |o| o.kind == kind);
        let mut all_gone = true;
        for object in of(OwnedKind::Container).chain(of(OwnedKind::Volume)) {
            let removed = match object.kind {
                OwnedKind::Volume => self.engine.remove_volume(&object.name).await,
                _ => self.engine.remove_container(&object.name).await,
            };
            match removed {
                Ok(()) => {
                    let removed = Removed::new(kind(object), &object.name);
                    report.removed.push(removed);
                }
                Err(error) => {
                    all_gone = false;
                    report.note(Some(StepError::new("remove", &error).message));
                }
            }
        }
        all_gone
    }

    /// Removes what the views and the proxy of a run needed; gives a sentence if that failed.
    pub(super) async fn release_views(&self, run: &RunId) -> Option<String> {
        let place = Place::of(&self.state, run);
        if let Some(problem) = blocking(move || place.remove()).await {
            return Some(problem);
        }
        let views = self.state.views(run);
        if !views.is_dir() {
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            let image = self.engine.ensure_image(&collector::base_request()).await;
            let image = match image {
                Ok(image) => image,
                Err(error) => return Some(StepError::new("remove", &error).message),
            };
            let prober = Prober {
                engine: &self.engine,
                endpoint: &self.info.endpoint,
                state: &self.state,
                run,
                owner: &crate::journal::owner(),
                limit: GRACE,
                runtime: None,
            };
            if let Some(problem) = views::sweep(&prober, &image.id).await {
                return Some(problem);
            }
        }
        let (state, run) = (self.state.clone(), run.clone());
        let released = blocking(move || workspace::release(&state, &run)).await;
        Some(StepError::new("remove", &released.err()?).message)
    }
}

/// The refs by which a run holds on to its base and to what it has claimed; none where the repository
/// does not say.
async fn held(run: &RunId, repository: &Repository) -> Vec<Removed> {
    let (run, repository) = (run.clone(), repository.clone());
    blocking(move || {
        let pins = repository.refs(&run.pin_ref()).unwrap_or_default();
        let claims = claim::refs_of_run(&repository, &run).unwrap_or_default();
        let refs = pins.into_iter().chain(claims);
        refs.map(|(name, _)| Removed::new("ref", &name)).collect()
    })
    .await
}

/// What people call it.
fn kind(object: &OwnedObject) -> &'static str {
    match object.kind {
        OwnedKind::Container => "container",
        OwnedKind::Network => "network",
        OwnedKind::Volume => "volume",
    }
}

impl CleanReport {
    pub(super) fn take(&mut self, torn: Torn) {
        self.removed.extend(torn.removed);
        self.problems.extend(torn.errors);
    }

    fn keep(&mut self, run: &RunId, why: &str) {
        self.problems.push(format!("work of {run} is kept: {why}"));
    }

    fn note(&mut self, problem: Option<String>) {
        self.problems.extend(problem);
    }
}

/// Collects one attempt, and removes its directory unless work is left in it. Gives no report where
/// the directory was never finished: no container started in it, so that nobody worked there.
async fn collect_one<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    attempt: &AttemptId,
) -> Result<(Option<BranchReport>, Vec<String>), String> {
    let context = &shared.context;
    let user = user_of(&context.info, task).map_err(|e| e.message)?;
    let found = blocking({
        let (shared, task, attempt) = (shared.clone(), task.clone(), attempt.clone());
        move || {
            let key = shared.context.repository.key();
            let find = |request: &WorkspaceRequest<'_>| Workspace::existing(request, key);
            super::prepare::workspace_request(&shared, &attempt, &task, user, ("", ""), find)
        }
    });
    let workspace = found.await.map_err(|e| e.to_string())?;
    let mut remains = Remains {
        attempt: Some(attempt.clone()),
        ..Remains::default()
    };
    let Some(workspace) = workspace.map(Arc::new) else {
        return Ok((None, teardown(shared, remains).await));
    };
    for volume in volume_configs(context, attempt, &workspace) {
        remains.volumes.push(volume.name.clone());
        let made = context.engine.create_volume(&volume).await;
        made.map_err(|e| e.to_string())?;
    }
    let unknown = unknown_image();
    let launch = Launch {
        context,
        task,
        attempt,
        image: &unknown,
        user,
        workspace: &workspace,
        caches: &[],
    };
    let notes = collector::hand_off_if_missing(shared, &launch, &mut remains).await;
    let branch = is_last(&context.state, attempt).then_some(&task.branch);
    let mut report = collector::collect(shared, branch, attempt, workspace.clone()).await;
    report.notes.extend(notes);
    if let BranchResult::Created { commit, .. } = &report.result {
        let (shared, attempt, commit) = (shared.clone(), attempt.clone(), commit.clone());
        let dropped = blocking(move || drop_set_aside(&shared, &attempt, &commit)).await;
        report.notes.extend(dropped.err().map(|e| e.to_string()));
    }
    remains.keep_work = report.content_left_behind;
    Ok((Some(report), teardown(shared, remains).await))
}

/// Removes the ref under which work was set aside that has its branch now: it was to be verified.
fn drop_set_aside<E: Engine>(
    shared: &Shared<E>,
    attempt: &AttemptId,
    commit: &CommitId,
) -> Result<(), GitError> {
    let repository = &shared.context.repository;
    let set_aside = (attempt.kept_ref(0), commit.clone());
    let refs = repository.refs(&set_aside.0)?;
    if refs.contains(&set_aside) {
        repository.delete_refs(&[set_aside])?;
    }
    Ok(())
}

/// The attempts of a run that still have a directory; those of cells only where the plan is known.
fn attempts(state: &StateDir, run: &RunId, plan: Option<&RunPlan>) -> Vec<AttemptId> {
    let tasks = plan.iter().flat_map(|plan| &plan.tasks);
    let by_slug: HashMap<_, _> = tasks.map(|task| (task.id.slug(), &task.id)).collect();
    let names = names(task_directories(&state.run(run))).into_iter();
    let tasks = names.filter_map(|name| {
        let known = by_slug.get(name.as_str()).map(|task| (*task).clone());
        known.or_else(|| name.parse().ok())
    });
    let mut attempts: Vec<AttemptId> = tasks.flat_map(|task| of_task(state, run, &task)).collect();
    attempts.sort_by(|a, b| (&a.task, a.number).cmp(&(&b.task, b.number)));
    attempts
}

/// The attempts at a task that still have a directory.
fn of_task(state: &StateDir, run: &RunId, task: &TaskId) -> Vec<AttemptId> {
    let numbers = names(state.task(run, task)).into_iter();
    let numbers = numbers.filter_map(|number| number.parse().ok());
    let attempt = |number| AttemptId {
        run: run.clone(),
        task: task.clone(),
        number,
    };
    numbers.map(attempt).collect()
}

/// The names of what is in a directory.
fn names(path: PathBuf) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

/// Whether no later attempt at the task has left anything: then the branch is its own.
fn is_last(state: &StateDir, attempt: &AttemptId) -> bool {
    let AttemptId { run, task, number } = attempt;
    let directories = of_task(state, run, task).into_iter().map(|a| a.number);
    let logs = logged_attempts(state, run, (task, None)).unwrap_or_default();
    directories.chain(logs).all(|other| other <= *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_is_for_the_last_attempt_that_left_anything() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let state = StateDir::new(directory.path().to_owned());
        let attempt = |task: &str, number| AttemptId {
            run: "261120-101500-abcd".parse().expect("a run id"),
            task: task.parse().expect("a task id"),
            number,
        };
        let begun = |attempt: &AttemptId| {
            std::fs::create_dir_all(state.attempt(attempt)).expect("a directory");
        };
        let (first, second) = (attempt("a", 1), attempt("a", 2));
        begun(&first);
        begun(&attempt("b", 2));
        assert!(is_last(&state, &first));
        begun(&second);
        assert!(!is_last(&state, &first) && is_last(&state, &second));
        // The third has its log only: it was collected and removed.
        std::fs::create_dir_all(state.logs(&first.run)).expect("a directory");
        std::fs::write(state.log(&attempt("a", 3)), "").expect("a log");
        assert!(!is_last(&state, &second));
    }
}
