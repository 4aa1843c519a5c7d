//! Two real `tapfer serve` on one PostgreSQL database: what one is told, the other knows; one that dies or is upgraded is not
//! missed.
//!
//! `TAPFER_KILLS=20` kills nodes as often as the night does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs
)]

mod load;
mod payer;
mod platform;

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use load::{Load, kills, random_moment, summary_of, uptime};
use payer::{Caller, Client, PRICE, Payment, Phone, armed, pay, tap};
use platform::{Platform, tapfer, until};
use serde_json::{Value, json};
use tapfer_test_postgres::{OWNER, PLATFORM, TestPostgres};
use tempfile::TempDir;

/// So long a setting may take to the other node. Ten times what is promised: this machine may be busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every node of a realm has in its home directory.
const SHARED: [&str; 8] = [
    "realm.json",
    "keystore",
    "keys.json",
    "database.toml",
    "demo-unlock.key",
    "operator.key",
    "configuration.key",
    "tls",
];

/// Two nodes, their database, and where they are at home. Dropped in this order.
struct Nodes {
    first: Platform,
    second: Platform,
    database: TestPostgres,
    homes: [TempDir; 2],
}

impl Nodes {
    fn start() -> Self {
        let database = TestPostgres::start();
        let homes = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [here, there] = [homes[0].path(), homes[1].path()];
        let named = format!("address = \"{}\"\n", database.address(PLATFORM));
        fs::write(here.join("database.toml"), named).unwrap();
        database.say(&format!("CREATE ROLE {PLATFORM} LOGIN"));
        // The first start makes the keys, and says whose turn it is.
        let refused =
            tapfer().args(["serve", "--listen", "127.0.0.1:0", "--home"]).arg(here).output();
        let told = String::from_utf8(refused.unwrap().stderr).unwrap();
        assert!(told.contains("tapfer db migrate"), "{told}");
        let migrated =
            tapfer().args(["db", "migrate", "--owner", OWNER, "--home"]).arg(here).status();
        assert!(migrated.unwrap().success());
        database.say(&format!("GRANT tapfer_server TO {PLATFORM}"));
        let first = Platform::on(here);
        first.tapfer(&["init", "--balance", "1000.00"]);
        for name in SHARED {
            copy(&here.join(name), &there.join(name));
        }
        // The command line there knows the same tills and phones.
        copy(&here.join("client.json"), &there.join("client.json"));
        let second = Platform::logging(there, &there.join("log"));
        Self { first, second, database, homes }
    }

    fn clients(&self) -> [Client; 2] {
        let first = Client::new(&self.first);
        let second = first.at(&self.second);
        [first, second]
    }

    fn phone(&self, client: &Client) -> Phone {
        Phone::open(&self.homes[0].path().join("wallet"), client)
    }
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let name = file.unwrap().file_name();
        copy(&from.join(&name), &to.join(&name));
    }
}

/// Asks the same of both nodes at the same moment.
fn of_both<T: Send>(clients: &[Client; 2], ask: impl Fn(usize, &Client) -> T + Sync) -> [T; 2] {
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|place| {
            let (start, ask) = (&start, &ask);
            scope.spawn(move || {
                start.wait();
                ask(place, &clients[place])
            })
        });
        threads.map(|thread| thread.join().unwrap())
    })
}

