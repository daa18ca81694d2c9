//! What tasks on the bridge reach of the engine's machine and its cloud: tried beside a run, told in one
//! line, and then believed for a day.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::doctor::firewall;
use super::prepare::Prepared;
use super::surroundings::Surroundings;
use crate::engine::config::{ImageRequest, PullPolicy};
use crate::engine::docker::DockerEngine;
use crate::engine::{Engine as _, EngineInfo};
use crate::id::{ImageRef, RunId, StateDir, hex_hash};
use crate::journal;
use crate::plan::{NetworkMode, TaskPlan};
use crate::report::Paint;
use crate::runner::{Examiner, Pool, Reach, Shutdown};

/// How long an answer is believed. `doctor` always asks anew, and replaces it.
const BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a run goes on before it is tried: its first tasks have started by then.
const AFTER: Duration = Duration::from_secs(3);

/// What is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Exposed {
    host: bool,
    metadata: bool,
}

impl From<Reach> for Exposed {
    fn from(reach: Reach) -> Self {
        Self {
            host: reach.host == Some(true),
            metadata: reach.metadata,
        }
    }
}

impl Exposed {
    /// A sentence, if there is anything to tell.
    fn warning(self, pool: Pool) -> Option<String> {
        let what = match (self.host, self.metadata) {
            (false, false) => return None,
            (true, false) => "what listens on the engine's machine",
            (false, true) => "the cloud metadata service 169.254.169.254",
            (true, true) => {
                "what listens on the engine's machine, and the cloud metadata service 169.254.169.254"
            }
        };
        let command = firewall::command(pool);
        Some(format!(
            "tasks on the bridge can reach {what}: `{command}` prints rules against that"
        ))
    }
}

/// What is to be tried beside a run.
pub(super) struct Exposure {
    engine: Arc<DockerEngine>,
    info: EngineInfo,
    state: StateDir,
    run: RunId,
    pool: Pool,
}

/// What is to be tried, where a task gets to the bridge; what is known already becomes a warning of the
/// plan.
pub(super) fn of(
    surroundings: &Surroundings,
    prepared: &mut Prepared,
    pool: Pool,
) -> Option<Exposure> {
    if !prepared.plan.tasks.iter().any(is_open) {
        return None;
    }
    let file = file(&surroundings.state, &prepared.info, pool)?;
    if let Some(known) = believed(&file) {
        prepared.plan.warnings.extend(known.warning(pool));
        return None;
    }
    Some(Exposure {
        engine: Arc::clone(&prepared.engine),
        info: prepared.info.clone(),
        state: surroundings.state.clone(),
        run: prepared.plan.run.clone(),
        pool,
    })
}

/// Tries it beside a run; gives what is to be told if it was found before the run ended.
pub(super) async fn beside<T>(
    exposure: Option<Exposure>,
    run: impl Future<Output = T>,
) -> (T, Option<String>) {
    let (stop, stopped) = oneshot::channel();
    let run = async {
        let ended = run.await;
        drop(stop);
        ended
    };
    let trial = async {
        let exposure = exposure?;
        let pool = exposure.pool;
        let reach = Box::pin(exposure.reach(stopped)).await?;
        Exposed::from(reach).warning(pool)
    };
    tokio::join!(run, trial)
}

impl Exposure {
    async fn reach(self, mut stopped: oneshot::Receiver<()>) -> Option<Reach> {
        tokio::select! {
            biased;
            _ = &mut stopped => return None,
            () = sleep(AFTER) => {}
        }
        let image = self.engine.ensure_image(&base_image()).await.ok()?;
        let (_none, shutdown) = watch::channel(Shutdown::None);
        let examiner = Examiner {
            engine: self.engine,
            info: self.info,
            image,
            state: self.state,
            run: self.run,
            owner: journal::owner(),
            pool: self.pool,
            shutdown,
        };
        let reach = examiner.reach(async { drop(stopped.await) }).await.ok()??;
        note(&examiner.state, &examiner.info, (self.pool, reach));
        Some(reach)
    }
}

