//! A claim as it is written down: who works on something, and until when.
//!
//! It is the message of a commit without files. Whoever may write to the repository or the remote can
//! have written it: it is parsed strictly, and nothing of it is executed.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ClaimError, Wanted};
use crate::id::{ClaimKey, CommitId, RunId, TaskId};
use crate::journal;

/// How long a claim holds after it was last renewed. Counted by the clocks of those who look.
pub const HOLDS: Duration = Duration::from_secs(15 * 60);
/// By how much the clocks of two machines may differ.
const CLOCKS: Duration = Duration::from_secs(60);
/// The version of records that this agent-run writes and reads.
const VERSION: u32 = 1;
/// Git's name of the directory without files.
pub(super) const NO_FILES: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Who claims something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// The version of this format.
    version: u32,
    /// What is claimed.
    pub key: ClaimKey,
    /// Who its commits are by: a name and an address.
    pub holder: String,
    /// The name of the machine.
    pub host: String,
    /// The process, as [`journal::owner`] names it.
    pub owner: String,
    /// The namespace that its number is of.
    pub namespace: String,
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// When it was taken.
    #[serde(with = "time")]
    pub taken: Timestamp,
    /// Until when it holds, unless it is renewed.
    #[serde(with = "time")]
    pub expires: Timestamp,
    /// Higher than that of everybody who held it before.
    pub fence: u64,
}

/// A record, and the commit that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundClaim {
    /// The commit.
    pub commit: CommitId,
    /// Whose it is; the reason where nobody can tell.
    pub record: Result<ClaimRecord, String>,
}

impl ClaimRecord {
    /// What the task gets that takes it over from `before`, if anybody had it.
    ///
    /// Seconds of the clock are where the numbers begin, so that they go on where the ref of those
    /// before was deleted.
    pub(super) fn new(wanted: &Wanted<'_>, before: u64, now: Timestamp) -> Self {
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        Self {
            version: VERSION,
            key: wanted.key.clone(),
            holder: wanted.holder.to_owned(),
            host: wanted.host.to_owned(),
            owner: wanted.owner.to_owned(),
            namespace: journal::pid_namespace(),
            run: wanted.run.clone(),
            task: wanted.task.clone(),
            taken: now,
            expires: now + HOLDS,
            fence: seconds.max(before.saturating_add(1)),
        }
    }

    /// The same, for longer.
    pub(super) fn renewed(&self, now: Timestamp) -> Self {
        Self {
            expires: now + HOLDS,
            ..self.clone()
        }
    }

    /// Whether nobody works on it any more. Of a process on this machine that is known, whatever a
    /// clock says; of another it is believed once its time is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        match journal::has_ended(&self.owner, &self.namespace) {
            Some(ended) => ended,
            None => now > self.expires + CLOCKS,
        }
    }

    /// Whether it is the claim of that very task of that run.
    pub(super) fn is_of(&self, wanted: &Wanted<'_>) -> bool {
        self.run == *wanted.run && self.task == *wanted.task
    }

    /// Whether it is the same claim, maybe of before or after it was renewed.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        (&self.run, &self.task, self.fence) == (&other.run, &other.task, other.fence)
    }

    /// The commit that holds it, as git stores it.
    pub(super) fn to_commit(&self, now: Timestamp) -> Result<Vec<u8>, ClaimError> {
        let json = serde_json::to_string(self).map_err(ClaimError::Record)?;
        let who = format!("agent-run <agent-run@localhost> {} +0000", now.as_second());
        let (key, run, task) = (&self.key, &self.run, &self.task);
        Ok(format!(
            "tree {NO_FILES}\nauthor {who}\ncommitter {who}\n\nclaim {key} for {task} of {run}\n\n{json}\n"
        )
        .into_bytes())
    }

    /// Reads what [`Self::to_commit`] wrote; the reason where it is something else.
    pub(super) fn of_commit(commit: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(commit).map_err(|_| "it is no text".to_owned())?;
        let json = text.trim_end().lines().next_back().unwrap_or_default();
        let record: Self = serde_json::from_str(json).map_err(|_| "it is no claim".to_owned())?;
        if record.version != VERSION {
            return Err(format!("its version is {}", record.version));
        }
        Ok(record)
    }
}

mod time {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{at:.0}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}
