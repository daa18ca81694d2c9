//! What a container of an attempt needs before it can be created: an image, the proof that directories
//! arrive in it, what a setup prepares, and the directories.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Life, Made};
use crate::engine::Engine;
use crate::engine::config::{ImageRequest, NetworkAttachment};
use crate::id::AttemptId;
use crate::plan::TaskPlan;
use crate::runner::container::volume_configs;
use crate::runner::feedback::feedback;
use crate::runner::images::PreparedImage;
use crate::runner::prepare::{self, Beginning, Connection, make_workspace};
use crate::runner::proof::{self, Proof};
use crate::runner::services::{self, Served, ServiceFailure, Services, Snapshots};
use crate::runner::setup::{self, Job, Ready, SetupFailure};
use crate::runner::stops::Urgency;
use crate::runner::user::{ContainerUser, account_files};
use crate::runner::{StepError, blocking, session, views};
use crate::workspace::{PreparedPaths, SharedCheckout, Start, Workspace};

impl<E: Engine> Life<'_, E> {
    /// An image, or nothing if the run stopped meanwhile.
    pub(super) async fn image(
        &self,
        request: &ImageRequest,
    ) -> Result<Option<Arc<PreparedImage>>, StepError> {
        let mut stops = self.stops();
        let images = &self.shared.images;
        let limit = self.task.startup_timeout;
        if self.is_further() {
            images.forget_failure(request);
        }
        tokio::select! {
            image = timeout(limit, images.obtain(self.shared, request)) => match image {
                Ok(image) => image?,
                Err(_) => return Err(StepError {
                    stage: "image",
                    message: format!(
                        "image {} was not there within startup_timeout ({} s)",
                        request.reference,
                        limit.as_secs()
                    ),
                }),
            },
            () = stops.asked(Urgency::Graceful) => return Ok(None),
        };
        let image = images
            .prepare(self.shared, request, Some(self.task))
            .await?;
        Ok((stops.now() == Urgency::None).then_some(image))
    }

    /// Reads its secrets anew; says whether the run goes on meanwhile.
    pub(super) async fn read_secrets_again(&self) -> Result<bool, StepError> {
        let mut stops = self.stops();
        tokio::select! {
            read = self.shared.read_secrets_again(self.task) => read.map(|()| true),
            () = stops.asked(Urgency::Graceful) => Ok(false),
        }
    }

    /// No container of a task is created before it is known that directories of ours arrive in one.
    pub(super) async fn prove_mounts(
        &self,
        image: &PreparedImage,
        user: ContainerUser,
    ) -> Result<Proof, StepError> {
        let proof = self.shared.proofs.of(self.task.runtime.as_deref());
        let prove = || proof::of_containers(self.shared, self.task, (image, user));
        match proof.get_or_try_init(prove).await {
            Ok(Ok(proof)) => Ok(proof.clone()),
            Ok(Err(error)) => {
                self.shared.give_up(error.clone());
                Err(StepError::new("bind mounts", error))
            }
            Err(error) => Err(error),
        }
    }

    /// The setup of a task, if it has one.
    pub(super) async fn setup(
        &self,
        task: &TaskPlan,
        image: &Arc<PreparedImage>,
        user: ContainerUser,
    ) -> Result<Option<Job<E>>, StepError> {
        if task.setup.is_some() {
            self.prove_mounts(image, user).await?;
        }
        setup::of_task(self.shared, task, (image, user)).await
    }

    /// What a setup prepares, or nothing if the run stopped meanwhile.
    pub(super) async fn set_up(
        &mut self,
        setup: Option<Job<E>>,
    ) -> Result<Option<Arc<Ready>>, StepError> {
        let (begun, _) = oneshot::channel();
        let ready = setup::ready(setup, self.is_further(), begun).await;
        self.take_setup(ready)
    }

    /// Makes all that its container needs, and that, once the task's setup runs.
    pub(super) async fn make_beside(
        &mut self,
        (image, user): (&Arc<PreparedImage>, ContainerUser),
        (as_view, ready): (bool, &Arc<Ready>),
        setup_runs: oneshot::Receiver<()>,
    ) -> Result<Option<Made>, StepError> {
        // It would only be slower to start.
        let _ = setup_runs.await;
        let (proof, workspace, network) = tokio::join!(
            self.prove_mounts(image, user),
            self.workspace(image, user, (as_view, ready)),
            self.connect((image, user), ready),
        );
        let network = self.take_services(network);
        proof?;
        let (workspace, network) = (workspace?, network?);
        let caches = setup::take_caches(self.shared, self.task, &self.attempt, user);
        self.remains.caches = caches.await?;
        self.made((image, user), workspace, network).await
    }

    /// A container that has these; nothing if the run stopped meanwhile.
    pub(super) async fn made(
        &mut self,
        (image, user): (&PreparedImage, ContainerUser),
        workspace: Arc<Workspace>,
        network: Connection,
    ) -> Result<Option<Made>, StepError> {
        let created = self.create(image, user, &workspace, &network).await?;
        Ok(created.map(|created| Made {
            workspace,
            network,
            created,
        }))
    }

    /// Whether it is not the task's first attempt.
    pub(super) fn is_further(&self) -> bool {
        self.attempt.number > 1
    }

    /// What a setup prepared; or notes the log of one that failed.
    pub(super) fn take_setup(
        &mut self,
        ready: Result<Option<Arc<Ready>>, SetupFailure>,
    ) -> Result<Option<Arc<Ready>>, StepError> {
        ready.map_err(|failure| {
            self.setup_log = failure.log;
            self.pumped.last_lines = failure.last_lines;
            failure.error
        })
    }

    /// Whom services serve.
    pub(super) fn served(&self) -> Served<'_, E> {
        Served {
            shared: self.shared,
            task: self.task,
            attempt: &self.attempt,
            role: self.role,
        }
    }

    /// How its container is attached to the world, and to its services, which hold what their snapshots do.
    pub(super) async fn connect(
        &self,
        (image, user): (&Arc<PreparedImage>, ContainerUser),
        ready: &Ready,
    ) -> Result<(Connection, Services<E>), ServiceFailure> {
        let mut services = self.task.services.iter();
        if self.snapshots.get().is_none() && services.any(|service| service.snapshot.is_some()) {
            self.prove_mounts(image, user).await?;
            let made = setup::snapshots(self.served(), (image, user), ready).await?;
            let Some(made) = made else {
                let services = Services::none(self.shared);
                return Ok((NetworkAttachment::None.into(), services));
            };
            self.snapshots.get_or_init(|| made);
        }
        let none = Snapshots::new();
        let snapshots = self.snapshots.get().unwrap_or(&none);
        services::connect(self.served(), snapshots).await
    }

    /// Takes the services, and gives how they are reached; or notes the log of the one at fault.
    pub(super) fn take_services(
        &mut self,
        connected: Result<(Connection, Services<E>), ServiceFailure>,
    ) -> Result<Connection, StepError> {
        match connected {
            Ok((connection, services)) => {
                self.services = services;
                Ok(connection)
            }
            Err(failure) => {
                self.setup_log = failure.log;
                self.pumped.last_lines = failure.last_lines;
                Err(failure.error)
            }
        }
    }

    /// The worktree and what lies beside it.
    pub(super) async fn workspace(
        &self,
        image: &PreparedImage,
        user: ContainerUser,
        (as_view, ready): (bool, &Arc<Ready>),
    ) -> Result<Arc<Workspace>, StepError> {
        let beginning = self.beginning().await?;
        let view = if as_view && beginning.start.is_none() {
            self.shared_checkout(image, user).await?
        } else {
            None
        };
        self.make((image, user), (beginning, view), ready).await
    }

    /// Makes the directories and volumes of its container.
    pub(super) async fn make(
        &self,
        (image, user): (&PreparedImage, ContainerUser),
        (beginning, view): (Beginning, Option<Arc<SharedCheckout>>),
        ready: &Arc<Ready>,
    ) -> Result<Arc<Workspace>, StepError> {
        let views = if ready.paths.is_empty() {
            Ok(())
        } else {
            if image.facts.has_shell {
                self.shared.views.remember_image(&image.info.id);
            }
            self.prove_mounts(image, user).await?.views
        };
        let as_copies = views.is_err();
        let (passwd, group) = account_files(user, &image.facts.passwd, &image.facts.group);
        let (shared, attempt, task) =
            (self.shared.clone(), self.attempt.clone(), self.task.clone());
        let ready = ready.clone();
        let made = blocking(move || {
            let accounts = (passwd.as_str(), group.as_str());
            let paths = &ready.paths[..];
            let prepared = PreparedPaths { paths, as_copies };
            let from = (&beginning, view.as_deref(), prepared);
            make_workspace(&shared, (&attempt, &task), user, accounts, from)
        });
        let workspace = Arc::new(made.await?);
        let context = &self.shared.context;
        for volume in volume_configs(context, &self.attempt, &workspace) {
            let made = context.engine.create_volume(&volume).await;
            made.map_err(StepError::engine("workspace"))?;
        }
        Ok(workspace)
    }

    /// Fills the directories that are copies of what was prepared, where the engine cannot mount views.
    pub(super) async fn fill(
        &self,
        (image, user): (&PreparedImage, ContainerUser),
        workspace: &Workspace,
    ) -> Result<(), StepError> {
        if workspace.copies().is_empty() {
            return Ok(());
        }
        let Err(why) = self.prove_mounts(image, user).await?.views else {
            return Ok(());
        };
        let of = (self.task, &self.attempt);
        setup::fill_copies(self.shared, of, (image, user), workspace, &why).await
    }

    /// What the worktree is a view of; nothing where the engine cannot mount views.
    async fn shared_checkout(
        &self,
        image: &PreparedImage,
        user: ContainerUser,
    ) -> Result<Option<Arc<SharedCheckout>>, StepError> {
        if image.facts.has_shell {
            self.shared.views.remember_image(&image.info.id);
        }
        match self.prove_mounts(image, user).await?.views {
            Ok(()) => views::checkout(self.shared, user).await.map(Some),
            Err(why) => {
                views::refused(self.shared, self.task, &why);
                Ok(None)
            }
        }
    }

    /// Where the attempt begins, and what it is told.
    async fn beginning(&self) -> Result<Beginning, StepError> {
        let from = self.course.from();
        let start = match from {
            None => self.start.cloned(),
            Some(from) => {
                let of_run = self.shared.context.store.base();
                let base = self.start.map_or(of_run, |start| &start.base);
                let start = prepare::start(self.shared, (from.commit.clone(), base.clone()));
                let needs = self.start.map(|start| start.needs.clone());
                start.map(|start| Start {
                    needs: needs.unwrap_or_default(),
                    ..start
                })
            }
        };
        if let Some(bytes) = prepare::excess(self.shared, self.task, start.as_ref()).await? {
            let limit = self.task.disk_limit;
            return Err(StepError {
                stage: "workspace",
                message: format!(
                    "a checkout of the result that it starts from takes {bytes} bytes, and its disk_limit is {limit}"
                ),
            });
        }
        let session = session::of(self.shared, self.task, from);
        let Some(from) = from.cloned() else {
            return Ok(Beginning {
                start,
                session,
                ..Beginning::default()
            });
        };
        let log = self.shared.context.state.verify_log(&AttemptId {
            number: from.attempt,
            ..self.attempt.clone()
        });
        Ok(Beginning {
            start,
            feedback: Some(blocking(move || feedback(&from, &log)).await),
            session,
            role: None,
        })
    }
}
