//! Clients that send and read as slowly as they can, to hold what others need. On real connections; each test waits for the
//! server to end it.

use core::time::Duration;
use std::io::{self, Read, Write};

use crate::connections::{LONG, SHORT, Tls, connect, ends, is_closed, is_served, platform};
use crate::floods::head;

/// From one byte to the next. Long enough for thousands to take longer than any limit that is tested.
const DRIBBLE: Duration = Duration::from_millis(5);
/// So many bytes are dribbled at most: a server that waits for all of them fails the test.
const PATIENCE: usize = 10_000;

/// Sends these bytes over and over, one at a time, until the server ends the connection; gives what it said before.
fn dribble(stream: &mut Tls, bytes: &[u8]) -> Vec<u8> {
    stream.sock.set_read_timeout(Some(DRIBBLE)).unwrap();
    let mut said = Vec::new();
    for byte in bytes.iter().cycle().take(PATIENCE) {
        let mut buffer = [0; 4_096];
        let sent = stream.write_all(&[*byte]).and_then(|()| stream.flush());
        match sent.and_then(|()| stream.read(&mut buffer)) {
            Ok(read) if read > 0 => said.extend_from_slice(&buffer[..read]),
            Err(error) if is_pause(&error) => {}
            end => {
                assert!(is_closed(end), "the server ended it");
                return said;
            }
        }
    }
    panic!("the server still takes bytes");
}

/// No byte came from the server for as long as this test listens between two of its own.
fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[test]
fn attack_head_in_dribbles() {
    let platform = platform(|limits| limits.opening = SHORT);
    let mut stream = connect(&platform, b"http/1.1").unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n").unwrap();
    dribble(&mut stream, b"x: y\r\n");
}

#[test]
fn the_next_head_in_dribbles_is_not_waited_for() {
    let platform = platform(|limits| limits.idle = SHORT);
    let mut stream = connect(&platform, b"http/1.1").unwrap();
    assert!(is_served(&mut stream));
    dribble(&mut stream, b"GET / HTTP/1.1\r\nx: y\r\n");
}

#[test]
fn attack_body_in_dribbles() {
    let platform = platform(|limits| limits.body = SHORT);
    let key = platform.operator.key();
    // Who is not known is told so then, and has no more time either.
    for (key, status, slug) in [(key, "408", "request_timeout"), ("", "401", "unauthenticated")] {
        let mut stream = connect(&platform, b"http/1.1").unwrap();
        stream.write_all(head(key, 60_000).as_bytes()).unwrap();
        let said = dribble(&mut stream, b" ");
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")) && said.contains(slug), "{said}");
        assert!(said.contains("connection: close"), "{said}");
    }
}

#[test]
fn attack_answers_that_nobody_reads() {
    let platform = platform(|limits| limits.idle = SHORT);
    let mut stream = connect(&platform, b"http/1.1").unwrap();
    // Each of them gets a long answer. Sending stops when the server cannot get rid of those, and fails when it ends it.
    let request = b"GET /v1/openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    stream.sock.set_write_timeout(Some(LONG)).unwrap();
    let failed = (0..PATIENCE).find_map(|_| stream.write_all(&request).err());
    assert!(is_closed(Err(failed.unwrap())));
}

#[test]
fn attack_endless_head() {
    let platform = platform(|_| {});
    let mut stream = connect(&platform, b"http/1.1").unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n").unwrap();
    let field = [&b"x: "[..], &[b'y'; 1_000], b"\r\n"].concat();
    // The server may end it before all is sent.
    let _sent = (0..64).try_for_each(|_| stream.write_all(&field));
    let mut said = Vec::new();
    let _end = stream.read_to_end(&mut said);
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 431"), "it is not served");
    assert!(ends(&mut stream));
}

#[test]
fn a_large_head_is_served() {
    let platform = platform(|_| {});
    let mut stream = connect(&platform, b"http/1.1").unwrap();
    let field = [&b"x: "[..], &[b'y'; 8_000], b"\r\n"].concat();
    let head = [&b"GET /health HTTP/1.1\r\nhost: localhost\r\n"[..], &field, b"\r\n"].concat();
    stream.write_all(&head).unwrap();
    let mut said = [0; 12];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"HTTP/1.1 200");
}
