//! HTTP API of the platform: orchestration of `payments`, `hsm` and `storage`, and no rules of its own.
//!
//! [`Realm`] is a platform's directory: keys, database, certificates. [`Server::start`] serves one over
//! TLS, in this process, and gives back a [`RunningServer`] to stop it by. [`api`] holds what travels.
//!
//! Inside: `http` takes requests apart and puts answers together; `service` does the work, blocking, off
//! the network threads; [`clock`] and [`entropy`] are the only places that read the system's clock and
//! randomness.
//!
//! Invariants:
//! - Never a database transaction across a call to the security module: the store offers no way to.
//! - No card number and no token number in answers, problems, logs or metrics, but in the answer of the
//!   audited detokenize verb.
//! - Whatever bytes a caller sends, the answer is never a 5xx for what the caller did wrong.
//! - This crate never links `wallet`.

pub mod api;
mod api_key;
pub mod backup;
mod client_certificate;
pub mod clock;
mod connections;
mod entrance;
pub mod entropy;
mod hsm_watch;
mod http;
pub mod in_process;
mod key_audit;
mod key_watch;
pub mod members;
mod metrics;
mod newest_catalogue;
mod pipeline;
mod private_file;
pub mod realm;
mod request_limits;
mod server;
mod service;
mod tls;

pub use client_certificate::ClientCertificates;
pub use http::{Limits, openapi_document};
pub use key_audit::{KeyAudit, KnownCatalogue};
pub use newest_catalogue::catalogue_refusal;
pub use private_file::read_private;
pub use realm::{Realm, RealmError, RealmKind, RealmPaths};
pub use request_limits::{Rate, RequestLimits};
pub use server::{RunningServer, Server, ServerConfig, ServerError};
pub use service::ApiKeysTaken;
pub use tls::{CertificateSource, TlsError, authority_certificate_file};
