//! Forecast: which results could be merged with each other and into the base as it is now, before
//! anybody merges anything.
//!
//! Git makes the merges that are in question, in memory, in a repository of its own on the user's
//! objects; what cannot conflict is not merged. Nothing of the user's is changed, and none of the
//! programs that his configuration names runs.

mod candidates;
mod chain;
mod changes;
mod forks;
mod integrate;
mod lines;
mod merges;
mod order;
mod refresh;
mod scratch;
mod study;
mod together;

use std::collections::BTreeSet;
use std::time::Duration;

pub use candidates::Candidate;
pub use integrate::{Integrated, IntegratedResult, IntegrationEnd, Merging, integrate};
use order::Graph;
pub use refresh::{Refreshed, refresh};
use scratch::Scratch;
use study::Study;
use together::left_out;

use crate::event::{BranchForecast, Fit, Forecast, PairForecast};
use crate::git::{GitError, Objects, Repository};
use crate::id::CommitId;
use crate::sanitize;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct ForecastRequest<'a> {
    /// The user's repository, which has all commits.
    pub repository: &'a Repository,
    /// The base, as it is named, and its tip.
    pub base: (&'a str, &'a CommitId),
    /// What could be merged.
    pub candidates: &'a [Candidate],
    /// How long git may take for all of it; where none is given, each call of git has its own limit.
    pub patience: Option<Duration>,
}

/// Says which candidates could be merged into the base, and with each other.
///
/// # Errors
/// Where git fails, or takes too long.
pub fn forecast(request: &ForecastRequest<'_>) -> Result<Forecast, GitError> {
    let candidates = request.candidates;
    let scratch = Scratch::new(request, Objects::Dropped)?;
    let tips = [request.base.1].into_iter();
    let tips = tips.chain(candidates.iter().map(|candidate| &candidate.commit));
    let study = Study::make(&scratch, tips.cloned().collect())?;
    let names: Vec<String> = candidates.iter().map(|c| printable(&c.branch)).collect();

    let settled = settle(&scratch, &study, candidates)?;
    let with_base = |at: usize| study.fits.get(&(0, at + 1)).cloned().unwrap_or(Fit::Clean);
    let branches = candidates
        .iter()
        .enumerate()
        .map(|(at, candidate)| BranchForecast {
            branch: names[at].clone(),
            task: candidate.task.clone(),
            commit: candidate.commit.clone(),
            fit: with_base(at),
        });
    let branches = branches.collect();
    let pairs = study.fits.into_iter().filter(|((one, _), _)| *one > 0);
    let pairs = pairs.map(|((one, other), fit)| PairForecast {
        one: names[one - 1].clone(),
        other: names[other - 1].clone(),
        fit,
    });
    let told = |places: Vec<usize>| places.into_iter().map(|at| names[at].clone()).collect();
    Ok(Forecast {
        base: printable(request.base.0),
        base_commit: request.base.1.clone(),
        branches,
        pairs: pairs.collect(),
        order: told(settled.order),
        together: told(settled.together),
        is_largest: settled.is_largest,
    })
}

/// Which candidates are merged in which order, by their places.
struct Settled {
    /// Those that merge into the base and are not in it yet.
    order: Vec<usize>,
    /// The most of them that fit together.
    together: Vec<usize>,
    is_largest: bool,
    graph: Graph,
}

impl Settled {
    /// All candidates: first those that fit together, each behind what it needs.
    fn all(&self, count: usize) -> Vec<usize> {
        let others = (0..count).filter(|at| !self.together.contains(at));
        let others = self.graph.order(&others.collect());
        self.together.iter().copied().chain(others).collect()
    }
}

fn settle(
    scratch: &Scratch,
    study: &Study<'_>,
    candidates: &[Candidate],
) -> Result<Settled, GitError> {
    let needs: Vec<Vec<usize>> = candidates.iter().map(|c| c.needs.clone()).collect();
    let conflicts = study.fits.iter().filter(|(_, fit)| fit.is_conflict());
    let conflicts = conflicts.filter(|((one, _), _)| *one > 0);
    let conflicts = conflicts.map(|((one, other), _)| (one - 1, other - 1));
    let graph = Graph::new(&needs, conflicts);
    let open = open(candidates, study);
    let (chosen, mut is_largest) = graph.together(&open);
    let order = graph.order(&open);
    let mut together = order.clone();
    together.retain(|at| chosen.contains(at));
    let out = left_out(scratch, study, candidates, &together)?;
    is_largest &= out.is_empty();
    together.retain(|at| !out.contains(at));
    Ok(Settled {
        order,
        together,
        is_largest,
        graph,
    })
}

fn printable(name: &str) -> String {
    sanitize::line(name.as_bytes(), false)
}

/// What is not in the base yet and merges into it cleanly, as does all that it needs.
fn open(candidates: &[Candidate], study: &Study<'_>) -> BTreeSet<usize> {
    let mut open = BTreeSet::new();
    let fit = |at: usize| study.fits.get(&(0, at + 1));
    let mut blocked: BTreeSet<usize> = (0..candidates.len())
        .filter(|at| fit(*at).is_some_and(Fit::is_conflict))
        .collect();
    loop {
        let before = blocked.len();
        let needing = (0..candidates.len()).filter(|at| {
            let mut needs = candidates[*at].needs.iter();
            needs.any(|need| blocked.contains(need))
        });
        let needing: Vec<usize> = needing.collect();
        blocked.extend(needing);
        if blocked.len() == before {
            break;
        }
    }
    open.extend((0..candidates.len()).filter(|at| fit(*at).is_none() && !blocked.contains(at)));
    open
}
