//! Payments through the real server while its HSMs fail: two SoftHSM2 tokens with the same root keys, from a
//! ceremony.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    missing_docs
)]

mod hsms;
mod payer;
mod platform;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hsms::{Hsms, MEMBERS, PATIENCE, status, until_all_serve, workers};
use payer::{Caller, Client, Payment, Phone, pay, tap};
use platform::{Platform, tapfer, until};
use serde_json::Value;

/// Payments under each fault.
const PAYMENTS: usize = 12;
/// Phones that pay at the same time.
const PHONES: usize = 8;
/// Payments of each of them in one round.
const EACH: usize = 5;
/// Rounds until two members that serve share the work; a phone's keys go no further.
const ROUNDS_UNTIL_BALANCED: usize = 10;

struct Scene {
    hsms: Hsms,
    platform: Platform,
    client: Client,
    phone: Phone,
    payments: Vec<Payment>,
}

impl Scene {
    fn new() -> Self {
        let hsms = Hsms::with_realm("demo");
        let platform = Platform::on(&hsms.home());
        platform.tapfer(&["init", "--balance", "1000.00"]);
        let client = Client::new(&platform);
        let phone = Phone::open(&platform.home().join("wallet"), &client);
        until_all_serve(&platform);
        Self { hsms, platform, client, phone, payments: Vec::new() }
    }

    fn pay(&mut self) {
        for _ in 0..PAYMENTS {
            self.payments.push(pay(&self.client, &mut self.phone, self.payments.len()));
        }
    }

    fn kill(&self, member: &str) {
        for process in workers(&self.platform, member) {
            assert!(Command::new("kill").args(["-9", &process.to_string()]).status().is_ok());
        }
    }

    /// Every payment was approved, and each is booked once.
    fn all_is_booked_once(&self) {
        all_approved(&self.payments);
        let card = self.platform.tapfer(&["card", "show"])["id"].as_str().unwrap().to_owned();
        is_booked_once(&self.platform, &card, self.payments.len());
    }
}

fn all_approved(payments: &[Payment]) {
    for payment in payments {
        assert_eq!(payment.answer["outcome"], "approved", "{}", payment.answer);
    }
}

/// As many payments as there were are booked on a card that had a thousand euros.
fn is_booked_once(platform: &Platform, card: &str, payments: usize) {
    let card = platform.tapfer(&["card", "show", card]);
    let paid = i64::try_from(payments).unwrap() * payer::PRICE;
    assert_eq!(card["balance"], 100_000 - paid);
    assert_eq!(card["available"], 100_000 - paid);
}

fn restarts(platform: &Platform) -> u64 {
    let status = status(platform);
    let members = status["pool"]["members"].as_array().unwrap().clone();
    let workers = members.iter().flat_map(|member| member["workers"].as_array().unwrap().clone());
    workers.map(|worker| worker["restarts"].as_u64().unwrap()).sum()
}

#[test]
fn payments_go_on_while_one_of_two_hsms_fails() {
    let mut scene = Scene::new();
    scene.pay();
    let faults = ["CKR_DEVICE_ERROR", "CKR_SESSION_HANDLE_INVALID", "hang", "abort"];
    for (fault, member) in faults.into_iter().zip(MEMBERS.into_iter().cycle()) {
        scene.hsms.set(member, fault);
        scene.pay();
        assert_eq!(scene.client.refused(), 0, "{member}: {fault}");
        scene.hsms.set(member, "");
        until_all_serve(&scene.platform);
    }
    let before = restarts(&scene.platform);
    scene.kill("north");
    scene.pay();
    until_all_serve(&scene.platform);
    assert!(restarts(&scene.platform) >= before + 2, "both of its processes were started again");
    scene.pay();
    assert_eq!(scene.client.refused(), 0);
    scene.all_is_booked_once();
}

