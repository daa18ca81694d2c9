//! What tasks share that is prepared once: each setup of a run is carried out by one job, however many
//! tasks wait for it, and not again where an earlier run did so.
//!
//! The first task that needs it starts the job, and the last one that still waits keeps it going. Its
//! limits and its log are those of the first.

mod caches;
mod copies;
mod job;
mod removal;
mod snapshot;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::future::pending;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::sync::{OnceCell, oneshot, watch};
use tokio::task::AbortHandle;

use super::images::PreparedImage;
use super::stops::Urgency;
use super::user::ContainerUser;
use super::{Shared, StepError, blocking};
use crate::engine::{Engine, ImageInfo};
use crate::git::{self, TreeEntry};
use crate::id::hex_hash;
use crate::plan::{SetupPlan, TaskPlan};
use crate::workspace::PreparedPath;

pub(super) use caches::{mounts_of_caches, release_caches, take_caches};
pub(super) use copies::fill_copies;
pub(super) use job::Job;
use removal::Removal;
pub(super) use snapshot::snapshots;

/// Part of every key, to be changed with what is made here.
const FORMAT: u32 = 1;

/// What a setup prepared for a task.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// The image with what the setup wrote in it; none where that is the task's own.
    pub(super) image: Option<Arc<PreparedImage>>,
    /// The image of the service that was filled, where it was one.
    server: Option<ImageInfo>,
    /// The directories of the worktree.
    pub(super) paths: Vec<PreparedPath>,
}

/// A setup that could not be carried out.
#[derive(Debug, Clone)]
pub(super) struct SetupFailure {
    pub(super) error: StepError,
    /// What it wrote, if it ran.
    pub(super) log: Option<PathBuf>,
    pub(super) last_lines: Vec<String>,
}

impl From<StepError> for SetupFailure {
    fn from(error: StepError) -> Self {
        Self {
            error,
            log: None,
            last_lines: Vec::new(),
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone)]
enum Ended {
    Ready(Arc<Ready>),
    Failed(SetupFailure),
    /// Nobody waited for it any more.
    Abandoned,
}

/// A job that is under way. It belongs to those that wait for it: where they are dropped with their
/// run, so is the job.
struct UnderWay {
    waiting: watch::Sender<usize>,
    /// Whether its container was started.
    begun: watch::Receiver<bool>,
    ended: watch::Receiver<Option<Ended>>,
    job: AbortHandle,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // One that has ended is not there to be aborted.
        self.job.abort();
    }
}

/// What is known of a setup.
enum Known {
    UnderWay(Weak<UnderWay>),
    Over(Ended),
}

/// The setups of a run, by key. A failure is final until another attempt asks anew.
#[derive(Default)]
pub(super) struct Setups {
    known: Mutex<HashMap<String, Known>>,
    /// Whether it was said that there are copies.
    told: AtomicBool,
    /// The files of the base; only where something depends on any.
    files: OnceCell<Result<BTreeMap<String, TreeEntry>, StepError>>,
    removals: Mutex<Vec<Removal>>,
}

/// The setup of a task, if it has one: nobody carries it out yet.
pub(super) async fn of_task<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    (image, user): (&Arc<PreparedImage>, ContainerUser),
) -> Result<Option<Job<E>>, StepError> {
    let Some(setup) = &task.setup else {
        return Ok(None);
    };
    Ok(Some(Job {
        shared: shared.clone(),
        task: task.clone(),
        setup: setup.clone(),
        image: image.clone(),
        user,
        key: key(shared, task, setup, (image, user)).await?,
        target: None,
        begun: watch::Sender::new(false),
    }))
}

/// Waits until what a setup prepares is there, if there is one; nothing if the task is to stop first.
/// With `anew` a setup that has failed is tried again. `begun` is dropped once its container runs, or
/// nobody waits for that any more.
pub(super) async fn ready<E: Engine>(
    job: Option<Job<E>>,
    anew: bool,
    begun: oneshot::Sender<()>,
) -> Result<Option<Arc<Ready>>, SetupFailure> {
    match job {
        Some(job) => joined(job, anew, Some(begun)).await,
        None => Ok(Some(Arc::default())),
    }
}

/// Waits for the end of such a job with all others that do.
async fn joined<E: Engine>(
    job: Job<E>,
    mut anew: bool,
    mut begun: Option<oneshot::Sender<()>>,
) -> Result<Option<Arc<Ready>>, SetupFailure> {
    let job = Arc::new(job);
    loop {
        let ended = match job.shared.setups.join(&job, anew) {
            Ok(under_way) => tokio::select! {
                ended = under_way.outcome(&job.shared, &job.task) => ended,
                never = under_way.tell(&mut begun) => match never {},
            },
            Err(ended) => Some(ended),
        };
        match ended {
            Some(Ended::Ready(ready)) => return Ok(Some(ready)),
            Some(Ended::Failed(failure)) => return Err(failure),
            // All others were stopped just before this one came.
            Some(Ended::Abandoned) => anew = true,
            None => return Ok(None),
        }
    }
}

