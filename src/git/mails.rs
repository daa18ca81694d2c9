//! Commits that are to become mails. git-am(1) takes everything for a mail's text up to the first line that
//! looks like a patch: a message that holds one would change files that its commit does not.

use super::export::unexpected;
use super::{GitError, ScratchRepository};
use crate::id::CommitId;

/// The commits from `base` to `tip`, which get new ids from the first one on whose message has to change;
/// gives the last one.
pub(super) fn inert(
    scratch: &ScratchRepository,
    base: &CommitId,
    tip: &CommitId,
) -> Result<CommitId, GitError> {
    let range = format!("{base}..{tip}");
    let words = ["rev-list", "--reverse", "--topo-order", "--parents", &range];
    let listed = scratch.call(words).run_text()?;
    let mut commits = Vec::new();
    for line in listed.lines() {
        let ids: Vec<CommitId> = line.split(' ').filter_map(|id| id.parse().ok()).collect();
        let [id, parents @ ..] = &ids[..] else {
            return Err(unexpected("rev-list"));
        };
        if parents.len() > 1 {
            let merge = id.clone();
            return Err(GitError::NotLinear { merge });
        }
        commits.push(id.clone());
    }
    let mut last: Option<CommitId> = None;
    for (id, raw) in commits.iter().zip(bodies(scratch, &commits)?) {
        let (headers, message) = split(&raw).ok_or_else(|| unexpected("cat-file"))?;
        let quoted = indented(message);
        let mut lines = headers.split(|byte| *byte == b'\n');
        let is_encoded = lines.any(|line| line.starts_with(b"encoding "));
        if last.is_none() && quoted == message && !is_encoded {
            continue;
        }
        last = Some(anew(scratch, id, headers, &quoted, last.as_ref())?);
    }
    Ok(last.unwrap_or_else(|| tip.clone()))
}

/// What commits are, byte for byte.
fn bodies(scratch: &ScratchRepository, commits: &[CommitId]) -> Result<Vec<Vec<u8>>, GitError> {
    let ids: String = commits.iter().map(|id| format!("{id}\n")).collect();
    let call = scratch.call(["cat-file", "--batch=%(objectsize)"]);
    let output = call.input(ids.into_bytes()).run()?;
    let mut rest = &output[..];
    let mut body = || {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let size: usize = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        let (body, after) = rest[end + 1..].split_at_checked(size)?;
        rest = after.strip_prefix(b"\n")?;
        Some(body.to_vec())
    };
    let bodies = commits.iter().map(|_| body());
    let bodies: Option<Vec<_>> = bodies.collect();
    bodies.ok_or_else(|| unexpected("cat-file"))
}

/// The headers of a commit, and its message.
fn split(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = raw.windows(2).position(|two| two == b"\n\n")?;
    Some((&raw[..end], &raw[end + 2..]))
}

/// A commit with another message and parent. A signature would not hold any more; and an encoding would make
/// other lines of the message's bytes than those that were looked at.
fn anew(
    scratch: &ScratchRepository,
    of: &CommitId,
    headers: &[u8],
    message: &[u8],
    parent: Option<&CommitId>,
) -> Result<CommitId, GitError> {
    let mut text = Vec::new();
    for line in headers.split(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        match (name, parent) {
            (b"parent", Some(parent)) => text.extend(format!("parent {parent}\n").into_bytes()),
            (b"tree" | b"parent" | b"author" | b"committer", _) => {
                text.extend_from_slice(line);
                text.push(b'\n');
            }
            _ => {}
        }
    }
    text.push(b'\n');
    text.extend_from_slice(message);
    let call = scratch.call(["hash-object", "-t", "commit", "-w", "--stdin"]);
    let made = call.input(text).run_text()?;
    let made = made.trim().parse();
    made.map_err(|_| unexpected(&format!("hash-object of {of}")))
}

/// A message in which no line begins a mail, a patch or a header.
fn indented(message: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(message.len());
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if is_told_apart(line) {
            text.push(b' ');
        }
        text.extend_from_slice(line);
    }
    text
}

/// Whether git-mailsplit(1) or git-mailinfo(1) may take a line for something else than text.
fn is_told_apart(line: &[u8]) -> bool {
    let begins = |with: &[u8]| {
        let head = line.get(..with.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(with))
    };
    let words: [&[u8]; 8] = [
        b"From",
        b">From",
        b"Subject:",
        b"Date:",
        b"[PATCH]",
        b"diff -",
        b"Index: ",
        b"---",
    ];
    words.into_iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_a_mail_would_end_with_are_indented() {
        let message = b"one\n\nFrom: a\n--- a/x\n-- \n--\ndiff --git\ntext\nfrom here\n---";
        let text = b"one\n\n From: a\n --- a/x\n-- \n--\n diff --git\ntext\n from here\n ---";
        assert_eq!(
            String::from_utf8_lossy(&indented(message)),
            String::from_utf8_lossy(text)
        );
    }
}
