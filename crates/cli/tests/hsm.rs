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

use std::process::Command;

use hsms::{Hsms, MEMBERS, PATIENCE, status, until_all_serve, workers};
use payer::{Caller, Client, Payment, Phone, pay, tap};
use platform::{Platform, until};
use serde_json::Value;

/// Payments under each fault.
const PAYMENTS: usize = 12;

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
        for payment in &self.payments {
            assert_eq!(payment.answer["outcome"], "approved", "{}", payment.answer);
        }
        let card = self.platform.tapfer(&["card", "show"]);
        let paid = i64::try_from(self.payments.len()).unwrap() * payer::PRICE;
        assert_eq!(card["balance"], 100_000 - paid);
        assert_eq!(card["available"], 100_000 - paid);
    }
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
