//! People who pay, in a store without a platform around it: one issuer and merchant, and customers with a card and a phone
//! each, who have tills to themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use tapfer_emv::cryptogram::{CryptogramInput, verify};
use tapfer_emv::iad::{IssuerApplicationData, VerificationMethod, VerificationResults};
use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_emv::packed_decimal::pack;
use tapfer_emv::tvr::TerminalVerificationResults;
use tapfer_payment_types::{
    ApiKeyId, AuthorizationId, CardId, Currency, DeviceId, IssuerId, MerchantId, Money,
    PanSequenceNumber, PaymentIntentId, RealmId, Secret, TerminalId, Timestamp, TokenId,
};
use tapfer_payments::access::{ApiKey, Principal, Role};
use tapfer_payments::audit::Caller;
use tapfer_payments::authorization::{Authorization, Outcome, PresentedPayment};
use tapfer_payments::cards::{Card, CardStatus};
use tapfer_payments::devices::{Device, DevicePublicKey};
use tapfer_payments::intents::{CaptureMethod, PaymentIntent};
use tapfer_payments::issuers::{ApplicationIdentifier, CountryCode, Issuer, KeyPolicy};
use tapfer_payments::keys::GrantedKey;
use tapfer_payments::ledger::Account;
use tapfer_payments::merchants::{Merchant, acquirer_of};
use tapfer_payments::store_shares::StoreState;
use tapfer_payments::terminals::{Terminal, TerminalIdentification};
use tapfer_payments::tokens::{Actor, Token, TokenAction, TokenState};
use tapfer_storage::sqlite::SqliteStorage;
use tapfer_storage::{
    Answer, AnswerKey, AuthorizationStore as _, CardStore as _, DeviceStore as _, Evidence,
    FactsQuery, IdempotencyClaim, IntentStore as _, IssuerStore as _, LedgerStore as _,
    MerchantStore as _, SealedNumber, StoredResponse, TerminalStore as _, TokenStore as _, TopUp,
    Undecided, Write,
};

use crate::clock;
use crate::commands::bench::CENT;

const AID: [u8; 8] = [0xF0, 0x54, 0x41, 0x50, 0x46, 0x45, 0x52, 0x01];

/// An answer of the size that the platform's have.
pub(super) fn body(made: &Authorization) -> Vec<u8> {
    format!(
        r#"{{"id":"{}","payment_intent":"{}","terminal":"{}","merchant":"{}","outcome":"approved","amount":{},"currency":"EUR"}}"#,
        made.id, made.payment_intent, made.terminal, made.merchant, made.amount.minor
    )
    .into_bytes()
}

/// The same ids whenever it is founded, in the order in which they are asked for.
pub(super) struct Town {
    store: Arc<SqliteStorage>,
    since: Timestamp,
    counter: AtomicU64,
    issuer: IssuerId,
    merchant: MerchantId,
    /// Whose idempotency keys are used.
    pub(super) caller: ApiKeyId,
    customers: Vec<Customer>,
}

struct Customer {
    token: TokenId,
    /// Tills, and what each was armed for last.
    tills: Vec<(TerminalId, PaymentIntentId)>,
}

impl Town {
    /// So many customers with so many tills.
    ///
    /// # Errors
    /// What the store refuses, which it should not.
    pub(super) fn found(
        store: Arc<SqliteStorage>,
        customers: usize,
        tills: usize,
    ) -> anyhow::Result<Self> {
        let since = clock::now();
        let (issuer, merchant) = (IssuerId::new(since, [1; 10]), MerchantId::new(since, [2; 10]));
        let (counter, customers_yet) = (AtomicU64::new(1), Vec::new());
        let caller = ApiKeyId::new(since, [3; 10]);
        let mut town =
            Self { store, since, counter, issuer, merchant, caller, customers: customers_yet };
        town.store.create_issuer(town.issuer()?, town.write())?;
        let merchant = Merchant {
            id: town.merchant,
            name: "Canteen".to_owned(),
            country: CountryCode::new(276)?,
            category_code: "5812".parse()?,
            created_at: since,
        };
        let key = ApiKey { id: town.caller, ..town.api_key(Principal::Merchant(town.merchant)) };
        town.store.create_merchant(merchant, key, town.write())?;
        town.customers =
            (0..customers).map(|_| town.customer(tills)).collect::<anyhow::Result<_>>()?;
        Ok(town)
    }

