//! A run on a terminal: what stays in place, what is printed above it, and whose the terminal is.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::scene::{Scene, interrupt, start};

/// A spec of a task that has said all that it says.
fn waiting() -> String {
    "version: 1\ntasks:\n  a: { run: 'echo first; echo last words; sleep 120' }\n".to_owned()
}

/// The screen that this output leaves, with all that scrolled off it: as tall as it takes.
fn screen(output: &str) -> Vec<String> {
    let mut terminal = vt100::Parser::new(2000, 80, 0);
    terminal.process(output.as_bytes());
    terminal.screen().rows(0, 80).collect()
}

/// A shell on a terminal of 24 lines and 80 columns, and the keyboard of it.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    display: ChildStdout,
    shown: String,
}

impl Terminal {
    /// Runs a command of the shell; `$AGENT_RUN` is ours.
    fn new(scene: &Scene, command: &str, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new("script")
            .args([
                "-qec",
                // The shell outlives the interrupts that are meant for what it runs.
                &format!("trap : INT; stty rows 24 cols 80; {command}"),
                "/dev/null",
            ])
            .current_dir(scene.path())
            .env("SHELL", "/bin/sh")
            .env("AGENT_RUN", env!("CARGO_BIN_EXE_agent-run"))
            .env("AGENT_RUN_STATE_DIR", scene.state())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .env_remove("CI")
            .env_remove("GITHUB_ACTIONS")
            .env_remove("GITLAB_CI")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script");
        Self {
            keyboard: child.stdin.take().expect("a keyboard"),
            display: child.stdout.take().expect("a display"),
            child,
            shown: String::new(),
        }
    }

    /// Reads on until something is shown that was not before.
    fn until(&mut self, text: &str) {
        let from = self.shown.len();
        while !self.shown[from..].contains(text) {
            let mut bytes = [0; 4096];
            let length = self.display.read(&mut bytes).expect("output");
            assert!(length > 0, "no {text:?} in\n{}", self.shown);
            // A character that is cut in two is none of those that are looked for.
            self.shown += &String::from_utf8_lossy(&bytes[..length]);
        }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("a key");
    }

    /// Reads to the end, and gives the exit code and everything that was shown.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = Vec::new();
        self.display.read_to_end(&mut rest).expect("output");
        self.shown += &String::from_utf8_lossy(&rest);
        let status = self.child.wait().expect("an end");
        (status.code(), self.shown)
    }
}

/// What `stty -g` printed between `<` and `>`, each time.
fn modes(shown: &str) -> Vec<&str> {
    let marked = shown.split("<MODE ").skip(1);
    marked
        .filter_map(|text| Some(text.split_once('>')?.0))
        .collect()
}

const MODE: &str = "echo \"<MODE $(stty -g)>\"";

