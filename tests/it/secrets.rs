//! Masking: whatever the stream is cut into, the same comes out, and no form of a secret is in it.

use agent_run::secrets::{Needles, Redactor, SecretString};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

fn needles(values: &[&str]) -> Needles {
    let values: Vec<SecretString> = values
        .iter()
        .map(|&v| SecretString::new(v.into()))
        .collect();
    Needles::new(&values).0
}

fn in_pieces(needles: &Needles, text: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut redactor = Redactor::new(needles);
    let mut shown = Vec::new();
    let mut from = 0;
    for &cut in cuts {
        shown.extend_from_slice(&redactor.push(&text[from..cut]));
        from = cut;
    }
    shown.extend_from_slice(&redactor.push(&text[from..]));
    shown.extend(redactor.finish());
    shown
}

/// A value of a mebibyte in which nothing repeats.
fn large(seed: u32) -> String {
    let numbers = (0..85_000_u32).map(|n| (n ^ seed).wrapping_mul(0x9e37_79b1));
    numbers.map(|n| format!("{n:08x}-/é ")).collect()
}

#[test]
fn a_value_is_masked_as_it_is_and_without_its_line_end() {
    let needles = needles(&["open-sesame\n"]);
    assert_eq!(needles.mask("say open-sesame now"), "say *** now");
}

#[test]
fn every_form_of_a_value_is_masked() {
    let value = "pä&<s> /w?\"o\\rd~!";
    let needles = needles(&[value]);
    for form in [
        value,
        // Python's quote_plus and quote, a browser's encodeURIComponent, then lower-case digits.
        "p%C3%A4%26%3Cs%3E+%2Fw%3F%22o%5Crd~%21",
        "p%C3%A4%26%3Cs%3E%20/w%3F%22o%5Crd~%21",
        "p%C3%A4%26%3Cs%3E%20%2Fw%3F%22o%5Crd~!",
        "p%c3%a4%26%3cs%3e%20%2fw%3f%22o%5crd~%21",
        // jq, Python's json.dumps, Go's json.Marshal, PHP's json_encode.
        r#"pä&<s> /w?\"o\\rd~!"#,
        r#"p\u00e4&<s> /w?\"o\\rd~!"#,
        r#"pä\u0026\u003cs\u003e /w?\"o\\rd~!"#,
        r#"pä&<s> \/w?\"o\\rd~!"#,
    ] {
        assert_eq!(needles.mask(&format!("say {form}.")), "say ***.", "{form}");
    }
}

#[test]
fn base64_is_masked_wherever_the_value_begins() {
    let value = "\u{3ff}\u{3fe}?>\u{3ff}-sesame";
    let needles = needles(&[value]);
    for before in ["", "u", "us", "use", "user"] {
        for after in ["", "\n", "12", ":pass"] {
            let text = format!("{before}{value}{after}");
            for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                let masked = needles.mask(&encoded);
                // What shares a character with its neighbours stays: less than a byte on each side.
                let plain = masked.replace("***", "").replace('=', "");
                let neighbours = (before.len() + after.len()) * 8 / 6 + 3;
                assert!(masked.contains("***"), "{encoded}");
                assert!(plain.len() <= neighbours, "{encoded} {masked}");
            }
        }
    }
    assert_eq!(
        needles.mask(&STANDARD.encode(format!("use{value}"))),
        "dXNl***"
    );
}

#[test]
fn each_line_of_a_value_is_masked_on_its_own() {
    let key =
        "-----BEGIN KEY-----\r\nMIIEvQIBADANBg\r\n{\r\nkqhkiG9w0BAQEF\r\n-----END KEY-----\r\n";
    let needles = needles(&[key]);
    assert_eq!(needles.mask("got MIIEvQIBADANBg"), "got ***");
    assert_eq!(needles.mask("{ MIIEvQIBADANB }"), "{ MIIEvQIBADANB }");
    assert_eq!(needles.mask(&format!("<{key}>")), "<***\r\n>");
    let lines = "-----BEGIN KEY-----\n\tkqhkiG9w0BAQEF\n";
    assert_eq!(needles.mask(lines), "***\n\t***\n");
    let lines: Vec<String> = SecretString::new(key.into())
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines.iter().all(|line| line.trim() == line), "{lines:?}");
}

