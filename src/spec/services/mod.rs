//! Reads `services`: templates, services in the words of compose-spec, a project's compose file.

mod compose;
mod file;
mod model;
mod order;
mod refused;
mod snapshot;
mod template;
mod trusted;

use std::collections::BTreeMap;
use std::rc::Rc;

use super::diagnostic::shown;
use super::hints::{COMPOSE_FILE_KEYS, did_you_mean};
use super::merge::{merge, normalise};
use super::reader::{Field, Fields, Reader};
use super::source::At;
use super::tree::{Entry, Node, Value};
use crate::id::ServiceName;
use crate::secrets::SecretString;

pub use model::{ComposeFile, DependsOn, ServiceSpec, ServicesSpec};

pub(super) use file::read_file;

/// What `${services.…}` stands for: the services of a task by name, each with the first of its ports;
/// none of them are known where a file names them.
#[derive(Debug, Clone)]
pub(super) enum ServiceNames {
    Known(Rc<BTreeMap<String, Option<u16>>>),
    InFile,
}

impl ServicesSpec {
    pub(super) fn names(&self) -> ServiceNames {
        if self.file.is_some() {
            return ServiceNames::InFile;
        }
        let names = self.list.iter().map(|service| {
            let port = service.ports.first().map(|port| port.value);
            (service.name.value.to_string(), port)
        });
        ServiceNames::Known(Rc::new(names.collect()))
    }
}

/// Reads the services of a task, which its other keys may name from then on.
pub(super) fn services(reader: &mut Reader<'_>, task: Fields<'_>) -> ServicesSpec {
    let services = read(reader, task);
    reader.names.services = Some(services.names());
    services
}

fn read(reader: &mut Reader<'_>, task: Fields<'_>) -> ServicesSpec {
    let mut services = ServicesSpec::default();
    let Some(field) = task.get("services") else {
        return services;
    };
    match &field.node.value {
        Value::Map(entries) if is_file(entries) => services.file = file(reader, field),
        Value::Map(entries) => {
            for entry in entries.iter().filter(|e| !e.key.starts_with("x-")) {
                one(reader, entry, &mut services);
            }
        }
        _ => {
            for item in reader.items(field, "a list of templates, or a map of services") {
                by_template(reader, item, &mut services);
            }
        }
    }
    order::check(reader, &services.list);
    order::check_task(reader, task, field);
    if task.get("egress").is_some() {
        order::check_egress(reader, &services.list);
    }
    services
}

/// A service may be called `compose`: that is a map.
fn is_file(entries: &[Entry]) -> bool {
    let file = Fields(entries).get("compose");
    file.is_some_and(|field| !matches!(field.node.value, Value::Map(_)))
}

fn file(reader: &mut Reader<'_>, field: Field<'_>) -> Option<ComposeFile> {
    let fields = reader.fields(field, "a map", COMPOSE_FILE_KEYS)?;
    let mut names = |key| {
        let field = fields.get(key)?;
        let items = reader.one_or_many(field, "a service or a list of services");
        let names = items.into_iter();
        let names = names.filter_map(|item| reader.name(item, "a service"));
        Some(names.collect::<Vec<At<ServiceName>>>())
    };
    let (only, trust) = (names("only"), names("trust").unwrap_or_default());
    Some(ComposeFile {
        path: reader.path(fields.get("compose")?)?,
        only,
        trust,
    })
}

/// An item of a list: a template, whose name the service has.
fn by_template(reader: &mut Reader<'_>, item: Field<'_>, services: &mut ServicesSpec) {
    let Some(name) = reader.line(item) else {
        return;
    };
    if services
        .list
        .iter()
        .any(|s| s.name.value.as_str() == name.value)
    {
        let title = format!("two services are called `{}`", shown(&name.value));
        let hint = "give them names: `{ one: { template: … }, two: { template: … } }`";
        reader.problem(item.span(), title, hint);
        return;
    }
    if let (Some(below), Ok(value)) = (known(reader, item, &name.value), name.value.parse()) {
        let name = At {
            value,
            span: name.span,
        };
        add(reader, (name, &merge(&[], &below)), false, services);
    }
}

/// The keys of a template; a problem where there is none.
fn known(reader: &mut Reader<'_>, field: Field<'_>, name: &str) -> Option<Vec<Entry>> {
    let entries = template::entries(name);
    if entries.is_none() {
        let names = || template::TEMPLATES.iter().map(|(name, _)| *name);
        let title = format!("there is no template `{}`", shown(name));
        let mut hint = did_you_mean(name, names());
        if hint.is_empty() {
            let all: Vec<&str> = names().collect();
            hint = format!("there are {}; others need an `image`", all.join(", "));
        }
        reader.problem(field.span(), title, hint);
        return None;
    }
    let node = Node {
        span: field.span(),
        value: Value::Map(entries?),
    };
    Some(normalise(reader, &node, &[]))
}

/// A service under a name, by a template or not.
fn one(reader: &mut Reader<'_>, entry: &Entry, services: &mut ServicesSpec) {
    let name = match entry.key.parse::<ServiceName>() {
        Ok(value) => At {
            value,
            span: entry.key_span,
        },
        Err(error) => return reader.problem(entry.key_span, error.to_string(), ""),
    };
    let field = Field {
        key: &entry.key,
        node: &entry.node,
    };
    let entries = reader.entries(field, "a map with `template`, `image` or more");
    compose::check_keys(reader, &entry.key, entries, compose::OF_A_SPEC);
    let trust = Fields(entries).get("trust");
    let is_trusted = trust.and_then(|f| reader.claim(f)).unwrap_or(false);
    let asked = Fields(entries).get("template");
    let below = match asked {
        None => Vec::new(),
        Some(field) => {
            let Some(name) = reader.line(field) else {
                return;
            };
            let Some(below) = known(reader, field, &name.value) else {
                return;
            };
            below
        }
    };
    let own = normalise(reader, &entry.node, &below);
    if matches!(entry.node.value, Value::Map(_)) {
        add(reader, (name, &merge(&below, &own)), is_trusted, services);
    }
}

fn add(
    reader: &mut Reader<'_>,
    (name, entries): (At<ServiceName>, &[Entry]),
    is_trusted: bool,
    services: &mut ServicesSpec,
) {
    let Some(service) = compose::service(reader, name, entries, is_trusted) else {
        return;
    };
    for (variable, pattern) in template::exports(entries) {
        let value = |name: &str| match name {
            "host" => Some(service.name.value.to_string()),
            "port" => service.ports.first().map(|port| port.value.to_string()),
            name => {
                let value = service.environment.get(name);
                value.map(|value| value.expose().to_owned())
            }
        };
        if let Some(text) = template::filled(&variable, &pattern, value) {
            // Of two that tell the same, the first is meant.
            let text = SecretString::new(text);
            services.exports.entry(variable).or_insert(text);
        }
    }
    services.list.push(service);
}

/// An entry as a map of services has it.
fn field_of(entry: &Entry) -> Field<'_> {
    Field {
        key: &entry.key,
        node: &entry.node,
    }
}

/// The entries of a service of a file, with its variables as a map.
fn normalised(reader: &mut Reader<'_>, entry: &Entry) -> Vec<Entry> {
    let node: &Rc<Node> = &entry.node;
    merge(&[], &normalise(reader, node, &[]))
}
