//! Reads one task, with `defaults` already merged under it.

use std::collections::BTreeMap;

use super::agent::{Agents, Applied};
use super::egress;
use super::hints::{
    ARTIFACTS_KEYS, BUILD_KEYS, ENV_FILE_KEYS, GRANT_KEYS, PROMPT_KEYS, did_you_mean,
};
use super::limits;
use super::matrix::nearest;
use super::merge::{container_variable, variable_name};
use super::model::{
    Artifacts, BuildContext, BuildSpec, EnvFile, NetworkMode, Prompt, SecretGrant, TaskBase,
    TaskSpec, Touches, When, WorkspaceMode,
};
use super::ports::ports;
use super::preview::preview;
use super::reader::{Field, Fields, Reader};
use super::retry::retry;
use super::runtime;
use super::services::services;
use super::setup;
use super::source::At;
use super::tree::{Entry, Value};
use super::units::{self, BadValue};
use super::verify::{self, feedback};
use crate::agents::{self, OWN};
use crate::engine::config::PullPolicy;
use crate::id::{InvalidName, PathPattern, TaskId};
use crate::secrets::SecretString;

pub(super) const PULL_POLICIES: &[(&str, PullPolicy)] = &[
    ("always", PullPolicy::Always),
    ("missing", PullPolicy::Missing),
    ("never", PullPolicy::Never),
    ("build", PullPolicy::Build),
];

const ENDINGS: &[(&str, When)] = &[
    ("always", When::Always),
    ("success", When::Success),
    ("failure", When::Failure),
];

const NETWORK_MODES: &[(&str, NetworkMode)] =
    &[("bridge", NetworkMode::Bridge), ("none", NetworkMode::None)];

const WORKSPACE_MODES: &[(&str, WorkspaceMode)] = &[
    ("auto", WorkspaceMode::Auto),
    ("overlay", WorkspaceMode::Overlay),
    ("checkout", WorkspaceMode::Checkout),
];

/// What the spec has for its tasks to name.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// Its secrets.
    pub secrets: &'a [&'a str],
    /// Its agents and agent-run's.
    pub agents: &'a Agents,
}

/// Reads a task's entries; nothing comes of it without an id.
pub(super) fn read_task(
    reader: &mut Reader<'_>,
    id: Option<At<TaskId>>,
    entries: &[Entry],
    known: Known<'_>,
) -> Option<TaskSpec> {
    let declared = known.secrets;
    let applied = known.agents.apply(reader, entries, declared, id.is_some());
    let prompt = Fields(&applied.entries).get("prompt");
    if let (Some(agent), Some(id), None) = (&applied.agent, &id, prompt) {
        let title = format!("task `{}` has an agent and no `prompt`", id.value);
        let hint = format!("say what `{}` is to do", agent.name);
        reader.problem(id.span, title, hint);
    }
    conflicts(reader, Fields(&applied.entries));
    read_keys(reader, id, applied, declared)
}

