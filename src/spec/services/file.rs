//! Reads a project's compose file, as far as its services are meant.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::Context;
use super::super::diagnostic::{Diagnostic, Diagnostics, shown};
use super::super::hints::did_you_mean;
use super::super::interpolate::Names;
use super::super::reader::{Fields, Reader};
use super::super::source::{At, SourceFile};
use super::super::tree::{self, Entry, Value};
use super::model::{ComposeFile, ServiceSpec};
use super::{compose, field_of, normalised, order};
use crate::id::ServiceName;

/// Keys of the top level that are not taken over.
const OTHERS: &[&str] = &["networks", "secrets", "configs", "include", "models"];
/// Keys of the top level that say nothing of what is taken over.
const WITHOUT_MEANING: &[&str] = &["version", "name", "volumes"];

/// The services of a compose file. `has_egress` where their task has an allow-list.
///
/// # Errors
/// What is wrong with the file, placed in it; what the spec asks for and the file does not have, placed
/// in the spec.
pub(in super::super) fn read_file(
    spec: &Arc<SourceFile>,
    context: &Context<'_>,
    file: &ComposeFile,
    has_egress: bool,
) -> Result<Vec<ServiceSpec>, Diagnostics> {
    let at = |title: String, hint: String| {
        Diagnostics::new(spec, vec![Diagnostic::new(file.path.span, title, hint)])
    };
    let source =
        SourceFile::read(&file.path.value).map_err(|e| at(e.to_string(), String::new()))?;
    let source = Arc::new(source);
    let context = &Context {
        directory: file.path.value.parent().unwrap_or(context.directory),
        ..*context
    };
    let mut problems = Vec::new();
    let root = tree::parse(&source, &mut problems);
    let mut reader = Reader {
        source: &source,
        context,
        names: Names::default(),
        problems,
    };
    let root = root.as_ref().map(|root| &root.value);
    let top: &[Entry] = match root {
        Some(Value::Map(entries)) => entries,
        _ => &[],
    };
    for entry in top {
        let key = entry.key.as_str();
        if key != "services" && !WITHOUT_MEANING.contains(&key) && !key.starts_with("x-") {
            let (title, hint) = if OTHERS.contains(&key) {
                let title = format!("`{key}` is not supported");
                (
                    title,
                    "remove it, or name the services that are meant in a file of their own",
                )
            } else {
                (format!("unknown key `{}`", shown(key)), "")
            };
            reader.problem(entry.key_span, title, hint);
        }
    }
    let all: &[Entry] = match Fields(top).get("services") {
        Some(field) => reader.entries(field, "a map of services"),
        None => &[],
    };
    if !reader.problems.is_empty() {
        return Err(Diagnostics::new(&source, reader.problems));
    }
    let meant = meant(all, file).map_err(|diagnostic| Diagnostics::new(spec, vec![diagnostic]))?;
    let mut services = Vec::new();
    for entry in all
        .iter()
        .filter(|entry| meant.contains(entry.key.as_str()))
    {
        let mut trusted = file.trust.iter();
        let is_trusted = trusted.any(|name| name.value.as_str() == entry.key);
        services.extend(service(&mut reader, entry, is_trusted));
    }
    order::check(&mut reader, &services);
    if has_egress {
        order::check_egress(&mut reader, &services);
    }
    Diagnostics::check(&source, reader.problems)?;
    if services.is_empty() {
        return Err(at("the file has no services".into(), String::new()));
    }
    Ok(services)
}

fn service(reader: &mut Reader<'_>, entry: &Entry, is_trusted: bool) -> Option<ServiceSpec> {
    let name = match entry.key.parse::<ServiceName>() {
        Ok(value) => At {
            value,
            span: entry.key_span,
        },
        Err(error) => {
            reader.problem(entry.key_span, error.to_string(), "");
            return None;
        }
    };
    let entries = reader.entries(field_of(entry), "a map");
    compose::check_keys(reader, &entry.key, entries, &[]);
    let entries = normalised(reader, entry);
    compose::service(reader, name, &entries, is_trusted)
}

/// The names of what is meant, with all that it depends on.
fn meant<'a>(all: &'a [Entry], file: &ComposeFile) -> Result<BTreeSet<&'a str>, Diagnostic> {
    let names = || all.iter().map(|entry| entry.key.as_str());
    let known = |name: &At<ServiceName>| names().find(|known| *known == name.value.as_str());
    let asked = file.only.iter().flatten().chain(&file.trust);
    if let Some(name) = asked.into_iter().find(|name| known(name).is_none()) {
        let path = shown(&file.path.value.display().to_string());
        let title = format!("{path} has no service `{}`", name.value);
        let hint = did_you_mean(name.value.as_str(), names());
        return Err(Diagnostic::new(name.span, title, hint));
    }
    let Some(only) = &file.only else {
        return Ok(names().filter(|name| !name.starts_with("x-")).collect());
    };
    let mut meant = BTreeSet::new();
    let mut next: Vec<&str> = only.iter().filter_map(known).collect();
    while let Some(name) = next.pop() {
        let entry = all.iter().find(|entry| entry.key == name);
        let Some(entry) = entry.filter(|_| meant.insert(name)) else {
            continue;
        };
        let Value::Map(fields) = &entry.node.value else {
            continue;
        };
        let on: Vec<&str> = match Fields(fields).get("depends_on").map(|f| &f.node.value) {
            Some(Value::Map(entries)) => entries.iter().map(|entry| entry.key.as_str()).collect(),
            Some(Value::List(nodes)) => {
                let text = |node: &'a std::rc::Rc<tree::Node>| match &node.value {
                    Value::Scalar { text, .. } => Some(text.as_str()),
                    _ => None,
                };
                nodes.iter().filter_map(text).collect()
            }
            _ => Vec::new(),
        };
        next.extend(names().filter(|known| on.contains(known)));
    }
    Ok(meant)
}
