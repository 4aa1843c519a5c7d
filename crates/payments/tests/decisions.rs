//! The rules of authorization against a text table, alone and in pairs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tapfer_emv::cryptogram::{CryptogramInput, CryptogramMismatch, CryptogramVerified, verify};
use tapfer_emv::iad::{IssuerApplicationData, VerificationMethod, VerificationResults};
use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_emv::merchant::MerchantIdentity;
use tapfer_emv::tvr::TerminalVerificationResults;
use tapfer_payment_types::policy::{
    Asks, FreshLogin, MerchantProofRule, PinRules, Requirement, VerificationPolicy,
};
use tapfer_payment_types::{
    AuthorizationId, CardId, Currency, DeviceId, IssuerId, MerchantId, Money, PanSequenceNumber,
    PaymentIntentId, TerminalId, Timestamp, TokenId,
};
use tapfer_payments::authorization::{
    CryptogramFailure, Decision, DeclineReason, Facts, Outcome, PresentedPayment, SpentCounter,
    TerminalFacts, TokenFacts, decide, decided_before,
};
use tapfer_payments::cards::{Card, CardStatus};
use tapfer_payments::integrity::{
    AttestationTerms, Consequence, IntegrityPolicy, Standing, Verdict,
};
use tapfer_payments::intents::{ArmingState, CaptureMethod, PaymentIntent};
use tapfer_payments::issuers::{ApplicationIdentifier, CountryCode, Issuer, KeyPolicy};
use tapfer_payments::keys::{CounterRange, GrantedKey};
use tapfer_payments::merchants::Merchant;
use tapfer_payments::pins::{CardPin, PersonKeyState, TerminalPin, VerificationHistory};
use tapfer_payments::policies::IssuedPolicy;
use tapfer_payments::terminals::Terminal;
use tapfer_payments::tokens::{Actor, SuspendedBy, Token, TokenState};

const TABLE: &str = include_str!("data/decisions.txt");
const COUNTER: u16 = 8;
const AID: [u8; 8] = [0xF0, 0x54, 0x41, 0x50, 0x46, 0x45, 0x52, 0x01];

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn euro(text: &str) -> Money {
    Money::parse(text, Currency::EUR).unwrap()
}

/// A proof that the card of this token made this cryptogram over this input.
fn proof(token: TokenId, input: &CryptogramInput, cryptogram: &[u8; 8]) -> CryptogramVerified {
    verify(token, input, cryptogram, |_| *cryptogram).unwrap()
}

fn token(number: u8) -> TokenId {
    TokenId::new(now(), [number; 10])
}

fn terminal(number: u8) -> TerminalId {
    TerminalId::new(now(), [number; 10])
}

fn asking_terminal() -> TerminalFacts {
    let id = MerchantId::new(now(), [6; 10]);
    TerminalFacts {
        terminal: Arc::new(Terminal {
            id: terminal(7),
            merchant: id,
            label: "till".into(),
            identification: "TILL0007".parse().unwrap(),
            revocation: None,
            created_at: now(),
        }),
        merchant: Arc::new(Merchant {
            id,
            name: "Canteen".into(),
            country: CountryCode::new(276).unwrap(),
            category_code: "5812".parse().unwrap(),
            created_at: now(),
        }),
        acquirer: [0, 0x12, 0x34, 0x56, 0x78, 0x90],
    }
}

/// The terminal next to it, of the same merchant.
fn other_identity() -> MerchantIdentity {
    let mut other = asking_terminal();
    Arc::make_mut(&mut other.terminal).identification = "TILL0008".parse().unwrap();
    other.identity()
}

struct Case {
    facts: Facts,
    /// What the HSM says, or what else than the presented it proved.
    cryptogram: &'static str,
    terminal_pin: TerminalPin,
    now: Timestamp,
}

impl Case {
    fn decide(self) -> Decision {
        let (now, terminal_pin) = (self.now, self.terminal_pin);
        let (facts, cryptogram) = self.evidence();
        decide(facts, cryptogram.as_ref().map_err(|failure| *failure), terminal_pin, now)
    }

