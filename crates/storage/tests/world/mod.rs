//! A small world to pay in: one issuer, a card with money, a phone, a merchant, terminals. Everything
//! is made through the storage traits, with ids and times that count up.
#![allow(dead_code, reason = "every test file uses another part of the world")]

pub(crate) mod backend;
pub(crate) mod standby;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tapfer_emv::cryptogram::{CryptogramInput, CryptogramVerified, verify};
use tapfer_emv::iad::{IssuerApplicationData, VerificationMethod, VerificationResults};
use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_emv::tvr::TerminalVerificationResults;
use tapfer_payment_types::{
    ApiKeyId, AuthorizationId, CardId, Currency, DeviceId, IssuerId, MerchantId, Money,
    PanSequenceNumber, PaymentIntentId, RealmId, Secret, TerminalId, Timestamp, TokenId,
};
use tapfer_payments::access::{ApiKey, Principal, Role};
use tapfer_payments::audit::Caller;
use tapfer_payments::authorization::{
    Authorization, Decision, Facts, Outcome, PresentedPayment, decide,
};
use tapfer_payments::cards::{Card, CardStatus};
use tapfer_payments::devices::{Device, DevicePublicKey};
use tapfer_payments::intents::{CaptureMethod, PaymentIntent};
use tapfer_payments::issuers::{ApplicationIdentifier, CountryCode, Issuer, KeyPolicy};
use tapfer_payments::keys::GrantedKey;
use tapfer_payments::merchants::{Merchant, acquirer_of};
use tapfer_payments::pins::TerminalPin;
use tapfer_payments::store_shares::StoreState;
use tapfer_payments::terminals::{Terminal, TerminalIdentification};
use tapfer_payments::tokens::{Actor, Token, TokenAction, TokenState};
use tapfer_storage::{
    Answer, AnswerKey, CommitAuthorization, Evidence, FactsQuery, IdempotencyClaim, SealedNumber,
    Storage, StorageError, StoredResponse, TopUp, Undecided, Write, Written,
};

pub(crate) const AID: [u8; 8] = [0xF0, 0x54, 0x41, 0x50, 0x46, 0x45, 0x52, 0x01];

/// Noon of the day on which all of this happens.
pub(crate) fn noon() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// What vouches for answers here.
pub(crate) fn answer_key() -> AnswerKey {
    AnswerKey::new(&Secret::new([9; 32]))
}

/// Whose database it is.
pub(crate) fn realm() -> RealmId {
    RealmId::new(noon(), [1; 10])
}

pub(crate) fn euro(minor: i64) -> Money {
    Money::new(minor, Currency::EUR)
}

pub(crate) struct World {
    pub(crate) store: Arc<dyn Storage>,
    counter: AtomicU64,
    pub(crate) operator: ApiKeyId,
    pub(crate) issuer: Issuer,
    pub(crate) card: CardId,
    pub(crate) device: DeviceId,
    pub(crate) token: TokenId,
    pub(crate) merchant: MerchantId,
    pub(crate) terminal: TerminalId,
    /// Where there are several: the partition of its card.
    partition: u32,
}

/// Ids that count up from a number, so that a second run on the same data can take others.
fn random(number: u64) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[2..].copy_from_slice(&number.to_be_bytes());
    bytes
}

pub(crate) fn key_index() -> KeyIndex {
    KeyIndex::at(noon(), 1).unwrap()
}

pub(crate) fn caller() -> Caller {
    Caller {
        api_key: None,
        role: Role::Operator,
        origin: "local".into(),
        request_id: "request-1".into(),
    }
}

/// A change without an idempotency key that nobody wants an answer to.
pub(crate) fn write<T>() -> Write<T> {
    let answer = Answer::Of(|_| StoredResponse { status: 201, body: Vec::new() });
    Write { caller: caller(), claim: None, answer, now: noon() }
}

pub(crate) fn done<T>(written: Result<Written<T>, StorageError>) -> T {
    written.unwrap().value().expect("made now")
}

