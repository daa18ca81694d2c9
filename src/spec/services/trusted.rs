//! Reads what a service has of the host: nothing, unless the spec says that it is trusted.

use std::path::{Path, PathBuf};

use super::super::diagnostic::shown;
use super::super::reader::{Field, Fields, Reader};
use super::super::source::Span;
use super::super::tree::Value;
use super::super::units::BadValue;
use crate::engine::config::{Mount, Trusted};
use crate::id::ServiceName;

/// The keys that give a service something of the host.
const KEYS: [&str; 4] = ["privileged", "cap_add", "devices", "pid"];

/// Reads them; where the service is not trusted, each is a problem.
pub(super) fn read(
    reader: &mut Reader<'_>,
    name: &ServiceName,
    fields: Fields<'_>,
    is_trusted: bool,
) -> (Trusted, Vec<Mount>) {
    if !is_trusted {
        let found = fields.0.iter().filter(|e| KEYS.contains(&e.key.as_str()));
        for entry in found.filter(|e| !matches!(e.node.value, Value::Null)) {
            let key = &entry.key;
            let title = format!("`{key}` of service `{name}` breaks the isolation of the task");
            reader.problem(entry.key_span, title, HINT);
        }
    }
    let list = |reader: &mut Reader<'_>, key, read: fn(&str) -> Result<String, BadValue>| {
        let items = fields.get(key).map(|f| reader.items(f, "a list of texts"));
        let items = items.unwrap_or_default().into_iter();
        let read = items.filter_map(|item| reader.value(item, "text", read));
        read.map(|at| at.value).collect::<Vec<_>>()
    };
    let privileged = fields.get("privileged").and_then(|f| reader.claim(f));
    let pid = fields.get("pid");
    let host_pid = pid.and_then(|f| reader.word(f, &[("host", true)]));
    let trusted = Trusted {
        privileged: privileged.unwrap_or(false),
        cap_add: list(reader, "cap_add", capability),
        devices: list(reader, "devices", device),
        host_pid: host_pid.unwrap_or(false),
    };
    let mounts = fields.get("volumes");
    let mounts = mounts.map(|field| volumes(reader, field, is_trusted));
    (trusted, mounts.unwrap_or_default())
}

const HINT: &str = "remove it: a service has no more of the host than its task; \
                    or write `trust: true` in the spec, if it may have all of the host";

fn capability(text: &str) -> Result<String, BadValue> {
    let name = text.strip_prefix("CAP_").unwrap_or(text);
    let fits = |b: u8| b.is_ascii_uppercase() || b == b'_';
    if !name.is_empty() && name.bytes().all(fits) {
        return Ok(name.to_owned());
    }
    Err(BadValue::new(
        "is no capability",
        "write one such as SYS_PTRACE",
    ))
}

fn device(text: &str) -> Result<String, BadValue> {
    let words: Vec<&str> = text.split(':').collect();
    let rights = |text: &str| !text.is_empty() && text.bytes().all(|b| b"rwm".contains(&b));
    let fits = match words[..] {
        [path] => path.starts_with('/'),
        [path, inside] => path.starts_with('/') && inside.starts_with('/'),
        [path, inside, may] => path.starts_with('/') && inside.starts_with('/') && rights(may),
        _ => false,
    };
    if fits {
        return Ok(text.to_owned());
    }
    Err(BadValue::new(
        "is no device",
        "write `/dev/x` or `/dev/x:/dev/inside:rwm`",
    ))
}

/// What a trusted service has of the host. A volume without a place there is a directory of the service's
/// own anyway.
fn volumes(reader: &mut Reader<'_>, field: Field<'_>, is_trusted: bool) -> Vec<Mount> {
    let mut mounts = Vec::new();
    for item in reader.items(field, "a list of volumes") {
        if let Value::Map(_) = &item.node.value {
            let hint =
                "write `name:/path`, a directory that ends with the task, or `/path/on/host:/path`";
            reader.problem(item.span(), "a volume as a map is not supported", hint);
            continue;
        }
        let Some(text) = reader.text(item, "a text") else {
            continue;
        };
        let words: Vec<&str> = text.split(':').collect();
        let (source, target, mode) = match words[..] {
            [target] => ("", target, "rw"),
            [source, target] => (source, target, "rw"),
            [source, target, mode] => (source, target, mode),
            _ => ("", "", ""),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        let is_own = source.chars().all(is_name);
        let fits = target.starts_with('/') && ["rw", "ro"].contains(&mode);
        if !fits || (is_own && mode == "ro") {
            let title = format!("the volume `{}` is not supported", shown(&text));
            let hint = "write `name:/path`: a directory that ends with the task";
            reader.problem(item.span(), title, hint);
        } else if !is_own && !is_trusted {
            on_host(reader, item.span());
        } else if !is_own {
            mounts.push(Mount {
                source: place(reader, source),
                target: target.to_owned(),
                read_only: mode == "ro",
            });
        }
    }
    mounts
}

/// A path of the host, relative to the file that names it.
fn place(reader: &Reader<'_>, source: &str) -> PathBuf {
    let home = (reader.context.environment)("HOME");
    let path = match (source.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => reader.context.directory.join(source),
    };
    // Without the `.` of `./data`.
    path.components().collect()
}

fn on_host(reader: &mut Reader<'_>, span: Span) {
    let title = "a volume with a place on the host breaks the isolation of the task";
    let hint = "write a name in place of the path: a directory that ends with the task; \
                or `trust: true` in the spec, if the service may have all of the host";
    reader.problem(span, title, hint);
}
