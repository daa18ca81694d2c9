//! `schema`: prints the JSON Schema of the spec.

use super::error::Failure;
use super::exit_code::Exit;
use super::print_result;
use crate::spec;

pub(super) fn schema() -> Result<Exit, Failure> {
    let schema = serde_json::to_string_pretty(&spec::schema())
        .map_err(|e| Failure::new(Exit::Unexpected, e))?;
    print_result(&(schema + "\n"));
    Ok(Exit::Success)
}
