//! What a task's preview comes to in a plan: what it has made, started again for people to look at.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Retry, RunPlan, SetupPlan, TaskPlan, Work};
use crate::engine::config::Publish;
use crate::id::CommitId;

/// What the wrapper may take to end, after the script: nothing is handed off.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// How what a task has made is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewPlan {
    /// The script, run by `sh -eu`, or by the interpreter that its first line names.
    pub run: String,
    /// The port that it listens on, and where people reach it.
    pub port: Publish,
}

impl RunPlan {
    /// The plan of a run that shows what a task of this one has made, for so long; its base is still this one's.
    #[must_use]
    pub fn preview_of(&self, task: &TaskPlan, preview: &PreviewPlan, time: Duration) -> Self {
        Self {
            previews: Some(self.run.clone()),
            tasks: vec![task.previewed(preview, time)],
            timeout: None,
            max_fail: None,
            ..self.clone()
        }
    }
}

impl RunPlan {
    /// The base, where that is what an agent has made: of a preview, or of a task that goes on.
    pub fn result(&self) -> Option<&CommitId> {
        let goes_on = self.tasks.iter().any(|task| task.continues.is_some());
        (goes_on || self.previews.is_some()).then_some(&self.repository.base)
    }
}

impl TaskPlan {
    /// The task that starts what this one has made again, and ends after that time.
    fn previewed(&self, preview: &PreviewPlan, time: Duration) -> Self {
        Self {
            ports: vec![preview.port],
            needs: Vec::new(),
            starts_from: Vec::new(),
            secrets: Vec::new(),
            setup: self.setup.clone().map(SetupPlan::of_result),
            retry: Retry::default(),
            allow_failure: false,
            claim: None,
            touches: None,
            feedback: 0,
            continues: None,
            ..self.beside(preview.run.clone(), time)
        }
    }

    /// A task that runs a script on what this one has made, in a container like its own: neither its agent
    /// nor what that has written in besides, the caches, is there, and nothing comes back.
    #[must_use]
    pub fn beside(&self, script: String, timeout: Duration) -> Self {
        Self {
            work: Work::Script(script),
            entrypoint: None,
            agent: None,
            prompt: None,
            cache: Vec::new(),
            timeout,
            slow_after: timeout,
            handoff_timeout: LAST_STEPS,
            artifacts: None,
            verify: None,
            ..self.clone()
        }
    }
}
