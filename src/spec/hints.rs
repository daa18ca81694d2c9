//! What to say about a key that no reader knows: a slip, a key from elsewhere, a key of another
//! place, or one that a later version brings.

/// Where a map of the spec is, for its messages and for the keys that it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// The top level.
    Top,
    /// A task, or `defaults`.
    Task,
    /// A map below those.
    Inner,
}

/// Keys of the top level.
pub const TOP_KEYS: &[&str] = &[
    "version",
    "name",
    "repo",
    "base",
    "history",
    "max_parallel",
    "fail_fast",
    "timeout",
    "author",
    "secrets",
    "collect",
    "claims",
    "agents",
    "defaults",
    "tasks",
];

/// Keys of a task and of `defaults`.
pub const TASK_KEYS: &[&str] = &[
    "image",
    "build",
    "pull_policy",
    "entrypoint",
    "command",
    "run",
    "agent",
    "model",
    "max_turns",
    "budget",
    "session",
    "args",
    "prompt",
    "prompt_file",
    "setup",
    "cache",
    "environment",
    "env",
    "env_file",
    "secrets",
    "cpus",
    "mem_limit",
    "memswap_limit",
    "pids_limit",
    "shm_size",
    "disk_limit",
    "log_limit",
    "ulimits",
    "tmpfs",
    "working_dir",
    "user",
    "workspace",
    "read_only",
    "network_mode",
    "egress",
    "services",
    "ports",
    "runtime",
    "timeout",
    "startup_timeout",
    "stop_grace_period",
    "handoff_timeout",
    "slow_after",
    "needs",
    "base",
    "retry",
    "allow_failure",
    "matrix",
    "profiles",
    "branch",
    "claim",
    "touches",
    "touches_strict",
    "artifacts",
    "verify",
    "feedback",
    "preview",
];

/// Keys of an entry of `agents` besides those of a task.
pub const AGENT_KEYS: &[&str] = &[
    "extends",
    "description",
    "credentials",
    "hosts",
    "needs_model",
    "has_max_turns",
    "tells",
    "session_files",
];

/// Keys of a task that an entry of `agents` cannot have: they are of one task, or name another agent.
pub const NOT_OF_AGENTS: &[&str] = &[
    "agent", "needs", "base", "matrix", "profiles", "branch", "claim",
];

/// Keys of the smaller maps, by the name of their form in the JSON Schema.
pub const INNER_KEYS: &[(&str, &[&str])] = &[
    ("ArtifactsParts", ARTIFACTS_KEYS),
    ("AuthorParts", AUTHOR_KEYS),
    ("BudgetForm", BUDGET_KEYS),
    ("BuildParts", BUILD_KEYS),
    ("CacheForm", CACHE_KEYS),
    ("ClaimsSpec", CLAIMS_KEYS),
    ("CollectLimitsSpec", COLLECT_LIMITS_KEYS),
    ("CollectSpec", COLLECT_KEYS),
    ("ComposeFileParts", COMPOSE_FILE_KEYS),
    ("DependsOnParts", DEPENDS_ON_KEYS),
    ("CredentialForm", CREDENTIAL_KEYS),
    ("EgressForm", EGRESS_KEYS),
    ("EnvFileParts", ENV_FILE_KEYS),
    ("GrantParts", GRANT_KEYS),
    ("HealthcheckParts", HEALTHCHECK_KEYS),
    ("HistoryDepth", HISTORY_KEYS),
    ("MatrixParts", MATRIX_KEYS),
    ("PreviewForm", PREVIEW_KEYS),
    ("PromptFile", PROMPT_KEYS),
    ("RetryParts", RETRY_KEYS),
    ("SecretForm", SECRET_KEYS),
    ("ServiceParts", SERVICE_KEYS),
    ("SetupParts", SETUP_KEYS),
    ("SnapshotParts", SNAPSHOT_KEYS),
    ("UlimitParts", ULIMIT_KEYS),
    ("VerifyParts", VERIFY_KEYS),
];
pub(super) const ARTIFACTS_KEYS: &[&str] = &["paths", "when"];
pub(super) const AUTHOR_KEYS: &[&str] = &["name", "email"];
pub(super) const BUDGET_KEYS: &[&str] = &["tokens", "usd"];
pub(super) const BUILD_KEYS: &[&str] = &["context", "dockerfile", "target", "args"];
pub(super) const CACHE_KEYS: &[&str] = &["key", "path", "mode"];
pub(super) const CLAIMS_KEYS: &[&str] = &["remote"];
pub(super) const COLLECT_KEYS: &[&str] = &["limits"];
pub(super) const COLLECT_LIMITS_KEYS: &[&str] = &[
    "bundle",
    "total",
    "file",
    "commits",
    "objects",
    "paths",
    "depth",
    "trees",
    "leftovers",
    "time",
];
pub(super) const COMPOSE_FILE_KEYS: &[&str] = &["compose", "only", "trust"];
pub(super) const DEPENDS_ON_KEYS: &[&str] = &["condition"];
pub(super) const CREDENTIAL_KEYS: &[&str] = &["environment", "provider", "hosts"];
pub(super) const EGRESS_KEYS: &[&str] = &["allow"];
pub(super) const ENV_FILE_KEYS: &[&str] = &["path", "required"];
pub(super) const GRANT_KEYS: &[&str] = &["source", "environment"];
pub(super) const HEALTHCHECK_KEYS: &[&str] = &[
    "test",
    "interval",
    "timeout",
    "retries",
    "start_period",
    "start_interval",
    "disable",
];
pub(super) const HISTORY_KEYS: &[&str] = &["depth"];
pub(super) const MATRIX_KEYS: &[&str] = &["include", "exclude"];
pub(super) const PREVIEW_KEYS: &[&str] = &["run", "port"];
pub(super) const PROMPT_KEYS: &[&str] = &["file"];
pub(super) const RETRY_KEYS: &[&str] = &["max", "when", "exit_codes", "backoff"];
pub(super) const SECRET_KEYS: &[&str] = &["environment", "file", "command"];
pub(super) const SERVICE_KEYS: &[&str] = &[
    "template",
    "image",
    "pull_policy",
    "entrypoint",
    "command",
    "environment",
    "user",
    "working_dir",
    "read_only",
    "cpus",
    "mem_limit",
    "pids_limit",
    "shm_size",
    "ulimits",
    "tmpfs",
    "healthcheck",
    "expose",
    "ports",
    "depends_on",
    "volumes",
    "snapshot",
    "trust",
    "privileged",
    "cap_add",
    "devices",
    "pid",
];
pub(super) const SETUP_KEYS: &[&str] = &["run", "files", "paths", "user", "secrets"];
pub(super) const SNAPSHOT_KEYS: &[&str] = &["script", "files"];
pub(super) const ULIMIT_KEYS: &[&str] = &["soft", "hard"];
pub(super) const VERIFY_KEYS: &[&str] = &["run", "timeout", "image", "secrets"];

