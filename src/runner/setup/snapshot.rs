//! Services that hold something when a task begins: each is filled once by a script, ended cleanly and
//! made an image of, however many tasks wait for it.
//!
//! It is the job of a setup in all but what is kept. The script runs as tasks do, in the image of the
//! task that needs it first, on a checkout of the base of its own, beside a service of that one task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::job::{Job, Step, abandoned};
use super::{Ready, SetupFailure, base_files, failed, joined};
use crate::engine::config::Mount;
use crate::engine::{Engine, Exit, ImageInfo};
use crate::event::EventKind;
use crate::id::{Area, AttemptId, Role, hex_hash};
use crate::plan::{ServicePlan, SetupPlan, SetupUser, SnapshotPlan, TaskPlan};
use crate::runner::images::PreparedImage;
use crate::runner::prepare::Connection;
use crate::runner::services::{self, SERVICES, Served, Services, Snapshots};
use crate::runner::stops::Urgency;
use crate::runner::teardown::again;
use crate::runner::user::ContainerUser;
use crate::runner::{Shared, StepError};
use crate::workspace::{PreparedPath, SetupPlace};

/// Part of every key, to be changed with what is made here.
const FORMAT: u32 = 1;
/// How long a service may take to end by itself.
const GRACE: Duration = Duration::from_secs(60);
/// How a server ends that was asked to by a signal: by itself, or by HUP, INT, QUIT or TERM.
const CLEAN: [i64; 5] = [0, 129, 130, 131, 143];

/// The service that a job fills.
#[derive(Debug, Clone)]
pub(super) struct Target {
    attempt: AttemptId,
    service: ServicePlan,
    image: ImageInfo,
    /// What the setup of the task has prepared.
    paths: Vec<PreparedPath>,
}

/// A service that is there to be filled.
pub(super) struct Serving<'a, E: Engine> {
    served: Served<'a, E>,
    target: &'a Target,
    pub(super) connection: Connection,
    services: Services<E>,
    /// What was in its volumes before.
    volumes: BTreeMap<String, String>,
}

/// The images of the services of a task that have a snapshot; nothing if the task is to stop first.
pub(in crate::runner) async fn snapshots<E: Engine>(
    served: Served<'_, E>,
    (image, user): (&Arc<PreparedImage>, ContainerUser),
    prepared: &Ready,
) -> Result<Option<Snapshots>, SetupFailure> {
    let Served {
        shared,
        task,
        attempt,
        ..
    } = served;
    let mut all = Snapshots::new();
    for service in &task.services {
        let Some(snapshot) = &service.snapshot else {
            continue;
        };
        let Some(of) = services::image(served, &service.image).await? else {
            return Ok(None);
        };
        let target = Target {
            attempt: attempt.clone(),
            service: service.clone(),
            image: of,
            paths: prepared.paths.clone(),
        };
        let setup = SetupPlan {
            run: snapshot.script.clone(),
            files: Vec::new(),
            paths: Vec::new(),
            user: SetupUser::Agent,
            secrets: Vec::new(),
        };
        let key = key(shared, task, (snapshot, &target), (image, user)).await;
        let job = Job {
            shared: shared.clone(),
            task: task.clone(),
            setup,
            image: image.clone(),
            user,
            key: key.map_err(|error| target.at_fault(error.into()))?,
            target: Some(target.clone()),
            begun: watch::Sender::new(false),
        };
        match joined(job, attempt.number > 1, None).await {
            Ok(Some(ready)) => {
                let made = ready.server.clone();
                all.extend(made.map(|image| (service.name.clone(), image)));
            }
            Ok(None) => return Ok(None),
            Err(failure) => return Err(target.at_fault(failure)),
        }
    }
    Ok(Some(all))
}

/// Tells snapshots apart: equal ones hold the same. Of the task's own variables only the names count.
async fn key<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    (snapshot, target): (&SnapshotPlan, &Target),
    (image, user): (&PreparedImage, ContainerUser),
) -> Result<String, StepError> {
    let mut ids = Vec::new();
    if !snapshot.files.is_empty() {
        let area = Area::of(&snapshot.files);
        let files = base_files(shared).await?.iter();
        ids.extend(files.filter(|(path, _)| area.covers(path.as_bytes())));
    }
    let ids: Vec<_> = ids.iter().map(|(path, entry)| (path, &entry.id)).collect();
    let service = &target.service;
    let values = service.environment.iter();
    let values: BTreeMap<_, _> = values.map(|(name, v)| (name, v.expose())).collect();
    let variables: Vec<&String> = task.environment.keys().collect();
    let paths = target.paths.iter();
    let paths: Vec<_> = paths
        .map(|path| (path.path.as_str(), &path.source))
        .collect();
    let tmpfs: Vec<_> = service.limits.tmpfs.keys().collect();
    let mounts: Vec<_> = service.mounts.iter().map(|mount| &mount.target).collect();
    let context = &shared.context;
    let text = serde_json::json!({
        "format": FORMAT,
        "state": context.state.path(),
        "repository": context.repository.key(),
        "script": snapshot.script,
        "files": ids,
        "service": [&service.name.to_string(), &target.image.id],
        "command": [&service.entrypoint, &service.command],
        "runs": [&service.user, &service.working_dir],
        // What is in these directories is not in the image.
        "elsewhere": [tmpfs, mounts],
        "values": values,
        "image": image.info.id,
        "result": context.plan.result(),
        "user": [user.uid, user.gid],
        "variables": variables,
        "paths": paths,
        "runtime": task.runtime,
    });
    Ok(hex_hash(format!("snapshot {text}").as_bytes(), 16))
}

