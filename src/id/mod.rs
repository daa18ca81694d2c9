//! Names: run and task ids, branches, images, commits, and everything derived from them.
//!
//! Every value is validated at birth, and every name that agent-run gives to something outside
//! itself (container, network, ref, directory, label) is computed here and nowhere else, so that
//! whatever a crash leaves behind can be found again.

mod cell;
mod claim;
mod host;
mod layout;
mod pattern;
mod service;
mod worktree_path;

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use cell::{CellValue, is_axis};
pub use layout::{StateDir, task_directories, task_directory};
pub use pattern::{Area, Part};

/// Longest name that Docker and DNS labels both take, in bytes.
const NAME_LIMIT: usize = 63;

/// Label keys that agent-run puts on every container, network and image it makes.
///
/// A spec cannot set labels, so nothing but agent-run writes under this prefix.
pub mod label {
    /// Version of this set of labels.
    pub const SCHEMA: &str = "agent-run.schema";
    /// The run's id.
    pub const RUN: &str = "agent-run.run";
    /// The task's id; absent on things that serve several tasks.
    pub const TASK: &str = "agent-run.task";
    /// The attempt's number, from 1.
    pub const ATTEMPT: &str = "agent-run.attempt";
    /// What the thing is for, see [`super::Role`].
    pub const ROLE: &str = "agent-run.role";
    /// `boot_id:pid:starttime` of the agent-run process that made it.
    pub const OWNER: &str = "agent-run.owner";
    /// The repository's key, see [`super::RepoKey`].
    pub const REPO: &str = "agent-run.repo";
    /// On images that a setup made: the state directory that knows of it, see [`super::StateDir::key`].
    pub const STATE: &str = "agent-run.state";
    /// On images that agent-run built or prepared, and nowhere else: containers inherit the labels of their
    /// image, so an image with [`SCHEMA`] would make everybody's containers look like agent-run's.
    pub const IMAGE: &str = "agent-run.image";
    /// The value of [`SCHEMA`] that this version writes.
    pub const SCHEMA_VERSION: &str = "1";
}

/// Why a text is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{text}` {problem}")]
pub struct InvalidName {
    /// The kind of name, as people call it.
    pub what: &'static str,
    /// The refused text, shortened.
    pub text: String,
    /// What is wrong with it, as a clause.
    pub problem: &'static str,
}

fn invalid(what: &'static str, text: &str, problem: &'static str) -> InvalidName {
    let text = text.chars().flat_map(char::escape_debug).take(60).collect();
    InvalidName {
        what,
        text,
        problem,
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }
    };
}

name_type! {
    /// A run: `YYMMDD-HHMMSS-xxxx`, UTC and four base32 characters.
    RunId
}
name_type! {
    /// A task: `[a-z0-9][a-z0-9._-]{0,47}`, not ending in `.lock` or `.`, without `..`; or the cell of a
    /// task with a matrix: `task[axis=value,…]`.
    TaskId
}
name_type! {
    /// A branch name without `refs/heads/`, as `git check-ref-format --branch` takes it.
    BranchName
}
name_type! {
    /// An image reference, as `docker run` takes it; never starts with `-` or holds blanks.
    ImageRef
}
name_type! {
    /// A full SHA-1 object id: 40 lower-case hexadecimal digits.
    CommitId
}
name_type! {
    /// A pattern of paths below a directory, as `reports/**/*.xml`; see [`Part`].
    PathPattern
}
name_type! {
    /// What a task claims for itself: 1 to 80 bytes without control characters or outer blanks.
    ClaimKey
}
name_type! {
    /// Hosts that a task may reach: `host`, or `*.host` for all whose names end so, either with `:port`.
    HostPattern
}
name_type! {
    /// A service of a task, as the task calls it: `[a-z0-9][a-z0-9_-]{0,31}`, and not `localhost`.
    ServiceName
}
name_type! {
    /// A file or directory of a worktree, relative to its top, with `/`; never outside of it, and never
    /// git's own.
    WorktreePath
}
name_type! {
    /// Names a repository in the state directory: a readable part and a hash of its git directory.
    RepoKey
}

impl RunId {
    /// What the refs begin with that keep base commits from being pruned.
    pub const PINS: &str = "refs/agent-run/base/";

