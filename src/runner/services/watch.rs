//! What becomes of a service once it was ready: told to its task, which goes on.

use std::sync::Arc;

use tokio::sync::watch as channel;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::health::{Check, Said};
use super::{Served, Services, Up, pod};
use crate::engine::{Engine, Exit};
use crate::event::EventKind;
use crate::id::{AttemptId, Role};
use crate::plan::{ServicePlan, TaskPlan};
use crate::runner::dispatcher::EndsWithRun;
use crate::runner::task::to_the_end;
use crate::runner::{Shared, StepError};

/// A service that was ready, and who is told.
struct Watch<E: Engine> {
    shared: Arc<Shared<E>>,
    task: TaskPlan,
    attempt: AttemptId,
    role: Role,
    service: ServicePlan,
    check: Check,
}

/// Tells of a service that ends, and of one that is not healthy any more, until it is to end.
pub(super) fn watch<E: Engine>(
    served: Served<'_, E>,
    service: &ServicePlan,
    check: Check,
    mut closing: channel::Receiver<bool>,
) -> (JoinHandle<()>, EndsWithRun) {
    let watch = Watch {
        shared: served.shared.clone(),
        task: served.task.clone(),
        attempt: served.attempt.clone(),
        role: served.role,
        service: service.clone(),
        check,
    };
    let work = tokio::spawn(async move {
        tokio::select! {
            biased;
            _ = closing.wait_for(|is_closing| *is_closing) => {}
            () = watch.until_its_end() => {}
        }
    });
    let ends = EndsWithRun(work.abort_handle());
    (work, ends)
}

/// How a service ended, as a clause.
pub(super) fn how(service: &ServicePlan, exit: Exit) -> String {
    match exit {
        Exit {
            oom_killed: true,
            code,
        } => {
            let limit = service.limits.memory >> 20;
            format!("out of memory (`mem_limit: {limit}m`, exit code {code})")
        }
        Exit { code, .. } => format!("exit code {code}"),
    }
}

impl<E: Engine> Watch<E> {
    fn served(&self) -> Served<'_, E> {
        Served {
            shared: &self.shared,
            task: &self.task,
            attempt: &self.attempt,
            role: self.role,
        }
    }

    async fn until_its_end(&self) {
        let container = self.served().container_of(&self.service.name);
        let ended = to_the_end(&self.shared, &self.task.id, &container);
        let what = tokio::select! {
            exit = ended => match exit {
                Ok(exit) => format!("has ended while its task goes on: {}", how(&self.service, exit)),
                Err(error) => format!("may have ended while its task goes on: {}", error.message),
            },
            () = self.ask_on() => return,
        };
        self.tell(&what);
    }

    /// Asks on whether it is healthy; tells when that changes.
    async fn ask_on(&self) {
        if !self.check.goes_on() {
            std::future::pending::<()>().await;
        }
        let mut failures = 0;
        loop {
            sleep(self.check.interval).await;
            // An engine that does not answer says nothing of the service.
            let Ok(said) = self.check.ask(self.served(), &self.service).await else {
                continue;
            };
            match said {
                Said::Passed if failures >= self.check.retries => {
                    self.tell("is healthy again");
                    failures = 0;
                }
                Said::Passed => failures = 0,
                Said::Failed(why) => {
                    failures += 1;
                    if failures == self.check.retries {
                        self.tell(&format!("is not healthy while its task goes on: {why}"));
                    }
                }
            }
        }
    }

    fn tell(&self, what: &str) {
        let name = &self.service.name;
        let log = self.served().log_of(name);
        let message = format!("service `{name}` {what}; its log: {}", log.display());
        self.shared
            .event(Some(&self.task.id), EventKind::Warning { message });
    }
}

/// Takes up the services of a container that an earlier process has left running.
///
/// # Errors
/// Where a log cannot be written.
pub(in crate::runner) async fn take_up<E: Engine>(
    served: Served<'_, E>,
) -> Result<Services<E>, StepError> {
    let shared = served.shared;
    let mut services = Services::none(shared);
    for service in &served.task.services {
        let container = served.container_of(&service.name);
        let Ok(output) = shared.context.engine.logs(&container, true).await else {
            continue;
        };
        let mut up = Up::new(served, service, output)?;
        let image = shared.images.obtain(shared, &service.image).await;
        let check = Check::of(service, &image.unwrap_or_default());
        let closing = services.closing.subscribe();
        up.watcher = check
            .ok()
            .map(|check| watch(served, service, check, closing));
        services.up.push(up);
    }
    if served.task.has_pod() {
        services.pod = Some(served.pod_name());
        // A pod that has gone has none, which its task finds out.
        services.ports = pod::published(served).await.unwrap_or_default();
    }
    Ok(services)
}
