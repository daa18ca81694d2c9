//! One setup: found, or carried out in a container on a clean checkout of the base.
//!
//! A job is never dropped half-way; what it makes is whole under its name at the end, or removed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::removal::Removal;
use super::snapshot::{Serving, Target};
use super::{Ended, Ready, SetupFailure, failed, variables_as_input};
use crate::engine::config::{
    CommitConfig, ContainerConfig, ImageRequest, NetworkAttachment, PullPolicy, Trusted,
};
use crate::engine::{Engine, ErrorKind, Exit, OutputStream};
use crate::event::{EventKind, TaskOutcome};
use crate::id::{ImageRef, Role, label, run_container_name, run_labels};
use crate::journal::log::LogWriter;
use crate::plan::{SetupPlan, SetupUser, TaskPlan};
use crate::runner::container::{SECRETS, grants, limits_environment, secrets_mount};
use crate::runner::disk::DiskWatch;
use crate::runner::images::PreparedImage;
use crate::runner::outcome::{StoppedBy, outcome};
use crate::runner::places::started;
use crate::runner::prepare::Connection;
use crate::runner::probe::facts_of;
use crate::runner::pump::{Ending, Pump, Pumped, read_on};
use crate::runner::teardown::again;
use crate::runner::user::{ContainerUser, account_files};
use crate::runner::{Shared, StepError, blocking};
use crate::secrets::SecretBytes;
use crate::workspace::{KeepError, Prepared, PreparedLock, SetupPlace, SetupRequest};

/// How often the lock of another run's job is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// How long the engine may take to report the end of a container that it has killed.
const REAP: Duration = Duration::from_secs(10);
/// What giving root's files to the agent may take, in seconds.
const GIVE: &str = "300";
/// What package managers need as root: to unpack files of any owner, and to run their own steps as
/// other users.
const ROOT: &[&str] = &["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"];

/// What a setup is carried out with.
pub(in crate::runner) struct Job<E: Engine> {
    pub(super) shared: Arc<Shared<E>>,
    /// The task that needs it first.
    pub(super) task: TaskPlan,
    pub(super) setup: SetupPlan,
    pub(super) image: Arc<PreparedImage>,
    pub(super) user: ContainerUser,
    pub(super) key: String,
    /// The service that its script fills, where it does: that is what an image is made of then.
    pub(super) target: Option<Target>,
    /// Whether its container was started.
    pub(super) begun: watch::Sender<bool>,
}

/// How far a job came.
pub(super) enum Step<T> {
    Done(T),
    Abandoned,
}

impl<E: Engine> Job<E> {
    /// What it will have prepared, where that is known before: an image is not.
    pub(in crate::runner) fn expected(&self) -> Option<Ready> {
        if self.setup.user == SetupUser::Root {
            return None;
        }
        let context = &self.shared.context;
        let directory = (&context.state, context.repository.key(), &*self.key);
        Some(Ready {
            paths: Prepared::expected(directory, &self.setup.paths),
            ..Ready::default()
        })
    }

    /// Carries it out, as long as anybody waits for it.
    pub(super) async fn carry_out(&self, mut waiting: watch::Receiver<usize>) -> Ended {
        match self.find_or_make(&mut waiting).await {
            Ok(Step::Done(ready)) => Ended::Ready(Arc::new(ready)),
            Ok(Step::Abandoned) => Ended::Abandoned,
            Err(failure) => Ended::Failed(failure),
        }
    }

    async fn find_or_make(
        &self,
        waiting: &mut watch::Receiver<usize>,
    ) -> Result<Step<Ready>, SetupFailure> {
        let deadline = Instant::now() + self.task.startup_timeout;
        let lock = tokio::select! {
            lock = timeout_at(deadline, self.lock()) => match lock {
                Ok(lock) => lock?,
                Err(_) => return Err(failed(format!(
                    "another run carries it out, and was not done within startup_timeout ({} s)",
                    self.task.startup_timeout.as_secs()
                )).into()),
            },
            () = abandoned(waiting) => return Ok(Step::Abandoned),
        };
        let ready = match self.find().await? {
            Some(ready) => Step::Done(ready),
            None => self.make(waiting, (deadline, lock)).await?,
        };
        Ok(ready)
    }

