//! Specs that want too much: the answer comes at once.

use std::fmt::Write as _;
use std::fs::File;
use std::time::Duration;

use agent_run::spec::{Diagnostics, SourceFile, SpecError};
use insta::assert_snapshot;
use proptest::prelude::*;

use super::{bad, read};

/// Also in debug builds.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The time that this thread has worked: other load on the machine does not count.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.try_into().expect("not negative")
}

fn at_once<T>(work: impl FnOnce() -> T) -> T {
    let limit = worked() + AT_ONCE;
    let result = work();
    assert!(worked() < limit, "took longer than {AT_ONCE:?}");
    result
}

fn refused_at_once(text: &str) -> Diagnostics {
    at_once(|| {
        let problems = read(text).expect_err("accepted");
        assert!(problems.render(true).len() < 1 << 20);
        problems
    })
}

#[test]
fn an_alias_bomb() {
    let mut text = "version: 1\nx-a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let items = vec![format!("*a{}", i - 1); 9].join(", ");
        let _ = writeln!(text, "x-a{i}: &a{i} [{items}]");
    }
    assert_snapshot!(refused_at_once(&text), @r#"
    error: the spec has more than 10000 values, aliases expanded
     --> agent-run.yaml:6:12
      |
    6 | x-a4: &a4 [*a3, *a3, *a3, *a3, *a3, *a3, *a3, *a3, *a3]
      |            ^^^ aliases that repeat aliases multiply

    agent-run: 1 error in agent-run.yaml
    "#);
}

#[test]
fn an_alias_of_itself() {
    assert_snapshot!(bad("version: 1\nx-a: &a [*a]\n"), @r#"
    error: an alias inside of what it stands for
     --> agent-run.yaml:2:10
      |
    2 | x-a: &a [*a]
      |          ^^

    agent-run: 1 error in agent-run.yaml
    "#);
}

#[test]
fn a_flood_of_empty_lists() {
    let text = format!("version: 1\nx-a: [{}]\n", "[],".repeat(300_000));
    let problems = refused_at_once(&text);
    assert!(problems.list()[0].title.contains("more than 10000 values"));
}

#[test]
fn deep_nesting() {
    for text in [
        "[".repeat(500_000),
        "- ".repeat(500_000),
        "{a: ".repeat(200_000),
    ] {
        refused_at_once(&text);
    }
    let text = format!("version: 1\nx-a: {}{}\n", "[".repeat(70), "]".repeat(70));
    assert_snapshot!(refused_at_once(&text).list()[0].title, @r#"nested deeper than 64 levels"#);
}

#[test]
fn nesting_by_aliases() {
    let mut text = "version: 1\nx-0: &a0 [x]\n".to_owned();
    for i in 1..5000 {
        let _ = writeln!(text, "x-{i}: &a{i} [*a{}]", i - 1);
    }
    let problems = refused_at_once(&text);
    assert!(problems.list()[0].title.contains("deeper"));
}

#[test]
fn thousands_of_problems() {
    let mut text = "version: 1\ntasks:\n  t:\n    run: x\n".to_owned();
    for i in 0..4000 {
        let _ = writeln!(text, "    wrong-{i}: 1");
    }
    let message = refused_at_once(&text).to_string();
    assert!(message.ends_with("agent-run: 4000 errors in agent-run.yaml, the first 50 are shown"));
}

#[test]
fn thousands_of_problems_on_one_line() {
    let mut text = "{version: 1, tasks: {t: {run: x".to_owned();
    for i in 0..4000 {
        let _ = write!(text, ", wrong-{i}-{}: 1", "x".repeat(200));
    }
    text.push_str("}}}");
    refused_at_once(&text);
}

/// Small patterns, legal or not, a quarter of the cap of each.
#[test]
fn floods() {
    let patterns = [
        "a: ",
        "? ",
        "- ",
        "[",
        "[]\n",
        "{}",
        "{a: ",
        "\"",
        "''",
        "\"\\x41",
        "|\n",
        ">\n ",
        "&a ",
        "*a ",
        "! ",
        "!!str ",
        "%Y\n",
        "%TAG ! x\n",
        "---\n",
        "...\n",
        "#\n",
        "\t",
        " ",
        "\n",
        "\r\n",
        "a\n",
        "a: b\n",
        "a: |\n  x\n",
        "<<: *a\n",
        ",",
        "\u{2028}",
        "\u{1F600}",
        "\0",
        "x",
        "${",
        "${A:-",
        "a: &a\n",
        "- &a [",
    ];
    let starts = ["", "version: 1\nx-a: ", "version: 1\nx-a: \"", "x: |\n  "];
    for pattern in patterns {
        let flood = pattern.repeat((1 << 18) / pattern.len());
        for start in starts {
            at_once(|| {
                if let Err(problems) = read(&format!("{start}{flood}")) {
                    problems.render(true);
                }
            });
        }
    }
}

proptest! {
    /// Whatever is cut out of a spec or put into it: an answer, and never a panic.
    #[test]
    fn damaged_specs(at in 0_usize..2000, gone in 0_usize..40, new in "\\PC{0,3}|[\n\t \"'{}:&*|-]{0,4}") {
        let text: Vec<char> = include_str!("everything.yaml").chars().collect();
        let at = at.min(text.len());
        let rest = (at + gone).min(text.len());
        let damaged: String = text[..at].iter().copied().chain(new.chars()).chain(text[rest..].iter().copied()).collect();
        if let Err(problems) = read(&damaged) {
            let message = problems.to_string();
            prop_assert!(message.contains("agent-run.yaml:"), "{}", message);
        }
    }
}

#[test]
fn fifty_megabytes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spec.yaml");
    File::create(&path).unwrap().set_len(50 << 20).unwrap();
    let refused = at_once(|| SourceFile::read(&path).unwrap_err());
    assert!(matches!(refused, SpecError::TooLarge { .. }), "{refused}");
    let refused = SourceFile::from_reader("-", std::io::repeat(b'x')).unwrap_err();
    assert_eq!(refused.to_string(), "- is larger than 1 MiB");
}

/// Opening the FIFO as other files are opened would wait for ever.
#[test]
fn files_that_are_no_files() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo.yaml");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    for path in [
        fifo.as_path(),
        directory.path(),
        std::path::Path::new("/dev/zero"),
    ] {
        let refused = SourceFile::read(path).unwrap_err();
        assert!(matches!(refused, SpecError::NotAFile { .. }), "{refused}");
    }
    let absent = SourceFile::read(&directory.path().join("absent")).unwrap_err();
    assert!(matches!(absent, SpecError::Unreadable { .. }), "{absent}");
}

#[test]
fn bytes_that_are_no_text() {
    let refused = SourceFile::from_reader("spec.yaml", &b"version: \xff"[..]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "spec.yaml is not UTF-8 text: byte 9 does not fit"
    );
}
