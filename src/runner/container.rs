//! What the engine is handed for a task: the wrapper, its words, its environment, its mounts. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::images::PreparedImage;
use super::prepare::Connection;
use super::secrets::Secrets;
use super::setup::mounts_of_caches;
use super::user::ContainerUser;
use super::{RunContext, StepError};
use crate::engine::Engine;
use crate::engine::config::{ContainerConfig, NetworkAttachment, Trusted, VolumeConfig};
use crate::id::{AttemptId, Role, label};
use crate::plan::{SecretGrant, TaskPlan, Work};
use crate::secrets::SecretBytes;
use crate::workspace::{TakenCache, Workspace};

/// Where a task finds its secrets: in memory, never on a disk.
pub(super) const SECRETS: &str = "/run/secrets";
/// Longest prompt that is also an environment variable, in bytes.
const PROMPT_IN_ENVIRONMENT: usize = 64 * 1024;

/// An attempt and all that its containers are made of.
pub(super) struct Launch<'a, E: Engine> {
    pub(super) context: &'a RunContext<E>,
    pub(super) task: &'a TaskPlan,
    pub(super) attempt: &'a AttemptId,
    pub(super) image: &'a PreparedImage,
    pub(super) user: ContainerUser,
    pub(super) workspace: &'a Arc<Workspace>,
    /// The caches that the attempt has.
    pub(super) caches: &'a [TakenCache],
}

/// The container of the task or of its check, and what is written to its wrapper's standard input.
pub(super) fn task_config<E: Engine>(
    launch: &Launch<'_, E>,
    role: Role,
    connection: &Connection,
) -> Result<(ContainerConfig, Option<SecretBytes>), StepError> {
    let mut config = base_config(launch, role, connection.attachment.clone());
    config.mounts.extend_from_slice(&connection.mounts);
    config
        .environment
        .extend_from_slice(&connection.environment);
    let caches = mounts_of_caches(launch.task, launch.caches);
    config.mounts.extend(caches);
    let (as_files, as_variables) = grants(&launch.context.secrets, &launch.task.secrets);
    config.entrypoint = if launch.image.facts.has_shell {
        vec!["/bin/sh".into(), "/agent/entry".into()]
    } else {
        needs_no_shell(launch, !as_files.is_empty())?;
        Vec::new()
    };
    config.command = words(launch)?;
    config.working_dir.clone_from(&launch.task.working_dir);
    config.read_only = launch.task.read_only;
    config.environment.extend(limits_environment(launch.task));
    config.environment.extend(agent_environment(launch.task));
    if let Some(prompt) = &launch.task.prompt
        && prompt.len() <= PROMPT_IN_ENVIRONMENT
    {
        let variable = ("AGENT_PROMPT".to_owned(), prompt.clone());
        config.environment.push(variable);
    }
    for (axis, value) in &launch.task.matrix {
        let name = format!("AGENT_MATRIX_{}", axis.to_ascii_uppercase());
        config.environment.push((name, value.to_string()));
    }
    for (name, value) in &launch.task.environment {
        config
            .environment
            .push((name.clone(), value.expose().into()));
    }
    config.environment.extend(as_variables);
    let input = if as_files.is_empty() {
        None
    } else {
        let options = secrets_mount((launch.user.uid, launch.user.gid));
        config.limits.tmpfs.insert(SECRETS.into(), options);
        let names: Vec<&str> = as_files.iter().map(|(name, _)| name.as_str()).collect();
        config
            .environment
            .push(("AGENT_SECRETS".into(), names.join(" ")));
        let lines: Vec<String> = as_files
            .iter()
            .map(|(_, value)| BASE64.encode(value) + "\n")
            .collect();
        config.open_stdin = true;
        Some(SecretBytes::new(lines.concat().into_bytes()))
    };
    // The spec's word on a variable is the last one, and a variable is there once.
    let last_words: BTreeMap<_, _> = config.environment.into_iter().collect();
    config.environment = last_words.into_iter().collect();
    Ok((config, input))
}

/// A container that commits and bundles what an attempt left: same mounts and user, no network, no
/// secrets, no words of the spec.
pub(super) fn collector_config<E: Engine>(launch: &Launch<'_, E>) -> ContainerConfig {
    let mut config = base_config(launch, Role::Collector, NetworkAttachment::None);
    config.entrypoint = vec!["/bin/sh".into(), "/agent/handoff".into()];
    config.limits.memory = launch.context.plan.collector_memory(launch.task);
    config.limits.memory_swap = config.limits.memory;
    config
}

fn base_config<E: Engine>(
    launch: &Launch<'_, E>,
    role: Role,
    network: NetworkAttachment,
) -> ContainerConfig {
    let Launch {
        context,
        task,
        attempt,
        image,
        user,
        workspace,
        ..
    } = launch;
    let mut environment = workspace.environment().to_vec();
    let leftovers = context.plan.collect_limits.leftovers.to_string();
    environment.push(("AGENT_LEFTOVERS_LIMIT".into(), leftovers));
    ContainerConfig {
        name: attempt.container_name(role),
        labels: labels(context, attempt, role),
        image: image.info.id.clone(),
        entrypoint: Vec::new(),
        command: Vec::new(),
        environment,
        working_dir: "/workspace".into(),
        user: format!("{}:{}", user.uid, user.gid),
        host_name: attempt.host_name(),
        local_names: Vec::new(),
        mounts: workspace.mounts(),
        volumes: workspace.volume_mounts(),
        limits: task.limits.clone(),
        capabilities: &[],
        trusted: Trusted::default(),
        read_only: false,
        network,
        publish: Vec::new(),
        runtime: task.runtime.clone(),
        stop_signal: None,
        stop_timeout: task.stop_grace_period + task.handoff_timeout,
        open_stdin: false,
    }
}