    fn evidence(self) -> (Facts, Result<CryptogramVerified, CryptogramFailure>) {
        let presented = &self.facts.presented;
        let (mut of, mut input, mut cryptogram) =
            (token(3), presented.input.clone(), presented.cryptogram);
        match self.cryptogram {
            "right" => {}
            "wrong" => return (self.facts, Err(CryptogramMismatch.into())),
            "unreadable" => return (self.facts, Err(CryptogramFailure::Unreadable)),
            "of_other_token" => of = token(4),
            "of_other_cryptogram" => cryptogram[7] ^= 1,
            "of_other_amount" => input.amount_authorized[5] ^= 1,
            "of_other_amount_other" => input.amount_other[5] ^= 1,
            "of_other_country" => input.terminal_country[1] ^= 1,
            "of_other_tvr" => input.tvr[3] ^= 0x80,
            "of_other_currency" => input.currency[1] ^= 1,
            "of_other_date" => input.date[2] ^= 1,
            "of_other_type" => input.transaction_type ^= 1,
            "of_other_number" => input.unpredictable_number[3] ^= 1,
            "of_other_aip" => input.aip[1] ^= 1,
            "of_other_counter" => input.application_transaction_counter ^= 1,
            "of_other_data" => input.issuer_application_data[31] ^= 1,
            other => panic!("cryptogram={other}"),
        }
        (self.facts, Ok(proof(of, &input, &cryptogram)))
    }
}

fn issuer() -> Issuer {
    Issuer {
        id: IssuerId::new(now(), [1; 10]),
        name: "Campus".into(),
        country: CountryCode::new(276).unwrap(),
        pan_prefix: None,
        token_prefix: "999900".parse().unwrap(),
        currency: Currency::EUR,
        aid: ApplicationIdentifier::new(&AID).unwrap(),
        unverified_limit_minor: 2_500,
        policy_version: 1,
        key_policy: KeyPolicy::default(),
        derivation_key_index: 1,
        certificate: vec![],
        created_at: now(),
    }
}

/// Screen on up to 25.00, unlocked above; the PIN after three payments or 200.00 without one.
fn policy(version: u32) -> IssuedPolicy {
    let asks = Asks {
        with: Requirement::AppPin,
        every_payments: Some(3),
        every_sum: Some(20_000),
        at_random_one_in: None,
    };
    let policy = VerificationPolicy {
        asks: Some(asks),
        ..VerificationPolicy::by_limit(version, Currency::EUR, 2_500)
    };
    IssuedPolicy { policy, created_at: now(), replaced_at: None }
}

/// The row of session keys that the phone was given with its PIN.
fn person_keys(key: &mut GrantedKey) {
    key.class = KeyClass::Verified;
    key.counters = Some(CounterRange { first: COUNTER, count: 8 });
}

fn token_facts() -> TokenFacts {
    let (issuer, card) = (issuer(), CardId::new(now(), [2; 10]));
    let (issuer_id, key_index) = (issuer.id, KeyIndex::at(now(), 1).unwrap());
    TokenFacts {
        token: Arc::new(Token {
            id: token(3),
            issuer: issuer_id,
            card,
            device: DeviceId::new(now(), [4; 10]),
            last_four: "0001".into(),
            sequence_number: PanSequenceNumber::ZERO,
            state: TokenState::Active,
            created_at: now(),
        }),
        card: Arc::new(Card {
            id: card,
            issuer: issuer_id,
            last_four: "1111".into(),
            sequence_number: PanSequenceNumber::ZERO,
            expiry: "2027-06".parse().unwrap(),
            status: CardStatus::Active,
            status_reason: None,
            holder_reference: None,
            created_at: now(),
        }),
        issuer: Arc::new(issuer),
        counter_spent: None,
        highest_counter: Some(7),
        key: Some(GrantedKey {
            index: key_index,
            class: KeyClass::Unverified,
            derivation_key_index: 1,
            granted_at: now(),
            expires_at: now().plus_seconds(3_600),
            maximum_payments: 10,
            maximum_total_minor: 25_000,
            used_payments: 0,
            used_total_minor: 0,
            counters: None,
        }),
        policy: Some(Arc::new(policy(1))),
        pin_rules: PinRules::default(),
        history: VerificationHistory::default(),
        logged_in_at: now(),
        person_key: Some(PersonKeyState { failed: 1, ..PersonKeyState::fresh(1) }),
        card_pin: Some(CardPin { value: [0; 32], failed: 1 }),
        available: euro("100.00"),
        integrity_policy: Some(Arc::new(integrity_policy())),
        integrity_verdict: Some(Verdict {
            standing: Standing::TrustedEnvironment,
            found_at: now(),
        }),
    }
}

