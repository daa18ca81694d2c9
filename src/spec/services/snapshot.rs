//! Reads the snapshot of a service: what fills it once, for all tasks.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::hints::SNAPSHOT_KEYS;
use super::super::reader::{Field, Fields, Reader};
use super::super::setup::script;
use super::super::task::placed_patterns;
use super::super::tree::Value;
use super::model::SnapshotSpec;

/// Where nobody keeps data (Filesystem Hierarchy Standard 3.0: /run, /tmp, /var/run, /var/tmp).
const PASSING: [&str; 5] = ["/dev/shm", "/run", "/tmp", "/var/run", "/var/tmp"];

/// Reads it, and says what a service cannot have beside it.
pub(super) fn read(
    reader: &mut Reader<'_>,
    field: Field<'_>,
    (service, tmpfs): (Fields<'_>, &BTreeMap<String, String>),
) -> Option<SnapshotSpec> {
    let fields = reader.fields(field, "a map with `script` and `files`", SNAPSHOT_KEYS)?;
    let is_on = |key| {
        let value = service.get(key).map(|field| &field.node.value);
        matches!(value, Some(Value::Scalar { text, .. }) if text == "true")
    };
    if service.get("depends_on").is_some() {
        let title = "`snapshot` of a service that depends on others";
        let hint = "a snapshot is made with its service alone: take out one of `snapshot` and `depends_on`";
        reader.problem(field.span(), title, hint);
    }
    if is_on("read_only") {
        let title = "`snapshot` of a service whose file system is read-only";
        let hint = "take out `read_only`: a snapshot is what the service wrote in its file system";
        reader.problem(field.span(), title, hint);
    }
    let is_for_data = |path: &&String| !PASSING.iter().any(|top| Path::new(path).starts_with(top));
    if let Some(path) = tmpfs.keys().find(is_for_data) {
        let title = format!("`snapshot` of a service with a `tmpfs` at {path}");
        let hint =
            "take it out of `tmpfs`: a snapshot has nothing of what the service writes there";
        reader.problem(field.span(), title, hint);
    }
    let files = fields.get("files");
    let files = files.map(|f| placed_patterns(reader, f));
    let Some(text) = fields.get("script") else {
        let hint = "write what fills the service, such as `script: psql < seed.sql`";
        reader.problem(field.span(), "`snapshot` has no `script`", hint);
        return None;
    };
    Some(SnapshotSpec {
        script: script(reader, text, "snapshot")?,
        files: files.unwrap_or_default(),
    })
}
