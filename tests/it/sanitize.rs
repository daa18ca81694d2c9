//! What of an agent's text reaches a terminal.

use agent_run::sanitize::line;
use proptest::prelude::*;

#[test]
fn escape_sequences_are_dropped() {
    for hostile in [
        "a\x1b[2Jb",
        "a\x1b]0;title\x07b",
        "a\x1b]8;;http://x\x1b\\b",
        "a\x1bPq#0\x1b\\b",
        "a\x1b_x\x1b\\b",
        "a\x1b^x\u{9c}b",
        "a\x1bXx\x07b",
        "a\u{9b}2Jb",
        "a\u{9d}0;t\x07b",
        "a\x1b(0b",
        "a\x1bcb",
        "a\x1b[31mb",
    ] {
        assert_eq!(line(hostile.as_bytes(), false), "ab", "{hostile:?}");
    }
    assert_eq!(line(b"a\x1b]0;never ended", false), "a");
}

#[test]
fn colours_are_kept_on_request_and_ended() {
    assert_eq!(line(b"\x1b[1;31mred", true), "\x1b[1;31mred\x1b[0m");
    assert_eq!(line(b"\x1b[>4;2mx\x1b[2Ky", true), "xy");
}

#[test]
fn what_cannot_be_shown_is_visible() {
    let fffd = "\u{fffd}";
    for hostile in [
        "\r", "\n", "\x08", "\u{7f}", "\u{85}", "\u{202e}", "\u{2066}", "\u{2028}", "\u{200b}",
    ] {
        assert_eq!(line(hostile.as_bytes(), true), fffd, "{hostile:?}");
    }
    assert_eq!(line(b"a\xff\xfeb", false), format!("a{fffd}{fffd}b"));
    assert_eq!(line("tab\tü".as_bytes(), false), "tab\tü");
    // A broken sequence does not swallow what follows it.
    assert_eq!(line(b"\x1b[3\nm", false), format!("{fffd}m"));
}

#[test]
fn long_lines_are_cut() {
    let cut = line(&vec![b'x'; 100_000], false);
    assert!(cut.ends_with('…') && cut.len() < 4200, "{}", cut.len());
    assert_eq!(line(&[b'x'; 4096], false).len(), 4096);
}

proptest! {
    #[test]
    fn nothing_dangerous_comes_out(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let plain = line(&bytes, false);
        prop_assert!(plain.chars().all(|c| c == '\t' || !c.is_control()));
        let colored = line(&bytes, true);
        let fine = |c: char| c == '\t' || c == '\u{1b}' || !c.is_control();
        prop_assert!(colored.chars().all(fine));
    }
}
