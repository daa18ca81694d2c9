//! The summary as Markdown: what it says, and that nothing of an agent's can say more than words.

use std::net::Ipv4Addr;
use std::time::Duration;

use agent_run::event::{
    ArtifactsReport, BranchReport, BranchResult, PublishedPort, RunSummary, StopReason,
    TaskOutcome, TaskReport,
};
use agent_run::report::markdown;
use insta::assert_snapshot;
use pulldown_cmark::{Event, Options, Parser, Tag};

use crate::ended::{hints, run, usage};

fn task(id: &str, outcome: TaskOutcome, result: BranchResult) -> TaskReport {
    TaskReport {
        attempt: 1,
        branch: Some(BranchReport::bare(result)),
        ran: Duration::from_millis(61_300),
        usage: Some(usage()),
        log: Some(format!("/state/logs/{id}.1.log").into()),
        ..TaskReport::bare(id.parse().unwrap(), outcome)
    }
}

fn show(run: &RunSummary) -> String {
    markdown(run, &hints(run))
}

fn created(id: &str) -> BranchResult {
    BranchResult::Created {
        branch: format!("agent/261120-101500-abcd/{id}").parse().unwrap(),
        commit: "a".repeat(40).parse().unwrap(),
    }
}

#[test]
fn every_ending() {
    let mut good = task("good", TaskOutcome::Succeeded, created("good"));
    let report = good.branch.as_mut().unwrap();
    (report.commits, report.files, report.insertions) = (2, 3, 40);
    report.risky_paths = vec![(".github/workflows/ci.yml".into(), "runs in CI".into())];
    good.artifacts = Some(ArtifactsReport {
        directory: "/state/runs/261120-101500-abcd/artifacts/good/1".into(),
        files: 2,
        bytes: 1536,
        skipped: 1,
        skipped_paths: vec![("a_link".into(), "is a symbolic link".into())],
        ..ArtifactsReport::default()
    });
    let failed = TaskOutcome::Failed { exit_code: 3 };
    let mut failed = task("failed", failed, created("failed"));
    failed.last_lines = vec!["\u{1b}[31mred\u{1b}[0m".into(), "```".into()];
    let killed = TaskOutcome::Killed { signal: 9 };
    let mut nested = task("nested", TaskOutcome::Succeeded, BranchResult::NoChange);
    nested.branch.as_mut().unwrap().content_left_behind = true;
    nested.child_oom_killed = true;
    let rejected = BranchResult::Rejected {
        check: "size".into(),
        detail: "too large".into(),
        path: "/state/tasks/r".into(),
    };
    let infra = TaskOutcome::Infra {
        stage: "image".into(),
        message: "no such image\nat all".into(),
    };
    let mut image = task("image", infra, BranchResult::NoChange);
    (image.branch, image.usage, image.log) = (None, None, None);
    let full = TaskOutcome::OutOfDisk {
        used_bytes: 11 << 30,
    };
    let mut run = run(vec![
        good,
        failed,
        task("big", TaskOutcome::OutOfMemory, BranchResult::NoChange),
        task("full", full, BranchResult::NoChange),
        task("killed", killed, BranchResult::NoChange),
        nested,
        task("rejected", TaskOutcome::Succeeded, rejected),
        image,
    ]);
    run.stopped = Some(StopReason::Interrupted);
    run.teardown_errors = vec!["network n".into()];
    assert_snapshot!(show(&run));
}

#[test]
fn ports_and_previews() {
    let mut web = task("web[n=1]", TaskOutcome::Succeeded, created("web"));
    web.ports = vec![PublishedPort {
        port: 3000,
        address: Ipv4Addr::UNSPECIFIED,
        host_port: 49153,
    }];
    let same = task("same", TaskOutcome::Succeeded, BranchResult::NoChange);
    let run = run(vec![web, same]);
    let mut hints = hints(&run);
    assert!(!markdown(&run, &hints).contains("A look at"));
    hints.previews = run.tasks.iter().map(|task| task.task.clone()).collect();
    let text = markdown(&run, &hints);
    let words: String = Parser::new(&text)
        .filter_map(|event| match event {
            Event::Text(text) => Some(text.into_string()),
            _ => None,
        })
        .collect();
    for told in [
        "Ports, while they ran: web[n=1] 3000 at http://127.0.0.1:49153.",
        "A look at results: agent-run preview 'web[n=1]' --run 261120-101500-abcd.",
    ] {
        assert!(words.contains(told), "{words}");
    }
}

