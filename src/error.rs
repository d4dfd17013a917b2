//! Errors. Every error names what it is about (file, time), what was expected and what to do, and knows which exit
//! code it means and whether trying again can help.

use std::fmt;

/// What a failure means for the run (and for the exit code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Class {
    /// Wrong command line or job: nothing was started (exit 2).
    Usage,
    /// One input is bad: it becomes a dead letter and the run goes on.
    Input,
    /// A demanded device, decoder or library is missing (exit 69).
    Unavailable,
    /// A bug of framemill (exit 70).
    Bug,
    /// The store failed (exit 74).
    Store,
    /// Interrupted or unfinished, resumable (exit 75).
    Interrupted,
    /// The output holds another job's plan (exit 78).
    OtherJob,
}

/// Kind of a dead letter, as written to `rejects/*.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectKind {
    /// The file is not there or cannot be opened.
    Missing,
    /// The file has no bytes.
    Empty,
    /// The content is none of the supported media.
    NotMedia,
    /// A container without a picture stream (audio only, say).
    NoVideo,
    /// No decoder for the codec or the variant.
    Unsupported,
    /// Damaged so far that nothing could be decoded.
    Corrupt,
    /// Protected content.
    Encrypted,
    /// More pixels than `--max-pixels`, or more bytes than an input over HTTP may have.
    TooLarge,
    /// An operation cannot be applied to this picture (a crop larger than it, say).
    Op,
    /// A detector failed on it.
    Detect,
    /// Decoding made no progress.
    Stall,
    /// Decoding killed its process twice.
    Crash,
    /// The file changed after it was planned.
    Changed,
    /// The store or server denies access to it.
    Forbidden,
    /// Its owner does not want it used for training, and says so in the server's answer.
    OptOut,
    /// Reading failed for a reason that may pass.
    Io,
    /// The demanded device cannot take this input and falling back is forbidden.
    DeviceUnsupported,
}

impl fmt::Display for RejectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_value(self).map_err(|_| fmt::Error)?;
        f.write_str(text.as_str().unwrap_or("?"))
    }
}

/// An error with its class and a full sentence for the user.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Error {
    /// What it means for the run.
    pub class: Class,
    /// For [`Class::Input`]: the kind of the dead letter.
    pub reject: Option<RejectKind>,
    /// What happened, where, what was expected, what to do.
    pub message: String,
}

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn new(class: Class, message: impl Into<String>) -> Self {
        Error { class, reject: None, message: message.into() }
    }
    /// Wrong use (exit 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Class::Usage, message)
    }
    /// A bad input: a dead letter of `kind`.
    pub fn input(kind: RejectKind, message: impl Into<String>) -> Self {
        Error { class: Class::Input, reject: Some(kind), message: message.into() }
    }
    /// The store failed (exit 74).
    pub fn store(message: impl Into<String>) -> Self {
        Self::new(Class::Store, message)
    }
    /// A demanded part is missing (exit 69).
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Class::Unavailable, message)
    }
    /// A broken invariant (exit 70).
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Class::Bug, message)
    }
    /// Stopped before the end, resumable (exit 75).
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Class::Interrupted, message)
    }
    /// The output belongs to another job (exit 78).
    pub fn other_job(message: impl Into<String>) -> Self {
        Self::new(Class::OtherJob, message)
    }
    /// The process exit code of this error.
    pub fn exit_code(&self) -> u8 {
        match self.class {
            Class::Usage => 2,
            Class::Input => 3,
            Class::Unavailable => 69,
            Class::Bug => 70,
            Class::Store => 74,
            Class::Interrupted => 75,
            Class::OtherJob => 78,
        }
    }
    /// The same error with `what: ` before its message.
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
