//! A node that decides small payments alone while its PostgreSQL database is away, and books them when it is back. The database is a
//! real server that stands still meanwhile, the phone and the till are the real ones.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tapfer_server::realm::{RealmPaths, database_reader};
use tapfer_test_postgres::TestPostgres;

use crate::running::{Platform, Reply, log};
use crate::shop::{Shop, id, issuer_request, reason};

/// So long nobody waits for anything here.
const PATIENCE: Duration = Duration::from_secs(60);
const LIMITS: &str = "
    [stand_in]
    currency = \"EUR\"
    payment_minor = 1000
    token_payments = 3
    token_minor = 2500
    node_payments = 4
    node_minor = 3000
    minutes = 10
    known_minutes = 30
";

/// Asks until there is something.
#[allow(clippy::disallowed_methods, reason = "tests wait for real servers")]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// A shop on a PostgreSQL database.
pub(crate) struct Town {
    pub(crate) shop: Shop,
    pub(crate) database: TestPostgres,
}

impl Town {
    /// 100.00 EUR on the card, and one payment of 1.00 EUR that the node has seen.
    pub(crate) fn open() -> Self {
        Self::open_with(LIMITS)
    }

    fn open_with(settings: &str) -> Self {
        let mut issuer = issuer_request();
        issuer["key_policy"]["maximum_payments"] = json!(20);
        Self::open_for(settings, &issuer)
    }

    fn open_for(settings: &str, issuer: &Value) -> Self {
        let database = TestPostgres::start();
        let platform = Platform::start_on(&database, settings);
        let shop = Shop::open_at(platform, issuer);
        let mut town = Self { shop, database };
        assert_eq!(town.shop.pay(100)["outcome"], "approved");
        town
    }

    pub(crate) fn ready(&self) -> Reply {
        self.shop.platform.operator.get("/ready")
    }

    /// The database is gone without a word, and the node has noticed.
    pub(crate) fn lose_the_database(&self) {
        self.database.stand_still(true);
        until("the node stands in", || self.stands_in().then_some(()));
    }

    fn stands_in(&self) -> bool {
        let ready = self.ready();
        ready.status == 200 && ready.json()["status"] == "stand_in"
    }

    /// It is back, and all is booked.
    pub(crate) fn find_the_database(&self) {
        self.database.stand_still(false);
        until("the node asks the database again", || {
            let ready = self.ready();
            (ready.status == 200 && ready.json()["status"] == "ok").then_some(())
        });
    }

    /// The node ends, and is started again when the database is back.
    fn stop(&mut self) {
        self.shop.platform.stop();
        self.database.stand_still(false);
    }

    fn start(&mut self) {
        self.shop.platform.restart();
        let now_at = self.shop.platform.operator.clone();
        for client in [
            &mut self.shop.issuer,
            &mut self.shop.device,
            &mut self.shop.merchant,
            &mut self.shop.terminal,
        ] {
            *client = client.at(&now_at);
        }
    }

    pub(crate) fn journal(&self) -> std::path::PathBuf {
        self.shop.platform.home().join("stand-in.journal")
    }

    /// What the books say of themselves.
    #[track_caller]
    pub(crate) fn assert_sound(&self) {
        let reader = database_reader(&RealmPaths::new(self.shop.platform.home())).unwrap();
        assert_eq!(reader.check().faults, []);
    }

    /// How often something is in a table.
    fn count(&self, of: &str) -> i64 {
        self.database.ask(&format!("SELECT count(*) FROM {of}")).parse().unwrap()
    }

    fn audit_line_of(&self, authorization: &str) -> String {
        let lines = self.database.ask(&format!(
            "SELECT detail FROM (SELECT action, object, detail FROM audit_inbox
                 UNION ALL SELECT action, object, detail FROM audit_events) AS lines
             WHERE action = 'authorization.decided' AND object = '{authorization}'"
        ));
        assert_eq!(lines.lines().count(), 1, "decided once: {lines}");
        lines
    }
}

#[track_caller]
pub(crate) fn refused(reply: &Reply, reason: &str) {
    assert_eq!(reply.problem(503), "database_down", "{}", reply.text());
    let told = reply.json()["detail"].as_str().unwrap().to_owned();
    assert!(told.contains(&format!("({reason})")), "{told}");
}

pub(crate) fn approved(decision: &Value) -> String {
    assert_eq!(decision["outcome"], "approved", "{decision}");
    id(decision)
}

