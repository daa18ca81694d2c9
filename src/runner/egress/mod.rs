//! The proxy of a run's tasks with an allow-list: one container for all of them, started when the first
//! one needs it, and again where it ends. While it does not run, those tasks reach nothing.

mod place;
mod proxy;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::dispatcher::EndsWithRun;
use super::prepare::Connection;
use super::stops::Urgency;
use super::{Shared, StepError, blocking};
use crate::egress::{self, Asked, Lists, Said, Verdict};
use crate::engine::Engine;
use crate::engine::config::{Mount, NetworkAttachment};
use crate::event::{HostUse, TaskEgress};
use crate::journal::log::{LogReader, LogStream};
use crate::plan::{RunPlan, TaskPlan};

pub(super) use place::Place;
use place::place_of;

/// How many hosts of a task are told apart.
const HOSTS: usize = 200;

/// The proxy of a run, and what it has said.
pub(super) struct Egress {
    lists: Lists,
    proxy: Mutex<Option<Proxy>>,
    tally: Mutex<Tally>,
}

/// A proxy at work; it ends with the run.
struct Proxy {
    state: watch::Receiver<State>,
    close: watch::Sender<bool>,
    /// Gives what could not be removed.
    work: JoinHandle<Vec<String>>,
    _ends: EndsWithRun,
}

#[derive(Debug, Clone)]
enum State {
    Starting,
    /// What it shares with tasks is there, and it is not known to hold, or has ended and is being started again.
    Made,
    Holds,
    Failed(StepError),
}

/// Who asked for which host, and what became of it.
#[derive(Default)]
struct Tally {
    uses: BTreeMap<usize, BTreeMap<(String, u16), HostUse>>,
    others: BTreeMap<usize, u64>,
}

impl Egress {
    /// Nothing is started yet.
    pub(super) fn new(plan: &RunPlan) -> Self {
        let tasks = plan.tasks.iter().enumerate();
        let lists = tasks.filter_map(|(at, task)| Some((at, task.egress.clone()?)));
        Self {
            lists: lists.collect(),
            proxy: Mutex::default(),
            tally: Mutex::default(),
        }
    }

    /// The proxy's state as it changes; where none is at work, one is started.
    fn join<E: Engine>(&self, shared: &Arc<Shared<E>>) -> watch::Receiver<State> {
        let mut proxy = self.proxy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(proxy) = proxy.as_ref().filter(|proxy| !proxy.work.is_finished()) {
            return proxy.state.clone();
        }
        let (tell, state) = watch::channel(State::Starting);
        let (close, closed) = watch::channel(false);
        let work = tokio::spawn(proxy::keep(shared.clone(), tell, closed));
        let ends = EndsWithRun(work.abort_handle());
        *proxy = Some(Proxy {
            state: state.clone(),
            close,
            work,
            _ends: ends,
        });
        state
    }

