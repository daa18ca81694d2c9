//! Reads the limits of a task that have rules of their own.

use std::collections::BTreeMap;

use super::hints::{COLLECT_KEYS, COLLECT_LIMITS_KEYS, ULIMIT_KEYS, did_you_mean};
use super::model::{CollectLimitsSpec, CollectSpec, NanoCpus};
use super::reader::{Field, Fields, Reader};
use super::source::At;
use super::tree::Value;
use super::units::{self, BadValue};
use crate::engine::config::Ulimit;

/// The least memory that Docker gives a container (moby, `linuxMinMemory`).
const LEAST_MEMORY: i64 = 6 << 20;

/// The least log and the least disk: some of the longest records, a worktree of some files.
const LEAST_STORAGE: i64 = 1 << 20;

/// The kernel's highest process id (`PID_MAX_LIMIT`).
const MOST_PIDS: i64 = 1 << 22;

/// Most of anything that is counted in a result.
const MOST_COUNTED: i64 = 1_000_000_000;

/// The deepest tree that git itself reads (`core.maxTreeDepth`, by default).
const DEEPEST: i64 = 2048;

/// The limits that setrlimit(2) knows, by Docker's names.
const ULIMITS: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn cpus(reader: &mut Reader<'_>, field: Field<'_>) -> Option<At<NanoCpus>> {
    reader.value(field, "a number of CPUs", |text| {
        units::nano_cpus(text).map(NanoCpus)
    })
}

pub(super) fn memory(reader: &mut Reader<'_>, field: Field<'_>) -> Option<At<i64>> {
    reader.value(field, "a size", |text| match units::bytes(text)? {
        size if size < LEAST_MEMORY => {
            let hint = "write at least 6m, the least that an engine takes";
            Err(BadValue::new("is too little", hint))
        }
        size => Ok(size),
    })
}

pub(super) fn size(reader: &mut Reader<'_>, field: Field<'_>) -> Option<At<i64>> {
    reader.value(field, "a size", |text| match units::bytes(text)? {
        0 => Err(BadValue::new("is too little", "write a size such as 64m")),
        size => Ok(size),
    })
}

pub(super) fn storage(reader: &mut Reader<'_>, field: Field<'_>) -> Option<At<i64>> {
    reader.value(field, "a size", |text| match units::bytes(text)? {
        size if size < LEAST_STORAGE => Err(BadValue::new("is too little", "write at least 1m")),
        size => Ok(size),
    })
}

pub(super) fn pids(reader: &mut Reader<'_>, field: Field<'_>) -> Option<At<i64>> {
    reader.integer(field, (1, MOST_PIDS))
}

/// How the tasks' work is taken.
pub(super) fn collect(reader: &mut Reader<'_>, field: Field<'_>) -> Option<CollectSpec> {
    let fields = reader.fields(field, "a map with `limits`", COLLECT_KEYS)?;
    let Some(field) = fields.get("limits") else {
        return Some(CollectSpec::default());
    };
    let fields = reader.fields(field, "a map of limits", COLLECT_LIMITS_KEYS)?;
    let time = fields.get("time");
    let time = time.and_then(|f| reader.value(f, "a duration", units::duration));
    let limits = CollectLimitsSpec {
        bundle: taken_size(reader, fields, "bundle"),
        total: taken_size(reader, fields, "total"),
        file: taken_size(reader, fields, "file"),
        commits: taken_number(reader, fields, "commits", MOST_COUNTED),
        objects: taken_number(reader, fields, "objects", MOST_COUNTED),
        paths: taken_number(reader, fields, "paths", MOST_COUNTED),
        depth: taken_number(reader, fields, "depth", DEEPEST),
        trees: taken_size(reader, fields, "trees"),
        leftovers: taken_size(reader, fields, "leftovers"),
        time: time.map(|at| at.value),
    };
    Some(CollectSpec { limits })
}

fn taken_size(reader: &mut Reader<'_>, fields: Fields<'_>, key: &str) -> Option<u64> {
    let size = size(reader, fields.get(key)?)?;
    u64::try_from(size.value).ok()
}

fn taken_number(reader: &mut Reader<'_>, fields: Fields<'_>, key: &str, most: i64) -> Option<u64> {
    let number = reader.integer(fields.get(key)?, (1, most))?;
    u64::try_from(number.value).ok()
}