#[test]
fn small_payments_are_decided_alone_and_booked_once() {
    let mut town = Town::open();
    let of_database = town.shop.armed_intent(200);
    let tapped = town.shop.tap(&of_database, 200);
    town.lose_the_database();

    // What was begun in the database waits for it.
    refused(&town.shop.authorize(&of_database, &tapped), "database_intent");
    // Two payments, each of which can be looked at.
    let mut paid = Vec::new();
    for amount in [300, 400] {
        let decision = town.shop.pay(amount);
        let path = format!("/v1/authorizations/{}", approved(&decision));
        assert_eq!(town.shop.merchant.get(&path).expect(200), decision);
        let path = format!("/v1/payment-intents/{}", decision["payment_intent"].as_str().unwrap());
        assert_eq!(town.shop.merchant.get(&path).expect(200)["status"], "succeeded");
        paid.push(decision);
    }
    // A third one whose answer was lost: asked again it is the same, and another one under its key is refused.
    let intent = town.shop.armed_intent(500);
    let question = json!({ "payment_intent": intent, "chip_data": town.shop.tap(&intent, 500) });
    let ask = |question: &Value| town.shop.terminal.post_as("lost", "/v1/authorizations", question);
    let first = ask(&question);
    approved(&first.expect(201));
    let again = ask(&question);
    assert!(again.is_replayed());
    assert_eq!(again.expect(201), first.json());
    let other =
        json!({ "payment_intent": intent, "chip_data": question["chip_data"], "online_pin": null });
    assert_eq!(ask(&other).problem(422), "idempotency_key_reused");
    paid.push(first.json());
    // The operator sees it, and nothing but payments is done.
    let metrics = town.shop.platform.operator.get("/metrics").text();
    assert!(
        metrics.contains("tapfer_stand_in 1") && metrics.contains("tapfer_stand_in_payments 3"),
        "{metrics}"
    );
    refused(&town.shop.issuer.get(&format!("/v1/cards/{}", town.shop.card)), "not_offered");
    let refund = json!({ "payment_intent": intent });
    refused(&town.shop.merchant.post("/v1/refunds", &refund), "not_offered");

    town.find_the_database();
    assert!(!town.journal().exists());
    assert_eq!(town.shop.account(), (10_000 - 1_300, 10_000 - 1_300));
    for decision in &paid {
        let path = format!("/v1/authorizations/{}", id(decision));
        assert_eq!(town.shop.merchant.get(&path).expect(200), *decision);
        let line = town.audit_line_of(&id(decision));
        assert!(line.contains("by a node alone"), "{line}");
    }
    let again = ask(&question);
    assert!(again.is_replayed(), "the database has the answer");
    assert_eq!(again.expect(201), first.json());
    assert_eq!(town.count("authorizations WHERE stand_in = 1"), 3);
    // The one that was begun before is decided now, with a new tap.
    let tapped = town.shop.tap(&of_database, 200);
    approved(&town.shop.authorize(&of_database, &tapped).expect(201));
    town.assert_sound();
}

#[test]
fn who_was_not_seen_is_refused() {
    let mut town = Town::open();
    let known = town.shop.token.clone();
    town.shop.take_another_card(5_000);
    let stranger = json!({ "merchant": town.shop.merchant_id, "label": "till 2" });
    let stranger = town.shop.merchant.post("/v1/terminals", &stranger).expect(201);
    town.lose_the_database();
    let intent = town.shop.armed_intent(500);
    let tapped = town.shop.tap(&intent, 500);
    refused(&town.shop.authorize(&intent, &tapped), "unknown_token");
    let path = format!("/v1/payment-intents/{intent}/arm");
    refused(
        &town.shop.merchant.post(&path, &json!({ "terminal": stranger["id"] })),
        "unknown_terminal",
    );
    let unseen = town.shop.terminal.with_key(&stranger["api_key"]);
    refused(&unseen.get("/v1/configuration"), "unknown_caller");
    town.shop.choose(&known);
    let tapped = town.shop.tap(&intent, 500);
    approved(&town.shop.authorize(&intent, &tapped).expect(201));
    town.find_the_database();
    town.assert_sound();
}

