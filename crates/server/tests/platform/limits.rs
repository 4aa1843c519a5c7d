//! Callers who ask too often, and guess, over real TLS.

use std::iter;

use serde_json::json;
use tapfer_server::{Limits, Rate, RequestLimits};

use crate::running::{Client, Platform, Reply, log};

/// A platform with these limits of requests.
fn platform(change: impl FnOnce(&mut RequestLimits)) -> Platform {
    let mut limits = Limits::default();
    change(&mut limits.requests);
    Platform::start_with(limits)
}

fn merchant(operator: &Client) -> Client {
    let merchant = json!({ "name": "Mensa", "country": "276", "category_code": "5814" });
    operator.with_key(&operator.post("/v1/merchants", &merchant).expect(201)["api_key"])
}

/// An API key that nobody has.
fn guess(operator: &Client, number: usize) -> Client {
    operator.with_key(&json!(format!("tapfer_operator_{number:043}")))
}

/// When to ask again, in seconds.
fn pause(refused: &Reply) -> u64 {
    assert_eq!(refused.problem(429), "too_many_requests");
    refused.header("retry-after").unwrap().parse().unwrap()
}

#[test]
fn attack_flood_by_one_api_key() {
    let slow = Rate { a_second: 1, burst: 1 };
    let platform = platform(|limits| limits.server = slow);
    let path = "/v1/trust";
    // No request takes as long as the pause that is asked for.
    let mut answers = iter::repeat_with(|| platform.operator.get(path)).take(100);
    let refused = answers.find(|answer| answer.status != 200).unwrap();
    assert_eq!(pause(&refused), 1);
    assert_eq!(refused.header("ratelimit-policy"), Some("\"rate\";q=1;w=1"));
    assert_eq!(refused.header("ratelimit"), Some("\"rate\";r=0;t=1"));
}

#[test]
fn a_refused_request_did_nothing_and_may_come_again() {
    let platform = platform(|limits| limits.a_day = 2);
    let merchant = merchant(&platform.operator);
    let intent = json!({ "amount": 500, "currency": "EUR" });
    for _ in 0..2 {
        merchant.post("/v1/payment-intents", &intent).expect(201);
    }
    let refused = merchant.post_as("late", "/v1/payment-intents", &intent);
    let midnight = pause(&refused);
    assert!(refused.header("ratelimit-policy").unwrap().starts_with("\"quota\";q=2;w=86400"));
    platform.operator.get("/v1/merchants").expect(200);
    platform.clock.advance_seconds(i64::try_from(midnight).unwrap());
    let taken = merchant.post_as("late", "/v1/payment-intents", &intent);
    assert!(!taken.is_replayed());
    taken.expect(201);
}

#[test]
fn attack_guessed_api_keys() {
    let platform = platform(|limits| limits.wrong_credentials = 3);
    for number in 0..3 {
        let refused = guess(&platform.operator, number).get("/v1/trust");
        assert_eq!(refused.problem(401), "unauthenticated");
    }
    let mut pauses = Vec::new();
    for number in 3..6 {
        pauses.push(pause(&guess(&platform.operator, number).get("/v1/trust")));
    }
    assert!(pauses.iter().all(|pause| (1..=2).contains(pause)), "{pauses:?}");
    platform.operator.get("/health").expect(200);
}

#[test]
fn attack_guesses_that_are_to_lock_a_neighbour_out() {
    let platform = platform(|limits| limits.wrong_credentials = 1);
    platform.operator.get("/v1/trust").expect(200);
    // The first is looked up, and all behind it wait.
    let refused = guess(&platform.operator, 0).get("/v1/trust");
    assert_eq!(refused.problem(401), "unauthenticated");
    let answers = (1..20).map(|number| guess(&platform.operator, number).get("/v1/trust").status);
    assert!(answers.into_iter().all(|status| status == 429 || status == 401));
    platform.operator.get("/v1/trust").expect(200);
}

/// Attack: requests without credentials, each of which leaves its lines in the log, until the disk is full and payments stop.
#[test]
fn attack_log_filled_by_strangers() {
    let platform = platform(|limits| {
        (limits.wrong_credentials, limits.strangers_lines) = (0, Rate { a_second: 1, burst: 5 });
    });
    let flood = 1_000;
    for number in 0..flood {
        let id = format!("log-flood-{number}");
        let refused =
            platform.operator.send_bare("GET", "/v1/cards", &[("x-request-id", &id)], b"");
        assert_eq!(refused.problem(401), "unauthenticated");
    }
    let all = log();
    let lines: Vec<&str> = all.lines().filter(|line| line.contains("\"log-flood-")).collect();
    let of = |target| lines.iter().filter(|line| line.contains(target)).count();
    for target in ["tapfer::access", "tapfer::security"] {
        // Five, and one for each second that it took.
        assert!((1..flood / 2).contains(&of(target)), "{} of {target}", of(target));
    }
    // Who is known has a line for each request.
    platform.operator.send("GET", "/v1/cards", &[("x-request-id", "log-known")], b"").expect(200);
    assert!(log().lines().any(|line| line.contains("\"log-known\"")));
}

#[test]
fn limits_are_for_each_key() {
    let platform = platform(|limits| limits.a_day = 1);
    let [one, other] = [merchant(&platform.operator), merchant(&platform.operator)];
    one.get("/v1/merchants").expect(200);
    assert!(pause(&one.get("/v1/merchants")) > 0);
    other.get("/v1/merchants").expect(200);
}
