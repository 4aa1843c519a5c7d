//! The edges of the interface: problems for everything, headers on everything, and TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use tapfer_server::{Limits, RequestLimits};

use crate::phone::hex;
use crate::running::{Platform, log};
use crate::shop::{Shop, issuer_request};

/// Method, path, headers, body; status and name of the problem.
type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);

#[test]
fn every_refusal_is_a_problem() {
    let platform = Platform::start();
    let client = &platform.operator;
    let json = ("content-type", "application/json");
    let key = ("idempotency-key", "k");
    let large = vec![b' '; 64 * 1024 + 1];
    let no_id = format!("/v1/cards/card_{}", "0".repeat(26));
    let rows: [Row<'_>; 14] = [
        ("GET", "/", &[], b"", 404, "not_found"),
        ("GET", "/v1/nothing", &[], b"", 404, "not_found"),
        ("GET", "/v1/cards/x", &[], b"", 404, "not_found"),
        ("GET", "/v1/cards/%ff%fe", &[], b"", 404, "not_found"),
        ("GET", "/v1/cards/iss_00000000000000000000000000", &[], b"", 404, "not_found"),
        ("GET", &no_id, &[], b"", 404, "not_found"),
        ("DELETE", "/v1/cards", &[], b"", 405, "method_not_allowed"),
        ("TRACE", "/v1/cards", &[], b"", 405, "method_not_allowed"),
        ("GET", "/v1/cards?limit=0", &[], b"", 422, "invalid_request"),
        ("GET", "/v1/cards?colour=red", &[], b"", 422, "invalid_request"),
        ("GET", "/v1/cards?cursor=x", &[], b"", 422, "invalid_request"),
        ("POST", "/v1/cards", &[json, key], b"{", 400, "malformed_request"),
        ("POST", "/v1/cards", &[key], b"{}", 415, "unsupported_media_type"),
        ("POST", "/v1/cards", &[json, key], &large, 413, "payload_too_large"),
    ];
    for (method, path, headers, body, status, slug) in rows {
        let reply = client.send(method, path, headers, body);
        assert_eq!(reply.problem(status), slug, "{method} {path}");
    }
    let unknown = json!({ "name": "x", "colour": "red" });
    let reply = client.post("/v1/merchants", &unknown);
    assert_eq!(reply.problem(422), "invalid_request");
    assert_eq!(client.send("DELETE", "/v1/cards", &[], b"").header("allow"), Some("POST,GET,HEAD"));
}

/// The body is read before a request is refused, so that no client loses its connection over it.
#[test]
fn early_refusals_do_not_harm_the_next_request() {
    // So many wrong ones would have to pause.
    let requests = RequestLimits { wrong_credentials: 0, ..RequestLimits::default() };
    let platform = Platform::start_with(Limits { requests, ..Limits::default() });
    let client = &platform.operator;
    let stranger = client.with_key(&json!(format!("tapfer_operator_{}", "A".repeat(43))));
    let body = json!({ "name": "x".repeat(20_000) });
    for _ in 0..20 {
        assert_eq!(stranger.post("/v1/issuers", &body).problem(401), "unauthenticated");
        assert_eq!(client.post("/v1/nothing", &body).problem(404), "not_found");
        assert_eq!(client.get("/ready").status, 200);
    }
}

#[test]
fn every_answer_carries_its_headers() {
    let platform = Platform::start();
    let client = &platform.operator;
    for path in ["/health", "/ready", "/v1/issuers", "/v1/nothing", "/v1/openapi.json"] {
        let reply = client.get(path);
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert!(reply.header("strict-transport-security").is_some());
        assert!(reply.header("content-security-policy").is_some());
        assert_eq!(reply.header("x-request-id").unwrap().len(), 32);
        assert_eq!(reply.header("server"), None, "nothing tells what this runs on");
    }
    let own = client.send("GET", "/health", &[("x-request-id", "till-7")], b"");
    assert_eq!(own.header("x-request-id"), Some("till-7"));
    let bad = client.send("GET", "/health", &[("x-request-id", "a b")], b"");
    assert_ne!(bad.header("x-request-id"), Some("a b"));
}

