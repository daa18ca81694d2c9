//! Reads `agent` and `agents`: the presets of agent-run and of the spec, as keys below those of a task.
//!
//! Works on the tree like `defaults`: a preset is what stands below even these, so that each of its keys
//! can be given anew.

use std::rc::Rc;

use super::budget;
use super::diagnostic::shown;
use super::hints::{AGENT_KEYS, CREDENTIAL_KEYS, Level, NOT_OF_AGENTS, TASK_KEYS};
use super::matrix::nearest;
use super::merge::{container_variable, merge, normalise};
use super::model::{AgentSpec, SecretGrant};
use super::reader::{Field, Fields, Reader};
use super::session;
use super::source::{At, SourceFile, Span};
use super::task::{Known, read_task, words};
use super::tree::{self, Entry, Node, Value};
use super::units::BadValue;
use crate::agents::{PRELUDE, PRESETS, Preset};
use crate::id::{HostPattern, InvalidName};

/// Most turns that may be asked for.
const MOST_TURNS: i64 = 100_000;

/// Longest name of an agent, in bytes.
const LONGEST_NAME: usize = 48;

/// The keys that only a task with an agent has.
const OPTIONS: [&str; 5] = ["model", "max_turns", "budget", "session", "args"];

/// What a task runs if it has no agent, and must not say if it has one.
const WORK: [&str; 3] = ["run", "command", "entrypoint"];

/// The agents of a spec, by name: its own, then agent-run's.
#[derive(Debug, Default)]
pub(super) struct Agents(Vec<(String, Vec<Entry>)>);

/// A task's keys with those of its agent below, and what else the agent brings.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub entries: Vec<Entry>,
    pub agent: Option<AgentSpec>,
    /// The secrets that it is granted by its name.
    pub grants: Vec<SecretGrant>,
    /// The hosts that it needs.
    pub hosts: Vec<HostPattern>,
}

/// A secret that an agent can use.
struct Credential {
    name: String,
    /// The variable that it is put into; else it is a file.
    environment: Option<String>,
    /// Whose models it is for, where the agent has those of several.
    provider: Option<String>,
    hosts: Vec<HostPattern>,
}