fn integrity_policy() -> IntegrityPolicy {
    IntegrityPolicy {
        least: Standing::TrustedEnvironment,
        below: Consequence::LowerLimit(1_000),
        failed: Consequence::Refuse,
        maximum_age_seconds: 400 * 86_400,
        key_attestation: AttestationTerms::default(),
    }
}

fn good_case() -> Case {
    let intent = PaymentIntent::new(
        PaymentIntentId::new(now(), [5; 10]),
        MerchantId::new(now(), [6; 10]),
        euro("12.34"),
        CaptureMethod::Automatic,
        None,
        now(),
    );
    let armed = intent.unwrap().arm(terminal(7), now(), now().plus_seconds(60)).unwrap();
    let results = VerificationResults {
        method: VerificationMethod::None,
        screen_on: true,
        unlocked: false,
        declined: false,
        key_class: KeyClass::Unverified,
        relay_checked: false,
        integrity_verdict: 0,
    };
    let application_data = IssuerApplicationData {
        derivation_key_index: 1,
        results,
        key_index: KeyIndex::at(now(), 1).unwrap(),
        policy_version: 1,
        merchant_identity: None,
        iad_mac: [0; 8],
    };
    let input = CryptogramInput {
        amount_authorized: [0, 0, 0, 0, 0x12, 0x34],
        amount_other: [0; 6],
        terminal_country: [0x02, 0x76],
        tvr: [0, 0, 0, 0x80, 0x81],
        currency: [0x09, 0x78],
        date: [0x26, 0x11, 0x21],
        transaction_type: 0,
        unpredictable_number: [1, 2, 3, 4],
        aip: [1, 4],
        application_transaction_counter: COUNTER,
        issuer_application_data: application_data.encode().to_vec(),
    };
    let presented = PresentedPayment {
        input,
        cryptogram: [7; 8],
        tvr_as_found: TerminalVerificationResults::default(),
        aids: vec![AID.to_vec()],
    };
    let facts = Facts {
        presented: Arc::new(presented),
        terminal: asking_terminal(),
        intent: Arc::new(armed),
        token: Some(token_facts()),
    };
    Case { facts, cryptogram: "right", terminal_pin: TerminalPin::Absent, now: now() }
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let digits = hex.as_bytes().chunks(2);
    let bytes: Vec<u8> = digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

/// Format n, minor units; as it stands if it is no amount.
fn amount(value: &str) -> [u8; 6] {
    let minor = Money::parse(value, Currency::EUR).map(|amount| amount.minor.to_string());
    bytes(&format!("{:0>12}", minor.as_deref().unwrap_or(value)))
}

/// Makes one thing different.
fn change(case: &mut Case, name: &str, value: &'static str) {
    let facts = &mut case.facts;
    let presented = Arc::make_mut(&mut facts.presented);
    let signed = &mut presented.input;
    match name {
        "now" => return case.now = value.parse().unwrap(),
        "cryptogram" => return case.cryptogram = value,
        "terminal_pin" => return change_terminal_pin(case, value),
        "token" if value == "unknown" => return facts.token = None,
        "intent" => return Arc::make_mut(&mut facts.intent).amount = euro(value),
        "amount" => return signed.amount_authorized = amount(value),
        "other" => return signed.amount_other = amount(value),
        "terminal" => {
            let ended = Terminal::clone(&facts.terminal.terminal).revoked("stolen".into(), now());
            return facts.terminal.terminal = Arc::new(ended);
        }
        "country" => return signed.terminal_country = bytes(&format!("{value:0>4}")),
        "currency" => return signed.currency = bytes(&format!("{value:0>4}")),
        "type" => return [signed.transaction_type] = bytes(value),
        "date" => return signed.date = bytes(value),
        "tvr" => return signed.tvr = bytes(value),
        "tvr_as_found" => {
            let found = TerminalVerificationResults::from_bytes(bytes(value));
            return presented.tvr_as_found = found;
        }
        "aid" if value == "none" => return presented.aids.clear(),
        "aid" if value == "twice" => return presented.aids.push(AID.to_vec()),
        "aid" => return presented.aids[0] = bytes::<5>(value).to_vec(),
        "second_aid" => return presented.aids.push(bytes::<5>(value).to_vec()),
        "armed" | "armed_until" => return change_arming(Arc::make_mut(&mut facts.intent), value),
        "generation" | "policy" | "method" | "class" | "card_says" | "phone" | "proven" => {
            let mut data = signed.application_data().unwrap();
            match name {
                "proven" if value == "this" => {
                    data.merchant_identity = Some(facts.terminal.identity());
                }
                "proven" => data.merchant_identity = Some(other_identity()),
                "generation" => data.derivation_key_index = value.parse().unwrap(),
                "policy" => {
                    data.policy_version = value.parse().unwrap();
                    if data.policy_version != 1
                        && let Some(token) = &mut facts.token
                    {
                        token.policy = None;
                    }
                }
                _ => change_results(&mut data, value),
            }
            return signed.issuer_application_data = data.encode().to_vec();
        }
        _ => {}
    }
    // Pairs with an unknown token change nothing more.
    if let Some(token) = &mut facts.token {
        change_token(token, name, value);
    }
}

fn change_terminal_pin(case: &mut Case, value: &str) {
    let pin = case.facts.token.as_mut().map(|token| &mut token.card_pin);
    case.terminal_pin = match value {
        "right" => TerminalPin::Right,
        "wrong" => TerminalPin::Wrong,
        "right_but_blocked" => {
            if let Some(Some(pin)) = pin {
                pin.failed = 3;
            }
            TerminalPin::Right
        }
        other => panic!("terminal_pin={other}"),
    };
}

fn change_arming(intent: &mut PaymentIntent, value: &str) {
    let arming = intent.arming.as_mut().unwrap();
    match value {
        "no" => *intent = intent.clone().disarmed(),
        "elsewhere" => arming.terminal = terminal(8),
        "consumed" => arming.state = ArmingState::Consumed,
        until => arming.expires_at = until.parse().unwrap(),
    }
}

fn change_results(data: &mut IssuerApplicationData, value: &str) {
    let results = &mut data.results;
    let (method, unlocked) = match value {
        "unlock" => (VerificationMethod::DeviceUnlock, true),
        "unlock_but_locked" => (VerificationMethod::DeviceUnlock, false),
        "pin" => (VerificationMethod::Pin, false),
        "terminal" => (VerificationMethod::TerminalPin, false),
        "no" => return results.declined = true,
        "02" => return results.key_class = KeyClass::Verified,
        "dark" => return results.screen_on = false,
        "knows_merchant" => return data.merchant_identity = MerchantIdentity::from_bytes([7; 8]),
        "suspects_itself" => return results.integrity_verdict = 0x81,
        "checked_itself" => return results.integrity_verdict = 0x80,
        "checked_relay" => return results.relay_checked = true,
        other => panic!("the phone says {other}"),
    };
    results.method = method;
    results.unlocked = unlocked;
}

fn change_token(token: &mut TokenFacts, name: &str, value: &str) {
    let key = token.key.as_mut();
    let state = &mut Arc::make_mut(&mut token.token).state;
    let policy = token.policy.as_mut().map(Arc::make_mut);
    match (name, value) {
        ("token", "inactive") => *state = TokenState::Inactive,
        ("token", "suspended") => {
            *state = TokenState::Suspended(SuspendedBy::only(Actor::Issuer));
        }
        ("token", "deactivated") => *state = TokenState::Deactivated,
        ("issuer_generation", newest) => {
            Arc::make_mut(&mut token.issuer).derivation_key_index = newest.parse().unwrap();
        }
        ("card", status) => Arc::make_mut(&mut token.card).status = status.parse().unwrap(),
        ("counter_used", by) => token.counter_spent = Some(spent(by)),
        ("highest", "none") => token.highest_counter = None,
        ("highest", counter) => token.highest_counter = Some(counter.parse().unwrap()),
        ("key", "unknown") => token.key = None,
        ("available", amount) => token.available = euro(amount),
        ("stands", "never_asked") => token.integrity_policy = None,
        ("stands", "unknown") => token.integrity_verdict = None,
        ("stands", standing) => {
            let standing = standing.parse().unwrap();
            token.integrity_verdict = Some(Verdict { standing, found_at: now() });
        }
        ("key", "of_person") => set(key, person_keys),
        ("key", "of_person_for_later") => set(key, |key| {
            person_keys(key);
            key.counters = Some(CounterRange { first: COUNTER + 1, count: 8 });
        }),
        ("pin", "blocked") => token.person_key.as_mut().unwrap().failed = 3,
        ("since", payments_and_sum) => {
            let (payments, sum) = payments_and_sum.split_once(',').unwrap();
            token.history.since.payments = payments.parse().unwrap();
            token.history.since.sum_minor = euro(sum).minor;
        }
        ("login_every", payments) => {
            if let Some(issued) = policy {
                issued.policy.fresh_login = Some(FreshLogin {
                    every_payments: Some(payments.parse().unwrap()),
                    every_hours: Some(24),
                    at_random_one_in: None,
                });
            }
        }
        ("since_login", payments) => token.history.since_login = payments.parse().unwrap(),
        ("logged_in", at) => token.logged_in_at = at.parse().unwrap(),
        ("merchant_proof", "always") => {
            if let Some(issued) = policy {
                issued.policy.merchant_proof = MerchantProofRule::Always;
            }
        }
        ("policy_replaced", at) => {
            if let Some(issued) = policy {
                issued.replaced_at = Some(at.parse().unwrap());
            }
        }
        ("key_until", until) => set(key, |key| key.expires_at = until.parse().unwrap()),
        ("key_payments", used) => set(key, |key| key.used_payments = used.parse().unwrap()),
        ("key_total", used) => set(key, |key| key.used_total_minor = euro(used).minor),
        other => panic!("the table says {other:?}"),
    }
}

/// What spent the counter: `yes` is this very tap, for the intent and at the terminal of this case.
fn spent(by: &str) -> SpentCounter {
    let mut spent = SpentCounter {
        authorization: AuthorizationId::new(now(), [8; 10]),
        payment_intent: PaymentIntentId::new(now(), [5; 10]),
        terminal: terminal(7),
        cryptogram: Some([7; 8]),
        verified: true,
    };
    match by {
        "yes" => {}
        "by_wrong_pin" => spent.verified = false,
        "by_other_wrong_pin" => {
            (spent.cryptogram, spent.verified) = (Some([9; 8]), false);
        }
        "for_other_intent" => spent.payment_intent = PaymentIntentId::new(now(), [9; 10]),
        "at_other_terminal" => spent.terminal = terminal(8),
        "with_other_cryptogram" => spent.cryptogram = Some([9; 8]),
        "long_ago" => spent.cryptogram = None,
        other => panic!("counter_used={other}"),
    }
    spent
}

fn set(key: Option<&mut GrantedKey>, change: impl FnOnce(&mut GrantedKey)) {
    if let Some(key) = key {
        change(key);
    }
}

type Changes = BTreeMap<&'static str, &'static str>;

fn rows() -> Vec<(Changes, &'static str)> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let (changes, outcome) = line.split_once('|').unwrap();
            let changes = changes.split_whitespace().filter(|&word| word != "nothing");
            (changes.map(|word| word.split_once('=').unwrap()).collect(), outcome.trim())
        })
        .collect()
}

