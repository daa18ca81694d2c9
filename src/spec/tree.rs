//! YAML text to a tree with positions.
//!
//! Anchors, aliases and `<<` are resolved here, within bounds; scalars stay as they are written,
//! so that each reader takes them as what it needs. Nothing here knows a key of the spec.

use std::collections::HashMap;
use std::rc::Rc;

use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, ScanError};

use super::diagnostic::{Diagnostic, shown};
use super::source::{SourceFile, Span};

/// Most nodes of a spec, counted after aliases are expanded.
const NODE_LIMIT: usize = 10_000;

/// Deepest nesting of a spec, counted after aliases are expanded.
const DEPTH_LIMIT: usize = 64;

/// A node of the tree. Shared where aliases repeat it.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub span: Span,
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// A scalar; `plain` if it has no quotes and no block style, so that it may be a number.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Rc<Node>>),
    /// A map, in the order of the text, each key once.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub node: Rc<Node>,
}

/// A node, how many nodes it stands for, and how deep it is.
type Built = (Rc<Node>, usize, usize);

/// A list or map that is not closed yet.
struct Open {
    span: Span,
    anchor: usize,
    is_map: bool,
    children: Vec<Rc<Node>>,
    size: usize,
    height: usize,
}

struct Builder<'a> {
    source: &'a SourceFile,
    problems: &'a mut Vec<Diagnostic>,
    open: Vec<Open>,
    anchors: HashMap<usize, Built>,
    size: usize,
    root: Option<Rc<Node>>,
}

/// Parses one document. `None`, and at least one problem, if there is nothing to read.
pub(super) fn parse(source: &SourceFile, problems: &mut Vec<Diagnostic>) -> Option<Rc<Node>> {
    let mut builder = Builder {
        source,
        problems,
        open: Vec::new(),
        anchors: HashMap::new(),
        size: 0,
        root: None,
    };
    let mut documents = 0;
    let text = source.text();
    for item in Parser::new_from_str(text) {
        let (event, span) = match item {
            Ok(item) => item,
            Err(error) => {
                builder.problems.push(syntax(source, &error));
                return None;
            }
        };
        let range = span.byte_range().unwrap_or_default();
        let span = Span {
            start: range.start,
            end: range.end.max(range.start),
        };
        if matches!(event, Event::DocumentStart(..)) {
            documents += 1;
            if documents > 1 {
                let hint = "one document is one run: remove it, or put it into a file of its own";
                builder.problem(span, "a second YAML document starts here", hint);
                return None;
            }
        }
        builder.event(event, span).ok()?;
    }
    let root = builder.root.take();
    if root.as_ref().is_none_or(|n| matches!(n.value, Value::Null)) {
        let hint = "write `version: 1` and `tasks:` with at least one task";
        builder.problem(Span::default(), "the spec is empty", hint);
        return None;
    }
    root
}

/// The bounds are passed: nothing more is read.
struct Exceeded;