#[test]
fn health_readiness_and_metrics() {
    let platform = Platform::start();
    let client = &platform.operator;
    client.post("/v1/issuers", &issuer_request()).expect(201);
    assert_eq!(client.send_bare("GET", "/health", &[], b"").expect(200), json!({ "status": "ok" }));
    assert_eq!(client.send_bare("GET", "/ready", &[], b"").expect(200), json!({ "status": "ok" }));
    let reply = client.get("/metrics");
    assert_eq!(reply.status, 200);
    let text = reply.text();
    for name in [
        "tapfer_http_requests_total{",
        "tapfer_http_request_duration_seconds_bucket{",
        "tapfer_hsm_calls_total{",
        "tapfer_http_panics_total 0",
        "tapfer_storage_queue_depth 0",
        "tapfer_storage_commits_total ",
        "tapfer_jobs_running 0",
        "route=\"/ready\"",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
}

#[test]
fn stops_gracefully_and_refuses_afterwards() {
    let mut platform = Platform::start();
    let address = platform.address();
    assert_eq!(platform.operator.get("/ready").status, 200);
    platform.stop();
    assert!(TcpStream::connect(address).is_err());
}

fn connect(
    platform: &Platform,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(platform.ca_certificate()).unwrap();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, TcpStream::connect(platform.address()).unwrap())
}

#[test]
fn both_versions_of_tls_and_nothing_in_clear() {
    let platform = Platform::start();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut stream = connect(&platform, &[version]);
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
        let suite = stream.conn.negotiated_cipher_suite().unwrap().suite();
        let suite = suite.as_str().unwrap();
        assert!(suite.starts_with("TLS13_") || suite.starts_with("TLS_ECDHE_"), "{suite}");
    }
    let mut clear = TcpStream::connect(platform.address()).unwrap();
    clear.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = clear.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"));
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let limits = Limits { body: Duration::from_millis(50), ..Limits::default() };
    let platform = Platform::start_with(limits);
    let head = format!(
        "POST /v1/issuers HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         idempotency-key: late\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{{",
        platform.operator.key()
    );
    let mut stream = connect(&platform, &[&rustls::version::TLS13]);
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("urn:tapfer:problem:request_timeout"));
}

/// What is written down tells who did what, and nothing that is secret.
#[test]
fn the_log_holds_access_lines_and_no_secrets() {
    let mut shop = Shop::open();
    let pan = "9999110000000004";
    let card = json!({ "issuer": shop.issuer_id, "pan": pan, "expiry": "2030-01" });
    shop.issuer.send(
        "POST",
        "/v1/cards",
        &[("x-request-id", "log-1")],
        card.to_string().as_bytes(),
    );
    shop.issuer.post("/v1/cards", &card);
    let intent = shop.armed_intent(100);
    let chip_data = shop.tap(&intent, 100);
    shop.authorize(&intent, &chip_data).expect(201);
    shop.authorize(&intent, &chip_data[2..]).problem(422);

    let log = log();
    let line = log.lines().find(|line| line.contains("\"log-1\"")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["target"], "tapfer::access");
    let fields = &line["fields"];
    assert_eq!((&fields["method"], &fields["route"]), (&json!("POST"), &json!("/v1/cards")));
    assert_eq!(fields["status"], 400);
    assert!(fields["caller"].as_str().unwrap().starts_with("key_"));
    assert!(fields["duration_us"].is_u64());

    let objects = data_encoding::HEXLOWER.decode(chip_data.as_bytes()).unwrap();
    let token = tapfer_emv::tlv::find(&objects, tapfer_emv::tags::APPLICATION_PAN);
    let token = hex(token.unwrap().unwrap());
    let secret = shop.terminal.key().strip_prefix("tapfer_terminal_").unwrap().to_owned();
    for forbidden in [pan.to_owned(), token, chip_data, secret, shop.card.clone() + "/top-ups"] {
        assert!(!log.contains(&forbidden), "{forbidden}");
    }
}

/// Attack: a request that a proxy in front takes for another server than this one does.
#[test]
fn attack_request_for_two_servers() {
    let platform = Platform::start();
    let rows: [(&str, &str); 5] = [
        ("HTTP/1.1\r\nhost: localhost", "200"),
        ("HTTP/1.1\r\nhost: localhost\r\nhost: elsewhere", "400"),
        ("HTTP/1.1", "400"),
        ("HTTP/1.0", "200"),
        ("HTTP/1.0\r\nhost: localhost\r\nhost: elsewhere", "400"),
    ];
    for (rest, status) in rows {
        let mut stream = connect(&platform, &[&rustls::version::TLS13]);
        let request = format!("GET /health {rest}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.get(9..12), Some(status), "{rest}: {answer}");
    }
}

#[test]
fn bytes_that_are_no_request() {
    let platform = Platform::start();
    for bytes in [
        b"\0\0\0\0\r\n\r\n".as_slice(),
        b"GET\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"POST /v1/cards HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /v1/cards HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/cards HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\0",
    ] {
        let mut stream = connect(&platform, &[&rustls::version::TLS13]);
        stream.write_all(bytes).unwrap();
        stream.conn.send_close_notify();
        let _ = stream.flush();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(platform.operator.get("/ready").status, 200);
}