fn case_with(changes: &Changes) -> Case {
    let mut case = good_case();
    for (name, value) in changes {
        change(&mut case, name, value);
    }
    case
}

fn decide_with(changes: &Changes) -> Decision {
    case_with(changes).decide()
}

#[test]
fn every_row_of_the_table() {
    for (changes, expected) in rows() {
        assert_eq!(decide_with(&changes).outcome().slug(), expected, "{changes:?}");
    }
}

#[test]
fn every_reason_has_a_row() {
    let seen: BTreeSet<&str> = rows().into_iter().map(|(_, outcome)| outcome).collect();
    for reason in DeclineReason::ALL {
        assert!(seen.contains(reason.slug()), "no row for {}", reason.slug());
    }
}

fn place(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Approved => usize::MAX,
        Outcome::Declined(reason) => {
            DeclineReason::ALL.iter().position(|&other| other == reason).unwrap()
        }
    }
}

/// What proves something takes away a reason instead of adding one: it has rows of its own.
fn heals(row: &Changes) -> bool {
    [("proven", "this"), ("terminal_pin", "right")]
        .iter()
        .any(|(name, value)| row.get(name) == Some(value))
}

/// Of two reasons the one that stands first in the list is given.
#[test]
fn precedence_of_every_pair() {
    let single: Vec<Changes> = rows()
        .into_iter()
        .map(|(row, _)| row)
        .filter(|row| row.len() == 1 && !heals(row))
        .collect();
    let mut pairs = 0;
    for one in &single {
        for other in &single {
            let (name, other_name) = (one.keys().next().unwrap(), other.keys().next().unwrap());
            let related = [*name, *other_name].iter().all(|name| name.starts_with("armed"));
            if name == other_name || related {
                continue;
            }
            let first = place(decide_with(one).outcome()).min(place(decide_with(other).outcome()));
            let both: Changes =
                one.iter().chain(other).map(|(&name, &value)| (name, value)).collect();
            assert_eq!(place(decide_with(&both).outcome()), first, "{both:?}");
            pairs += 1;
        }
    }
    assert!(pairs > 1_000, "only {pairs} pairs");
}

