//! `validate`: checks a spec without an engine or a repository.

use super::args::SpecArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::prepare;
use super::print_result;
use super::surroundings::Surroundings;
use crate::report::count;

pub(super) fn validate(surroundings: &Surroundings, arguments: &SpecArgs) -> Result<Exit, Failure> {
    let asked = prepare::read_spec(surroundings, arguments, &prepare::new_run_id())?;
    let tasks = count(asked.spec.tasks.len() as u64, "task");
    print_result(&format!("{} is valid: {tasks}\n", asked.name));
    Ok(Exit::Success)
}