    /// The ref in the user's repository that keeps the base commit from being pruned.
    pub fn pin_ref(&self) -> String {
        format!("{}{self}", Self::PINS)
    }

    /// What the names of the refs begin with that keep work of its attempts in the user's repository.
    pub fn attempts_prefix(&self) -> String {
        format!("refs/agent-run/attempts/{self}/")
    }

    /// Makes the id of a run that starts `at`; `entropy` tells runs of the same second apart.
    pub fn new(at: jiff::Timestamp, entropy: u32) -> Self {
        const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let at = at.to_zoned(jiff::tz::TimeZone::UTC);
        let mut text = at.strftime("%y%m%d-%H%M%S-").to_string();
        for shift in [0, 5, 10, 15] {
            text.push(char::from(BASE32[(entropy >> shift) as usize & 31]));
        }
        Self(text)
    }

    /// The part of the id that says when the run started. As text it is in the order of time.
    pub fn second(&self) -> &str {
        &self.0[..13]
    }

    /// When the run started, as its id says; none where that is no date.
    pub fn started(&self) -> Option<jiff::Timestamp> {
        let at = jiff::civil::DateTime::strptime("%y%m%d-%H%M%S", self.second()).ok()?;
        let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(at.timestamp())
    }
}

impl FromStr for RunId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let shape_fits = text.len() == 18
            && text.bytes().enumerate().all(|(i, b)| match i {
                6 | 13 => b == b'-',
                0..=12 => b.is_ascii_digit(),
                _ => b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b),
            });
        if shape_fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid(
                "run id",
                text,
                "is not of the form YYMMDD-HHMMSS-xxxx",
            ))
        }
    }
}

impl BranchName {
    /// The branch of a task that names none: `agent/<run>/<task>`, see [`TaskId::slug`].
    pub fn default_for(run: &RunId, task: &TaskId) -> Self {
        Self(format!("agent/{run}/{}", task.slug()))
    }

    /// The branch into which a run's results are merged where none is named.
    pub fn merged_of(run: &RunId) -> Self {
        Self(format!("agent/{run}-merged"))
    }

    /// The full ref name.
    pub fn full_ref(&self) -> String {
        format!("refs/heads/{}", self.0)
    }
}

impl FromStr for BranchName {
    type Err = InvalidName;

    /// The rules of git-check-ref-format(1), and `HEAD` and a leading `-` refused as `--branch` does.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |problem| Err(invalid("branch name", text, problem));
        let bad_component =
            |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
        let bad_char =
            |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c) || is_bidi(c);
        if text.is_empty() {
            refuse("is empty")
        } else if text.len() > 200 {
            refuse("is longer than 200 bytes")
        } else if text.starts_with('-') || text == "@" || text == "HEAD" {
            refuse("cannot be a branch")
        } else if text.starts_with("refs/") {
            refuse("must be given without `refs/heads/`")
        } else if text.contains(bad_char) {
            refuse("has blanks, control characters or one of `~^:?*[\\`")
        } else if text.contains("..") || text.contains("@{") || text.ends_with('.') {
            refuse("has `..` or `@{` in it, or ends in `.`")
        } else if text.split('/').any(bad_component) {
            refuse("has a part that is empty, starts with `.` or ends in `.lock`")
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

/// Whether a character changes the direction of the text after it: such names read as others.
pub(crate) fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl FromStr for ImageRef {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = |problem| Err(invalid("image", text, problem));
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b);
        if text.is_empty() {
            refuse("is empty")
        } else if text.len() > 400 {
            refuse("is longer than 400 characters")
        } else if !text.as_bytes()[0].is_ascii_alphanumeric() {
            refuse("does not start with a letter or a digit")
        } else if !text.bytes().all(allowed) {
            refuse("has characters that no image reference may have")
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl ImageRef {
    /// The image of tasks that name none; its Dockerfile is part of this version of agent-run.
    pub fn base() -> Self {
        Self(format!("agent-run-base:{}", env!("CARGO_PKG_VERSION")))
    }

    /// The image of the proxy of tasks with an allow-list; its Dockerfile is part of this version of
    /// agent-run.
    pub fn egress_proxy() -> Self {
        Self(format!(
            "agent-run-egress-proxy:{}",
            env!("CARGO_PKG_VERSION")
        ))
    }

    /// The image of the template `mail`; its Dockerfile is part of this version of agent-run.
    pub fn mail() -> Self {
        Self(format!("agent-run-mail:{}", env!("CARGO_PKG_VERSION")))
    }

    /// Its name without tag and digest: what a registry calls the repository.
    pub fn repository(&self) -> &str {
        let name = self.0.split('@').next().unwrap_or_default();
        match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => name,
            _ => name,
        }
    }

    /// The tag of an image that is built and not named; equal `recipe`s share it.
    pub fn for_build(recipe: &[u8]) -> Self {
        Self(format!("agent-run-build-{}", hex_hash(recipe, 16)))
    }

    /// The tag of an image of agent-run's own, such as that of an agent: its name, the version of what it
    /// is named after, and a hash of what it is built from.
    pub fn own(name: &str, version: Option<&str>, recipe: &[u8]) -> Self {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let version = version.unwrap_or_default().chars().filter(|c| fits(*c));
        let version: String = version
            .skip_while(|c| !c.is_ascii_alphanumeric())
            .take(60)
            .collect();
        let hash = hex_hash(recipe, 8);
        let tag = [&version[..], &hash]
            .into_iter()
            .filter(|part| !part.is_empty());
        let tag: Vec<&str> = tag.collect();
        Self(format!("agent-run-{name}:{}", tag.join("-")))
    }

    /// The tag of what a setup made of an image; `key` is that of what it prepared.
    pub fn prepared(key: &str) -> Self {
        Self(format!("agent-run-prepared-{key}"))
    }
}

impl CommitId {
    /// The first ten digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..10]
    }
}