/// What a decision spends does not depend on its outcome, but on the cryptogram and the arming.
#[test]
fn what_a_decision_spends() {
    let table = [
        ("nothing=", true, true),
        ("available=0.00", true, true),
        ("armed=no", true, false),
        ("armed=elsewhere", true, false),
        ("counter_used=yes", false, true),
        ("cryptogram=wrong", false, true),
        ("cryptogram=of_other_counter", false, true),
        ("token=unknown", false, true),
    ];
    for (row, counter, arming) in table {
        let (name, value) = row.split_once('=').unwrap();
        let changes = [(name, value)].into_iter().filter(|(name, _)| *name != "nothing").collect();
        let decision = decide_with(&changes);
        assert_eq!(
            (decision.uses_counter(), decision.consumes_arming()),
            (counter, arming),
            "{row}"
        );
    }
}

/// Two cryptograms under one counter stop the token, whoever of the two comes with which payment.
#[test]
fn a_copy_of_a_phone_is_suspended() {
    let by_both = Some(TokenState::Suspended(SuspendedBy::from_bits(0b110).unwrap()));
    let by_platform = Some(TokenState::Suspended(SuspendedBy::only(Actor::Platform)));
    let table = [
        ("counter_used=with_other_cryptogram", by_platform),
        ("counter_used=with_other_cryptogram card=blocked armed=no", by_platform),
        ("counter_used=with_other_cryptogram token=suspended", by_both),
        ("counter_used=with_other_cryptogram token=deactivated", None),
        ("counter_used=with_other_cryptogram cryptogram=wrong", None),
        ("counter_used=yes", None),
        ("counter_used=for_other_intent", None),
        ("counter_used=long_ago", None),
        ("nothing", None),
    ];
    for (row, expected) in table {
        let changes = row.split_whitespace().filter_map(|word| word.split_once('=')).collect();
        assert_eq!(decide_with(&changes).suspended(), expected, "{row}");
    }
}

