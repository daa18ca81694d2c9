//! Tidies up after runs that died, or that could not remove everything, beside a run that starts: what
//! nobody needs any more goes, what may hold work stays for `resume` and `clean`.
//!
//! Nothing is collected here, so that no start waits for old work. It can be cut off at any point.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::clean::{CleanReport, Cleaner};
use super::dispatcher::EndsWithRun;
use super::network::Pool;
use super::past::Past;
use super::teardown::{Removed, Torn, tear_down};
use super::unused::empty_trash;
use super::{StepError, blocking, settle};
use crate::engine::{Engine, EngineInfo};
use crate::event::{self, RunSummary};
use crate::git::Repository;
use crate::id::{RunId, StateDir};
use crate::journal::{self, FoundRun, JournalError, RunDirectory, RunState, TidyLock};
use crate::plan::{self, RunPlan};

/// How long what was begun may take once the run beside it has ended.
const BEGUN: Duration = Duration::from_secs(5);

/// What was done beside a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tidied {
    /// How many runs something was removed of.
    pub runs: usize,
    /// What was removed.
    pub removed: Vec<Removed>,
    /// What could not be done, each a sentence.
    pub problems: Vec<String>,
}

/// What it is done with.
pub struct TidyContext<E: Engine> {
    /// The engine.
    pub engine: Arc<E>,
    /// What the engine said of itself.
    pub info: EngineInfo,
    /// The state directory.
    pub state: StateDir,
    /// The repository of the run that starts.
    pub repository: Repository,
    /// What that run's network is cut from: it removes such networks itself.
    pub pool: Pool,
}

/// What is waited for once the run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Nothing: somebody wants it to end.
    None,
    /// What was begun, for some seconds.
    ForTheBegun,
    /// All there is to do.
    ForAll,
}

/// The work beside a run. It ends where this is dropped.
pub struct Tidying {
    work: JoinHandle<Tidied>,
    enough: watch::Sender<bool>,
    _ends: EndsWithRun,
}

impl Tidying {
    /// Begins it for the runs of the state directory. Live ones are left alone.
    pub fn begin<E: Engine>(context: TidyContext<E>, runs: Vec<FoundRun>) -> Self {
        let (enough, is_enough) = watch::channel(false);
        let work = tokio::spawn(tidy(context, runs, is_enough));
        let ends = EndsWithRun(work.abort_handle());
        Self {
            work,
            enough,
            _ends: ends,
        }
    }

    /// Waits so long, and says what was done.
    pub async fn end(mut self, patience: Patience) -> Tidied {
        let limit = match patience {
            Patience::None => Duration::ZERO,
            Patience::ForTheBegun => BEGUN,
            Patience::ForAll => Duration::MAX,
        };
        self.enough.send_replace(patience != Patience::ForAll);
        match timeout(limit, &mut self.work).await {
            Ok(Ok(tidied)) => tidied,
            Ok(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Tidied::default(),
        }
    }
}

async fn tidy<E: Engine>(
    context: TidyContext<E>,
    runs: Vec<FoundRun>,
    enough: watch::Receiver<bool>,
) -> Tidied {
    let mut tidied = Tidied::default();
    let state = context.state.clone();
    // Where another start does it, that is enough; a disk that fails stops the run itself.
    let Ok(Some(_alone)) = TidyLock::take(&state) else {
        return tidied;
    };
    let repository = context.repository.clone();
    tidied.of_runs(context, &runs, &enough).await;
    if !*enough.borrow() {
        let unpinned = blocking(move || unpin(&repository, &runs)).await;
        tidied.note(unpinned.map_err(|e| StepError::new("remove", &e)));
        let unborn = journal::remove_unborn(&state, false).map(drop);
        tidied.note(unborn.map_err(|e| StepError::new("remove", &e)));
        tidied.problems.extend(empty_trash(&state).await);
    }
    tidied
}

impl Tidied {
    fn note(&mut self, done: Result<(), StepError>) {
        self.problems.extend(done.err().map(|error| error.message));
    }

