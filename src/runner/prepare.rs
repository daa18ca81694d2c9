//! What a container of a task needs before it can be created: a user, a workspace, a network.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::user::{ContainerUser, container_user};
use super::{Pin, RunContext, Shared, StepError, blocking, egress};
use crate::collect::{self, ExtentError};
use crate::engine::config::{Mount, NetworkAttachment};
use crate::engine::{Engine, EngineInfo};
use crate::git::GitError;
use crate::id::{AttemptId, CommitId, Role};
use crate::plan::{NetworkMode, TaskPlan, Work};
use crate::workspace::{PreparedPaths, SharedCheckout, Start, Timing, Workspace, WorkspaceRequest};

/// What the wrapper's own deadline exceeds the runner's by: it serves orphans only.
const ORPHAN_MARGIN: Duration = Duration::from_secs(60);
/// What the engine would write, did it have a part in a network that is loopback only.
const LOOPBACK_HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// Who a task runs as.
pub(super) fn user_of(info: &EngineInfo, task: &TaskPlan) -> Result<ContainerUser, StepError> {
    user(info, task.user.as_deref())
}

/// Who a container runs as, where somebody has this wish.
pub(super) fn user(info: &EngineInfo, wanted: Option<&str>) -> Result<ContainerUser, StepError> {
    let runner = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    container_user(info, runner, wanted).map_err(|why| StepError {
        stage: "user",
        message: why.into(),
    })
}

/// How a task's container is attached to the world.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) attachment: NetworkAttachment,
    /// What it needs besides that, to reach what it may.
    pub(super) mounts: Vec<Mount>,
    pub(super) environment: Vec<(String, String)>,
}

impl From<NetworkAttachment> for Connection {
    fn from(attachment: NetworkAttachment) -> Self {
        Self {
            attachment,
            mounts: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// Attaches a task's container to what it may reach.
pub(super) async fn network<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
) -> Result<Connection, StepError> {
    if task.egress.is_some() {
        return egress::connection(shared, task).await;
    }
    match task.network_mode {
        NetworkMode::None => Ok(NetworkAttachment::None.into()),
        NetworkMode::Bridge => {
            let attachment = shared.network.attachment(&*shared.context.engine).await;
            let attachment = attachment.map_err(|error| shared.step_error("network", error))?;
            Ok(attachment.into())
        }
    }
}

/// Where the work in a workspace begins, and what it is told.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    /// At the run's base where there is none.
    pub(super) start: Option<Start>,
    /// Why the result that it goes on from did not pass.
    pub(super) feedback: Option<String>,
    /// What its agent goes on with.
    pub(super) session: Option<PathBuf>,
    /// What its container is for; the task itself where that is not said.
    pub(super) role: Option<Role>,
}

/// Pins the run's base, then makes the attempt's directories, or those of its check.
pub(super) fn make_workspace<E: Engine>(
    shared: &Shared<E>,
    (attempt, task): (&AttemptId, &TaskPlan),
    user: ContainerUser,
    accounts: (&str, &str),
    (beginning, view, prepared): (&Beginning, Option<&SharedCheckout>, PreparedPaths<'_>),
) -> Result<Workspace, StepError> {
    pin(shared).map_err(|e| StepError::new("workspace", &e))?;
    let create = |request: &WorkspaceRequest<'_>| {
        Workspace::create(&WorkspaceRequest {
            shared: view,
            start: beginning.start.as_ref(),
            feedback: beginning.feedback.as_deref(),
            session: beginning.session.as_deref(),
            role: beginning.role.unwrap_or(request.role),
            prepared,
            ..*request
        })
    };
    workspace_request(shared, attempt, task, user, accounts, create)
        .map_err(|e| StepError::new("workspace", &e))
}

/// A start from a result; none where that is the run's base.
pub(super) fn start<E: Engine>(
    shared: &Shared<E>,
    (head, base): (CommitId, CommitId),
) -> Option<Start> {
    let context = &shared.context;
    (head != context.plan.repository.base).then(|| Start {
        results: context
            .state
            .results(context.repository.key(), context.store.key()),
        head,
        base,
        needs: Vec::new(),
    })
}

/// How much disk a checkout of a start takes at least, in bytes, where that is more than the task may
/// use: an agent made its files, and few objects can stand for any number of them.
pub(super) async fn excess<E: Engine>(
    shared: &Shared<E>,
    task: &TaskPlan,
    start: Option<&Start>,
) -> Result<Option<u64>, StepError> {
    let of_agents = |start: &&Start| start.head != shared.context.plan.repository.base;
    let Some(start) = start.filter(of_agents) else {
        return Ok(None);
    };
    let limit = u64::try_from(task.disk_limit).unwrap_or(u64::MAX);
    let (results, head) = (start.results.clone(), start.head.clone());
    let size = blocking(move || collect::checkout_size(&results, &head)).await;
    let size = size.map_err(|e: ExtentError| StepError::new("workspace", &e))?;
    Ok((size > limit).then_some(size))
}

/// Keeps the run's base from being pruned.
pub(super) fn pin<E: Engine>(shared: &Shared<E>) -> Result<(), GitError> {
    let RunContext {
        plan, repository, ..
    } = &shared.context;
    let mut pin = shared.pin.lock().unwrap_or_else(PoisonError::into_inner);
    if *pin != Pin::Made {
        *pin = Pin::Tried;
        repository.pin(&plan.run, &plan.repository.base)?;
        *pin = Pin::Made;
    }
    Ok(())
}

/// Hands a task's workspace request on, to make the workspace or to find it again.
pub(super) fn workspace_request<E: Engine, T>(
    shared: &Shared<E>,
    attempt: &AttemptId,
    task: &TaskPlan,
    user: ContainerUser,
    (passwd, group): (&str, &str),
    with: impl FnOnce(&WorkspaceRequest<'_>) -> T,
) -> T {
    let context = &shared.context;
    let author = &context.plan.author;
    let mount_points: Vec<String> = task.cache.iter().map(|cache| cache.path.clone()).collect();
    with(&WorkspaceRequest {
        git: context.repository.git(),
        state: &context.state,
        attempt,
        branch: &task.branch,
        store: &context.store,
        start: None,
        shared: None,
        feedback: None,
        session: None,
        role: Role::Task,
        prepared: PreparedPaths::default(),
        owner: user.owner,
        author: (&author.name, &author.email),
        exclude: &context.repository.info_exclude(),
        script: match &task.work {
            Work::Script(script) => Some(script),
            Work::Command(_) => None,
        },
        prompt: task.prompt.as_deref(),
        passwd,
        group,
        // With services the engine has a part in it, and names them.
        hosts: (task.has_only_loopback() && task.services.is_empty()).then_some(LOOPBACK_HOSTS),
        working_dir: &task.working_dir,
        mount_points: &mount_points,
        timing: Timing {
            deadline: task.timeout + ORPHAN_MARGIN,
            grace: task.stop_grace_period,
            handoff: task.handoff_timeout,
        },
    })
}
