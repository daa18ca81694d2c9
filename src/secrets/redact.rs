//! Masks secret values in a stream of bytes, wherever the stream is cut.
//!
//! Works on bytes, before lines are made of them, so that a value is found across any frame border.
//! No automaton, which would grow with values of 1 MiB in a dozen forms: a needle is found by its
//! first bytes and confirmed by its hash, so that a byte costs the same whatever the values are.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::SecretString;
use super::forms::{self, LONGEST, SHORTEST};

/// What stands where a secret stood; one for all that touch or overlap.
pub const MASK: &str = "***";

/// How many bytes decide whether a needle may begin at a place, and how many of them are looked at
/// first: the last ones, so that most places are passed over several at a time.
const START: usize = SHORTEST;
const GRAM: usize = 3;
/// How far one look can pass over.
const FAR: u8 = 4;

/// The values to mask, shared by everything that prints: one that is added is masked everywhere from
/// then on.
#[derive(Clone, Default)]
pub struct Needles(Arc<Growing>);

#[derive(Default)]
struct Growing {
    search: RwLock<Option<Arc<Search>>>,
    /// Held while one is made out of the one before, which may take a while.
    adding: Mutex<()>,
}

#[derive(Clone)]
struct Search {
    /// By the hash of three bytes at the end of a start: how far the next start is at least.
    passed_over: Box<[u8]>,
    /// The starts of needles, each with the lengths of those that begin so, as bits.
    starts: HashMap<[u8; START], u128>,
    /// The same in order, to find what only begins like one.
    in_order: Vec<[u8; START]>,
    /// The hashes of all needles.
    hashes: HashSet<u64>,
    hasher: RandomState,
}

impl std::fmt::Debug for Needles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

