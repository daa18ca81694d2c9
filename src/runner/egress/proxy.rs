//! The proxy's container: started, listened to, and started again where it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::place::place_of;
use super::{State, failed};
use crate::egress::{self, Said};
use crate::engine::config::{
    BuildConfig, ContainerConfig, ImageRequest, Limits, Mount, NetworkAttachment, PullPolicy,
    Trusted,
};
use crate::engine::{Engine, EngineError, ImageInfo, OutputSource, OutputStream};
use crate::event::EventKind;
use crate::id::{ImageRef, Role, label, run_container_name, run_labels};
use crate::journal::log::{LogStream, LogWriter};
use crate::runner::places::started;
use crate::runner::prepare::user;
use crate::runner::teardown::again;
use crate::runner::user::ContainerUser;
use crate::runner::{Shared, StepError, blocking};
use crate::secrets::Redactor;

/// How long it may take from its start until it is known to hold.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to write down what it still carries, when it is to end.
const GRACE: Duration = Duration::from_secs(3);
/// How long after its end it is started again: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// Size of its log, in bytes.
const LOG_LIMIT: u64 = 64 << 20;
/// Longest line of it that is read, in bytes.
const LONGEST_LINE: usize = 16 * 1024;

/// Keeps a proxy running until it is to end. What ends it before it has run once is its failure.
pub(super) async fn keep<E: Engine>(
    shared: Arc<Shared<E>>,
    tell: watch::Sender<State>,
    mut close: watch::Receiver<bool>,
) -> Vec<String> {
    let (mut pause, longest) = PAUSES;
    let path = shared.context.state.egress_log(&shared.context.plan.run);
    let mut log = match LogWriter::create(path, LOG_LIMIT) {
        Ok(log) => log,
        Err(error) => {
            tell.send_replace(State::Failed(StepError::new("log", &error)));
            return Vec::new();
        }
    };
    let mut has_held = false;
    let problems = loop {
        let mut once = Once {
            shared: &shared,
            tell: &tell,
            log: &mut log,
            redactors: std::array::from_fn(|_| Redactor::new(&shared.context.needles)),
            line: Vec::new(),
        };
        let ended = once.run(&mut close).await;
        let mut problems = once.remove().await;
        has_held |= matches!(*tell.borrow(), State::Holds);
        match ended {
            Ok(()) => break problems,
            Err(error) if !has_held => {
                tell.send_replace(State::Failed(error));
                break problems;
            }
            Err(error) => {
                tell.send_replace(State::Made);
                let why = error.message;
                problems.push(format!(
                    "the egress proxy does not run ({why}): until it does again, tasks with an allow-list reach nothing"
                ));
            }
        }
        for message in problems {
            shared.event(None, EventKind::Warning { message });
        }
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(longest),
            _ = close.wait_for(|is_closed| *is_closed) => break Vec::new(),
        }
    };
    problems.into_iter().chain(log.finish()).collect()
}

/// One container of it, from its start to its end.
struct Once<'a, E: Engine> {
    shared: &'a Arc<Shared<E>>,
    tell: &'a watch::Sender<State>,
    log: &'a mut LogWriter,
    /// Of standard output and of standard error.
    redactors: [Redactor; 2],
    /// The line that has begun.
    line: Vec<u8>,
}