/// Reads the keys of a task, those of its agent among them. `declared` are the spec's secrets.
fn read_keys(
    reader: &mut Reader<'_>,
    id: Option<At<TaskId>>,
    applied: Applied,
    declared: &[&str],
) -> Option<TaskSpec> {
    let fields = Fields(&applied.entries);
    let services = services(reader, fields);
    let environment = read_environment(reader, fields.get("environment"));
    let secrets = secrets(reader, &applied, declared, &environment);
    let strict = fields.get("touches_strict");
    let strict = strict.and_then(|f| reader.claim(f));
    let verify = fields.get("verify");
    let verify = verify.and_then(|f| verify::verify(reader, f, declared, &environment));
    let setup = fields.get("setup");
    let setup = setup.and_then(|f| setup::setup(reader, f, declared, &environment));
    let run = fields.get("run").and_then(|f| script(reader, f));
    let mut time = |key| reader.value(fields.get(key)?, "a duration", units::duration);
    let timeout = time("timeout");
    let mut plain = |key| time(key).map(|at| at.value);
    Some(TaskSpec {
        timeout,
        startup_timeout: plain("startup_timeout"),
        stop_grace_period: plain("stop_grace_period"),
        handoff_timeout: plain("handoff_timeout"),
        slow_after: plain("slow_after"),
        image: fields.get("image").and_then(|f| reader.name(f, "an image")),
        build: fields.get("build").and_then(|f| build(reader, f)),
        pull_policy: fields
            .get("pull_policy")
            .and_then(|f| reader.word(f, PULL_POLICIES)),
        entrypoint: fields.get("entrypoint").and_then(|f| words(reader, f)),
        command: fields.get("command").and_then(|f| words(reader, f)),
        run: run.map(|run| applied.script(run)),
        prompt: fields.get("prompt").and_then(|f| prompt(reader, f)),
        setup,
        cache: setup::caches(reader, fields.get("cache")),
        environment,
        env_file: fields
            .get("env_file")
            .map(|f| env_files(reader, f))
            .unwrap_or_default(),
        secrets,
        cpus: fields.get("cpus").and_then(|f| limits::cpus(reader, f)),
        mem_limit: fields
            .get("mem_limit")
            .and_then(|f| limits::memory(reader, f)),
        memswap_limit: fields
            .get("memswap_limit")
            .and_then(|f| limits::memory(reader, f)),
        pids_limit: fields
            .get("pids_limit")
            .and_then(|f| limits::pids(reader, f)),
        shm_size: fields.get("shm_size").and_then(|f| limits::size(reader, f)),
        disk_limit: fields
            .get("disk_limit")
            .and_then(|f| limits::storage(reader, f)),
        log_limit: fields
            .get("log_limit")
            .and_then(|f| limits::storage(reader, f)),
        ulimits: fields
            .get("ulimits")
            .map(|f| limits::ulimits(reader, f))
            .unwrap_or_default(),
        tmpfs: fields
            .get("tmpfs")
            .map(|f| limits::tmpfs(reader, f))
            .unwrap_or_default(),
        working_dir: fields
            .get("working_dir")
            .and_then(|f| working_dir(reader, f)),
        user: fields.get("user").and_then(|f| user(reader, f)),
        workspace: fields
            .get("workspace")
            .and_then(|f| reader.word(f, WORKSPACE_MODES)),
        read_only: fields.get("read_only").and_then(|f| reader.claim(f)),
        network_mode: fields
            .get("network_mode")
            .and_then(|f| reader.word(f, NETWORK_MODES)),
        services,
        egress: egress::egress(reader, fields, &applied.hosts),
        agent: applied.agent,
        ports: ports(reader, fields),
        runtime: runtime::runtime(reader, fields),
        matrix: BTreeMap::new(),
        profiles: fields
            .get("profiles")
            .map(|f| profiles(reader, f))
            .unwrap_or_default(),
        needs: needs(reader, fields.get("needs")),
        base: fields.get("base").and_then(|f| base(reader, f)),
        retry: fields.get("retry").and_then(|f| retry(reader, f)),
        allow_failure: fields.get("allow_failure").and_then(|f| reader.claim(f)),
        branch: fields
            .get("branch")
            .and_then(|f| reader.name(f, "a branch name")),
        claim: fields.get("claim").and_then(|f| reader.name(f, "a text")),
        touches: touches(reader, fields, strict),
        touches_strict: strict,
        artifacts: fields.get("artifacts").and_then(|f| artifacts(reader, f)),
        verify,
        feedback: feedback(reader, fields, id.is_none()),
        preview: preview(reader, fields),
        id: id?,
    })
}

/// The secrets of a task with those of its agent, which it may also have named.
fn secrets(
    reader: &mut Reader<'_>,
    applied: &Applied,
    declared: &[&str],
    environment: &BTreeMap<String, SecretString>,
) -> Vec<SecretGrant> {
    let field = Fields(&applied.entries).get("secrets");
    let own = field.map(|f| grants(reader, f, declared, environment));
    let mut secrets = own.unwrap_or_default();
    for grant in &applied.grants {
        secrets.retain(|own| own.name != grant.name || own.environment.is_some());
        if !secrets.contains(grant) {
            secrets.push(grant.clone());
        }
    }
    secrets
}

/// Keys that exclude or need each other.
fn conflicts(reader: &mut Reader<'_>, fields: Fields<'_>) {
    if let (Some(run), Some(_)) = (fields.get("run"), fields.get("command")) {
        let title = "both `run` and `command` are given";
        let hint = "keep one; `null` resets what `defaults` gives";
        reader.problem(run.span(), title, hint);
    }
    if let Some(policy) = fields.get("pull_policy")
        && fields.get("build").is_none()
        && reader.raw(policy, "a word") == Some("build")
    {
        let title = "`pull_policy: build` without `build`";
        reader.problem(
            policy.span(),
            title,
            "add `build`, such as `build: ./image`",
        );
    }
}