impl Builder<'_> {
    fn problem(&mut self, span: Span, title: impl Into<String>, hint: &str) {
        self.problems.push(Diagnostic::new(span, title, hint));
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Exceeded> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let forced_text = tag
                    .as_ref()
                    .is_some_and(|t| t.is_yaml_core_schema_tag("str"));
                if let (Some(tag), false) = (&tag, forced_text) {
                    self.tag(span, &tag.original());
                }
                let plain = style == ScalarStyle::Plain && !forced_text;
                let value = if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    Value::Null
                } else {
                    let text = text.into_owned();
                    Value::Scalar { text, plain }
                };
                let node = Rc::new(Node { span, value });
                self.add((node, 1, 0), anchor, span)
            }
            Event::Alias(anchor) => {
                if let Some(built) = self.anchors.get(&anchor).cloned() {
                    return self.add(built, 0, span);
                }
                self.problem(span, "an alias inside of what it stands for", "");
                Err(Exceeded)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.start(span, anchor, false, tag.map(|t| t.original()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.start(span, anchor, true, tag.map(|t| t.original()))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.end(span);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn tag(&mut self, span: Span, tag: &str) {
        let title = format!("the tag `{}` has no meaning here", shown(tag));
        self.problem(span, title, "remove the tag");
    }

    fn start(
        &mut self,
        span: Span,
        anchor: usize,
        is_map: bool,
        tag: Option<String>,
    ) -> Result<(), Exceeded> {
        if let Some(tag) = tag {
            self.tag(span, &tag);
        }
        self.open.push(Open {
            span,
            anchor,
            is_map,
            children: Vec::new(),
            size: 1,
            height: 0,
        });
        self.check_depth(0, span)?;
        self.count(1, span)
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Exceeded> {
        self.size += nodes;
        if self.size <= NODE_LIMIT {
            return Ok(());
        }
        let title = format!("the spec has more than {NODE_LIMIT} values, aliases expanded");
        self.problem(span, title, "aliases that repeat aliases multiply");
        Err(Exceeded)
    }

    fn check_depth(&mut self, height: usize, span: Span) -> Result<(), Exceeded> {
        if self.open.len() + height <= DEPTH_LIMIT {
            return Ok(());
        }
        let title = format!("nested deeper than {DEPTH_LIMIT} levels");
        self.problem(span, title, "");
        Err(Exceeded)
    }

    fn add(&mut self, built: Built, anchor: usize, span: Span) -> Result<(), Exceeded> {
        self.check_depth(built.2, span)?;
        self.count(built.1, span)?;
        self.place(built, anchor);
        Ok(())
    }

    fn place(&mut self, built: Built, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, built.clone());
        }
        let (node, size, height) = built;
        match self.open.last_mut() {
            Some(open) => {
                open.children.push(node);
                open.size += size;
                open.height = open.height.max(height + 1);
            }
            None => self.root = Some(node),
        }
    }

    fn end(&mut self, end: Span) {
        let Some(open) = self.open.pop() else {
            return;
        };
        let value = if open.is_map {
            Value::Map(self.entries(&open.children))
        } else {
            Value::List(open.children)
        };
        let span = Span {
            start: open.span.start,
            end: end.end,
        };
        let node = Rc::new(Node { span, value });
        self.place((node, open.size, open.height), open.anchor);
    }

    /// Keys and values in turn to entries: each key once, merges applied.
    fn entries(&mut self, children: &[Rc<Node>]) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Span> = HashMap::new();
        let mut merges = Vec::new();
        for pair in children.chunks_exact(2) {
            let (key, node) = (&pair[0], &pair[1]);
            let Some((text, is_merge)) = key_text(key) else {
                self.problem(key.span, "a key must be text", "");
                continue;
            };
            if let Some(first) = seen.get(&text) {
                let (line, column) = self.source.position(first.start);
                let title = format!("duplicate key `{}`", shown(&text));
                self.problem(key.span, title, &format!("first given at {line}:{column}"));
                continue;
            }
            seen.insert(text.clone(), key.span);
            if is_merge {
                merges.push(node);
            } else {
                entries.push(Entry {
                    key: text,
                    key_span: key.span,
                    node: Rc::clone(node),
                });
            }
        }
        for node in merges {
            self.merge(node, &mut entries, &mut seen);
        }
        entries
    }

    /// Adds the entries of a `<<` value that the map does not have.
    fn merge(
        &mut self,
        node: &Rc<Node>,
        entries: &mut Vec<Entry>,
        seen: &mut HashMap<String, Span>,
    ) {
        match &node.value {
            Value::Map(inherited) => {
                for entry in inherited {
                    if !seen.contains_key(&entry.key) {
                        seen.insert(entry.key.clone(), entry.key_span);
                        entries.push(entry.clone());
                    }
                }
            }
            Value::List(nodes) if nodes.iter().all(|n| matches!(n.value, Value::Map(_))) => {
                for node in nodes {
                    self.merge(node, entries, seen);
                }
            }
            _ => self.problem(
                node.span,
                "`<<` must be a map or a list of maps",
                "write `<<: *name`",
            ),
        }
    }
}

fn key_text(node: &Node) -> Option<(String, bool)> {
    match &node.value {
        Value::Scalar { text, plain } => Some((text.clone(), *plain && text == "<<")),
        Value::Null => Some(("null".to_owned(), false)),
        _ => None,
    }
}

fn syntax(source: &SourceFile, error: &ScanError) -> Diagnostic {
    let start = error.marker().byte_offset().unwrap_or_default();
    let span = Span {
        start,
        end: start + 1,
    };
    let (line, place) = source.line_of(span);
    let indent = &line[..line.len() - line.trim_start().len()];
    let hint = if indent.contains('\t') && place.start <= indent.len() {
        "YAML is indented with spaces, not tabs"
    } else if source.text().get(..start).is_some_and(|t| t.ends_with('$')) {
        "inside of `{…}` and `[…]`, quote a value with `${NAME}`"
    } else {
        ""
    };
    Diagnostic::new(span, format!("not YAML: {}", error.info()), hint)
}
