//! The JSON Schema (draft 7) of a spec, generated from [`RunSpec`] and the forms below.
//!
//! The forms say how a value may be written; they are never made. Editors use the schema;
//! agent-run itself reads specs by its readers, and a test holds both to the same keys.

mod agent;
mod services;

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::hints::NOT_OF_AGENTS;
use super::model::{CacheMode, RetryCause, RunSpec, SetupUser, TaskSpec, When};
use super::source::At;
use crate::id::ImageRef;

use agent::{AgentForm, OptionsForm};
pub(super) use services::ServicesForm;

/// The schema of a spec, as `schema/agent-run.v1.json` holds it.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    let mut root = generator.root_schema_for::<RunSpec>();
    let properties = root.ensure_object().get_mut("properties");
    if let Some(Value::Object(properties)) = properties {
        let task = generator.subschema_for::<TaskSpec>();
        let description = "Merged under every task: maps by key, lists replace, null resets.";
        let defaults = json!({ "description": description, "anyOf": [task, {"type": "null"}] });
        properties.insert("defaults".into(), defaults);
        let agent = generator.subschema_for::<AgentForm>();
        let agents = json!({
            "description": "Agents by name: further ones, or others in place of agent-run's.",
            "type": ["object", "null"],
            "additionalProperties": agent,
            "patternProperties": extensions(),
        });
        properties.insert("agents".into(), agents);
        generator.subschema_for::<OptionsForm>();
    }
    let mut root = root.to_value();
    if let Some(Value::Object(definitions)) = root.get_mut("definitions") {
        for (name, definition) in generator.take_definitions(true) {
            definitions.insert(name, definition);
        }
        let options = properties_of(definitions.remove("OptionsForm").as_ref());
        if let Some(task) = definitions.get_mut("TaskSpec") {
            adopt(task, options);
        }
        let mut task = properties_of(definitions.get("TaskSpec"));
        task.retain(|key, _| !NOT_OF_AGENTS.contains(&&key[..]));
        if let Some(agent) = definitions.get_mut("AgentForm") {
            adopt(agent, task);
        }
    }
    root
}

type Properties = serde_json::Map<String, Value>;

fn properties_of(definition: Option<&Value>) -> Properties {
    let properties = definition.and_then(|d| d.get("properties"));
    let properties = properties.and_then(Value::as_object);
    properties.cloned().unwrap_or_default()
}

/// Gives a map further keys.
fn adopt(definition: &mut Value, further: Properties) {
    if let Some(Value::Object(properties)) = definition.get_mut("properties") {
        properties.extend(further);
    }
}

/// What every map with fixed keys has: no other keys but `x-*`; and the alias of `environment`.
pub(super) fn object(schema: &mut Schema) {
    schema.insert("additionalProperties".into(), false.into());
    schema.insert("patternProperties".into(), extensions());
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    if properties.contains_key("env_file")
        && let Some(environment) = properties.get("environment").cloned()
    {
        properties.insert("env".into(), environment);
    }
    for property in properties.values_mut().filter_map(Value::as_object_mut) {
        allow_interpolation(property);
    }
}

/// Whatever a value must be, it may be written as `${NAME}`.
fn allow_interpolation(property: &mut serde_json::Map<String, Value>) {
    if let Some(Value::Array(forms)) = property.get_mut("anyOf") {
        forms.push(json!({ "type": "string", "pattern": r"\$\{" }));
        return;
    }
    let types = match property.get("type") {
        Some(Value::Array(types)) => types.clone(),
        Some(one) => vec![one.clone()],
        None => return,
    };
    if types.iter().any(|t| t == "integer" || t == "boolean") {
        let types: Vec<Value> = types.into_iter().chain(["string".into()]).collect();
        property.insert("type".into(), types.into());
        property.insert("pattern".into(), r"\$\{|^-?[0-9]+$|^(true|false)$".into());
    }
}

/// Keys that may stand anywhere.
pub(super) fn extensions() -> Value {
    json!({ "^x-": true })
}

