//! Which tasks say that they may change the same files while they may run at the same time.

use super::TaskPlan;
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
    let mut pairs = Vec::new();
    for (at, (one, ground)) in areas.iter().enumerate() {
        let others = areas[..at].iter();
        let meeting = others.filter(|(_, other)| other.may_meet(ground));
        pairs.extend(meeting.map(|(other, _)| format!("{other} and {one}")));
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
