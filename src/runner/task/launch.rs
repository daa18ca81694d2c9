//! Creates a container of an attempt, reads what it writes, and starts it.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Life, Made, Pumping, Running, wait};
use crate::engine::{Engine, OutputStream};
use crate::event::TaskPhase;
use crate::id::Role;
use crate::journal::log::LogWriter;
use crate::runner::container::{Launch, task_config};
use crate::runner::images::PreparedImage;
use crate::runner::outage::may_be_away;
use crate::runner::places::Places;
use crate::runner::prepare::{self, Connection};
use crate::runner::pump::{Pump, read_on};
use crate::runner::stops::Urgency;
use crate::runner::user::ContainerUser;
use crate::runner::{StepError, egress};
use crate::workspace::Workspace;

impl<E: Engine> Life<'_, E> {
    /// Starts a container, or another one where it has no place; nothing if the run stopped meanwhile.
    pub(super) async fn start(
        &mut self,
        (image, user): (&PreparedImage, ContainerUser),
        made: Made,
    ) -> Result<Option<Running>, StepError> {
        let engine = &*self.shared.context.engine;
        let Made {
            workspace,
            mut network,
            created: (name, mut pump),
        } = made;
        if self.stops().now() != Urgency::None {
            return Ok(None);
        }
        // Before its first line can come.
        self.enter(TaskPhase::Running).await?;
        let mut places = Places::default();
        loop {
            self.remains.may_run = true;
            let Err(error) = engine.start(&name).await else {
                return self.started(name, pump).await.map(Some);
            };
            if may_be_away(&error) {
                // Nobody knows: what it may have done is collected.
                self.may_have_run = true;
                wait::has_started(self.shared, &self.task.id, &name, error).await?;
                return self.started(name, pump).await.map(Some);
            }
            let another = places.another(self.shared, &name, error).await;
            another.map_err(StepError::engine("container"))?;
            if !self.task.has_pod() {
                network = prepare::network(self.shared, self.task).await?;
            }
            let created = self.create(image, user, &workspace, &network).await?;
            match created {
                Some((_, again)) if self.stops().now() == Urgency::None => pump = again,
                _ => return Ok(None),
            }
        }
    }

    /// What is to be watched of a container that was started, as soon as its command may begin.
    async fn started(&mut self, name: String, pump: Pumping) -> Result<Running, StepError> {
        let held = egress::holds(self.shared, self.task).await;
        self.may_have_run |= held.is_err();
        held?;
        Ok(Running {
            name,
            pump,
            started: Instant::now(),
        })
    }

    /// Creates the container and reads its output, which comes once it is started; nothing if the run
    /// stopped meanwhile.
    pub(super) async fn create(
        &mut self,
        image: &PreparedImage,
        user: ContainerUser,
        workspace: &Arc<Workspace>,
        network: &Connection,
    ) -> Result<Option<(String, Pumping)>, StepError> {
        let name = self.attempt.container_name(self.role);
        if !self.remains.containers.contains(&name) {
            self.remains.containers.push(name);
        }
        let context = &self.shared.context;
        let engine = &*context.engine;
        let launch = Launch {
            context,
            task: self.task,
            attempt: &self.attempt,
            image,
            user,
            workspace,
            caches: &self.remains.caches,
        };
        let (mut config, input) = task_config(&launch, self.role, network)?;
        config.environment.extend(self.budget_left());
        if self.stops().now() != Urgency::None {
            return Ok(None);
        }
        let created = engine.create_container(&config).await;
        created.map_err(|error| self.shared.step_error("container", error))?;
        let output = engine
            .attach(&config.name, input)
            .await
            .map_err(StepError::engine("container"))?;
        Ok(Some((config.name, self.pump(output)?)))
    }

    pub(super) fn pump(&self, output: OutputStream) -> Result<Pumping, StepError> {
        let context = &self.shared.context;
        let name = self.attempt.container_name(self.role);
        let reopen = read_on(Arc::downgrade(&context.engine), name);
        let limit = u64::try_from(self.task.log_limit).unwrap_or(u64::MAX);
        let log = match self.role {
            Role::Verify => context.state.verify_log(&self.attempt),
            _ => context.state.log(&self.attempt),
        };
        let log = LogWriter::create(log, limit).map_err(|e| StepError::new("log", &e))?;
        let pump = Pump::new(
            self.task.id.clone(),
            log,
            &context.needles,
            Some(self.shared.lines.clone()),
            reopen,
        );
        let (tell, told) = oneshot::channel();
        let pump = tokio::spawn(pump.run(output, told));
        Ok(Pumping { pump, tell })
    }
}