pub(super) fn script(reader: &mut Reader<'_>, field: Field<'_>) -> Option<At<String>> {
    let text = reader.raw(field, "a script")?;
    if text.trim().is_empty() {
        reader.problem(field.span(), format!("`{}` is empty", field.key), "");
        return None;
    }
    Some(At {
        value: text.to_owned(),
        span: field.span(),
    })
}

/// A list of words, or a text that is split first and interpolated then: a value stays one word.
pub(super) fn words(reader: &mut Reader<'_>, field: Field<'_>) -> Option<Vec<String>> {
    let Value::Scalar { .. } = &field.node.value else {
        let items = reader.items(field, "a text or a list of words");
        let words: Vec<Option<String>> = items.iter().map(|f| reader.text(*f, "text")).collect();
        return words.into_iter().collect();
    };
    let raw = reader.raw(field, "a text or a list of words")?;
    let Ok(words) = shell_words::split(raw) else {
        let bad = BadValue::new(
            "has a quote that is not closed",
            "close it, or write a list",
        );
        reader.bad_value(field, raw, bad);
        return None;
    };
    let words: Vec<Option<String>> = words.iter().map(|w| reader.interpolate(field, w)).collect();
    words.into_iter().collect()
}

fn build(reader: &mut Reader<'_>, field: Field<'_>) -> Option<BuildSpec> {
    if matches!(field.node.value, Value::Scalar { .. }) {
        return Some(BuildSpec {
            context: context(reader, field)?,
            dockerfile: dockerfile(field),
            target: None,
            args: BTreeMap::new(),
        });
    }
    let fields = reader.fields(field, "a directory or a map", BUILD_KEYS)?;
    let mut args = BTreeMap::new();
    if let Some(field) = fields.get("args") {
        for entry in reader.entries(field, "a map") {
            if variable_name(reader, &entry.key, entry.key_span) {
                let value = reader.text(field.item(&entry.node), "a map of texts");
                args.insert(entry.key.clone(), value.unwrap_or_default());
            }
        }
    }
    let given = fields.get("dockerfile").map(|f| reader.line(f));
    let target = fields.get("target").and_then(|f| reader.line(f));
    let Some(context) = fields.get("context") else {
        let hint = "write the directory that holds the Dockerfile, such as `context: ./image`";
        reader.problem(field.span(), "`build` has no `context`", hint);
        return None;
    };
    Some(BuildSpec {
        context: self::context(reader, context)?,
        dockerfile: given.unwrap_or_else(|| Some(dockerfile(field)))?,
        target: target.map(|t| t.value),
        args,
    })
}

/// A directory, or one of agent-run's own images.
fn context(reader: &mut Reader<'_>, field: Field<'_>) -> Option<BuildContext> {
    let is_own = |text: &str| text.starts_with(OWN);
    if !matches!(&field.node.value, Value::Scalar { text, .. } if is_own(text)) {
        return Some(BuildContext::Directory(reader.path(field)?));
    }
    let image = reader.value(field, "a directory", |text| {
        let name = text.strip_prefix(OWN).unwrap_or(text);
        agents::image(name).ok_or_else(|| {
            let names = || agents::IMAGES.iter().map(|image| image.name);
            BadValue::new(
                "is no image of agent-run's",
                nearest(name, names(), "they are"),
            )
        })
    });
    image.map(|image| BuildContext::Own(image.value))
}

fn dockerfile(field: Field<'_>) -> At<String> {
    At {
        value: "Dockerfile".to_owned(),
        span: field.span(),
    }
}

fn prompt(reader: &mut Reader<'_>, field: Field<'_>) -> Option<Prompt> {
    if matches!(field.node.value, Value::Scalar { .. }) {
        let text = reader.raw(field, "a text")?;
        if text.trim().is_empty() {
            let hint = "say what is to be done, or leave it out";
            reader.problem(field.span(), "`prompt` is empty", hint);
        }
        return Some(Prompt::Text(text.to_owned()));
    }
    let fields = reader.fields(field, "a text or `file`", PROMPT_KEYS)?;
    let Some(file) = fields.get("file") else {
        let hint = "write a text, or `file` and a path";
        reader.problem(field.span(), "`prompt` has no `file`", hint);
        return None;
    };
    Some(Prompt::File(reader.path(file)?))
}