#[test]
fn a_tokens_payments_are_decided_one_after_another_wherever_they_arrive() {
    let nodes = Nodes::start();
    let clients = nodes.clients();
    let [first, second] = &clients;
    let mut phone = nodes.phone(first);
    let paid: Vec<Payment> =
        (0..6).map(|number| pay(&clients[number % 2], &mut phone, number)).collect();
    assert!(paid.iter().all(|payment| payment.answer["outcome"] == "approved"));
    let counters: Vec<_> = paid.iter().map(Payment::counter).collect();
    assert!(counters.is_sorted_by(|one, next| one < next), "{counters:?}");

    // One request, at both nodes at once: decided once, and both tell the same.
    let (key, question) = tap(first, &mut phone, 6);
    let told = of_both(&clients, |_, client| {
        client.post("/v1/authorizations", &question, &key, Caller::Terminal)
    });
    assert_eq!(told[0]["outcome"], "approved");
    assert_eq!(told[0], told[1]);
    // Another one under the same key is refused at both, with what is another.
    for client in &clients {
        let other = &paid[0].question;
        let (_, problem) = client.ask("/v1/authorizations", other, &key, Caller::Terminal).unwrap();
        let kind = problem["type"].as_str().unwrap();
        assert!(kind.ends_with(":idempotency_key_reused"), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("body"), "{problem}");
    }

    // One tap, put to each node for another payment at another till: one of them wins.
    let till = nodes.first.tapfer(&["terminal", "create", "--label", "Counter 2"]);
    let [id, api_key] = ["id", "api_key"].map(|field| till[field].as_str().unwrap().to_owned());
    let racers = [first.at(&nodes.first), second.at(&nodes.second).with_terminal(&id, &api_key)];
    for round in 0..5 {
        let number = 10 + 2 * round;
        let (_, question) = tap(&racers[0], &mut phone, number);
        let intents = [
            question["payment_intent"].as_str().unwrap().to_owned(),
            armed(&racers[1], number + 1),
        ];
        let told = of_both(&racers, |place, client| {
            let question =
                json!({ "payment_intent": intents[place], "chip_data": question["chip_data"] });
            let key = format!("race-{round}-{place}");
            client.post("/v1/authorizations", &question, &key, Caller::Terminal)
        });
        let mut outcomes = told.map(|answer| answer["reason"].as_str().unwrap().to_owned());
        outcomes.sort();
        assert_eq!(outcomes, ["approved", "replay"]);
        // The payment that was declined leaves its till armed for the next tap.
        for (place, intent) in intents.iter().enumerate() {
            let path = format!("/v1/payment-intents/{intent}/cancel");
            let key = format!("cancel-{round}-{place}");
            racers[place].ask(&path, &json!({}), &key, Caller::Merchant).unwrap();
        }
    }
    let card = nodes.second.tapfer(&["card", "show"]);
    assert_eq!(card["balance"], 100_000 - 12 * PRICE);
    assert_eq!(card["available"], card["balance"]);
}

#[test]
fn what_one_node_is_told_holds_at_the_other() {
    let nodes = Nodes::start();
    let clients = nodes.clients();
    let [first, second] = &clients;
    let mut phone = nodes.phone(first);
    let mut number = 0;
    let mut outcome = |client: &Client| {
        number += 1;
        let answer = pay(client, &mut phone, number).answer;
        answer["reason"].as_str().unwrap().to_owned()
    };

    // A block holds at the other node when its answer is given.
    assert_eq!(outcome(second), "approved");
    nodes.first.tapfer(&["card", "block", &latest(&nodes, "card"), "--reason", "lost"]);
    assert_eq!(outcome(second), "card_blocked");
    nodes.second.tapfer(&["card", "unblock", &latest(&nodes, "card"), "--reason", "found"]);
    assert_eq!(outcome(first), "approved");
    nodes.first.tapfer(&["token", "suspend", "--reason", "lost"]);
    assert_eq!(outcome(second), "token_suspended");
    nodes.second.tapfer(&["token", "unsuspend", "--reason", "found"]);
    assert_eq!(outcome(first), "approved");

    // So does the end of an API key, at a node that has just let it in.
    let made = nodes.first.tapfer(&["api-key", "create", "--owner", &latest(&nodes, "merchant")]);
    let [id, api_key] = ["id", "api_key"].map(|field| made[field].as_str().unwrap().to_owned());
    let asked = |client: &Client| client.get_as(&api_key, "/v1/payment-intents").unwrap().0;
    for client in [second, first, second] {
        assert_eq!(asked(client), 200);
    }
    nodes.first.tapfer(&["api-key", "revoke", &id, "--reason", "left in a log"]);
    assert_eq!([asked(second), asked(first)], [401, 401]);

    // Settings, and what nodes publish of them.
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/google-pay.toml");
    let set = nodes.first.tapfer(&["issuer", "policy", "set", policy]);
    let shown = nodes.second.tapfer(&["issuer", "policy", "show"]);
    assert_eq!(shown["version"], set["version"]);
    let published = [first, second].map(|client| {
        let (status, configuration) = client.get("/v1/configuration", Caller::Device).unwrap();
        assert_eq!(status, 200);
        configuration
    });
    assert_eq!(published[0], published[1], "both nodes publish one document");

    // Keys that one node makes, the other uses.
    for (maker, user, prefix) in
        [(&nodes.first, &nodes.second, "999910"), (&nodes.second, &nodes.first, "999912")]
    {
        let token = prefix.replace("99991", "99992");
        let issuer = maker.tapfer(&[
            "issuer",
            "create",
            "--name",
            "Second",
            "--pan-prefix",
            prefix,
            "--token-prefix",
            &token,
        ]);
        let issuer = issuer["id"].as_str().unwrap().to_owned();
        until("the other node has the issuer's keys", PATIENCE, || {
            let made = user.run(&["card", "create", "--issuer", &issuer]);
            made.status.success().then_some(())
        });
    }
    for client in &clients {
        assert!(client.is_ready());
    }
}