#[test]
fn without_any_hsm_payments_are_refused_with_the_reason_and_go_on_by_themselves() {
    let mut scene = Scene::new();
    for fault in ["CKR_DEVICE_ERROR", "hang"] {
        MEMBERS.iter().for_each(|member| scene.hsms.set(member, fault));
        let number = scene.payments.len();
        let (key, question) = tap(&scene.client, &mut scene.phone, number);
        let ask = || scene.client.ask("/v1/authorizations", &question, &key, Caller::Terminal);
        // One failure does not condemn a member: questions and probes do, while each payment is refused.
        let down = until("nobody serves", PATIENCE, || {
            let (code, refused) = ask().unwrap();
            assert_eq!(code, 503, "{refused}");
            assert!(refused["type"].as_str().unwrap().ends_with("hsm_down"), "{refused}");
            let shown = scene.platform.run(&["hsm", "status"]);
            (shown.status.code() == Some(1)).then_some(shown)
        });
        let shown: Value = serde_json::from_slice(&down.stdout).unwrap();
        assert_eq!(shown["serves"], false);

        // One comes back, and the same question is answered: nothing was lost, nothing restarted by hand.
        scene.hsms.set("south", "");
        let answer = scene.client.post("/v1/authorizations", &question, &key, Caller::Terminal);
        scene.payments.push(Payment { key, question, answer });
        scene.hsms.set("north", "");
        until_all_serve(&scene.platform);
    }
    scene.all_is_booked_once();
}

/// A payment at a terminal that dials the phone; `begun` is called when it hears the first command.
fn terminal_pays(scene: &mut Scene, language: &str, begun: impl FnOnce(&Hsms) + Send) -> Output {
    let Scene { phone, hsms, platform, .. } = scene;
    let field = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = field.local_addr().unwrap();
    let pay = ["terminal", "pay", "--amount", "1.00", "--patience", "300", "--language", language];
    thread::scope(|scope| {
        scope.spawn(|| phone.present(&field, || begun(hsms)));
        let output = platform.run(&[&pay[..], &["--card-at", &address.to_string()]].concat());
        // A phone that no terminal has dialled waits no longer.
        drop(TcpStream::connect(address));
        output
    })
}

/// Whoever stands at the till hears at once what is the matter, in words of the till, and is not left waiting; the
/// terminal takes the next payment.
#[test]
fn a_till_without_any_hsm_is_told_so_at_once_and_pays_when_one_is_back() {
    let mut scene = Scene::new();
    let all = |hsms: &Hsms, fault| MEMBERS.iter().for_each(|member| hsms.set(member, fault));
    let is_told = |refused: &Output, says: &str| {
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let told = String::from_utf8_lossy(&refused.stderr);
        let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        let why = told["nothing_paid"]["why"].as_str().unwrap_or_else(|| panic!("{told}"));
        assert!(why.starts_with(says), "{why}");
    };
    for (language, says) in [("en", "no security module"), ("de", "kein Sicherheitsmodul")] {
        // They fail while the card is at the terminal.
        let refused = terminal_pays(&mut scene, language, |hsms| all(hsms, "CKR_DEVICE_ERROR"));
        is_told(&refused, says);
        // They are still away.
        is_told(&terminal_pays(&mut scene, language, |_| ()), says);
        all(&scene.hsms, "");
        until_all_serve(&scene.platform);
        // Who asks while they are away may have a key that was not looked at since the catalogue changed.
        let intents = scene.platform.tapfer(&["payment", "list"]);
        let is_canceled = |intent: &Value| intent["status"] == "canceled";
        assert!(intents["data"].as_array().unwrap().iter().all(is_canceled), "{intents}");
    }
    let paid = terminal_pays(&mut scene, "en", |_| ());
    assert!(paid.status.success(), "{paid:?}");
    let card = scene.platform.tapfer(&["card", "show"])["id"].as_str().unwrap().to_owned();
    is_booked_once(&scene.platform, &card, 1);
}

/// Many phones that pay at once, each with a card and at a terminal of its own: one terminal waits for one tap at a
/// time, and payments of one card wait for each other.
struct Crowd {
    scene: Scene,
    cards: Vec<String>,
    phones: Vec<(Client, Phone)>,
    paid: Vec<Payment>,
}

