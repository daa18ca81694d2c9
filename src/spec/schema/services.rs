//! The forms of `services`.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::{
    CpusForm, DurationForm, EnvironmentForm, OneOrMany, Scalar, SizeForm, UlimitForm, WordsForm,
    object,
};
use crate::engine::config::PullPolicy;
use crate::id::ImageRef;
use crate::spec::source::At;

/// What runs beside a task.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(in super::super) enum ServicesForm {
    /// Templates by name: `mail`, `mariadb`, `postgres`, `rabbitmq`, `redis`.
    Templates(Vec<String>),
    File(ComposeFileParts),
    /// Services by name.
    Map(BTreeMap<String, ServiceParts>),
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(in super::super) struct ComposeFileParts {
    /// A compose file, relative to the spec.
    compose: String,
    /// The services of it that are meant, with those that they depend on. Default: all.
    only: Option<OneOrMany>,
    /// Those that may have something of the host: what is refused otherwise.
    trust: Option<OneOrMany>,
}

/// A service, in the words of compose-spec.
#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(in super::super) struct ServiceParts {
    /// A service of agent-run's own, whose keys those beside it are merged over.
    template: Option<String>,
    /// Its image.
    image: Option<At<ImageRef>>,
    /// When that is pulled: `always`, `missing` or `never`. Default: `missing`.
    pull_policy: Option<PullPolicy>,
    /// Replaces the image's ENTRYPOINT; a text is split into words without a shell.
    entrypoint: Option<WordsForm>,
    /// Replaces the image's CMD; a text is split into words without a shell.
    command: Option<WordsForm>,
    /// Its variables.
    environment: Option<EnvironmentForm>,
    /// Who it runs as, in the engine's words. Default: the image's.
    user: Option<Scalar>,
    /// Where it starts: an absolute path. Default: the image's.
    working_dir: Option<String>,
    /// Whether its file system is read-only. Default: false.
    read_only: Option<bool>,
    /// CPUs. Default: 1.
    cpus: Option<CpusForm>,
    /// Memory, without swap. Default: 512m.
    mem_limit: Option<SizeForm>,
    /// Processes and threads. Default: 512.
    #[schemars(range(min = 1))]
    pids_limit: Option<i64>,
    /// Size of `/dev/shm`. Default: 64m.
    shm_size: Option<SizeForm>,
    /// Resource limits by name: a number, or `soft` and `hard`; -1 is none.
    ulimits: Option<BTreeMap<String, UlimitForm>>,
    /// In-memory file systems: `/path` or `/path:size=1g,mode=1777`.
    tmpfs: Option<OneOrMany>,
    /// When it is ready. Default: the image's HEALTHCHECK, else once it listens.
    healthcheck: Option<HealthcheckParts>,
    /// The TCP ports that it listens on. Default: one of those that the image exposes.
    expose: Option<Vec<Scalar>>,
    /// The same; nothing is published, so that of `HOST:PORT` the second half counts.
    ports: Option<Vec<Scalar>>,
    /// The services that are started before it: a list, or a map with the `condition` of each.
    depends_on: Option<DependsOnForm>,
    /// `name:/path`, or `/path`: a directory of its own that ends with the task. With `trust` also `HOST:/path`.
    volumes: Option<Vec<String>>,
    /// What it holds when a task begins: made once, and every task has a copy-on-write branch of it. Not in a
    /// compose file.
    snapshot: Option<SnapshotParts>,
    /// Whether it may have something of the host. Not in a compose file. Default: false.
    trust: Option<bool>,
    /// Whether it has all capabilities and devices; only with `trust`.
    privileged: Option<bool>,
    /// Further capabilities; only with `trust`.
    cap_add: Option<Vec<String>>,
    /// Devices of the host; only with `trust`.
    devices: Option<Vec<String>>,
    /// `host`: it sees the host's processes; only with `trust`.
    pid: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(in super::super) struct SnapshotParts {
    /// What fills the service once it is ready, in the task's image on a checkout of the base.
    script: String,
    /// The files of the base that it depends on, as patterns: it is made anew when one of them changes.
    files: Option<OneOrMany>,
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(in super::super) struct HealthcheckParts {
    /// A line for the shell, or `[CMD, …]`, `[CMD-SHELL, …]`, `[NONE]`: ready once it ends with 0.
    test: Option<WordsForm>,
    /// How far apart two checks are. Default: 30s.
    interval: Option<DurationForm>,
    /// What one may take. Default: 30s.
    timeout: Option<DurationForm>,
    /// How many fail in a row before it counts as unhealthy. Default: 3.
    #[schemars(range(min = 1, max = 1000))]
    retries: Option<u32>,
    /// How long failures do not count at first. Default: none.
    start_period: Option<DurationForm>,
    /// How far apart checks are until the first that passes, at most. Default: 1s.
    start_interval: Option<DurationForm>,
    /// Whether there is none: it is ready as soon as it was started. Default: false.
    disable: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(in super::super) enum DependsOnForm {
    /// They are started before it.
    Names(Vec<String>),
    Conditions(BTreeMap<String, DependsOnParts>),
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(in super::super) struct DependsOnParts {
    /// `service_started` or `service_healthy`. Default: `service_started`.
    condition: Option<DependsOnCondition>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "a form of the file")]
pub(in super::super) enum DependsOnCondition {
    /// It is enough that it was started.
    ServiceStarted,
    /// It must be ready.
    ServiceHealthy,
}
