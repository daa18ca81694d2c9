//! From an ended container to a branch: the collector where the wrapper could not hand off, then
//! the checks and the promotion of `collect`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::claim;
use super::container::{Launch, collector_config};
use super::disk::DiskWatch;
use super::images::PreparedImage;
use super::stops::Urgency;
use super::teardown::Remains;
use super::{RunContext, Shared, Shutdown, StepError, asked_to_kill, blocking};
use crate::collect::{self, ArtifactsRequest, CollectRequest, Ground, Place};
use crate::engine::config::{BuildConfig, ContainerConfig, ImageRequest, PullPolicy};
use crate::engine::{Engine, EngineError};
use crate::event::{ArtifactsReport, BranchReport};
use crate::id::{AttemptId, BranchName, CommitId, ImageRef};
use crate::plan::{RunPlan, TaskPlan, When};
use crate::workspace::Workspace;

/// How many times the task's own `handoff_timeout` a collector may run: nothing else runs beside it.
const PATIENCE: u32 = 4;
/// What building the base image may take, where a collector needs it.
const BASE_IMAGE: Duration = Duration::from_secs(15 * 60);

const INTERRUPTED: &str = "the collector was interrupted";

/// Runs the hand-off in a container of its own where the task's wrapper did not finish it.
/// Gives what is to be known of that, each a sentence.
pub(super) async fn hand_off_if_missing<E: Engine>(
    shared: &Arc<Shared<E>>,
    launch: &Launch<'_, E>,
    remains: &mut Remains,
) -> Vec<String> {
    if !collect::needs_collector(launch.workspace) {
        return Vec::new();
    }
    let image = match collector_image(shared, launch.image).await {
        Ok(image) => image,
        Err(error) => {
            return vec![format!(
                "the work could not be collected: {}",
                error.message
            )];
        }
    };
    let launch = Launch {
        image: &image,
        ..*launch
    };
    let config = collector_config(&launch);
    remains.containers.push(config.name.clone());
    let engine = &*shared.context.engine;
    let limit = launch.task.handoff_timeout * PATIENCE;
    let mut stops = shared.stops(&launch.task.id);
    let wants_more = config.limits.memory > launch.task.limits.memory;
    let spare = async {
        if wants_more {
            Some(shared.admission.spare().await)
        } else {
            None
        }
    };
    let _spare = tokio::select! {
        spare = spare => spare,
        () = stops.asked(Urgency::Forced) => return vec![INTERRUPTED.into()],
    };
    let limits = shared.context.plan.collect_limits;
    let more = limits.leftovers.saturating_add(limits.bundle);
    let disk = DiskWatch::of_collector(engine, &config.name, launch.workspace, more).await;
    let problem = tokio::select! {
        ended = run_to_end(engine, &config, limit) => match ended {
            Ok(true) => return Vec::new(),
            Ok(false) => format!("the collector did not end within {limit:?}"),
            Err(error) => {
                let message = StepError::new("collect", &error).message;
                return vec![format!("the collector failed: {message}")];
            }
        },
        _ = disk.over_limit() => format!(
            "the collector was killed: it wrote more than {} MiB, as much as `collect.limits.leftovers` \
             and `collect.limits.bundle` allow; git does that where the task's own filters make it",
            more >> 20
        ),
        () = stops.asked(Urgency::Forced) => INTERRUPTED.into(),
    };
    let _ = engine.stop(&config.name, Duration::ZERO).await;
    vec![problem]
}

/// The task's image where it can do it, else the base image.
async fn collector_image<E: Engine>(
    shared: &Arc<Shared<E>>,
    own: &PreparedImage,
) -> Result<Arc<PreparedImage>, StepError> {
    if own.facts.has_shell && own.facts.has_git {
        return Ok(Arc::new(own.clone()));
    }
    base_image(shared).await
}

/// The image that is agent-run's own, made where it is missing.
pub(super) async fn base_image<E: Engine>(
    shared: &Arc<Shared<E>>,
) -> Result<Arc<PreparedImage>, StepError> {
    let request = base_request();
    let mut shutdown = shared.shutdown.clone();
    let obtained = tokio::select! {
        obtained = timeout(BASE_IMAGE, shared.images.obtain(shared, &request)) => obtained.ok(),
        () = asked_to_kill(&mut shutdown) => None,
    };
    let not_in_time = || StepError {
        stage: "collect",
        message: format!("image {} could not be had in time", request.reference),
    };
    obtained.ok_or_else(not_in_time)??;
    shared.images.prepare(shared, &request, None).await
}

