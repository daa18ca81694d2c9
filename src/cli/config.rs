//! `config`: prints a spec as it is understood, as a spec.

use std::path::Path;

use super::args::SpecArgs;
use super::error::Failure;
use super::exit_code::Exit;
use super::print_result;
use super::{prepare, surroundings};
use crate::spec::{self, Context};

pub(super) fn config(directory: &Path, arguments: &SpecArgs) -> Result<Exit, Failure> {
    let asked = prepare::read_spec(directory, arguments, None)?;
    let context = Context {
        run: &asked.run,
        directory: &asked.directory,
        environment: &surroundings::exact,
    };
    let text = spec::resolved(&asked.spec.source, &context, &asked.select)?;
    print_result(&text);
    Ok(Exit::Success)
}
