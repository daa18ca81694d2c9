//! Which branches of a run could be merged.

use std::collections::HashMap;

use crate::event::{BranchResult, TaskReport};
use crate::git::{GitError, Repository};
use crate::id::{CommitId, TaskId};

/// What could be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its branch's name.
    pub branch: String,
    /// The task that it is of, if it is of one.
    pub task: Option<TaskId>,
    /// Its tip.
    pub commit: CommitId,
    /// The places of those that must be merged before.
    pub needs: Vec<usize>,
}

impl Candidate {
    /// The branches of these tasks that went well, as they stand now: the user may have moved one, and
    /// does not want one that he deleted. `needs` gives what a task needs.
    pub fn of_tasks<'a>(
        repository: &Repository,
        reports: impl IntoIterator<Item = &'a TaskReport>,
        needs: impl Fn(&TaskId) -> Vec<TaskId>,
    ) -> Result<Vec<Self>, GitError> {
        let tips: HashMap<String, CommitId> = repository.refs("refs/heads")?.into_iter().collect();
        let mut found = Vec::new();
        for report in reports.into_iter().filter(|report| report.is_good()) {
            let result = report.branch.as_ref().map(|work| &work.result);
            let Some(BranchResult::Created { branch, .. }) = result else {
                continue;
            };
            let tip = tips.get(&format!("refs/heads/{branch}"));
            found.extend(tip.map(|tip| Self {
                branch: branch.to_string(),
                task: Some(report.task.clone()),
                commit: tip.clone(),
                needs: Vec::new(),
            }));
        }
        let tasks = found.iter().filter_map(|candidate| candidate.task.clone());
        let places: HashMap<TaskId, usize> = tasks.zip(0..).collect();
        for candidate in &mut found {
            let needed = candidate.task.iter().flat_map(&needs);
            candidate.needs = needed
                .filter_map(|task| places.get(&task).copied())
                .collect();
        }
        Ok(found)
    }
}