/// See [`crate::id::TaskId`].
pub(super) fn task_ids() -> Value {
    json!({ "pattern": "^(x-.*|[a-z0-9][a-z0-9._-]{0,47})$" })
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A size in bytes: a number and one of `b k kb m mb g gb`, 1024-based.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum SizeForm {
    Bytes(u64),
    Text(#[schemars(regex(pattern = r"^\s*([0-9]+\s*([bB]|[kKmMgG][bB]?)?|.*\$\{.*)\s*$"))] String),
}

/// A duration: numbers with the units `us ms s m h d`, such as `1h30m`.
#[derive(JsonSchema)]
#[schemars(transparent)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct DurationForm(
    #[schemars(regex(pattern = r"^\s*(([0-9]+(us|ms|s|m|h|d)\s*)+|.*\$\{.*)$"))] String,
);

/// A number of CPUs, at least 0.01.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum CpusForm {
    Number(#[schemars(range(min = 0.01))] f64),
    Text(String),
}

/// What a task may reach.
#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct EgressForm {
    /// Hosts: `host`, or `*.host` for all whose names end so, either with `:port`. Without one, 80 and
    /// 443.
    allow: OneOrMany,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum ArtifactsForm {
    /// Patterns, relative to /workspace.
    Paths(OneOrMany),
    Parts(ArtifactsParts),
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct ArtifactsParts {
    /// Patterns, relative to /workspace, with `*`, `?`, `[…]`, `{…,…}` and `**`.
    paths: OneOrMany,
    /// After which endings of the task. Default: always.
    when: Option<When>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum WordsForm {
    /// Split into words without a shell.
    Text(String),
    Words(Vec<Scalar>),
}

/// A text, or what YAML reads as something else and agent-run takes as the text it is.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum Scalar {
    Text(String),
    Number(f64),
    Claim(bool),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum UserForm {
    Uid(u32),
    Text(String),
}

/// `full`, or the number of commits.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum HistoryForm {
    Word(FullHistory),
    Depth(HistoryDepth),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum FullHistory {
    Full,
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct HistoryDepth {
    /// The newest commits only.
    #[schemars(range(min = 1))]
    depth: u32,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum AuthorForm {
    /// `Name <mail>`.
    Text(String),
    Parts(AuthorParts),
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct AuthorParts {
    /// As in a commit.
    name: String,
    /// As in a commit.
    email: String,
}

/// Where a secret comes from: one of the three.
#[derive(JsonSchema)]
#[schemars(transform = object, extend("minProperties" = 1))]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct SecretForm {
    /// A variable of agent-run's environment.
    environment: Option<String>,
    /// A file, relative to the spec.
    file: Option<String>,
    /// A program of the host, as a list of words or a text that is split into them: what it prints.
    command: Option<WordsForm>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum GrantForm {
    /// The file `/run/secrets/<name>`.
    Name(String),
    Long(GrantParts),
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct GrantParts {
    /// The secret's name.
    source: String,
    /// The variable to put it into; else it is the file `/run/secrets/<name>`.
    environment: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum BuildForm {
    /// The build context.
    Context(String),
    Parts(BuildParts),
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct BuildParts {
    /// The build context: a directory, relative to the spec.
    context: String,
    /// Relative to the context. Default: Dockerfile.
    dockerfile: Option<String>,
    /// The stage to stop at.
    target: Option<String>,
    /// Build arguments; no place for secrets.
    args: Option<BTreeMap<String, Option<Scalar>>>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum PromptForm {
    Text(String),
    File(PromptFile),
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct PromptFile {
    /// A file, relative to the spec.
    file: String,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum RetryForm {
    /// How many attempts follow the first at most.
    Max(#[schemars(range(max = 10))] u32),
    Parts(RetryParts),
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct RetryParts {
    /// How many attempts follow the first at most. Default: 1.
    #[schemars(range(max = 10))]
    max: Option<u32>,
    /// What they follow, one or several. Default: `any`, or `exit_code` where there are `exit_codes`.
    when: Option<RetryWhen>,
    /// The exit codes that are tried again. Default: all.
    exit_codes: Option<ExitCodes>,
    /// From an attempt's end to the next one; doubled each time. Default: none.
    backoff: Option<DurationForm>,
}

/// Axes, each a list of values.
#[derive(JsonSchema)]
#[schemars(transform = matrix)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct MatrixParts {
    /// Values that are added to the cells that agree with them, or further cells.
    include: Option<Vec<BTreeMap<String, Scalar>>>,
    /// Values whose cells are left out.
    exclude: Option<Vec<BTreeMap<String, Scalar>>>,
}

/// A map with keys of ours and axes.
fn matrix(schema: &mut Schema) {
    object(schema);
    let scalar = json!({ "type": ["string", "number", "boolean"] });
    let axis = json!({ "anyOf": [{ "type": "array", "items": scalar, "minItems": 1 }, { "type": "null" }] });
    let patterns = json!({ "^x-": true, "^(?!include$|exclude$)[a-z][a-z0-9_]{0,39}$": axis });
    schema.insert("patternProperties".into(), patterns);
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum RetryWhen {
    One(RetryWord),
    Many(Vec<RetryWord>),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum RetryWord {
    Cause(RetryCause),
    Any(AnyCause),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum AnyCause {
    Any,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum ExitCodes {
    One(#[schemars(range(min = 1))] u8),
    Many(#[schemars(inner(range(min = 1)))] Vec<u8>),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum VerifyForm {
    /// The script.
    Script(String),
    Parts(VerifyParts),
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct VerifyParts {
    /// A script for `sh -eu`, or for the interpreter that its first line names. Never interpolated.
    run: String,
    /// Its time limit, from its container's start. Default: the task's `timeout`.
    timeout: Option<DurationForm>,
    /// The image that it runs in. Default: the task's.
    image: Option<At<ImageRef>>,
    /// The secrets it is granted, as for a task. Default: none, whatever the task has.
    secrets: Option<Vec<GrantForm>>,
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct PreviewForm {
    /// A script for `sh -eu`, or for the interpreter that its first line names. Never interpolated.
    run: String,
    /// The TCP port that it listens on, as one of `ports`: `3000`, or `0.0.0.0::3000` for others than
    /// those at the engine's machine.
    port: Scalar,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum SetupForm {
    /// A script, run as root: what it installs into the image is kept.
    Script(String),
    Parts(SetupParts),
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct SetupParts {
    /// A script for `sh -eu`, or for the interpreter that its first line names. Never interpolated.
    run: String,
    /// Files of the base that it depends on: it runs again when one of them changes.
    files: Option<OneOrMany>,
    /// Directories of the worktree that it fills, not tracked by git.
    paths: Option<OneOrMany>,
    /// `agent` (the task's user) or `root`. Default: agent with `paths`, else root.
    user: Option<SetupUser>,
    /// The secrets it is granted: names, or `source` and the `environment` variable to fill.
    secrets: Option<Vec<GrantForm>>,
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct CacheForm {
    /// Tells the caches of a repository apart.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9_-]{0,39}$|\$\{"))]
    key: String,
    /// Where tasks see it: an absolute path inside, or one in the home, as `~/.npm`.
    path: String,
    /// `shared` (by all tasks that name it) or `private` (to one at a time). Default: shared.
    mode: Option<CacheMode>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum EnvironmentForm {
    /// Values by name; null removes what `defaults` gives.
    Map(BTreeMap<String, Option<Scalar>>),
    /// `KEY=value`, or `KEY` to pass agent-run's own through.
    List(Vec<String>),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum EnvFileForm {
    One(String),
    Parts(EnvFileParts),
    Many(Vec<EnvFileItem>),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum EnvFileItem {
    Path(String),
    Parts(EnvFileParts),
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct EnvFileParts {
    /// A file, relative to the spec.
    path: String,
    /// Whether it is an error if there is none. Default: true.
    required: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) enum UlimitForm {
    Both(i64),
    Each(UlimitParts),
}

#[derive(JsonSchema)]
#[schemars(transform = object)]
#[expect(dead_code, reason = "a form of the file")]
pub(super) struct UlimitParts {
    /// What the process starts with; -1 is no limit.
    soft: i64,
    /// What it may raise it to; -1 is no limit.
    hard: i64,
}
