//! The one sanitiser: text that an agent may have written becomes one harmless line.
//!
//! Everything of an agent's that reaches a terminal, a report or an error goes through [`line()`].

/// Longest result, in bytes, before the mark that shows the cut.
const LIMIT: usize = 4096;
/// Stands for every character that is not shown.
const SHOWN: char = '\u{fffd}';
/// Longest colour sequence that is kept, in characters.
const COLOR_LIMIT: usize = 32;

/// Makes one line of `bytes` that moves no cursor, sets no title and reads as it is.
///
/// Escape sequences are dropped, colours (SGR) only without `keep_color`; other control
/// characters, line separators, invisible and direction-changing characters and invalid UTF-8 are
/// shown as U+FFFD. Tabs stay. The result is cut at 4 KiB.
pub fn line(bytes: &[u8], keep_color: bool) -> String {
    // What is dropped may be long; reading on without end is not worth it.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(16 * LIMIT)]);
    let mut cut = text.len() < bytes.len() && bytes.len() > 16 * LIMIT;
    let mut rest = text.chars();
    let mut line = String::new();
    let mut colored = false;
    while let Some(c) = rest.next() {
        if line.len() >= LIMIT {
            cut = true;
            break;
        }
        match c {
            '\u{1b}' => colored |= escape(&mut rest, keep_color, &mut line),
            '\u{9b}' => colored |= control_sequence(&mut rest, keep_color, &mut line),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => control_string(&mut rest),
            '\t' => line.push('\t'),
            c if c.is_control() || misleads(c) => line.push(SHOWN),
            c => line.push(c),
        }
    }
    if cut {
        line.push('…');
    }
    if colored {
        line.push_str("\u{1b}[0m");
    }
    line
}

/// Whether a character is invisible or changes how the text around it is shown.
fn misleads(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Reads what follows ESC; says whether a colour was kept.
fn escape(rest: &mut std::str::Chars<'_>, keep_color: bool, line: &mut String) -> bool {
    let ahead = rest.clone();
    match rest.next() {
        Some('[') => return control_sequence(rest, keep_color, line),
        Some(']' | 'P' | '_' | '^' | 'X') => control_string(rest),
        Some(' '..='/') => {
            let _ = rest.find(|c| !(' '..='/').contains(c));
        }
        Some('0'..='~') | None => {}
        // Not part of a sequence: it is looked at on its own.
        Some(_) => *rest = ahead,
    }
    false
}

/// Reads a CSI sequence to its final character (ECMA-48, 5.4); says whether it was kept.
fn control_sequence(rest: &mut std::str::Chars<'_>, keep_color: bool, line: &mut String) -> bool {
    let mut parameters = String::new();
    loop {
        let ahead = rest.clone();
        match rest.next() {
            Some(c @ ' '..='?') => parameters.push(c),
            Some('m') => break,
            Some('@'..='~') | None => return false,
            Some(_) => {
                *rest = ahead;
                return false;
            }
        }
    }
    let plain = |c: char| c.is_ascii_digit() || c == ';' || c == ':';
    let kept = keep_color && parameters.len() <= COLOR_LIMIT && parameters.chars().all(plain);
    if kept {
        line.push_str("\u{1b}[");
        line.push_str(&parameters);
        line.push('m');
    }
    kept
}

/// Reads an OSC, DCS, APC, PM or SOS string to its terminator, or to the end.
fn control_string(rest: &mut std::str::Chars<'_>) {
    while let Some(c) = rest.next() {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' if rest.clone().next() == Some('\\') => {
                rest.next();
                return;
            }
            _ => {}
        }
    }
}