fn read_environment(
    reader: &mut Reader<'_>,
    field: Option<Field<'_>>,
) -> BTreeMap<String, SecretString> {
    let mut variables = BTreeMap::new();
    let Some(field) = field else {
        return variables;
    };
    for entry in reader.entries(field, "a map or a list of `KEY=value`") {
        let variable = Field {
            key: &entry.key,
            node: &entry.node,
        };
        if let Some(value) = reader.text(variable, "a single value") {
            variables.insert(entry.key.clone(), SecretString::new(value));
        }
    }
    variables
}

fn env_files(reader: &mut Reader<'_>, field: Field<'_>) -> Vec<EnvFile> {
    let items = match field.node.value {
        Value::Map(_) => vec![field],
        _ => reader.one_or_many(field, "a path, a list of paths, or `path` and `required`"),
    };
    items
        .into_iter()
        .filter_map(|item| env_file(reader, item))
        .collect()
}

fn env_file(reader: &mut Reader<'_>, field: Field<'_>) -> Option<EnvFile> {
    if matches!(field.node.value, Value::Scalar { .. }) {
        let path = reader.path(field)?;
        return Some(EnvFile {
            path,
            required: true,
        });
    }
    let fields = reader.fields(field, "a path, or `path` and `required`", ENV_FILE_KEYS)?;
    let required = fields
        .get("required")
        .map_or(Some(true), |f| reader.claim(f));
    let Some(path) = fields.get("path") else {
        reader.problem(field.span(), "`env_file` has no `path`", "");
        return None;
    };
    Some(EnvFile {
        path: reader.path(path)?,
        required: required?,
    })
}

pub(super) fn grants(
    reader: &mut Reader<'_>,
    field: Field<'_>,
    declared: &[&str],
    environment: &BTreeMap<String, SecretString>,
) -> Vec<SecretGrant> {
    let mut grants: Vec<SecretGrant> = Vec::new();
    for item in reader.items(field, "a list of secrets") {
        let Some(grant) = grant(reader, item, declared) else {
            continue;
        };
        let variable = grant.environment.as_ref();
        if let Some(name) = variable.filter(|v| environment.contains_key(*v)) {
            let title = format!("`{name}` is filled by a secret and by `environment`");
            reader.problem(item.span(), title, "keep one of them");
        } else if grants
            .iter()
            .any(|g| variable.is_some() && g.environment.as_ref() == variable)
        {
            let title = "two secrets fill the same variable";
            reader.problem(item.span(), title, "");
        } else if !grants.contains(&grant) {
            grants.push(grant);
        }
    }
    grants
}

fn grant(reader: &mut Reader<'_>, field: Field<'_>, declared: &[&str]) -> Option<SecretGrant> {
    if matches!(field.node.value, Value::Scalar { .. }) {
        return Some(SecretGrant {
            name: secret_name(reader, field, declared)?,
            environment: None,
        });
    }
    let fields = reader.fields(field, "a secret's name, or `source`", GRANT_KEYS)?;
    let environment = fields.get("environment").map(|f| {
        let name = reader.line(f)?;
        container_variable(reader, &name.value, name.span).then_some(name.value)
    });
    let Some(source) = fields.get("source") else {
        let hint = "write the secret's name, such as `source: npm_token`";
        reader.problem(field.span(), "`secrets` has an item without `source`", hint);
        return None;
    };
    let name = secret_name(reader, source, declared)?;
    let environment = environment.map_or(Some(None), |e| e.map(Some))?;
    Some(SecretGrant { name, environment })
}

fn secret_name(reader: &mut Reader<'_>, field: Field<'_>, declared: &[&str]) -> Option<String> {
    let name = reader.value(field, "a secret's name", |text| {
        if declared.contains(&text) {
            return Ok(text.to_owned());
        }
        let near = did_you_mean(text, declared.iter().copied());
        let hint = if near.is_empty() {
            "declare it under `secrets` at the top level".to_owned()
        } else {
            near
        };
        Err(BadValue::new("is not a secret of this spec", hint))
    });
    name.map(|n| n.value)
}

