//! `${…}`: the forms, and what it can never do.

use proptest::prelude::*;

use super::{good, with_task};

fn interpolated(text: &str) -> String {
    let quoted = serde_json::to_string(text).expect("JSON");
    let spec = good(&with_task(&format!("env: {{ X: {quoted} }}")));
    spec.tasks[0].environment["X"].expose().to_owned()
}

#[test]
fn forms() {
    let cases = [
        ("${SET}", "value"),
        ("a${SET}b${SET}", "avaluebvalue"),
        ("${EMPTY}", ""),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY-default}", ""),
        ("${UNSET:-default}", "default"),
        ("${UNSET-}", ""),
        ("${UNSET:-a:-b $x}", "a:-b $x"),
        ("${SET:?why}", "value"),
        ("${SET?why}", "value"),
        ("${EMPTY?why}", ""),
        ("${SET:+alt}", "alt"),
        ("${EMPTY:+alt}", ""),
        ("${EMPTY+alt}", "alt"),
        ("${UNSET+alt}", ""),
        ("$$", "$"),
        ("$${SET}", "${SET}"),
        ("$$$${SET}", "$${SET}"),
        ("$$${SET}", "$value"),
        ("$SET $1 $(x) 5$", "$SET $1 $(x) 5$"),
        ("${task.id}/${run.id}", "t/251120-131500-abcd"),
    ];
    for (text, expected) in cases {
        assert_eq!(interpolated(text), expected, "{text}");
    }
}

#[test]
fn values_never_change_the_structure() {
    let spec = good(&with_task(
        "env: { X: \"${TRICKY}\", Y: 1 }\nuser: ${UNSET:-7}",
    ));
    let task = &spec.tasks[0];
    assert_eq!(task.environment["X"].expose(), "a: [b\n- c");
    assert_eq!(task.environment.len(), 2);
    assert_eq!(task.user.as_deref(), Some("7"));
}

#[test]
fn dollars_of_a_default() {
    assert_eq!(interpolated("${UNSET:-a$$b}$$${SET:+$x}"), "a$b$$x");
}

proptest! {
    #[test]
    fn escaped_text_round_trips(text in "[a-z${}:?+. -]{0,30}") {
        prop_assert_eq!(interpolated(&text.replace('$', "$$")), text);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}|[${}A-Z:?+.-]{0,20}") {
        let quoted = serde_json::to_string(&text).unwrap();
        let _ = super::read(&with_task(&format!("env: {{ X: {quoted} }}")));
    }
}
