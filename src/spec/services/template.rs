//! The templates: compose files of one service each, which are part of agent-run.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::reader::Fields;
use super::super::source::SourceFile;
use super::super::tree::{self, Entry, Value};

/// The templates by name.
pub(super) const TEMPLATES: &[(&str, &str)] = &[
    ("mail", include_str!("../../../compose-templates/mail.yaml")),
    (
        "mariadb",
        include_str!("../../../compose-templates/mariadb.yaml"),
    ),
    (
        "postgres",
        include_str!("../../../compose-templates/postgres.yaml"),
    ),
    (
        "rabbitmq",
        include_str!("../../../compose-templates/rabbitmq.yaml"),
    ),
    (
        "redis",
        include_str!("../../../compose-templates/redis.yaml"),
    ),
];

/// The key of a template's own words, of which compose makes nothing.
pub(super) const OWN: &str = "x-agent-run";

/// The keys of a template's service; none where there is no such template.
pub(super) fn entries(name: &str) -> Option<Vec<Entry>> {
    let (_, text) = TEMPLATES.iter().find(|(known, _)| *known == name)?;
    let source = SourceFile::new(name, (*text).to_owned());
    let mut problems = Vec::new();
    let root = tree::parse(&source, &mut problems)?;
    let services = Fields(map(&root.value)).get("services")?;
    let service = map(&services.node.value).first()?;
    Some(map(&service.node.value).to_vec())
}

fn map(value: &Value) -> &[Entry] {
    match value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

/// What a service of such keys tells its task, by variable, before values are filled in.
pub(super) fn exports(entries: &[Entry]) -> BTreeMap<String, String> {
    let own = Fields(entries).0.iter().find(|entry| entry.key == OWN);
    let exports = own.map(|entry| map(&entry.node.value)).unwrap_or_default();
    let exports = exports.iter().filter_map(|entry| {
        let Value::Scalar { text, .. } = &Rc::clone(&entry.node).value else {
            return None;
        };
        Some((entry.key.clone(), text.clone()))
    });
    exports.collect()
}

/// Fills the values of `{names}` into what a template tells; in what is a URL they are escaped. Nothing
/// where one has no value.
pub(super) fn filled(
    variable: &str,
    pattern: &str,
    value: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let mut text = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        let value = value(name)?;
        text.push_str(before);
        if variable.ends_with("_URL") {
            text.push_str(&escaped(&value));
        } else {
            text.push_str(&value);
        }
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

/// What is not unreserved in a URL is escaped (RFC 3986, section 2.3).
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
