//! What an image holds, asked once of a container of it.
//!
//! The answers are an image's own words: they decide how its tasks are started, nothing on the host.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::teardown::again;
use super::{RunContext, StepError, blocking};
use crate::engine::config::{ContainerConfig, Limits, NetworkAttachment, Trusted};
use crate::engine::{Engine, EngineError, ErrorKind, ImageInfo, Operation, OutputSource};
use crate::id::{Role, RunId, StateDir, hex_hash, label, run_container_name, run_labels};
use crate::plan::TaskPlan;

/// How long a probe may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How much of a probe's answer is read, in bytes.
const ANSWER_LIMIT: usize = 256 * 1024;
/// Exit codes for a program that is there and cannot run, and for one that is not there.
const NOT_EXECUTABLE: i64 = 126;
const NOT_FOUND: i64 = 127;
/// How many marks an answer has.
const MARKS: usize = 3;
/// Stands between the parts of the answer.
pub(super) const MARK: &str = "--agent-run-probe--";
/// Asks for git, the accounts, and the directory that should have arrived.
pub(super) const QUESTIONS: &str = r#"
command -v git >/dev/null 2>&1 && echo git
echo "$AGENT_MARK"; cat /etc/passwd 2>/dev/null
echo "$AGENT_MARK"; cat /etc/group 2>/dev/null
echo "$AGENT_MARK"; cat /agent/probe/sent 2>/dev/null
cat /agent/probe/sent > /agent/probe/received 2>/dev/null
exit 0
"#;

/// What probes are started with.
#[derive(Debug)]
pub(super) struct Prober<'a, E: Engine> {
    pub(super) engine: &'a Arc<E>,
    /// Where the engine was reached.
    pub(super) endpoint: &'a str,
    pub(super) state: &'a StateDir,
    /// The run that they serve.
    pub(super) run: &'a RunId,
    /// The owner label.
    pub(super) owner: &'a str,
    /// How long a probe may take.
    pub(super) limit: Duration,
    /// What runs them; the engine's default where nothing is said.
    pub(super) runtime: Option<&'a str>,
}

impl<E: Engine> RunContext<E> {
    /// For the probes of this run.
    pub(super) fn prober(&self) -> Prober<'_, E> {
        Prober {
            engine: &self.engine,
            endpoint: &self.info.endpoint,
            state: &self.state,
            run: &self.plan.run,
            owner: &self.owner,
            limit: LIMIT,
            runtime: None,
        }
    }

    /// The same, run by what runs the containers of a task.
    pub(super) fn prober_of<'a>(&'a self, task: &'a TaskPlan) -> Prober<'a, E> {
        Prober {
            runtime: task.runtime.as_deref(),
            ..self.prober()
        }
    }
}

/// What an image was found to hold. Kept in the state directory by image id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct ImageFacts {
    pub(super) has_shell: bool,
    pub(super) has_git: bool,
    pub(super) passwd: String,
    pub(super) group: String,
}

/// What an image holds: known from an earlier run, or asked now.
pub(super) async fn facts_of<E: Engine>(
    prober: &Prober<'_, E>,
    image: &ImageInfo,
) -> Result<ImageFacts, StepError> {
    let file = prober.state.image_facts(&image.id);
    let known = blocking({
        let file = file.clone();
        move || read_facts(&file)
    });
    if let Some(facts) = known.await {
        return Ok(facts);
    }
    let facts = probe(prober, image).await?;
    let to_keep = facts.clone();
    blocking(move || write_facts(&file, &to_keep)).await;
    Ok(facts)
}

fn read_facts(file: &Path) -> Option<ImageFacts> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// A cache that cannot be written costs the next run a probe and nothing else.
fn write_facts(file: &Path, facts: &ImageFacts) {
    let Some(directory) = file.parent() else {
        return;
    };
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| tempfile::NamedTempFile::new_in(directory))
        .and_then(|mut temporary| {
            serde_json::to_writer(&mut temporary, facts)?;
            Ok(temporary)
        });
    if let Ok(temporary) = written {
        let _ = temporary.persist(file);
    }
}

async fn probe<E: Engine>(
    prober: &Prober<'_, E>,
    image: &ImageInfo,
) -> Result<ImageFacts, StepError> {
    let mut config = prober.config("image", &image.id, QUESTIONS);
    config.environment = vec![("AGENT_MARK".into(), MARK.into())];
    let answer = prober.ask(&config).await;
    let answer = answer.map_err(StepError::engine("probe"))?;
    // What is kept is believed for ever.
    if answer.as_ref().is_some_and(|text| is_cut_off(text)) {
        return Err(StepError {
            stage: "probe",
            message: format!("the answer of container {} was cut off", config.name),
        });
    }
    Ok(answer.map(|text| facts(&text)).unwrap_or_default())
}

