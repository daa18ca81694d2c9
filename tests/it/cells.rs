//! Names of a matrix' cells: valid wherever they are used, and no two the same.

use std::collections::HashMap;

use agent_run::id::{AttemptId, BranchName, CellValue, Role, RunId, StateDir, TaskId};
use proptest::prelude::*;

fn task(text: &str) -> TaskId {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn attempt(task: &TaskId) -> AttemptId {
    AttemptId {
        run: "261120-101500-abcd".parse().unwrap(),
        task: task.clone(),
        number: 1,
    }
}

/// What is made of an id and must be its own.
fn names(id: &TaskId) -> [String; 8] {
    let run: RunId = "261120-101500-abcd".parse().unwrap();
    let attempt = attempt(id);
    let state = StateDir::new("/state".into());
    [
        id.slug().into_owned(),
        attempt.container_name(Role::Task),
        attempt.container_name(Role::Collector),
        attempt.kept_ref(0),
        BranchName::default_for(&run, id).to_string(),
        state.log(&attempt).display().to_string(),
        state.attempt(&attempt).display().to_string(),
        attempt.result_ref(),
    ]
}

#[test]
fn readable_where_that_is_safe() {
    let id = task("review[model=small,os=linux]");
    assert_eq!(id.slug(), "review+model=small+os=linux");
    assert_eq!(id.task(), "review");
    let values: Vec<_> = id.values().collect();
    assert_eq!(values, [("model", "small"), ("os", "linux")]);
    let [_, container, ..] = names(&task("review[model=small]"));
    assert_eq!(
        container,
        "agent-run-261120-101500-abcd-1-review-model-small-93c43755"
    );
    assert_eq!(attempt(&id).host_name(), "review-model-small-os-linux");
    let plain = task("review");
    assert_eq!(
        (plain.slug(), plain.word()),
        ("review".into(), "review".into())
    );
    assert_eq!((plain.is_cell(), plain.values().count()), (false, 0));
}

#[test]
fn what_is_no_id() {
    let long = format!("t[a={}]", "v".repeat(200));
    for text in [
        "t[",
        "t[]",
        "t[a]",
        "t[a=b",
        "t[a=b]x",
        "t[a=b],",
        "t[A=b]",
        "t[=b]",
        "t[a=b,]",
        "t[a=[b]",
        "[a=b]",
        "t[a=b c]",
        "t[a=*]",
        "t[a=b]\n",
        "T[a=b]",
        "t[a=\u{e9}]",
        "t[1=b]",
        &long,
    ] {
        assert!(text.parse::<TaskId>().is_err(), "{text}");
    }
    for text in ["t[a=]", "t[a==]", "t[a=A/b:c@d+e~f._-]"] {
        assert_eq!(text.parse::<TaskId>().is_ok(), text != "t[a==]", "{text}");
    }
}

#[test]
fn names_that_look_alike_are_told_apart() {
    let ids = [
        "t",
        "t[a=b]",
        "t[a=B]",
        "t[a=b/c]",
        "t[a=b-c]",
        "t[a=b:c]",
        "t[a=b.c]",
        "t[a=b..c]",
        "t[a=b.lock]",
        "t[a=b]",
        "t-a-b",
        "t[a=b,b=c]",
        "t[a=b+b=c]",
        "t[a=]",
        "t[a=-]",
    ];
    let mut seen: HashMap<String, &str> = HashMap::new();
    for id in ids {
        let Ok(parsed) = id.parse::<TaskId>() else {
            continue;
        };
        for name in names(&parsed) {
            // A file system may not tell capitals apart.
            let owner = *seen.entry(name.to_lowercase()).or_insert(id);
            assert_eq!(owner, id, "{name}");
        }
    }
}

#[test]
fn values_have_their_types() {
    let value = |text: &str, plain| CellValue::new(text.into(), plain);
    assert_eq!(value("true", true), CellValue::Claim(true));
    assert_eq!(value("true", false), CellValue::Text("true".into()));
    assert_eq!(value("7", true), CellValue::Number(7.into()));
    for text in ["1.10", "0x10", "1e3", "+1", "007", "yes", ""] {
        assert_eq!(value(text, true), CellValue::Text(text.into()));
        assert_eq!(value(text, true).to_string(), text);
    }
}

proptest! {
    #[test]
    fn all_names_are_valid_and_those_of_two_cells_differ(
        a in "\\PC{0,60}",
        b in "\\PC{0,60}",
        name in "[a-z0-9][a-z0-9_-]{0,40}",
    ) {
        let plain = TaskId::plain(&name).unwrap();
        let cell = |value: &str| plain.cell([("axis", value.to_owned())]).unwrap();
        let (a, b) = (cell(&a), cell(&b));
        for id in [&a, &b] {
            prop_assert_eq!(id.as_str().parse::<TaskId>().unwrap(), id.clone());
            let [slug, container, collector, kept, branch, log, _, result] = names(id);
            prop_assert!(branch.parse::<BranchName>().is_ok(), "{}", branch);
            for name in [kept, result] {
                let short = &name["refs/".len()..];
                prop_assert!(short.parse::<BranchName>().is_ok(), "{}", name);
            }
            let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            for name in [container, collector] {
                prop_assert!(name.len() <= 63 && name.chars().all(is_name), "{}", name);
            }
            let host = attempt(id).host_name();
            let is_label = |c: char| c.is_ascii_alphanumeric() || c == '-';
            prop_assert!(host.len() <= 63 && host.chars().all(is_label), "{}", host);
            prop_assert!(slug.len() <= 80 && !slug.contains('/'), "{}", slug);
            prop_assert!(log.ends_with(&format!("/logs/{slug}.1.log")), "{}", log);
        }
        if a != b {
            for (of_a, of_b) in names(&a).into_iter().zip(names(&b)) {
                prop_assert_ne!(of_a.to_lowercase(), of_b.to_lowercase());
            }
        }
    }
}
