//! `schema`: prints the JSON Schema of the spec.

use super::error::Failure;
use super::exit_code::Exit;
use super::print_json;
use crate::spec;

pub(super) fn schema() -> Result<Exit, Failure> {
    print_json(&spec::schema())
}
