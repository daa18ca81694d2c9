//! Which tasks say that they may change the same files while they may run at the same time.

use super::{TaskPlan, graph};
use crate::id::Area;

/// Most pairs that are named.
const NAMED: usize = 5;

/// A sentence on the pairs whose grounds may overlap; none where there are none.
pub(super) fn overlaps(tasks: &[TaskPlan], parallel: usize) -> Option<String> {
    if parallel < 2 {
        return None;
    }
    let areas: Vec<_> = tasks
        .iter()
        .filter_map(|task| Some((&task.id, Area::of(&task.touches.as_ref()?.paths))))
        .collect();
    // What one needs has ended before.
    let needed = areas.iter();
    let needed = needed.map(|(id, _)| graph::with_needs(tasks, std::slice::from_ref(*id)));
    let needed: Vec<_> = needed.collect();
    let mut pairs = Vec::new();
    for (at, (one, ground)) in areas.iter().enumerate() {
        let others = areas[..at].iter().zip(&needed);
        let together = others.filter(|((other, _), by_other)| {
            !by_other.contains(*one) && !needed[at].contains(*other)
        });
        let meeting = together.filter(|((_, other), _)| other.may_meet(ground));
        pairs.extend(meeting.map(|((other, _), _)| format!("{other} and {one}")));
    }
    let more = match pairs.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} more pairs"),
    };
    pairs.truncate(NAMED);
    (!pairs.is_empty()).then(|| {
        let pairs = pairs.join(", ");
        format!("tasks that may run at the same time may change the same files, by their `touches`: {pairs}{more}")
    })
}