impl Agents {
    /// Reads `agents`; those of agent-run are there in any case.
    pub fn read(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Self {
        let mut agents = Self::default();
        let own = field.map(|field| reader.entries(field, "a map of agents by name"));
        for entry in own.unwrap_or_default() {
            if entry.key.starts_with("x-") || !has_name(reader, entry) {
                continue;
            }
            let Value::Map(entries) = &entry.node.value else {
                let title = format!("agent `{}` must be a map of keys", shown(&entry.key));
                reader.problem(entry.node.span, title, "write `extends` and what differs");
                continue;
            };
            let place = format!("in agent `{}`", shown(&entry.key));
            let known: Vec<&str> = keys().collect();
            reader.check_keys(entries, &place, &known, Level::Task);
            let entries = normalise(reader, &entry.node, &[]);
            agents.0.push((entry.key.clone(), entries));
        }
        for preset in PRESETS {
            agents.0.push((preset.name.to_owned(), built_in(preset)));
        }
        agents
    }

    /// The names of the spec's own agents.
    pub fn own(&self) -> impl Iterator<Item = &str> {
        self.names().take(self.0.len() - PRESETS.len())
    }

    /// All names.
    fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// All keys of an agent, those of what it extends below its own; none where there is no such agent.
    fn entries(&self, reader: &mut Reader<'_>, name: &str, from: usize) -> Option<Vec<Entry>> {
        let at = from + self.0[from..].iter().position(|(known, _)| known == name)?;
        let own = &self.0[at].1;
        let Some(base) = Fields(own).get("extends") else {
            // One of the same name as agent-run's stands upon that.
            let below = self.entries(reader, name, at + 1);
            return Some(below.map_or_else(|| own.clone(), |below| over(&below, own)));
        };
        // Only what is listed below: so there is no circle.
        let base_name = reader.value(base, "an agent's name", |text| {
            let later = || self.0[at + 1..].iter().map(|(name, _)| name.as_str());
            if later().any(|known| known == text) {
                return Ok(text.to_owned());
            }
            let hint = if self.names().any(|known| known == text) {
                "an agent can extend those below it in `agents`, and agent-run's".to_owned()
            } else {
                nearest(text, later(), "it can")
            };
            Err(BadValue::new("is not an agent that it can extend", hint))
        })?;
        let below = self.entries(reader, &base_name.value, at + 1)?;
        Some(over(&below, own))
    }

    /// Puts the preset of a task's agent below its keys. `declared` are the spec's secrets.
    pub fn apply(
        &self,
        reader: &mut Reader<'_>,
        entries: &[Entry],
        declared: &[&str],
        is_task: bool,
    ) -> Applied {
        let fields = Fields(entries);
        let as_it_is = || Applied {
            entries: entries.to_vec(),
            ..Applied::default()
        };
        let Some(field) = fields.get("agent") else {
            options_without_agent(reader, fields, is_task);
            return as_it_is();
        };
        for key in WORK {
            if let Some(work) = fields.get(key) {
                let title = format!("both `agent` and `{key}` are given");
                let hint = "keep one; `null` resets what `defaults` gives";
                reader.problem(work.span(), title, hint);
                return as_it_is();
            }
        }
        let name = reader.value(field, "an agent's name", |text| {
            let known = self.names().any(|known| known == text);
            known.then(|| text.to_owned()).ok_or_else(|| {
                BadValue::new("is not an agent", nearest(text, self.names(), "the agents"))
            })
        });
        let Some(name) = name else {
            return as_it_is();
        };
        let Some(preset) = self.entries(reader, &name.value, 0) else {
            return as_it_is();
        };
        // A problem of agent-run's own text has no place in the spec but this.
        let preset: Vec<Entry> = preset.iter().map(|e| placed(e, name.span)).collect();
        let entries = over(&of_task(&preset), entries);
        let (agent, preset) = (
            read_agent(reader, &name, &entries, &preset),
            Fields(&preset),
        );
        let mut applied = Applied {
            entries,
            ..Applied::default()
        };
        if let Some(field) = preset.get("hosts") {
            applied.hosts = read_hosts(reader, field);
        }
        let credentials = credentials(reader, preset.get("credentials"));
        applied.grant(reader, (&agent, name.span), &credentials, declared);
        applied.agent = Some(agent);
        applied
    }
}

impl Applied {
    /// The script of a task, or that of its agent with what all of them begin with.
    pub fn script(&self, own: At<String>) -> At<String> {
        let is_own = self.agent.is_none() || own.value.starts_with("#!");
        let value = if is_own {
            own.value
        } else {
            format!("{PRELUDE}{}", own.value)
        };
        At { value, ..own }
    }

    /// Grants the agent one secret that it can use, where the task does not fill its variable.
    fn grant(
        &mut self,
        reader: &mut Reader<'_>,
        (agent, place): (&AgentSpec, Span),
        credentials: &[Credential],
        declared: &[&str],
    ) {
        let model = agent.model.as_deref().unwrap_or_default();
        let provider = model.split_once('/').map(|(provider, _)| provider);
        let is_fitting = |c: &&Credential| match (&c.provider, provider) {
            (Some(of), Some(provider)) => of == provider,
            _ => true,
        };
        let fitting: Vec<&Credential> = credentials.iter().filter(is_fitting).collect();
        let given = Given::of(Fields(&self.entries));
        let find = |is_it: &dyn Fn(&Credential) -> bool| fitting.iter().find(|c| is_it(c));
        let is_filled = |c: &Credential| {
            let variable = c.environment.as_deref();
            variable.is_some_and(|variable| given.variables.contains(&variable))
        };
        if let Some(filled) = find(&is_filled) {
            self.hosts.extend(filled.hosts.iter().cloned());
            return;
        }
        let named = find(&|c| given.secrets.contains(&c.name.as_str()));
        let Some(chosen) = named.or_else(|| find(&|c| declared.contains(&c.name.as_str()))) else {
            missing(reader, (&agent.name, place), &fitting);
            return;
        };
        self.hosts.extend(chosen.hosts.iter().cloned());
        self.grants.push(SecretGrant {
            name: chosen.name.clone(),
            environment: chosen.environment.clone(),
        });
    }
}

/// What a task grants and fills by itself.
#[derive(Default)]
struct Given<'a> {
    /// Secrets that it grants by name alone.
    secrets: Vec<&'a str>,
    /// Variables that it fills.
    variables: Vec<&'a str>,
}

