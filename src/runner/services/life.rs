//! From the start of services until all are ready: each after what it depends on, all within one time.

use std::collections::BTreeMap;
use std::future::Future;

use futures::future::join_all;
use tokio::sync::watch as channel;
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::health::{Check, Said};
use super::{Served, ServiceFailure, Services, Snapshots, Up, config, failed, joined, watch};
use crate::engine::{Engine, EngineError, ErrorKind, Exit, ImageInfo};
use crate::id::ServiceName;
use crate::plan::ServicePlan;
use crate::runner::StepError;
use crate::runner::pump::Ending;
use crate::runner::stops::Urgency;

/// How far a service has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Waiting,
    Started,
    Ready,
    /// It is not ready, and will not be.
    Given,
}

/// Why a service is not ready.
enum Stop {
    /// It is at fault.
    Failed(StepError),
    /// The task is to stop, or another service is at fault.
    Asked,
}

impl From<StepError> for Stop {
    fn from(error: StepError) -> Self {
        Self::Failed(error)
    }
}

/// What the starts of a task's services share.
struct Starting<'a, E: Engine> {
    served: Served<'a, E>,
    snapshots: &'a Snapshots,
    states: BTreeMap<&'a ServiceName, channel::Sender<State>>,
    deadline: Instant,
    /// Whether one of them has failed.
    gave_up: channel::Sender<bool>,
    closing: channel::Receiver<bool>,
}

/// Starts the services of a task, and returns once all are ready, or the task is to stop.
///
/// # Errors
/// That of the first one that is not ready.
pub(super) async fn start<E: Engine>(
    served: Served<'_, E>,
    snapshots: &Snapshots,
    services: &mut Services<E>,
) -> Result<(), ServiceFailure> {
    let task = served.task;
    let waiting = task.services.iter();
    let starting = Starting {
        served,
        snapshots,
        states: waiting
            .map(|service| (&service.name, channel::channel(State::Waiting).0))
            .collect(),
        deadline: Instant::now() + task.startup_timeout,
        gave_up: channel::channel(false).0,
        closing: services.closing.subscribe(),
    };
    let all = join_all(task.services.iter().map(|service| starting.one(service))).await;
    let mut first = None;
    for (up, failure) in all {
        services.up.extend(up);
        first = first.or(failure);
    }
    first.map_or(Ok(()), Err)
}

impl<'a, E: Engine> Starting<'a, E> {
    async fn one(&self, service: &'a ServicePlan) -> (Option<Up>, Option<ServiceFailure>) {
        let mut up = None;
        match self.bring_up(service, &mut up).await {
            Ok(()) => {
                self.is(service, State::Ready);
                (up, None)
            }
            Err(stop) => {
                self.is(service, State::Given);
                let Stop::Failed(error) = stop else {
                    return (up, None);
                };
                // The first one is told: others may fail for its sake.
                if self.gave_up.send_replace(true) {
                    return (up, None);
                }
                (None, Some(self.failure(service, error, up).await))
            }
        }
    }

    fn is(&self, service: &ServicePlan, state: State) {
        if let Some(tell) = self.states.get(&service.name) {
            tell.send_replace(state);
        }
    }

    async fn bring_up(&self, service: &ServicePlan, up: &mut Option<Up>) -> Result<(), Stop> {
        let shared = self.served.shared;
        if self.served.attempt.number > 1 {
            shared.images.forget_failure(&service.image);
        }
        let image = self.within(service, shared.images.obtain(shared, &service.image));
        let image = image.await?.map_err(|error| {
            // One that cannot be had is no fault of the service.
            Stop::Failed(StepError {
                message: format!("service `{}`: {}", service.name, error.message),
                ..error
            })
        })?;
        let image = self.snapshots.get(&service.name).unwrap_or(&image);
        for on in &service.depends_on {
            let wanted = if on.ready {
                State::Ready
            } else {
                State::Started
            };
            self.after(service, &on.service, wanted).await?;
        }
        let started = Instant::now();
        *up = Some(self.run(service, image).await?);
        self.is(service, State::Started);
        let check = Check::of(service, image)?;
        self.until_ready(service, &check, started).await?;
        if let Some(up) = up {
            let watch = watch::watch(self.served, service, check, self.closing.clone());
            up.watcher = Some(watch);
        }
        Ok(())
    }

