//! How much disk directories take in which an agent may be writing: no symbolic link is followed, no
//! other file system entered, no depth is too deep, and what vanishes meanwhile is no error.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Stat};
use rustix::io::Errno;

use super::removal::open_directory;

/// The size of a block of `st_blocks`, in bytes: stat(2).
const BLOCK: u64 = 512;

/// What a file or directory counts at least, in bytes: an inode is not free, though an empty file has
/// no blocks.
const LEAST: u64 = 4096;

/// How many directories of a path are held open at once.
const OPEN: usize = 32;

/// How much disk a directory takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUse {
    /// What was counted, in bytes: the blocks of each file and directory, 4 KiB at least. A file with
    /// several names counts once.
    pub bytes: u64,
    /// Whether there is more that could not be counted.
    pub is_partial: bool,
}

/// How much disk a directory takes.
pub fn disk_use(directory: &Path) -> DiskUse {
    let mut walk = DiskWalk::new(vec![directory.to_owned()], u64::MAX);
    while !walk.advance(usize::MAX) {}
    walk.used()
}

/// Counts directories piece by piece.
pub struct DiskWalk {
    pending: Vec<PathBuf>,
    tree: Option<Tree>,
    used: DiskUse,
    enough: u64,
}

impl DiskWalk {
    /// Of these directories, until it is more than `enough` bytes.
    pub fn new(pending: Vec<PathBuf>, enough: u64) -> Self {
        Self {
            pending,
            tree: None,
            used: DiskUse::default(),
            enough,
        }
    }

    /// What was counted so far.
    pub fn used(&self) -> DiskUse {
        self.used
    }

    /// Looks at no more than `entries` names; says whether it is done.
    pub fn advance(&mut self, entries: usize) -> bool {
        let mut left = entries;
        while left > 0 && self.used.bytes <= self.enough {
            let Some(tree) = &mut self.tree else {
                let Some(directory) = self.pending.pop() else {
                    return true;
                };
                match Tree::open(&directory) {
                    Ok(tree) => self.tree = Some(tree),
                    Err(_) => self.used.is_partial = true,
                }
                continue;
            };
            if !tree.step(&mut self.used) {
                self.tree = None;
            }
            left -= 1;
        }
        self.used.bytes > self.enough
    }
}

/// A tree being walked, depth first. Only the deepest directories of the path are open, and nothing
/// is remembered of what was counted, so that no tree takes much memory.
struct Tree {
    top: OwnedFd,
    /// The path to where it is, from the top.
    levels: Vec<Level>,
    /// The deepest levels' directories.
    open: VecDeque<Dir>,
}

struct Level {
    name: CString,
    facts: Stat,
    /// How many entries were read.
    seen: u64,
}

impl Tree {
    fn open(path: &Path) -> io::Result<Self> {
        let top = open_directory(CWD, path)?;
        let level = Level {
            name: CString::default(),
            facts: rustix::fs::fstat(&top)?,
            seen: 0,
        };
        let directory = Dir::read_from(&top)?;
        Ok(Self {
            top,
            levels: vec![level],
            open: VecDeque::from([directory]),
        })
    }

    /// Looks at the next entry; says whether there may be more.
    fn step(&mut self, used: &mut DiskUse) -> bool {
        let (Some(directory), Some(level)) = (self.open.back_mut(), self.levels.last_mut()) else {
            return false;
        };
        match directory.read() {
            Some(Ok(entry)) => {
                level.seen += 1;
                match self.count(entry.file_name(), used) {
                    // It was removed meanwhile.
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(_) => used.is_partial = true,
                }
            }
            Some(Err(_)) => {
                used.is_partial = true;
                self.leave(used);
            }
            None => self.leave(used),
        }
        true
    }

    fn count(&mut self, name: &CStr, used: &mut DiskUse) -> Result<(), Errno> {
        let Some(directory) = self.open.back() else {
            return Ok(());
        };
        if name == c"." || name == c".." {
            return Ok(());
        }
        let directory = directory.fd()?;
        let facts = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if facts.st_dev != self.levels[0].facts.st_dev {
            return Ok(());
        }
        let bytes = LEAST.max(number(facts.st_blocks).saturating_mul(BLOCK));
        if FileType::from_raw_mode(facts.st_mode) != FileType::Directory {
            // All its names are in the tree: no container can make one across two mounts.
            used.bytes += bytes / number(facts.st_nlink).max(1);
            return Ok(());
        }
        used.bytes += bytes;
        let inner = open_directory(directory, name)?;
        self.open.push_back(Dir::new(inner)?);
        if self.open.len() > OPEN {
            self.open.pop_front();
        }
        self.levels.push(Level {
            name: name.to_owned(),
            facts,
            seen: 0,
        });
        Ok(())
    }

    fn leave(&mut self, used: &mut DiskUse) {
        self.levels.pop();
        let left = self.open.pop_back();
        if self.open.is_empty()
            && !self.levels.is_empty()
            && let Some(left) = left
        {
            match self.reopen(&left) {
                Ok(directory) => self.open.push_back(directory),
                Err(_) => used.is_partial = true,
            }
        }
    }

    /// Opens the deepest level again, after what was left, and goes on where it was. Where the path to
    /// it was moved meanwhile, levels are given up until there is one.
    fn reopen(&mut self, left: &Dir) -> Result<Dir, Errno> {
        let mut directory = match self.parent(left) {
            Some(parent) => Dir::new(parent)?,
            None => self.descend()?,
        };
        let seen = self.levels.last().map_or(0, |level| level.seen);
        for _ in 0..seen {
            if directory.read().is_none() {
                break;
            }
        }
        Ok(directory)
    }

    /// The directory above, if it is still the deepest level's.
    fn parent(&self, left: &Dir) -> Option<OwnedFd> {
        let parent = open_directory(left.fd().ok()?, c"..").ok()?;
        let (is, was) = (rustix::fs::fstat(&parent).ok()?, &self.levels.last()?.facts);
        (is.st_ino == was.st_ino && is.st_dev == was.st_dev).then_some(parent)
    }

    /// Follows the levels' names from the top, as far as they lead.
    fn descend(&mut self) -> Result<Dir, Errno> {
        let mut found: Option<OwnedFd> = None;
        for depth in 1..self.levels.len() {
            let above = found.as_ref().unwrap_or(&self.top).as_fd();
            let Ok(directory) = open_directory(above, &*self.levels[depth].name) else {
                self.levels.truncate(depth);
                break;
            };
            found = Some(directory);
        }
        Dir::read_from(found.as_ref().unwrap_or(&self.top))
    }
}

/// A count of stat(2): its type differs between systems.
fn number(count: impl TryInto<u64>) -> u64 {
    count.try_into().unwrap_or(0)
}