#[test]
fn what_base64_writes_on_lines_is_masked() {
    let value = large(1)[..5000].to_owned();
    let needles = needles(&[&value]);
    let encoded = STANDARD.encode(&value);
    let lines: Vec<&str> = (0..encoded.len())
        .step_by(76)
        .map(|at| &encoded[at..encoded.len().min(at + 76)])
        .collect();
    let masked = needles.mask(&lines.join("\n"));
    let rest = masked.replace("***", "").replace(['\n', '='], "");
    assert!(rest.len() <= 2, "{rest}");
}

#[test]
fn overlapping_values_leave_no_rest() {
    let needles = needles(&["abcdef", "defghi"]);
    assert_eq!(needles.mask("xabcdefghix"), "x***x");
    assert_eq!(needles.mask("xabcdefabcdefx"), "x***x");
}

#[test]
fn a_secret_inside_a_longer_one_does_not_save_the_rest_of_it() {
    let needles = needles(&["secret", "my-secret-token"]);
    assert_eq!(needles.mask("my-secret-token secret"), "*** ***");
    assert_eq!(needles.mask("my-secret-tokem"), "my-***-tokem");
}

#[test]
fn a_failed_start_does_not_hide_the_real_one() {
    let needles = needles(&["sk-sk-live-123"]);
    assert_eq!(in_pieces(&needles, b"sk-sk-sk-live-123", &[6]), b"sk-***");
}

#[test]
fn nothing_is_held_back_that_begins_no_secret() {
    let needles = needles(&["open-sesame"]);
    let mut redactor = Redactor::new(&needles);
    assert_eq!(*redactor.push(b"a line\n"), *b"a line\n");
    assert_eq!(*redactor.push(b"say op"), *b"say ");
    assert_eq!(*redactor.push(b"era\n"), *b"opera\n");
    assert_eq!(*redactor.push(b"open-sesam"), *b"");
    assert_eq!(redactor.finish(), b"open-sesam");
}

#[test]
fn a_value_that_is_added_is_masked_in_streams_that_have_begun() {
    for first in [&[][..], &["first-value"]] {
        let needles = needles(first);
        let elsewhere = needles.clone();
        assert_eq!(needles.is_empty(), first.is_empty());
        let mut redactor = Redactor::new(&needles);
        let mut shown = redactor
            .push(b"first-value second-value second-")
            .into_owned();
        assert!(elsewhere.add(&SecretString::new("second-value\n".into())));
        shown.extend_from_slice(&redactor.push(b"value second-"));
        shown.extend_from_slice(&redactor.push(b"value first-val"));
        shown.extend(redactor.finish());
        let shown = String::from_utf8(shown).unwrap();
        let masked = if first.is_empty() {
            "first-value"
        } else {
            "***"
        };
        // What was shown before it was added, or had begun to be, was no secret.
        let before = format!("{masked} second-value second-value ");
        assert_eq!(shown, format!("{before}*** first-val"));
        assert_eq!(needles.mask("second-value"), "***");
        assert!(!needles.is_empty());
    }
    let needles = needles(&[]);
    assert!(!needles.add(&SecretString::new("short".into())));
    assert!(needles.is_empty());
}

#[test]
fn a_value_is_found_wherever_it_would_be_masked() {
    let needles = needles(&["open-sesame"]);
    for text in [
        "open-sesame",
        "x open-sesame",
        "b3Blbi1zZXNhbWU=",
        "\0\x01open-sesame\0",
    ] {
        assert!(needles.are_in(text.as_bytes()), "{text}");
    }
    for text in ["", "open-sesam", "open sesame"] {
        assert!(!needles.are_in(text.as_bytes()), "{text}");
    }
    assert!(!Needles::default().are_in(b"open-sesame"));
}

#[test]
fn short_and_empty_values_are_named_and_not_masked() {
    let values = ["abc", "long-enough", "", " \n"].map(|v| SecretString::new(v.into()));
    let (needles, too_short) = Needles::new(&values);
    assert_eq!(too_short, [0, 2, 3]);
    assert_eq!(needles.mask("abc long-enough"), "abc ***");
    assert_eq!(Needles::new(&values[2..]).0.mask("abc \n"), "abc \n");
}