/// The volumes that an attempt's worktree and parts of it are; none where they are directories.
pub(super) fn volume_configs<E: Engine>(
    context: &RunContext<E>,
    attempt: &AttemptId,
    workspace: &Workspace,
) -> Vec<VolumeConfig> {
    workspace.volumes(&labels(context, attempt, Role::View))
}

/// The names that those of its container in `role` may have, for their removal.
pub(super) fn volume_names(attempt: &AttemptId, role: Role, task: &TaskPlan) -> Vec<String> {
    let prepared = task.setup.iter().flat_map(|setup| 0..setup.paths.len());
    let prepared = prepared.map(|index| attempt.prepared_volume_name(role, index));
    prepared.collect()
}

fn labels<E: Engine>(
    context: &RunContext<E>,
    attempt: &AttemptId,
    role: Role,
) -> Vec<(String, String)> {
    let mut labels = attempt.labels(role);
    labels.push((label::OWNER.into(), context.owner.clone()));
    labels.push((label::REPO.into(), context.plan.repository.key.to_string()));
    labels
}

/// Secrets by how they are granted: (name, bytes) as files, (variable, value) as variables.
pub(super) type Grants = (Vec<(String, Vec<u8>)>, Vec<(String, String)>);

/// The options of the file system in memory that secrets are in.
pub(super) fn secrets_mount((uid, gid): (u32, u32)) -> String {
    format!("rw,noexec,nosuid,nodev,size=16m,mode=0700,uid={uid},gid={gid}")
}

pub(super) fn grants(secrets: &Secrets, granted: &[SecretGrant]) -> Grants {
    let mut as_files = Vec::new();
    let mut as_variables = Vec::new();
    for grant in granted {
        let Some(value) = secrets.value(&grant.name) else {
            continue;
        };
        match &grant.environment {
            Some(variable) => as_variables.push((variable.clone(), value.expose().to_owned())),
            None => as_files.push((grant.name.clone(), value.expose().as_bytes().to_vec())),
        }
    }
    (as_files, as_variables)
}

/// An image without a shell can run its own command, and nothing that needs the wrapper.
fn needs_no_shell<E: Engine>(
    launch: &Launch<'_, E>,
    has_secret_files: bool,
) -> Result<(), StepError> {
    let reference = &launch.task.image.reference;
    let refuse = |what: &str| {
        Err(StepError {
            stage: "command",
            message: format!("image {reference} has no /bin/sh, which {what} needs"),
        })
    };
    match &launch.task.work {
        Work::Script(_) => refuse("`run`"),
        Work::Command(_) if has_secret_files => refuse("a secret as a file"),
        Work::Command(_) if launch.task.egress.is_some() => refuse("`egress`"),
        Work::Command(_) => Ok(()),
    }
}

/// The command and its arguments.
fn words<E: Engine>(launch: &Launch<'_, E>) -> Result<Vec<String>, StepError> {
    let Launch { task, image, .. } = launch;
    let mut words = match &task.work {
        Work::Script(script) if script.starts_with("#!") => vec!["/agent/script".into()],
        Work::Script(_) => vec!["/bin/sh".into(), "-eu".into(), "/agent/script".into()],
        Work::Command(command) => {
            // As Docker does: an ENTRYPOINT given anew drops the image's CMD.
            let entrypoint = task.entrypoint.as_ref().unwrap_or(&image.info.entrypoint);
            let default = match task.entrypoint {
                Some(_) => &[][..],
                None => &image.info.command[..],
            };
            let command = command.as_deref().unwrap_or(default);
            [entrypoint, command].concat()
        }
    };
    if words.is_empty() {
        return Err(StepError {
            stage: "command",
            message: format!(
                "image {} has no command; give the task `run` or `command`",
                task.image.reference
            ),
        });
    }
    words.extend(task.agent.iter().flat_map(|agent| agent.args.clone()));
    Ok(words)
}

/// What an agent's script wants to know of what the spec says.
fn agent_environment(task: &TaskPlan) -> Vec<(String, String)> {
    let Some(agent) = &task.agent else {
        return Vec::new();
    };
    let turns = agent.max_turns.map(|turns| turns.to_string());
    let set = [
        ("AGENT_NAME", Some(agent.name.clone())),
        ("AGENT_VERSION", agent.version.clone()),
        ("AGENT_MODEL", agent.model.clone()),
        ("AGENT_MAX_TURNS", turns),
    ];
    let set = set.into_iter();
    set.filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// What the wrapper and build tools inside want to know of the limits.
pub(super) fn limits_environment(task: &TaskPlan) -> Vec<(String, String)> {
    let cpus = (task.limits.nano_cpus + 999_999_999) / 1_000_000_000;
    let mut environment = vec![("AGENT_CPUS".to_owned(), cpus.to_string())];
    // A CPU quota is not visible inside; these are what make, cargo, Go, OpenMP and Node read.
    for name in [
        "MAKEFLAGS",
        "CARGO_BUILD_JOBS",
        "GOMAXPROCS",
        "OMP_NUM_THREADS",
        "NPM_CONFIG_JOBS",
    ] {
        let value = match name {
            "MAKEFLAGS" => format!("-j{cpus}"),
            _ => cpus.to_string(),
        };
        environment.push((name.to_owned(), value));
    }
    environment
}
