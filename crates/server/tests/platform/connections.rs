//! Connections that ask for nothing, and more of them than there are places.

use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tapfer_server::Limits;

use crate::running::{Platform, log};

/// Without the control under test a read would wait for ever; it fails after this instead.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Long beside everything that a test does, so that this limit is not the one it sees.
pub(crate) const LONG: Duration = Duration::from_secs(3_600);
pub(crate) const SHORT: Duration = Duration::from_millis(100);
/// Head of an HTTP/2 connection: the preface and an empty SETTINGS frame (RFC 9113 3.4).
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A PING frame (RFC 9113 6.7).
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingpong";
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A platform whose connections live long, but for what a test changes.
pub(crate) fn platform(change: impl FnOnce(&mut Limits)) -> Platform {
    let mut limits = Limits { opening: LONG, idle: LONG, ..Limits::default() };
    change(&mut limits);
    Platform::start_with(limits)
}

fn dial(platform: &Platform) -> TcpStream {
    let socket = TcpStream::connect(platform.address()).unwrap();
    socket.set_read_timeout(Some(GIVE_UP)).unwrap();
    socket
}

/// A connection whose TLS handshake is done; an error if the server closes it before.
pub(crate) fn connect(platform: &Platform, protocol: &[u8]) -> io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(platform.ca_certificate()).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::from(platform.address().ip());
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = dial(platform);
    while client.is_handshaking() {
        client.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(client, socket))
}

/// Asks for the server's health and reads the head of the answer.
pub(crate) fn is_served(stream: &mut Tls) -> bool {
    let mut head = [0; 12];
    stream.write_all(REQUEST).is_ok()
        && stream.read_exact(&mut head).is_ok()
        && &head == b"HTTP/1.1 200"
}

/// Whether the server, and not this test's patience, ended the connection.
pub(crate) fn is_closed(result: io::Result<usize>) -> bool {
    match result {
        Ok(read) => read == 0,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
    }
}

/// Reads until the server ends the connection.
pub(crate) fn ends(stream: &mut impl Read) -> bool {
    let mut buffer = [0; 4_096];
    loop {
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => {}
            end => return is_closed(end),
        }
    }
}

/// The answer to a ping of the server, if there is one among these bytes.
fn pong(received: &[u8]) -> Option<Vec<u8>> {
    let ping = received.windows(PING.len()).find(|frame| frame.starts_with(&PING[..9]))?;
    Some([b"\0\0\x08\x06\x01\0\0\0\0", &ping[9..]].concat())
}

/// Sends pings, and answers those of the server, until it ends the connection; gives what came back.
fn ends_in_spite_of_pings(stream: &mut Tls) -> Vec<u8> {
    let mut received = Vec::new();
    let mut buffer = [0; 4_096];
    for _ in 0..1_000_000 {
        let sent = stream.write_all(PING).and_then(|()| stream.flush());
        let end = match sent.and_then(|()| stream.read(&mut buffer)) {
            Ok(read) if read > 0 => {
                received.extend_from_slice(&buffer[..read]);
                match pong(&buffer[..read]).map_or(Ok(()), |pong| stream.write_all(&pong)) {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                }
            }
            end => end,
        };
        assert!(is_closed(end), "the server still holds the connection");
        return received;
    }
    panic!("the server still answers pings");
}

#[test]
fn a_client_that_never_begins_tls_is_closed() {
    let platform = platform(|limits| limits.opening = SHORT);
    assert!(ends(&mut dial(&platform)));
}

#[test]
fn a_client_that_asks_for_nothing_is_closed() {
    let platform = platform(|limits| limits.opening = SHORT);
    for protocol in [&b"h2"[..], b"http/1.1"] {
        assert!(ends(&mut connect(&platform, protocol).unwrap()), "{protocol:?}");
    }
    let mut half = connect(&platform, b"http/1.1").unwrap();
    half.write_all(b"GET /health HT").unwrap();
    assert!(ends(&mut half), "half a head is no request");
    let mut pinging = connect(&platform, b"h2").unwrap();
    pinging.write_all(HTTP2).unwrap();
    ends_in_spite_of_pings(&mut pinging);
}

#[test]
fn a_client_that_asks_for_nothing_more_is_closed() {
    let platform = platform(|limits| limits.idle = SHORT);
    let mut stream = connect(&platform, b"http/1.1").unwrap();
    assert!(is_served(&mut stream));
    assert!(ends(&mut stream));
}

#[test]
fn http2_is_closed_when_nothing_more_is_asked() {
    let platform = platform(|limits| limits.idle = SHORT);
    let mut stream = connect(&platform, b"h2").unwrap();
    stream.write_all(HTTP2).unwrap();
    // A HEADERS frame that ends stream 1: GET https /health, from HPACK's static table but for the path.
    let block = b"\x82\x87\x04\x07/health\x01\x09localhost";
    let length = u8::try_from(block.len()).unwrap();
    stream.write_all(&[0, 0, length, 0x01, 0x05, 0, 0, 0, 1]).unwrap();
    stream.write_all(block).unwrap();
    let received = ends_in_spite_of_pings(&mut stream);
    let is_answer = |bytes: &[u8]| bytes == b"\"status\"";
    assert!(received.windows(8).any(is_answer), "it was answered, and ended by its idle time");
}