impl FromStr for CommitId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 40 && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid("object id", text, "is not 40 hexadecimal digits"))
        }
    }
}

impl RepoKey {
    /// The key of the repository whose common git directory is `git_dir` (canonical, absolute).
    pub fn of(git_dir: &std::path::Path) -> Self {
        let outer = if git_dir.file_name().is_some_and(|n| n == ".git") {
            git_dir.parent()
        } else {
            Some(git_dir)
        };
        let name = outer.and_then(|d| d.file_name()).unwrap_or_default();
        let readable: String = name
            .to_string_lossy()
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_')
            .take(40)
            .collect();
        let hash = hex_hash(git_dir.as_os_str().as_encoded_bytes(), 8);
        Self(format!("{readable}-{hash}"))
    }
}

impl FromStr for RepoKey {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if (1..=60).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid("repository key", text, "is malformed"))
        }
    }
}

/// The first `digits` hexadecimal digits of the SHA-256 of `bytes`.
pub fn hex_hash(bytes: &[u8], digits: usize) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    let hash = Sha256::digest(bytes);
    let nibbles = hash.iter().flat_map(|b| [b >> 4, b & 15]);
    nibbles.take(digits).map(digit).collect()
}

/// Cuts a name to what Docker takes, keeping it unique by a hash of the whole.
fn fit(name: &str) -> String {
    if name.len() <= NAME_LIMIT {
        return name.to_owned();
    }
    let hash = hex_hash(name.as_bytes(), 8);
    format!("{}-{hash}", &name[..NAME_LIMIT - 9])
}

/// What a thing of agent-run on the engine is for; part of its name and of its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the task's own command.
    Task,
    /// Collects the work of an attempt whose own container could not.
    Collector,
    /// Runs the spec's `verify` on the result of an attempt.
    Verify,
    /// Runs the spec's `preview` of what a task of another run has made.
    Preview,
    /// Asks an image what it holds, or the engine what it honours; sweeps for root.
    Probe,
    /// Lets tasks out, and none to another.
    Network,
    /// Is a worktree, or a directory of one, that shares its unchanged files with others.
    View,
    /// Prepares what tasks share, before any of them runs.
    Setup,
    /// Is the only way out of tasks with an allow-list.
    Egress,
    /// Has the network that a task shares with its services.
    Pod,
    /// Serves a task, beside its container.
    Service,
    /// The same as [`Role::Pod`] for the check of a result.
    VerifyPod,
    /// The same as [`Role::Service`] for the check of a result.
    VerifyService,
    /// The same as [`Role::Pod`] while a service is filled for all tasks.
    SnapshotPod,
    /// The same as [`Role::Service`] while it is filled for all tasks.
    SnapshotService,
}

