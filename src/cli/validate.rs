//! `validate`: checks a spec without an engine or a repository.

use std::path::Path;

use super::args::SpecArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::prepare;
use super::print_result;
use crate::report::count;

pub(super) fn validate(directory: &Path, arguments: &SpecArgs) -> Result<Exit, Failure> {
    let asked = prepare::read_spec(directory, arguments, None)?;
    let tasks = count(asked.spec.tasks.len() as u64, "task");
    print_result(&format!("{} is valid: {tasks}\n", asked.name));
    Ok(Exit::Success)
}
