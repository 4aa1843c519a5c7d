//! Who is at the other end of a connection, told to each of its requests.

use core::future::Future;
use core::pin::Pin;
use std::io;

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsAcceptor;
use tokio::net::TcpStream;
use tower::Layer;

use super::ClientIdentity;

/// Stands at every request that came over TLS: who the client's certificate says it is, if it has one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Introduced(pub(crate) Option<ClientIdentity>);

/// Does the TLS handshake, and tells the requests behind it who is there.
#[derive(Debug, Clone)]
pub(crate) struct Introduction(RustlsAcceptor);

impl Introduction {
    /// Behind this handshake.
    pub(crate) const fn new(handshake: RustlsAcceptor) -> Self {
        Self(handshake)
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for Introduction {
    type Stream = <RustlsAcceptor as Accept<TcpStream, S>>::Stream;
    type Service = AddExtension<S, Introduced>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let handshake = self.0.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = handshake.await?;
            let (_, connection) = stream.get_ref();
            let shown = connection.peer_certificates().and_then(<[_]>::first);
            let identity = shown.map(|certificate| {
                // Ours, by its signature, and of a kind that we do not make.
                ClientIdentity::of(certificate).ok_or(io::ErrorKind::PermissionDenied)
            });
            let introduced = Introduced(identity.transpose()?);
            Ok((stream, Extension(introduced).layer(service)))
        })
    }
}
