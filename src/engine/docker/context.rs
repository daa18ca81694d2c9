//! A build context as a tar stream: a directory of the host, without what `.dockerignore` names.
//!
//! Nothing outside of the directory is read: symbolic links are sent as links, never followed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use rustix::fs::{Mode, OFlags};
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::ignore::IgnoreRules;

/// The largest `.dockerignore` that is read, in bytes.
const IGNORE_FILE_LIMIT: u64 = 1 << 20;

/// The size of the pieces that are sent, in bytes.
const CHUNK: usize = 64 * 1024;

/// A context on its way.
pub(super) struct SentContext {
    /// The tar stream; ends early with an error where the directory could not be read.
    pub(super) chunks: Chunks,
    /// Reads the directory; says why it stopped.
    pub(super) reader: JoinHandle<io::Result<()>>,
}

/// The pieces of a tar stream.
pub(super) struct Chunks(mpsc::Receiver<io::Result<Bytes>>);

impl Stream for Chunks {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// Starts to read `directory`. The Dockerfile is always sent, ignored or not, as docker does.
///
/// # Errors
/// A directory or `.dockerignore` that cannot be read, a Dockerfile that is none of its files.
pub(super) fn send(directory: &Path, dockerfile: &str) -> io::Result<SentContext> {
    let named = plain_path(dockerfile)?;
    let is_file = fs::symlink_metadata(directory.join(&named)).is_ok_and(|meta| !meta.is_dir());
    if !is_file {
        let why = format!("there is no Dockerfile `{dockerfile}` in it");
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    let rules = ignore_rules(directory)?;
    let (sender, receiver) = mpsc::channel(16);
    let walk = Walk {
        root: directory.to_owned(),
        rules,
        always: vec![named, PathBuf::from(".dockerignore")],
    };
    let reader = tokio::task::spawn_blocking(move || {
        let sink = BufWriter::with_capacity(CHUNK, ChunkSink(sender.clone()));
        let done = walk.write(sink);
        if let Err(error) = &done {
            // The request must not end as if the archive were whole.
            let copy = io::Error::new(error.kind(), error.to_string());
            drop(sender.blocking_send(Err(copy)));
        }
        done
    });
    Ok(SentContext {
        chunks: Chunks(receiver),
        reader,
    })
}

/// An archive of one file.
pub(super) fn single_file(name: &str, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, content)?;
    archive.into_inner()
}

/// A relative path that stays where it is.
fn plain_path(text: &str) -> io::Result<PathBuf> {
    let path: PathBuf = Path::new(text)
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect();
    let plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if plain && path.components().next().is_some() {
        Ok(path)
    } else {
        let why = format!("the Dockerfile `{text}` is not a path inside of it");
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }
}

fn ignore_rules(directory: &Path) -> io::Result<IgnoreRules> {
    let mut text = String::new();
    match open_plain(&directory.join(".dockerignore")) {
        Ok(file) => file.take(IGNORE_FILE_LIMIT).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(IgnoreRules::parse(&text))
}

/// Opens a regular file and nothing else: no link, and no FIFO that would block.
fn open_plain(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        let why = format!("{} is not a regular file", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }
}

struct ChunkSink(mpsc::Sender<io::Result<Bytes>>);

impl Write for ChunkSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Walk {
    root: PathBuf,
    rules: IgnoreRules,
    always: Vec<PathBuf>,
}

impl Walk {
    fn write(&self, sink: impl Write) -> io::Result<()> {
        let mut archive = Builder::new(sink);
        self.add_directory(&mut archive, Path::new(""))?;
        archive.into_inner()?.flush()
    }

    fn add_directory(&self, archive: &mut Builder<impl Write>, inner: &Path) -> io::Result<()> {
        let entries = fs::read_dir(self.root.join(inner))?;
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let path = inner.join(name);
            let meta = fs::symlink_metadata(self.root.join(&path))?;
            let sent = !self.rules.ignores(&path) || self.always.contains(&path);
            if meta.is_dir() {
                if sent {
                    append(archive, &path, &meta)?;
                }
                if sent || self.may_hold_sent(&path) {
                    self.add_directory(archive, &path)?;
                }
            } else if sent {
                self.add_entry(archive, &path, &meta)?;
            }
        }
        Ok(())
    }

    /// Whether something below an ignored directory can still be sent.
    fn may_hold_sent(&self, path: &Path) -> bool {
        self.rules.has_exceptions() || self.always.iter().any(|kept| kept.starts_with(path))
    }

    fn add_entry(
        &self,
        archive: &mut Builder<impl Write>,
        path: &Path,
        meta: &fs::Metadata,
    ) -> io::Result<()> {
        let full = self.root.join(path);
        if meta.is_symlink() {
            let mut header = header_of(meta, EntryType::Symlink, 0);
            return archive.append_link(&mut header, path, fs::read_link(full)?);
        }
        if !meta.is_file() {
            // Sockets, FIFOs and devices are no input of a build.
            return Ok(());
        }
        let file = open_plain(&full)?;
        let size = file.metadata()?.len();
        let mut header = header_of(meta, EntryType::Regular, size);
        let mut content = file.take(size);
        archive.append_data(&mut header, path, &mut content)?;
        if content.limit() > 0 {
            let why = format!("{} changed while it was read", full.display());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        Ok(())
    }
}

fn append(archive: &mut Builder<impl Write>, path: &Path, meta: &fs::Metadata) -> io::Result<()> {
    let mut header = header_of(meta, EntryType::Directory, 0);
    archive.append_data(&mut header, path, io::empty())
}

/// A header with the file's mode and time; it belongs to root, as the docker command sends it.
fn header_of(meta: &fs::Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata(meta);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header
}
