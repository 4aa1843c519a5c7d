//! A thousand terminals present the same tap at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};

use tapfer_payment_types::TerminalId;
use tapfer_payments::authorization::{DeclineReason, Outcome};
use tapfer_payments::intents::CaptureMethod;
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{AuthorizationFilter, Page};
use world::{World, noon};

const RACERS: usize = 1_000;
/// Some racers share a payment, others have one of their own at another terminal.
const TERMINALS: usize = 50;

#[test]
fn of_a_thousand_racers_with_one_counter_one_is_approved() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions::default();
    let store =
        SqliteStorage::create(&directory.path().join("tapfer.db"), world::realm(), &options)
            .unwrap();
    let world = Arc::new(World::new(Arc::new(store)));
    let lanes: Vec<_> = (0..TERMINALS)
        .map(|_| {
            let terminal = TerminalId::new(noon(), world.next());
            world.create_terminal(terminal);
            let intent = world.intent(100, CaptureMethod::Automatic).id;
            world.arm(intent, terminal);
            (intent, terminal)
        })
        .collect();
    let start = Arc::new(Barrier::new(RACERS));
    let racers: Vec<_> = (0..RACERS)
        .map(|number| {
            let (world, start) = (Arc::clone(&world), Arc::clone(&start));
            let (intent, terminal) = lanes[number % TERMINALS];
            std::thread::spawn(move || {
                start.wait();
                world.pay_on_facts(intent, terminal, 1, 100).outcome
            })
        })
        .collect();
    let mut outcomes = BTreeMap::new();
    for racer in racers {
        *outcomes.entry(racer.join().unwrap().number()).or_insert(0) += 1;
    }
    let replay = Outcome::Declined(DeclineReason::Replay).number();
    assert_eq!(outcomes, BTreeMap::from([(0, 1), (replay, RACERS - 1)]));
    assert_eq!(world.money(), (99_900, 99_900));
    let key = world.keys_that_count().unwrap()[0];
    assert_eq!((key.used_payments, key.used_total_minor), (1, 100));
    let mut page = Page::first(100);
    let mut written = 0;
    loop {
        let filter = AuthorizationFilter::default();
        let slice = world.store.list_authorizations(filter, page).unwrap();
        written += slice.items.len();
        page.cursor = slice.next;
        if page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(written, RACERS, "every racer has an answer that is on the disk");
}