#[test]
fn without_limits_nothing_is_decided() {
    let mut town = Town::open_with("");
    let intent = town.shop.armed_intent(500);
    let tapped = town.shop.tap(&intent, 500);
    town.database.stand_still(true);
    until("the node says that its database is away", || (town.ready().status == 503).then_some(()));
    assert_eq!(town.shop.authorize(&intent, &tapped).problem(503), "database_down");
    town.database.stand_still(false);
    until("it is back", || (town.ready().status == 200).then_some(()));
    approved(&town.shop.authorize(&intent, &tapped).expect(201));
    assert_eq!(town.count("authorizations WHERE stand_in = 1"), 0);
    // Over several databases it is refused to start with any.
    let file = town.shop.platform.home().join("database.toml");
    let named = fs::read_to_string(&file).unwrap();
    town.stop();
    let several = format!("{named}\n{LIMITS}\n[[partition]]\n{named}");
    for (wrong, why) in [
        (several.as_str(), "in several partitions has no stand-in"),
        (&format!("{named}{}", LIMITS.replace("2500", "1")), "amounts are above zero, and rise"),
        (&format!("{named}{}", LIMITS.replace("EUR", "Euro")), "no such currency"),
    ] {
        fs::write(&file, wrong).unwrap();
        let refusal = database_reader(&RealmPaths::new(town.shop.platform.home())).err().unwrap();
        assert!(refusal.to_string().contains(why), "{refusal}");
    }
}

/// The node dies between its answer and booking, and while it books: each payment is booked once.
#[test]
fn a_node_that_dies_loses_and_doubles_nothing() {
    let mut town = Town::open();
    town.lose_the_database();
    let mut decisions = vec![town.shop.pay(300)];
    let first = fs::read(town.journal()).unwrap();
    decisions.push(town.shop.pay(400));
    let journal = fs::read(town.journal()).unwrap();
    town.stop();
    // It died behind the first booking: that one is there, and the journal as it was.
    fs::write(town.journal(), first).unwrap();
    town.start();
    assert_eq!(town.shop.account(), (9_600, 9_600));
    town.stop();
    // The last entry was not the last: another began, of which nobody was told.
    fs::write(town.journal(), [journal.as_slice(), &[0, 0, 1, 0, 255, 255]].concat()).unwrap();
    town.start();
    assert!(!town.journal().exists());
    assert_eq!(town.shop.account(), (9_200, 9_200));
    // It died behind the last commit, before the journal was taken away.
    town.stop();
    fs::write(town.journal(), &journal).unwrap();
    town.start();
    assert!(!town.journal().exists());
    assert_eq!(town.shop.account(), (9_200, 9_200));
    assert_eq!(town.count("authorizations WHERE stand_in = 1"), 2);
    for decision in &decisions {
        town.audit_line_of(&approved(decision));
        let path = format!("/v1/authorizations/{}", id(decision));
        assert_eq!(town.shop.merchant.get(&path).expect(200), *decision);
    }
    assert!(log().contains("ends in a torn entry"));
    assert!(town.journal().with_extension("journal.torn-0").exists(), "nobody knows who was told");
    town.assert_sound();
}

/// One payment that the database does not take keeps neither the others nor the node from going on, and is not lost.
#[test]
fn what_the_database_refuses_stays_in_the_journal() {
    let mut town = Town::open();
    town.lose_the_database();
    approved(&town.shop.pay(300));
    approved(&town.shop.pay(400));
    town.stop();
    let rule =
        "ALTER TABLE payment_intents ADD CONSTRAINT none_of_these CHECK (amount <> 300) NOT VALID";
    town.database.say(rule);
    town.start();
    assert_eq!(town.shop.account(), (9_500, 9_500));
    assert!(log().contains("cannot be booked: it stays in the journal"));
    assert!(town.journal().exists());
    approved(&town.shop.pay(500));
    town.stop();
    town.database.say("ALTER TABLE payment_intents DROP CONSTRAINT none_of_these");
    town.start();
    assert_eq!(town.shop.account(), (8_700, 8_700));
    assert!(!town.journal().exists());
    assert_eq!(town.count("authorizations WHERE stand_in = 1"), 2);
    town.assert_sound();
}

