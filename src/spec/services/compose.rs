//! Reads one service in the words of compose-spec: the part of them that is taken over.

use std::collections::BTreeMap;

use super::super::diagnostic::shown;
use super::super::hints::{DEPENDS_ON_KEYS, HEALTHCHECK_KEYS, SERVICE_KEYS, did_you_mean};
use super::super::limits;
use super::super::merge::variable_name;
use super::super::reader::{Field, Fields, Reader};
use super::super::source::At;
use super::super::task::{PULL_POLICIES, words};
use super::super::tree::{Entry, Value};
use super::super::units::{self, BadValue};
use super::model::{DependsOn, ServiceSpec};
use super::{refused, snapshot, trusted};
use crate::engine::config::Healthcheck;
use crate::id::ServiceName;
use crate::secrets::SecretString;

/// Most failures in a row that a healthcheck may have.
const MOST_RETRIES: i64 = 1000;

/// Keys that compose does not have.
pub(super) const OF_A_SPEC: &[&str] = &["template", "snapshot", "trust"];

/// Says of each key that is not taken over why; `also` are keys of the place.
pub(super) fn check_keys(reader: &mut Reader<'_>, name: &str, entries: &[Entry], also: &[&str]) {
    let fits = |key: &&str| !OF_A_SPEC.contains(key) || also.contains(key);
    for entry in entries {
        let key = entry.key.as_str();
        if key.starts_with("x-") || (SERVICE_KEYS.contains(&key) && fits(&key)) {
            continue;
        }
        let (key, name) = (shown(key), shown(name));
        let (title, hint) = match refused::of_service(&entry.key) {
            Some(refusal) => (
                format!("`{key}` of service `{name}` {}", refusal.what),
                refusal.hint.to_owned(),
            ),
            None => (
                format!("unknown key `{key}` in service `{name}`"),
                did_you_mean(&entry.key, SERVICE_KEYS.iter().copied().filter(fits)),
            ),
        };
        reader.problem(entry.key_span, title, hint);
    }
}

/// Reads a service whose keys were checked, and whose variables are a map.
pub(super) fn service(
    reader: &mut Reader<'_>,
    name: At<ServiceName>,
    entries: &[Entry],
    is_trusted: bool,
) -> Option<ServiceSpec> {
    let fields = Fields(entries);
    let limit = |reader: &mut Reader<'_>, key, read: fn(&mut Reader<'_>, Field<'_>) -> _| {
        let read: Option<At<i64>> = fields.get(key).and_then(|f| read(reader, f));
        read.map(|at| at.value)
    };
    let line = |reader: &mut Reader<'_>, key| {
        let read = fields.get(key).and_then(|f| reader.line(f));
        read.map(|at: At<String>| at.value)
    };
    let (trusted, mounts) = trusted::read(reader, &name.value, fields, is_trusted);
    let ports = ports(reader, fields);
    let healthcheck = fields.get("healthcheck").map(|f| healthcheck(reader, f));
    let image = fields.get("image").map(|f| reader.name(f, "an image"));
    if image.is_none() {
        let title = format!("service `{}` has no `image`", name.value);
        let hint = "write one, such as `image: nginx:1.27`, or `template`";
        reader.problem(name.span, title, hint);
    }
    let cpus = fields.get("cpus").and_then(|f| limits::cpus(reader, f));
    let tmpfs = fields.get("tmpfs").map(|f| limits::tmpfs(reader, f));
    let tmpfs = tmpfs.unwrap_or_default();
    Some(ServiceSpec {
        pull_policy: fields
            .get("pull_policy")
            .and_then(|f| reader.word(f, &PULL_POLICIES[..3])),
        entrypoint: fields.get("entrypoint").and_then(|f| words(reader, f)),
        command: fields.get("command").and_then(|f| words(reader, f)),
        environment: environment(reader, fields.get("environment")),
        user: line(reader, "user"),
        working_dir: line(reader, "working_dir"),
        read_only: fields
            .get("read_only")
            .and_then(|f| reader.claim(f))
            .unwrap_or(false),
        cpus: cpus.map(|at| at.value),
        mem_limit: limit(reader, "mem_limit", limits::memory),
        pids_limit: limit(reader, "pids_limit", limits::pids),
        shm_size: limit(reader, "shm_size", limits::size),
        ulimits: fields
            .get("ulimits")
            .map(|f| limits::ulimits(reader, f))
            .unwrap_or_default(),
        healthcheck: healthcheck.unwrap_or_default(),
        ports,
        depends_on: fields
            .get("depends_on")
            .map(|f| depends_on(reader, f))
            .unwrap_or_default(),
        snapshot: fields
            .get("snapshot")
            .and_then(|f| snapshot::read(reader, f, (fields, &tmpfs))),
        tmpfs,
        trusted,
        mounts,
        image: image??,
        name,
    })
}

