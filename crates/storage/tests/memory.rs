//! What is kept in memory is what the tables say, whatever was paid and changed, in whatever order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod world;

use std::sync::Arc;

use proptest::prelude::*;
use tapfer_payment_types::{PaymentIntentId, RefundId, ReversalId};
use tapfer_payments::intents::CaptureMethod;
use tapfer_payments::tokens::{Actor, TokenAction};
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{CardChange, NewRefund, NewReversal, Storage as _, TopUp};
use world::{World, euro, noon, presented, write};

/// Something that happens. What the rules refuse changes nothing, and that is compared, too.
#[derive(Debug, Clone)]
enum Event {
    /// A tap for one of the intents, with this counter and cryptogram.
    Tap {
        intent: usize,
        counter: u16,
        cryptogram: u8,
        minor: i64,
    },
    /// Another intent, armed.
    Intent {
        minor: i64,
        manual: bool,
    },
    Cancel(usize),
    Capture(usize, i64),
    Refund(usize, i64),
    Reverse(usize),
    TopUp(i64),
    Card(bool),
    Token(bool),
    Pin(u8),
    /// The store is closed and opened again.
    Reopen,
}

fn event() -> impl Strategy<Value = Event> {
    let which = 0..4_usize;
    let (minor, counter) = (1..400_i64, 1..60_u16);
    prop_oneof![
        8 => (which.clone(), counter, 0..2_u8, prop_oneof![Just(100_i64), minor.clone()])
            .prop_map(|(intent, counter, cryptogram, minor)| Event::Tap { intent, counter, cryptogram, minor }),
        6 => (Just(100_i64), any::<bool>()).prop_map(|(minor, manual)| Event::Intent { minor, manual }),
        1 => which.clone().prop_map(Event::Cancel),
        1 => (which.clone(), minor.clone()).prop_map(|(intent, minor)| Event::Capture(intent, minor)),
        1 => (which.clone(), minor.clone()).prop_map(|(intent, minor)| Event::Refund(intent, minor)),
        1 => which.prop_map(Event::Reverse),
        1 => minor.prop_map(Event::TopUp),
        1 => any::<bool>().prop_map(Event::Card),
        1 => any::<bool>().prop_map(Event::Token),
        1 => any::<u8>().prop_map(Event::Pin),
        1 => Just(Event::Reopen),
    ]
}

struct Life {
    path: std::path::PathBuf,
    store: Arc<SqliteStorage>,
    world: World,
    intents: Vec<PaymentIntentId>,
    opened: u64,
}

fn open(path: &std::path::Path, kept_of_each: usize) -> Arc<SqliteStorage> {
    let options = SqliteOptions { kept_of_each, ..SqliteOptions::default() };
    Arc::new(SqliteStorage::create(path, world::realm(), &options).unwrap())
}

impl Life {
    fn begin(path: std::path::PathBuf, kept_of_each: usize) -> Self {
        let store = open(&path, kept_of_each);
        let world = World::new(store.clone());
        Self { path, store, world, intents: Vec::new(), opened: 1 }
    }

    /// One of the newest intents.
    fn intent(&self, which: usize) -> Option<PaymentIntentId> {
        self.intents.iter().rev().nth(which).copied()
    }

    fn happen(&mut self, event: &Event, kept_of_each: usize) {
        let (world, store) = (&self.world, &self.world.store);
        match *event {
            Event::Tap { intent, counter, cryptogram, minor } => {
                let Some(intent) = self.intent(intent) else { return };
                let mut tap = presented(counter, minor);
                tap.cryptogram = [cryptogram; 8];
                let decision = world.decide(intent, world.terminal, tap);
                world.commit(&decision, None).unwrap();
            }
            Event::Intent { minor, manual } => {
                // The terminal waits for one payment at a time.
                if let Some(armed) = store.armed_intent(world.terminal, noon()).unwrap() {
                    store.cancel_intent(armed.id, write()).unwrap();
                }
                let method = if manual { CaptureMethod::Manual } else { CaptureMethod::Automatic };
                self.intents.push(world.armed(minor, method).id);
            }
            Event::Cancel(which) => {
                drop(self.intent(which).map(|id| store.cancel_intent(id, write())))
            }
            Event::Capture(which, minor) => {
                drop(self.intent(which).map(|id| store.capture_intent(id, Some(minor), write())));
            }
            Event::Refund(which, minor) => {
                let Some(payment_intent) = self.intent(which) else { return };
                let id = RefundId::new(noon(), world.next());
                let refund = NewRefund { id, payment_intent, amount_minor: Some(minor) };
                drop(store.create_refund(refund, write()));
            }
            Event::Reverse(which) => {
                let intent = self.intent(which).and_then(|id| store.intent(id).unwrap());
                let Some(authorization) = intent.and_then(|intent| intent.authorization) else {
                    return;
                };
                let (id, reason) = (ReversalId::new(noon(), world.next()), "storno".to_owned());
                drop(store.reverse(NewReversal { id, authorization, reason }, write()));
            }
            Event::TopUp(minor) => {
                let top_up =
                    TopUp { card: world.card, amount: euro(minor), reference: "more".into() };
                store.top_up(top_up, write()).unwrap();
            }
            Event::Card(block) => {
                let change = if block { CardChange::Block } else { CardChange::Unblock };
                drop(store.change_card(world.card, change, "lost".into(), write()));
            }
            Event::Token(suspend) => {
                let action = if suspend { TokenAction::Suspend } else { TokenAction::Unsuspend };
                drop(world.change_token(action, Actor::Issuer));
            }
            Event::Pin(value) => {
                drop(store.set_card_pin(world.card, [value; 32], write()).unwrap())
            }
            Event::Reopen => {
                self.store.close();
                self.opened += 1;
                self.store = open(&self.path, kept_of_each);
                let store = Arc::clone(&self.store);
                self.world = World::reopened(store, self.opened * 1_000_000);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    /// With room for everything, and with room for so little that things are let go all the time.
    #[test]
    fn memory_is_what_the_tables_say(
        events in prop::collection::vec(event(), 1..60),
        kept_of_each in prop_oneof![Just(1_usize), Just(100)],
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut life = Life::begin(directory.path().join("tapfer.db"), kept_of_each);
        for event in &events {
            life.happen(event, kept_of_each);
            life.store.check_memory().unwrap();
        }
        prop_assert!(life.world.store.verify_audit().unwrap().fault.is_none());
    }
}