impl Needles {
    /// The needles for these values: each as it is, without the white space around it, each line of
    /// at least 8 bytes, in base64 wherever it begins, URL-encoded, and inside JSON strings.
    /// Also gives the positions of the values that are too short to be masked.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a SecretString>) -> (Self, Vec<usize>) {
        let mut search = Search::default();
        let mut too_short = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            if !search.take(value) {
                too_short.push(index);
            }
        }
        let needles = Self::default();
        needles.search_for(search);
        (needles, too_short)
    }

    /// Masks this value too from now on, in streams that have begun as well; says whether it is long
    /// enough for that.
    pub fn add(&self, value: &SecretString) -> bool {
        let _alone = self.0.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut search = self.search().as_deref().cloned().unwrap_or_default();
        let is_masked = search.take(value);
        self.search_for(search);
        is_masked
    }

    /// Whether there is nothing to mask.
    pub fn is_empty(&self) -> bool {
        self.search().is_none()
    }

    /// Whether something in these bytes would be masked.
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        let search = self.search();
        search.is_some_and(|search| {
            let masked = Redactor::new(self).mask(&search, bytes, true);
            matches!(masked, Cow::Owned(_))
        })
    }

    fn search(&self) -> Option<Arc<Search>> {
        let search = self.0.search.read();
        search.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn search_for(&self, mut search: Search) {
        search.in_order = search.starts.keys().copied().collect();
        search.in_order.sort_unstable();
        let search = (!search.starts.is_empty()).then(|| Arc::new(search));
        let mut current = self
            .0
            .search
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = search;
    }

    /// Masks a whole text.
    pub fn mask(&self, text: &str) -> String {
        let mut redactor = Redactor::new(self);
        let mut bytes = redactor.push(text.as_bytes()).into_owned();
        bytes.extend(redactor.finish());
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Default for Search {
    fn default() -> Self {
        Self {
            passed_over: vec![FAR; 1 << 16].into(),
            starts: HashMap::new(),
            in_order: Vec::new(),
            hashes: HashSet::new(),
            hasher: RandomState::new(),
        }
    }
}

impl Search {
    /// Adds all needles of a value, if it is long enough.
    fn take(&mut self, value: &SecretString) -> bool {
        let is_long = value.expose().trim().len() >= SHORTEST;
        if is_long {
            for needle in forms::needles(value.expose()) {
                self.add(&needle);
            }
        }
        is_long
    }

    fn add(&mut self, needle: &[u8]) {
        let Some(start) = needle.first_chunk::<START>() else {
            return;
        };
        for (place, back) in (0..FAR).rev().enumerate() {
            let gram = gram(&start[place..]);
            let entry = &mut self.passed_over[gram];
            *entry = back.min(*entry);
        }
        *self.starts.entry(*start).or_default() |= 1 << needle.len();
        self.hashes.insert(self.hasher.hash_one(needle));
    }

    /// The length of the longest needle that `text` begins with.
    fn found(&self, text: &[u8]) -> Option<usize> {
        let mut lengths = *self.starts.get(text.first_chunk::<START>()?)?;
        while lengths != 0 {
            let length = 127 - lengths.leading_zeros() as usize;
            lengths &= !(1 << length);
            let needle = text.get(..length);
            if needle.is_some_and(|n| self.hashes.contains(&self.hasher.hash_one(n))) {
                return Some(length);
            }
        }
        None
    }

    /// Whether more text could make a needle, or a longer one, of what `text` begins with.
    fn may_grow(&self, text: &[u8]) -> bool {
        if let Some(start) = text.first_chunk::<START>() {
            let lengths = self.starts.get(start).copied().unwrap_or_default();
            return text.len() < LONGEST && lengths >> (text.len() + 1) != 0;
        }
        let place = self.in_order.partition_point(|start| start[..] < *text);
        let next = self.in_order.get(place);
        next.is_some_and(|start| start.starts_with(text))
    }
}

/// Where the first three bytes stand in the table.
fn gram(bytes: &[u8]) -> usize {
    let number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
    (number.wrapping_mul(0x9e37_79b1) >> 16) as usize
}

/// Masks one stream. What it holds back is less than the longest needle.
pub struct Redactor {
    needles: Needles,
    /// What may be the beginning of a needle.
    held: Vec<u8>,
    /// How much of it a mask that was given already covers; none if the last byte given was plain.
    covered: Option<usize>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

impl Redactor {
    /// A redactor at the start of a stream.
    pub fn new(needles: &Needles) -> Self {
        Self {
            needles: needles.clone(),
            held: Vec::new(),
            covered: None,
        }
    }

    /// Takes the next piece and gives what can be shown by now.
    pub fn push<'a>(&mut self, piece: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(search) = self.needles.search() else {
            return Cow::Borrowed(piece);
        };
        if !self.held.is_empty() {
            let mut text = std::mem::take(&mut self.held);
            text.extend_from_slice(piece);
            return Cow::Owned(self.mask(&search, &text, false).into_owned());
        }
        self.mask(&search, piece, false)
    }

    /// Ends the stream and gives what was held back.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        match self.needles.search() {
            Some(search) => self.mask(&search, &held, true).into_owned(),
            None => held,
        }
    }

    /// Masks up to the first place where it is not decided yet whether a needle begins, and holds
    /// the rest. Whether one begins at a place depends on the bytes there and on nothing else, so
    /// the same comes out however the stream is cut.
    fn mask<'a>(&mut self, search: &Search, text: &'a [u8], is_last: bool) -> Cow<'a, [u8]> {
        let mut shown = Vec::new();
        let mut covered = self.covered;
        let mut from = covered.unwrap_or(0);
        let mut at = 0;
        while at < text.len() {
            if let Some(start) = text.get(at..at + START) {
                let passed_over = search.passed_over[gram(&start[START - GRAM..])];
                if passed_over > 0 {
                    at += usize::from(passed_over);
                    continue;
                }
            }
            let rest = &text[at..];
            if !is_last && rest.len() < LONGEST && search.may_grow(rest) {
                break;
            }
            if let Some(length) = search.found(rest) {
                if covered.is_none_or(|end| end < at) {
                    shown.extend_from_slice(&text[from..at]);
                    shown.extend_from_slice(MASK.as_bytes());
                }
                from = from.max(at + length);
                covered = Some(from);
            }
            at += 1;
        }
        self.held.extend_from_slice(&text[at..]);
        self.covered = covered.and_then(|end| end.checked_sub(at));
        if from == 0 {
            return Cow::Borrowed(&text[..at]);
        }
        shown.extend_from_slice(text.get(from..at).unwrap_or_default());
        Cow::Owned(shown)
    }
}