impl<E: Engine> Once<'_, E> {
    fn name(&self) -> String {
        run_container_name(&self.shared.context.plan.run, Role::Egress, "proxy")
    }

    fn engine(&self) -> &E {
        &self.shared.context.engine
    }

    /// Runs it until it is to end, or has ended, which is an error.
    async fn run(&mut self, close: &mut watch::Receiver<bool>) -> Result<(), StepError> {
        let shared = self.shared;
        let request = image();
        shared.images.forget_failure(&request);
        // Nothing but this is given up half-way: what makes a container is followed to its end.
        let image = tokio::select! {
            image = shared.images.obtain(shared, &request) => image?,
            _ = close.wait_for(|is_closed| *is_closed) => return Ok(()),
        };
        let mut output = self.start(&image).await?;
        let late = sleep(READY);
        tokio::pin!(late);
        loop {
            let does_hold = matches!(*self.tell.borrow(), State::Holds);
            let frame = tokio::select! {
                frame = output.next() => frame,
                () = &mut late, if !does_hold => {
                    let limit = READY.as_secs();
                    return Err(self.failure(&format!("it was not ready within {limit} s")));
                }
                _ = close.wait_for(|is_closed| *is_closed) => break,
            };
            match frame {
                Some(Ok(frame)) => self.read(frame.source, &frame.bytes),
                // Its end, or that of the connection to the engine: who cannot be heard is as good as gone.
                Some(Err(error)) => return Err(StepError::engine("egress")(error)),
                None => return Err(self.failure(&self.end().await)),
            }
        }
        // What it still carries it writes down.
        let stopped = self.engine().stop(&self.name(), GRACE).await;
        let rest = async {
            while let Some(Ok(frame)) = output.next().await {
                self.read(frame.source, &frame.bytes);
            }
        };
        let _ = timeout(GRACE, rest).await;
        stopped.map_err(StepError::engine("egress"))
    }

    /// How it has ended, as a clause.
    async fn end(&self) -> String {
        match timeout(GRACE, self.engine().wait(&self.name())).await {
            Ok(Ok(exit)) if exit.oom_killed => "it ran out of memory".into(),
            Ok(Ok(exit)) => format!("it ended with exit code {}", exit.code),
            Ok(Err(error)) => StepError::engine("egress")(error).message,
            Err(_) => "its output ended".into(),
        }
    }

    fn failure(&self, why: &str) -> StepError {
        let log = self
            .shared
            .context
            .state
            .egress_log(&self.shared.context.plan.run);
        failed(format!("{why}; its log: {}", log.display()))
    }

    /// Creates the container, attaches to it and starts it.
    async fn start(&self, image: &ImageInfo) -> Result<OutputStream, StepError> {
        let shared = self.shared;
        let engine = self.engine();
        let name = self.name();
        let step = |error: EngineError| shared.step_error("egress", error);
        again(|| engine.remove_container(&name))
            .await
            .map_err(step)?;
        let user = user(&shared.context.info, None)?;
        let place = place_of(shared);
        let made = blocking({
            let (shared, place) = (shared.clone(), place.clone());
            move || place.make(&shared.egress.lists, user.owner)
        });
        made.await.map_err(|e| StepError::new("egress", &e))?;
        self.tell.send_if_modified(|state| {
            let is_first = matches!(state, State::Starting);
            if is_first {
                *state = State::Made;
            }
            is_first
        });
        let config = |network| (self.config(&image.id, user, network), None);
        started(shared, "egress", config).await
    }

    fn config(
        &self,
        image: &str,
        user: ContainerUser,
        network: NetworkAttachment,
    ) -> ContainerConfig {
        let context = &self.shared.context;
        let place = place_of(self.shared);
        let mut labels = run_labels(&context.plan.run, Role::Egress);
        labels.push((label::OWNER.into(), context.owner.clone()));
        labels.push((label::REPO.into(), context.repository.key().to_string()));
        let mount = |source, target: &str, read_only| Mount {
            source,
            target: target.to_owned(),
            read_only,
        };
        ContainerConfig {
            name: self.name(),
            labels,
            image: image.to_owned(),
            entrypoint: vec!["/bin/bash".into(), format!("{}/entry", egress::PROXY_FILES)],
            command: self.shared.egress.lists.trials(),
            environment: Vec::new(),
            working_dir: "/".into(),
            user: format!("{}:{}", user.uid, user.gid),
            host_name: "egress".into(),
            local_names: Vec::new(),
            mounts: vec![
                mount(place.files(), egress::PROXY_FILES, true),
                mount(place.shared(), egress::SHARED, false),
            ],
            volumes: Vec::new(),
            limits: limits(),
            capabilities: &[],
            trusted: Trusted::default(),
            read_only: true,
            network,
            // Ours, and no place for what an agent wrote.
            publish: Vec::new(),
            runtime: None,
            stop_signal: None,
            stop_timeout: GRACE,
            open_stdin: false,
        }
    }

    /// Reads what it says.
    fn read(&mut self, source: OutputSource, bytes: &[u8]) {
        let stream = match source {
            OutputSource::Stdout => LogStream::Stdout,
            OutputSource::Stderr => LogStream::Stderr,
        };
        // A task may put what it was granted into the name of a host.
        let masked = self.redactors[stream as usize].push(bytes);
        let bytes = &masked[..];
        self.log.write(stream, bytes);
        if source == OutputSource::Stderr {
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.take(Said::read(&String::from_utf8_lossy(&line)));
            }
        }
    }

    fn take(&self, said: Said) {
        let shared = self.shared;
        match said {
            Said::Ready => {
                self.tell.send_replace(State::Holds);
            }
            Said::Unreached { target, status } => {
                let why = match status {
                    0 => "no answer".to_owned(),
                    status => format!("HTTP status {status}"),
                };
                let message =
                    format!("{target} of an allow-list is not reached by the egress proxy: {why}");
                shared.event(None, EventKind::Warning { message });
            }
            Said::Asked(asked) => {
                if let Some(task) = shared.egress.count(&asked) {
                    let id = &shared.context.plan.tasks[task].id;
                    let (host, port) = (asked.host, asked.port);
                    shared.event(Some(id), EventKind::EgressDenied { host, port });
                }
            }
            Said::Other => {}
        }
    }

    /// Removes its container; gives what could not be.
    async fn remove(&self) -> Vec<String> {
        let name = self.name();
        let removed = again(|| self.engine().remove_container(&name)).await;
        let removed = removed.err().map(|e| StepError::new("remove", &e).message);
        removed.into_iter().collect()
    }
}

/// The image of it: pulled, else built from the Dockerfile that is part of agent-run.
fn image() -> ImageRequest {
    ImageRequest {
        reference: ImageRef::egress_proxy(),
        pull_policy: PullPolicy::Missing,
        build: Some(BuildConfig::EmbeddedEgressProxy),
    }
}

fn limits() -> Limits {
    Limits {
        nano_cpus: 1_000_000_000,
        memory: egress::MEMORY,
        memory_swap: egress::MEMORY,
        pids: 64,
        shm_size: 1 << 20,
        ulimits: BTreeMap::new(),
        tmpfs: BTreeMap::from([(
            "/tmp".into(),
            "rw,noexec,nosuid,nodev,size=16m,mode=1777".into(),
        )]),
    }
}