impl<'a> Given<'a> {
    fn of(task: Fields<'a>) -> Self {
        let mut given = Self::default();
        if let Some(field) = task.get("environment")
            && let Value::Map(variables) = &field.node.value
        {
            given.variables.extend(variables.iter().map(|e| &e.key[..]));
        }
        let Some(Field { node, .. }) = task.get("secrets") else {
            return given;
        };
        let Value::List(items) = &node.value else {
            return given;
        };
        for item in items {
            match &item.value {
                Value::Scalar { text, .. } => given.secrets.push(text),
                Value::Map(parts) => {
                    let variable = Fields(parts).get("environment");
                    if let Some(Value::Scalar { text, .. }) = variable.map(|f| &f.node.value) {
                        given.variables.push(text);
                    }
                }
                _ => {}
            }
        }
        given
    }
}

/// The keys of an agent.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    let of_tasks = TASK_KEYS.iter().filter(|key| !NOT_OF_AGENTS.contains(key));
    AGENT_KEYS.iter().chain(of_tasks).copied()
}

/// The keys of a task, without what `defaults` say to agents where it has none.
pub(super) fn meant(mut merged: Vec<Entry>, own: &[Entry]) -> Vec<Entry> {
    if Fields(&merged).get("agent").is_none() {
        let is_own = |e: &Entry| own.iter().any(|own| own.key == e.key);
        merged.retain(|e| !OPTIONS.contains(&e.key.as_str()) || is_own(e));
    }
    merged
}

/// Checks the spec's own agents by themselves, so that their problems are found also where no task has them.
pub(super) fn check(reader: &mut Reader<'_>, known: Known<'_>) {
    for (at, name) in known.agents.own().enumerate() {
        let Some(entries) = known.agents.entries(reader, name, at) else {
            continue;
        };
        let fields = Fields(&entries);
        credentials(reader, fields.get("credentials"));
        if let Some(field) = fields.get("hosts") {
            read_hosts(reader, field);
        }
        for key in ["needs_model", "has_max_turns"] {
            if let Some(field) = fields.get(key) {
                reader.claim(field);
            }
        }
        if let Some(field) = fields.get("tells") {
            budget::told(reader, field);
        }
        if let Some(field) = fields.get("session_files") {
            session::files(reader, field);
        }
        if let Some(field) = fields.get("description") {
            reader.line(field);
        }
        let work = ["image", "build", "run", "command", "entrypoint"];
        if work.iter().all(|key| fields.get(key).is_none()) {
            let title = format!("agent `{name}` has nothing to run");
            let place = known.agents.0[at].1.first().map(|e| e.key_span);
            let hint = "give it `extends` and an agent, or `run`";
            reader.problem(place.unwrap_or_default(), title, hint);
        }
        read_task(reader, None, &of_task(&entries), known);
    }
}

