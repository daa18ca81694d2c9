//! Who is asked to stop: the whole run, or one of its tasks.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::{Shared, Shutdown};
use crate::engine::Engine;
use crate::id::TaskId;

/// The tasks that are asked to stop, each with whether its container is killed without grace.
pub type TaskStops = BTreeMap<TaskId, bool>;

/// How urgently something is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// It is not.
    None,
    /// With grace.
    Graceful,
    /// At once.
    Forced,
}

impl From<Shutdown> for Urgency {
    fn from(shutdown: Shutdown) -> Self {
        match shutdown {
            Shutdown::None => Self::None,
            Shutdown::Graceful(_) => Self::Graceful,
            Shutdown::Forced(_) => Self::Forced,
        }
    }
}

/// What one task listens to: requests to its run, and to itself.
#[derive(Clone)]
pub(super) struct Stops {
    task: TaskId,
    run: watch::Receiver<Shutdown>,
    tasks: watch::Receiver<TaskStops>,
}

impl<E: Engine> Shared<E> {
    pub(super) fn stops(&self, task: &TaskId) -> Stops {
        Stops {
            task: task.clone(),
            run: self.shutdown.clone(),
            tasks: self.context.stops.clone(),
        }
    }
}

impl Stops {
    /// How urgently it is asked to stop now.
    pub(super) fn now(&self) -> Urgency {
        let own = of(&self.tasks.borrow(), &self.task);
        own.max(Urgency::from(*self.run.borrow()))
    }

    /// Returns once it is asked to stop at least so urgently.
    pub(super) async fn asked(&mut self, least: Urgency) {
        let Self { task, run, tasks } = self;
        let run = async {
            let asked = run.wait_for(|shutdown| Urgency::from(*shutdown) >= least);
            asked.await.map(drop)
        };
        let own = async {
            let asked = tasks.wait_for(|stops| of(stops, task) >= least);
            asked.await.map(drop)
        };
        tokio::select! {
            // A sender that has gone asks for nothing any more.
            Ok(()) = run => {}
            Ok(()) = own => {}
            else => std::future::pending().await,
        }
    }
}

fn of(stops: &TaskStops, task: &TaskId) -> Urgency {
    match stops.get(task) {
        None => Urgency::None,
        Some(false) => Urgency::Graceful,
        Some(true) => Urgency::Forced,
    }
}
