//! Strangers who want the platform's memory: real connections to a real process, whose memory is looked at.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stderr,
    missing_docs
)]

mod platform;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use platform::Platform;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Connections of one address; the platform takes 192.
const CONNECTIONS: usize = 180;
/// Requests on each of them, of 64 KiB, none of which ends. The platform refuses some.
const STREAMS: u32 = 64;
const PIECE: usize = 16 * 1024;
/// What all of them together may cost: some 50 MiB are the connections themselves. Bodies that are kept are as much again.
const AT_MOST_MIB: usize = 80;

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn client(home: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = home.join("tls").join("ca-certificate.pem");
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

fn connect(config: &Arc<ClientConfig>, address: &str) -> Tls {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let socket = TcpStream::connect(address.trim_start_matches("https://")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(4, 0, 0, b"")).unwrap();
    stream
}

/// What may still be sent: on the connection, and on a stream that is new.
struct Windows {
    connection: usize,
    stream: usize,
}

/// Reads frames until there is more to be sent, or the server says no more.
fn listen(stream: &mut Tls, windows: &mut Windows) -> io::Result<()> {
    let before = windows.connection;
    while windows.connection == before {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        let number =
            |bytes: &[u8]| usize::try_from(u32::from_be_bytes(bytes.try_into().unwrap())).unwrap();
        match (head[3], number(&head[5..])) {
            (8, 0) => windows.connection += number(&payload),
            // SETTINGS_INITIAL_WINDOW_SIZE
            (4, _) if head[4] == 0 => {
                let sizes = payload.chunks(6).filter(|setting| setting[..2] == [0, 4]);
                windows.stream =
                    sizes.map(|setting| number(&setting[2..])).next_back().unwrap_or(65_535);
                stream.write_all(&frame(4, 1, 0, b""))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Sends bodies without a key, none of them to its end, as long as the server takes them.
fn flood(stream: &mut Tls) -> io::Result<usize> {
    let mut windows = Windows { connection: 65_535, stream: 65_535 };
    let mut sent = 0;
    let block = b"\x83\x87\x04\x0b/v1/issuers\x01\x09localhost";
    for number in 0..STREAMS {
        let id = 2 * number + 1;
        stream.write_all(&frame(1, 4, id, block))?;
        let mut left = windows.stream.min(65_535);
        while left > 0 {
            if windows.connection == 0 {
                listen(stream, &mut windows)?;
            }
            let length = left.min(windows.connection).min(PIECE);
            stream.write_all(&frame(0, 0, id, &vec![b' '; length]))?;
            sent += length;
            left -= length;
            windows.connection -= length;
        }
    }
    stream.flush()?;
    Ok(sent)
}

fn resident_mib(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

#[test]
fn attack_memory_taken_by_strangers() {
    let platform = Platform::start();
    let config = client(platform.home());
    let before = resident_mib(platform.process());
    let mut held: Vec<Tls> =
        (0..CONNECTIONS).map(|_| connect(&config, platform.address())).collect();
    let connected = resident_mib(platform.process());
    let mut most = connected;
    for stream in &mut held {
        // The server may stop taking: then this one has done what it could.
        let _sent = flood(stream);
        most = most.max(resident_mib(platform.process()));
    }
    platform.tapfer(&["doctor"]);
    drop(held);
    let after = resident_mib(platform.process());
    eprintln!(
        "{before} MiB; {connected} with {CONNECTIONS} connections, {most} at most under the flood, {after} behind it"
    );
    assert!(most - before < AT_MOST_MIB, "{before} MiB before, {most} MiB under the flood");
}
