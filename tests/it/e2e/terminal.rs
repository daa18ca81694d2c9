//! A run on a terminal: what stays in place while it runs is gone at its end.

use super::scene::{Ended, Scene};

/// The screen that this output leaves, with all that scrolled off it: as tall as it takes.
fn screen(output: &str) -> Vec<String> {
    let mut terminal = vt100::Parser::new(2000, 80, 0);
    terminal.process(output.as_bytes());
    terminal.screen().rows(0, 80).collect()
}

#[test]
fn running_tasks_leave_no_lines_behind() {
    let scene = Scene::new();
    let tasks: String = (0..16)
        .map(|n| {
            format!("  t{n}: {{ run: \"echo one; printf 'a\\\\tb 漢字 %0300d\\\\n' {n}\" }}\n")
        })
        .collect();
    let yaml =
        format!("version: 1\nmax_parallel: 16\ndefaults: {{ mem_limit: 64m }}\ntasks:\n{tasks}");
    let spec = scene.spec(&yaml);
    let command = format!(
        "stty rows 24 cols 80; {} run --color never {}",
        env!("CARGO_BIN_EXE_agent-run"),
        spec.display()
    );
    let ended: Ended = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(scene.path())
        .env("AGENT_RUN_STATE_DIR", scene.state())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("TERM", "xterm")
        .env_remove("CI")
        .env_remove("GITHUB_ACTIONS")
        .env_remove("GITLAB_CI")
        .output()
        .expect("script")
        .into();
    assert_eq!(ended.code, Some(0), "{ended}");
    // 24 lines, half of them ours: the first eleven tasks, and how many more there are.
    assert!(ended.stdout.contains("     running ["), "{ended}");
    assert!(ended.stdout.contains("and 5 more"), "{ended}");
    let screen = screen(&ended.stdout);
    let text = screen.join("\n");
    let left = |line: &&String| {
        let word = line.split_whitespace().next().unwrap_or_default();
        ["preparing", "running", "stopping", "collecting", "and"].contains(&word)
    };
    assert_eq!(screen.iter().find(left), None, "{text}");
    for n in 0..16 {
        let begins = format!("t{n:<2} | ");
        let own = screen.iter().filter(|line| line.starts_with(&begins));
        assert_eq!(own.count(), 2, "t{n}: {text}");
    }
    // As each ends, and again in the summary.
    assert_eq!(text.matches("PASS [").count(), 32, "{text}");
}
