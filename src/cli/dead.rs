//! Runs that died: told of where a run starts, and tidied up after beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::prepare::Prepared;
use super::print_error;
use super::surroundings::Surroundings;
use crate::journal::{FoundRun, JournalError, RunState};
use crate::report::count;
use crate::runner::{Pool, Tidied, TidyContext, Tidying};

/// Begins to tidy up after them.
pub(super) fn begin(
    surroundings: &Surroundings,
    prepared: &Prepared,
    pool: Pool,
) -> Result<Tidying, JournalError> {
    let context = TidyContext {
        engine: Arc::clone(&prepared.engine),
        info: prepared.info.clone(),
        state: surroundings.state.clone(),
        repository: prepared.repository.clone(),
        pool,
    };
    Ok(Tidying::begin(context, FoundRun::all(&surroundings.state)?))
}

/// Tells of those that left work: a start waits for no collection of old work.
pub(super) fn tell(surroundings: &Surroundings) -> Result<(), JournalError> {
    let mut dead = FoundRun::all(&surroundings.state)?;
    dead.retain(|run| run.state == RunState::Interrupted && run.holds_work());
    dead.retain(|run| !run.is_preview());
    if let Some(last) = dead.last() {
        let runs = count(dead.len() as u64, "interrupted run");
        print_error(&format!(
            "work is left of {runs}: agent-run resume {} goes on, agent-run clean collects it\n",
            last.run
        ));
    }
    Ok(())
}

/// Tells what was done beside a run; nothing where nothing was.
pub(super) fn told(tidied: &Tidied) -> String {
    let mut text = String::new();
    let mut kinds = BTreeMap::new();
    for removed in &tidied.removed {
        *kinds.entry(removed.what).or_insert(0_u64) += 1;
    }
    if !kinds.is_empty() {
        let things = kinds.iter().map(|(what, number)| count(*number, what));
        let things = things.collect::<Vec<_>>().join(", ");
        let runs = match tidied.runs as u64 {
            0 => String::new(),
            runs => format!(" after {}", count(runs, "earlier run")),
        };
        text = format!("tidied up{runs}: removed {things}\n");
    }
    if !tidied.problems.is_empty() {
        let problems = count(tidied.problems.len() as u64, "leftover");
        text +=
            &format!("{problems} of earlier runs could not be removed: agent-run clean says why\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::Removed;

    #[test]
    fn one_line_says_what_was_removed_and_one_that_something_could_not_be() {
        let removed = |what, name: &str| Removed {
            what,
            name: name.into(),
        };
        let mut tidied = Tidied {
            runs: 2,
            removed: vec![
                removed("worktree", "a"),
                removed("container", "b"),
                removed("container", "c"),
            ],
            problems: Vec::new(),
        };
        assert_eq!(told(&Tidied::default()), "");
        let line = "tidied up after 2 earlier runs: removed 2 containers, 1 worktree\n";
        assert_eq!(told(&tidied), line);
        tidied.problems.push("why".into());
        let more = "1 leftover of earlier runs could not be removed: agent-run clean says why\n";
        assert_eq!(told(&tidied), format!("{line}{more}"));
    }
}
