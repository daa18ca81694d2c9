//! A reader of workflow commands as GitHub's runner is one, after actions/runner:
//! `src/Runner.Common/ActionCommand.cs` (syntax), `src/Runner.Worker/ActionCommandManager.cs` (what
//! is registered, stopped and resumed), `src/Runner.Sdk/ProcessInvoker.cs` (lines of two pipes, in
//! no order) and `src/Runner.Worker/FileCommandManager.cs` (the files of outputs).

use std::collections::BTreeMap;

use agent_run::report::{inert, masks};
use agent_run::secrets::SecretString;
use proptest::prelude::*;

/// What `IActionCommandExtension`s register, and the one that the manager adds.
pub const COMMANDS: [&str; 16] = [
    "stop-commands",
    "internal-set-repo-path",
    "set-env",
    "set-output",
    "save-state",
    "add-mask",
    "add-path",
    "add-matcher",
    "remove-matcher",
    "warning",
    "error",
    "notice",
    "debug",
    "group",
    "endgroup",
    "echo",
];

/// A command as the runner understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub name: String,
    pub properties: BTreeMap<String, String>,
    pub data: String,
}

/// The state of one step.
#[derive(Debug, Default)]
pub struct Runner {
    token: Option<String>,
    /// What it did, in order; stopping and resuming are left out.
    pub executed: Vec<Command>,
    /// How often commands were stopped.
    pub stops: usize,
    /// What it showed.
    pub log: Vec<String>,
    /// What of that it would have taken for a command, had it been one.
    pub unprotected: Vec<String>,
}

impl Runner {
    /// `StreamReader.ReadLine`: a line ends with LF, CR, or both.
    pub fn lines(text: &str) -> Vec<String> {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        text.lines().map(str::to_owned).collect()
    }

    pub fn read(&mut self, text: &str) {
        for line in Self::lines(text) {
            self.line(&line);
        }
    }

    pub fn line(&mut self, line: &str) {
        let known = |name: &str| {
            let same = |other: &str| other.eq_ignore_ascii_case(name);
            COMMANDS.into_iter().any(same) || self.token.as_deref().is_some_and(same)
        };
        let Some(command) = new_form(line, known).or_else(|| old_form(line, known)) else {
            self.log.push(line.to_owned());
            if self.token.is_none() {
                self.unprotected.push(line.to_owned());
            }
            return;
        };
        if let Some(token) = &self.token {
            if command.name.eq_ignore_ascii_case(token) {
                self.token = None;
            }
            self.log.push(line.to_owned());
        } else if command.name.eq_ignore_ascii_case("stop-commands") {
            // `ValidateStopToken` throws for these.
            let bad = command.data.is_empty() || known(&command.data);
            assert!(!bad, "the runner refuses the token: {line}");
            self.stops += 1;
            self.token = Some(command.data);
            self.log.push(line.to_owned());
        } else {
            self.executed.push(command);
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.token.is_some()
    }

    pub fn all(&self, name: &str) -> Vec<&Command> {
        self.executed.iter().filter(|c| c.name == name).collect()
    }
}

/// `TryParseV2`: `::name key=value,key=value::data`, after white space.
fn new_form(line: &str, known: impl Fn(&str) -> bool) -> Option<Command> {
    let (info, data) = line.trim_start().strip_prefix("::")?.split_once("::")?;
    command(info, ',', known, &[("%3A", ":"), ("%2C", ",")], data, &[])
}

/// `TryParse`: `##[name key=value;key=value]data`, anywhere in a line.
fn old_form(line: &str, known: impl Fn(&str) -> bool) -> Option<Command> {
    let (_, rest) = line.split_once("##[")?;
    let (info, data) = rest.split_once(']')?;
    let more = [("%3B", ";"), ("%5D", "]")];
    command(info, ';', known, &more, data, &more)
}

fn command(
    info: &str,
    between: char,
    known: impl Fn(&str) -> bool,
    in_properties: &[(&str, &str)],
    data: &str,
    in_data: &[(&str, &str)],
) -> Option<Command> {
    let (name, properties) = info.split_once(' ').unwrap_or((info, ""));
    if name.is_empty() || !known(name) {
        return None;
    }
    let properties = properties.trim().split(between).filter_map(|property| {
        let (key, value) = property.split_once('=')?;
        Some((key.to_owned(), unescaped(value, in_properties)))
    });
    Some(Command {
        name: name.to_owned(),
        properties: properties.collect(),
        data: unescaped(data, in_data),
    })
}

fn unescaped(text: &str, more: &[(&str, &str)]) -> String {
    let mut text = text.replace("%0D", "\r").replace("%0A", "\n");
    for (from, to) in more {
        text = text.replace(from, to);
    }
    text.replace("%25", "%")
}

/// A file of outputs: `name=value`, or `name<<end`, lines, `end`.
pub fn outputs(text: &str) -> BTreeMap<String, String> {
    let mut outputs = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let equals = line.find('=').unwrap_or(usize::MAX);
        let heredoc = line.find("<<").unwrap_or(usize::MAX);
        assert!(equals != heredoc || line.is_empty(), "invalid: {line}");
        if equals < heredoc {
            let (name, value) = line.split_at(equals);
            outputs.insert(name.into(), value[1..].to_owned());
        } else if heredoc < equals {
            let (name, end) = (&line[..heredoc], &line[heredoc + 2..]);
            let value: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
            outputs.insert(name.to_owned(), value.join("\n"));
        }
    }
    outputs
}