/// The same tap for the same payment at the same terminal has its answer; nothing else has.
#[test]
fn what_was_decided_before() {
    let table = [
        ("counter_used=yes", true),
        ("counter_used=yes armed=no", true),
        ("counter_used=yes token=suspended", true),
        ("counter_used=yes available=0.00", true),
        ("nothing", false),
        ("counter_used=for_other_intent", false),
        ("counter_used=at_other_terminal", false),
        ("counter_used=with_other_cryptogram", false),
        ("counter_used=long_ago", false),
        ("counter_used=yes cryptogram=wrong", false),
        ("counter_used=by_wrong_pin cryptogram=wrong", true),
        ("counter_used=by_other_wrong_pin cryptogram=wrong", false),
        ("counter_used=yes cryptogram=of_other_token", false),
        ("counter_used=yes cryptogram=of_other_amount", false),
        ("token=unknown", false),
    ];
    for (row, is_known) in table {
        let changes = row.split_whitespace().filter_map(|word| word.split_once('=')).collect();
        let (facts, cryptogram) = case_with(&changes).evidence();
        let expected = is_known.then(|| spent("yes").authorization);
        assert_eq!(
            decided_before(&facts, cryptogram.as_ref().map_err(|failure| *failure)),
            expected,
            "{row}"
        );
    }
}

