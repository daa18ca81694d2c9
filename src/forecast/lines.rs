//! Where texts conflict: the lines between the marks that git put into a merged file.

use crate::event::ConflictLines;

/// The most places of one file that are told.
const PLACES: usize = 20;

/// What a line of a merged file belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Both,
    One,
    Other,
}

/// The places at which a merge of these two commits conflicts in a file. The marks name the commits, so
/// that no text can hold them: a commit's own id is not in its files.
pub(super) fn conflict_lines(merged: &[u8], one: &str, other: &str) -> Vec<ConflictLines> {
    let mut places = Vec::new();
    let mut side = Side::Both;
    let mut at = ConflictLines {
        one: 1,
        one_count: 0,
        other: 1,
        other_count: 0,
    };
    for line in merged.split_inclusive(|byte| *byte == b'\n') {
        let line = line.trim_ascii_end();
        match side {
            Side::Both if is_mark(line, b'<', one) => side = Side::One,
            Side::Both => (at.one, at.other) = (at.one + 1, at.other + 1),
            Side::One if is_divider(line) => side = Side::Other,
            Side::One => at.one_count += 1,
            Side::Other if is_mark(line, b'>', other) => {
                places.push(at);
                if places.len() == PLACES {
                    return places;
                }
                side = Side::Both;
                at = ConflictLines {
                    one: at.one + at.one_count,
                    one_count: 0,
                    other: at.other + at.other_count,
                    other_count: 0,
                };
            }
            Side::Other => at.other_count += 1,
        }
    }
    places
}

/// `<<<<<<< commit` or `<<<<<<< commit:path`.
fn is_mark(line: &[u8], sign: u8, commit: &str) -> bool {
    let signs = line.iter().take_while(|byte| **byte == sign).count();
    let rest = line[signs..].strip_prefix(b" ").unwrap_or_default();
    signs > 0 && rest.starts_with(commit.as_bytes())
}

fn is_divider(line: &[u8]) -> bool {
    line.len() >= 7 && line.iter().all(|byte| *byte == b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_in_each_sides_own_file() {
        let merged = "a\n<<<<<<< 11\nb1\nb2\n=======\n>>>>>>> 22\nc\n<<<<<<< 11:old\nd\n=======\ne\nf\n>>>>>>> 22:new\n";
        let lines = |one, one_count, other, other_count| ConflictLines {
            one,
            one_count,
            other,
            other_count,
        };
        assert_eq!(
            conflict_lines(merged.as_bytes(), "11", "22"),
            [lines(2, 2, 2, 0), lines(5, 1, 3, 2)]
        );
    }

    #[test]
    fn marks_of_others_are_text() {
        let merged = "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> theirs\n";
        assert_eq!(conflict_lines(merged.as_bytes(), "11", "22"), []);
    }
}
