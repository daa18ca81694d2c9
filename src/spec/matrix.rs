//! Reads `matrix`: axes, `exclude` and `include`, to the cells that a task is run as.
//!
//! The rules are those of GitHub Actions, but that what has no effect there is an error here:
//! <https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstrategymatrix>.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::shown;
use super::hints::{MATRIX_KEYS, did_you_mean};
use super::reader::{Field, Fields, Reader};
use super::source::{At, Span};
use super::tree::{Entry, Value};
use super::units::BadValue;
use crate::id::{CellValue, TaskId, is_axis};

/// Most cells of one matrix: as many as GitHub makes.
pub const MOST_CELLS: usize = 256;

/// Values by axis, in the order in which the cell's id has them.
type Values = Vec<(String, CellValue)>;

/// An item of `include` or `exclude`, with the place of each name.
type Item = Vec<(At<String>, CellValue)>;

/// A cell of a matrix.
pub(super) struct Cell {
    pub id: TaskId,
    pub values: BTreeMap<String, CellValue>,
}

/// Reads the matrix of a task to its cells; none where it has problems.
pub(super) fn cells(reader: &mut Reader<'_>, task: &TaskId, field: Field<'_>) -> Option<Vec<Cell>> {
    let before = reader.problems.len();
    let entries = reader.entries(field, "a map of axes");
    let Value::Map(_) = field.node.value else {
        return None;
    };
    let of_ours = |entry: &Entry| MATRIX_KEYS.contains(&entry.key.as_str());
    let named = |entry: &&Entry| !entry.key.starts_with("x-") && !of_ours(entry);
    let meant = |entry: &&Entry| named(entry) && !matches!(entry.node.value, Value::Null);
    let axes: Vec<_> = entries
        .iter()
        .filter(meant)
        .map(|e| axis(reader, e))
        .collect();
    let axes: Vec<(String, Vec<CellValue>)> = axes.into_iter().flatten().collect();
    let fields = Fields(entries);
    let exclude = fields.get("exclude").map(|f| maps(reader, f));
    let include = fields.get("include").map(|f| maps(reader, f));
    if axes.is_empty() && include.as_ref().is_none_or(Vec::is_empty) {
        let hint = "write an axis and its values, such as `model: [small, large]`";
        reader.problem(field.span(), "`matrix` has no axis", hint);
    }
    let number = axes
        .iter()
        .fold(1_usize, |n, (_, values)| n.saturating_mul(values.len()));
    if number > MOST_CELLS {
        too_many(reader, field.span(), number);
    }
    let exclude = exclude.unwrap_or_default();
    check_exclude(reader, &axes, &exclude);
    if reader.problems.len() > before {
        return None;
    }
    let kept = |cell: &Values| !exclude.iter().any(|e| agrees(cell, e));
    let originals: Vec<Values> = product(&axes).into_iter().filter(kept).collect();
    let all = extended(originals, include.unwrap_or_default());
    if all.is_empty() {
        let hint = "take one of its items away";
        reader.problem(field.span(), "`exclude` leaves no cell of the matrix", hint);
    } else if all.len() > MOST_CELLS {
        too_many(reader, field.span(), all.len());
    }
    let cells = all
        .into_iter()
        .map(|cell| named_cell(reader, task, field, cell));
    let cells: Vec<Option<Cell>> = cells.collect();
    let cells: Vec<Cell> = cells.into_iter().collect::<Option<_>>()?;
    check_ids(reader, field, &cells);
    (reader.problems.len() == before).then_some(cells)
}

fn too_many(reader: &mut Reader<'_>, span: Span, number: usize) {
    let title = format!("the matrix has {number} cells, and {MOST_CELLS} are the most");
    reader.problem(span, title, "leave values out, or make several tasks of it");
}

/// An axis and its values.
fn axis(reader: &mut Reader<'_>, entry: &Entry) -> Option<(String, Vec<CellValue>)> {
    let name = axis_name(reader, entry);
    let field = Field {
        key: &entry.key,
        node: &entry.node,
    };
    let mut values = Vec::new();
    for item in reader.items(field, "a list of values") {
        let Some(value) = value(reader, item) else {
            continue;
        };
        if values.iter().any(|known| is_same(known, &value)) {
            let title = format!("`{}` has the value `{value}` twice", shown(&entry.key));
            reader.problem(item.span(), title, "");
        } else {
            values.push(value);
        }
    }
    if matches!(&entry.node.value, Value::List(items) if items.is_empty()) {
        let title = format!("`{}` has no values", shown(&entry.key));
        reader.problem(
            field.span(),
            title,
            "write one at least, or take the axis away",
        );
    }
    Some((name?, values))
}

/// Names become those of variables.
fn axis_name(reader: &mut Reader<'_>, entry: &Entry) -> Option<String> {
    if is_axis(&entry.key) {
        return Some(entry.key.clone());
    }
    let title = format!("`{}` cannot be the name of an axis", shown(&entry.key));
    let hint = "lower-case letters, digits and `_`, a letter first, at most 40";
    reader.problem(entry.key_span, title, hint);
    None
}

fn value(reader: &mut Reader<'_>, field: Field<'_>) -> Option<CellValue> {
    let is_plain = matches!(field.node.value, Value::Scalar { plain: true, .. });
    let value = reader.value(field, "a single value", |text| {
        if text.contains(char::is_control) {
            return Err(BadValue::new("holds control characters", "write one line"));
        }
        Ok(CellValue::new(text.to_owned(), is_plain))
    });
    value.map(|at| at.value)
}

