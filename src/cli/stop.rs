//! `stop`: asks a live run, or some of its tasks, to stop, and waits until they have.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use super::args::StopArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::surroundings::Surroundings;
use super::target::Target;
use super::{print_error, print_result};
use crate::event::{EventKind, StopReason};
use crate::id::TaskId;
use crate::journal::{FoundRun, RunDirectory, RunState, StopRequest};
use crate::runner::{Shutdown, TaskStops};

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn stop(surroundings: &Surroundings, arguments: &StopArgs) -> Result<Exit, Failure> {
    let target = Target::find(surroundings, Some(&arguments.run))?;
    let run = &target.found.run;
    let tasks = target.tasks(&arguments.tasks)?.into_iter();
    let mut tasks: HashSet<TaskId> = tasks.cloned().collect();
    let whole = tasks.is_empty().then_some(None);
    let asked = tasks.iter().cloned().map(Some).chain(whole);
    let mut is_heard = target.found.state == RunState::Live;
    for task in asked {
        let forced = arguments.kill;
        is_heard = is_heard && target.found.ask(&StopRequest { task, forced })?;
    }
    if !is_heard && FoundRun::of(&surroundings.state, run)?.state == RunState::Live {
        let error = anyhow::anyhow!("run {run} does not listen: interrupt its process instead");
        return Err(Failure::new(Exit::EnvironmentUnusable, error));
    }
    if !is_heard {
        print_result(&format!("run {run} does not run\n"));
        return Ok(Exit::Success);
    }
    print_error(&format!("asked run {run}; waiting for its end\n"));
    let mut journal = target.found.journal();
    while FoundRun::of(&surroundings.state, run)?.state == RunState::Live {
        for event in journal.read()? {
            if let (EventKind::TaskFinished { .. }, Some(task)) = (event.kind, event.task)
                && tasks.remove(&task)
                && tasks.is_empty()
            {
                return Ok(Exit::Success);
            }
        }
        std::thread::sleep(LOOK);
    }
    Ok(Exit::Success)
}

/// What a live run hears by its pipe, where it has one.
pub(super) struct Requests(Option<Receiver>);

impl Requests {
    pub(super) fn open(directory: &RunDirectory) -> Result<Self, Failure> {
        let pipe = directory.requests()?;
        let receiver = pipe.map(Receiver::from_file).transpose();
        let receiver = receiver.map_err(|e| Failure::new(Exit::Unexpected, e))?;
        Ok(Self(receiver))
    }

    /// Turns requests into those of the runner for as long as the run lasts.
    pub(super) async fn forward(
        self,
        shutdown: watch::Sender<Shutdown>,
        stops: watch::Sender<TaskStops>,
    ) {
        let Some(pipe) = self.0 else { return };
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match StopRequest::parse(&line) {
                Some(StopRequest { task: None, forced }) => {
                    let reason = StopReason::Interrupted;
                    shutdown.send_replace(if forced {
                        Shutdown::Forced(reason)
                    } else {
                        Shutdown::Graceful(reason)
                    });
                }
                Some(StopRequest {
                    task: Some(task),
                    forced,
                }) => note(&stops, task, forced),
                None => {}
            }
        }
    }
}

/// A later request can only make it more urgent.
fn note(stops: &watch::Sender<BTreeMap<TaskId, bool>>, task: TaskId, forced: bool) {
    stops.send_modify(|stops| *stops.entry(task).or_default() |= forced);
}
