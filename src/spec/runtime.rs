//! Reads `runtime`, the name of what runs a task's containers. Which ones there are the engine says.

use super::reader::{Fields, Reader};
use super::source::At;
use super::units::BadValue;

pub(super) fn runtime(reader: &mut Reader<'_>, task: Fields<'_>) -> Option<At<String>> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    reader.value(task.get("runtime")?, "a name", |text| {
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits) {
            return Ok(text.to_owned());
        }
        let hint = "write a name that the engine has for it, such as runsc";
        Err(BadValue::new("cannot be the name of a runtime", hint))
    })
}