/// Whether an answer ends before it should, though it is not too long.
fn is_cut_off(answer: &str) -> bool {
    answer.len() < ANSWER_LIMIT && answer.matches(MARK).count() < MARKS
}

/// Reads the answer; whatever is not as expected counts as absent.
fn facts(answer: &str) -> ImageFacts {
    let mut parts = answer.split(MARK).map(|part| part.trim_start_matches('\n'));
    let mut part = || parts.next().unwrap_or_default().to_owned();
    ImageFacts {
        has_git: part().trim() == "git",
        passwd: part(),
        group: part(),
        has_shell: true,
    }
}

impl<E: Engine> Prober<'_, E> {
    /// A container that runs a script of `sh`, without network and mounts, as nobody.
    pub(super) fn config(&self, purpose: &str, image: &str, script: &str) -> ContainerConfig {
        let mut labels = run_labels(self.run, Role::Probe);
        labels.push((label::OWNER.into(), self.owner.to_owned()));
        let purpose = format!("{purpose}-{}", hex_hash(image.as_bytes(), 12));
        ContainerConfig {
            name: run_container_name(self.run, Role::Probe, &purpose),
            labels,
            image: image.to_owned(),
            entrypoint: vec!["/bin/sh".into(), "-c".into(), script.into()],
            command: Vec::new(),
            environment: Vec::new(),
            working_dir: "/".into(),
            user: "65534:65534".into(),
            host_name: "probe".into(),
            local_names: Vec::new(),
            mounts: Vec::new(),
            volumes: Vec::new(),
            limits: limits(),
            capabilities: &[],
            trusted: Trusted::default(),
            read_only: false,
            network: NetworkAttachment::None,
            publish: Vec::new(),
            runtime: self.runtime.map(str::to_owned),
            stop_signal: None,
            stop_timeout: Duration::ZERO,
            open_stdin: false,
        }
    }

    /// Runs a probe to its end and gives its output; nothing if the image has no shell to run it.
    pub(super) async fn ask(
        &self,
        config: &ContainerConfig,
    ) -> Result<Option<String>, EngineError> {
        let answer = async {
            self.engine.create_container(config).await?;
            answer(&**self.engine, &config.name).await
        };
        let answer = timeout(self.limit, answer).await;
        // Removed also where the probe failed: creation may have succeeded all the same.
        let removed = self.remove(&config.name).await;
        let answer = answer.unwrap_or(Err(too_late(&config.name)))?;
        removed?;
        Ok(answer)
    }

    /// Removes a probe, each time in the time that one has.
    pub(super) async fn remove(&self, container: &str) -> Result<(), EngineError> {
        again(|| async {
            let removed = timeout(self.limit, self.engine.remove_container(container)).await;
            removed.unwrap_or(Err(too_late(container)))
        })
        .await
    }
}

pub(super) fn too_late(container: &str) -> EngineError {
    EngineError {
        operation: Operation::Wait,
        subject: container.to_owned(),
        kind: ErrorKind::Timeout,
        source: None,
    }
}

fn limits() -> Limits {
    Limits {
        nano_cpus: 1_000_000_000,
        memory: 128 << 20,
        memory_swap: 128 << 20,
        pids: 64,
        shm_size: 1 << 20,
        ulimits: std::collections::BTreeMap::new(),
        tmpfs: std::collections::BTreeMap::new(),
    }
}

/// Starts a container that was made, and gives its output at its end, as [`Prober::ask`] does.
pub(super) async fn answer<E: Engine>(
    engine: &E,
    container: &str,
) -> Result<Option<String>, EngineError> {
    let mut output = engine.attach(container, None).await?;
    engine.start(container).await?;
    let mut bytes = Vec::new();
    while let Some(frame) = output.next().await {
        let frame = frame?;
        let room = ANSWER_LIMIT.saturating_sub(bytes.len());
        if frame.source == OutputSource::Stdout {
            bytes.extend_from_slice(&frame.bytes[..frame.bytes.len().min(room)]);
        }
    }
    match engine.wait(container).await?.code {
        0 => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        // The engine's init says so of a program that it cannot start.
        NOT_EXECUTABLE | NOT_FOUND => Ok(None),
        code => Err(EngineError {
            operation: Operation::Wait,
            subject: container.to_owned(),
            kind: ErrorKind::Refused(format!("its /bin/sh ended with exit code {code}")),
            source: None,
        }),
    }
}
