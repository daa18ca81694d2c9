//! The services of an attempt: there before its container, gone after it.
//!
//! A task and its services share one network namespace, that of a container which does nothing else:
//! the *pod*. So they reach each other by loopback, the same ports are free in every task, and neither a
//! task nor its services reach those of another one, whatever the task's network is: its list of hosts,
//! or none, says what lies outside of the loopback.

mod config;
mod health;
mod life;
mod pod;
mod relay;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{oneshot, watch as channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::dispatcher::EndsWithRun;
use super::prepare::{self, Connection};
use super::pump::{Ending, Pump, Pumped, read_on};
use super::setup::SetupFailure;
use super::stops::Urgency;
use super::teardown::again;
use super::{Shared, StepError};
use crate::engine::config::{ImageRequest, NetworkAttachment};
use crate::engine::{Engine, Exit, ImageInfo, OutputStream};
use crate::event::{EventKind, PublishedPort};
use crate::id::{AttemptId, Role, ServiceName};
use crate::journal::log::LogWriter;
use crate::plan::{ServicePlan, TaskPlan};

/// The stage of what failed because a service was not ready.
pub(super) const SERVICES: &str = "services";

/// Why an attempt has no services, with the log of the one that is at fault.
pub(super) type ServiceFailure = SetupFailure;

/// The images of services with what fills them, by the service.
pub(super) type Snapshots = BTreeMap<ServiceName, ImageInfo>;

/// Whom the services serve: an attempt's container in a role.
pub(super) struct Served<'a, E: Engine> {
    pub(super) shared: &'a Arc<Shared<E>>,
    pub(super) task: &'a TaskPlan,
    pub(super) attempt: &'a AttemptId,
    pub(super) role: Role,
}

/// The services of one container. What is dropped goes on until it is removed.
pub(super) struct Services<E: Engine> {
    shared: Arc<Shared<E>>,
    up: Vec<Up>,
    pod: Option<String>,
    /// Where the task's ports are published.
    pub(super) ports: Vec<PublishedPort>,
    /// What lets people in where the engine publishes nothing.
    relay: Option<EndsWithRun>,
    closing: channel::Sender<bool>,
}

/// A service that was started.
struct Up {
    container: String,
    name: ServiceName,
    pump: JoinHandle<Pumped>,
    tell: oneshot::Sender<Ending>,
    /// Who tells what becomes of it.
    watcher: Option<(JoinHandle<()>, EndsWithRun)>,
}

impl<E: Engine> Clone for Served<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Engine> Copy for Served<'_, E> {}

impl<E: Engine> Served<'_, E> {
    fn log_of(&self, service: &ServiceName) -> PathBuf {
        let state = &self.shared.context.state;
        state.service_log(self.attempt, self.service_role(), service)
    }

    fn pod_name(&self) -> String {
        let role = self.pod_role();
        match (role, &self.task.services[..]) {
            // A task may have several services that are filled.
            (Role::SnapshotPod, [service, ..]) => {
                self.attempt.service_container_name(role, &service.name)
            }
            _ => self.attempt.container_name(role),
        }
    }

    fn pod_role(&self) -> Role {
        match self.role {
            Role::Verify => Role::VerifyPod,
            Role::Setup => Role::SnapshotPod,
            _ => Role::Pod,
        }
    }

    fn service_role(&self) -> Role {
        match self.role {
            Role::Verify => Role::VerifyService,
            Role::Setup => Role::SnapshotService,
            _ => Role::Service,
        }
    }

    /// The variables of a service that its container's configuration does not have: of what an image is
    /// made they would be part.
    fn unknown_variables(&self, service: &ServicePlan) -> Vec<(String, String)> {
        match self.role {
            Role::Setup => config::variables(service),
            _ => Vec::new(),
        }
    }

    /// Whether people reach it by agent-run itself.
    fn is_relayed(&self) -> bool {
        self.role == Role::Preview && self.task.has_only_loopback()
    }

    pub(super) fn container_of(&self, service: &ServiceName) -> String {
        let role = self.service_role();
        self.attempt.service_container_name(role, service)
    }

    /// The containers that its services may have, for their removal: the pod is the last one.
    pub(super) fn containers(&self) -> Vec<String> {
        let services = self.task.services.iter();
        let mut names: Vec<String> = services.map(|s| self.container_of(&s.name)).collect();
        if self.task.has_pod() {
            names.push(self.pod_name());
        }
        names
    }
}

pub(super) use health::{Reach, pauses, reach};
pub(super) use watch::take_up;

