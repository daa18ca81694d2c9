//! Colours, or none.

use std::borrow::Cow;

use console::Style;

/// Paints words, if the output takes colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// Whether there is colour at all.
    pub color: bool,
}

impl Paint {
    fn with(self, style: Style, text: &str) -> String {
        style.force_styling(self.color).apply_to(text).to_string()
    }

    /// Something good.
    pub fn good(self, text: &str) -> String {
        self.with(Style::new().green().bold(), text)
    }

    /// Something bad.
    pub fn bad(self, text: &str) -> String {
        self.with(Style::new().red().bold(), text)
    }

    /// Something to look at.
    pub fn careful(self, text: &str) -> String {
        self.with(Style::new().yellow().bold(), text)
    }

    /// Something that matters.
    pub fn strong(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }

    /// Something that matters less.
    pub fn faint(self, text: &str) -> String {
        self.with(Style::new().dim(), text)
    }

    /// A line of a task's output, which has colours of its own.
    pub fn foreign(self, line: &str) -> Cow<'_, str> {
        if self.color {
            return Cow::Borrowed(line);
        }
        console::strip_ansi_codes(line)
    }

    /// A task's name: always the same colour for the same place in the spec.
    pub fn task(self, place: usize, text: &str) -> String {
        let colors = [
            Style::new().cyan(),
            Style::new().magenta(),
            Style::new().blue(),
            Style::new().yellow(),
            Style::new().green(),
        ];
        self.with(colors[place % colors.len()].clone(), text)
    }
}