fn environment(
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
        if variable_name(reader, &entry.key, entry.key_span)
            && let Some(value) = reader.text(variable, "a single value")
        {
            variables.insert(entry.key.clone(), SecretString::new(value));
        }
    }
    variables
}

fn healthcheck(reader: &mut Reader<'_>, field: Field<'_>) -> Healthcheck {
    let Some(fields) = reader.fields(field, "a map with `test`", HEALTHCHECK_KEYS) else {
        return Healthcheck::default();
    };
    let mut time = |key| {
        let field = fields.get(key)?;
        let read = reader.value(field, "a duration", units::duration);
        read.map(|at| at.value)
    };
    let (interval, timeout) = (time("interval"), time("timeout"));
    let (start_period, start_interval) = (time("start_period"), time("start_interval"));
    let retries = fields.get("retries");
    let retries = retries.and_then(|f| reader.integer(f, (1, MOST_RETRIES)));
    let disable = fields.get("disable").and_then(|f| reader.claim(f));
    let test = fields.get("test").and_then(|f| test(reader, f));
    Healthcheck {
        disable: disable.unwrap_or(false) || test.as_ref().is_some_and(Vec::is_empty),
        test: test.filter(|words| !words.is_empty()),
        interval,
        timeout,
        retries: retries.and_then(|at| u32::try_from(at.value).ok()),
        start_period,
        start_interval,
    }
}

/// The words of a test; none where it says that there is none.
fn test(reader: &mut Reader<'_>, field: Field<'_>) -> Option<Vec<String>> {
    let shell = |line: String| vec!["/bin/sh".to_owned(), "-c".to_owned(), line];
    if matches!(field.node.value, Value::Scalar { .. }) {
        return Some(shell(reader.line(field)?.value));
    }
    let items = reader.items(field, "a text or a list");
    let words: Vec<Option<String>> = items.iter().map(|f| reader.text(*f, "text")).collect();
    let words: Vec<String> = words.into_iter().collect::<Option<_>>()?;
    match words.split_first() {
        Some((first, [])) if first == "NONE" => Some(Vec::new()),
        Some((first, [line])) if first == "CMD-SHELL" => Some(shell(line.clone())),
        Some((first, rest)) if first == "CMD" && !rest.is_empty() => Some(rest.to_vec()),
        _ => {
            let hint = "write `[CMD, …]` and words, `[CMD-SHELL, …]` and one line, or `[NONE]`";
            reader.problem(field.span(), "`test` is no test", hint);
            None
        }
    }
}

fn depends_on(reader: &mut Reader<'_>, field: Field<'_>) -> Vec<DependsOn> {
    const CONDITIONS: &[(&str, bool)] = &[("service_started", false), ("service_healthy", true)];
    if !matches!(field.node.value, Value::Map(_)) {
        let items = reader.one_or_many(field, "a list of services, or a map");
        let names = items.into_iter();
        let names = names.filter_map(|item| reader.name(item, "a service"));
        return names
            .map(|service| DependsOn {
                service,
                ready: false,
            })
            .collect();
    }
    let mut all = Vec::new();
    for entry in reader.entries(field, "a list of services, or a map") {
        let of = Field {
            key: &entry.key,
            node: &entry.node,
        };
        let fields = reader.fields(of, "a map with `condition`", DEPENDS_ON_KEYS);
        let ready = fields.and_then(|fields| fields.get("condition"));
        let ready = ready.map_or(Some(false), |f| reader.word(f, CONDITIONS));
        match entry.key.parse::<ServiceName>() {
            Ok(value) => {
                let span = entry.key_span;
                let service = At { value, span };
                let ready = ready.unwrap_or(false);
                all.push(DependsOn { service, ready });
            }
            Err(error) => reader.problem(entry.key_span, error.to_string(), ""),
        }
    }
    all
}

/// Where it listens, by `expose` and by the second half of `ports`: nothing is published.
fn ports(reader: &mut Reader<'_>, fields: Fields<'_>) -> Vec<At<u16>> {
    let mut ports: Vec<At<u16>> = Vec::new();
    for (key, is_published) in [("expose", false), ("ports", true)] {
        let Some(field) = fields.get(key) else {
            continue;
        };
        for item in reader.items(field, "a list of ports") {
            let port = reader.value(item, "a port", |text| port(text, is_published));
            let is_new = |port: &At<u16>| ports.iter().all(|known| known.value != port.value);
            ports.extend(port.filter(is_new));
        }
    }
    ports
}

fn port(text: &str, is_published: bool) -> Result<u16, BadValue> {
    let bad = |problem| {
        let hint = if is_published {
            "write a port of the service, such as 8080, or `HOST:8080`"
        } else {
            "write a port, such as 8080"
        };
        Err(BadValue::new(problem, hint))
    };
    let (text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if protocol != "tcp" {
        return bad("is no TCP port");
    }
    let own = match text.rsplit_once(':') {
        Some((_, own)) if is_published => own,
        _ => text,
    };
    match own.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => bad("is no port"),
    }
}
