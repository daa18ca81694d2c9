//! What an earlier process left of an attempt: a container that still runs is watched on, one that
//! has ended is collected, and where nobody has worked yet all is removed and begun anew.

use std::sync::Arc;

use futures::StreamExt as _;
use tokio::time::{Instant, timeout};

use super::{Life, REAP, Running, failed, wait};
use crate::engine::{Engine, Exit, ImageInfo};
use crate::event::{TaskOutcome, TaskPhase};
use crate::id::Role;
use crate::journal::log;
use crate::runner::container::{volume_configs, volume_names};
use crate::runner::images::PreparedImage;
use crate::runner::outcome::StoppedBy;
use crate::runner::past::Left;
use crate::runner::prepare::{self, user_of};
use crate::runner::probe::ImageFacts;
use crate::runner::teardown::{Remains, remove_directory, teardown};
use crate::runner::user::ContainerUser;
use crate::runner::{StepError, blocking, services};
use crate::workspace::{Workspace, WorkspaceRequest};

impl<E: Engine> Life<'_, E> {
    /// Goes on with an attempt; gives no outcome where it must be begun anew.
    pub(super) async fn take_up(&mut self, left: &Left) -> Result<Option<TaskOutcome>, StepError> {
        let engine = &*self.shared.context.engine;
        let user = user_of(&self.shared.context.info, self.task)?;
        let workspace = self
            .existing(user)
            .await?
            .filter(|_| left.may_have_worked());
        let Some(workspace) = workspace else {
            return self.remove_unused().await.map(|()| None);
        };
        // Those of a check that an earlier process began are among them.
        self.remains.volumes = self.shared.past.volumes_of(&self.attempt);
        for volume in volume_configs(&self.shared.context, &self.attempt, &workspace) {
            if !self.remains.volumes.contains(&volume.name) {
                self.remains.volumes.push(volume.name.clone());
            }
            if !left.is_started() {
                let made = engine.create_volume(&volume).await;
                made.map_err(StepError::engine("workspace"))?;
            }
        }
        let (stopped, exit) = if left.is_started() {
            self.go_on(left, workspace.clone()).await?
        } else {
            // Nothing of what was begun here is to be removed before it is collected.
            self.remains.attempt = Some(self.attempt.clone());
            let _ = self.enter(TaskPhase::Collecting).await;
            let name = self.attempt.container_name(Role::Task);
            let message = format!("the engine does not have container {name} any more");
            let stage = "container";
            (None, Err(StepError { stage, message }))
        };
        let outcome = match exit {
            Ok(exit) => self.ending(stopped, exit, &workspace).await,
            Err(error) => failed(&error),
        };
        self.collect(&unknown_image(), user, workspace.clone(), &outcome)
            .await;
        Ok(Some(self.verified(&workspace, outcome).await))
    }

    async fn existing(&self, user: ContainerUser) -> Result<Option<Arc<Workspace>>, StepError> {
        let (shared, attempt, task) =
            (self.shared.clone(), self.attempt.clone(), self.task.clone());
        let find = move || {
            let key = shared.context.repository.key();
            let find = |request: &WorkspaceRequest<'_>| Workspace::existing(request, key);
            prepare::workspace_request(&shared, &attempt, &task, user, ("", ""), find)
        };
        let found = blocking(find).await;
        let found = found.map_err(|e| StepError::new("workspace", &e))?;
        Ok(found.map(Arc::new))
    }

    /// Removes what was made for an attempt in which no container was started. The directory goes first:
    /// without its container, it would look like one in which somebody worked.
    async fn remove_unused(&self) -> Result<(), StepError> {
        let context = &self.shared.context;
        let not_removed = remove_directory(&context.engine, &context.state, &self.attempt).await;
        let mut volumes = volume_names(&self.attempt, Role::Task, self.task);
        volumes.push(self.attempt.volume_name());
        let remains = Remains {
            containers: vec![self.attempt.container_name(Role::Task)],
            volumes,
            errors: not_removed.into_iter().collect(),
            ..Remains::default()
        };
        let errors = teardown(self.shared, remains).await;
        if errors.is_empty() {
            return Ok(());
        }
        Err(StepError {
            stage: "workspace",
            message: errors.join("; "),
        })
    }

    /// Waits for the end of a container that an earlier process started, with the deadline that it
    /// had, and reads all that the engine has of its output.
    async fn go_on(
        &mut self,
        left: &Left,
        workspace: Arc<Workspace>,
    ) -> Result<(Option<StoppedBy>, Result<Exit, StepError>), StepError> {
        let name = self.attempt.container_name(Role::Task);
        let path = self.shared.context.state.log(&self.attempt);
        let before = log::set_aside(&path).map_err(|e| StepError::new("log", &e))?;
        let output = match self.shared.context.engine.logs(&name, true).await {
            Ok(output) => output,
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        };
        let pump = self.pump(output)?;
        self.remains.containers = self.served().containers();
        self.remains.containers.push(name.clone());
        if left.is_running() {
            self.services = services::take_up(self.served()).await?;
        }
        self.remains.may_run = true;
        self.remains.attempt = Some(self.attempt.clone());
        let now = Instant::now();
        let started = now.checked_sub(left.ran()).unwrap_or(now);
        self.phase = (TaskPhase::Running, now);
        let running = Running {
            name,
            pump,
            started,
        };
        let ended = if left.is_running() {
            // The engine goes on with a stop that nobody waits for any more, and ends it with a kill.
            let asked = left.asked_to_end();
            let over = asked.map(|ago| now + (self.grace() + REAP).saturating_sub(ago));
            let (by, exit) = self.watch(running, workspace).await;
            let was_stopping = over.is_some_and(|over| Instant::now() <= over);
            (
                by.or_else(|| self.stopped_before(left).filter(|_| was_stopping)),
                exit,
            )
        } else {
            let by = self.stopped_before(left);
            (by, self.ended(running).await)
        };
        if let Some(gap) = log::rejoin(&path, before) {
            self.warn(gap);
        }
        Ok(ended)
    }

    /// Takes the exit and the output of a container that has ended.
    async fn ended(&mut self, running: Running) -> Result<Exit, StepError> {
        let wait = wait::to_the_end(self.shared, &self.task.id, &running.name);
        let exit = match timeout(REAP, wait).await {
            Ok(exit) => exit,
            Err(_) => Err(StepError {
                stage: "container",
                message: format!("nobody says how container {} ended", running.name),
            }),
        };
        self.remains.may_run = exit.is_err();
        self.ran = running.started.elapsed().min(self.task.timeout);
        let _ = self.enter(TaskPhase::Collecting).await;
        self.drain(running.pump, exit.is_ok()).await;
        exit
    }

    /// Who ended a container that was being stopped when its process died.
    fn stopped_before(&self, left: &Left) -> Option<StoppedBy> {
        let was_stopping = left.was_stopped_within(self.grace() + REAP);
        let by = match left.over {
            Some(by) => by,
            None if left.ran_until_stop() >= self.task.timeout => StoppedBy::Deadline,
            None => StoppedBy::Shutdown,
        };
        was_stopping.then_some(by)
    }
}

/// Of the image that an earlier process used nothing is known any more: the base image collects.
pub(in crate::runner) fn unknown_image() -> PreparedImage {
    PreparedImage {
        info: ImageInfo::default(),
        facts: ImageFacts::default(),
    }
}