/// The items of `include` or `exclude`.
fn maps(reader: &mut Reader<'_>, field: Field<'_>) -> Vec<Item> {
    let mut maps = Vec::new();
    for item in reader.items(field, "a list of maps") {
        let mut map = Vec::new();
        let entries = reader.entries(item, "a list of maps");
        for entry in entries.iter().filter(|e| !e.key.starts_with("x-")) {
            let Some(name) = axis_name(reader, entry) else {
                continue;
            };
            let field = Field {
                key: &entry.key,
                node: &entry.node,
            };
            let span = entry.key_span;
            map.extend(value(reader, field).map(|value| (At { value: name, span }, value)));
        }
        if matches!(&item.node.value, Value::Map(entries) if entries.is_empty()) {
            let title = format!("`{}` has an item without values", field.key);
            reader.problem(item.span(), title, "");
        }
        maps.push(map);
    }
    maps
}

/// Whether a cell has all these values.
fn agrees(cell: &Values, item: &Item) -> bool {
    item.iter().all(|(name, value)| {
        let same = |(n, v): &(String, CellValue)| *n == name.value && is_same(v, value);
        cell.iter().any(same)
    })
}

/// `1` and `"1"` are the same to whoever reads them.
fn is_same(a: &CellValue, b: &CellValue) -> bool {
    a.to_string() == b.to_string()
}

/// What excludes nothing is a slip.
fn check_exclude(reader: &mut Reader<'_>, axes: &[(String, Vec<CellValue>)], items: &[Item]) {
    for (name, value) in items.iter().flatten() {
        let names = || axes.iter().map(|(name, _)| name.as_str());
        let Some((_, values)) = axes.iter().find(|(axis, _)| *axis == name.value) else {
            let title = format!("`exclude` names `{}`, which is no axis", name.value);
            let hint = nearest(&name.value, names(), "the axes");
            reader.problem(name.span, title, hint);
            continue;
        };
        if !values.iter().any(|known| is_same(known, value)) {
            let (name_shown, value) = (&name.value, value.to_string());
            let title = format!(
                "`exclude` has `{name_shown}: {}`, a value that the axis does not have",
                shown(&value)
            );
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            let hint = nearest(&value, values.iter().map(String::as_str), "its values");
            reader.problem(name.span, title, hint);
        }
    }
}

/// What was meant, or what there is.
pub(crate) fn nearest<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    what: &str,
) -> String {
    const SHOWN: usize = 8;
    let near = did_you_mean(name, known.clone());
    let all: Vec<&str> = known.clone().take(SHOWN).collect();
    if !near.is_empty() || all.is_empty() {
        return near;
    }
    let more = if known.count() > SHOWN { ", …" } else { "" };
    format!("{what}: {}{more}", all.join(", "))
}

/// Each value of each axis with each of the others; nothing where there is no axis.
fn product(axes: &[(String, Vec<CellValue>)]) -> Vec<Values> {
    if axes.is_empty() {
        return Vec::new();
    }
    axes.iter()
        .fold(vec![Vec::new()], |cells: Vec<Values>, (name, values)| {
            let with = |cell: &Values, value: &CellValue| {
                let mut cell = cell.clone();
                cell.push((name.clone(), value.clone()));
                cell
            };
            let all = cells.iter();
            all.flat_map(|cell| values.iter().map(move |value| with(cell, value)))
                .collect()
        })
}

/// A cell, and what `include` adds to the values of its axes.
type Extended = (Values, Values);

/// Adds each item to all cells of the axes whose values it agrees with; makes a cell of it where it
/// agrees with none. Values that another item added are overwritten, those of axes never.
fn extended(originals: Vec<Values>, items: Vec<Item>) -> Vec<Extended> {
    let mut all: Vec<Extended> = originals
        .into_iter()
        .map(|cell| (cell, Vec::new()))
        .collect();
    let number = all.len();
    for item in items {
        let item: Values = item.into_iter().map(|(n, v)| (n.value, v)).collect();
        let mut is_new = true;
        for (cell, added) in &mut all[..number] {
            let axis = |name: &str| cell.iter().find(|(n, _)| n == name).map(|(_, v)| v);
            let agrees =
                |(name, value): &(String, CellValue)| axis(name).is_none_or(|v| is_same(v, value));
            if !item.iter().all(agrees) {
                continue;
            }
            is_new = false;
            let further = item.iter().filter(|(name, _)| axis(name).is_none());
            for (name, value) in further {
                added.retain(|(known, _)| known != name);
                added.push((name.clone(), value.clone()));
            }
        }
        if is_new {
            all.push((item, Vec::new()));
        }
    }
    all
}

/// The cell's id has the values of its axes; that of a cell of `include` all that it says.
fn named_cell(
    reader: &mut Reader<'_>,
    task: &TaskId,
    field: Field<'_>,
    (values, added): Extended,
) -> Option<Cell> {
    let shown = values
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_string()));
    match task.cell(shown) {
        Ok(id) => Some(Cell {
            id,
            values: values.into_iter().chain(added).collect(),
        }),
        Err(refused) => {
            reader.problem(field.span(), refused.to_string(), "");
            None
        }
    }
}

fn check_ids(reader: &mut Reader<'_>, field: Field<'_>, cells: &[Cell]) {
    let mut seen = BTreeSet::new();
    for cell in cells {
        if !seen.insert(&cell.id) {
            let title = format!("two cells of the matrix have the id `{}`", cell.id);
            let hint =
                "an id has letters, digits and `._-/:+@` of a value: let them differ in these";
            reader.problem(field.span(), title, hint);
        }
    }
}