/// Meanwhile who asks again is told what was promised.
#[test]
fn what_was_set_aside_is_told_and_booked_later() {
    let mut town = Town::open();
    let rule =
        "ALTER TABLE payment_intents ADD CONSTRAINT none_of_these CHECK (amount <> 300) NOT VALID";
    town.database.say(rule);
    town.lose_the_database();
    let intent = town.shop.armed_intent(300);
    let question = json!({ "payment_intent": intent, "chip_data": town.shop.tap(&intent, 300) });
    let terminal = town.shop.terminal.clone();
    let ask = || terminal.post_as("first", "/v1/authorizations", &question);
    let first = ask().expect(201);
    let path = format!("/v1/authorizations/{}", approved(&first));
    approved(&town.shop.pay(400));
    town.find_the_database();
    assert_eq!(town.shop.account(), (9_500, 9_500));
    let again = ask();
    assert!(again.is_replayed());
    assert_eq!(again.expect(201), first);
    assert_eq!(town.shop.merchant.get(&path).expect(200), first);
    let metrics = town.shop.platform.operator.get("/metrics").text();
    for told in ["tapfer_stand_in_fault 1", "tapfer_stand_in_unbooked 1"] {
        assert!(metrics.contains(told), "{told}: {metrics}");
    }
    // Any news of the database is an occasion.
    town.database.say("ALTER TABLE payment_intents DROP CONSTRAINT none_of_these");
    town.database.say("NOTIFY tapfer");
    until("it is booked", || (!town.journal().exists()).then_some(()));
    assert_eq!(town.shop.account(), (9_200, 9_200));
    assert_eq!(ask().expect(201), first);
    assert_eq!(town.count("authorizations WHERE stand_in = 1"), 2);
    // And the node may stand in again, for what it sees from here on.
    approved(&town.shop.pay(100));
    town.lose_the_database();
    approved(&town.shop.pay(100));
    town.find_the_database();
    town.assert_sound();
}

/// What was answered alone is the database's to tell as soon as it is booked: in the next outage nobody does it again.
#[test]
fn a_request_that_was_booked_is_not_done_again_in_the_next_outage() {
    let town = Town::open();
    town.lose_the_database();
    let wanted = json!({ "amount": 300, "currency": "EUR", "capture_method": "automatic" });
    let merchant = town.shop.merchant.clone();
    let ask = || merchant.post_as("one", "/v1/payment-intents", &wanted);
    let first = ask().expect(201);
    town.find_the_database();
    town.lose_the_database();
    refused(&ask(), "database_request");
    town.find_the_database();
    assert_eq!(ask().expect(201), first);
    town.assert_sound();
}

/// A database that is back before its rights, its room or its logins are is waited for.
#[test]
fn trouble_of_the_database_sets_no_promise_aside() {
    let mut town = Town::open();
    let login = "SELECT DISTINCT usename FROM pg_stat_activity WHERE usename <> 'postgres' AND state IS NOT NULL";
    let login = town.database.ask(login);
    town.database.say(&format!("REVOKE INSERT ON payment_intents FROM {login}, tapfer_server"));
    town.lose_the_database();
    approved(&town.shop.pay(300));
    town.database.stand_still(false);
    until("it was tried more often than a defect is", || {
        (log().matches("is not booked yet").count() > 6).then_some(())
    });
    assert!(town.journal().exists());
    assert_ne!(town.ready().json()["status"], "ok");
    town.database.say("GRANT INSERT ON payment_intents TO tapfer_server");
    town.find_the_database();
    assert!(!town.journal().exists());
    assert_eq!(town.shop.account(), (9_600, 9_600));
    town.assert_sound();
}

/// The database goes away again while it books an intent that still waits for its tap: nobody knows whether it has it.
#[test]
fn an_intent_that_may_be_booked_is_not_paid_alone() {
    let mut town = Town::open();
    let gate = "
        CREATE TABLE tapfer.gate ();
        GRANT SELECT ON tapfer.gate TO PUBLIC;
        CREATE FUNCTION tapfer.pass() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN LOCK TABLE tapfer.gate IN ACCESS SHARE MODE; RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER pass AFTER INSERT ON tapfer.payment_intents
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tapfer.pass();";
    town.database.say(gate);
    let mut keeper = town.database.program("psql");
    let mut keeper = keeper.arg("-q").stdin(Stdio::piped()).spawn().unwrap();
    let mut order = keeper.stdin.take().unwrap();
    order.write_all(b"BEGIN; LOCK TABLE tapfer.gate IN ACCESS EXCLUSIVE MODE;\n").unwrap();
    let of_gate = |what: &str| {
        let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'tapfer.gate'::regclass AND ";
        town.database.ask(&format!("{locks}{what}")) == "1"
    };
    until("the gate is closed", || of_gate("granted").then_some(()));
    town.lose_the_database();
    let intent = town.shop.armed_intent(300);
    let tapped = town.shop.tap(&intent, 300);
    // Its commit waits at the gate, and its answer is never heard.
    town.database.stand_still(false);
    until("it is being committed", || of_gate("NOT granted").then_some(()));
    town.lose_the_database();
    refused(&town.shop.authorize(&intent, &tapped), "database_intent");
    approved(&town.shop.pay(200));
    town.database.stand_still(false);
    drop(order);
    keeper.wait().unwrap();
    town.find_the_database();
    town.database.say("DROP FUNCTION tapfer.pass CASCADE; DROP TABLE tapfer.gate");
    assert!(!town.journal().exists());
    assert_eq!(town.shop.account(), (9_700, 9_700));
    let path = format!("/v1/payment-intents/{intent}");
    assert_eq!(town.shop.merchant.get(&path).expect(200)["status"], "requires_action");
    let tapped = town.shop.tap(&intent, 300);
    approved(&town.shop.authorize(&intent, &tapped).expect(201));
    assert_eq!(town.shop.account(), (9_400, 9_400));
    town.assert_sound();
}

