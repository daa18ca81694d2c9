//! The removal of what a setup was carried out with, which no task waits for: only the run's end does.

use tokio::task::JoinHandle;

use crate::runner::dispatcher::EndsWithRun;

/// A removal under way, which gives what could not be removed, each a sentence.
pub(super) struct Removal {
    work: JoinHandle<Vec<String>>,
    _ends: EndsWithRun,
}

impl Removal {
    pub(super) fn begin(work: impl Future<Output = Vec<String>> + Send + 'static) -> Self {
        let work = tokio::spawn(work);
        let ends = EndsWithRun(work.abort_handle());
        Self { work, _ends: ends }
    }

    pub(super) async fn ends(self) -> Vec<String> {
        match self.work.await {
            Ok(problems) => problems,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
