//! Bodies that want more memory than there is for them, on real connections.

use std::io::{Read as _, Write as _};
use std::iter;

use serde_json::{Value, json};
use tapfer_server::Limits;

use crate::connections::{LONG, Tls, connect, platform};
use crate::running::{Client, Platform, Reply};

/// The largest body there is.
const LARGEST: usize = 64 * 1024;

/// Head of a request that makes an issuer, with this bearer and a body of so many bytes.
pub(crate) fn head(bearer: &str, length: usize) -> String {
    format!(
        "POST /v1/issuers HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bearer}\r\nidempotency-key: flood\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// A request whose body is on its way: it promises so many bytes, and sends one.
fn begun(platform: &Platform, head: &str) -> Tls {
    let mut stream = connect(platform, b"http/1.1").unwrap();
    stream.write_all(format!("{head} ").as_bytes()).unwrap();
    stream
}

fn merchant(number: usize) -> Value {
    json!({ "name": format!("Mensa {number}"), "country": "276", "category_code": "5814" })
}

/// Asks until the answer has this status. The server learns of what others send in its own time.
fn until(status: u16, ask: impl FnMut() -> Reply) -> Reply {
    iter::repeat_with(ask).take(10_000).find(|reply| reply.status == status).unwrap()
}

/// How often there was no room for a body.
fn refused(operator: &Client, limit: &str) -> u64 {
    let name = format!("tapfer_request_bodies_refused_total{{limit=\"{limit}\"}} ");
    let metrics = operator.get("/metrics").text();
    metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

/// Room for one body of who is known, and for one of a stranger.
fn cramped(change: impl FnOnce(&mut Limits)) -> Platform {
    platform(|limits| {
        (limits.bodies, limits.body) = (0, LONG);
        limits.requests.wrong_credentials = 0;
        change(limits);
    })
}

/// Attack: who is nobody has the longest answer that there is sent to him, as often as he asks.
#[test]
fn attack_descriptions_for_strangers() {
    let platform = cramped(|_| {});
    let ask = || platform.operator.send_bare("GET", "/v1/openapi.json", &[], b"");
    let given = (0..400).take_while(|_| ask().status == 200).count();
    assert!((10..200).contains(&given), "{given}");
    let refused = ask();
    if refused.status == 429 {
        assert_eq!(refused.problem(429), "too_many_requests");
    }
    platform.operator.get("/v1/merchants").expect(200);
}

/// Attack: who is nobody sends bodies, and keeps their memory as long as he can.
#[test]
fn attack_bodies_of_strangers() {
    let platform = cramped(|_| {});
    let heads = ["", "nonsense", &format!("tapfer_operator_{}", "A".repeat(43))]
        .map(|bearer| head(bearer, 8 * 1024));
    let _held: Vec<Tls> =
        iter::repeat_n(&heads, 4).flatten().map(|head| begun(&platform, head)).collect();
    // Later than what was sent before on other connections, with all likelihood, and often enough.
    for number in 0..50 {
        platform.operator.post("/v1/merchants", &merchant(number)).expect(201);
    }
}

/// Attack: who is known keeps the memory of bodies for himself. It is the room of his address that he takes.
#[test]
fn attack_bodies_that_take_all_room() {
    for (limit, bodies) in [("address", 4 * LARGEST), ("all", LARGEST)] {
        let platform = cramped(|limits| {
            limits.bodies = bodies;
            if limit == "all" {
                limits.connections_per_address = limits.connections;
            }
        });
        let mut held = Vec::new();
        let before = refused(&platform.operator, limit);
        let mut number = 0;
        let mut ask = || {
            number += 1;
            platform.operator.post("/v1/merchants", &merchant(number))
        };
        let refusal = until(503, || {
            // One that came while another body was read may have found no room itself.
            held.push(begun(&platform, &head(platform.operator.key(), LARGEST)));
            ask()
        });
        assert_eq!(refusal.problem(503), "unavailable");
        assert_eq!(refusal.header("retry-after"), Some("1"));
        assert!(refused(&platform.operator, limit) > before, "it is counted");
        platform.operator.get("/v1/merchants").expect(200);
        drop(held);
        until(201, &mut ask);
    }
}

/// The secret of an OAuth client stands in the body, so that of a stranger is read, but not a long one.
#[test]
fn a_stranger_sends_little() {
    let platform = platform(|_| {});
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let long = "x".repeat(8 * 1024 + 1);
    let send = |body: &str| {
        platform.operator.send_bare("POST", "/oauth2/token", &headers, body.as_bytes())
    };
    assert_eq!(send(&long).problem(413), "payload_too_large");
    assert_eq!(send(&long[1..]).status, 400);
}

/// A body that waits to be called for is not, where nobody wants it: it may hold a card's number.
#[test]
fn a_refused_body_is_not_called_for() {
    let platform = platform(|_| {});
    let mut stream = connect(&platform, b"http/1.1").unwrap();
    let head = head("nonsense", 60_000).replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 401") && said.contains("connection: close"), "{said}");
}

/// Nor does a refusal of one that does not say how long it is.
#[test]
fn a_refused_body_in_chunks_costs_no_connection() {
    let platform = platform(|_| {});
    let mut stream = connect(&platform, b"http/1.1").unwrap();
    let head = head("nonsense", 0).replace("content-length: 0", "transfer-encoding: chunked");
    stream.write_all(format!("{head}5\r\nhello\r\n0\r\n\r\n").as_bytes()).unwrap();
    let next = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(next).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 401") && said.contains("HTTP/1.1 200"), "{said}");
}

/// A body that does not say how long it is, and one in many pieces.
#[test]
fn a_body_in_chunks_is_read() {
    let platform = platform(|_| {});
    let mut stream = connect(&platform, b"http/1.1").unwrap();
    let name = "x".repeat(20_000);
    let body = json!({ "name": name }).to_string();
    let key = platform.operator.key();
    let head = head(key, 0)
        .replace("content-length: 0", "transfer-encoding: chunked\r\nconnection: close");
    stream.write_all(head.as_bytes()).unwrap();
    for piece in body.as_bytes().chunks(1_000) {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
        stream.write_all(piece).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 422") && said.contains("1 to 140 characters"), "{said}");
}
