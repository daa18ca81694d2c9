//! Problems of a spec, each with its place, and how people see them.
//!
//! The one place that renders; what is wrong is found elsewhere.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::source::{SourceFile, Span};
use crate::id::is_bidi;

/// How many problems are shown; the rest is counted.
const SHOWN: usize = 50;

/// How much of a line is shown around a problem, in bytes.
const WINDOW: usize = 200;

/// One problem of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, as a clause.
    pub title: String,
    /// Where; `None` for what no place of the spec causes.
    pub span: Option<Span>,
    /// What to do, shown beside the place; may be empty.
    pub hint: String,
}

impl Diagnostic {
    /// A problem at a place.
    pub fn new(span: Span, title: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            span: Some(span),
            hint: hint.into(),
        }
    }

    /// A problem of no place.
    pub fn general(title: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            span: None,
            hint: hint.into(),
        }
    }

    /// What orders problems, and what makes two of them one.
    fn key(&self) -> (Option<usize>, &str) {
        (self.span.map(|s| s.start), &self.title)
    }
}

/// All problems of a spec, in the order of its lines; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    source: Arc<SourceFile>,
    list: Vec<Diagnostic>,
}

impl std::error::Error for Diagnostics {}

impl Diagnostics {
    /// `Err` with the problems; `Ok` where there are none.
    pub(crate) fn check(source: &Arc<SourceFile>, list: Vec<Diagnostic>) -> Result<(), Self> {
        if list.is_empty() {
            Ok(())
        } else {
            Err(Self::new(source, list))
        }
    }

    /// The problems, sorted and each once.
    pub(crate) fn new(source: &Arc<SourceFile>, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by(|a, b| a.key().cmp(&b.key()));
        list.dedup_by(|a, b| a.key() == b.key());
        let source = Arc::clone(source);
        Self { source, list }
    }

    /// The problems.
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// The whole text for a terminal, coloured or plain, ending in a count.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut text = String::new();
        for diagnostic in self.list.iter().take(SHOWN) {
            text.push_str(&self.render_one(&renderer, diagnostic));
            text.push_str("\n\n");
        }
        text.push_str(&self.count());
        text
    }

    fn render_one(&self, renderer: &Renderer, diagnostic: &Diagnostic) -> String {
        let title = Level::ERROR.primary_title(escape(&diagnostic.title));
        let Some(span) = diagnostic.span else {
            let group = Group::with_title(title);
            let hint = (!diagnostic.hint.is_empty())
                .then(|| Level::HELP.message(escape(&diagnostic.hint)));
            return renderer.render(&[group.elements(hint)]);
        };
        let (line, range) = self.source.line_of(span);
        let (number, column) = self.source.position(span.start);
        let excerpt = Excerpt::of(line, &range);
        let mut annotation = AnnotationKind::Primary.span(excerpt.part);
        if !diagnostic.hint.is_empty() {
            annotation = annotation.label(escape(&diagnostic.hint));
        }
        let snippet = Snippet::source(excerpt.text)
            .line_start(number)
            .annotation(annotation);
        let name = escape(self.source.name());
        if excerpt.columns_fit {
            return renderer.render(&[title.element(snippet.path(name))]);
        }
        let origin = Origin::path(name).line(number).char_column(column);
        renderer.render(&[title.element(origin).element(snippet)])
    }

    fn count(&self) -> String {
        let count = self.list.len();
        let noun = if count == 1 { "error" } else { "errors" };
        let name = escape(self.source.name());
        let rest = match count.saturating_sub(SHOWN) {
            0 => String::new(),
            _ => format!(", the first {SHOWN} are shown"),
        };
        format!("agent-run: {count} {noun} in {name}{rest}")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Text of the spec for a title: control characters escaped, at most 60 characters.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = escape(text).chars().take(60).collect();
    if text.chars().count() > 60 {
        short.push('…');
    }
    short
}

/// Text without characters that act on a terminal or turn it around; tabs are the renderer's.
fn escape(text: &str) -> String {
    let acts = |c: char| c != '\t' && (c.is_control() || is_bidi(c));
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// What is shown of a line, and which part of that has the problem. A spec can be one line of
/// 1 MiB, and its control characters must not reach a terminal.
struct Excerpt {
    text: String,
    part: Range<usize>,
    /// Whether the columns of the text are those of the line.
    columns_fit: bool,
}

impl Excerpt {
    fn of(line: &str, part: &Range<usize>) -> Self {
        let boundary = |mut at: usize| {
            while !line.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let from = boundary(part.start.saturating_sub(WINDOW));
        let to = boundary(part.end.min(part.start + WINDOW));
        let end = boundary((to + WINDOW).min(line.len()));
        let (before, here) = (&line[from..part.start], &line[part.start..to]);
        let (left, middle, right) = (escape(before), escape(here), escape(&line[to..end]));
        Self {
            part: left.len()..left.len() + middle.len(),
            columns_fit: from == 0 && left == before,
            text: left + &middle + &right,
        }
    }
}