impl Setups {
    /// Joins those that wait for a job, which is started where nobody has; or says how it ended.
    fn join<E: Engine>(&self, job: &Arc<Job<E>>, anew: bool) -> Result<Arc<UnderWay>, Ended> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&job.key) {
            Some(Known::Over(Ended::Failed(_))) if anew => {}
            None | Some(Known::Over(Ended::Abandoned)) => {}
            Some(Known::Over(ended)) => return Err(ended.clone()),
            Some(Known::UnderWay(under_way)) => {
                if let Some(found) = under_way.upgrade() {
                    found.waiting.send_modify(|waiting| *waiting += 1);
                    return Ok(found);
                }
            }
        }
        let (key, begun) = (job.key.clone(), job.begun.subscribe());
        let (waiting, waits) = watch::channel(1);
        let (end, ended) = watch::channel(None);
        let job = job.clone();
        let work = tokio::spawn(async move {
            let ended = job.carry_out(waits).await;
            let known = Known::Over(ended.clone());
            job.shared.setups.note(job.key.clone(), known);
            end.send_replace(Some(ended));
        });
        let under_way = Arc::new(UnderWay {
            waiting,
            begun,
            ended,
            job: work.abort_handle(),
        });
        known.insert(key, Known::UnderWay(Arc::downgrade(&under_way)));
        Ok(under_way)
    }

    /// Leaves what is being removed to the run's end.
    fn leave(&self, removal: Removal) {
        let mut removals = self.removals.lock().unwrap_or_else(PoisonError::into_inner);
        removals.push(removal);
    }

    /// Waits until nothing is left of what setups were carried out with; gives what could not be removed.
    pub(super) async fn close(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let removals =
            std::mem::take(&mut *self.removals.lock().unwrap_or_else(PoisonError::into_inner));
        for removal in removals {
            problems.extend(removal.ends().await);
        }
        problems
    }

    fn note(&self, key: String, known: Known) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key, known);
    }
}

impl UnderWay {
    /// Drops what is held until the container runs.
    async fn tell(&self, held: &mut Option<oneshot::Sender<()>>) -> Infallible {
        if self.begun.clone().wait_for(|begun| *begun).await.is_ok() {
            *held = None;
        }
        pending().await
    }

    /// How the job ends; nothing if the task is to stop first. The last one that leaves waits until the
    /// job has removed what it made.
    async fn outcome<E: Engine>(&self, shared: &Shared<E>, task: &TaskPlan) -> Option<Ended> {
        let mut stops = shared.stops(&task.id);
        let mut ended = self.ended.clone();
        tokio::select! {
            biased;
            () = stops.asked(Urgency::Graceful) => {}
            ended = ended.wait_for(Option::is_some) => return ended_or_lost(ended),
        }
        let mut is_last = false;
        self.waiting.send_modify(|waiting| {
            *waiting -= 1;
            is_last = *waiting == 0;
        });
        if is_last {
            let _ = ended.wait_for(Option::is_some).await;
        }
        None
    }
}

/// A job that panicked has said so; whoever waits for it cannot go on.
fn ended_or_lost(
    ended: Result<watch::Ref<'_, Option<Ended>>, watch::error::RecvError>,
) -> Option<Ended> {
    let lost = || SetupFailure::from(failed("it was not carried out"));
    match ended {
        Ok(ended) => ended.clone(),
        Err(_) => Some(Ended::Failed(lost())),
    }
}

fn failed(message: impl Into<String>) -> StepError {
    StepError {
        stage: "setup",
        message: message.into(),
    }
}

/// Tells setups apart: equal ones of one base prepare the same. The values of variables and secrets
/// do not count. What is made of a result is for nobody else.
async fn key<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    setup: &SetupPlan,
    (image, user): (&PreparedImage, ContainerUser),
) -> Result<String, StepError> {
    let mut ids = Vec::new();
    for path in &setup.files {
        let entry = base_files(shared)
            .await?
            .get(path.as_str())
            .ok_or_else(|| {
                let base = shared.context.plan.repository.base.short();
                failed(format!(
                    "the base, {base}, has no file `{path}`, which the setup depends on"
                ))
            })?;
        ids.push((path.as_str(), &entry.id));
    }
    let context = &shared.context;
    let variables: Vec<&String> = task.environment.keys().collect();
    let text = serde_json::json!({
        "format": FORMAT,
        "state": context.state.path(),
        "repository": context.repository.key(),
        "image": image.info.id,
        "user": [user.uid, user.gid],
        "owner": user.owner,
        "setup": setup,
        "files": ids,
        "result": context.plan.result(),
        "variables": variables,
        "runtime": task.runtime,
    });
    Ok(hex_hash(text.to_string().as_bytes(), 16))
}

/// The files of the base, listed once in a run.
async fn base_files<E: Engine>(
    shared: &Arc<Shared<E>>,
) -> Result<&BTreeMap<String, TreeEntry>, StepError> {
    let list = || {
        let shared = shared.clone();
        blocking(move || {
            let (context, store) = (&shared.context, &shared.context.store);
            let listed = git::files(context.repository.git(), store.path(), store.base());
            listed.map_err(|e| StepError::new("setup", &e))
        })
    };
    let files = shared.setups.files.get_or_init(list).await;
    files.as_ref().map_err(Clone::clone)
}

/// Variables as `setup-entry.sh` reads them.
pub(super) fn variables_as_input(variables: impl IntoIterator<Item = (String, String)>) -> String {
    let line = |(name, value): (String, String)| format!("{name} {}\n", BASE64.encode(value));
    variables.into_iter().map(line).collect::<String>() + "\n"
}
