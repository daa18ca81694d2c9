//! The one sanitiser: text that an agent may have written becomes one harmless line.
//!
//! Everything of an agent's that reaches a terminal, a report or an error goes through [`line()`],
//! and whole lines of a log through [`long_line()`].

/// Longest text of a line, in bytes, before the mark that shows the cut.
const LIMIT: usize = 4096;
/// The same for a line of a log.
const LONG_LIMIT: usize = 256 * 1024;
/// Stands for every character that is not shown.
const SHOWN: char = '\u{fffd}';
/// Longest colour sequence that is kept, in characters.
const COLOR_LIMIT: usize = 32;
/// What ends colours.
const RESET: &str = "\u{1b}[0m";

/// The most of a line, in bytes, that is looked at: what is dropped of it may be long.
pub const LOOKED_AT: usize = 16 * LIMIT;
/// The same for a line of a log.
pub const LONG_LOOKED_AT: usize = 16 * LONG_LIMIT;

/// Makes one line of `bytes` that moves no cursor, sets no title and reads as it is.
///
/// Escape sequences are dropped, colours (SGR) only without `keep_color`; other control
/// characters, line separators, invisible and direction-changing characters and invalid UTF-8 are
/// shown as U+FFFD. Tabs stay. Text is cut at 4 KiB, and `…` shows it.
pub fn line(bytes: &[u8], keep_color: bool) -> String {
    sanitized(bytes, keep_color, LIMIT)
}

/// The same for a line of a log, which is cut at 256 KiB.
pub fn long_line(bytes: &[u8], keep_color: bool) -> String {
    sanitized(bytes, keep_color, LONG_LIMIT)
}

fn sanitized(bytes: &[u8], keep_color: bool, limit: usize) -> String {
    if bytes.len() <= limit
        && let Ok(text) = std::str::from_utf8(bytes)
        && bytes.iter().all(|b| matches!(b, b'\t' | b' '..=b'~'))
    {
        return text.to_owned();
    }
    let looked_at = &bytes[..bytes.len().min(16 * limit)];
    let text = String::from_utf8_lossy(looked_at);
    let mut rest = text.chars();
    let mut line = Line {
        text: String::new(),
        colors: 0,
        keep_color,
    };
    let mut cut = looked_at.len() < bytes.len();
    while let Some(c) = rest.next() {
        let shown = match c {
            '\u{1b}' => {
                line.escape(&mut rest);
                continue;
            }
            '\u{9b}' => {
                line.control_sequence(&mut rest);
                continue;
            }
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => {
                control_string(&mut rest);
                continue;
            }
            '\t' => '\t',
            c if c.is_control() || misleads(c) => SHOWN,
            c => c,
        };
        if line.text.len() - line.colors >= limit || line.colors >= 8 * limit {
            cut = true;
            break;
        }
        line.text.push(shown);
    }
    if cut {
        line.text.push('…');
    }
    if line.colors > 0 && !line.text.ends_with(RESET) {
        line.text.push_str(RESET);
    }
    line.text
}

/// Whether a character is invisible or changes how the text around it is shown. Joiners and the
/// variation selectors of emoji stay: scripts need them.
fn misleads(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

struct Line {
    text: String,
    /// How much of it are colours, in bytes.
    colors: usize,
    keep_color: bool,
}

impl Line {
    /// Reads what follows ESC.
    fn escape(&mut self, rest: &mut std::str::Chars<'_>) {
        let ahead = rest.clone();
        match rest.next() {
            Some('[') => self.control_sequence(rest),
            Some(']' | 'P' | '_' | '^' | 'X') => control_string(rest),
            // An intermediate character or more, then a final one (ECMA-35, 13.2).
            Some(' '..='/') => loop {
                let ahead = rest.clone();
                match rest.next() {
                    Some(' '..='/') => {}
                    Some('0'..='~') | None => break,
                    Some(_) => {
                        *rest = ahead;
                        break;
                    }
                }
            },
            Some('0'..='~') | None => {}
            // Not part of a sequence: it is looked at on its own.
            Some(_) => *rest = ahead,
        }
    }

    /// Reads a CSI sequence to its final character (ECMA-48, 5.4), and keeps it if it is a colour.
    fn control_sequence(&mut self, rest: &mut std::str::Chars<'_>) {
        let mut parameters = String::new();
        loop {
            let ahead = rest.clone();
            match rest.next() {
                Some(c @ ' '..='?') => parameters.push(c),
                Some('m') => break,
                Some('@'..='~') | None => return,
                Some(_) => {
                    *rest = ahead;
                    return;
                }
            }
        }
        let plain = |c: char| c.is_ascii_digit() || c == ';' || c == ':';
        if self.keep_color && parameters.len() <= COLOR_LIMIT && parameters.chars().all(plain) {
            let color = format!("\u{1b}[{parameters}m");
            self.colors += color.len();
            self.text.push_str(&color);
        }
    }
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
