//! Masking: whatever the stream is cut into, the same comes out, and no secret is in it.

use agent_run::secrets::{Needles, Redactor, SecretString};
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
        shown.extend(redactor.push(&text[from..cut]));
        from = cut;
    }
    shown.extend(redactor.push(&text[from..]));
    shown.extend(redactor.finish());
    shown
}

#[test]
fn a_value_is_masked_as_it_is_and_without_its_line_end() {
    let needles = needles(&["open-sesame\n"]);
    assert_eq!(needles.mask("say open-sesame now"), "say *** now");
}

#[test]
fn overlapping_values_leave_no_rest() {
    let needles = needles(&["abcdef", "defghi"]);
    assert_eq!(needles.mask("xabcdefghix"), "x***x");
}

#[test]
fn a_secret_inside_a_longer_one_does_not_save_the_rest_of_it() {
    let needles = needles(&["secret", "my-secret-token"]);
    assert_eq!(needles.mask("my-secret-token secret"), "*** ***");
}

#[test]
fn a_failed_start_does_not_hide_the_real_one() {
    let needles = needles(&["sk-sk-live-123"]);
    assert_eq!(in_pieces(&needles, b"sk-sk-sk-live-123", &[6]), b"sk-***");
}

#[test]
fn short_values_are_named_and_not_masked() {
    let values = ["abc", "long-enough"].map(|v| SecretString::new(v.into()));
    let (needles, too_short) = Needles::new(&values);
    assert_eq!(too_short, [0]);
    assert_eq!(needles.mask("abc long-enough"), "abc ***");
}

#[test]
fn debug_shows_nothing() {
    let value = SecretString::new("open-sesame".into());
    let (needles, _) = Needles::new([&value]);
    assert_eq!(format!("{value:?} {needles:?}"), "[hidden] [hidden]");
}

proptest! {
    #[test]
    fn every_split_gives_the_same_and_no_needle(
        text in "[ab]{0,60}",
        values in prop::collection::vec("[ab]{6,9}", 1..4),
        cuts in prop::collection::vec(0_usize..60, 0..6),
    ) {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let needles = needles(&values);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.sort_unstable();
        let whole = in_pieces(&needles, text.as_bytes(), &[]);
        let split = in_pieces(&needles, text.as_bytes(), &cuts);
        prop_assert_eq!(&whole, &split);
        let shown = String::from_utf8(split).expect("ASCII");
        for value in values {
            prop_assert!(!shown.contains(value), "{} in {}", value, shown);
        }
    }
}