fn has_name(reader: &mut Reader<'_>, entry: &Entry) -> bool {
    let name = entry.key.as_str();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.len() <= LONGEST_NAME
        && name.chars().all(fits);
    if !is_name {
        let title = format!("`{}` cannot be the name of an agent", shown(name));
        let hint = "at most 48 lower-case letters, digits, `.`, `_` and `-`";
        reader.problem(entry.key_span, title, hint);
    }
    is_name
}

/// A preset of agent-run's; it is right, as a test holds.
fn built_in(preset: &Preset) -> Vec<Entry> {
    let source = SourceFile::new(preset.name, preset.text.to_owned());
    let root = tree::parse(&source, &mut Vec::new());
    match root.map(|root| root.value.clone()) {
        Some(Value::Map(entries)) => entries,
        _ => Vec::new(),
    }
}

/// The same keys, as if all of them stood at that place.
fn placed(entry: &Entry, span: Span) -> Entry {
    Entry {
        key: entry.key.clone(),
        key_span: span,
        node: placed_node(&entry.node, span),
    }
}

fn placed_node(node: &Node, span: Span) -> Rc<Node> {
    let value = match &node.value {
        Value::Map(entries) => Value::Map(entries.iter().map(|e| placed(e, span)).collect()),
        Value::List(items) => Value::List(items.iter().map(|n| placed_node(n, span)).collect()),
        other => other.clone(),
    };
    Rc::new(Node { span, value })
}

/// The keys of a task.
fn of_task(preset: &[Entry]) -> Vec<Entry> {
    let is_of_task = |e: &&Entry| !AGENT_KEYS.contains(&e.key.as_str());
    preset.iter().filter(is_of_task).cloned().collect()
}

/// Merges, but that an image of its own, or a context to build it from, leaves nothing of another one.
fn over(below: &[Entry], above: &[Entry]) -> Vec<Entry> {
    let above_fields = Fields(above);
    let build = above_fields.get("build");
    let has_context = build.is_some_and(|build| match &build.node.value {
        Value::Map(parts) => Fields(parts).get("context").is_some(),
        _ => true,
    });
    let other_image = above_fields.get("image").is_some() && build.is_none();
    let stays = |e: &&Entry| match e.key.as_str() {
        "build" => !(other_image || has_context),
        "image" => !has_context,
        _ => true,
    };
    let below: Vec<Entry> = below.iter().filter(stays).cloned().collect();
    merge(&below, above)
}

fn options_without_agent(reader: &mut Reader<'_>, task: Fields<'_>, is_task: bool) {
    for key in OPTIONS {
        let Some(field) = task.get(key) else {
            continue;
        };
        read_option(reader, field);
        // What `defaults` say is for the tasks that have one.
        if is_task {
            let title = format!("`{key}` without `agent`");
            let hint = "it is told an agent: name one, such as `agent: claude-code`";
            reader.problem(field.span(), title, hint);
        }
    }
}

/// Only for its problems.
fn read_option(reader: &mut Reader<'_>, field: Field<'_>) {
    match field.key {
        "model" => drop(reader.line(field)),
        "max_turns" => drop(reader.integer(field, (1, MOST_TURNS))),
        "budget" => drop(budget::budget(reader, field)),
        "session" => drop(reader.word(field, session::WORDS)),
        _ => drop(words(reader, field)),
    }
}