/// When a PIN on the phone counts, what it does to the tries (one was wrong before, of three) and to the
/// counter. Where it does not count, right and wrong are the same in everything.
#[test]
fn when_a_pin_on_the_phone_counts() {
    // Uses the counter, remembers the cryptogram, wrong PINs in a row; for a right PIN and for a wrong one.
    let right = (true, false, Some(0));
    let right_but_declined = (true, false, Some(1));
    let wrong = (false, true, Some(2));
    let nothing = (false, false, None);
    let remembered = (false, true, None);
    let table = [
        ("", right, wrong),
        ("available=0.00", right, wrong),
        ("amount=1.00", right_but_declined, wrong),
        ("card=blocked", right_but_declined, wrong),
        ("card_says=no", right_but_declined, wrong),
        ("key_until=2026-11-21T11:00:00Z", right_but_declined, wrong),
        ("counter_used=with_other_cryptogram", (false, false, Some(1)), (false, false, Some(2))),
        ("counter_used=by_other_wrong_pin", right, (false, false, Some(2))),
        ("counter_used=by_other_wrong_pin highest=9", nothing, nothing),
        ("pin=blocked", remembered, remembered),
        ("pin=blocked counter_used=by_other_wrong_pin", nothing, nothing),
        ("armed=no", nothing, nothing),
        ("armed=elsewhere", nothing, nothing),
        ("token=suspended", nothing, nothing),
        ("token=inactive", nothing, nothing),
        ("token=deactivated", nothing, nothing),
        ("highest=9", nothing, nothing),
        ("counter_used=yes", nothing, nothing),
        ("counter_used=by_wrong_pin", nothing, nothing),
        ("counter_used=by_wrong_pin armed=no", nothing, nothing),
    ];
    for (row, if_right, if_wrong) in table {
        let decided = |cryptogram| {
            let own = [("cryptogram", cryptogram), ("class", "02"), ("method", "pin")];
            let row = row.split_whitespace().filter_map(|word| word.split_once('='));
            let changes: Changes = own.into_iter().chain(row).collect();
            let mut case = case_with(&changes);
            person_keys(case.facts.token.as_mut().unwrap().key.as_mut().unwrap());
            if row_has_expiry(&changes) {
                change(&mut case, "key_until", "2026-11-21T11:00:00Z");
            }
            case.decide()
        };
        let spent = |decision: &Decision| {
            let failed = decision.person_key().map(|state| state.failed);
            (decision.uses_counter(), decision.remembers_cryptogram(), failed)
        };
        let (of_right, of_wrong) = (decided("right"), decided("wrong"));
        assert_eq!(spent(&of_right), if_right, "{row}: right");
        assert_eq!(spent(&of_wrong), if_wrong, "{row}: wrong");
        if if_right.2.is_none() {
            assert_eq!(of_right.outcome(), of_wrong.outcome(), "{row}: an oracle");
            assert_eq!(of_right.suspended(), of_wrong.suspended(), "{row}");
            assert!(of_right.history().is_none() && of_right.used_key().is_none(), "{row}");
        }
        assert!(!of_wrong.outcome().is_approved(), "{row}");
    }
}