/// How that image is asked for.
pub(super) fn base_request() -> ImageRequest {
    ImageRequest {
        reference: ImageRef::base(),
        pull_policy: PullPolicy::Missing,
        build: Some(BuildConfig::EmbeddedBase),
    }
}

/// Runs a container; says whether it ended in time. Its code says nothing that the hand-off's own
/// files do not say.
async fn run_to_end<E: Engine>(
    engine: &E,
    config: &ContainerConfig,
    limit: Duration,
) -> Result<bool, EngineError> {
    engine.create_container(config).await?;
    engine.start(&config.name).await?;
    let ended = timeout(limit, engine.wait(&config.name)).await;
    ended.map_or(Ok(false), |exit| exit.map(|_| true))
}

/// Checks what was handed off and promotes it: to the branch, or, where there is none, aside.
pub(super) async fn collect<E: Engine>(
    shared: &Arc<Shared<E>>,
    branch: Option<&BranchName>,
    attempt: &AttemptId,
    workspace: Arc<Workspace>,
) -> BranchReport {
    let (claim, lost) = claim::hold(shared, &attempt.task).await;
    let branch = branch.filter(|_| lost.is_none()).cloned();
    let (shared, attempt) = (shared.clone(), attempt.clone());
    blocking(move || {
        let context = &shared.context;
        let guard = claim.as_ref().and_then(|held| held.guard());
        let mut report = collect::collect(&CollectRequest {
            state: &context.state,
            repository: &context.repository,
            store: &context.store,
            workspace: &workspace,
            attempt: &attempt,
            branch: branch.as_ref(),
            guard: guard.as_ref(),
            moves: moved(&context.plan, &attempt),
            ground: ground(context, &attempt),
            limits: context.plan.collect_limits,
            secrets: &context.needles,
        });
        report.notes.extend(lost);
        report
    })
    .await
}

/// Where the branch of an attempt's task stands, if it is there and is to be moved on.
pub(super) fn moved<'a>(plan: &'a RunPlan, attempt: &AttemptId) -> Option<&'a CommitId> {
    let task = plan.tasks.iter().find(|task| task.id == attempt.task)?;
    task.moves_branch().then_some(&plan.repository.base)
}

/// What the task of an attempt may change, if the spec says.
fn ground<'a, E: Engine>(context: &'a RunContext<E>, attempt: &AttemptId) -> Option<Ground<'a>> {
    let task = context.plan.tasks.iter().find(|t| t.id == attempt.task)?;
    let touches = task.touches.as_ref()?;
    Some(Ground {
        paths: &touches.paths,
        strict: touches.strict,
    })
}

/// Copies what the spec wants out of the worktree after such an ending.
pub(super) async fn artifacts<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    attempt: &AttemptId,
    workspace: Arc<Workspace>,
    succeeded: bool,
) -> Option<ArtifactsReport> {
    let wanted = task.artifacts.clone()?;
    let asked = match wanted.when {
        When::Always => true,
        When::Success => succeeded,
        When::Failure => !succeeded,
    };
    if !asked {
        return None;
    }
    let (to, shutdown) = (
        shared.context.state.artifacts(attempt),
        shared.shutdown.clone(),
    );
    let limits = shared.context.plan.collect_limits;
    let report = blocking(move || {
        collect::copy_artifacts(&ArtifactsRequest {
            worktree: &workspace.worktree(),
            to,
            paths: &wanted.paths,
            limits,
            hurry: &|| matches!(*shutdown.borrow(), Shutdown::Forced(_)),
        })
    })
    .await;
    Some(report)
}

/// Gives the branch to work that was set aside for an attempt that does not follow after all.
pub(super) async fn name_set_aside<E: Engine>(
    shared: &Arc<Shared<E>>,
    branch: &BranchName,
    attempt: AttemptId,
    mut report: BranchReport,
) -> BranchReport {
    let (claim, lost) = claim::hold(shared, &attempt.task).await;
    let (shared, branch) = (shared.clone(), branch.clone());
    blocking(move || {
        let RunContext {
            state, repository, ..
        } = &shared.context;
        let guard = claim.as_ref().and_then(|held| held.guard());
        if lost.is_none() {
            let place = Place {
                repository,
                attempt: &attempt,
                guard: guard.as_ref(),
                moves: moved(&shared.context.plan, &attempt),
            };
            collect::name_set_aside(state, place, &branch, &mut report);
        }
        report.notes.extend(lost);
        report
    })
    .await
}
