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
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tapfer_payment_types::{PaymentIntentId, RefundId, ReversalId};
use tapfer_payments::authorization::SpentCounter;
use tapfer_payments::intents::CaptureMethod;
use tapfer_payments::tokens::{Actor, TokenAction};
use tapfer_storage::faults::{Fault, Faults, Moment};
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
    /// So many taps with counters that rise, behind the last of which the tables catch up by so many.
    Taps {
        count: u16,
        caught_up: usize,
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
        2 => (1..60_u16, 0..60_usize).prop_map(|(count, caught_up)| Event::Taps { count, caught_up }),
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

/// By how many payments the tables catch up with the journal behind each transaction.
#[derive(Debug, Default)]
struct CatchesUp(AtomicUsize);

impl Faults for CatchesUp {
    fn at(&self, _: Moment) -> Option<Fault> {
        None
    }

    fn catches_up(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed))
    }
}

/// The counter of the first of many taps: above those of single ones.
const FIRST_OF_MANY: u16 = 100;

struct Life {
    path: std::path::PathBuf,
    catches_up: Arc<CatchesUp>,
    /// The highest counter of many taps.
    highest: u16,
    store: Arc<SqliteStorage>,
    world: World,
    intents: Vec<PaymentIntentId>,
    opened: u64,
}

fn open(
    path: &std::path::Path,
    kept_of_each: usize,
    catches_up: &Arc<CatchesUp>,
) -> Arc<SqliteStorage> {
    let options = SqliteOptions { kept_of_each, ..SqliteOptions::default() };
    let faults = Arc::<CatchesUp>::clone(catches_up);
    Arc::new(SqliteStorage::open_with_faults(path, world::realm(), &options, faults).unwrap())
}

impl Life {
    fn begin(path: std::path::PathBuf, kept_of_each: usize) -> Self {
        drop(SqliteStorage::create(&path, world::realm(), &SqliteOptions::default()).unwrap());
        let catches_up = Arc::default();
        let store = open(&path, kept_of_each, &catches_up);
        let (world, highest) = (World::new(store.clone()), FIRST_OF_MANY);
        Self { path, catches_up, highest, store, world, intents: Vec::new(), opened: 1 }
    }

    /// What spent a counter, of those that were used: as decisions see it.
    fn spent(&self, intent: PaymentIntentId) -> Vec<Option<SpentCounter>> {
        let newest = self.highest.saturating_sub(64)..=self.highest;
        let asked = (1..60).chain(newest).map(|counter| {
            let asked = self.world.decide(intent, self.world.terminal, presented(counter, 100));
            asked.facts().token.as_ref().unwrap().counter_spent
        });
        asked.collect()
    }

    fn taps(&mut self, intent: PaymentIntentId, count: u16, caught_up: usize) {
        for left in (0..count).rev() {
            self.highest += 1;
            self.catches_up.0.store(if left == 0 { caught_up } else { 0 }, Ordering::Relaxed);
            let tap = presented(self.highest, 100);
            let decision = self.world.decide(intent, self.world.terminal, tap);
            self.world.commit(&decision, None).unwrap();
        }
        self.catches_up.0.store(0, Ordering::Relaxed);
        // However much of it the tables know, it is the same.
        let seen = self.spent(intent);
        self.store.check_memory().unwrap();
        assert_eq!(self.spent(intent), seen);
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
            Event::Taps { count, caught_up } => {
                if let Some(intent) = self.intent(0) {
                    self.taps(intent, count, caught_up);
                }
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
                self.store = open(&self.path, kept_of_each, &self.catches_up);
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
