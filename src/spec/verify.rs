//! Reads `verify`, a script or a map with more, and `feedback`, which needs it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::hints::VERIFY_KEYS;
use super::model::SecretGrant;
use super::reader::{Field, Fields, Reader};
use super::source::At;
use super::task::{grants, script};
use super::tree::Value;
use super::units;
use crate::id::ImageRef;
use crate::secrets::SecretString;

/// Most attempts that go on from a result that failed its verification.
pub const MOST_FEEDBACK: u32 = 10;

/// What a task's result has to pass.
#[derive(Debug, Clone)]
pub struct VerifySpec {
    /// The script.
    pub run: At<String>,
    /// Its time limit.
    pub timeout: Option<Duration>,
    /// The image that it runs in.
    pub image: Option<At<ImageRef>>,
    /// The secrets that it is granted.
    pub secrets: Vec<SecretGrant>,
}

pub(super) fn verify(
    reader: &mut Reader<'_>,
    field: Field<'_>,
    declared: &[&str],
    environment: &BTreeMap<String, SecretString>,
) -> Option<VerifySpec> {
    if matches!(field.node.value, Value::Scalar { .. }) {
        return Some(VerifySpec {
            run: script(reader, field)?,
            timeout: None,
            image: None,
            secrets: Vec::new(),
        });
    }
    let fields = reader.fields(field, "a script, or `run` and more", VERIFY_KEYS)?;
    let timeout = fields.get("timeout").map(|f| {
        let timeout = reader.value(f, "a duration", units::duration);
        timeout.map(|at| at.value)
    });
    let image = fields.get("image").map(|f| reader.name(f, "an image"));
    let secrets = fields.get("secrets");
    let secrets = secrets.map(|f| grants(reader, f, declared, environment));
    let Some(run) = fields.get("run") else {
        let hint = "write the script that checks the result, such as `run: make test`";
        reader.problem(field.span(), "`verify` has no `run`", hint);
        return None;
    };
    Some(VerifySpec {
        run: script(reader, run)?,
        timeout: timeout.map_or(Some(None), |given| given.map(Some))?,
        image: image.map_or(Some(None), |given| given.map(Some))?,
        secrets: secrets.unwrap_or_default(),
    })
}

/// How many attempts go on from a result at most. `defaults` may leave `verify` to the tasks.
pub(super) fn feedback(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    is_defaults: bool,
) -> Option<u32> {
    let field = fields.get("feedback")?;
    if !is_defaults && fields.get("verify").is_none() {
        let title = "`feedback` without `verify`";
        let hint = "write `verify` and a script: what it says is what the agent is told";
        reader.problem(field.span(), title, hint);
    }
    let most = reader.integer(field, (0, MOST_FEEDBACK.into()))?;
    u32::try_from(most.value).ok()
}