fn row_has_expiry(changes: &Changes) -> bool {
    changes.contains_key("key_until")
}

/// What was never given to the phone is an invention: it costs nobody a try.
#[test]
fn an_invented_key_costs_no_try() {
    for (key, cryptogram) in
        [("unknown", "wrong"), ("unknown", "right"), ("of_person_for_later", "wrong")]
    {
        let changes =
            [("class", "02"), ("method", "pin"), ("key", key), ("cryptogram", cryptogram)];
        let decision = decide_with(&changes.into_iter().collect());
        assert_eq!(decision.person_key(), None, "{key}");
        assert!(!decision.remembers_cryptogram());
        assert!(!decision.outcome().is_approved());
    }
}

/// A PIN at the terminal counts only if nothing else spoke against the payment.
#[test]
fn when_a_pin_at_the_terminal_counts() {
    let table = [
        ("terminal_pin=right", Some(0)),
        ("terminal_pin=wrong", Some(2)),
        ("terminal_pin=right available=0.00", Some(0)),
        ("terminal_pin=wrong available=0.00", Some(2)),
        ("terminal_pin=right_but_blocked", None),
        ("terminal_pin=wrong armed=no", None),
        ("terminal_pin=right armed=no", None),
        ("terminal_pin=wrong cryptogram=wrong", None),
        ("terminal_pin=wrong counter_used=yes", None),
        ("terminal_pin=wrong token=suspended", None),
        ("terminal_pin=wrong card=blocked", None),
        ("nothing", None),
    ];
    for (row, failed) in table {
        let changes = row.split_whitespace().filter_map(|word| word.split_once('=')).collect();
        let decision = decide_with(&changes);
        assert_eq!(decision.card_pin().map(|pin| pin.failed), failed, "{row}");
    }
}

/// Payments since the person was verified: every right cryptogram by which the phone agreed counts, and what
/// the policy asks for now and then starts again.
#[test]
fn what_the_platform_remembers_of_the_person() {
    let table = [
        ("since=2,20.00", Some((3, 3_234))),
        ("since=2,20.00 currency=392", Some((3, 2_000))),
        ("since=2,20.00 method=unlock", Some((3, 3_234))),
        ("since=2,20.00 terminal_pin=right", Some((0, 0))),
        ("since=2,20.00 terminal_pin=wrong", Some((3, 3_234))),
        ("since=2,20.00 terminal_pin=right policy_replaced=2026-11-21T11:59:59Z", Some((3, 3_234))),
        ("since=2,20.00 terminal_pin=right policy_replaced=2026-11-21T12:00:00Z", Some((0, 0))),
        ("since=2,20.00 card_says=no", None),
        ("since=2,20.00 card_says=no terminal_pin=right", None),
        ("since=2,20.00 cryptogram=wrong", None),
        ("since=2,20.00 counter_used=yes", None),
    ];
    for (row, expected) in table {
        let changes = row.split_whitespace().filter_map(|word| word.split_once('=')).collect();
        let since = decide_with(&changes).history().map(|history| history.since);
        assert_eq!(since.map(|since| (since.payments, since.sum_minor)), expected, "{row}");
    }
}

/// What a payment takes of its key: as the phone counts it.
#[test]
fn what_a_payment_takes_of_its_key() {
    let table = [
        ("nothing=", Some((1, 1_234))),
        ("available=0.00", Some((1, 1_234))),
        ("intent=1.00", Some((1, 1_234))),
        ("currency=392", Some((1, 0))),
        ("card_says=no", Some((1, 0))),
        ("counter_used=yes", None),
        ("cryptogram=wrong", None),
        ("key=unknown", None),
    ];
    for (row, expected) in table {
        let (name, value) = row.split_once('=').unwrap();
        let changes = [(name, value)].into_iter().filter(|(name, _)| *name != "nothing").collect();
        let decision = decide_with(&changes);
        let used = decision.used_key().map(|key| (key.used_payments, key.used_total_minor));
        assert_eq!(used, expected, "{row}");
    }
}
