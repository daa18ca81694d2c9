//! What an agent's client leaves of its work in the task's home: a transcript, and what it used.
//!
//! Both are copied by the rules for artifacts, with the values of secrets masked, and believed in nothing:
//! numbers that do not fit are none.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

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
/// How much is masked at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// The numbers as presets write them.
#[derive(Deserialize)]
struct Numbers {
    turns: Option<f64>,
    tokens: Option<f64>,
    usd: Option<f64>,
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
    let (used, transcript) = blocking(move || {
        let used = used(&workspace.home());
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
        (used, transcript)
    })
    .await;
    Some(AgentReport {
        name,
        version,
        used,
        transcript,
    })
}

/// What an agent has used so far, by the numbers in its home.
pub(super) fn used(home: &Path) -> AgentUsage {
    let text = collect::glimpse(home, NUMBERS, LONGEST_NUMBERS);
    let numbers: Option<Numbers> = text.and_then(|text| serde_json::from_slice(&text).ok());
    numbers.map_or_else(AgentUsage::default, |numbers| AgentUsage {
        turns: whole(numbers.turns, 1.0),
        tokens: whole(numbers.tokens, 1.0),
        micro_usd: whole(numbers.usd, 1e6),
    })
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