/// Signs of Markdown, of HTML, of tables, of GitHub; escapes; line ends of every kind.
const HOSTILE: &str = "</code></pre>|**b** `c` ```` [l](https://evil.example) ![i](x) <img src=x> \
    <script> @octocat #1 www.evil.example https://evil.example &amp; \\| ~~s~~ \u{1b}[2J\u{202e}\u{2028}\r end";

/// A run in which everything that can be an agent's words is hostile.
fn hostile() -> RunSummary {
    let rejected = BranchResult::Rejected {
        check: "name".into(),
        detail: HOSTILE.into(),
        path: HOSTILE.into(),
    };
    let infra = TaskOutcome::Infra {
        stage: "image".into(),
        message: format!("{HOSTILE}\n# heading\n\n- item\n| a | b |\n```\n{HOSTILE}"),
    };
    let mut bad = task("bad", infra, rejected);
    bad.last_lines = vec![HOSTILE.into(), "````` \n# heading".into(), "> quote".into()];
    bad.teardown_errors = vec![HOSTILE.into()];
    bad.artifacts = Some(ArtifactsReport {
        skipped: 1,
        skipped_paths: vec![(HOSTILE.into(), HOSTILE.into())],
        ..ArtifactsReport::default()
    });
    let branch = bad.branch.as_mut().unwrap();
    branch.risky_paths = vec![(HOSTILE.into(), HOSTILE.into())];
    branch.side_refs = vec![(HOSTILE.into(), HOSTILE.into())];
    branch.notes = vec![HOSTILE.into(), String::new()];
    run(vec![
        bad,
        task("fine", TaskOutcome::Succeeded, created("fine")),
    ])
}

#[test]
fn what_an_agent_wrote_is_words_and_nothing_else() {
    let text = show(&hostile());
    assert!(
        !text.contains(['\u{1b}', '\u{202e}', '\u{2028}', '\r']),
        "{text}"
    );
    let (mut headings, mut rows, mut blocks) = (0, 0, 0);
    let mut words = String::new();
    for event in Parser::new_ext(&text, Options::all()) {
        match event {
            Event::InlineHtml(html) => assert!(["<code>", "</code>"].contains(&&*html), "{html}"),
            Event::Text(text) => words.push_str(&text),
            Event::Start(Tag::Heading { .. }) => headings += 1,
            Event::Start(Tag::TableRow) => rows += 1,
            Event::Start(Tag::CodeBlock(_)) => blocks += 1,
            Event::Start(
                Tag::Paragraph
                | Tag::Table(_)
                | Tag::TableHead
                | Tag::TableCell
                | Tag::List(_)
                | Tag::Item
                | Tag::Strong,
            )
            | Event::End(_)
            | Event::SoftBreak => {}
            other => panic!("{other:?} in {text}"),
        }
    }
    assert_eq!((headings, rows, blocks), (4, 2, 1), "{text}");
    let shown = "</code></pre>|**b** `c` ```` [l](https://evil.example) ![i](x) <img src=x> <script> @octocat #1";
    // The cause, the work (twice: its words and its place), the block, the artifact, and what is to
    // be looked at.
    assert_eq!(
        words.matches(shown).count(),
        2 + 2 + 1 + 2 + 2 + 2 + 1 + 1,
        "{text}"
    );
}

#[test]
fn many_failures_are_cut_and_counted() {
    let failed = |n: usize| {
        let outcome = TaskOutcome::Failed { exit_code: 1 };
        let mut task = task(&format!("t{n}"), outcome, BranchResult::NoChange);
        task.last_lines = vec!["x".repeat(400); 20];
        task
    };
    let text = show(&run((0..200).map(failed).collect()));
    assert!(text.len() < 600 * 1024, "{}", text.len());
    let told = text.matches("\n### FAIL").count();
    let rest = format!(
        "The failures of {} more tasks are in the table only.",
        200 - told
    );
    assert!(text.contains(&rest), "{told}");
    assert_eq!(text.matches("| **FAIL** |").count(), 200);
}
