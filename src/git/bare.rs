//! An empty bare repository, made without git: it holds nothing of anybody's configuration.

use std::fs;
use std::io;
use std::path::Path;

use super::GitError;

const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";

/// Makes an empty bare repository at `git_dir`, or completes one. `HEAD` comes last: where it is,
/// the repository is whole.
pub fn init_bare(git_dir: &Path) -> Result<(), GitError> {
    let make = || -> io::Result<()> {
        for name in ["objects/info", "objects/pack", "refs"] {
            fs::create_dir_all(git_dir.join(name))?;
        }
        fs::write(git_dir.join("config"), CONFIG)?;
        fs::write(git_dir.join("HEAD"), "ref: refs/heads/main\n")
    };
    make().map_err(GitError::io(format!("make {}", git_dir.display())))
}