impl Crowd {
    fn new() -> Self {
        let scene = Scene::new();
        let mut cards = Vec::new();
        let phones = (0..PHONES).map(|number| {
            let platform = &scene.platform;
            let card = platform.tapfer(&["card", "create"])["id"].as_str().unwrap().to_owned();
            platform.tapfer(&["card", "top-up", &card, "--amount", "1000.00"]);
            cards.push(card);
            platform.tapfer(&["terminal", "create", "--label", &format!("till {number}")]);
            let wallet = platform.home().join(format!("wallet-{number}"));
            let enrol = ["wallet", "enrol", "--wallet", wallet.to_str().unwrap()];
            let device = platform.tapfer(&enrol)["device"].as_str().unwrap().to_owned();
            let client = Client::of_device(platform, &device);
            let phone = Phone::open(&wallet, &client);
            (client, phone)
        });
        let phones = phones.collect();
        Self { scene, cards, phones, paid: Vec::new() }
    }

    /// Each phone pays some times, all at once; what strikes, strikes in the middle.
    fn pay(&mut self, strike: impl FnOnce(&Scene)) {
        let (first, answered) = (self.paid.len() * PHONES, AtomicUsize::new(0));
        let (scene, answered) = (&self.scene, &answered);
        let paid: Vec<Payment> = thread::scope(|scope| {
            let each = self.phones.iter_mut().enumerate().map(|(number, (client, phone))| {
                scope.spawn(move || {
                    let numbers = (0..EACH).map(|payment| first + number * EACH + payment);
                    let pay = |number| {
                        let payment = pay(client, phone, number);
                        answered.fetch_add(1, Ordering::SeqCst);
                        payment
                    };
                    numbers.map(pay).collect::<Vec<_>>()
                })
            });
            let threads: Vec<_> = each.collect();
            until("payments are under way", PATIENCE, || {
                (answered.load(Ordering::SeqCst) >= PHONES).then_some(())
            });
            strike(scene);
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        self.paid.extend(paid);
    }

    /// Pays until each member answers a quarter of what is asked, or more.
    fn until_balanced(&mut self) {
        until_all_serve(&self.scene.platform);
        let is_balanced = |_| {
            let before = answered(&self.scene.platform);
            self.pay(|_| ());
            let after = answered(&self.scene.platform);
            let more = [after[0] - before[0], after[1] - before[1]];
            more.iter().all(|one| one * 4 >= more.iter().sum())
        };
        assert!((0..ROUNDS_UNTIL_BALANCED).any(is_balanced), "never balanced again");
    }

    fn nothing_is_lost_nor_refused(&self) {
        let refused: usize = self.phones.iter().map(|(client, _)| client.refused()).sum();
        assert_eq!(refused, 0);
        all_approved(&self.paid);
        let paid = self.paid.len() / PHONES;
        for card in &self.cards {
            is_booked_once(&self.scene.platform, card, paid);
        }
    }
}

/// How much each member has answered.
fn answered(platform: &Platform) -> [u64; 2] {
    let status = status(platform);
    let members = status["pool"]["members"].as_array().unwrap();
    [0, 1].map(|member| members[member]["answered"].as_u64().unwrap())
}

/// With eight payments under way at any moment: whatever a member answers, it is the other's matter then.
#[test]
fn of_many_payments_at_once_none_is_lost_or_refused_while_a_module_fails() {
    let mut crowd = Crowd::new();
    let faults = ["CKR_DEVICE_ERROR", "CKR_SESSION_HANDLE_INVALID", "hang"];
    for (fault, member) in faults.into_iter().zip(MEMBERS.into_iter().cycle()) {
        crowd.pay(|scene| scene.hsms.set(member, fault));
        crowd.pay(|scene| scene.hsms.set(member, ""));
        crowd.until_balanced();
    }
    crowd.nothing_is_lost_nor_refused();
}

/// The same while its processes are killed, and while its token is gone.
#[test]
fn of_many_payments_at_once_none_is_lost_or_refused_while_an_hsm_is_gone() {
    let mut crowd = Crowd::new();
    crowd.pay(|scene| scene.kill("south"));
    crowd.until_balanced();
    let tokens = crowd.scene.hsms.file("north").join("tokens");
    let away = tokens.with_file_name("elsewhere");
    crowd.pay(|scene| {
        fs::rename(&tokens, &away).unwrap();
        scene.kill("north");
    });
    crowd.pay(|_| ());
    assert!(workers_serve(&crowd.scene.platform, "south"));
    assert!(!workers_serve(&crowd.scene.platform, "north"), "its token is not there");
    fs::rename(&away, &tokens).unwrap();
    crowd.until_balanced();
    crowd.nothing_is_lost_nor_refused();
}

fn workers_serve(platform: &Platform, member: &str) -> bool {
    let status = status(platform);
    let members = status["pool"]["members"].as_array().unwrap();
    let member = members.iter().find(|found| found["name"] == member).unwrap();
    member["workers"].as_array().unwrap().iter().any(|worker| worker["state"] == "serving")
}

/// Wrong PINs, and tokens that lock: nothing is started again by hand.
#[test]
fn a_member_goes_on_when_a_person_has_mended_its_pin() {
    let scene = Scene::new();
    let pin = scene.hsms.file("pin");
    let right = fs::read_to_string(&pin).unwrap();
    let halted = |word: &str| {
        until("all workers are halted", PATIENCE, || {
            let status = status(&scene.platform);
            let members = status["pool"]["members"].as_array()?.clone();
            let mut workers =
                members.iter().flat_map(|member| member["workers"].as_array().unwrap().clone());
            let is_halted = |worker: Value| {
                worker["state"] == "halted" && worker["cause"].as_str().unwrap().contains(word)
            };
            workers.all(is_halted).then_some(())
        });
    };
    fs::write(&pin, "another-pin").unwrap();
    MEMBERS.iter().for_each(|member| scene.kill(member));
    halted("CKR_PIN_INCORRECT");
    let doctor = scene.platform.run(&["doctor"]);
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let refused =
        report["checks"].as_array().unwrap().iter().find(|one| one["what"] == "HSM north");
    let cure = refused.unwrap()["cure"].as_str().unwrap().to_owned();
    assert!(cure.contains("tapfer hsm login north"), "{report}");
    fs::write(&pin, &right).unwrap();
    until_all_serve(&scene.platform);

    MEMBERS.iter().for_each(|member| scene.hsms.set(member, "CKR_PIN_LOCKED C_Login"));
    MEMBERS.iter().for_each(|member| scene.kill(member));
    halted("CKR_PIN_LOCKED");
    assert_eq!(scene.platform.run(&["hsm", "login", "north"]).status.code(), Some(1));
    // The security officers have unlocked them.
    for member in MEMBERS {
        scene.hsms.set(member, "");
        scene.platform.tapfer(&["hsm", "login", member]);
    }
    until_all_serve(&scene.platform);

    // Others have used the tries up, and gave them back with the vendor's tool.
    MEMBERS.iter().for_each(|member| scene.hsms.set(member, "flags CKF_USER_PIN_FINAL_TRY"));
    MEMBERS.iter().for_each(|member| scene.kill(member));
    halted("CKF_USER_PIN_FINAL_TRY");
    for member in MEMBERS {
        scene.hsms.set(member, "");
        scene.platform.tapfer(&["hsm", "login", member]);
    }
    until_all_serve(&scene.platform);
}

/// A card with three tries would be locked by one command that tries twice.
#[test]
fn a_login_that_a_person_asks_for_is_one_login() {
    let hsms = Hsms::with_realm("demo");
    let (pin, calls) = (hsms.file("pin"), hsms.file("calls"));
    let configuration = hsms.home().join("hsm.toml");
    let text = fs::read_to_string(&configuration).unwrap();
    let counted = format!("FAULTY_CALLS = {calls:?}, FAULTY_CONTROL");
    fs::write(&configuration, text.replace("FAULTY_CONTROL", &counted)).unwrap();
    let logins = || {
        let calls = fs::read_to_string(&calls).unwrap();
        calls.lines().filter(|line| *line == "C_Login").count()
    };
    let login = || {
        let mut command = tapfer();
        command.args(["hsm", "login", "north", "--json", "--home"]).arg(hsms.home());
        command.output().unwrap()
    };
    let right = fs::read_to_string(&pin).unwrap();
    fs::write(&pin, "another-pin").unwrap();
    for time in 1..=8 {
        let refused = login();
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            said.contains("CKR_PIN_INCORRECT") && said.contains("other members are not concerned"),
            "{said}"
        );
        assert_eq!(logins(), time);
    }
    // Who starts the platform now is told that nothing runs, and not that it goes on by itself.
    let mut serve = tapfer();
    serve.args(["serve", "--json", "--listen", "127.0.0.1:0", "--home"]).arg(hsms.home());
    let refused = serve.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("nothing was started"), "{said}");
    assert!(!said.contains("by itself"), "{said}");
    // The other member has tried it, unless its token could not be read just then; north has not again.
    let before = logins();
    assert!((8..=9).contains(&before), "{before}");
    fs::write(&pin, right).unwrap();
    let taken = login();
    assert!(taken.status.success(), "{taken:?}");
    assert_eq!(logins(), before.checked_add(1).unwrap());
}

