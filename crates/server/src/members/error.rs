//! Why the members of a realm cannot be used.

use std::io;
use std::path::PathBuf;

use tapfer_hsm::HsmError;
use tapfer_hsm::pool::{ConfigError, ServeError};

/// Why the members of a realm cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// `hsm.toml`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no PIN where `hsm.toml` says that it is.
    #[error(
        "member {member}: the environment variable {variable} with the PIN is not set; set it for the server"
    )]
    NoPin {
        /// Whose.
        member: String,
        /// Which.
        variable: String,
    },
    /// Others can read it.
    #[error("the PIN in {path} can be read by others (mode {mode:04o}); run: chmod 600 {path:?}")]
    PinPermissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others could put another library there, or say so in `hsm.toml`, and it would be run beside the keys.
    #[error(
        "{path} belongs to somebody else, or others can write there (mode {mode:04o}); what it says is run beside the \
         keys. Give it to the user of the platform, and run: chmod go-w {path:?}; or name another place, if this one is \
         for everybody"
    )]
    Foreign {
        /// The file, or a directory above it.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The one that was logged in to.
    #[error("it does not serve yet ({0}); mend that first. The other members are not concerned")]
    NotServing(String),
    /// No text, or no end.
    #[error("what is in {0} is no PIN: write it as the only line of text")]
    NotAPin(PathBuf),
    /// The system does not let this process seclude itself.
    #[error("cannot seclude the worker's process: {0}")]
    Process(io::Error),
    /// The worker.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The security module.
    #[error(transparent)]
    Hsm(#[from] HsmError),
}