#[test]
fn a_client_that_asked_has_the_idle_time() {
    let platform = platform(|limits| limits.opening = Duration::from_secs(1));
    // On a busy machine the first request may come too late.
    let mut tries = core::iter::repeat_with(|| connect(&platform, b"http/1.1").ok()).flatten();
    let mut stream = tries.find_map(|mut stream| is_served(&mut stream).then_some(stream)).unwrap();
    // Another one, younger, that asks for nothing tells when that time is over.
    assert!(ends(&mut connect(&platform, b"http/1.1").unwrap()));
    let mut rest = [0; 4_096];
    assert!(stream.read(&mut rest).unwrap() > 0, "the rest of the first answer");
    assert!(is_served(&mut stream));
}

/// Asks, and reads the whole answer, so that one can ask again.
fn is_answered(stream: &mut Tls, request: &[u8]) -> bool {
    let mut answer = [0; 4_096];
    let read = stream.write_all(request).and_then(|()| stream.read(&mut answer));
    read.is_ok_and(|length| answer[..length].starts_with(b"HTTP/1.1 200"))
}

/// Asks something that only the operator may ask.
fn prove(platform: &Platform, stream: &mut Tls) {
    let key = platform.operator.key();
    let request = format!(
        "GET /v1/merchants HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n"
    );
    assert!(is_answered(stream, request.as_bytes()));
}

#[test]
fn there_are_so_many_places_and_no_more() {
    let platform = platform(|limits| {
        limits.connections = 3;
        limits.connections_per_address = 3;
    });
    // The operator's client has not asked anything yet, so it holds none.
    let mut held: Vec<Tls> = (0..3).map(|_| connect(&platform, b"http/1.1").unwrap()).collect();
    held.iter_mut().for_each(|stream| prove(&platform, stream));
    let refused = connect(&platform, b"http/1.1");
    assert!(is_closed(refused.map(|_| 1)), "there is no fourth place");
    assert!(held.iter_mut().all(is_served), "those that have a place keep it");
    let log = log();
    let told = log.lines().filter(|line| line.contains("connections_refused"));
    assert!(told.into_iter().any(|line| line.contains("\"limit\":\"address\"")), "it is told of");
    held.pop();
    // The server learns of the end in its own time; each try takes a handshake of its own.
    let mut tries = core::iter::repeat_with(|| connect(&platform, b"http/1.1").ok()).flatten();
    let mut next = tries.next().unwrap();
    let key = platform.operator.key();
    let request = format!(
        "GET /metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
    );
    next.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    next.read_to_string(&mut answer).unwrap();
    for name in ["tapfer_connections_open", "tapfer_connections_refused_total{limit=\"address\"}"] {
        let value = answer.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert!(value.trim().parse::<u64>().unwrap() > 0, "{name}");
    }
}

/// Strangers who hold every place, and ask often enough to keep it, keep nobody out.
#[test]
fn attack_every_place_held_by_strangers() {
    let platform = platform(|limits| {
        limits.connections = 8;
        limits.connections_per_address = 8;
    });
    let mut known = connect(&platform, b"http/1.1").unwrap();
    prove(&platform, &mut known);
    let mut strangers: Vec<Tls> =
        (0..7).map(|_| connect(&platform, b"http/1.1").unwrap()).collect();
    let asks = |stream: &mut Tls| is_answered(stream, REQUEST);
    assert!(strangers.iter_mut().all(asks));
    let mut honest = connect(&platform, b"http/1.1").unwrap();
    prove(&platform, &mut honest);
    assert!(ends(&mut strangers[0]), "the one who has been there longest");
    assert!(strangers[1..].iter_mut().all(asks));
    assert!(asks(&mut known) && asks(&mut honest));
}

/// Whoever has one key holds its share of the places, and no others.
#[test]
fn attack_every_place_held_with_one_key() {
    let platform = platform(|limits| {
        limits.connections = 6;
        limits.connections_per_address = 6;
    });
    let mut held: Vec<Tls> = (0..6).map(|_| connect(&platform, b"http/1.1").unwrap()).collect();
    held.iter_mut().for_each(|stream| prove(&platform, stream));
    let mut honest = connect(&platform, b"http/1.1").unwrap();
    assert!(is_answered(&mut honest, REQUEST));
    assert!(ends(&mut held[4]), "the first beyond the share");
    assert!(held[..4].iter_mut().all(|stream| is_answered(stream, REQUEST)));
}

#[test]
fn one_address_does_not_take_all_places() {
    let platform = platform(|limits| limits.connections_per_address = 1);
    let mut held = connect(&platform, b"http/1.1").unwrap();
    prove(&platform, &mut held);
    let refused = connect(&platform, b"http/1.1");
    assert!(is_closed(refused.map(|_| 1)));
}
