//! The caches of attempts: taken before the container is made, given back when it has gone.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::config::Mount;
use crate::id::AttemptId;
use crate::plan::{CacheMode, TaskPlan};
use crate::runner::user::ContainerUser;
use crate::runner::{Shared, StepError, blocking};
use crate::workspace::{CacheRequest, TakenCache};

/// Takes all caches of a task.
pub(in crate::runner) async fn take_caches<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    attempt: &AttemptId,
    user: ContainerUser,
) -> Result<Vec<TakenCache>, StepError> {
    if task.cache.is_empty() {
        return Ok(Vec::new());
    }
    let (shared, caches, attempt) = (shared.clone(), task.cache.clone(), attempt.clone());
    let taken = blocking(move || {
        let context = &shared.context;
        let mut taken = Vec::new();
        for cache in &caches {
            let next = TakenCache::take(&CacheRequest {
                state: &context.state,
                repository: context.repository.key(),
                attempt: &attempt,
                key: &cache.key,
                is_shared: cache.mode == CacheMode::Shared,
                owner: user.owner,
            });
            match next {
                Ok(cache) => taken.push(cache),
                Err(error) => {
                    release_caches(taken);
                    return Err(error);
                }
            }
        }
        Ok(taken)
    });
    let taken: Result<_, crate::workspace::WorkspaceError> = taken.await;
    taken.map_err(|e| StepError::new("cache", &e))
}

/// Where a task sees its caches.
pub(in crate::runner) fn mounts_of_caches(task: &TaskPlan, taken: &[TakenCache]) -> Vec<Mount> {
    let mount = |(cache, taken): (&crate::plan::Cache, &TakenCache)| Mount {
        source: taken.directory.clone(),
        target: cache.path.clone(),
        read_only: false,
    };
    task.cache.iter().zip(taken).map(mount).collect()
}

/// Gives caches back.
pub(in crate::runner) fn release_caches(taken: Vec<TakenCache>) {
    taken.into_iter().for_each(TakenCache::release);
}