impl Target {
    /// Says whose snapshot it is that failed.
    fn at_fault(&self, mut failure: SetupFailure) -> SetupFailure {
        let StepError { stage, message } = &mut failure.error;
        if *stage == "setup" {
            *stage = SERVICES;
        }
        *message = format!("snapshot of service `{}`: {message}", self.service.name);
        failure
    }

    /// The task with this service alone, whose variables come by `entry`.
    fn alone(&self, task: &TaskPlan, entry: Option<&Mount>) -> TaskPlan {
        let mut service = self.service.clone();
        service.snapshot = None;
        service.mounts.extend(entry.cloned());
        TaskPlan {
            services: vec![service],
            ports: Vec::new(),
            ..task.clone()
        }
    }

    /// As words of what is told.
    pub(super) fn word(&self) -> String {
        format!("(snapshot of service `{}`) ", self.service.name)
    }

    /// Where the script sees what the task's setup has prepared.
    pub(super) fn mounts(&self) -> impl Iterator<Item = Mount> {
        self.paths.iter().map(|path| Mount {
            source: path.source.clone(),
            target: format!("/workspace/{}", path.path),
            read_only: true,
        })
    }
}

impl<E: Engine> Job<E> {
    /// Starts the service, runs the script beside it, and keeps what the service has then.
    pub(super) async fn fill(
        &self,
        (target, place): (&Target, &SetupPlace),
        container: &str,
        waiting: &mut watch::Receiver<usize>,
        deadline: Instant,
    ) -> Result<Step<Ready>, SetupFailure> {
        let task = target.alone(&self.task, place.entry());
        let served = Served {
            shared: &self.shared,
            task: &task,
            attempt: &target.attempt,
            role: Role::Setup,
        };
        let filled = self.beside(served, (target, place), container, (waiting, deadline));
        let filled = filled.await;
        let engine = &*self.shared.context.engine;
        for name in served.containers() {
            if let Err(error) = again(|| engine.remove_container(&name)).await {
                let message = StepError::new("remove", &error).message;
                self.shared
                    .event(Some(&self.task.id), EventKind::Warning { message });
            }
        }
        filled
    }

    async fn beside(
        &self,
        served: Served<'_, E>,
        (target, place): (&Target, &SetupPlace),
        container: &str,
        (waiting, deadline): (&mut watch::Receiver<usize>, Instant),
    ) -> Result<Step<Ready>, SetupFailure> {
        let (connection, services) = services::connect(served, &Snapshots::new()).await?;
        let mut serving = Serving {
            served,
            target,
            connection,
            services,
            volumes: BTreeMap::new(),
        };
        // Then it may be that nothing was started.
        let filled = if self.shared.stops(&self.task.id).now() == Urgency::None {
            let name = served.container_of(&target.service.name);
            let engine = &*self.shared.context.engine;
            let volumes = tokio::select! {
                volumes = engine.volume_contents(&name) => Some(volumes),
                () = abandoned(waiting) => None,
            };
            match volumes {
                Some(Ok(volumes)) => {
                    serving.volumes = volumes;
                    let (serving, waits) = (Some(&mut serving), (waiting, deadline));
                    self.run(place, container, serving, waits).await
                }
                Some(Err(error)) => Err(StepError::engine("setup")(error).into()),
                None => Ok(Step::Abandoned),
            }
        } else {
            Ok(Step::Abandoned)
        };
        serving.services.close().await;
        filled
    }
}

impl<E: Engine> Serving<'_, E> {
    /// Ends the service, and gives its container where all that it holds is in that.
    pub(super) async fn end(&mut self) -> Result<String, StepError> {
        let Target { service, image, .. } = self.target;
        let name = self.served.container_of(&service.name);
        let exit = self.services.end_cleanly(&name, GRACE).await?;
        if exit.oom_killed || !CLEAN.contains(&exit.code) {
            return Err(failed(unclean(image, exit)));
        }
        let engine = &*self.served.shared.context.engine;
        let volumes = engine.volume_contents(&name).await;
        let volumes = volumes.map_err(StepError::engine("setup"))?;
        let mut written = volumes.iter();
        let written = written.find(|(path, print)| self.volumes.get(*path) != Some(*print));
        if let Some((path, _)) = written {
            return Err(failed(format!(
                "the service keeps its data in {path}, which its image declares as a VOLUME: no image that is made of a \
                 container has what is in a volume; let the service keep it in another directory"
            )));
        }
        let written = engine.disk_use(&name).await;
        if written.map_err(StepError::engine("setup"))? == Some(0) {
            return Err(failed(
                "the service wrote nothing in its file system, so that a snapshot of it would be empty: \
                 let it keep its data in a directory that is no `tmpfs`",
            ));
        }
        Ok(name)
    }
}

fn unclean(image: &ImageInfo, exit: Exit) -> String {
    let signal = image.stop_signal.as_deref().unwrap_or("SIGTERM");
    let how = match exit {
        Exit {
            oom_killed: true, ..
        } => "it ran out of memory".to_owned(),
        Exit { code: 137, .. } => {
            let grace = GRACE.as_secs();
            format!("it had not ended {grace} s after {signal}, and was killed")
        }
        Exit { code, .. } => format!("its exit code is {code}, and not 0 as after {signal}"),
    };
    format!("the service did not end cleanly, so that its data may not be whole: {how}")
}
