//! `claims`: lists what tasks claim in this repository or on a remote of it, and releases claims.

use anyhow::anyhow;
use jiff::Timestamp;
use serde::Serialize;

use super::args::{ClaimsAction, ClaimsArgs, Format};
use super::error::Failure;
use super::exit_code::Exit;
use super::surroundings::Surroundings;
use super::{print_error, print_json, print_result, target};
use crate::claims::{ClaimError, ClaimRecord, Claims, FoundClaim};
use crate::event::Versioned;
use crate::id::ClaimKey;
use crate::sanitize;

#[derive(Serialize)]
struct Listed {
    claims: Vec<ListedClaim>,
}

/// A claim as it is listed.
#[derive(Serialize)]
struct ListedClaim {
    #[serde(rename = "ref")]
    name: String,
    /// Whether its holder is gone: the next who wants it gets it.
    is_over: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<ClaimRecord>,
    /// Why nobody can tell whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub(super) fn claims(surroundings: &Surroundings, arguments: &ClaimsArgs) -> Result<Exit, Failure> {
    let Some(repository) = target::repository(surroundings)? else {
        let error = anyhow!("{} is in no repository", surroundings.directory.display());
        let failure = Failure::new(Exit::EnvironmentUnusable, error);
        return Err(failure.hint("go to the repository whose claims are meant"));
    };
    let remote = arguments.remote.as_deref();
    if remote.is_some_and(|name| name.is_empty() || name.starts_with('-')) {
        return Err(Failure::new(Exit::Usage, anyhow!("that is no remote")));
    }
    let claims = Claims::of(&repository, remote);
    if let Some(ClaimsAction::Release { key, force }) = &arguments.action {
        return release(claims, key, *force);
    }
    let now = Timestamp::now();
    let listed: Vec<ListedClaim> = claims
        .list()?
        .into_iter()
        .map(|(name, found)| listed(name, found, now))
        .collect();
    if arguments.print.format == Format::Json {
        return print_json(&Versioned::new(Listed { claims: listed }));
    }
    if listed.is_empty() {
        print_error("nothing is claimed\n");
    }
    print_result(&listed.iter().map(line).collect::<String>());
    Ok(Exit::Success)
}

fn listed(name: String, found: FoundClaim, now: Timestamp) -> ListedClaim {
    let is_over = found
        .record
        .as_ref()
        .is_ok_and(|record| record.is_over(now));
    let (claim, problem) = match found.record {
        Ok(record) => (Some(record), None),
        Err(problem) => (None, Some(problem)),
    };
    ListedClaim {
        name,
        is_over,
        claim,
        problem,
    }
}

/// Names are from a place that others write to.
fn line(listed: &ListedClaim) -> String {
    let clean = |text: &str| sanitize::line(text.as_bytes(), false);
    let Some(claim) = &listed.claim else {
        let problem = listed.problem.as_deref().unwrap_or_default();
        return format!("{}  is no claim: {problem}\n", clean(&listed.name));
    };
    let state = if listed.is_over {
        "its holder is gone: the next who wants it gets it".to_owned()
    } else {
        format!("held until {:.0} or longer", claim.expires)
    };
    format!(
        "{}  {} of run {} on {}, {}, since {:.0}; {state}\n",
        claim.key,
        claim.task,
        claim.run,
        clean(&claim.host),
        clean(&claim.holder),
        claim.taken,
    )
}

fn release(claims: Claims<'_>, key: &ClaimKey, force: bool) -> Result<Exit, Failure> {
    let name = key.ref_name();
    let Some(found) = claims.find(&name)? else {
        print_result(&format!("{key} is not claimed\n"));
        return Ok(Exit::Success);
    };
    let why = match &found.record {
        _ if force => None,
        Ok(record) if record.is_over(Timestamp::now()) => None,
        Ok(record) => Some(format!(
            "{key} is claimed by {} of run {} on {}, which may still work on it",
            record.task,
            record.run,
            sanitize::line(record.host.as_bytes(), false)
        )),
        Err(why) => Some(format!("{name} is no claim: {why}")),
    };
    if let Some(why) = why {
        let hint = "`--force` releases it all the same: what its holder does then gets no branch";
        return Err(Failure::new(Exit::Unexpected, anyhow!(why)).hint(hint));
    }
    claims.remove(&name, &found.commit)?;
    print_result(&format!("released {key}\n"));
    Ok(Exit::Success)
}

impl From<ClaimError> for Failure {
    fn from(error: ClaimError) -> Self {
        let exit = match error {
            ClaimError::Git(_) | ClaimError::Refused { .. } => Exit::EnvironmentUnusable,
            _ => Exit::Unexpected,
        };
        Self::new(exit, error)
    }
}