/// Somebody puts an older journal in its place, and later the whole one.
#[test]
fn a_promise_for_an_intent_that_was_booked_without_it_is_named() {
    let mut town = Town::open();
    town.lose_the_database();
    let intent = town.shop.armed_intent(300);
    let older = fs::read(town.journal()).unwrap();
    let tapped = town.shop.tap(&intent, 300);
    let promised = approved(&town.shop.authorize(&intent, &tapped).expect(201));
    let whole = fs::read(town.journal()).unwrap();
    town.stop();
    fs::write(town.journal(), older).unwrap();
    town.start();
    assert!(!town.journal().exists());
    town.stop();
    fs::write(town.journal(), &whole).unwrap();
    town.start();
    assert!(log().contains(&format!("there is no authorization {promised}")));
    assert_eq!(fs::read(town.journal()).unwrap(), whole, "kept for whoever looks at it");
    let metrics = town.shop.platform.operator.get("/metrics").text();
    assert!(metrics.contains("tapfer_stand_in_fault 1"), "{metrics}");
    assert_eq!(town.shop.account(), (9_900, 9_900));
    town.assert_sound();
}

#[test]
fn an_intent_that_waits_for_its_tap_waits_on() {
    let mut town = Town::open();
    town.lose_the_database();
    let waiting = town.shop.armed_intent(600);
    let path = format!("/v1/payment-intents/{waiting}");
    let given_up = town.shop.intent(100);
    town.shop
        .merchant
        .post(&format!("/v1/payment-intents/{given_up}/cancel"), &json!({}))
        .expect(200);
    let busy = town.shop.intent(100);
    let arm = json!({ "terminal": town.shop.terminal_id });
    let arming = town.shop.merchant.post(&format!("/v1/payment-intents/{busy}/arm"), &arm);
    assert_eq!(arming.problem(409), "conflict");
    town.find_the_database();
    assert_eq!(town.shop.merchant.get(&path).expect(200)["status"], "requires_action");
    let tapped = town.shop.tap(&waiting, 600);
    approved(&town.shop.authorize(&waiting, &tapped).expect(201));
    let given_up = format!("/v1/payment-intents/{given_up}");
    assert_eq!(town.shop.merchant.get(&given_up).expect(200)["status"], "canceled");
    town.assert_sound();
}

/// The card pays elsewhere what it has, before what was promised is booked.
#[test]
fn what_a_card_lacks_its_issuer_loses() {
    let mut town = Town::open();
    town.lose_the_database();
    let promised = town.shop.pay(1_000);
    let journal = fs::read(town.journal()).unwrap();
    town.stop();
    fs::remove_file(town.journal()).unwrap();
    // Another node, which knows nothing of it.
    town.start();
    for amount in [2_500, 2_500, 2_500, 1_900] {
        approved(&town.shop.pay(amount));
    }
    assert_eq!(town.shop.account(), (500, 500));
    town.stop();
    fs::write(town.journal(), journal).unwrap();
    town.start();
    assert_eq!(town.shop.account(), (0, 0));
    let of_issuer = "balance FROM accounts WHERE kind = 'issuer_loss'";
    assert_eq!(town.database.ask(&format!("SELECT {of_issuer}")), "-500");
    let line = town.audit_line_of(&approved(&promised));
    assert!(line.contains("lost by the issuer"), "{line}");
    assert!(log().contains("stand_in_loss"));
    // The merchant has it all, and can give it back.
    let refund = json!({ "payment_intent": promised["payment_intent"] });
    assert_eq!(town.shop.merchant.post("/v1/refunds", &refund).expect(201)["amount"], 1_000);
    let entries =
        town.shop.issuer.get(&format!("/v1/cards/{}/entries", town.shop.card)).expect(200);
    let kinds: Vec<_> =
        entries["data"].as_array().unwrap().iter().map(|one| one["kind"].clone()).collect();
    assert!(kinds.contains(&json!("loss")), "{kinds:?}");
    town.assert_sound();
}

