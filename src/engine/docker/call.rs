//! One call to the engine: its deadline, and the translation of Bollard's errors.
//!
//! The engine's words are made printable here, once; nothing else reads a Bollard error.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use bollard::errors::Error as BollardError;

use crate::engine::{EngineError, ErrorKind, Operation};

/// The deadline of calls that an engine answers from what it knows.
pub(super) const QUICK: Duration = Duration::from_secs(30);

/// The deadline of calls for which an engine works: create, start, remove.
pub(super) const WORK: Duration = Duration::from_secs(120);

/// Longest text of an engine that is kept, in characters.
const WORDS_LIMIT: usize = 4000;

/// What is asked, and of what: the head of every error.
#[derive(Debug, Clone)]
pub(super) struct Call {
    operation: Operation,
    subject: String,
}

impl Call {
    pub(super) fn new(operation: Operation, subject: &str) -> Self {
        Self {
            operation,
            subject: subject.to_owned(),
        }
    }

    /// An error of this call.
    pub(super) fn error(&self, kind: ErrorKind) -> EngineError {
        EngineError {
            operation: self.operation,
            subject: self.subject.clone(),
            kind,
            source: None,
        }
    }

    /// Bollard's error as an error of this call.
    pub(super) fn failed(&self, error: &BollardError) -> EngineError {
        self.error(self.kind_of(error))
    }

    /// Awaits an answer, but no longer than `deadline`.
    pub(super) async fn within<T>(
        &self,
        deadline: Duration,
        answer: impl Future<Output = Result<T, BollardError>>,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(self.error(ErrorKind::Timeout)),
        }
    }

    fn kind_of(&self, error: &BollardError) -> ErrorKind {
        match error {
            BollardError::DockerResponseServerError {
                status_code,
                message,
            } => self.kind_of_answer(*status_code, message),
            BollardError::DockerStreamError { error } => ErrorKind::Refused(printable(error)),
            BollardError::RequestTimeoutError => ErrorKind::Timeout,
            BollardError::SocketNotFoundError(_) => unreachable_for(error),
            BollardError::HyperLegacyError { err } if err.is_connect() => unreachable_for(error),
            other => ErrorKind::Broken(printable(&with_causes(other))),
        }
    }

    /// The status codes of the engine API, and where these are too coarse (docker/docker
    /// `libnetwork/ipamutils`, `libnetwork/error.go`, `daemon/names.go`), its words.
    fn kind_of_answer(&self, status: u16, message: &str) -> ErrorKind {
        let lower = message.to_lowercase();
        // A create or start that misses its image or network says 404 too.
        let of_parts = matches!(
            self.operation,
            Operation::CreateContainer | Operation::Start
        ) && !lower.contains("no such container");
        let takes_addresses = of_parts || self.operation == Operation::CreateNetwork;
        let taken = lower.contains("overlap") || lower.contains("address already in use");
        let in_use = match self.operation {
            Operation::RemoveNetwork => lower.contains("active endpoints"),
            Operation::RemoveVolume | Operation::RemoveImage => status == 409,
            _ => false,
        };
        let network_missing = lower.contains("network") && lower.contains("not found");
        if of_parts && network_missing {
            ErrorKind::NoNetwork
        } else if in_use {
            ErrorKind::InUse
        } else if takes_addresses && taken {
            ErrorKind::AddressInUse
        } else if status == 404 && !of_parts {
            ErrorKind::NotFound
        } else if status == 409
            && (lower.contains("already in use") || lower.contains("already exists"))
        {
            ErrorKind::NameInUse
        } else if message.trim().is_empty() {
            ErrorKind::Refused(format!("the engine answered with status {status}"))
        } else {
            ErrorKind::Refused(printable(message))
        }
    }
}

fn unreachable_for(error: &BollardError) -> ErrorKind {
    ErrorKind::Unreachable(vec![printable(&with_causes(error))])
}

/// A text with line breaks kept and everything else that is not printable left out.
pub(super) fn printable(text: &str) -> String {
    let hidden = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let kept = text
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|&c| c == '\n' || !(c.is_control() || hidden(c)));
    let kept: String = kept.take(WORDS_LIMIT).collect();
    kept.trim().to_owned()
}

/// An error and its causes on one line; a cause that is already said is not repeated.
fn with_causes(error: &BollardError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = next.source();
    }
    text
}