    /// Waits for something, unless the task is to stop, another service fails, or the time is over.
    async fn within<T>(
        &self,
        service: &ServicePlan,
        wait: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let task = self.served.task;
        let mut stops = self.served.shared.stops(&task.id);
        let mut gave_up = self.gave_up.subscribe();
        tokio::select! {
            done = timeout_at(self.deadline, wait) => done.map_err(|_| {
                let limit = task.startup_timeout.as_secs();
                let name = &service.name;
                Stop::Failed(failed(format!("service `{name}` was not ready within startup_timeout ({limit} s)")))
            }),
            () = stops.asked(Urgency::Graceful) => Err(Stop::Asked),
            _ = gave_up.wait_for(|is_over| *is_over) => Err(Stop::Asked),
        }
    }

    /// Waits until a service that comes before has come so far.
    async fn after(
        &self,
        service: &ServicePlan,
        on: &ServiceName,
        wanted: State,
    ) -> Result<(), Stop> {
        let Some(state) = self.states.get(on) else {
            let name = &service.name;
            let message = format!("service `{name}` depends on `{on}`, which is not there");
            return Err(failed(message).into());
        };
        let mut state = state.subscribe();
        let come = state.wait_for(|state| *state >= wanted);
        match self.within(service, come).await? {
            Ok(state) if *state != State::Given => Ok(()),
            _ => Err(Stop::Asked),
        }
    }

    /// Creates the container, attaches to it and starts it.
    async fn run(&self, service: &ServicePlan, image: &ImageInfo) -> Result<Up, StepError> {
        let served = self.served;
        let shared = served.shared;
        let engine = &*shared.context.engine;
        let step = |error: EngineError| {
            let StepError { stage, message } = shared.step_error(super::SERVICES, error);
            let message = format!("service `{}`: {message}", service.name);
            StepError { stage, message }
        };
        let (config, input) = config::service(served, service, image)?;
        engine.create_container(&config).await.map_err(step)?;
        let output = engine.attach(&config.name, input).await.map_err(step)?;
        engine.start(&config.name).await.map_err(step)?;
        Up::new(served, service, output)
    }

    /// Asks until it is ready, or ends, or counts as unhealthy.
    async fn until_ready(
        &self,
        service: &ServicePlan,
        check: &Check,
        started: Instant,
    ) -> Result<(), Stop> {
        let name = &service.name;
        let container = self.served.container_of(name);
        let ended = self.served.shared.context.engine.wait(&container);
        tokio::pin!(ended);
        let mut last = "it was never asked".to_owned();
        for pause in check.pauses() {
            tokio::select! {
                exit = &mut ended => return Err(ended_early(service, exit).into()),
                said = self.within(service, check.ask(self.served, service)) => match said {
                    Ok(Ok(Said::Passed)) => return Ok(()),
                    Ok(Ok(Said::Failed(why))) => last = why,
                    // Where it has just ended, that says more.
                    Ok(Err(error)) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Refused(_)) => {
                        last = error.to_string();
                    }
                    Ok(Err(error)) => return Err(StepError::engine(super::SERVICES)(error).into()),
                    Err(stop) => return Err(with(stop, &last)),
                },
            }
            if check
                .patience()
                .is_some_and(|limit| started.elapsed() >= limit)
            {
                let time = started.elapsed().as_secs();
                let message = format!("service `{name}` was not ready after {time} s: {last}");
                return Err(failed(message).into());
            }
            tokio::select! {
                exit = &mut ended => return Err(ended_early(service, exit).into()),
                waited = self.within(service, sleep(pause)) => waited.map_err(|stop| with(stop, &last))?,
            }
        }
        Ok(())
    }

    /// What is told of a service at fault: its log, once it has ended.
    async fn failure(
        &self,
        service: &ServicePlan,
        error: StepError,
        up: Option<Up>,
    ) -> ServiceFailure {
        let Some(up) = up else {
            return error.into();
        };
        let engine = &*self.served.shared.context.engine;
        let _ = engine.stop(&up.container, Duration::ZERO).await;
        let _ = up.tell.send(Ending::Ended);
        let last_lines = joined(up.pump).await.last_lines;
        let log = self.served.log_of(&service.name);
        let message = format!("{}; its log: {}", error.message, log.display());
        ServiceFailure {
            error: StepError { message, ..error },
            log: Some(log),
            last_lines,
        }
    }
}

fn ended_early(service: &ServicePlan, exit: Result<Exit, EngineError>) -> StepError {
    let name = &service.name;
    match exit {
        Ok(exit) => failed(format!(
            "service `{name}` ended before it was ready: {}",
            watch::how(service, exit)
        )),
        Err(error) => StepError::engine(super::SERVICES)(error),
    }
}

/// The same, with what the last check said.
fn with(stop: Stop, last: &str) -> Stop {
    match stop {
        Stop::Failed(error) => Stop::Failed(StepError {
            message: format!("{}: {last}", error.message),
            ..error
        }),
        Stop::Asked => Stop::Asked,
    }
}
