//! A look at a small file of a container that may still run.

use std::ffi::CStr;
use std::io::Read as _;
use std::path::Path;

use super::open;

/// What is in the regular file `name` of the directory `directory` of `top`, or its beginning; none where
/// there is no such.
pub fn glimpse(top: &Path, (directory, name): (&CStr, &CStr), most: u64) -> Option<Vec<u8>> {
    let directory = open::directory(open::top(top).ok()?, directory).ok()?;
    let (file, _) = open::regular(directory, name).ok()?;
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text).ok()?;
    Some(text)
}