/// A line of that; nothing where there is nothing to tell.
pub(super) fn told(warning: Option<String>, paint: Paint) -> String {
    let line = warning.map(|words| format!("{} {words}\n", paint.careful("warning:")));
    line.unwrap_or_default()
}

/// Whether something of it is on the bridge: a setup always is.
fn is_open(task: &TaskPlan) -> bool {
    let itself = task.network_mode == NetworkMode::Bridge && task.egress.is_none();
    itself || task.setup.is_some()
}

/// It is not made for this.
fn base_image() -> ImageRequest {
    ImageRequest {
        reference: ImageRef::base(),
        pull_policy: PullPolicy::Never,
        build: None,
    }
}

/// Where it is noted of this engine, reached in this way, and pool; nowhere where the engine does not say which one it is.
fn file(state: &StateDir, info: &EngineInfo, pool: Pool) -> Option<PathBuf> {
    // Engines of one machine may have the same id.
    let text = format!("{} {} {pool}", info.id.as_ref()?, info.endpoint);
    Some(state.reach(&hex_hash(text.as_bytes(), 32)))
}

fn believed(file: &Path) -> Option<Exposed> {
    let age = fs::metadata(file).ok()?.modified().ok()?.elapsed().ok()?;
    let text = fs::read_to_string(file).ok()?;
    let said = |word| text.lines().any(|line| line == word);
    let exposed = Exposed {
        host: said("host"),
        metadata: said("metadata"),
    };
    (age < BELIEVED && said("tried")).then_some(exposed)
}

/// Notes what was found. What cannot be noted is tried again, and nothing else comes of it.
pub(super) fn note(state: &StateDir, info: &EngineInfo, (pool, reach): (Pool, Reach)) {
    let exposed = Exposed::from(reach);
    let words = [
        (true, "tried"),
        (exposed.host, "host"),
        (exposed.metadata, "metadata"),
    ];
    let words = words.into_iter().filter(|(is_so, _)| *is_so);
    let text: String = words.map(|(_, word)| format!("{word}\n")).collect();
    if let Some(file) = file(state, info, pool)
        && let Some(directory) = file.parent()
    {
        let _ = fs::create_dir_all(directory).and_then(|()| fs::write(&file, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::tests::info;

    #[test]
    fn what_was_found_is_believed_for_a_day_of_that_engine_and_pool() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::new(directory.path().to_owned());
        let info = EngineInfo {
            id: Some("one".into()),
            ..info()
        };
        let pool = Pool::default();
        let known = |info: &EngineInfo, pool| believed(&file(&state, info, pool).unwrap());
        assert_eq!(known(&info, pool), None);
        let reach = Reach {
            host: Some(true),
            metadata: true,
            ..Reach::default()
        };
        note(&state, &info, (pool, reach));
        let exposed = known(&info, pool).unwrap();
        assert_eq!(exposed, Exposed::from(reach));
        assert_eq!(known(&info, "10.9.0.0/16".parse().unwrap()), None);
        let another = EngineInfo {
            id: Some("two".into()),
            ..info.clone()
        };
        assert_eq!(known(&another, pool), None);
        note(&state, &info, (pool, Reach::default()));
        assert_eq!(known(&info, pool).unwrap().warning(pool), None);
        let path = file(&state, &info, pool).unwrap();
        let long_ago = std::time::SystemTime::now() - BELIEVED;
        let noted = fs::File::options().write(true).open(path).unwrap();
        noted.set_modified(long_ago).unwrap();
        assert_eq!(known(&info, pool), None);
    }

    #[test]
    fn one_line_says_what_is_reached_and_what_to_do() {
        let pool: Pool = "10.9.0.0/16".parse().unwrap();
        let exposed = Exposed {
            host: true,
            metadata: false,
        };
        assert_eq!(
            exposed.warning(pool).unwrap(),
            "tasks on the bridge can reach what listens on the engine's machine: `agent-run doctor \
             --firewall --network-pool 10.9.0.0/16` prints rules against that"
        );
    }
}
