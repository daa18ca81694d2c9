//! Reads `setup`, which prepares what tasks share, and `cache`, the directories that they keep.

use std::collections::BTreeMap;

use super::hints::{CACHE_KEYS, SETUP_KEYS};
use super::model::{Cache, CacheMode, SetupSpec, SetupUser};
use super::reader::{Field, Fields, Reader};
use super::source::At;
use super::task::grants;
use super::tree::Value;
use super::units::BadValue;
use crate::id::WorktreePath;
use crate::secrets::SecretString;

const USERS: &[(&str, SetupUser)] = &[("agent", SetupUser::Agent), ("root", SetupUser::Root)];

const MODES: &[(&str, CacheMode)] = &[
    ("shared", CacheMode::Shared),
    ("private", CacheMode::Private),
];

/// Directories inside that are not a cache's to cover.
const TAKEN: &[&str] = &[
    "/workspace",
    "/agent",
    "/run/secrets",
    "/proc",
    "/sys",
    "/dev",
    "/etc",
    "/tmp",
];
const HOME: &str = "/home/agent";

/// Reads a setup; it sees the task's variables.
pub(super) fn setup(
    reader: &mut Reader<'_>,
    field: Field<'_>,
    declared: &[&str],
    environment: &BTreeMap<String, SecretString>,
) -> Option<SetupSpec> {
    if matches!(field.node.value, Value::Scalar { .. }) {
        return Some(SetupSpec {
            run: script(reader, field, "setup")?,
            files: Vec::new(),
            paths: Vec::new(),
            user: SetupUser::Root,
            secrets: Vec::new(),
        });
    }
    let fields = reader.fields(field, "a script, or `run` and more", SETUP_KEYS)?;
    let run = fields.get("run").map(|f| script(reader, f, "setup"));
    let files = paths(reader, fields, "files", "package-lock.json");
    let paths = paths(reader, fields, "paths", "node_modules");
    distinct(reader, &paths);
    let user = fields.get("user").map(|f| (f, reader.word(f, USERS)));
    if let Some((field, Some(SetupUser::Agent))) = user
        && fields.get("paths").is_none()
    {
        let title = "a setup of `user: agent` without `paths` leaves nothing";
        let hint = "name the directories to keep, such as `paths: [node_modules]`; \
                    what is installed into the image needs `user: root`";
        reader.problem(field.span(), title, hint);
    }
    let secrets = fields.get("secrets");
    let secrets = secrets.map(|f| grants(reader, f, declared, environment));
    let Some(run) = run else {
        let hint = "write the script, such as `run: npm ci`";
        reader.problem(field.span(), "`setup` has no `run`", hint);
        return None;
    };
    let default = match fields.get("paths") {
        Some(_) => SetupUser::Agent,
        None => SetupUser::Root,
    };
    Some(SetupSpec {
        run: run?,
        user: user.map_or(Some(default), |(_, user)| user)?,
        files,
        paths,
        secrets: secrets.unwrap_or_default(),
    })
}

/// The text of a script, in which `$` is the shell's; `of` names whose it is.
pub(super) fn script(reader: &mut Reader<'_>, field: Field<'_>, of: &str) -> Option<String> {
    let text = reader.raw(field, "a script")?;
    if text.trim().is_empty() {
        reader.problem(field.span(), format!("the script of `{of}` is empty"), "");
        return None;
    }
    Some(text.to_owned())
}

fn paths(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    key: &str,
    example: &str,
) -> Vec<At<WorktreePath>> {
    let Some(field) = fields.get(key) else {
        return Vec::new();
    };
    let hint = format!("write a path below the worktree, such as {example}");
    let items = reader.one_or_many(field, "a path or a list of paths");
    let items = items.into_iter().filter_map(|item| {
        reader.value(item, "a path", |text| {
            let parsed = text.parse();
            parsed.map_err(|e: crate::id::InvalidName| BadValue::new(e.problem, hint.clone()))
        })
    });
    items.collect()
}

/// Refuses directories that lie in each other.
fn distinct(reader: &mut Reader<'_>, paths: &[At<WorktreePath>]) {
    for (index, path) in paths.iter().enumerate() {
        let before = paths[..index].iter();
        if let Some(other) = before.map(|at| &at.value).find(|p| p.overlaps(&path.value)) {
            let title = format!(
                "`paths` has {other} and {}, and one lies in the other",
                path.value
            );
            reader.problem(path.span, title, "keep the outer one");
        }
    }
}

/// Reads the caches of a task.
pub(super) fn caches(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Vec<Cache> {
    let mut caches: Vec<Cache> = Vec::new();
    let Some(field) = field else {
        return caches;
    };
    for item in reader.items(field, "a list of `key` and `path`") {
        let Some(cache) = cache(reader, item) else {
            continue;
        };
        let same_key = caches.iter().any(|other| other.key == cache.key);
        let covers = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}/"));
        let overlap =
            |other: &Cache| covers(&other.path, &cache.path) || covers(&cache.path, &other.path);
        if same_key || caches.iter().any(overlap) {
            let title = if same_key {
                format!("`cache` has the key {} twice", cache.key)
            } else {
                format!("`cache` has two for {}", cache.path)
            };
            reader.problem(item.span(), title, "keep one of them");
        } else {
            caches.push(cache);
        }
    }
    caches
}

fn cache(reader: &mut Reader<'_>, field: Field<'_>) -> Option<Cache> {
    let fields = reader.fields(field, "a map with `key` and `path`", CACHE_KEYS)?;
    let key = fields.get("key").map(|f| reader.value(f, "a name", key));
    let path = fields.get("path").map(|f| reader.value(f, "a path", path));
    let mode = fields
        .get("mode")
        .map_or(Some(CacheMode::default()), |f| reader.word(f, MODES));
    let (Some(key), Some(path)) = (key, path) else {
        let hint = "write both, such as `{ key: npm, path: ~/.npm }`";
        reader.problem(field.span(), "a cache needs `key` and `path`", hint);
        return None;
    };
    Some(Cache {
        key: key?.value,
        path: path?.value,
        mode: mode?,
    })
}

/// It becomes the name of a directory.
fn key(text: &str) -> Result<String, BadValue> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let fits = (1..=40).contains(&text.len())
        && plain(text.as_bytes()[0])
        && text.bytes().all(|b| plain(b) || b == b'-' || b == b'_');
    if fits {
        return Ok(text.to_owned());
    }
    let hint = "write at most 40 lower-case letters, digits, `-` and `_`, such as npm";
    Err(BadValue::new("cannot be the key of a cache", hint))
}

fn path(text: &str) -> Result<String, BadValue> {
    let hint = "write an absolute path inside, or one in the home, such as ~/.npm";
    let full = match text.strip_prefix("~/") {
        Some(rest) => format!("{HOME}/{rest}"),
        None => text.to_owned(),
    };
    let full = full.trim_end_matches('/');
    let odd = |part: &str| matches!(part, "" | "." | "..");
    if !full.starts_with('/') || full.split('/').skip(1).any(odd) || full.contains(char::is_control)
    {
        let problem = "is not an absolute path without `.` and `..`";
        return Err(BadValue::new(problem, hint));
    }
    let of = |taken: &str| full == taken || full.starts_with(&format!("{taken}/"));
    if full == HOME || TAKEN.iter().any(|taken| of(taken)) {
        let problem = "is a place that is not free for a cache";
        let hint = if full.starts_with("/workspace") {
            "directories of the worktree are prepared by `setup: { paths: … }`"
        } else {
            hint
        };
        return Err(BadValue::new(problem, hint));
    }
    Ok(full.to_owned())
}
