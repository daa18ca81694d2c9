//! A result brought onto what the base has become, in memory. No ref is touched here.

use super::ForecastRequest;
use super::chain::{Author, Chain, Step, commit};
use super::merges::merge_pairs;
use super::scratch::{Scratch, unexpected};
use super::study::{Study, tell};
use crate::event::Fit;
use crate::git::{GitError, Objects};
use crate::id::CommitId;

/// What bringing a result onto the base gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// A new tip.
    Moved(CommitId),
    /// It is on the base as it is.
    Same,
    /// All that it changes is in the base.
    Merged,
    /// A commit of it conflicts with the base.
    Conflict {
        /// The commit; the tip where the base is merged.
        commit: CommitId,
        /// Where; the base is the first side.
        why: Fit,
    },
    /// It has merges, or commits without a parent, which cannot be put on another commit one by one.
    NotLinear,
}

/// Puts the commits of a candidate, the only one that is asked about, on the base's tip, each with its
/// author and message; or, where `message` is given, merges the base's tip into it.
///
/// # Errors
/// Where git fails, or takes too long.
pub fn refresh(
    request: &ForecastRequest<'_>,
    (name, email): (&str, &str),
    message: Option<&str>,
) -> Result<Refreshed, GitError> {
    let [candidate] = request.candidates else {
        return Ok(Refreshed::Same);
    };
    let (onto, tip) = (request.base.1, &candidate.commit);
    let trial = Scratch::new(request, Objects::Dropped)?;
    let study = Study::make(&trial, vec![onto.clone(), tip.clone()])?;
    match study.fits.get(&(0, 1)) {
        Some(Fit::Same) => return Ok(Refreshed::Merged),
        Some(Fit::Unrelated) => return Ok(Refreshed::NotLinear),
        _ => {}
    }
    let words = ["merge-base", "--is-ancestor", onto.as_str(), tip.as_str()];
    if trial.call(words).run_bool()? {
        return Ok(Refreshed::Same);
    }
    let scratch = Scratch::new(request, Objects::Kept)?;
    scratch.lay_attributes(onto, &study.directories)?;
    let author = Author { name, email };
    match message {
        Some(message) => merge_base(&scratch, author, (onto, tip), message),
        None => rebase(&scratch, author, onto, tip),
    }
}

fn merge_base(
    scratch: &Scratch,
    author: Author<'_>,
    (onto, tip): (&CommitId, &CommitId),
    message: &str,
) -> Result<Refreshed, GitError> {
    let mut chain = Chain {
        scratch,
        author,
        tip: tip.clone(),
        tree: None,
        squash: false,
    };
    Ok(match chain.add(onto, message)? {
        Step::Merged => Refreshed::Moved(chain.tip),
        // The base has nothing that it has not, but commits.
        Step::Nothing => Refreshed::Same,
        Step::Conflict(_) => {
            let merges = merge_pairs(scratch, &[(onto.clone(), tip.clone())])?;
            let merge = merges.first().ok_or_else(|| unexpected("merge-tree"))?;
            let why = tell(scratch, &[(merge, onto, tip)])?.into_iter().next();
            Refreshed::Conflict {
                commit: tip.clone(),
                why: why.unwrap_or(Fit::Unrelated),
            }
        }
    })
}

fn rebase(
    scratch: &Scratch,
    author: Author<'_>,
    onto: &CommitId,
    tip: &CommitId,
) -> Result<Refreshed, GitError> {
    let range = format!("{onto}..{tip}");
    let words = ["rev-list", "--reverse", "--topo-order", "--parents", &range];
    let listed = scratch.call(words).run_text()?;
    let mut at = onto.clone();
    for line in listed.lines() {
        let ids: Vec<CommitId> = line.split(' ').filter_map(|id| id.parse().ok()).collect();
        let [change, parent] = &ids[..] else {
            return Ok(Refreshed::NotLinear);
        };
        let trees = scratch.trees(std::slice::from_ref(&at))?;
        let tree = trees.first().ok_or_else(|| unexpected("cat-file"))?;
        // What is there already, as if it had been made of the change's own parent: a merge of the two
        // then applies the change.
        let there = commit(scratch, author, tree, &[parent], "")?;
        let merges = merge_pairs(scratch, &[(there.clone(), change.clone())])?;
        let merge = merges.first().ok_or_else(|| unexpected("merge-tree"))?;
        if !merge.is_clean {
            let why = tell(scratch, &[(merge, &there, change)])?
                .into_iter()
                .next();
            return Ok(Refreshed::Conflict {
                commit: change.clone(),
                why: why.unwrap_or(Fit::Unrelated),
            });
        }
        if merge.tree != *tree {
            at = anew(scratch, author, change, &merge.tree, &at)?;
        }
    }
    Ok(Refreshed::Moved(at))
}

/// A commit with another tree and parent, by another committer. A signature would not hold any more.
fn anew(
    scratch: &Scratch,
    author: Author<'_>,
    of: &CommitId,
    tree: &str,
    parent: &CommitId,
) -> Result<CommitId, GitError> {
    let old = scratch.call(["cat-file", "commit", of.as_str()]).run()?;
    let end = old.windows(2).position(|two| two == b"\n\n");
    let (headers, message) = old.split_at(end.ok_or_else(|| unexpected("cat-file"))?);
    // Its time is git's own, as for every commit.
    let made = commit(scratch, author, tree, &[parent], "")?;
    let made = scratch.call(["cat-file", "commit", made.as_str()]).run()?;
    let line = |text: &[u8], name: &[u8]| {
        let mut lines = text.split(|byte| *byte == b'\n');
        lines
            .find(|line| line.starts_with(name))
            .map(<[u8]>::to_vec)
    };
    let kept = [
        line(&made, b"tree "),
        line(&made, b"parent "),
        line(headers, b"author "),
        line(&made, b"committer "),
        line(headers, b"encoding "),
    ];
    let mut text = kept.into_iter().flatten().collect::<Vec<_>>().join(&b'\n');
    text.extend(message);
    let words = ["hash-object", "-t", "commit", "-w", "--stdin"];
    let made = scratch.call(words).input(text).run_text()?;
    made.trim().parse().map_err(|_| unexpected("hash-object"))
}
