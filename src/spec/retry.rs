//! Reads `retry`: a number of further attempts, or a map that also says what they follow.

use std::time::Duration;

use super::hints::RETRY_KEYS;
use super::model::{Retry, RetryCause};
use super::reader::{Field, Fields, Reader};
use super::tree::Value;
use super::units;

/// Most attempts that follow the first.
pub const MOST_RETRIES: u32 = 10;

const WORDS: &[(&str, Option<RetryCause>)] = &[
    ("infra_failure", Some(RetryCause::InfraFailure)),
    ("pull_failure", Some(RetryCause::PullFailure)),
    ("service_failure", Some(RetryCause::ServiceFailure)),
    ("timeout", Some(RetryCause::Timeout)),
    ("oom", Some(RetryCause::Oom)),
    ("exit_code", Some(RetryCause::ExitCode)),
    ("verify_failure", Some(RetryCause::VerifyFailure)),
    ("rate_limited", Some(RetryCause::RateLimited)),
    ("any", None),
];

pub(super) fn retry(reader: &mut Reader<'_>, field: Field<'_>) -> Option<Retry> {
    if matches!(field.node.value, Value::Scalar { .. }) {
        return Some(Retry {
            max: max(reader, field)?,
            ..Retry::default()
        });
    }
    let fields = reader.fields(field, "a number, or `max` and more", RETRY_KEYS)?;
    let max = fields.get("max").map_or(Some(1), |f| max(reader, f));
    let when = when(reader, fields);
    let exit_codes = exit_codes(reader, fields, when.as_deref());
    let backoff = fields.get("backoff").map_or(Some(Duration::ZERO), |f| {
        let backoff = reader.value(f, "a duration", units::duration);
        backoff.map(|at| at.value)
    });
    let (when, exit_codes) = (when?, exit_codes?);
    let of_codes_only = when.is_empty() && !exit_codes.is_empty();
    Some(Retry {
        max: max?,
        when: if of_codes_only {
            vec![RetryCause::ExitCode]
        } else {
            when
        },
        exit_codes,
        backoff: backoff?,
    })
}

fn max(reader: &mut Reader<'_>, field: Field<'_>) -> Option<u32> {
    let max = reader.integer(field, (0, MOST_RETRIES.into()))?;
    u32::try_from(max.value).ok()
}

/// The causes; none of them for whatever it is.
fn when(reader: &mut Reader<'_>, fields: Fields<'_>) -> Option<Vec<RetryCause>> {
    let Some(field) = fields.get("when") else {
        return Some(Vec::new());
    };
    let words = reader.one_or_many(field, "a word or a list of words");
    if words.is_empty() && matches!(field.node.value, Value::List(_)) {
        let hint = "write `any`, or `max: 0` for no further attempt";
        reader.problem(field.span(), "`when` is empty", hint);
    }
    let causes = words.into_iter().map(|f| reader.word(f, WORDS));
    let causes: Vec<_> = causes.collect();
    let causes: Vec<Option<RetryCause>> = causes.into_iter().collect::<Option<_>>()?;
    let any = causes.contains(&None);
    (!causes.is_empty()).then(|| {
        if any {
            Vec::new()
        } else {
            causes.into_iter().flatten().collect()
        }
    })
}

/// The exit codes, which say which of those are meant that `when` names.
fn exit_codes(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    when: Option<&[RetryCause]>,
) -> Option<Vec<u8>> {
    let Some(field) = fields.get("exit_codes") else {
        return Some(Vec::new());
    };
    let is_of_use = |causes: &[RetryCause]| causes.contains(&RetryCause::ExitCode);
    if fields.get("when").is_some() && when.is_some_and(|causes| !is_of_use(causes)) {
        let title = "`exit_codes` without `exit_code` in `when`";
        let hint = "write `exit_code` into `when`, and no `any`";
        reader.problem(field.span(), title, hint);
    }
    let codes = reader.one_or_many(field, "an exit code or a list of exit codes");
    let codes = codes.iter().map(|f| {
        let code = reader.integer(*f, (1, 255))?;
        u8::try_from(code.value).ok()
    });
    codes.collect::<Vec<_>>().into_iter().collect()
}
