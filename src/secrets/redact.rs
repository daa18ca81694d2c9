//! Masks secret values in a stream of bytes, wherever the stream is cut.
//!
//! Works on bytes, before lines are made of them, so that a value is found across any frame border.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};

use super::SecretString;

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// Values shorter than this are not masked: they would tear up every output.
const SHORTEST: usize = 6;

/// The values to mask, shared by everything that prints.
#[derive(Clone, Default)]
pub struct Needles(Option<Arc<Search>>);

struct Search {
    automaton: AhoCorasick,
    values: Vec<Vec<u8>>,
    longest: usize,
}

impl std::fmt::Debug for Needles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

impl Needles {
    /// The needles for these values: each as it is, and without the white space around it.
    /// Also gives the positions of the values that are too short to be masked.
    ///
    /// # Panics
    /// If the values together are larger than an automaton can hold, which is gigabytes.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a SecretString>) -> (Self, Vec<usize>) {
        let mut needles: Vec<Vec<u8>> = Vec::new();
        let mut too_short = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let trimmed = value.expose().trim();
            if trimmed.len() < SHORTEST {
                too_short.push(index);
                continue;
            }
            // The trimmed value is part of the whole one, so it alone finds both.
            needles.push(trimmed.as_bytes().to_vec());
        }
        needles.sort();
        needles.dedup();
        if needles.is_empty() {
            return (Self(None), too_short);
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(&needles)
            .expect("secrets are capped far below what an automaton can hold");
        let longest = needles.iter().map(Vec::len).max().unwrap_or(0);
        let search = Search {
            automaton,
            values: needles,
            longest,
        };
        (Self(Some(Arc::new(search))), too_short)
    }

    /// Masks a whole text.
    pub fn mask(&self, text: &str) -> String {
        let mut redactor = Redactor::new(self);
        let mut bytes = redactor.push(text.as_bytes());
        bytes.extend(redactor.finish());
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Masks one stream. What it holds back is at most the longest needle.
#[derive(Debug)]
pub struct Redactor {
    needles: Needles,
    held: Vec<u8>,
}

impl Redactor {
    /// A redactor at the start of a stream.
    pub fn new(needles: &Needles) -> Self {
        Self {
            needles: needles.clone(),
            held: Vec::new(),
        }
    }

    /// Takes the next piece and gives what can be shown by now.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let Some(search) = self.needles.0.clone() else {
            return piece.to_vec();
        };
        self.held.extend_from_slice(piece);
        let matches = search.matches(&self.held);
        let mut open = search.open_match(&self.held);
        // A match that reaches over the border may still grow into a longer one: hold it whole.
        if let Some(&(start, _)) = matches.iter().find(|(s, e)| *s < open && open < *e) {
            open = start;
        }
        let shown = masked(&self.held, &matches, open);
        self.held.drain(..open);
        shown
    }

    /// Ends the stream and gives what was held back.
    pub fn finish(&mut self) -> Vec<u8> {
        let Some(search) = self.needles.0.clone() else {
            return Vec::new();
        };
        let held = std::mem::take(&mut self.held);
        masked(&held, &search.matches(&held), held.len())
    }
}

impl Search {
    /// Where needles stand, as (start, end), overlapping ones merged, in order.
    fn matches(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = self
            .automaton
            .find_overlapping_iter(bytes)
            .map(|m| (m.start(), m.end()))
            .collect();
        found.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(found.len());
        for (start, end) in found {
            match merged.last_mut() {
                Some(last) if start < last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        merged
    }

    /// Where the earliest needle begins that the next piece could complete; else the end.
    fn open_match(&self, bytes: &[u8]) -> usize {
        let first = bytes.len().saturating_sub(self.longest - 1);
        let could_grow = |tail: &[u8]| {
            self.values
                .iter()
                .any(|value| value.len() > tail.len() && value.starts_with(tail))
        };
        (first..bytes.len())
            .find(|&start| could_grow(&bytes[start..]))
            .unwrap_or(bytes.len())
    }
}

/// The bytes up to `end`, with every match replaced.
fn masked(bytes: &[u8], matches: &[(usize, usize)], end: usize) -> Vec<u8> {
    let mut shown = Vec::with_capacity(end);
    let mut from = 0;
    for &(start, stop) in matches.iter().take_while(|(start, _)| *start < end) {
        shown.extend_from_slice(&bytes[from..start]);
        shown.extend_from_slice(MASK.as_bytes());
        from = stop;
    }
    shown.extend_from_slice(&bytes[from..end]);
    shown
}
