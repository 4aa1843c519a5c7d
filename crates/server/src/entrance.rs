//! The entrance: where connections come in, until it is closed while those that are in go on.

use core::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::connect_info::Connected;
use axum_server::{AddrListener, Address};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(SocketAddr);

impl Address for Peer {
    type Stream = TcpStream;
    type Listener = Entrance;
}

impl Connected<Peer> for SocketAddr {
    fn connect_info(peer: Peer) -> Self {
        peer.0
    }
}

/// A listener that can be closed.
#[derive(Debug)]
pub(crate) struct Entrance(Mutex<Option<Arc<Open>>>);

#[derive(Debug)]
struct Open {
    listener: TcpListener,
    /// The same one, asked without waiting.
    at_once: std::net::TcpListener,
    closing: watch::Receiver<bool>,
}

/// Closes an entrance.
#[derive(Debug)]
pub(crate) struct Closer(watch::Sender<bool>);

impl Entrance {
    /// Lets in who comes to this listener.
    ///
    /// # Errors
    /// The listener is not one for tasks to wait for.
    pub(crate) fn new(listener: std::net::TcpListener) -> io::Result<(Self, Closer)> {
        let at_once = listener.try_clone()?;
        let listener = TcpListener::from_std(listener)?;
        let (closer, closing) = watch::channel(false);
        let open = Open { listener, at_once, closing };
        Ok((Self(Mutex::new(Some(Arc::new(open)))), Closer(closer)))
    }

    fn open(&self) -> Option<Arc<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Closer {
    /// Who had come before is let in, who comes now is refused by the system. Returns when that is so.
    pub(crate) async fn close(self) {
        self.0.send_replace(true);
        self.0.closed().await;
    }
}

impl AddrListener<TcpStream, Peer> for Entrance {
    async fn bind_to(Peer(address): Peer) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?.into_std()?;
        Self::new(listener).map(|(entrance, _)| entrance)
    }

    async fn accept_stream(&self) -> io::Result<(TcpStream, Peer)> {
        if let Some(open) = self.open() {
            let mut closing = open.closing.clone();
            tokio::select! {
                biased;
                came = open.listener.accept() => return came.map(|(stream, peer)| (stream, Peer(peer))),
                _ = closing.wait_for(|closing| *closing) => {}
            }
            // Somebody may have come of whom the runtime has not heard yet.
            if let Ok((stream, peer)) = open.at_once.accept() {
                stream.set_nonblocking(true)?;
                return TcpStream::from_std(stream).map(|stream| (stream, Peer(peer)));
            }
            self.close();
        }
        pending().await
    }

    fn get_local_addr(&self) -> io::Result<Peer> {
        let open = self.open().ok_or(io::ErrorKind::NotConnected)?;
        open.listener.local_addr().map(Peer)
    }
}

#[cfg(test)]
mod tests {
    use super::Entrance;
    use axum_server::AddrListener as _;
    use std::io;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn who_came_before_it_closed_is_let_in_and_nobody_behind() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (entrance, closer) = Entrance::new(listener).unwrap();
        let entrance = Arc::new(entrance);
        let _early = TcpStream::connect(address).unwrap();
        let let_in = Arc::new(AtomicUsize::new(0));
        let letting_in = tokio::spawn({
            let (entrance, let_in) = (Arc::clone(&entrance), Arc::clone(&let_in));
            async move {
                loop {
                    let _stream = entrance.accept_stream().await.unwrap();
                    let_in.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        closer.close().await;
        let late = TcpStream::connect(address);
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(let_in.load(Ordering::Relaxed), 1);
        // Who waits at a closed entrance waits on, and is not told an error again and again.
        assert!(!letting_in.is_finished());
        letting_in.abort();
    }
}
