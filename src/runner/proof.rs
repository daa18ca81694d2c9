//! Whether directories of ours arrive in containers of the engine: sent through one before the first
//! task of a run, and then believed of that engine for a day.
//!
//! A container takes as long as all else that comes before a task. Should mounts stop to arrive
//! meanwhile, the engine refuses those of the next task, or its wrapper is not there to be started.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::images::PreparedImage;
use super::probe::prove_bind_mounts;
use super::user::ContainerUser;
use super::{RunContext, RunError, Shared, StepError, blocking, collector};
use crate::engine::Engine;
use crate::id::hex_hash;

/// How long a proof is believed.
const BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);

/// Proves it, unless that was done of late.
///
/// The outer error is one of the image; the inner one means that no task can run at all.
pub(super) async fn of_bind_mounts<E: Engine>(
    shared: &Arc<Shared<E>>,
    image: &PreparedImage,
    user: ContainerUser,
) -> Result<Result<(), RunError>, StepError> {
    let file = file(&shared.context, user);
    let kept = file.clone();
    if blocking(move || kept.is_some_and(|file| is_fresh(&file))).await {
        return Ok(Ok(()));
    }
    let prober = shared.context.prober();
    let proof = if image.facts.has_shell {
        prove_bind_mounts(&prober, &image.info, user).await?
    } else {
        // An image without a shell cannot answer.
        let base = collector::base_image(shared).await?;
        prove_bind_mounts(&prober, &base.info, user).await?
    };
    if let Some(file) = file.filter(|_| proof.is_ok()) {
        blocking(move || note(&file)).await;
    }
    Ok(proof)
}

/// Where it is noted of this engine, reached in this way, and of containers of this user; nowhere
/// where the engine does not say which one it is.
fn file<E: Engine>(context: &RunContext<E>, user: ContainerUser) -> Option<PathBuf> {
    let id = context.info.id.as_ref()?;
    let endpoint = &context.info.endpoint;
    let text = format!("{id} {endpoint} {}:{}", user.uid, user.gid);
    Some(context.state.mount_proof(&hex_hash(text.as_bytes(), 32)))
}

fn is_fresh(file: &Path) -> bool {
    let modified = fs::metadata(file).and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age < BELIEVED)
}

/// What cannot be noted is proved again, and nothing else comes of it.
fn note(file: &Path) {
    if let Some(directory) = file.parent() {
        let _ = fs::create_dir_all(directory).and_then(|()| fs::write(file, "arrived\n"));
    }
}
