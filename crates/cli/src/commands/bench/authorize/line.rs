//! Connections of terminals, over which requests go that were made before, so that what is measured is the platform.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use crate::client::{Client, text_of};
use crate::context::Context;

/// The end of a head.
const BLANK_LINE: &[u8] = b"\r\n\r\n";

/// Where a terminal's connections lead, and the certificate that they show there.
pub(super) struct Way {
    server: String,
    config: Arc<ClientConfig>,
}

impl Way {
    /// Makes a key and has the platform certify it for the terminal that asks.
    ///
    /// # Errors
    /// The platform gives no certificate, which it should.
    pub(super) fn of(context: &Context, terminal: &Client) -> anyhow::Result<Self> {
        let server = context.access.address(&context.home)?;
        let server = server.strip_prefix("https://").context("benchmarks go over TLS")?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(context.home.ca_certificate())?)?;
        let key = KeyPair::generate()?;
        let request = CertificateParams::default().serialize_request(&key)?.pem()?;
        let body = json!({ "certificate_request": request });
        let certified = terminal.post("/v1/client-certificates", &body)?;
        let certificate = text_of(&certified, "certificate")?;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = config.with_client_auth_cert(vec![certificate], key)?;
        Ok(Self { server: server.to_owned(), config: Arc::new(config) })
    }
}

/// HTTP/1.1 over mutual TLS, kept open.
pub(super) struct Line(StreamOwned<ClientConnection, TcpStream>);

/// An answer, as far as it is looked at.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Line {
    /// Connects, shakes hands, and says hello: behind it both sides have checked the other's certificate.
    ///
    /// # Errors
    /// Nobody is there, or not the platform.
    pub(super) fn open(way: &Way) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(&way.server)?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let connection = ClientConnection::new(Arc::clone(&way.config), name)?;
        let mut line = Self(StreamOwned::new(connection, stream));
        let answer = line.ask(&get("/health"))?;
        ensure!(answer.status == 200, "no hello");
        Ok(line)
    }

    /// Sends one request and reads the answer to it.
    ///
    /// # Errors
    /// The connection broke, or what came is no answer of ours.
    pub(super) fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.0.write_all(request)?;
        self.0.flush()?;
        let mut answer = Vec::with_capacity(2_048);
        loop {
            let mut more = [0; 2_048];
            let read = self.0.read(&mut more)?;
            ensure!(read > 0, "the platform closed the connection");
            answer.extend_from_slice(more.get(..read).unwrap_or_default());
            if let Some(whole) = whole_answer(&answer)? {
                return Ok(whole);
            }
        }
    }
}

/// The answer, once all of it is there.
fn whole_answer(bytes: &[u8]) -> anyhow::Result<Option<Answer>> {
    let Some(head) = bytes.windows(BLANK_LINE.len()).position(|part| part == BLANK_LINE) else {
        return Ok(None);
    };
    let (head, rest) = bytes.split_at(head);
    let body = rest.get(BLANK_LINE.len()..).unwrap_or_default();
    let head = std::str::from_utf8(head)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.context("an answer without its length")?;
    let status = status.context("an answer without a status")?;
    Ok((body.len() >= length).then(|| Answer { status, body: body.to_vec() }))
}

/// A GET without a body.
pub(super) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// A POST of JSON under an idempotency key.
pub(super) fn post(path: &str, idempotency_key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nidempotency-key: {idempotency_key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::whole_answer;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let bytes = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
        for end in 0..bytes.len() {
            assert!(whole_answer(&bytes[..end]).unwrap().is_none(), "{end}");
        }
        let whole = whole_answer(bytes).unwrap().unwrap();
        assert_eq!((whole.status, whole.body.as_slice()), (201, b"{}".as_slice()));
        assert!(whole_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
