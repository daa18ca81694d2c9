//! What an agent's client leaves of its work in the task's home: a transcript, and what it used.
//!
//! Both are copied by the rules for artifacts, with the values of secrets masked, and believed in nothing:
//! numbers that do not fit are none.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Shared, Shutdown, blocking};
use crate::collect::limits::CollectLimits;
use crate::collect::{self, ArtifactsRequest};
use crate::engine::Engine;
use crate::event::{AgentReport, AgentUsage};
use crate::id::{AttemptId, PathPattern};
use crate::plan::TaskPlan;
use crate::secrets::{Needles, Redactor};
use crate::workspace::Workspace;

/// Where presets leave it, below the home.
const PLACE: &str = ".agent-run";
/// The names that a transcript may have.
const TRANSCRIPTS: [&str; 3] = ["transcript.jsonl", "transcript.json", "transcript.md"];
/// Where they leave numbers there: the directory and the file.
const NUMBERS: (&CStr, &CStr) = (c".agent-run", c"usage.json");
/// Longest transcript that is kept, in bytes.
const LONGEST: u64 = 256 << 20;
/// Longest text of numbers that is read, in bytes.
const LONGEST_NUMBERS: u64 = 4096;
/// Longest time that an agent may have its task wait for, in seconds: subscriptions count in windows of five
/// hours.
const LONGEST_WAIT: u64 = 6 * 3600;
/// How much is masked at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// What an agent's client has told in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Told {
    /// What it has used so far.
    pub(super) used: AgentUsage,
    /// How long its model asks to be left alone, in seconds.
    pub(super) retry_after: Option<u64>,
}

/// The report of a task's agent, if it has one.
pub(super) async fn report<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    attempt: &AttemptId,
    workspace: Arc<Workspace>,
) -> Option<AgentReport> {
    let agent = task.agent.as_ref()?;
    let (name, version) = (agent.name.clone(), agent.version.clone());
    let (to, shutdown) = (
        shared.context.state.transcript(attempt),
        shared.shutdown.clone(),
    );
    let needles = shared.context.needles.clone();
    let (told, transcript) = blocking(move || {
        let told = told(&workspace.home());
        let left = TRANSCRIPTS.iter();
        let left = left.filter_map(|name| format!("{PLACE}/{name}").parse().ok());
        let patterns: Vec<PathPattern> = left.collect();
        let report = collect::copy_artifacts(&ArtifactsRequest {
            worktree: &workspace.home(),
            to: to.clone(),
            paths: &patterns,
            limits: CollectLimits {
                file: LONGEST,
                total: 2 * LONGEST,
                ..CollectLimits::default()
            },
            hurry: &|| matches!(*shutdown.borrow(), Shutdown::Forced(_)),
        });
        let copies = to.join(PLACE);
        let named = report
            .copied
            .iter()
            .filter_map(|file| Path::new(&file.path).file_name());
        let transcript = named
            .filter(|name| TRANSCRIPTS.iter().any(|known| name == known))
            .find_map(|name| masked(&copies.join(name), to.join(name), &needles));
        // What is not masked does not stay: an agent may have made a directory of any of them.
        let _ = fs::remove_dir_all(&copies);
        (told, transcript)
    })
    .await;
    Some(AgentReport {
        name,
        version,
        used: told.used,
        retry_after_ms: told.retry_after.map(|seconds| seconds * 1000),
        transcript,
    })
}

/// The numbers in an agent's home.
pub(super) fn told(home: &Path) -> Told {
    let text = collect::glimpse(home, NUMBERS, LONGEST_NUMBERS);
    let numbers: Option<Map<String, Value>> =
        text.and_then(|text| serde_json::from_slice(&text).ok());
    let numbers = numbers.unwrap_or_default();
    let number = |name: &str| numbers.get(name).and_then(Value::as_f64);
    let retry_after = whole(number("retry_after").map(f64::ceil), 1.0);
    Told {
        used: AgentUsage {
            turns: whole(number("turns"), 1.0),
            tokens: whole(number("tokens"), 1.0),
            micro_usd: whole(number("usd"), 1e6),
        },
        retry_after: retry_after.map(|seconds| seconds.min(LONGEST_WAIT)),
    }
}

/// A number of at most fifteen digits.
fn whole(number: Option<f64>, times: f64) -> Option<u64> {
    let number = (number? * times).round();
    let fits = (0.0..1e15).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number within bounds"
    )]
    fits.then_some(number as u64)
}

/// The transcript with the values of secrets masked; none where that cannot be done.
fn masked(copy: &Path, to: PathBuf, needles: &Needles) -> Option<PathBuf> {
    let done = mask(copy, &to, needles);
    if done.is_err() {
        let _ = fs::remove_file(&to);
    }
    done.is_ok().then_some(to)
}

fn mask(from: &Path, to: &Path, needles: &Needles) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut redactor = Redactor::new(needles);
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk)? {
            0 => break,
            read => to.write_all(&redactor.push(&chunk[..read]))?,
        }
    }
    to.write_all(&redactor.finish())
}