/// Power comes back to a site, to its server first and to its HSMs later: nobody has to start anything again.
#[test]
fn a_platform_that_is_started_while_no_hsm_answers_waits_for_one() {
    let mut scene = Scene::new();
    scene.platform.kill();
    let tokens = |member: &str| scene.hsms.file(member).join("tokens");
    let away = |member: &str| scene.hsms.file(member).join("tokens.away");
    for member in MEMBERS {
        fs::rename(tokens(member), away(member)).unwrap();
        fs::create_dir(tokens(member)).unwrap();
    }
    let serve = || {
        let mut serve = tapfer();
        serve.args(["serve", "--json", "--listen", "127.0.0.1:0", "--home"]).arg(scene.hsms.home());
        let mut started = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(started.stderr.take().unwrap()).lines().map_while(Result::ok);
        let waits = log.find(|line| line.contains("no HSM of this realm answers"));
        (started, log, waits.expect("it says why it serves nothing"))
    };
    // Told to stop it ends, and by itself: no signal ends process 1 of a container that it does not handle.
    for signal in ["-TERM", "-INT"] {
        let (mut started, _log, _waits) = serve();
        let told = Command::new("kill").args([signal, &started.id().to_string()]).status();
        assert!(told.unwrap().success());
        assert_eq!(started.wait().unwrap().code(), Some(0), "{signal}");
    }
    let (mut started, _log, waits) = serve();
    assert!(MEMBERS.iter().all(|name| waits.contains(&format!("{name}: "))), "{waits}");
    let doctor = scene.platform.run(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    for member in MEMBERS {
        let what = format!("HSM {member}");
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["what"] == what.as_str()).unwrap();
        assert_eq!(check["state"], "missing", "{check}");
        assert!(check["found"].as_str().unwrap().contains("no slot holds a token"), "{check}");
    }

    fs::remove_dir(tokens("south")).unwrap();
    fs::rename(away("south"), tokens("south")).unwrap();
    let mut line = String::new();
    BufReader::new(started.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("\"server\""), "it serves with one: {line}");
    scene.platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "1.00"]);
    started.kill().unwrap();
    started.wait().unwrap();
}

