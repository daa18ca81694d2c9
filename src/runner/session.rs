//! What an agent's client keeps of its conversation: taken out of the home of an attempt, for one that
//! goes on with it.
//!
//! Opaque files of the task's: copied by the rules for artifacts, bounded, and given to nobody but a
//! later attempt at the same task.

use std::path::PathBuf;
use std::sync::Arc;

use super::course::From;
use super::{Shared, Shutdown, blocking};
use crate::collect::limits::CollectLimits;
use crate::collect::{self, ArtifactsRequest};
use crate::engine::Engine;
use crate::id::AttemptId;
use crate::plan::TaskPlan;
use crate::workspace::Workspace;

/// Largest file that is kept, in bytes.
const LARGEST: u64 = 256 << 20;
/// Most that is kept of an attempt, in bytes.
const MOST: u64 = 512 << 20;
/// Most files that are kept of an attempt.
const MOST_FILES: u64 = 20_000;

/// Keeps what the task wants kept. Gives what is to be known of that, as a sentence.
pub(super) async fn keep<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    attempt: &AttemptId,
    workspace: Arc<Workspace>,
) -> Option<String> {
    let files = task.agent.as_ref()?.session.clone();
    if files.is_empty() {
        return None;
    }
    let to = shared.context.state.session(attempt);
    let shutdown = shared.shutdown.clone();
    let report = blocking(move || {
        collect::copy_artifacts(&ArtifactsRequest {
            worktree: &workspace.home(),
            to,
            paths: &files,
            limits: CollectLimits {
                file: LARGEST,
                total: MOST,
                paths: MOST_FILES,
                ..CollectLimits::default()
            },
            hurry: &|| matches!(*shutdown.borrow(), Shutdown::Forced(_)),
        })
    });
    let report = report.await;
    let skipped = report.skipped_paths.into_iter().next();
    let skipped = skipped.map(|(path, why)| match report.skipped {
        1 => format!("{path} {why}"),
        2 => format!("{path} {why}, and 1 more was skipped"),
        all => format!("{path} {why}, and {} more were skipped", all - 1),
    });
    let why = report.incomplete.or(skipped)?;
    Some(format!("its session is not kept as a whole: {why}"))
}

/// What an attempt goes on with that goes on from that result; else from where its plan does.
pub(super) fn of<E: Engine>(
    shared: &Shared<E>,
    task: &TaskPlan,
    from: Option<&From>,
) -> Option<PathBuf> {
    let of_run = |run, number| AttemptId {
        run,
        task: task.id.clone(),
        number,
    };
    let attempt = match (from, &task.continues) {
        (Some(from), _) => of_run(shared.context.plan.run.clone(), from.attempt),
        (None, Some(from)) => of_run(from.run.clone(), from.attempt),
        (None, None) => return None,
    };
    let session = shared.context.state.session(&attempt);
    session.is_dir().then_some(session)
}