fn needs(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Vec<At<TaskId>> {
    let Some(field) = field else {
        return Vec::new();
    };
    let items = reader.one_or_many(field, "a task or a list of tasks");
    let needs = items.into_iter().map(|item| reader.name(item, "a task"));
    needs.flatten().collect()
}

fn base(reader: &mut Reader<'_>, field: Field<'_>) -> Option<At<TaskBase>> {
    reader.value(field, "`task:` and an id, or a ref", |text| {
        match text.strip_prefix("task:") {
            Some(id) => {
                let id = id.trim().parse().map(TaskBase::Task);
                id.map_err(|e: InvalidName| BadValue::new(e.problem, "write `task:` and an id"))
            }
            None => Ok(TaskBase::Ref(text.to_owned())),
        }
    })
}

fn artifacts(reader: &mut Reader<'_>, field: Field<'_>) -> Option<Artifacts> {
    let (paths, when) = if let Value::Map(_) = field.node.value {
        let fields = reader.fields(field, "patterns, or `paths` and `when`", ARTIFACTS_KEYS)?;
        let when = fields.get("when").map(|f| reader.word(f, ENDINGS));
        let Some(paths) = fields.get("paths") else {
            let hint = "write patterns, such as `paths: [reports/**]`";
            reader.problem(field.span(), "`artifacts` has no `paths`", hint);
            return None;
        };
        (paths, when.map_or(Some(When::default()), |when| when)?)
    } else {
        (field, When::default())
    };
    let paths = patterns(reader, paths);
    (!paths.is_empty()).then_some(Artifacts { paths, when })
}

fn patterns(reader: &mut Reader<'_>, field: Field<'_>) -> Vec<PathPattern> {
    let patterns = placed_patterns(reader, field).into_iter();
    patterns.map(|at| at.value).collect()
}

/// Patterns of paths, with where they are written.
pub(super) fn placed_patterns(reader: &mut Reader<'_>, field: Field<'_>) -> Vec<At<PathPattern>> {
    let mut patterns = Vec::new();
    for item in reader.one_or_many(field, "a pattern or a list of patterns") {
        let pattern = reader.value(item, "a pattern", |text| {
            let hint = "write a pattern such as reports/**/*.xml, relative to /workspace";
            text.parse()
                .map_err(|e: InvalidName| BadValue::new(e.problem, hint))
        });
        patterns.extend(pattern);
    }
    patterns
}

fn touches(reader: &mut Reader<'_>, fields: Fields<'_>, strict: Option<bool>) -> Option<Touches> {
    let strict = strict.unwrap_or(false);
    let Some(field) = fields.get("touches") else {
        if let Some(field) = fields.get("touches_strict").filter(|_| strict) {
            let hint = "write what the task may change, such as `touches: [src/api]`";
            reader.problem(field.span(), "`touches_strict` without `touches`", hint);
        }
        return None;
    };
    let paths = patterns(reader, field);
    (!paths.is_empty()).then_some(Touches { paths, strict })
}

/// Names as compose takes them.
fn profiles(reader: &mut Reader<'_>, field: Field<'_>) -> Vec<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let mut profiles = Vec::new();
    for item in reader.one_or_many(field, "a name or a list of names") {
        let name = reader.value(item, "a name", |text| {
            if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits) {
                return Ok(text.to_owned());
            }
            let hint = "letters, digits, `_`, `.` and `-`, a letter or digit first";
            Err(BadValue::new("cannot be the name of a profile", hint))
        });
        profiles.extend(name.map(|at| at.value));
    }
    profiles
}

fn working_dir(reader: &mut Reader<'_>, field: Field<'_>) -> Option<String> {
    let path = reader.line(field)?.value;
    let steps = |part: &str| part == ".." || part == ".";
    if path.starts_with('/') && !path.split('/').any(steps) {
        return Some(path);
    }
    let bad = BadValue::new(
        "is not an absolute path without `.` and `..`",
        "write a path such as /workspace/web",
    );
    let raw = reader.raw(field, "a path")?;
    reader.bad_value(field, raw, bad);
    None
}

fn user(reader: &mut Reader<'_>, field: Field<'_>) -> Option<String> {
    let value = reader.value(field, "a user id", |text| {
        let number = |t: &str| t.bytes().all(|b| b.is_ascii_digit()) && t.parse::<u32>().is_ok();
        let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
        if number(uid) && number(gid) {
            return Ok(text.to_owned());
        }
        let hint = "write numbers, such as 1000 or 1000:1000";
        Err(BadValue::new("is not `uid` or `uid:gid`", hint))
    });
    value.map(|v| v.value)
}