    async fn lock(&self) -> Result<PreparedLock, StepError> {
        loop {
            let (shared, key) = (self.shared.clone(), self.key.clone());
            let tried = blocking(move || {
                let context = &shared.context;
                PreparedLock::try_acquire(&context.state, context.repository.key(), &key)
            });
            let tried = tried.await.map_err(|e| StepError::new("setup", &e))?;
            if let Some(lock) = tried {
                return Ok(lock);
            }
            sleep(LOCK_PAUSE).await;
        }
    }

    /// What an earlier job has prepared, if all of it is still there.
    async fn find(&self) -> Result<Option<Ready>, StepError> {
        let (shared, key) = (self.shared.clone(), self.key.clone());
        let found = blocking(move || {
            let context = &shared.context;
            Prepared::find(&context.state, context.repository.key(), &key)
        });
        let Some(found) = found.await else {
            return Ok(None);
        };
        let image = match found.image().map(str::parse::<ImageRef>) {
            None => None,
            Some(Err(_)) => return Ok(None),
            Some(Ok(reference)) => {
                let request = ImageRequest {
                    reference,
                    pull_policy: PullPolicy::Never,
                    build: None,
                };
                match self.shared.context.engine.ensure_image(&request).await {
                    Ok(info) => Some(info),
                    // Somebody has removed it.
                    Err(error) if matches!(error.kind, ErrorKind::ImageUnavailable(_)) => {
                        return Ok(None);
                    }
                    Err(error) => return Err(StepError::new("setup", &error)),
                }
            }
        };
        self.ready(found, image).await.map(Some)
    }

    /// Notes the use of what was prepared, before anybody else may remove it.
    async fn ready(
        &self,
        prepared: Prepared,
        image: Option<crate::engine::ImageInfo>,
    ) -> Result<Ready, StepError> {
        let shared = self.shared.clone();
        let paths = prepared.paths();
        let noted = blocking(move || {
            let context = &shared.context;
            prepared.use_in(&context.state, &context.plan.run)
        });
        noted.await.map_err(|e| StepError::new("setup", &e))?;
        let mut ready = Ready {
            paths,
            ..Ready::default()
        };
        match (image, &self.target) {
            (None, _) => {}
            (server, Some(_)) => ready.server = server,
            (Some(info), None) => {
                let prober = self.shared.context.prober_of(&self.task);
                let facts = facts_of(&prober, &info).await?;
                ready.image = Some(Arc::new(PreparedImage { info, facts }));
            }
        }
        Ok(ready)
    }

    fn log(&self) -> PathBuf {
        let context = &self.shared.context;
        context.state.setup_log(&context.plan.run, &self.key)
    }

    fn tell(&self, status: &str) {
        let log = self.log();
        let of = self.target.as_ref().map(Target::word).unwrap_or_default();
        let status = format!("{of}{status}");
        let kind = EventKind::Setup { status, log };
        self.shared.event(Some(&self.task.id), kind);
    }

    /// Makes it; what was begun is removed, beside the tasks that wait where all is there for them.
    async fn make(
        &self,
        waiting: &mut watch::Receiver<usize>,
        (deadline, lock): (Instant, PreparedLock),
    ) -> Result<Step<Ready>, SetupFailure> {
        let began = Instant::now();
        self.tell("runs");
        let place = self.on_disk(|request| SetupPlace::make(&request)).await;
        let place = place.map_err(|e| StepError::new("setup", &e))?;
        let container = run_container_name(&self.shared.context.plan.run, Role::Setup, &self.key);
        let made = match &self.target {
            None => {
                self.run(&place, &container, None, (waiting, deadline))
                    .await
            }
            Some(target) => {
                self.fill((target, &place), &container, waiting, deadline)
                    .await
            }
        };
        let context = &self.shared.context;
        let (engine, state) = (context.engine.clone(), context.state.clone());
        let removal = async move {
            let removed = again(|| engine.remove_container(&container)).await;
            let cleared = blocking(move || place.remove(&state)).await;
            // Nobody else makes it before.
            drop(lock);
            let removed = removed.err().map(|e| StepError::new("remove", &e).message);
            let cleared = cleared.err().map(|e| StepError::new("remove", &e).message);
            removed.into_iter().chain(cleared).collect()
        };
        let removal = Removal::begin(removal);
        if matches!(made, Ok(Step::Done(_))) {
            self.tell(&format!("ready after {:.1?}", began.elapsed()));
            self.shared.setups.leave(removal);
        } else {
            for message in removal.ends().await {
                let kind = EventKind::Warning { message };
                self.shared.event(Some(&self.task.id), kind);
            }
        }
        made
    }

