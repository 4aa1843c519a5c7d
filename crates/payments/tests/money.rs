//! Intents, refunds, reversals and the ledger together: over any sequence of requests money is
//! conserved, no account but the issuer's goes below zero, and nobody gets more than was paid.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use tapfer_payment_types::{
    AuthorizationId, CardId, Currency, IssuerId, MerchantId, Money, PaymentIntentId, ReversalId,
    TerminalId, Timestamp,
};
use tapfer_payments::access::Role;
use tapfer_payments::authorization::{Authorization, Outcome};
use tapfer_payments::intents::{CaptureMethod, IntentStatus, PaymentIntent};
use tapfer_payments::ledger::{self, Account, LedgerError, Transfer};
use tapfer_payments::reversals::{ReversalError, Undone};

const CARDS: u8 = 3;

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_795_262_400_000).plus_seconds(second)
}

fn card(number: u8) -> CardId {
    CardId::new(at(0), [number % CARDS; 10])
}

fn merchant() -> MerchantId {
    MerchantId::new(at(0), [9; 10])
}

fn euro(minor: i64) -> Money {
    Money::new(minor, Currency::EUR)
}

#[derive(Debug, Clone)]
enum Request {
    TopUp { card: u8, minor: i64 },
    Pay { card: u8, minor: i64, manual: bool },
    Capture { payment: usize, minor: Option<i64> },
    Cancel { payment: usize },
    Refund { payment: usize, minor: Option<i64> },
    Reverse { payment: usize },
}

fn any_request() -> impl Strategy<Value = Request> {
    let payment = 0_usize..8;
    let some_minor = prop::option::of(-5_i64..400);
    prop_oneof![
        (0..CARDS, 1_i64..500).prop_map(|(card, minor)| Request::TopUp { card, minor }),
        (0..CARDS, 1_i64..300, any::<bool>()).prop_map(|(card, minor, manual)| Request::Pay {
            card,
            minor,
            manual
        }),
        (payment.clone(), some_minor.clone())
            .prop_map(|(payment, minor)| Request::Capture { payment, minor }),
        payment.clone().prop_map(|payment| Request::Cancel { payment }),
        (payment.clone(), some_minor)
            .prop_map(|(payment, minor)| Request::Refund { payment, minor }),
        payment.prop_map(|payment| Request::Reverse { payment }),
    ]
}

struct Payment {
    card: CardId,
    intent: PaymentIntent,
    authorization: Authorization,
}

#[derive(Default)]
struct World {
    balances: BTreeMap<Account, i64>,
    payments: Vec<Payment>,
}

impl World {
    fn book(&mut self, transfer: Transfer) -> Result<(), LedgerError> {
        let mut after = Vec::new();
        for (account, change) in transfer.changes() {
            let balance = self.balances.get(&account).copied().unwrap_or(0);
            after.push((account, account.balance_after(balance, change)?));
        }
        self.balances.extend(after);
        Ok(())
    }

    fn balance(&self, account: Account) -> i64 {
        self.balances.get(&account).copied().unwrap_or(0)
    }

    fn pay(&mut self, card: CardId, minor: i64, manual: bool) {
        let Ok(()) = self.book(ledger::hold(card, euro(minor)).unwrap()) else { return };
        let number = u8::try_from(self.payments.len()).unwrap();
        let method = if manual { CaptureMethod::Manual } else { CaptureMethod::Automatic };
        let id = PaymentIntentId::new(at(0), [number; 10]);
        let intent = PaymentIntent::new(id, merchant(), euro(minor), method, None, at(0)).unwrap();
        let terminal = TerminalId::new(at(0), [1; 10]);
        let authorization_id = AuthorizationId::new(at(0), [number; 10]);
        let armed = intent.arm(terminal, at(0), at(60)).unwrap();
        let intent = armed.approved(authorization_id).unwrap();
        if !manual {
            self.book(ledger::capture(card, merchant(), euro(minor)).unwrap()).unwrap();
        }
        let authorization = Authorization {
            id: authorization_id,
            payment_intent: id,
            merchant: merchant(),
            terminal,
            token: None,
            card: Some(card),
            outcome: Outcome::Approved,
            merchant_proven: false,
            amount: euro(minor),
            application_transaction_counter: 1,
            key_index: None,
            reversal: None,
            created_at: at(0),
        };
        self.payments.push(Payment { card, intent, authorization });
    }

    /// Does what is asked, if the rules allow it. Every booking that the rules lead to must succeed.
    fn handle(&mut self, request: &Request) {
        match *request {
            Request::TopUp { card: number, minor } => {
                let issuer = IssuerId::new(at(0), [1; 10]);
                self.book(ledger::top_up(issuer, card(number), euro(minor)).unwrap()).unwrap();
            }
            Request::Pay { card: number, minor, manual } => self.pay(card(number), minor, manual),
            Request::Capture { payment, minor } => {
                let Some(Payment { card, intent, .. }) = self.payments.get(payment) else { return };
                let card = *card;
                let Ok((intent, capture)) = intent.clone().capture(minor) else { return };
                self.payments[payment].intent = intent;
                self.book(ledger::capture(card, merchant(), capture.captured).unwrap()).unwrap();
                self.release(card, capture.released);
            }
            Request::Cancel { payment } => {
                let Some(Payment { card, intent, .. }) = self.payments.get(payment) else { return };
                let card = *card;
                let Ok((intent, released)) = intent.clone().cancel() else { return };
                self.payments[payment].intent = intent;
                self.release(card, released);
            }
            Request::Refund { payment, minor } => {
                let Some(Payment { card, intent, .. }) = self.payments.get(payment) else { return };
                let card = *card;
                let Ok((intent, amount)) = intent.clone().refund(minor) else { return };
                self.payments[payment].intent = intent;
                self.book(ledger::refund(merchant(), card, amount).unwrap()).unwrap();
            }
            Request::Reverse { payment } => self.reverse(payment),
        }
    }

