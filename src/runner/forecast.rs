//! What merging a run's results would give, found out at its end.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, Shutdown, StepError, asked_to_kill, blocking};
use crate::engine::Engine;
use crate::event::{EventKind, Forecast, TaskReport};
use crate::forecast::{Candidate, ForecastRequest, forecast};
use crate::git::GitError;
use crate::id::TaskId;

/// How long the end of a run waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The forecast of the good results; none where there are none, or the run is to end at once. What
/// goes wrong is a warning: the results are safe.
pub(super) async fn of_results<E: Engine>(
    shared: &Arc<Shared<E>>,
    reports: &[TaskReport],
) -> Option<Box<Forecast>> {
    let is_forced = matches!(*shared.shutdown.borrow(), Shutdown::Forced(_));
    let good: Vec<TaskReport> = reports.iter().filter(|r| r.is_good()).cloned().collect();
    if is_forced || good.is_empty() {
        return None;
    }
    let held = shared.clone();
    let found = blocking(move || find(&held, &good));
    let mut shutdown = shared.shutdown.clone();
    let found = tokio::select! {
        found = found => found,
        () = asked_to_kill(&mut shutdown) => return None,
    };
    let message = match found {
        Ok(forecast) => return forecast.map(Box::new),
        Err(GitError::TimedOut { .. }) => format!("it takes longer than {PATIENCE:?}"),
        Err(error) => StepError::new("forecast", &error).message,
    };
    let message = format!(
        "whether the results fit together was not found out: {message}; `agent-run forecast` tries again"
    );
    shared.event(None, EventKind::Warning { message });
    None
}

fn find<E: Engine>(shared: &Shared<E>, good: &[TaskReport]) -> Result<Option<Forecast>, GitError> {
    let context = &shared.context;
    let plan = &context.plan;
    let needs = |id: &TaskId| {
        let mut tasks = plan.tasks.iter();
        let task = tasks.find(|task| task.id == *id);
        task.map(|task| task.needs.clone()).unwrap_or_default()
    };
    let candidates = Candidate::of_tasks(&context.repository, good, needs)?;
    if candidates.is_empty() {
        return Ok(None);
    }
    let name = &plan.repository.base_ref;
    // A base whose ref is gone is where it was.
    let tip = context.repository.resolve_base(name);
    let tip = tip.unwrap_or_else(|_| plan.repository.base.clone());
    let request = ForecastRequest {
        repository: &context.repository,
        base: (name, &tip),
        candidates: &candidates,
        patience: Some(PATIENCE),
    };
    forecast(&request).map(Some)
}