/// What it says of secrets is true of HSMs, too, and of a demo realm in them.
#[test]
fn a_backup_of_hsms_has_nothing_that_opens_the_keys() {
    let hsms = Hsms::with_realm("demo");
    let platform = Platform::on(&hsms.home());
    let backup = hsms.file("backup");
    let made = platform.run(&["backup", "--to", backup.to_str().unwrap()]);
    let said = String::from_utf8(made.stderr).unwrap();
    assert!(said.contains("NOT in it: what opens the keys"), "{said}");
    assert!(!said.contains("demo-unlock.key") && !backup.join("demo-unlock.key").exists());
}

/// Runs a command of those who keep the keys, with a reason.
fn keys(platform: &Platform, arguments: &[&str]) -> Output {
    platform.run(&[&["keys"], arguments, &["--reason", "a test", "--by", "Ada"]].concat())
}

fn issuer(platform: &Platform) -> String {
    let issuers = platform.tapfer(&["issuer", "list"]);
    issuers["data"][0]["id"].as_str().unwrap().to_owned()
}

/// Puts a file in the place of the catalogue.
fn put_catalogue(home: &Path, bytes: &[u8]) {
    let (unfinished, catalogue) = (home.join("keys.put-back"), home.join("keys.json"));
    fs::write(&unfinished, bytes).unwrap();
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(unfinished, catalogue).unwrap();
}

