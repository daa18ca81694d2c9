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
    let mut signs = 0;
    let mut at = ConflictLines {
        one: 1,
        one_count: 0,
        other: 1,
        other_count: 0,
    };
    for line in merged.split_inclusive(|byte| *byte == b'\n') {
        let line = line.trim_ascii_end();
        match side {
            Side::Both => match mark(line, b'<', one) {
                0 => (at.one, at.other) = (at.one + 1, at.other + 1),
                count => (side, signs) = (Side::One, count),
            },
            // As long as the marks: a longer row underlines a title.
            Side::One if line.len() == signs && line.iter().all(|byte| *byte == b'=') => {
                side = Side::Other;
            }
            Side::One => at.one_count += 1,
            Side::Other if mark(line, b'>', other) > 0 => {
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

/// How many signs `<<<<<<< commit` or `<<<<<<< commit:path` begins with: 7, if no attribute says another
/// number; 0 where it is no mark.
fn mark(line: &[u8], sign: u8, commit: &str) -> usize {
    let signs = line.iter().take_while(|byte| **byte == sign).count();
    let rest = line[signs..].strip_prefix(b" ").unwrap_or_default();
    if rest.starts_with(commit.as_bytes()) {
        signs
    } else {
        0
    }
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
    fn an_underlined_title_is_text_and_marks_have_any_length() {
        let lines = ConflictLines {
            one: 1,
            one_count: 3,
            other: 1,
            other_count: 1,
        };
        let merged = "<<<<<<< 11\nTitle\n==========\nb\n=======\nc\n>>>>>>> 22\n";
        assert_eq!(conflict_lines(merged.as_bytes(), "11", "22"), [lines]);
        let merged = "<<< 11\nTitle\n=======\nb\n===\nc\n>>> 22\n";
        assert_eq!(conflict_lines(merged.as_bytes(), "11", "22"), [lines]);
    }

    #[test]
    fn marks_of_others_are_text() {
        let merged = "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> theirs\n";
        assert_eq!(conflict_lines(merged.as_bytes(), "11", "22"), []);
    }
}