/// Pays, and again if the facts have changed meanwhile.
fn until_it_stands(
    pay: impl Fn() -> Result<Written<Authorization>, StorageError>,
) -> Authorization {
    // Every conflict means that somebody else got on, so the number of racers bounds it.
    for _ in 0..10_000 {
        match pay() {
            Err(StorageError::Conflict | StorageError::Busy) => std::thread::yield_now(),
            written => return done(written),
        }
    }
    panic!("conflict without end");
}

pub(crate) fn granted_key() -> GrantedKey {
    GrantedKey {
        index: key_index(),
        class: KeyClass::Unverified,
        derivation_key_index: 1,
        granted_at: noon(),
        expires_at: noon().plus_seconds(86_400),
        maximum_payments: u16::MAX,
        maximum_total_minor: 100_000_000,
        used_payments: 0,
        used_total_minor: 0,
        counters: None,
    }
}

/// What a phone presents that pays `minor` cents with this counter.
pub(crate) fn presented(counter: u16, minor: i64) -> PresentedPayment {
    let application_data = IssuerApplicationData {
        derivation_key_index: 1,
        results: VerificationResults {
            method: VerificationMethod::None,
            screen_on: true,
            unlocked: false,
            declined: false,
            key_class: KeyClass::Unverified,
            relay_checked: false,
            integrity_verdict: 0,
        },
        key_index: key_index(),
        policy_version: 1,
        merchant_identity: None,
        iad_mac: [0; 8],
    };
    let amount = u64::from_str_radix(&minor.to_string(), 16).unwrap().to_be_bytes();
    let input = CryptogramInput {
        amount_authorized: amount[2..].try_into().unwrap(),
        amount_other: [0; 6],
        terminal_country: [0x02, 0x76],
        tvr: [0, 0, 0, 0, 0x80],
        currency: [0x09, 0x78],
        date: [0x26, 0x11, 0x21],
        transaction_type: 0,
        unpredictable_number: [1, 2, 3, 4],
        aip: [1, 4],
        application_transaction_counter: counter,
        issuer_application_data: application_data.encode().to_vec(),
    };
    PresentedPayment {
        input,
        cryptogram: [7; 8],
        tvr_as_found: TerminalVerificationResults::default(),
        aids: vec![AID.to_vec()],
    }
}

/// A proof that the card of this token signed this; what an HSM would have found right.
pub(crate) fn proof(token: TokenId, presented: &PresentedPayment) -> CryptogramVerified {
    let PresentedPayment { input, cryptogram, .. } = presented;
    verify(token, input, cryptogram, |_| *cryptogram).unwrap()
}

impl World {
    /// The keys that new ones depend on, at noon.
    pub(crate) fn keys_that_count(&self) -> Result<Vec<GrantedKey>, StorageError> {
        self.store.keys_that_count(self.token, &KeyPolicy::default(), noon())
    }

    /// Sets everything up. The card has 1,000.00 EUR.
    pub(crate) fn new(store: Arc<dyn Storage>) -> Self {
        let world = Self::reopened(store, 100);
        world.set_up();
        world
    }

    /// The same world on a store where it was set up before. `start` keeps new ids apart.
    pub(crate) fn reopened(store: Arc<dyn Storage>, start: u64) -> Self {
        let id = random;
        Self {
            store,
            counter: AtomicU64::new(start),
            operator: ApiKeyId::new(noon(), id(1)),
            issuer: issuer(1, "999900"),
            card: CardId::new(noon(), id(3)),
            device: DeviceId::new(noon(), id(4)),
            token: TokenId::new(noon(), id(5)),
            merchant: MerchantId::new(noon(), id(6)),
            terminal: TerminalId::new(noon(), id(7)),
            partition: 1,
        }
    }

    /// Another customer in the same world, with a card, a phone and a till to pay at. `start` keeps new ids apart.
    pub(crate) fn another_customer(&self, start: u64) -> Self {
        self.another_customer_in(1, start)
    }