/// How a container is attached to the world, and to its services, which are ready then; or are not, if the
/// task is to stop: its container is not started any more. Of the services that `snapshots` names, those
/// are the images.
pub(super) async fn connect<E: Engine>(
    served: Served<'_, E>,
    snapshots: &Snapshots,
) -> Result<(Connection, Services<E>), ServiceFailure> {
    let shared = served.shared;
    let mut services = Services::none(shared);
    if !served.task.has_pod() {
        let connection = prepare::network(shared, served.task).await?;
        return Ok((connection, services));
    }
    let connection = pod::start(served, &mut services).await?;
    if let Some(connection) = connection {
        life::start(served, snapshots, &mut services).await?;
        return Ok((connection, services));
    }
    Ok((NetworkAttachment::None.into(), services))
}

impl<E: Engine> Services<E> {
    pub(super) fn none(shared: &Arc<Shared<E>>) -> Self {
        Self {
            shared: shared.clone(),
            up: Vec::new(),
            pod: None,
            ports: Vec::new(),
            relay: None,
            closing: channel::channel(false).0,
        }
    }

    /// Asks a service to end, and says how it did; nobody is told of it. The others are watched no more.
    pub(super) async fn end_cleanly(
        &mut self,
        container: &str,
        grace: Duration,
    ) -> Result<Exit, StepError> {
        self.closing.send_replace(true);
        let engine = &*self.shared.context.engine;
        let stopped = engine.stop(container, grace).await;
        stopped.map_err(StepError::engine(SERVICES))?;
        let exit = engine.wait(container).await;
        exit.map_err(StepError::engine(SERVICES))
    }

    /// Ends and removes them. What cannot be removed now, the teardown tries again.
    pub(super) async fn close(&mut self) {
        self.closing.send_replace(true);
        self.relay = None;
        let up = std::mem::take(&mut self.up);
        join_all(up.into_iter().map(|up| self.end(up))).await;
        if let Some(pod) = self.pod.take() {
            let _ = again(|| self.shared.context.engine.remove_container(&pod)).await;
        }
    }

    async fn end(&self, up: Up) {
        let engine = &*self.shared.context.engine;
        if let Some((watcher, _ends)) = up.watcher {
            let _ = watcher.await;
        }
        let _ = engine.stop(&up.container, Duration::ZERO).await;
        let _ = up.tell.send(Ending::Ended);
        let pumped = joined(up.pump).await;
        self.tell_gaps(&up.name, pumped);
        let _ = again(|| engine.remove_container(&up.container)).await;
    }

    fn tell_gaps(&self, service: &ServiceName, pumped: Pumped) {
        for gap in pumped.gaps {
            let message = format!("service `{service}`: {gap}");
            self.shared.event(None, EventKind::Warning { message });
        }
    }
}

impl Up {
    /// A service whose output begins to be kept.
    fn new<E: Engine>(
        served: Served<'_, E>,
        service: &ServicePlan,
        output: OutputStream,
    ) -> Result<Self, StepError> {
        let context = &served.shared.context;
        let limit = u64::try_from(served.task.log_limit).unwrap_or(u64::MAX);
        let log = LogWriter::create(served.log_of(&service.name), limit);
        let log = log.map_err(|e| StepError::new("log", &e))?;
        let container = served.container_of(&service.name);
        let reopen = read_on(Arc::downgrade(&context.engine), container.clone());
        let task = served.task.id.clone();
        let pump = Pump::new(task, log, &context.needles, None, reopen);
        let (tell, told) = oneshot::channel();
        Ok(Self {
            container,
            name: service.name.clone(),
            pump: tokio::spawn(pump.run(output, told)),
            tell,
            watcher: None,
        })
    }
}

/// An image, within the time that a start may take; nothing if the task is to stop.
pub(super) async fn image<E: Engine>(
    served: Served<'_, E>,
    request: &ImageRequest,
) -> Result<Option<ImageInfo>, StepError> {
    let (shared, task) = (served.shared, served.task);
    if served.attempt.number > 1 {
        shared.images.forget_failure(request);
    }
    let limit = task.startup_timeout;
    let mut stops = shared.stops(&task.id);
    tokio::select! {
        image = timeout(limit, shared.images.obtain(shared, request)) => match image {
            Ok(image) => image.map(Some),
            Err(_) => Err(failed(format!(
                "image {} was not there within startup_timeout ({} s)",
                request.reference,
                limit.as_secs()
            ))),
        },
        () = stops.asked(Urgency::Graceful) => Ok(None),
    }
}

async fn joined(pump: JoinHandle<Pumped>) -> Pumped {
    match pump.await {
        Ok(pumped) => pumped,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn failed(message: impl Into<String>) -> StepError {
    StepError {
        stage: SERVICES,
        message: message.into(),
    }
}