    /// A new intent for every till.
    ///
    /// # Errors
    /// What the store refuses, which it should not.
    pub(super) fn arm(&mut self) -> anyhow::Result<()> {
        let mut customers = std::mem::take(&mut self.customers);
        for (till, intent) in customers.iter_mut().flat_map(|customer| &mut customer.tills) {
            let id = PaymentIntentId::new(self.since, self.next());
            let method = CaptureMethod::Automatic;
            let new = PaymentIntent::new(id, self.merchant, CENT, method, None, self.since)?;
            self.store.create_intent(new, self.write())?;
            let until = self.since.plus_seconds(86_400);
            self.store.arm_intent(id, *till, until, self.write())?;
            *intent = id;
        }
        self.customers = customers;
        Ok(())
    }

    /// Everybody pays at each till, one after the other, with counters from this on.
    ///
    /// # Errors
    /// A payment that is not approved.
    pub(super) fn pay(&self, counter: usize) -> anyhow::Result<Vec<Authorization>> {
        let tills = self.customers.first().map_or(0, |customer| customer.tills.len());
        let mut made = Vec::new();
        for till in 0..tills {
            let counter = counter.checked_add(till).and_then(|counter| counter.checked_add(1));
            made.extend(self.lot(till, u16::try_from(counter.context("a counter")?)?)?);
        }
        Ok(made)
    }

    /// The merchant has the money of so many payments.
    ///
    /// # Errors
    /// He has another amount.
    pub(super) fn demand_owed(&self, payments: usize) -> anyhow::Result<()> {
        let account = Account::MerchantPayable(self.merchant);
        let owed = self.store.account_balance(account, CENT.currency)?;
        ensure!(
            usize::try_from(owed.minor)? == payments,
            "{payments} payments of a cent were approved, and the merchant is owed {owed}"
        );
        Ok(())
    }

    fn lot(&self, till: usize, counter: u16) -> anyhow::Result<Vec<Authorization>> {
        let presented = Arc::new(self.presented(counter)?);
        let taps = self.customers.iter().filter_map(|customer| {
            customer.tills.get(till).map(|(terminal, intent)| (customer, *terminal, *intent))
        });
        let queries: Vec<_> = taps
            .map(|(customer, terminal, payment_intent)| FactsQuery {
                token_number_hash: customer.token.to_string().into_bytes(),
                payment_intent,
                terminal,
                acquirer: acquirer_of(RealmId::new(self.since, [1; 10])),
                presented: Arc::clone(&presented),
            })
            .collect();
        let tokens = self.store.presented_tokens(&queries, false);
        let (mut undecided, answers) = (Vec::new(), AnswerKey::new(&Secret::new([7; 32])));
        for ((customer, query), token) in self.customers.iter().zip(queries).zip(tokens) {
            let intent = query.payment_intent;
            let PresentedPayment { input, cryptogram, .. } = &*presented;
            let cryptogram = Ok(verify(customer.token, input, cryptogram, |_| *cryptogram)?);
            let evidence = Arc::new(Evidence { token: token?, cryptogram, terminal_pin: None });
            let id = AuthorizationId::new(self.since, self.next());
            let claim = IdempotencyClaim {
                api_key: self.caller,
                key: intent.to_string().parse()?,
                fingerprint: [7; 32],
                answers: answers.clone(),
            };
            let answer = Answer::Of(|made| StoredResponse { status: 201, body: body(made) });
            let write = Write { claim: Some(claim), answer, ..self.write() };
            undecided.push(Undecided { id, query, evidence, write });
        }
        let made = self.store.decide_authorizations(undecided).into_iter().map(|made| {
            let made = made?.written.value().context("made now")?;
            ensure!(made.outcome == Outcome::Approved, "declined: {}", made.outcome.slug());
            Ok(made)
        });
        made.collect()
    }

    fn presented(&self, application_transaction_counter: u16) -> anyhow::Result<PresentedPayment> {
        let issuer_application_data = IssuerApplicationData {
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
            key_index: KeyIndex::at(self.since, 1)?,
            policy_version: 1,
            merchant_identity: None,
            iad_mac: [0; 8],
        };
        let input = CryptogramInput {
            amount_authorized: [0, 0, 0, 0, 0, 1],
            amount_other: [0; 6],
            terminal_country: [0x02, 0x76],
            tvr: [0, 0, 0, 0, 0x80],
            currency: [0x09, 0x78],
            date: self.today(),
            transaction_type: 0,
            unpredictable_number: [1, 2, 3, 4],
            aip: [1, 4],
            application_transaction_counter,
            issuer_application_data: issuer_application_data.encode().to_vec(),
        };
        Ok(PresentedPayment {
            input,
            cryptogram: [7; 8],
            tvr_as_found: TerminalVerificationResults::default(),
            aids: vec![AID.to_vec()],
        })
    }

    /// As `9A` has it.
    fn today(&self) -> [u8; 3] {
        let today = self.since.calendar();
        let year = u8::try_from(today.year.wrapping_rem(100)).unwrap_or_default();
        [year, today.month, today.day].map(pack)
    }

