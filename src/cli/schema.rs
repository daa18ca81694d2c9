//! `schema`: prints a JSON Schema.

use super::args::{SchemaArgs, SchemaOf};
use super::error::Failure;
use super::exit_code::Exit;
use super::print_json;
use crate::{event, spec};

pub(super) fn schema(arguments: &SchemaArgs) -> Result<Exit, Failure> {
    print_json(&match arguments.what {
        SchemaOf::Spec => spec::schema(),
        SchemaOf::Events => event::events_schema(),
        SchemaOf::Result => event::result_schema(),
    })
}
