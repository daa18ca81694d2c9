//! The forms in which a secret value may stand in output, as the byte strings to look for.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Values shorter than this are not masked, in bytes: they would tear up every output.
pub(super) const SHORTEST: usize = 6;
/// Lines of a value shorter than this are not masked on their own: most are brackets and words.
const SHORTEST_LINE: usize = 8;
/// A longer form is looked for in pieces of this size, in bytes: what `base64` writes on a line.
const PIECE: usize = 76;
/// A last piece shorter than this stays with the one before it: alone it would mask words.
const SHORTEST_REST: usize = 20;
/// The longest byte string that is looked for.
pub(super) const LONGEST: usize = PIECE + SHORTEST_REST - 1;

/// Every byte string to look for, so that no form of `value` is shown.
pub(super) fn needles(value: &str) -> Vec<Vec<u8>> {
    let value = value.trim();
    let mut forms = vec![value.as_bytes().to_vec()];
    let lines = super::lines(value).filter(|line| line.len() >= SHORTEST_LINE);
    forms.extend(lines.map(|line| line.as_bytes().to_vec()));
    forms.extend(base64(value.as_bytes()));
    forms.extend(url(value));
    forms.extend(json(value));
    forms.iter().flat_map(|form| pieces(form)).collect()
}

/// A long form falls into pieces that stand side by side: each is found wherever it is, so that a
/// part of a value is masked too, and no more than a piece is ever held back.
fn pieces(mut form: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while form.len() > LONGEST {
        let (piece, rest) = form.split_at(PIECE);
        pieces.push(piece.to_vec());
        form = rest;
    }
    pieces.push(form.to_vec());
    pieces
}

/// The characters that the value alone decides, wherever it stands in what was encoded: there are
/// three ways to lie in groups of three bytes (RFC 4648, section 4).
fn base64(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for before in 0..3 {
        let bytes = [&[0; 3][..before], value].concat();
        let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            forms.push(engine.encode(&bytes).as_bytes()[first..end].to_vec());
        }
    }
    forms
}

/// Percent-encoded: by RFC 3986, as browsers' `encodeURIComponent`, as a path, as a form.
fn url(value: &str) -> Vec<Vec<u8>> {
    let encode = |kept: &str, space: &str, upper: bool| -> Vec<u8> {
        let mut form = Vec::with_capacity(value.len());
        for &byte in value.as_bytes() {
            match byte {
                b' ' => form.extend_from_slice(space.as_bytes()),
                b'-' | b'_' | b'.' | b'~' => form.push(byte),
                _ if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) => {
                    form.push(byte);
                }
                _ if upper => form.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                _ => form.extend_from_slice(format!("%{byte:02x}").as_bytes()),
            }
        }
        form
    };
    let ways = [("", "%20"), ("!'()*", "%20"), ("/", "%20"), ("", "+")];
    let both = |(kept, space)| [encode(kept, space, true), encode(kept, space, false)];
    ways.into_iter().flat_map(both).collect()
}

/// Inside a JSON string: as most write it, in ASCII only, safe for HTML, and with `\/`.
fn json(value: &str) -> Vec<Vec<u8>> {
    let quoted = serde_json::Value::from(value).to_string();
    let plain = &quoted[1..quoted.len() - 1];
    let escaped = |which: fn(char) -> bool| {
        let mut form = String::with_capacity(plain.len());
        for c in plain.chars() {
            if which(c) {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    form += &format!("\\u{unit:04x}");
                }
            } else {
                form.push(c);
            }
        }
        form
    };
    let ascii = escaped(|c| !c.is_ascii());
    let html = escaped(|c| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}'));
    let slashes = plain.replace('/', "\\/");
    [plain.to_owned(), ascii, html, slashes]
        .map(String::into_bytes)
        .into()
}