impl Role {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Collector => "collector",
            Self::Verify => "verify",
            Self::Preview => "preview",
            Self::Probe => "probe",
            Self::Network => "network",
            Self::View => "view",
            Self::Setup => "setup",
            Self::Egress => "egress",
            Self::Pod => "pod",
            Self::Service => "service",
            Self::VerifyPod => "verify-pod",
            Self::VerifyService => "verify-service",
            Self::SnapshotPod => "snapshot-pod",
            Self::SnapshotService => "snapshot-service",
        }
    }
}

/// One attempt at one task of one run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The attempt's number, from 1.
    pub number: u32,
}

impl AttemptId {
    /// The container that serves this attempt in `role`.
    pub fn container_name(&self, role: Role) -> String {
        let Self { run, task, number } = self;
        let task = task.word();
        match role {
            Role::Task => fit(&format!("agent-run-{run}-{number}-{task}")),
            other => fit(&format!(
                "agent-run-{run}-{number}-{}-{task}",
                other.as_str()
            )),
        }
    }

    /// The volume that is the worktree, where that is a view.
    pub fn volume_name(&self) -> String {
        self.container_name(Role::View)
    }

    /// The volume that is the `index`th prepared directory of the worktree that its container in `role`
    /// has, where that is a view.
    pub fn prepared_volume_name(&self, role: Role, index: usize) -> String {
        let Self { run, task, number } = self;
        let role = role.as_str();
        let task = task.word();
        fit(&format!("agent-run-{run}-{number}-{role}{index}-{task}"))
    }

    /// The host name inside the container: the task's id as one DNS label.
    pub fn host_name(&self) -> String {
        self.task.label()
    }

    /// The ref of its accepted result, in the repository that has those of all attempts.
    pub fn result_ref(&self) -> String {
        let Self { run, task, number } = self;
        format!("refs/results/{run}/{}/{number}", task.slug())
    }

    /// The ref in the user's repository for work that got no branch: number 0 is the result itself.
    pub fn kept_ref(&self, index: usize) -> String {
        let Self { run, task, number } = self;
        let prefix = run.attempts_prefix();
        format!("{prefix}{}/{number}/{index}", task.slug())
    }

    /// The labels of a container or volume in `role`, without owner and repository.
    pub fn labels(&self, role: Role) -> Vec<(String, String)> {
        vec![
            (label::SCHEMA.into(), label::SCHEMA_VERSION.into()),
            (label::RUN.into(), self.run.to_string()),
            (label::TASK.into(), self.task.to_string()),
            (label::ATTEMPT.into(), self.number.to_string()),
            (label::ROLE.into(), role.as_str().into()),
        ]
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.run, self.task, self.number)
    }
}

/// The network that tasks of all runs share, by its subnet: two runs that make it at once ask for
/// the same addresses then, and the engine gives them to one.
pub fn network_name(subnet: Ipv4Addr, prefix: u8) -> String {
    format!("agent-run-net-{subnet}-{prefix}")
}

/// The labels of that network: it belongs to no run.
pub fn network_labels() -> Vec<(String, String)> {
    vec![
        (label::SCHEMA.into(), label::SCHEMA_VERSION.into()),
        (label::ROLE.into(), Role::Network.as_str().into()),
    ]
}

/// A container or volume of a run that serves no single task; `purpose` is a short lower-case word.
pub fn run_container_name(run: &RunId, role: Role, purpose: &str) -> String {
    fit(&format!("agent-run-{run}-{}-{purpose}", role.as_str()))
}

/// The labels of something that serves a whole run.
pub fn run_labels(run: &RunId, role: Role) -> Vec<(String, String)> {
    vec![
        (label::SCHEMA.into(), label::SCHEMA_VERSION.into()),
        (label::RUN.into(), run.to_string()),
        (label::ROLE.into(), role.as_str().into()),
    ]
}