    fn customer(&self, tills: usize) -> anyhow::Result<Customer> {
        let (store, at) = (&self.store, self.since);
        let (card, device) = (CardId::new(at, self.next()), DeviceId::new(at, self.next()));
        let token = TokenId::new(at, self.next());
        store.create_card(self.card(card)?, sealed(&card.to_string()), self.write())?;
        let amount = Money::new(100_000, Currency::EUR);
        let top_up = TopUp { card, amount, reference: "opening balance".to_owned() };
        store.top_up(top_up, self.write())?;
        let key = self.api_key(Principal::Device(device));
        store.create_device(self.device(device)?, key, self.write())?;
        let new = Token {
            id: token,
            issuer: self.issuer,
            card,
            device,
            last_four: "0001".to_owned(),
            sequence_number: PanSequenceNumber::ZERO,
            state: TokenState::Inactive,
            created_at: at,
        };
        store.create_token(new, sealed(&token.to_string()), self.write())?;
        let (action, actor) = (TokenAction::Activate, Actor::Issuer);
        store.change_token(token, action, actor, "enrolled".to_owned(), self.write())?;
        store.grant_keys(token, None, vec![self.key()?], self.write())?;
        let tills = (0..tills).map(|_| {
            let id = TerminalId::new(at, self.next());
            let [.., a, b, c, d, e] = self.next();
            let terminal = Terminal {
                id,
                merchant: self.merchant,
                label: "till".to_owned(),
                identification: TerminalIdentification::from_random([a, b, c, d, e]),
                revocation: None,
                created_at: at,
            };
            let key = self.api_key(Principal::Terminal(id));
            store.create_terminal(terminal, key, self.write())?;
            Ok((id, PaymentIntentId::new(at, self.next())))
        });
        Ok(Customer { token, tills: tills.collect::<anyhow::Result<_>>()? })
    }

    fn issuer(&self) -> anyhow::Result<Issuer> {
        Ok(Issuer {
            id: self.issuer,
            name: "Campus".to_owned(),
            country: CountryCode::new(276)?,
            pan_prefix: None,
            token_prefix: "999900".parse()?,
            currency: Currency::EUR,
            aid: ApplicationIdentifier::new(&AID)?,
            unverified_limit_minor: 2_500,
            policy_version: 1,
            key_policy: KeyPolicy::default(),
            derivation_key_index: 1,
            certificate: vec![0x12, 0x00],
            created_at: self.since,
        })
    }

    fn card(&self, id: CardId) -> anyhow::Result<Card> {
        Ok(Card {
            id,
            issuer: self.issuer,
            last_four: "1111".to_owned(),
            sequence_number: PanSequenceNumber::ZERO,
            expiry: "2099-12".parse()?,
            status: CardStatus::Active,
            status_reason: None,
            holder_reference: None,
            created_at: self.since,
        })
    }

    fn device(&self, id: DeviceId) -> anyhow::Result<Device> {
        let mut point = [1; 65];
        point[0] = 4;
        Ok(Device {
            id,
            issuer: self.issuer,
            label: "phone".to_owned(),
            public_key: DevicePublicKey::new(&point)?,
            created_at: self.since,
            store: StoreState::default(),
            lock: None,
        })
    }

    fn key(&self) -> anyhow::Result<GrantedKey> {
        Ok(GrantedKey {
            index: KeyIndex::at(self.since, 1)?,
            class: KeyClass::Unverified,
            derivation_key_index: 1,
            granted_at: self.since,
            expires_at: self.since.plus_seconds(86_400),
            maximum_payments: u16::MAX,
            maximum_total_minor: 100_000_000,
            used_payments: 0,
            used_total_minor: 0,
            counters: None,
        })
    }

    fn api_key(&self, principal: Principal) -> ApiKey {
        let mut secret_hash = [0; 32];
        let (own, _) = secret_hash.split_at_mut(10);
        own.copy_from_slice(&self.next());
        let id = ApiKeyId::new(self.since, self.next());
        ApiKey {
            id,
            principal,
            secret_hash,
            created_at: self.since,
            revoked_at: None,
            signature: None,
        }
    }

    fn next(&self) -> [u8; 10] {
        let [a, b, c, d, e, f, g, h] = self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        [0, 0, a, b, c, d, e, f, g, h]
    }

    fn write<T>(&self) -> Write<T> {
        let caller = Caller {
            api_key: None,
            role: Role::Operator,
            origin: "local".to_owned(),
            request_id: "benchmark".to_owned(),
        };
        let answer = Answer::Of(|_| StoredResponse { status: 201, body: Vec::new() });
        Write { caller, claim: None, answer, now: self.since }
    }
}

fn sealed(number: &str) -> SealedNumber {
    SealedNumber { sealed: vec![1; 40], keyed_hash: number.as_bytes().to_vec() }
}