    fn reverse(&mut self, payment: usize) {
        let Some(Payment { card, intent, authorization }) = self.payments.get(payment) else {
            return;
        };
        let (card, was_reversed) = (*card, authorization.reversal.is_some());
        match intent.clone().reverse(authorization, Role::Operator, at(0)) {
            Ok((intent, undone)) => {
                assert!(!was_reversed);
                self.payments[payment].intent = intent;
                self.payments[payment].authorization.reversal =
                    Some(ReversalId::new(at(0), [1; 10]));
                match undone {
                    Undone::Released(amount) => self.release(card, amount),
                    Undone::Returned(amount) => {
                        self.book(ledger::reversal(merchant(), card, amount).unwrap()).unwrap();
                    }
                }
            }
            Err(error) => assert_eq!(was_reversed, error == ReversalError::AlreadyReversed),
        }
    }

    fn release(&mut self, card: CardId, amount: Money) {
        if amount.is_positive() {
            self.book(ledger::release(card, amount).unwrap()).unwrap();
        }
    }

    fn check(&self) {
        assert_eq!(self.balances.values().sum::<i64>(), 0, "money is conserved");
        for (account, balance) in &self.balances {
            assert!(*balance >= 0 || account.may_be_negative(), "{account:?} has {balance}");
        }
        let owed: i64 = self.payments.iter().map(|payment| kept(&payment.intent)).sum();
        assert_eq!(self.balance(Account::MerchantPayable(merchant())), owed);
        for number in 0..CARDS {
            let of_card = self.payments.iter().filter(|payment| payment.card == card(number));
            let held: i64 = of_card.map(|payment| held(&payment.intent)).sum();
            assert_eq!(self.balance(Account::Held(card(number))), held);
        }
    }
}

fn kept(intent: &PaymentIntent) -> i64 {
    assert!(intent.captured_minor <= intent.amount.minor);
    assert!(intent.refunded_minor <= intent.captured_minor);
    match intent.status {
        IntentStatus::Succeeded => intent.captured_minor - intent.refunded_minor,
        _ => 0,
    }
}

fn held(intent: &PaymentIntent) -> i64 {
    if intent.status == IntentStatus::RequiresCapture { intent.amount.minor } else { 0 }
}

proptest! {
    #[test]
    fn money_is_conserved(requests in prop::collection::vec(any_request(), 1..120)) {
        let mut world = World::default();
        for request in &requests {
            world.handle(request);
            world.check();
        }
    }
}

fn new_intent(method: CaptureMethod) -> PaymentIntent {
    let id = PaymentIntentId::new(at(0), [1; 10]);
    PaymentIntent::new(id, merchant(), euro(1_000), method, None, at(0)).unwrap()
}

#[test]
fn an_intent_from_wish_to_money() {
    let (terminal, other) = (TerminalId::new(at(0), [1; 10]), TerminalId::new(at(0), [2; 10]));
    let intent = new_intent(CaptureMethod::Manual);
    assert!(!intent.is_armed_at(terminal, at(1)));
    assert!(intent.clone().approved(AuthorizationId::new(at(1), [1; 10])).is_err());
    let armed = intent.arm(terminal, at(1), at(61)).unwrap();
    assert!(armed.is_armed_at(terminal, at(60)) && !armed.is_armed_at(terminal, at(61)));
    assert!(!armed.is_armed_at(other, at(60)));
    let declined = armed.clone().disarmed();
    assert_eq!(declined.status, IntentStatus::RequiresPaymentMethod);
    let rearmed = declined.arm(other, at(2), at(62)).unwrap();
    let approved = rearmed.approved(AuthorizationId::new(at(3), [1; 10])).unwrap();
    assert_eq!(approved.status, IntentStatus::RequiresCapture);
    assert!(!approved.is_armed_at(other, at(3)));
    assert!(approved.clone().arm(other, at(3), at(63)).is_err());
    for minor in [0, -1, 1_001, i64::MIN, i64::MAX] {
        assert!(approved.clone().capture(Some(minor)).is_err(), "{minor}");
    }
    let (paid, capture) = approved.capture(Some(400)).unwrap();
    assert_eq!((capture.captured, capture.released), (euro(400), euro(600)));
    assert!(paid.clone().cancel().is_err());
    assert!(paid.clone().refund(Some(401)).is_err());
    assert!(paid.clone().refund(Some(0)).is_err());
    let (paid, _) = paid.refund(Some(150)).unwrap();
    let (paid, rest) = paid.refund(None).unwrap();
    assert_eq!(rest, euro(250));
    assert!(paid.refund(None).is_err());
}

#[test]
fn amounts_that_cannot_be_paid() {
    for minor in [0, -1, 1_000_000_000_000, i64::MAX] {
        let id = PaymentIntentId::new(at(0), [1; 10]);
        let method = CaptureMethod::Automatic;
        let intent = PaymentIntent::new(id, merchant(), euro(minor), method, None, at(0));
        assert!(intent.is_err(), "{minor}");
    }
}