    async fn of_runs<E: Engine>(
        &mut self,
        context: TidyContext<E>,
        runs: &[FoundRun],
        enough: &watch::Receiver<bool>,
    ) {
        let left: Vec<_> = runs
            .iter()
            .filter(|run| may_be_left(&context.state, run))
            .collect();
        if left.is_empty() {
            return;
        }
        let owned = match context.engine.list_owned().await {
            Ok(owned) => owned,
            Err(error) => return self.note(Err(StepError::new("tidy up", &error))),
        };
        let cleaner = Cleaner {
            engine: context.engine,
            info: context.info,
            state: context.state,
            owned,
        };
        for found in &left {
            match cleaner.tidy(&found.run, &context.repository, enough).await {
                // It was taken up meanwhile, or is another version's.
                Err(JournalError::Live(_) | JournalError::NewerVersion { .. }) => {}
                Err(error) => self.note(Err(StepError::new("tidy up", &error))),
                Ok(report) => {
                    self.runs += usize::from(!report.removed.is_empty());
                    self.removed.extend(report.removed);
                    self.problems.extend(report.problems);
                }
            }
        }
        let has_died = |run: &&&FoundRun| run.state == RunState::Interrupted;
        if left.iter().any(|run| has_died(&run)) && !*enough.borrow() {
            let of_others = |name: &str| !context.pool.has(name);
            let networks = cleaner.remove_networks(of_others).await;
            let removed = networks.removed.iter();
            self.removed
                .extend(removed.map(|name| Removed::new("network", name)));
            self.problems.extend(networks.problems);
            self.problems.extend(networks.held);
        }
    }
}

/// Whether something of a run may be left on the engine or on disk.
fn may_be_left(state: &StateDir, found: &FoundRun) -> bool {
    match found.state {
        RunState::Live => false,
        RunState::Interrupted => true,
        RunState::Finished => {
            let directories = [state.views(&found.run), state.egress(&found.run)];
            found.holds_work() || directories.iter().any(|directory| directory.exists())
        }
    }
}

/// Lets go of the bases of runs that have ended, and of no others: a run that died needs its own.
fn unpin(repository: &Repository, runs: &[FoundRun]) -> Result<(), crate::git::GitError> {
    let ended: Vec<_> = runs
        .iter()
        .filter(|run| run.state == RunState::Finished)
        .collect();
    if ended.is_empty() {
        return Ok(());
    }
    for pinned in repository.pinned()? {
        if ended.iter().any(|found| found.run == pinned) {
            repository.unpin(&pinned)?;
        }
    }
    Ok(())
}

impl<E: Engine> Cleaner<E> {
    /// Removes what nobody needs of a run that is dead, and gives it its result where all its tasks
    /// have ended. Ends early once that is enough.
    async fn tidy(
        &self,
        run: &RunId,
        here: &Repository,
        enough: &watch::Receiver<bool>,
    ) -> Result<CleanReport, JournalError> {
        let mut report = CleanReport::default();
        let directory = Arc::new(RunDirectory::visit(&self.state, run)?);
        let plan: Option<RunPlan> = directory.read_json("plan.json", plan::VERSION)?;
        let Some(plan) = plan else {
            return Ok(report);
        };
        let result: Option<RunSummary> = directory.read_json("result.json", event::VERSION)?;
        let past = self.past(result, &plan)?;
        report.take(self.remove_useless(&past, enough).await);
        if *enough.borrow() || !report.problems.is_empty() {
            return Ok(report);
        }
        remove_half_written(directory.path());
        if past.is_whole(&plan) {
            if rustix::process::geteuid().is_root() {
                report.problems.extend(self.release_views(run).await);
            }
            if plan.repository.key == *here.key() {
                let whose = (plan, here.clone());
                let problems = settle::conclude(&self.state, directory, whose, Some(Vec::new()));
                report.problems.extend(problems.await);
            }
        }
        Ok(report)
    }

    /// What a dead run has behind it, by its result or else by its journal.
    pub(super) fn past(
        &self,
        result: Option<RunSummary>,
        plan: &RunPlan,
    ) -> Result<Past, JournalError> {
        let owned = self.objects_of(&plan.run);
        if let Some(result) = result {
            return Ok(Past::of_result(result, &owned));
        }
        let found = FoundRun::of(&self.state, &plan.run)?;
        Ok(Past::new(plan, &found.journal().read()?, &owned))
    }

    /// Removes what is left of attempts that have come to their end, and what was made for such in
    /// which nobody has worked.
    pub(super) async fn remove_useless(&self, past: &Past, enough: &watch::Receiver<bool>) -> Torn {
        let (engine, state) = (&self.engine, &self.state);
        let mut torn = Torn::default();
        let ended = past.ended().into_iter().map(|(_, remains)| remains);
        for remains in [past.nobodys()].into_iter().chain(ended) {
            if *enough.borrow() {
                return torn;
            }
            torn.take(tear_down(engine, state, remains).await);
        }
        for (_, mut remains) in past.unused() {
            let before = torn.errors.len();
            // Without its container, the directory would look like one in which somebody worked.
            if let Some(attempt) = remains.attempt.take() {
                torn.take_directory(engine, state, &attempt).await;
            }
            if *enough.borrow() || torn.errors.len() > before {
                return torn;
            }
            torn.take(tear_down(engine, state, remains).await);
        }
        torn
    }
}

/// Removes what a process that died had not written to its end: such files get their names last.
fn remove_half_written(directory: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    for entry in entries.filter_map(Result::ok) {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && entry.file_name().as_encoded_bytes().starts_with(b".tmp") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