/// Every form of every command that an agent could try, a line each.
pub fn hostile_lines() -> Vec<String> {
    let mut lines = Vec::new();
    for name in COMMANDS {
        lines.extend([
            format!("::{name}::new"),
            format!("::{name} file=a,line=1,name=x::properties"),
            format!("  \t::{name}::after-blanks"),
            format!("\u{a0}\u{3000}::{name}::after-wide-blanks"),
            format!("##[{name}]old"),
            format!("words ##[{name} name=x]inside"),
            format!("\r::{name}::after-cr"),
            format!("words\r##[{name}]after-cr-inside"),
            format!("\u{1b}[31m##[{name}]coloured"),
            format!("\u{1b}[2K::{name}::after-an-escape"),
            format!("##[##[{name}]nested"),
            format!("::{}::upper", name.to_uppercase()),
        ]);
    }
    lines
}

#[test]
fn the_reader_takes_what_the_runner_takes() {
    let mut runner = Runner::default();
    runner.read(
        "  ::error file=a.yaml,line=3,title=a%3Ab%2Cc::50%25%0Athere\nx ##[Debug]d\r::no::y\n",
    );
    runner.read("::stop-commands::t0ken\n::error::not\n##[add-mask]not\n::T0KEN::\n::group::g\n");
    let names: Vec<&str> = runner.executed.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["error", "Debug", "group"]);
    let error = &runner.executed[0];
    assert_eq!(error.data, "50%\nthere");
    assert_eq!(error.properties["title"], "a:b,c");
    let log = [
        "::no::y",
        "::stop-commands::t0ken",
        "::error::not",
        "##[add-mask]not",
        "::T0KEN::",
    ];
    assert_eq!(runner.log, log);
    for line in hostile_lines() {
        let mut runner = Runner::default();
        runner.read(&line);
        let refused = line.contains("##[##[") || line.contains('\u{1b}') && line.contains("::");
        let taken = runner.executed.len() + runner.stops;
        assert_eq!(taken, usize::from(!refused), "{line:?}");
    }
}

#[test]
fn inert_text_holds_no_command() {
    for line in hostile_lines() {
        let mut runner = Runner::default();
        runner.read(&inert(&line));
        assert_eq!((runner.executed, runner.stops), (Vec::new(), 0), "{line:?}");
    }
    assert_eq!(
        inert("a::b ## [c]\n  text :: more"),
        "a::b ## [c]\n  text :: more"
    );
}

proptest! {
    #[test]
    fn no_text_becomes_a_command(text in r"([ \t\r\n\x0b\u{85}\u{a0}\u{2003}#\[\]:%=,;x]|::|##\[|error|stop-commands|debug){0,24}") {
        let mut runner = Runner::default();
        runner.read(&inert(&text));
        prop_assert_eq!((runner.executed, runner.stops), (Vec::new(), 0));
    }
}

#[test]
fn every_line_of_a_secret_is_masked_and_nothing_else() {
    let secrets = [
        "one-line%0Aof text",
        "-----BEGIN KEY-----\nabcdefgh\n{\n  ijkl::mnop\r\n-----END KEY-----\n",
        "short",
        "",
        " \n ",
        "::add-mask::everything",
    ];
    let secrets = secrets.map(|text| SecretString::new(text.to_owned()));
    let mut runner = Runner::default();
    runner.read(&masks(&secrets));
    let values: Vec<&str> = runner.executed.iter().map(|c| c.data.as_str()).collect();
    let expected = [
        "one-line%0Aof text",
        "-----BEGIN KEY-----",
        "abcdefgh",
        "ijkl::mnop",
        "-----END KEY-----",
        "::add-mask::everything",
    ];
    assert_eq!(values, expected);
    assert_eq!(runner.all("add-mask").len(), values.len());
    assert_eq!(runner.log, Vec::<String>::new());
}