fn read_agent(
    reader: &mut Reader<'_>,
    name: &At<String>,
    task: &[Entry],
    preset: &[Entry],
) -> AgentSpec {
    let (task, preset) = (Fields(task), Fields(preset));
    let claim = |reader: &mut Reader<'_>, key| preset.get(key).and_then(|f| reader.claim(f));
    let needs_model = claim(reader, "needs_model") == Some(true);
    let takes_turns = claim(reader, "has_max_turns") != Some(false);
    // Cells of a matrix may have none: `${matrix.model:-}`.
    let model = task.get("model").and_then(|field| {
        reader.value(field, "text", |text| match text {
            t if t.contains(char::is_control) => {
                Err(BadValue::new("holds control characters", "write one line"))
            }
            t => Ok((!t.is_empty()).then(|| t.to_owned())),
        })
    });
    let is_named = model.as_ref().is_some_and(|model| model.value.is_some());
    if needs_model && !is_named {
        let title = format!("`{}` needs a `model`", name.value);
        let hint = "name one with its provider, such as `model: anthropic/claude-sonnet-4-5`";
        reader.problem(name.span, title, hint);
    }
    let max_turns = task.get("max_turns");
    if let Some(field) = max_turns.filter(|_| !takes_turns) {
        let title = format!("`{}` has no limit of turns", name.value);
        reader.problem(field.span(), title, "leave it out, and set a `timeout`");
    }
    let turns = max_turns.and_then(|f| reader.integer(f, (1, MOST_TURNS)));
    let told = preset.get("tells").map(|f| budget::told(reader, f));
    let told = (name.value.as_str(), &told.unwrap_or_default()[..]);
    let budget = task.get("budget");
    let files = preset.get("session_files");
    let files = files.map(|f| session::files(reader, f)).unwrap_or_default();
    let kept = (name.value.as_str(), files);
    AgentSpec {
        name: name.value.clone(),
        // Known with its image.
        version: None,
        model: model.and_then(|model| model.value),
        max_turns: turns.and_then(|turns| u32::try_from(turns.value).ok()),
        budget: budget.and_then(|f| budget::held(reader, f, told)),
        session: session::kept(reader, task.get("session"), kept),
        args: task
            .get("args")
            .and_then(|f| words(reader, f))
            .unwrap_or_default(),
    }
}

fn credentials(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Vec<Credential> {
    let entries = field.map(|field| reader.entries(field, "a map of secrets by name"));
    let mut credentials = Vec::new();
    for entry in entries.unwrap_or_default() {
        if entry.key.starts_with("x-") {
            continue;
        }
        let field = Field {
            key: &entry.key,
            node: &entry.node,
        };
        let expected = "a map with `environment`, `provider` and `hosts`";
        let Some(parts) = reader.fields(field, expected, CREDENTIAL_KEYS) else {
            continue;
        };
        let environment = parts.get("environment").and_then(|f| reader.line(f));
        let environment =
            environment.filter(|name| container_variable(reader, &name.value, name.span));
        let provider = parts.get("provider").and_then(|f| reader.line(f));
        credentials.push(Credential {
            name: entry.key.clone(),
            environment: environment.map(|at| at.value),
            provider: provider.map(|at| at.value),
            hosts: parts
                .get("hosts")
                .map(|f| read_hosts(reader, f))
                .unwrap_or_default(),
        });
    }
    credentials
}

/// Hosts, as in `egress`.
pub(super) fn read_hosts(reader: &mut Reader<'_>, field: Field<'_>) -> Vec<HostPattern> {
    let items = reader.one_or_many(field, "a host or a list of hosts");
    let hosts = items.into_iter().filter_map(|item| {
        let host = reader.value(item, "a host", |text| {
            let hint = "write a host, such as example.com, *.example.com or example.com:8443";
            let parsed = text.parse();
            parsed.map_err(|e: InvalidName| BadValue::new(e.problem, hint))
        });
        host.map(|at| at.value)
    });
    hosts.collect()
}

fn missing(reader: &mut Reader<'_>, (agent, place): (&str, Span), usable: &[&Credential]) {
    let Some((first, others)) = usable.split_first() else {
        return;
    };
    let title = format!("`{agent}` needs a secret, and the spec declares none that it can use");
    let origin = match &first.environment {
        Some(variable) => format!("environment: {variable}"),
        None => "file: PATH".to_owned(),
    };
    let mut hint = format!("on top, `secrets: {{ {}: {{ {origin} }} }}`", first.name);
    for other in others {
        hint += &format!(", or `{}`", other.name);
    }
    reader.problem(place, title, hint);
}
