//! What of an agent's text reaches a terminal.

use agent_run::sanitize::{line, long_line};
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

#[test]
fn every_sequence_of_a_terminal_is_dropped() {
    // What xterm's ctlseqs.txt knows, by kind; and what tmux, screen, iTerm2 and kitty add.
    let of_two = (0x30..=0x7e_u8).filter(|c| !b"[]PX^_".contains(c));
    let of_two = of_two.map(|c| format!("\x1b{}", char::from(c)));
    let of_three = (0x20..=0x2f_u8).map(|c| format!("\x1b{}0", char::from(c)));
    let control = (0x40..=0x7e_u8)
        .filter(|c| *c != b'm')
        .flat_map(|c| {
            ["", "1", "1;2", "?25", ">1", "=5", "<0;1;2", "!", "1 ", "3$"].map(|p| (p, c))
        })
        .flat_map(|(p, c)| ["\x1b[", "\u{9b}"].map(|start| format!("{start}{p}{}", char::from(c))));
    let strings = [
        "]0;title",
        "]8;;http://x",
        "]52;c;ZXZpbA==",
        "]1337;File=:eA==",
        "]777;notify;a;b",
        "Ptmux;\x1b\x1b]52;c;eA==\x07",
        "P+q544e",
        "P$qm",
        "_Ga=T;eA==",
        "^private",
        "kscreen title",
        "Xsos",
    ];
    let strings = strings
        .into_iter()
        .filter(|s| !s.starts_with('k'))
        .flat_map(|string| ["\x07", "\x1b\\", "\u{9c}"].map(|end| format!("\x1b{string}{end}")));
    for sequence in of_two.chain(of_three).chain(control).chain(strings) {
        let shown = line(format!("a{sequence}b").as_bytes(), true);
        // A string in a string ends with the inner one, and what is left of it is plain text.
        assert!(
            !shown.contains(|c: char| c.is_control()),
            "{sequence:?} {shown:?}"
        );
        assert!(
            shown == "ab" || sequence.contains("tmux"),
            "{sequence:?} {shown:?}"
        );
    }
}

#[test]
fn colours_do_not_reach_the_next_line_and_do_not_pile_up() {
    assert_eq!(line(b"\x1b[31mred\x1b[0m", true), "\x1b[31mred\x1b[0m");
    let many = "\x1b[31m".repeat(100_000);
    let shown = line(many.as_bytes(), true);
    assert!(shown.len() < 17 * 4096, "{}", shown.len());
    let shown = line(format!("{}x", "\x1b[31m".repeat(8000)).as_bytes(), true);
    assert!(shown.ends_with("…\x1b[0m"), "{}", shown.len());
}

#[test]
fn a_line_of_a_log_may_be_longer() {
    let text = "é".repeat(50_000);
    assert_eq!(long_line(text.as_bytes(), false), text);
    let cut = long_line(&vec![b'x'; 1 << 20], true);
    assert_eq!(cut.len(), 256 * 1024 + '…'.len_utf8());
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        "\\PC{0,10}".prop_map(String::into_bytes),
        "(\x1b|\u{9b}|\u{9d}|\x1b\\[|\x1b\\]|\x1bP)[0-9;:?m\x07\\\\ a-z]{0,6}"
            .prop_map(String::into_bytes),
        "[\u{80}-\u{9f}\u{200b}-\u{2070}\u{e0000}-\u{e01ff}\r\n\t]{0,4}"
            .prop_map(String::into_bytes),
        Just(vec![b'x'; 2000]),
        Just("\x1b[1m".repeat(500).into_bytes()),
    ];
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

/// What is left without colours that are whole.
fn without_colors(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        let (parameters, after) = after.split_once('m').expect("a whole colour");
        assert!(
            parameters
                .chars()
                .all(|c| c.is_ascii_digit() || ";:".contains(c)),
            "{text:?}"
        );
        rest = after;
    }
    plain + rest
}

proptest! {
    #[test]
    fn nothing_dangerous_comes_out(bytes in hostile()) {
        for color in [false, true] {
            let shown = line(&bytes, color);
            let plain = if color { without_colors(&shown) } else { shown.clone() };
            prop_assert!(plain.chars().all(|c| c == '\t' || !c.is_control()), "{:?}", shown);
            prop_assert!(plain.len() <= 4096 + 8, "{}", plain.len());
            prop_assert_eq!(line(shown.as_bytes(), color), shown);
        }
    }

    #[test]
    fn plain_text_is_as_it_was(text in "[ -~\té-ž一-丐]{0,200}") {
        prop_assert_eq!(line(text.as_bytes(), true), text);
    }
}