    /// Does something with the request for the place, on a thread that may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        act: impl FnOnce(SetupRequest<'_>) -> T + Send + 'static,
    ) -> T {
        let (shared, key, script) = (
            self.shared.clone(),
            self.key.clone(),
            self.setup.run.clone(),
        );
        let (facts, user) = (self.image.facts.clone(), self.user);
        let is_root = self.setup.user == SetupUser::Root;
        blocking(move || {
            let context = &shared.context;
            let (passwd, group) = account_files(user, &facts.passwd, &facts.group);
            // What is installed as root may add users.
            let accounts = (!is_root).then_some((passwd.as_str(), group.as_str()));
            act(SetupRequest {
                git: context.repository.git(),
                state: &context.state,
                repository: context.repository.key(),
                store: &context.store,
                key: &key,
                owner: user.owner,
                script: &script,
                accounts,
            })
        })
        .await
    }

    /// Runs the container to its end, and keeps what is to be kept.
    pub(super) async fn run(
        &self,
        place: &SetupPlace,
        container: &str,
        serving: Option<&mut Serving<'_, E>>,
        (waiting, deadline): (&mut watch::Receiver<usize>, Instant),
    ) -> Result<Step<Ready>, SetupFailure> {
        let connection = serving.as_ref().map(|serving| &serving.connection);
        let output = self.start(place, container, connection).await?;
        self.begun.send_replace(true);
        let (tell, told) = oneshot::channel();
        let pump = tokio::spawn(self.pump(container)?.run(output, told));
        let ended = self.watch(place, container, waiting, deadline).await;
        let _ = tell.send(match ended {
            Ok(_) => Ending::Ended,
            Err(_) => Ending::Unknown,
        });
        let pumped = match pump.await {
            Ok(pumped) => pumped,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        for message in &pumped.gaps {
            let message = format!("setup: {message}");
            self.shared
                .event(Some(&self.task.id), EventKind::Warning { message });
        }
        let (stopped, exit) = ended.map_err(|error| self.failure(&error.message, &pumped))?;
        if stopped == Some(StoppedBy::Shutdown) {
            return Ok(Step::Abandoned);
        }
        if let Some(why) = self.verdict(&outcome(stopped, exit)) {
            return Err(self.failure(&why, &pumped));
        }
        let of = match serving {
            Some(serving) => tokio::select! {
                ended = serving.end() => ended.map(Some),
                () = abandoned(waiting) => return Ok(Step::Abandoned),
            },
            None => Ok((self.setup.user == SetupUser::Root).then(|| container.to_owned())),
        };
        let kept = match of {
            Ok(of) => self.keep(place, of).await,
            Err(error) => Err(error),
        };
        kept.map(Step::Done)
            .map_err(|error| self.failure(&error.message, &pumped))
    }

    fn failure(&self, why: &str, pumped: &Pumped) -> SetupFailure {
        let log = self.log();
        SetupFailure {
            error: failed(format!("{why}; its log: {}", log.display())),
            log: Some(log),
            last_lines: pumped.last_lines.clone(),
        }
    }

    /// Why a setup that ended so has failed, as a clause.
    fn verdict(&self, outcome: &TaskOutcome) -> Option<String> {
        let what = match self.target {
            None => "the setup",
            Some(_) => "the script",
        };
        Some(match outcome {
            TaskOutcome::Succeeded => return None,
            TaskOutcome::TimedOut => {
                let limit = self.task.startup_timeout.as_secs();
                format!("{what} did not end within startup_timeout ({limit} s)")
            }
            TaskOutcome::OutOfMemory => format!("{what} ran out of memory (`mem_limit`)"),
            TaskOutcome::OutOfDisk { .. } => format!("{what} used more than `disk_limit`"),
            TaskOutcome::Killed { signal } => format!("{what} was ended by signal {signal}"),
            TaskOutcome::Failed { exit_code: 125 } => {
                format!("{what} could not be started: its image needs `base64` and `/bin/sh`")
            }
            TaskOutcome::Failed { exit_code } => {
                format!("{what} ended with exit code {exit_code}")
            }
            other => format!("{what} ended as {other:?}"),
        })
    }

    fn pump(&self, container: &str) -> Result<Pump, StepError> {
        let context = &self.shared.context;
        let limit = u64::try_from(self.task.log_limit).unwrap_or(u64::MAX);
        let log = LogWriter::create(self.log(), limit).map_err(|e| StepError::new("log", &e))?;
        let (task, lines) = (self.task.id.clone(), self.shared.lines.clone());
        let reopen = read_on(Arc::downgrade(&context.engine), container.to_owned());
        Ok(Pump::new(task, log, &context.needles, Some(lines), reopen))
    }

    /// Creates the container, attaches to it and starts it.
    async fn start(
        &self,
        place: &SetupPlace,
        name: &str,
        connection: Option<&Connection>,
    ) -> Result<OutputStream, StepError> {
        let Some(connection) = connection else {
            let config = |network| {
                let (config, input) = self.config(place, name, network);
                (config, Some(input))
            };
            return started(&self.shared, "setup", config).await;
        };
        let (mut config, input) = self.config(place, name, connection.attachment.clone());
        config.mounts.extend_from_slice(&connection.mounts);
        config
            .mounts
            .extend(self.target.iter().flat_map(Target::mounts));
        config
            .environment
            .extend_from_slice(&connection.environment);
        let engine = &*self.shared.context.engine;
        let step = |error| self.shared.step_error("setup", error);
        engine.create_container(&config).await.map_err(step)?;
        let output = engine.attach(name, Some(input)).await.map_err(step)?;
        engine.start(name).await.map_err(step)?;
        Ok(output)
    }

    /// The container, and what is written to its standard input.
    fn config(
        &self,
        place: &SetupPlace,
        name: &str,
        network: NetworkAttachment,
    ) -> (ContainerConfig, SecretBytes) {
        let context = &self.shared.context;
        let is_root = self.setup.user == SetupUser::Root;
        let mut labels = run_labels(&context.plan.run, Role::Setup);
        labels.push((label::OWNER.into(), context.owner.clone()));
        labels.push((label::REPO.into(), context.repository.key().to_string()));
        let words: &[&str] = if self.setup.run.starts_with("#!") {
            &["/agent/script"]
        } else {
            &["/bin/sh", "-eu", "/agent/script"]
        };
        let entry = ["/bin/sh", "/agent/setup-entry", "/bin/sh", "/agent/entry"];
        let mut config = ContainerConfig {
            name: name.to_owned(),
            labels,
            image: self.image.info.id.clone(),
            // All words are here: an empty CMD is not taken for that of the image that is made.
            entrypoint: [&entry, words]
                .concat()
                .into_iter()
                .map(Into::into)
                .collect(),
            command: Vec::new(),
            environment: Vec::new(),
            working_dir: "/workspace".into(),
            user: if is_root {
                "0:0".into()
            } else {
                format!("{}:{}", self.user.uid, self.user.gid)
            },
            host_name: "setup".into(),
            local_names: Vec::new(),
            mounts: place.mounts().to_vec(),
            volumes: Vec::new(),
            limits: self.task.limits.clone(),
            capabilities: if is_root { ROOT } else { &[] },
            trusted: Trusted::default(),
            read_only: false,
            network,
            publish: Vec::new(),
            runtime: self.task.runtime.clone(),
            stop_signal: None,
            stop_timeout: Duration::ZERO,
            open_stdin: true,
        };
        let (as_files, as_variables) = grants(&context.secrets, &self.setup.secrets);
        if !as_files.is_empty() {
            let user = if is_root {
                (0, 0)
            } else {
                (self.user.uid, self.user.gid)
            };
            config
                .limits
                .tmpfs
                .insert(SECRETS.into(), secrets_mount(user));
        }
        let names: Vec<&str> = as_files.iter().map(|(name, _)| name.as_str()).collect();
        let mut variables = self.variables(names.join(" "));
        variables.extend(as_variables);
        let mut input = variables_as_input(variables);
        for (_, value) in &as_files {
            input += &(BASE64.encode(value) + "\n");
        }
        (config, SecretBytes::new(input.into_bytes()))
    }

    /// The variables of the setup: the task's, and what the wrapper needs.
    fn variables(&self, secrets: String) -> BTreeMap<String, String> {
        let task = &self.task;
        let home = match self.setup.user {
            SetupUser::Root => "/root",
            SetupUser::Agent => "/home/agent",
        };
        let ContainerUser { uid, gid, .. } = self.user;
        let owner = match self.setup.user {
            SetupUser::Root => format!("{uid}:{gid}"),
            SetupUser::Agent => String::new(),
        };
        // The runner holds the deadline; the wrapper's is for orphans.
        let orphan = task.startup_timeout + Duration::from_secs(60);
        let own = [
            ("HOME", home.to_owned()),
            ("AGENT_RUN_ID", self.shared.context.plan.run.to_string()),
            ("AGENT_SETUP", "1".into()),
            ("AGENT_BASE", self.shared.context.store.base().to_string()),
            ("AGENT_DEADLINE", orphan.as_secs().to_string()),
            ("AGENT_GRACE", "1".into()),
            ("AGENT_HANDOFF", GIVE.into()),
            ("AGENT_OWNER", owner),
            ("AGENT_SECRETS", secrets),
            ("GIT_CONFIG_COUNT", "1".into()),
            ("GIT_CONFIG_KEY_0", "safe.directory".into()),
            ("GIT_CONFIG_VALUE_0", "*".into()),
        ];
        let own = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        let theirs = task.environment.iter();
        let theirs = theirs.map(|(name, value)| (name.clone(), value.expose().to_owned()));
        own.chain(limits_environment(task)).chain(theirs).collect()
    }

    /// Waits for the container's end, or ends it.
    async fn watch(
        &self,
        place: &SetupPlace,
        name: &str,
        waiting: &mut watch::Receiver<usize>,
        deadline: Instant,
    ) -> Result<(Option<StoppedBy>, Exit), StepError> {
        let engine = &*self.shared.context.engine;
        let wait = engine.wait(name);
        let disk = DiskWatch::of_setup(engine, name, &self.task, place.written());
        tokio::pin!(wait);
        let stopped = tokio::select! {
            exit = &mut wait => return Ok((None, exit.map_err(StepError::engine("setup"))?)),
            () = tokio::time::sleep_until(deadline) => StoppedBy::Deadline,
            () = abandoned(waiting) => StoppedBy::Shutdown,
            used = disk.over_limit() => StoppedBy::Disk(used),
        };
        let killed = engine.stop(name, Duration::ZERO).await;
        killed.map_err(StepError::engine("setup"))?;
        match tokio::time::timeout(REAP, wait).await {
            Ok(exit) => Ok((Some(stopped), exit.map_err(StepError::engine("setup"))?)),
            Err(_) => Err(failed(format!(
                "container {name} did not end after it was killed"
            ))),
        }
    }

    /// Keeps an image of the container, if one is given, and the directories, under their names.
    async fn keep(
        &self,
        place: &SetupPlace,
        container: Option<String>,
    ) -> Result<Ready, StepError> {
        let context = &self.shared.context;
        let image = if let Some(container) = container {
            let config = CommitConfig {
                reference: ImageRef::prepared(&self.key),
                labels: vec![
                    (label::IMAGE.into(), label::SCHEMA_VERSION.into()),
                    (label::REPO.into(), context.repository.key().to_string()),
                    (label::STATE.into(), context.state.key()),
                ],
            };
            let made = context.engine.commit(&container, &config).await;
            Some(made.map_err(StepError::engine("setup"))?)
        } else {
            None
        };
        let id = image.as_ref().map(|image| image.id.clone());
        let (place, paths) = (place.clone(), self.setup.paths.clone());
        let kept = self.on_disk(move |request| place.keep(&request, &paths, id.as_deref()));
        let kept = kept.await.map_err(|error| match error {
            KeepError::NotMade { .. } => failed(error.to_string()),
            KeepError::Workspace(error) => StepError::new("setup", &error),
        })?;
        self.ready(kept, image).await
    }
}

/// Returns once nobody waits any more.
pub(super) async fn abandoned(waiting: &mut watch::Receiver<usize>) {
    if waiting.wait_for(|waiting| *waiting == 0).await.is_err() {
        std::future::pending::<()>().await;
    }
}