    /// Ends it, and gives what could not be removed.
    async fn close(&self) -> Vec<String> {
        let proxy = self
            .proxy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(proxy) = proxy else {
            return Vec::new();
        };
        proxy.close.send_replace(true);
        match proxy.work.await {
            Ok(problems) => problems,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Which hosts the tasks have asked for, in the order of the plan.
    pub(super) fn report(&self, plan: &RunPlan) -> Vec<TaskEgress> {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let uses = tally.uses.iter();
        uses.map(|(at, uses)| TaskEgress {
            task: plan.tasks[*at].id.clone(),
            hosts: uses.values().cloned().collect(),
            others: tally.others.get(at).copied().unwrap_or_default(),
        })
        .collect()
    }

    /// Counts what was asked for; gives the task where it is the first refusal of its kind.
    fn count(&self, asked: &Asked) -> Option<usize> {
        let task = self.lists.task(asked.source)?;
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let uses = tally.uses.entry(task).or_default();
        let key = (asked.host.clone(), asked.port);
        if !uses.contains_key(&key) && uses.len() >= HOSTS {
            *tally.others.entry(task).or_default() += 1;
            return None;
        }
        let host = uses.entry(key).or_insert_with(|| HostUse {
            host: asked.host.clone(),
            port: asked.port,
            passed: 0,
            denied: 0,
        });
        match asked.verdict {
            Verdict::Passed => host.passed += 1,
            Verdict::Denied => host.denied += 1,
        }
        (asked.verdict == Verdict::Denied && host.denied == 1).then_some(task)
    }

    /// Counts what was asked for while an earlier process had the run, as far as the log has it.
    pub(super) fn remember(&self, log: &Path) -> io::Result<()> {
        if self.lists.is_empty() || !log.exists() {
            return Ok(());
        }
        LogReader::open(log)?.read(|record| {
            let line = String::from_utf8_lossy(record.text);
            if let (LogStream::Stdout, Said::Asked(asked)) = (record.stream, Said::read(&line)) {
                self.count(&asked);
            }
            Ok(())
        })
    }
}

/// Ends the proxy of a run that is over, and removes its files; gives what could not be removed.
pub(super) async fn close<E: Engine>(shared: &Arc<Shared<E>>) -> Vec<String> {
    let mut problems = shared.egress.close().await;
    let place = place_of(shared);
    problems.extend(blocking(move || place.remove()).await);
    problems
}

/// Starts the proxy for a task that will need it, if it has a list.
pub(super) fn begin<E: Engine>(shared: &Arc<Shared<E>>, task: &TaskPlan) {
    if task.egress.is_some() {
        let _ = shared.egress.join(shared);
    }
}

/// How a task with a list is attached to the world.
pub(super) async fn connection<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
) -> Result<Connection, StepError> {
    wait(shared, task, |state| !matches!(state, State::Starting)).await?;
    let place = place_of(shared);
    let tasks = &shared.context.plan.tasks;
    let at = tasks.iter().position(|other| other.id == task.id);
    let at = at.ok_or_else(|| failed("the plan has no such task"))?;
    let mount = |source: PathBuf, target: &str| Mount {
        source,
        target: target.to_owned(),
        read_only: true,
    };
    Ok(Connection {
        attachment: NetworkAttachment::None,
        mounts: vec![
            mount(place.shared().join(egress::way(at)), egress::WAY),
            mount(
                place.shared().join(egress::FORWARDER),
                egress::FORWARDER_INSIDE,
            ),
        ],
        environment: egress::environment(),
    })
}

/// Returns once a task may reach what is on its list, if it has one, or is to stop. Its container waits
/// for the same before the command begins, so that it can be started meanwhile.
pub(super) async fn holds<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
) -> Result<(), StepError> {
    match task.egress {
        Some(_) => wait(shared, task, |state| matches!(state, State::Holds)).await,
        None => Ok(()),
    }
}

/// Waits for a state of the proxy, or for its failure, or until the task is to stop.
async fn wait<E: Engine>(
    shared: &Arc<Shared<E>>,
    task: &TaskPlan,
    is_it: impl Fn(&State) -> bool,
) -> Result<(), StepError> {
    let mut state = shared.egress.join(shared);
    let mut stops = shared.stops(&task.id);
    let known = state.wait_for(|state| matches!(state, State::Failed(_)) || is_it(state));
    let known = tokio::select! {
        known = timeout(task.startup_timeout, known) => known,
        // Its container is not started any more.
        () = stops.asked(Urgency::Graceful) => return Ok(()),
    };
    match known {
        Ok(Ok(state)) => match &*state {
            State::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        },
        Ok(Err(_)) => Err(failed("the egress proxy was not started")),
        Err(_) => {
            let limit = task.startup_timeout.as_secs();
            Err(failed(format!(
                "the egress proxy did not run within startup_timeout ({limit} s)"
            )))
        }
    }
}

fn failed(message: impl Into<String>) -> StepError {
    StepError {
        stage: "egress",
        message: message.into(),
    }
}