    /// The same, in a partition.
    pub(crate) fn another_customer_in(&self, partition: u32, start: u64) -> Self {
        let mut other = Self::reopened(Arc::clone(&self.store), start);
        other.partition = partition;
        other.card = CardId::new(noon(), other.next());
        other.device = DeviceId::new(noon(), other.next());
        other.token = TokenId::new(noon(), other.next());
        other.terminal = TerminalId::new(noon(), other.next());
        other.set_up_customer();
        other.create_terminal(other.terminal);
        other
    }

    fn set_up(&self) {
        let store = &self.store;
        done(store.create_api_key(self.api_key(self.operator, Principal::Operator), write()));
        done(store.create_issuer(self.issuer.clone(), write()));
        self.set_up_customer();
        let key = self.new_api_key(Principal::Merchant(self.merchant));
        done(store.create_merchant(merchant(self.merchant), key, write()));
        self.create_terminal(self.terminal);
    }

    fn set_up_customer(&self) {
        let store = &self.store;
        done(store.create_card(self.card(self.card), self.number(), write()));
        let top_up = TopUp { card: self.card, amount: euro(100_000), reference: "first".into() };
        done(store.top_up(top_up, write()));
        let key = self.new_api_key(Principal::Device(self.device));
        done(store.create_device(self.device(self.device), key, write()));
        done(store.create_token(self.token(self.token), self.token_number(self.token), write()));
        self.change_token(TokenAction::Activate, Actor::Issuer).unwrap();
        done(store.grant_keys(self.token, None, vec![granted_key()], write()));
    }

