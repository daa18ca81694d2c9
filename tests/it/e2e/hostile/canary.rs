//! What shows that something of an agent's ran on the host, or that something of the host's got out:
//! a directory that must stay empty, and a file that must stay unread.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What the host's file says. Made up of nothing that a path, an id or a log could hold by chance.
const SECRET: &str = "canary-yellow-7f3a91";

/// The directory and the file of one test.
pub struct Canary {
    directory: PathBuf,
}

impl Canary {
    pub fn new(top: &Path) -> Self {
        let directory = top.join("canary");
        for (name, mode) in [("", 0o755), ("sung", 0o777), ("programs", 0o755)] {
            let path = directory.join(name);
            fs::create_dir(&path).expect("a directory");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        }
        fs::write(directory.join("secret"), SECRET).expect("a file");
        Self { directory }
    }

    /// A command line for a shell that tells of itself. Inside a container it does nothing: there is
    /// no such directory.
    pub fn command(&self, name: &str) -> String {
        format!("touch {}/{name}", self.directory.join("sung").display())
    }

    /// A program of the host's that tells of itself.
    pub fn program(&self, name: &str) -> PathBuf {
        let path = self.directory.join("programs").join(name);
        fs::write(&path, format!("#!/bin/sh\n{}\n", self.command(name))).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        path
    }

    /// A file of the host's whose content may get nowhere.
    pub fn secret_file(&self) -> PathBuf {
        self.directory.join("secret")
    }

    /// What has run.
    pub fn sung(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.directory.join("sung")).expect("a directory");
        entries
            .map(|e| {
                e.expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("UTF-8")
            })
            .collect()
    }

    #[track_caller]
    pub fn assert_alive(&self, when: &str) {
        assert_eq!(self.sung(), BTreeSet::new(), "ran on the host: {when}");
        let secret = fs::read_to_string(self.secret_file()).expect("the secret");
        assert_eq!(secret, SECRET, "changed on the host: {when}");
    }
}

/// That a text does not hold the secret.
#[track_caller]
pub fn assert_untold(text: &str) {
    assert!(!text.contains(SECRET), "the host's file got out: {text}");
}

/// That no file below a directory holds the secret, what tasks themselves wrote aside.
#[track_caller]
pub fn assert_untold_below(top: &Path) {
    for entry in fs::read_dir(top).expect("a directory") {
        let path = entry.expect("an entry").path();
        let kind = fs::symlink_metadata(&path).expect("a file").file_type();
        if kind.is_dir() && !path.ends_with("tasks") {
            assert_untold_below(&path);
        } else if kind.is_file() {
            let bytes = fs::read(&path).expect("a file");
            let found = bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes());
            assert!(!found, "the host's file got into {}", path.display());
        }
    }
}