/// Keys of the plan of record that this version does not have.
const LATER: &[&str] = &[
    "fetch",
    "sparse",
    "lfs",
    "platform",
    "cpuset",
    "on_existing",
];

/// What to do about an unknown key; empty where nothing is known of it.
pub(super) fn unknown_key(key: &str, keys: &[&str], level: Level) -> String {
    if level != Level::Inner {
        if let Some(hint) = foreign(key) {
            return hint.to_owned();
        }
        if LATER.contains(&key) {
            return "not supported by this version of agent-run".to_owned();
        }
        if level == Level::Top && TASK_KEYS.contains(&key) {
            return "a key of tasks: put it under `defaults` or into a task".to_owned();
        }
        // A task knows them: this is an agent.
        if level == Level::Task && NOT_OF_AGENTS.contains(&key) {
            let hint = match key {
                "agent" => "write `extends`",
                _ => "a key of one task: put it there",
            };
            return hint.to_owned();
        }
        if level == Level::Task && TOP_KEYS.contains(&key) {
            return "a key of the top level".to_owned();
        }
    }
    did_you_mean(key, keys.iter().copied())
}

/// `did you mean …?` with the nearest of the known names, if one is near.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let length = name.chars().count();
    let distance = |k: &str| strsim::osa_distance(name, k);
    let near = known
        .filter(|k| k.len().abs_diff(name.len()) < 3)
        .map(|k| (distance(k), k))
        .filter(|(d, _)| *d < 3 && *d < length);
    match near.min() {
        Some((_, nearest)) => format!("did you mean `{nearest}`?"),
        None => String::new(),
    }
}

/// Keys of compose files, GitHub Actions and GitLab that have another name here.
fn foreign(key: &str) -> Option<&'static str> {
    Some(match key {
        "timeout-minutes" => "write `timeout`, such as `timeout: 30m`",
        "script" | "steps" | "commands" => "write `run`, one script",
        "variables" => "write `environment`",
        "container" => "write `image`",
        "runs-on" => "remove it: tasks run on this machine's engine, in `image`",
        "memory" | "mem" | "memory_limit" => "write `mem_limit`, such as `mem_limit: 2g`",
        "cpu" | "cpu_limit" => "write `cpus`",
        "deploy" => "write `cpus`, `mem_limit` and `pids_limit`",
        "concurrency" => "write `max_parallel` at the top level",
        "network" | "networks" => "write `network_mode`, bridge or none, or `egress` and hosts",
        "workdir" => "write `working_dir`",
        "continue-on-error" => "write `allow_failure: true`",
        "strategy" => "write `matrix` in the task, `max_parallel` and `fail_fast` at the top level",
        "restart" => "write `retry`, such as `retry: 2`",
        "depends_on" => "write `needs`, such as `needs: [build]`",
        _ => return None,
    })
}