#[test]
fn running_tasks_leave_no_lines_behind() {
    let scene = Scene::new();
    let tasks: String = (0..16)
        .map(|n| {
            format!("  t{n}: {{ run: \"echo one; printf 'a\\\\tb 漢字 %0300d\\\\n' {n}\" }}\n")
        })
        .collect();
    scene.spec(&format!(
        "version: 1\nmax_parallel: 16\ndefaults: {{ mem_limit: 64m }}\ntasks:\n{tasks}"
    ));
    let command = "\"$AGENT_RUN\" spec.yaml --color never --output prefixed";
    let (code, shown) = Terminal::new(&scene, command, &[]).end();
    assert_eq!(code, Some(0), "{shown}");
    // 24 lines, half of them ours: the first ten tasks, how many more there are, and the totals.
    assert!(shown.contains("     running ["), "{shown}");
    assert!(shown.contains("and 6 more"), "{shown}");
    assert!(
        shown.contains("] 16 tasks: 0 passed, 16 running"),
        "{shown}"
    );
    let screen = screen(&shown);
    let text = screen.join("\n");
    let left = |line: &&String| {
        let word = line.split_whitespace().next().unwrap_or_default();
        [
            "preparing",
            "running",
            "stopping",
            "collecting",
            "and",
            "Running",
        ]
        .contains(&word)
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

#[test]
fn a_terminal_shows_last_lines_in_the_table_and_those_of_failures_at_the_end() {
    let scene = Scene::new();
    scene.spec(
        "version: 1\ntasks:\n  a: { run: 'echo fine; sleep 2' }\n  \
         b: { run: 'echo bad; sleep 2; exit 3', slow_after: 1s }\n",
    );
    let command = "\"$AGENT_RUN\" spec.yaml -j 2 --color never";
    let (code, shown) = Terminal::new(&scene, command, &[]).end();
    assert_eq!(code, Some(100), "{shown}");
    assert!(shown.contains("s/1h] b      "), "the row of b: {shown}");
    assert!(shown.contains(" | fine"), "{shown}");
    assert!(shown.contains("        SLOW [>    1s] b"), "{shown}");
    let text = screen(&shown).join("\n");
    assert!(!text.contains("fine"), "{text}");
    assert_eq!(text.matches("| bad").count(), 1, "{text}");
    assert!(text.contains("FAIL ["), "{text}");
}

#[test]
fn the_key_t_asks_what_runs() {
    let scene = Scene::new();
    scene.spec(&waiting());
    let command = format!("{MODE}; \"$AGENT_RUN\" spec.yaml --color never; {MODE}");
    let mut terminal = Terminal::new(&scene, &command, &[]);
    terminal.until("| last words");
    terminal.types("zt");
    // The table has the last line only.
    terminal.until("| first");
    terminal.types("\u{3}");
    let (_, shown) = terminal.end();
    let text = screen(&shown).join("\n");
    assert!(
        !text.contains("zt") && !text.contains("^C"),
        "an echo: {text}"
    );
    // The listing; the summary of a run that was stopped by hand has no last lines.
    assert_eq!(text.matches("| first").count(), 1, "{text}");
    let modes = modes(&shown);
    assert_eq!(modes.len(), 2, "{shown}");
    assert_eq!(modes[0], modes[1]);
}

#[test]
fn usr1_asks_what_runs() {
    let scene = Scene::new();
    let spec = scene.spec(&waiting());
    let (mut child, mut lines) = start(&scene, &["run", spec.to_str().expect("a path")]);
    assert!(lines.any(|line| line.ends_with("| last words")));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).expect("a signal");
    let listing: Vec<String> = lines.by_ref().take(4).collect();
    assert!(listing[0].contains(" running ["), "{listing:?}");
    assert!(listing[1].ends_with("| first"), "{listing:?}");
    assert!(listing[2].ends_with("| last words"), "{listing:?}");
    assert!(
        listing[3].ends_with("1 task: 0 passed, 1 running"),
        "{listing:?}"
    );
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{rest:?}");
}

#[test]
fn a_terminal_that_is_not_ours_alone_keeps_its_keys() {
    let scene = Scene::new();
    scene.spec("version: 1\ntasks:\n  a: { run: 'echo words; sleep 4' }\n");
    let command = "\"$AGENT_RUN\" spec.yaml | cat; read -r typed; echo \"<$typed>\"";
    let mut terminal = Terminal::new(&scene, command, &[]);
    terminal.until("| words");
    terminal.types("take\n");
    let (_, shown) = terminal.end();
    assert!(shown.contains("<take>"), "{shown}");
}

#[test]
fn quit_leaves_at_once_and_gives_the_terminal_back() {
    let scene = Scene::new();
    scene.spec(&waiting());
    let command = format!("trap : QUIT; {MODE}; \"$AGENT_RUN\" spec.yaml; echo \"<$?>\"; {MODE}");
    let mut terminal = Terminal::new(&scene, &command, &[]);
    terminal.until("| last words");
    terminal.types("\u{1c}");
    let (_, shown) = terminal.end();
    assert!(shown.contains("<131>"), "{shown}");
    assert!(shown.contains("agent-run clean --run "), "{shown}");
    let modes = modes(&shown);
    assert_eq!(modes.len(), 2, "{shown}");
    assert_eq!(modes[0], modes[1]);
    let cleaned = scene.agent_run(&["clean"]);
    assert_eq!(cleaned.code, Some(0), "{cleaned}");
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[test]
fn the_echo_of_an_interrupt_leaves_no_line_behind() {
    let scene = Scene::new();
    scene.spec(&waiting());
    // Without the terminal as its input it cannot turn the echo off.
    let command = "\"$AGENT_RUN\" spec.yaml --color never </dev/null";
    let mut terminal = Terminal::new(&scene, command, &[]);
    terminal.until("| last words");
    terminal.types("\u{3}");
    let (_, shown) = terminal.end();
    assert!(shown.contains("^C"), "{shown}");
    let screen = screen(&shown);
    let left = |line: &&String| line.contains("running [") || line.contains("stopping [");
    assert_eq!(screen.iter().find(left), None, "{}", screen.join("\n"));
}

#[test]
fn no_color_is_about_colours_only_and_a_dumb_terminal_gets_plain_lines() {
    let scene = Scene::new();
    scene.spec(
        "version: 1\ntasks:\n  a: { run: 'echo \"\\033[31mred\\033[0m\"; sleep 1; exit 3' }\n",
    );
    let command = "\"$AGENT_RUN\" spec.yaml";
    let is_colour = |part: &str| {
        let end = part.find(|c: char| !(c.is_ascii_digit() || c == ';'));
        end.is_some_and(|end| part[end..].starts_with('m'))
    };
    let colours = |shown: &str| {
        shown
            .split("\u{1b}[")
            .skip(1)
            .filter(|p| is_colour(p))
            .count()
    };
    let (_, shown) = Terminal::new(&scene, command, &[]).end();
    assert!(
        shown.contains("running [") && colours(&shown) > 0,
        "{shown}"
    );
    let (_, shown) = Terminal::new(&scene, command, &[("NO_COLOR", "1")]).end();
    assert!(
        shown.contains("running [") && shown.contains("\u{1b}["),
        "{shown}"
    );
    assert!(shown.contains("| red"), "{shown}");
    assert_eq!(colours(&shown), 0, "{shown:?}");
    let (_, shown) = Terminal::new(&scene, command, &[("TERM", "dumb")]).end();
    assert!(
        !shown.contains('\u{1b}') && !shown.contains("running ["),
        "{shown:?}"
    );
    assert!(shown.contains("START           a\r\n"), "{shown}");
    assert!(shown.contains("a | red\r\n"), "{shown}");
}

#[test]
fn output_is_shown_as_asked_where_there_is_no_terminal() {
    let scene = Scene::new();
    let tasks =
        "  a: { run: 'echo a1; sleep 1; echo a2' }\n  b: { run: 'echo b1; sleep 1; echo b2' }\n";
    let spec = scene.spec(&format!("version: 1\ntasks:\n{tasks}"));
    let spec = spec.to_str().expect("a path");
    let lines = |output: &[&str]| {
        let ended = scene.agent_run(&[&["run", "-j", "2", spec], output].concat());
        assert_eq!(ended.code, Some(0), "{ended}");
        let lines = ended.stderr.lines().filter(|line| line.contains(" | "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    let all = ["a | a1", "a | a2", "b | b1", "b | b2"];
    assert_eq!(sorted(lines(&[])), all);
    assert_eq!(lines(&["--output", "none"]), Vec::<String>::new());
    let group = lines(&["--output", "group"]);
    assert_eq!(group[0][..1], group[1][..1], "{group:?}");
    assert_eq!(sorted(group), all);
}

#[test]
fn a_shell_gets_its_terminal_while_the_run_is_stopped() {
    let scene = Scene::new();
    scene.spec(&waiting());
    let mut terminal = Terminal::new(&scene, "exec env PS1='$ ' bash --norc --noprofile -i", &[]);
    terminal.types(&format!("{MODE}\n"));
    terminal.until(">\r\n");
    terminal.types("\"$AGENT_RUN\" spec.yaml --color never\n");
    terminal.until("| last words");
    terminal.types("\u{1a}");
    terminal.until("Stopped");
    terminal.types(&format!("{MODE}\nfg\n"));
    terminal.until(" running [");
    terminal.types("t");
    terminal.until("| first");
    // In the background it takes no key and draws nothing.
    terminal.types("\u{1a}");
    terminal.until("Stopped");
    terminal.types("bg\n");
    terminal.until("&\r\n");
    terminal.types("echo st''ill here\n");
    terminal.until("still here");
    terminal.types("fg\n");
    terminal.until(" running [");
    terminal.types("t");
    terminal.until("| first");
    terminal.types("\u{3}");
    terminal.until("logs and results");
    terminal.types(&format!("{MODE}\nexit\n"));
    let (_, shown) = terminal.end();
    let modes: Vec<&str> = modes(&shown)
        .into_iter()
        .filter(|m| !m.starts_with('$'))
        .collect();
    assert_eq!(modes.len(), 3, "{shown}");
    assert!(modes.iter().all(|mode| *mode == modes[0]), "{modes:?}");
}