#[test]
fn a_mebibyte_is_masked_in_every_form() {
    let value = large(7);
    let needles = needles(&[&value, "open-sesame"]);
    assert!(value.len() > 1 << 20);
    let around = |form: &str| format!("<{form}>");
    for (form, left) in [
        (value.trim().to_owned(), "<***>"),
        (STANDARD.encode(value.trim()), "<***>"),
        (value[500_000..500_400].to_owned(), "***"),
    ] {
        let text = around(&form);
        let cuts: Vec<usize> = (0..text.len()).step_by(32_768).collect();
        let masked = in_pieces(&needles, text.as_bytes(), &cuts);
        let masked = String::from_utf8_lossy(&masked);
        assert!(masked.contains(left), "{masked}");
        assert!(masked.len() < 170, "{} bytes: {masked}", masked.len());
    }
}

#[test]
fn debug_shows_nothing() {
    let value = SecretString::new("open-sesame".into());
    let (needles, _) = Needles::new([&value]);
    assert_eq!(format!("{value:?} {needles:?}"), "[hidden] [hidden]");
    let mut redactor = Redactor::new(&needles);
    redactor.push(b"open-ses");
    let shown = format!("{redactor:?}");
    assert_eq!(shown, "[hidden]");
}

/// What is to come out, by looking for every needle at every place. Of values of letters all forms
/// but base64 are the same, and long ones are looked for in pieces.
fn model(text: &str, values: &[String]) -> String {
    let mut covered = vec![false; text.len()];
    for value in values {
        let mut rest = value.as_str();
        let mut pieces = Vec::new();
        while rest.len() > 95 {
            pieces.push(&rest[..76]);
            rest = &rest[76..];
        }
        pieces.push(rest);
        for piece in pieces {
            for at in 0..text.len() {
                if text[at..].starts_with(piece) {
                    covered[at..at + piece.len()].fill(true);
                }
            }
        }
    }
    let mut shown = String::new();
    for (at, c) in text.char_indices() {
        match covered[at] {
            true if at > 0 && covered[at - 1] => {}
            true => shown.push_str("***"),
            false => shown.push(c),
        }
    }
    shown
}

fn every_split(text: &str, values: &[String], cuts: &[usize]) -> Result<(), TestCaseError> {
    let values_ref: Vec<&str> = values.iter().map(String::as_str).collect();
    let needles = needles(&values_ref);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.sort_unstable();
    let split = String::from_utf8(in_pieces(&needles, text.as_bytes(), &cuts)).expect("ASCII");
    prop_assert_eq!(&split, &model(text, values));
    for value in values {
        prop_assert!(!split.contains(value), "{} in {}", value, split);
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_split_gives_the_same_and_no_needle(
        text in "[ab]{0,60}",
        values in prop::collection::vec("[ab]{6,9}", 1..4),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        every_split(&text, &values, &cuts)?;
    }

    #[test]
    fn every_split_of_long_values_gives_the_same(
        before in "[ab]{0,9}",
        values in prop::collection::vec("(a{40,120}|[ab]{60,250})", 1..4),
        between in prop::collection::vec("[ab]{0,9}", 4),
        cuts in prop::collection::vec(any::<usize>(), 0..9),
    ) {
        let mut text = before;
        for (value, between) in values.iter().zip(&between) {
            text.push_str(value);
            text.push_str(between);
        }
        every_split(&text, &values, &cuts)?;
    }

    #[test]
    fn every_byte_may_stand_at_a_border(
        value in "[\\PC\\n]{6,200}",
        cuts in prop::collection::vec(any::<usize>(), 0..9),
    ) {
        prop_assume!(value.trim().len() >= 6);
        let needles = needles(&[&value]);
        let text = format!("é{value}{value}\n{}", STANDARD.encode(&value));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = in_pieces(&needles, text.as_bytes(), &[]);
        let split = in_pieces(&needles, text.as_bytes(), &cuts);
        prop_assert_eq!(&whole, &split);
        let bytes: Vec<usize> = (0..text.len()).collect();
        prop_assert_eq!(&whole, &in_pieces(&needles, text.as_bytes(), &bytes));
        let shown = String::from_utf8_lossy(&whole).into_owned();
        prop_assert!(!shown.contains(value.trim()), "{} in {}", value, shown);
    }
}
