//! Which results fit together, for people: all of it for the command, the conflicts for a summary.

use std::fmt::Write as _;

use super::Paint;
use super::words::{count, padded};
use crate::event::{FileConflict, Fit, Forecast};

/// More branches than this make no matrix that anybody reads.
const MATRIX: usize = 40;
/// The most files of a conflict that are named.
const FILES_SHOWN: usize = 3;
/// The most conflicts that a summary has.
const CONFLICTS_SHOWN: usize = 10;
/// The most places in a file that are named.
const PLACES_SHOWN: usize = 3;

/// A forecast as text: the matrix, what conflicts where, in which order to merge.
pub fn forecast(forecast: &Forecast, paint: Paint) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = render(&mut text, forecast, paint);
    text
}

fn render(text: &mut String, forecast: &Forecast, paint: Paint) -> std::fmt::Result {
    let base = format!("{} ({})", forecast.base, forecast.base_commit.short());
    writeln!(
        text,
        "{} onto {base}\n",
        count(forecast.branches.len() as u64, "result")
    )?;
    if forecast.branches.len() <= MATRIX {
        matrix(text, forecast, paint)?;
    }
    let conflicts: Vec<String> = conflicts(forecast).collect();
    if !conflicts.is_empty() {
        writeln!(text, "{}", paint.strong("Conflicts"))?;
        for conflict in conflicts {
            writeln!(text, "  {conflict}")?;
        }
        writeln!(text)?;
    }
    let verdict = verdict(forecast, &forecast.base);
    if forecast.together.is_empty() {
        return writeln!(text, "{verdict}");
    }
    writeln!(text, "{verdict}, in this order")?;
    for branch in &forecast.together {
        writeln!(text, "  {branch}")?;
    }
    Ok(())
}

/// A row for each branch: how it stands to the base, and to those before it.
fn matrix(text: &mut String, forecast: &Forecast, paint: Paint) -> std::fmt::Result {
    let names = forecast
        .branches
        .iter()
        .map(|branch| branch.branch.chars().count());
    let width = names.max().unwrap_or(0).min(60);
    let numbers: String = (1..forecast.branches.len())
        .map(|n| format!("{n:>3}"))
        .collect();
    writeln!(text, "{:width$}      base{numbers}", "")?;
    for (at, row) in forecast.branches.iter().enumerate() {
        let number = at + 1;
        write!(
            text,
            "{number:>3}  {:width$} {}",
            row.branch,
            sign(&row.fit, 4, paint)
        )?;
        for column in &forecast.branches[..at] {
            let pair = forecast
                .pairs
                .iter()
                .find(|pair| pair.one == column.branch && pair.other == row.branch);
            let fit = pair.map_or(&Fit::Clean, |pair| &pair.fit);
            write!(text, "{}", sign(fit, 3, paint))?;
        }
        writeln!(text)?;
    }
    let meaning = "✓ merges cleanly  ✗ conflicts  = adds nothing";
    writeln!(text, "{}\n", paint.faint(meaning))
}

fn sign(fit: &Fit, width: usize, paint: Paint) -> String {
    match fit {
        Fit::Clean => paint.good(&format!("{:>width$}", "✓")),
        Fit::Same => paint.faint(&format!("{:>width$}", "=")),
        Fit::Unrelated | Fit::Conflict { .. } => paint.bad(&format!("{:>width$}", "✗")),
    }
}

/// What conflicts with what, and where, a line each.
pub(super) fn conflicts(forecast: &Forecast) -> impl Iterator<Item = String> + '_ {
    let with_base = forecast.branches.iter().filter_map(|branch| {
        let (base, branch, fit) = (&forecast.base, &branch.branch, &branch.fit);
        Some(format!("{base} × {branch}  {}", conflict(fit)?))
    });
    let pairs = forecast.pairs.iter().filter_map(|pair| {
        let (one, other) = (&pair.one, &pair.other);
        Some(format!("{one} × {other}  {}", conflict(&pair.fit)?))
    });
    with_base.chain(pairs)
}

/// What conflicts, if anything does.
pub fn conflict(fit: &Fit) -> Option<String> {
    let (files, conflicts) = match fit {
        Fit::Clean | Fit::Same => return None,
        Fit::Unrelated => return Some("no history in common".into()),
        Fit::Conflict { files, conflicts } => (*files, conflicts),
    };
    let shown = conflicts.len().min(FILES_SHOWN);
    let told: Vec<String> = conflicts[..shown].iter().map(file).collect();
    let more = match files.saturating_sub(shown as u64) {
        0 => String::new(),
        more => format!(" and {}", count(more, "more file")),
    };
    Some(told.join(", ") + &more)
}

/// A file and the lines of its first side.
fn file(conflict: &FileConflict) -> String {
    if conflict.lines.is_empty() {
        return format!("{} ({})", conflict.path, conflict.kind);
    }
    let places = conflict
        .lines
        .iter()
        .take(PLACES_SHOWN)
        .map(|lines| match lines.one_count {
            0 | 1 => lines.one.to_string(),
            count => format!("{}-{}", lines.one, lines.one + count - 1),
        });
    let places: Vec<String> = places.collect();
    let more = if conflict.lines.len() > PLACES_SHOWN {
        ",…"
    } else {
        ""
    };
    format!("{}:{}{more}", conflict.path, places.join(","))
}

/// How many fit together, in a sentence.
pub(super) fn verdict(forecast: &Forecast, base: &str) -> String {
    let is_there = forecast
        .branches
        .iter()
        .filter(|branch| branch.fit == Fit::Same);
    let there = is_there.count();
    let (all, fit) = (forecast.branches.len() - there, forecast.together.len());
    let told = match there {
        0 => String::new(),
        1 => format!("; 1 is in {base} already"),
        more => format!("; {more} are in {base} already"),
    };
    match (fit, all) {
        (_, 0) => format!("nothing is left to merge into {base}{told}"),
        (0, 1) => format!("it conflicts with {base}{told}"),
        (1, 1) => format!("it merges cleanly into {base}{told}"),
        (fit, all) if fit == all => format!("all {all} merge cleanly into {base}{told}"),
        (fit, all) if forecast.is_largest => {
            format!("{fit} of {all} merge cleanly into {base}{told}")
        }
        (fit, all) => format!("at least {fit} of {all} merge cleanly into {base}{told}"),
    }
}

/// Whether there is more to say than that the only branch merges cleanly.
pub(super) fn is_news(forecast: &Forecast) -> bool {
    !forecast.is_clean() || forecast.branches.len() > 1
}

/// What a summary says of it: a line where all fit together, else the conflicts too.
pub(super) fn brief(text: &mut String, forecast: &Forecast, paint: Paint) -> std::fmt::Result {
    if !is_news(forecast) {
        return Ok(());
    }
    let verdict = verdict(forecast, &forecast.base);
    if forecast.is_clean() {
        return writeln!(text, "{} {verdict}", padded("Merging"));
    }
    writeln!(text, "{} {verdict}", paint.careful(&padded("Merging")))?;
    let mut conflicts = conflicts(forecast);
    for conflict in conflicts.by_ref().take(CONFLICTS_SHOWN) {
        writeln!(text, "             {conflict}")?;
    }
    let more = conflicts.count() as u64;
    if more > 0 {
        writeln!(text, "             and {}", count(more, "more conflict"))?;
    }
    writeln!(text, "             next  agent-run forecast")
}
