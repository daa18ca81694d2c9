//! Whether directories of ours arrive in containers of the engine: sent through one before the first
//! task of a run, and then believed of that engine for a day. What runs them is proved along with it, in
//! each run.
//!
//! A container takes as long as all else that comes before a task. Should mounts stop to arrive
//! meanwhile, the engine refuses those of the next task, or its wrapper is not there to be started.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::images::PreparedImage;
use super::mounts::prove_mounts;
use super::user::ContainerUser;
use super::{RunContext, RunError, Shared, StepError, blocking, collector, runtime, views};
use crate::engine::Engine;
use crate::id::hex_hash;
use crate::plan::runtime::is_gvisor;
use crate::plan::{SetupPlan, TaskPlan};

/// How long a proof is believed.
const BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);

/// What arrives in containers, besides bind mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    /// Whether worktrees can be views; else why not.
    pub(super) views: Result<(), String>,
}

/// Stands in a note for views that arrive.
const VIEWS: &str = "views";

/// What is proved of the containers of a run, by what runs them.
#[derive(Default)]
pub(super) struct Proofs(Mutex<HashMap<Option<String>, Arc<Proven>>>);

type Proven = OnceCell<Result<Proof, RunError>>;

impl Proofs {
    pub(super) fn of(&self, runtime: Option<&str>) -> Arc<Proven> {
        let mut proofs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        proofs
            .entry(runtime.map(str::to_owned))
            .or_default()
            .clone()
    }
}

/// Proves that what runs a task's containers is what it is said to be, and that directories arrive in
/// them, unless that was done of late; whether views arrive along with it, where any task may want one,
/// of its worktree or of what was prepared.
///
/// The outer error is one of the image; the inner one means that no task can run at all.
pub(super) async fn of_containers<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    (image, user): (&PreparedImage, ContainerUser),
) -> Result<Result<Proof, RunError>, StepError> {
    let prober = shared.context.prober_of(task);
    if task.runtime.as_deref().is_some_and(is_gvisor) {
        let image = answering(shared, image).await?;
        if let Err(error) = runtime::is_gvisor(&prober, &image).await? {
            return Ok(Err(error));
        }
    }
    let tasks = &shared.context.plan.tasks;
    let prepared = |setup: &SetupPlan| !setup.paths.is_empty();
    let is_prepared = tasks
        .iter()
        .any(|task| task.setup.as_ref().is_some_and(prepared));
    let try_views = is_prepared || views::wanted_by_any(shared, user).await;
    let file = file(&shared.context, task, user, try_views);
    let kept = file.clone();
    if let Some(proof) = blocking(move || believed(&kept?)).await {
        return Ok(Ok(proof));
    }
    let image = answering(shared, image).await?;
    let proof = prove_mounts(&prober, &image.info, user, try_views).await?;
    if let (Some(file), Ok(proof)) = (file, proof.clone()) {
        blocking(move || note(&file, &proof)).await;
    }
    Ok(proof)
}

/// An image that can answer: one without a shell cannot.
async fn answering<E: Engine>(
    shared: &Arc<Shared<E>>,
    image: &PreparedImage,
) -> Result<Arc<PreparedImage>, StepError> {
    if image.facts.has_shell {
        return Ok(Arc::new(image.clone()));
    }
    collector::base_image(shared).await
}

/// Where it is noted of this engine, reached in this way, and of containers of this user; nowhere
/// where the engine does not say which one it is.
fn file<E: Engine>(
    context: &RunContext<E>,
    task: &TaskPlan,
    user: ContainerUser,
    with_views: bool,
) -> Option<PathBuf> {
    let id = context.info.id.as_ref()?;
    let endpoint = &context.info.endpoint;
    let mut text = format!("{id} {endpoint} {}:{} {with_views}", user.uid, user.gid);
    if let Some(runtime) = &task.runtime {
        text += &format!(" {runtime}");
    }
    Some(context.state.mount_proof(&hex_hash(text.as_bytes(), 32)))
}

fn believed(file: &Path) -> Option<Proof> {
    let age = fs::metadata(file).ok()?.modified().ok()?.elapsed().ok()?;
    let text = fs::read_to_string(file).ok()?;
    let views = match text.strip_prefix("arrived\n")?.trim() {
        VIEWS => Ok(()),
        why => Err(why.to_owned()),
    };
    (age < BELIEVED).then_some(Proof { views })
}

/// What cannot be noted is proved again, and nothing else comes of it.
fn note(file: &Path, proof: &Proof) {
    let views = match &proof.views {
        Ok(()) => VIEWS,
        Err(why) => why,
    };
    if let Some(directory) = file.parent() {
        let text = format!("arrived\n{views}\n");
        let _ = fs::create_dir_all(directory).and_then(|()| fs::write(file, text));
    }
}
