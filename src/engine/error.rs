//! What can go wrong with an engine.

use std::fmt;

/// A call to the engine that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {subject} failed: {}", kind.describe())]
pub struct EngineError {
    /// What was asked.
    pub operation: Operation,
    /// The container, network, volume or image that it was asked of.
    pub subject: String,
    /// What kind of failure it was.
    pub kind: ErrorKind,
    /// What the engine or its client said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The calls of [`super::Engine`], for messages and for the tests' faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the trait's functions are")]
pub enum Operation {
    Connect,
    Info,
    EnsureImage,
    CreateNetwork,
    CreateVolume,
    CreateContainer,
    Attach,
    Logs,
    Start,
    Published,
    Wait,
    Usage,
    DiskUse,
    VolumeContents,
    Exec,
    Stop,
    RemoveContainer,
    RemoveNetwork,
    RemoveVolume,
    Commit,
    ListImages,
    RemoveImage,
    ListOwned,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting to",
            Self::Info => "asking about",
            Self::EnsureImage => "getting image",
            Self::CreateNetwork => "creating network",
            Self::CreateVolume => "creating volume",
            Self::CreateContainer => "creating container",
            Self::Attach => "attaching to",
            Self::Logs => "reading the output of",
            Self::Start => "starting",
            Self::Published => "asking for the ports of",
            Self::Wait => "waiting for",
            Self::Usage => "measuring",
            Self::DiskUse => "measuring the disk of",
            Self::VolumeContents => "reading the volumes of",
            Self::Exec => "running a command in",
            Self::Stop => "stopping",
            Self::RemoveContainer => "removing container",
            Self::RemoveNetwork => "removing network",
            Self::RemoveVolume => "removing volume",
            Self::Commit => "making an image of",
            Self::ListImages | Self::ListOwned => "listing",
            Self::RemoveImage => "removing image",
        })
    }
}

/// The kinds of [`EngineError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// No engine answered; holds what was tried, each a line.
    Unreachable(Vec<String>),
    /// The engine is older than the API that agent-run needs; holds the engine's API version.
    TooOld(String),
    /// The thing does not exist.
    NotFound,
    /// The image could not be pulled or built; holds the engine's words.
    ImageUnavailable(String),
    /// The name is taken.
    NameInUse,
    /// The subnet or the address is taken.
    AddressInUse,
    /// A start found the container's network gone.
    NoNetwork,
    /// Containers are still on the network, have the volume, or are of the image.
    InUse,
    /// The engine keeps the network for a container that is not there.
    HeldByNobody,
    /// The engine accepted a limit and dropped it; holds the spec's key.
    LimitNotHonoured(&'static str),
    /// No answer in time: the outcome is unknown.
    Timeout,
    /// The engine refused; holds its words.
    Refused(String),
    /// The connection broke; holds the client's words.
    Broken(String),
}

impl ErrorKind {
    /// The kind as a clause, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Unreachable(tried) => format!("no engine answered ({})", tried.join("; ")),
            Self::TooOld(api) => format!("the engine speaks API {api}, agent-run needs 1.41"),
            Self::NotFound => "it does not exist".into(),
            Self::NameInUse => "its name is taken".into(),
            Self::NoNetwork => "its network does not exist".into(),
            Self::InUse => "it is in use".into(),
            Self::HeldByNobody => {
                "the engine keeps it for a container that is not there any more, \
                                   and can remove it once it was restarted"
                    .into()
            }
            Self::AddressInUse => "its addresses are taken".into(),
            Self::LimitNotHonoured(key) => format!("the engine does not honour `{key}`"),
            Self::Timeout => "the engine gave no answer in time".into(),
            Self::ImageUnavailable(text) | Self::Refused(text) | Self::Broken(text) => text.clone(),
        }
    }
}
