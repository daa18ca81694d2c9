//! Integration: results merged one after the other onto a commit, in memory. No ref is touched here.

use serde::Serialize;

use super::chain::{Author, Chain, Step};
use super::scratch::Scratch;
use super::study::{Study, tell};
use super::{Candidate, ForecastRequest, printable, settle};
use crate::event::Fit;
use crate::git::{GitError, Objects};
use crate::id::{CommitId, TaskId};

/// How results are merged, and by whom.
#[derive(Clone, Copy)]
pub struct Merging<'a> {
    /// Name and e-mail address of the commits.
    pub author: (&'a str, &'a str),
    /// Whether each result becomes one commit without its history, else a merge of it.
    pub squash: bool,
    /// The message for a result.
    pub message: &'a dyn Fn(&Candidate) -> String,
}

/// What became of all results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Integrated {
    /// The commit with all that were merged; the one that it began with where none was.
    pub commit: CommitId,
    /// What became of each, in the order in which they were merged.
    pub results: Vec<IntegratedResult>,
}

/// What became of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IntegratedResult {
    /// Its branch.
    pub branch: String,
    /// The task that it is of, if it is of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// What became of it.
    #[serde(flatten)]
    pub end: IntegrationEnd,
}

/// What became of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum IntegrationEnd {
    /// It is merged.
    Merged,
    /// All of it was there already.
    Same,
    /// It is left out: it conflicts with what was merged before.
    LeftOut {
        /// Where.
        #[serde(flatten)]
        why: Fit,
    },
    /// It is left out, for this task that it needs is.
    NeedsLeftOut {
        /// The branch that it needs.
        needs: String,
    },
}

impl IntegrationEnd {
    /// Whether it is not in the commit.
    pub fn is_left_out(&self) -> bool {
        matches!(self, Self::LeftOut { .. } | Self::NeedsLeftOut { .. })
    }
}

/// Merges all candidates that can be merged onto the base: first the most that fit together, then what
/// else can, each behind what it needs. The commits are among the user's objects, and on no ref.
///
/// # Errors
/// Where git fails, or takes too long: nothing has happened then.
pub fn integrate(
    request: &ForecastRequest<'_>,
    merging: &Merging<'_>,
) -> Result<Integrated, GitError> {
    let candidates = request.candidates;
    let tips = [request.base.1].into_iter();
    let tips: Vec<CommitId> = tips
        .chain(candidates.iter().map(|candidate| &candidate.commit))
        .cloned()
        .collect();
    let trial = Scratch::new(request, Objects::Dropped)?;
    let study = Study::make(&trial, tips)?;
    let order = settle(&trial, &study, candidates)?.all(candidates.len());

    let scratch = Scratch::new(request, Objects::Kept)?;
    scratch.lay_attributes(request.base.1, &study.directories)?;
    let mut chain = Chain {
        scratch: &scratch,
        author: Author {
            name: merging.author.0,
            email: merging.author.1,
        },
        tip: request.base.1.clone(),
        tree: None,
        squash: merging.squash,
    };
    let mut ends: Vec<Option<IntegrationEnd>> = vec![None; candidates.len()];
    let mut results = Vec::with_capacity(candidates.len());
    for at in order {
        let candidate = &candidates[at];
        let missing = candidate.needs.iter().find(|need| {
            let end = ends[**need].as_ref();
            end.is_some_and(IntegrationEnd::is_left_out)
        });
        let end = match (missing, study.fits.get(&(0, at + 1))) {
            (Some(need), _) => IntegrationEnd::NeedsLeftOut {
                needs: printable(&candidates[*need].branch),
            },
            (None, Some(Fit::Unrelated)) => IntegrationEnd::LeftOut {
                why: Fit::Unrelated,
            },
            (None, _) => add(&mut chain, candidate, merging)?,
        };
        ends[at] = Some(end.clone());
        results.push(IntegratedResult {
            branch: printable(&candidate.branch),
            task: candidate.task.clone(),
            end,
        });
    }
    Ok(Integrated {
        commit: chain.tip,
        results,
    })
}

fn add(
    chain: &mut Chain<'_>,
    candidate: &Candidate,
    merging: &Merging<'_>,
) -> Result<IntegrationEnd, GitError> {
    let before = chain.tip.clone();
    Ok(
        match chain.add(&candidate.commit, &(merging.message)(candidate))? {
            Step::Merged => IntegrationEnd::Merged,
            Step::Nothing => IntegrationEnd::Same,
            Step::Conflict(merge) => {
                let told = tell(chain.scratch, &[(&merge, &before, &candidate.commit)])?;
                let why = told.into_iter().next().unwrap_or(Fit::Unrelated);
                IntegrationEnd::LeftOut { why }
            }
        },
    )
}