fn latest(nodes: &Nodes, kind: &str) -> String {
    let memory = fs::read(nodes.homes[0].path().join("client.json")).unwrap();
    let memory: Value = serde_json::from_slice(&memory).unwrap();
    memory["latest"][kind].as_str().unwrap().to_owned()
}

/// Nobody waits for a database that does not answer: each is told why, and asks again.
#[test]
fn without_the_database_requests_are_refused_at_once() {
    let nodes = Nodes::start();
    let clients = nodes.clients();
    let mut phone = nodes.phone(&clients[0]);
    assert_eq!(pay(&clients[0], &mut phone, 0).answer["outcome"], "approved");
    let (key, question) = tap(&clients[0], &mut phone, 1);
    let impatient = Client::impatient(&nodes.first);
    let impatient = [impatient.at(&nodes.second), impatient];
    nodes.database.stand_still(true);
    let stood_still = uptime();
    for client in &impatient {
        let refusal = until("the platform says that its database is away", PATIENCE, || {
            client.ask("/v1/authorizations", &question, &key, Caller::Terminal)
        });
        assert_eq!(refusal.0, 503);
        let kind = refusal.1["type"].as_str().unwrap();
        assert!(kind.ends_with(":database_down"), "{}", refusal.1);
        assert!(!client.is_ready());
    }
    let noticed = uptime();
    for _ in 0..10 {
        let (status, _) =
            clients[0].ask("/v1/authorizations", &question, &key, Caller::Terminal).unwrap();
        assert_eq!(status, 503);
    }
    let refused = uptime();
    let lines = |said: &str| {
        let log = fs::read_to_string(nodes.homes[1].path().join("log")).unwrap();
        log.lines().filter(|line| line.contains(said)).count()
    };
    until("the node says that its log cannot be linked", PATIENCE, || {
        (lines("the audit log cannot be linked") > 0).then_some(())
    });
    nodes.database.stand_still(false);
    let back = uptime();
    let answer = clients[1].post("/v1/authorizations", &question, &key, Caller::Terminal);
    assert_eq!(answer["outcome"], "approved");
    eprintln!(
        "noticed after {:.1} s, then refused in {:.3} s each, back after {:.1} s",
        noticed - stood_still,
        (refused - noticed) / 10.0,
        uptime() - back
    );
    assert_eq!(nodes.first.tapfer(&["card", "show"])["balance"], 100_000 - 2 * PRICE);
    // The log is no flood: it was tried four times a second.
    until("the node says that it is over", PATIENCE, || {
        (lines("the audit log is linked again") > 0).then_some(())
    });
    assert!(
        (1..4).contains(&lines("the audit log cannot be linked")),
        "once for each kind of failure"
    );
}

#[test]
fn a_node_that_is_killed_is_not_missed() {
    let Nodes { mut first, mut second, database: _database, homes: _homes } = Nodes::start();
    let load = Load::start(&[&first, &second], 4);
    let mut seconds = Vec::new();
    for kill in 0..kills(4) {
        let node = if kill % 2 == 0 { &mut first } else { &mut second };
        random_moment();
        let killed = uptime();
        node.kill();
        seconds.push(load.seconds_to_a_payment_behind(killed));
        node.restart();
    }
    let found = load.end();
    let (median, worst) = summary_of(&seconds);
    let kills = seconds.len();
    eprintln!("killed {kills} times, payments went on after {median:.2} s, at worst {worst:.2} s");
    eprintln!("{found}");
}

#[test]
fn an_upgrade_of_one_node_after_the_other_loses_no_request() {
    let Nodes { mut first, mut second, database: _database, homes: _homes } = Nodes::start();
    let load = Load::start(&[&first, &second], 4);
    for _ in 0..2 {
        for node in [&mut first, &mut second] {
            load.wait_for_more(20);
            node.stop();
            load.wait_for_more(20);
            node.restart();
        }
    }
    let found = load.end();
    assert_eq!(found["cut"], 0, "every request that was taken was answered: {found}");
    eprintln!("{found}");
}
