//! Errors of `artifacts`.

use super::super::{bad_task, good, with_task};
use agent_run::id::PathPattern;
use agent_run::spec::{Artifacts, When};

fn artifacts(line: &str) -> Option<Artifacts> {
    good(&with_task(line)).tasks.remove(0).artifacts
}

#[test]
fn all_forms_mean_the_same() {
    let expected = artifacts("artifacts: { paths: [reports], when: always }");
    let known = expected.clone().expect("artifacts");
    assert_eq!(
        known
            .paths
            .iter()
            .map(PathPattern::as_str)
            .collect::<Vec<_>>(),
        ["reports"]
    );
    assert_eq!(known.when, When::Always);
    for line in [
        "artifacts: reports",
        "artifacts: [reports]",
        "artifacts: { paths: reports }",
    ] {
        assert_eq!(artifacts(line), expected, "{line}");
    }
    assert_eq!(artifacts("artifacts: []"), None);
    let failure = artifacts("artifacts: { paths: [a, b], when: failure }").expect("artifacts");
    assert_eq!((failure.paths.len(), failure.when), (2, When::Failure));
}

#[test]
fn patterns_stay_below_the_worktree() {
    for (pattern, told) in [
        ("/etc/passwd", "is not relative to /workspace"),
        ("../x", "has `..` in it"),
        ("a/../../b", "has `..` in it"),
        ("'a[b'", "has an open `[`"),
        ("'{a/b,c}'", "`{…}` may hold no `/`"),
        ("''", "is empty"),
        ("\"a\\nb\"", "holds control characters"),
        (&"a".repeat(1001), "is longer than 1000 bytes"),
    ] {
        let message = bad_task(&format!("artifacts: [ok, {pattern}]"));
        assert!(message.contains(told), "{pattern}: {message}");
        assert!(message.contains("write a pattern such as"), "{message}");
        assert!(message.contains("agent-run.yaml:4:21"), "{message}");
    }
}

#[test]
fn words_and_missing_paths() {
    let message = bad_task("artifacts: { paths: [a], when: on_success }");
    let told = "`when: on_success` is not known";
    assert!(message.contains(told), "{message}");
    assert!(message.contains("always, success, failure"), "{message}");
    let message = bad_task("artifacts: { when: always }");
    assert!(message.contains("`artifacts` has no `paths`"), "{message}");
    let message = bad_task("artifacts: { path: a }");
    assert!(message.contains("did you mean `paths`?"), "{message}");
}