    /// Random bytes of an id that was not used before.
    pub(crate) fn next(&self) -> [u8; 10] {
        random(self.counter.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn api_key(&self, id: ApiKeyId, principal: Principal) -> ApiKey {
        let mut secret_hash = [0; 32];
        secret_hash[..10].copy_from_slice(&self.next());
        let (created_at, revoked_at, signature) = (noon(), None, Some([7; 64]));
        ApiKey { id, principal, secret_hash, created_at, revoked_at, signature }
    }

    pub(crate) fn new_api_key(&self, principal: Principal) -> ApiKey {
        self.api_key(ApiKeyId::new(noon(), self.next()), principal)
    }

    /// A number that nobody else has, of the partition of its card.
    pub(crate) fn number(&self) -> SealedNumber {
        let keyed_hash = [self.partition.to_be_bytes().as_slice(), &self.next()].concat();
        SealedNumber { sealed: vec![1, 2, 3], keyed_hash }
    }

    pub(crate) fn token_number(&self, token: TokenId) -> SealedNumber {
        let token = token.to_string();
        let keyed_hash = [self.partition.to_be_bytes().as_slice(), token.as_bytes()].concat();
        SealedNumber { sealed: vec![4, 5, 6], keyed_hash }
    }

    pub(crate) fn card(&self, id: CardId) -> Card {
        Card {
            id,
            issuer: self.issuer.id,
            last_four: "1111".into(),
            sequence_number: PanSequenceNumber::ZERO,
            expiry: "2029-12".parse().unwrap(),
            status: CardStatus::Active,
            status_reason: None,
            holder_reference: Some("student 17".into()),
            created_at: noon(),
        }
    }

    pub(crate) fn device(&self, id: DeviceId) -> Device {
        let mut point = [1; 65];
        point[0] = 4;
        Device {
            id,
            issuer: self.issuer.id,
            label: "phone".into(),
            public_key: DevicePublicKey::new(&point).unwrap(),
            created_at: noon(),
            store: StoreState::default(),
            lock: None,
        }
    }

    pub(crate) fn token(&self, id: TokenId) -> Token {
        Token {
            id,
            issuer: self.issuer.id,
            card: self.card,
            device: self.device,
            last_four: "0001".into(),
            sequence_number: PanSequenceNumber::ZERO,
            state: TokenState::Inactive,
            created_at: noon(),
        }
    }

    pub(crate) fn change_token(
        &self,
        action: TokenAction,
        actor: Actor,
    ) -> Result<Token, StorageError> {
        let reason = format!("{actor} wants it");
        let written = self.store.change_token(self.token, action, actor, reason, write())?;
        Ok(written.value().unwrap())
    }

    pub(crate) fn create_terminal(&self, id: TerminalId) {
        self.create_terminal_of(self.merchant, id);
    }

    pub(crate) fn create_terminal_of(&self, merchant: MerchantId, id: TerminalId) {
        let [.., a, b, c, d, e] = self.next();
        let terminal = Terminal {
            id,
            merchant,
            label: "till".into(),
            identification: TerminalIdentification::from_random([a, b, c, d, e]),
            revocation: None,
            created_at: noon(),
        };
        let key = self.new_api_key(Principal::Terminal(id));
        done(self.store.create_terminal(terminal, key, write()));
    }

    pub(crate) fn intent(&self, minor: i64, method: CaptureMethod) -> PaymentIntent {
        let id = PaymentIntentId::new(noon(), self.next());
        let intent = PaymentIntent::new(id, self.merchant, euro(minor), method, None, noon());
        done(self.store.create_intent(intent.unwrap(), write()))
    }

    pub(crate) fn armed(&self, minor: i64, method: CaptureMethod) -> PaymentIntent {
        let intent = self.intent(minor, method);
        self.arm(intent.id, self.terminal)
    }

    pub(crate) fn arm(&self, intent: PaymentIntentId, terminal: TerminalId) -> PaymentIntent {
        let until = noon().plus_seconds(60);
        done(self.store.arm_intent(intent, terminal, until, write()))
    }

    /// Decides on what is in the store at this moment.
    pub(crate) fn decide(
        &self,
        intent: PaymentIntentId,
        terminal: TerminalId,
        presented: PresentedPayment,
    ) -> Decision {
        let proof = proof(self.token, &presented);
        let query = self.query(intent, terminal, presented);
        let facts = self.store.authorization_facts(query).unwrap();
        decide(facts, Ok(&proof), TerminalPin::Absent, noon())
    }

    /// Decides on facts that were loaded before.
    pub(crate) fn decide_on(&self, facts: Facts, presented: PresentedPayment) -> Decision {
        decide(facts, Ok(&proof(self.token, &presented)), TerminalPin::Absent, noon())
    }

    /// What a decision has to be loaded for.
    pub(crate) fn query(
        &self,
        intent: PaymentIntentId,
        terminal: TerminalId,
        presented: PresentedPayment,
    ) -> FactsQuery {
        let token_number_hash = self.token_number(self.token).keyed_hash;
        let (payment_intent, acquirer) = (intent, acquirer_of(realm()));
        let presented = Arc::new(presented);
        FactsQuery { token_number_hash, payment_intent, terminal, acquirer, presented }
    }

    pub(crate) fn commit(
        &self,
        decision: &Decision,
        claim: Option<IdempotencyClaim>,
    ) -> Result<Written<Authorization>, StorageError> {
        self.commit_all(vec![(decision, claim)]).pop().unwrap()
    }

    pub(crate) fn commit_all(
        &self,
        decisions: Vec<(&Decision, Option<IdempotencyClaim>)>,
    ) -> Vec<Result<Written<Authorization>, StorageError>> {
        let answer = Answer::Of(|authorization: &Authorization| StoredResponse {
            status: 201,
            body: authorization.id.to_string().into_bytes(),
        });
        let commits = decisions.into_iter().map(|(decision, claim)| {
            let id = AuthorizationId::new(noon(), self.next());
            let write = Write { caller: caller(), claim, answer: answer.clone(), now: noon() };
            (CommitAuthorization::new(id, decision), write)
        });
        self.store.commit_authorizations(commits.collect())
    }

    /// A payment that is to be decided, and what speaks for it at this moment.
    pub(crate) fn undecided(
        &self,
        intent: PaymentIntentId,
        terminal: TerminalId,
        presented: PresentedPayment,
        claim: Option<IdempotencyClaim>,
    ) -> Undecided {
        let cryptogram = Ok(proof(self.token, &presented));
        let query = self.query(intent, terminal, presented);
        let looked_up = self.store.presented_tokens(std::slice::from_ref(&query), true);
        let token = looked_up.into_iter().next().unwrap().unwrap();
        let evidence = Arc::new(Evidence { token, cryptogram, terminal_pin: None });
        let answer = Answer::Of(|authorization: &Authorization| StoredResponse {
            status: 201,
            body: authorization.id.to_string().into_bytes(),
        });
        let id = AuthorizationId::new(noon(), self.next());
        let write = Write { caller: caller(), claim, answer, now: noon() };
        Undecided { id, query, evidence, write }
    }

    pub(crate) fn decide_all(
        &self,
        undecided: Vec<Undecided>,
    ) -> Vec<Result<Written<Authorization>, StorageError>> {
        let made = self.store.decide_authorizations(undecided).into_iter();
        made.map(|made| made.map(|made| made.written)).collect()
    }

    /// One tap at the first terminal: decide, commit, and again if the facts changed meanwhile.
    pub(crate) fn pay(&self, intent: PaymentIntentId, counter: u16, minor: i64) -> Authorization {
        self.pay_at(intent, self.terminal, counter, minor)
    }

    pub(crate) fn pay_at(
        &self,
        intent: PaymentIntentId,
        terminal: TerminalId,
        counter: u16,
        minor: i64,
    ) -> Authorization {
        until_it_stands(|| {
            let tap = self.undecided(intent, terminal, presented(counter, minor), None);
            self.decide_all(vec![tap]).pop().unwrap()
        })
    }

    /// As [`Self::pay_at`], decided here on facts that were loaded before; also a tap that was decided before.
    pub(crate) fn pay_on_facts(
        &self,
        intent: PaymentIntentId,
        terminal: TerminalId,
        counter: u16,
        minor: i64,
    ) -> Authorization {
        until_it_stands(|| {
            self.commit(&self.decide(intent, terminal, presented(counter, minor)), None)
        })
    }

    /// A new intent of `minor` cents, armed, and paid with this counter.
    pub(crate) fn pay_new(&self, counter: u16, minor: i64, method: CaptureMethod) -> Authorization {
        let authorization = self.pay(self.armed(minor, method).id, counter, minor);
        assert_eq!(authorization.outcome, Outcome::Approved);
        authorization
    }

    /// Balance and what can be spent, cents.
    pub(crate) fn money(&self) -> (i64, i64) {
        let account = self.store.card(self.card).unwrap().unwrap();
        (account.balance.minor, account.available.minor)
    }
}

pub(crate) fn issuer(number: u8, token_prefix: &str) -> Issuer {
    Issuer {
        id: IssuerId::new(noon(), random(u64::from(number))),
        name: format!("Campus {number}"),
        country: CountryCode::new(276).unwrap(),
        pan_prefix: None,
        token_prefix: token_prefix.parse().unwrap(),
        currency: Currency::EUR,
        aid: ApplicationIdentifier::new(&AID).unwrap(),
        unverified_limit_minor: 2_500,
        policy_version: 1,
        key_policy: KeyPolicy::default(),
        derivation_key_index: 1,
        certificate: vec![0x12, 0x00],
        created_at: noon(),
    }
}

/// As long as an issuer's certificate is, with its serial number and its authority's name and key where they stand in one.
pub(crate) fn certificate(serial: u8) -> Vec<u8> {
    let mut bytes = vec![0x12; 117];
    bytes[12..21].copy_from_slice(&[0, 0, serial, 0xF0, 0x54, 0x41, 0x50, 0x46, 1]);
    bytes
}

pub(crate) fn merchant(id: MerchantId) -> Merchant {
    Merchant {
        id,
        name: "Canteen".into(),
        country: CountryCode::new(276).unwrap(),
        category_code: "5812".parse().unwrap(),
        created_at: noon(),
    }
}