/// A copy of the realm that is gone on with at another place, under the same root keys and with its own database,
/// has a catalogue with a higher number. The platform does not start with it, and its database does not take it.
#[test]
fn attack_old_catalogue_gone_on_with_before_a_platform_with_hsms_starts() {
    let mut scene = Scene::new();
    let (issuer, home) = (issuer(&scene.platform), scene.hsms.home());
    let elsewhere = scene.hsms.file("elsewhere");
    scene.platform.kill();
    assert!(Command::new("cp").arg("-a").args([&home, &elsewhere]).status().unwrap().success());
    let rotate = |home: &Path| {
        let rotated = tapfer()
            .args(["keys", "rotate", &issuer, "card-pins", "--reason", "a test", "--by", "Ada"])
            .arg("--home")
            .arg(home)
            .output()
            .unwrap();
        assert!(rotated.status.success(), "{rotated:?}");
    };
    rotate(&home);
    let newest = fs::read(home.join("keys.json")).unwrap();
    for _ in 0..3 {
        rotate(&elsewhere);
    }
    put_catalogue(&home, &fs::read(elsewhere.join("keys.json")).unwrap());

    let mut refused = tapfer()
        .args(["serve", "--json", "--listen", "127.0.0.1:0", "--home"])
        .arg(&home)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(refused.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // It would serve on, if it did.
    let _ended = refused.kill();
    let said = String::from_utf8(refused.wait_with_output().unwrap().stderr).unwrap();
    assert!(line.is_empty() && said.contains("went on with"), "{line}{said}");

    put_catalogue(&home, &newest);
    scene.platform.restart();
    until_all_serve(&scene.platform);
    scene.pay();
    scene.all_is_booked_once();
}

/// Another process makes and retires keys; the platform and every worker know it while payments go on.
#[test]
fn keys_that_others_change_are_followed_while_the_platform_pays() {
    let mut scene = Scene::new();
    let issuer = issuer(&scene.platform);
    let master = [issuer.as_str(), "issuer-master"];
    let done = |arguments: &[&str]| {
        let output = keys(&scene.platform, arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = scene.hsms.home().join("tapfer.db");
    let database = rusqlite::Connection::open_with_flags(database, flags).unwrap();
    let number = AtomicUsize::new(0);
    let mut pay_once = || {
        let number = number.fetch_add(1, Ordering::SeqCst);
        pay(&scene.client, &mut scene.phone, number).answer["outcome"] == "approved"
    };
    assert!(pay_once());
    done(&[&["rotate"], &master[..]].concat());
    let renewed = || {
        assert!(pay_once(), "keys of the first generation go on");
        let renewed = "SELECT count(*) FROM audit_events WHERE action = 'issuer.keys_renewed'";
        let count: i64 = database.query_row(renewed, [], |row| row.get(0)).unwrap();
        (count > 0).then_some(())
    };
    until("the platform follows", PATIENCE, renewed);
    done(&[&["retire"], &master[..], &["1"]].concat());
    assert!(pay_once(), "what is retired verifies");
    // Asked whether it serves, the platform looks, and every worker of every member works with what there is now.
    assert!(scene.client.is_ready());
    assert!((0..PAYMENTS).all(|_| pay_once()));
    assert_eq!(scene.client.refused(), 0);
}

/// An older file in the place of the newest, and every worker started anew.
#[test]
fn attack_old_catalogue_put_back_under_a_platform_with_hsms() {
    let mut scene = Scene::new();
    let (issuer, catalogue) = (issuer(&scene.platform), scene.hsms.home().join("keys.json"));
    let home = scene.hsms.home();
    let put = |bytes: &[u8]| put_catalogue(&home, bytes);
    let rotate = || keys(&scene.platform, &["rotate", &issuer, "card-pins"]);
    let old = fs::read(&catalogue).unwrap();
    assert!(rotate().status.success());
    let newest = fs::read(&catalogue).unwrap();
    put(&old);
    MEMBERS.iter().for_each(|member| scene.kill(member));

    let shown = until("nobody serves", PATIENCE, || {
        let shown = status(&scene.platform);
        (shown["serves"] == false && shown.to_string().contains("was used already"))
            .then_some(shown)
    });
    assert!(shown.to_string().contains("an old copy was put in"), "{shown}");
    let (key, question) = tap(&scene.client, &mut scene.phone, 0);
    let ask = |scene: &Scene| {
        scene.client.ask("/v1/authorizations", &question, &key, Caller::Terminal).unwrap()
    };
    let (code, refused) = ask(&scene);
    assert_eq!(code, 503, "{refused}");
    assert!(refused["type"].as_str().unwrap().ends_with("hsm_down"), "{refused}");
    // Nor do those who keep the keys go on with it.
    let refused = rotate();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8(refused.stderr).unwrap().contains("was used already"));
    assert_eq!(fs::read(&catalogue).unwrap(), old);

    put(&newest);
    until_all_serve(&scene.platform);
    let answer = scene.client.post("/v1/authorizations", &question, &key, Caller::Terminal);
    scene.payments.push(Payment { key: key.clone(), question: question.clone(), answer });
    scene.all_is_booked_once();
}

/// The key of configurations was followed by the next one, and nobody is there who could sign with it.
#[test]
fn behind_a_succession_without_any_hsm_devices_hear_the_reason() {
    let scene = Scene::new();
    let ask = || scene.client.get("/v1/configuration", Caller::Terminal).unwrap();
    let (code, before) = ask();
    assert_eq!(code, 200, "{before}");
    let pinned = || fs::read_to_string(scene.hsms.home().join("configuration.key")).unwrap();
    let first = pinned();
    let rotated = keys(&scene.platform, &["rotate", "platform", "configuration"]);
    assert!(rotated.status.success(), "{rotated:?}");
    until("the platform follows", PATIENCE, || (pinned() != first).then_some(()));
    MEMBERS.iter().for_each(|member| scene.hsms.set(member, "CKR_DEVICE_ERROR"));
    let is_down = || (status(&scene.platform)["serves"] == false).then_some(());
    until("nobody serves", PATIENCE, is_down);
    for path in ["/v1/configuration", "/v1/audit/head"] {
        let (code, refused) = scene.client.get(path, Caller::Terminal).unwrap();
        assert_eq!(code, 503, "{path}: {refused}");
        assert!(refused["type"].as_str().unwrap().ends_with("hsm_down"), "{path}: {refused}");
    }

    MEMBERS.iter().for_each(|member| scene.hsms.set(member, ""));
    until_all_serve(&scene.platform);
    let (code, after) = ask();
    assert_eq!(code, 200, "{after}");
    let key = |answer: &Value| answer["configuration"]["key"].as_str().unwrap().to_owned();
    assert_ne!(key(&after), key(&before));
    assert!(pinned().contains(&key(&after)), "signed by the key of now");
}

/// A vendor's library writes to the standard error of the process that has it.
#[test]
fn what_a_worker_says_is_in_the_log_with_its_member() {
    let hsms = Hsms::with_realm("demo");
    hsms.set("south", "say C_Login the token is warm");
    let log = hsms.file("log");
    let platform = Platform::logging(&hsms.home(), &log);
    until_all_serve(&platform);
    let said = || {
        let log = fs::read_to_string(&log).unwrap();
        let records = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found: Vec<_> = records.filter(|said| said["line"] == "the token is warm").collect();
        (!found.is_empty()).then_some(found)
    };
    for record in until("the log has it", PATIENCE, said) {
        assert_eq!((&record["member"], &record["level"]), (&"south".into(), &"WARN".into()));
    }
}