/// A block, the end of the till and a copy of the tap come between promise and booking.
#[test]
fn what_has_come_meanwhile_stands_in_the_audit_log() {
    let mut town = Town::open();
    town.lose_the_database();
    let intent = town.shop.armed_intent(500);
    let tapped = town.shop.tap(&intent, 500);
    let promised = approved(&town.shop.authorize(&intent, &tapped).expect(201));
    let journal = fs::read(town.journal()).unwrap();
    town.stop();
    fs::remove_file(town.journal()).unwrap();
    town.start();
    // The same tap at another node, for another payment of the same amount.
    let elsewhere = town.shop.armed_intent(500);
    let second = approved(&town.shop.authorize(&elsewhere, &tapped).expect(201));
    town.shop
        .issuer
        .post(&format!("/v1/cards/{}/block", town.shop.card), &reason("lost"))
        .expect(200);
    let revoke = format!("/v1/terminals/{}/revoke", town.shop.terminal_id);
    town.shop.merchant.post(&revoke, &reason("stolen")).expect(200);
    town.stop();
    fs::write(town.journal(), journal).unwrap();
    town.start();
    let line = town.audit_line_of(&promised);
    let come = [
        "the card is blocked since",
        "the terminal is revoked since",
        "the API key is revoked since",
        &format!("its counter was spent by {second}"),
    ];
    for told in come {
        assert!(line.contains(told), "{told}: {line}");
    }
    assert_eq!(town.shop.account(), (9_900 - 1_000, 9_900 - 1_000));
    town.assert_sound();
}

/// What is damaged is not believed, and keeps nobody from paying; what stands in front of it is booked.
#[test]
fn a_damaged_journal_is_named() {
    let mut town = Town::open();
    town.lose_the_database();
    approved(&town.shop.pay(300));
    let first = fs::read(town.journal()).unwrap().len();
    approved(&town.shop.pay(400));
    town.stop();
    let mut journal = fs::read(town.journal()).unwrap();
    // In the first entry behind the first payment.
    journal[first + 60] ^= 1;
    fs::write(town.journal(), &journal).unwrap();
    town.start();
    assert!(log().contains("is damaged: what stands in front of the damage is booked"));
    assert_eq!(town.shop.account(), (9_900 - 300, 9_900 - 300));
    assert_eq!(fs::read(town.journal()).unwrap(), journal, "kept for whoever looks at it");
    approved(&town.shop.pay(500));
    let metrics = town.shop.platform.operator.get("/metrics").text();
    assert!(metrics.contains("tapfer_stand_in_fault 1"), "{metrics}");
    town.database.stand_still(true);
    until("the node says that its database is away", || (town.ready().status == 503).then_some(()));
    assert!(!town.stands_in());
    town.database.stand_still(false);
    town.assert_sound();
}

/// A block of which the node is not told, since its connection that listens is cut at that moment.
#[test]
fn what_was_blocked_while_nobody_listened_is_asked_for() {
    let mut town = Town::open();
    let caught_up = || log().matches("while nobody listened").count();
    let before = caught_up();
    town.database.say(
        "ALTER TABLE cards DISABLE TRIGGER cards_tell_blocks;
         UPDATE cards SET status = 'blocked', status_reason = 'lost';
         ALTER TABLE cards ENABLE TRIGGER cards_tell_blocks;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = 'tapfer'",
    );
    until("it listens again", || (caught_up() > before).then_some(()));
    town.lose_the_database();
    let intent = town.shop.armed_intent(300);
    let tapped = town.shop.tap(&intent, 300);
    refused(&town.shop.authorize(&intent, &tapped), "unknown_token");
}

/// A node that has not given a phone its keys looks them up when it first pays there.
#[test]
fn a_phone_pays_alone_with_keys_that_another_node_gave() {
    let mut issuer = issuer_request();
    issuer["key_policy"]["maximum_payments"] = json!(1);
    issuer["key_policy"]["keys_per_replenishment"] = json!(10);
    let mut town = Town::open_for(LIMITS, &issuer);
    town.stop();
    town.start();
    let seen = || log().matches("keys of phones were looked up").count();
    let before = seen();
    approved(&town.shop.pay(100));
    until("its keys are known", || (seen() > before).then_some(()));
    town.lose_the_database();
    approved(&town.shop.pay(300));
    town.find_the_database();
    town.assert_sound();
}