pub(super) fn ulimits(reader: &mut Reader<'_>, field: Field<'_>) -> BTreeMap<String, Ulimit> {
    let mut limits = BTreeMap::new();
    for entry in reader.entries(field, "a map of limits") {
        if entry.key.starts_with("x-") {
            continue;
        }
        if !ULIMITS.contains(&entry.key.as_str()) {
            let title = format!(
                "unknown limit `{}` in `ulimits`",
                super::diagnostic::shown(&entry.key)
            );
            let mut hint = did_you_mean(&entry.key, ULIMITS.iter().copied());
            if hint.is_empty() {
                hint = format!("write one of: {}", ULIMITS.join(", "));
            }
            reader.problem(entry.key_span, title, hint);
            continue;
        }
        let field = Field {
            key: &entry.key,
            node: &entry.node,
        };
        if let Some(limit) = ulimit(reader, field) {
            limits.insert(entry.key.clone(), limit);
        }
    }
    limits
}

fn ulimit(reader: &mut Reader<'_>, field: Field<'_>) -> Option<Ulimit> {
    const BOUNDS: (i64, i64) = (-1, i64::MAX);
    if matches!(field.node.value, Value::Scalar { .. }) {
        let both = reader.integer(field, BOUNDS)?.value;
        return Some(Ulimit {
            soft: both,
            hard: both,
        });
    }
    let fields = reader.fields(field, "a number, or `soft` and `hard`", ULIMIT_KEYS)?;
    let mut part = |key| fields.get(key).map(|f| reader.integer(f, BOUNDS));
    let (Some(soft), Some(hard)) = (part("soft"), part("hard")) else {
        let title = format!("`{}` needs both `soft` and `hard`", field.key);
        reader.problem(field.span(), title, "");
        return None;
    };
    let (soft, hard) = (soft?.value, hard?.value);
    if hard != -1 && (soft == -1 || soft > hard) {
        let title = format!("`{}` has a soft limit above its hard limit", field.key);
        reader.problem(field.span(), title, "");
        return None;
    }
    Some(Ulimit { soft, hard })
}

pub(super) fn tmpfs(reader: &mut Reader<'_>, field: Field<'_>) -> BTreeMap<String, String> {
    let mut mounts = BTreeMap::new();
    for item in reader.one_or_many(field, "a path or a list of paths") {
        let Some(mount) = reader.value(item, "a path", tmpfs_mount) else {
            continue;
        };
        let (path, options) = mount.value;
        if mounts.insert(path, options).is_some() {
            reader.problem(item.span(), "`tmpfs` names the same path twice", "");
        }
    }
    mounts
}

fn tmpfs_mount(text: &str) -> Result<(String, String), BadValue> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let path = path.trim_end_matches('/');
    let hint = "write a path such as /cache or /cache:size=1g,mode=1777";
    if !path.starts_with('/') || path.split('/').any(|part| part == ".." || part == ".") {
        return Err(BadValue::new("is not an absolute path below /", hint));
    }
    let ours = ["/proc", "/sys", "/dev", "/run/secrets"];
    // Below these the engine would make root's directories in what the task brings back or leaves.
    let mounted = ["/workspace", "/home/agent", "/agent"];
    let is_below = |top: &str| {
        path.strip_prefix(top)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if ours.contains(&path) || mounted.iter().any(|top| is_below(top)) {
        return Err(BadValue::new(
            "is in the place of something that a task needs",
            hint,
        ));
    }
    let options: Result<Vec<String>, BadValue> = options
        .split(',')
        .filter(|o| !o.is_empty())
        .map(tmpfs_option)
        .collect();
    Ok((path.to_owned(), options?.join(",")))
}

/// The options of tmpfs that Docker takes; sizes as bytes, since the kernel knows fewer units.
fn tmpfs_option(option: &str) -> Result<String, BadValue> {
    const FLAGS: &[&str] = &[
        "rw", "ro", "exec", "noexec", "suid", "nosuid", "dev", "nodev",
    ];
    let hint = || {
        format!(
            "`{option}`: write size=SIZE, mode=OCTAL, uid=N, gid=N, {}",
            FLAGS.join(", ")
        )
    };
    let bad = || Err(BadValue::new("has an option that is not known", hint()));
    match option.split_once('=') {
        None if FLAGS.contains(&option) => Ok(option.to_owned()),
        Some(("size", size)) => match units::bytes(size)? {
            0 => Err(BadValue::new(
                "has no size",
                "write a size such as size=64m",
            )),
            size => Ok(format!("size={size}")),
        },
        Some(("mode", mode)) if u32::from_str_radix(mode, 8).is_ok_and(|m| m <= 0o7777) => {
            Ok(option.to_owned())
        }
        Some(("uid" | "gid", id)) if id.parse::<u32>().is_ok() => Ok(option.to_owned()),
        _ => bad(),
    }
}
