//! No call fails that a living member could have served; who comes back is asked again.

use tapfer_hsm::pool::HsmPool;
use tapfer_hsm::{HsmError, PaymentHsm};

use crate::faulty::Fault;
use crate::house::{House, all_serve, kill, member, processes, serves, until};
use crate::load::{Load, Payment, under_load};

/// Goes on until so many more payments were made.
pub fn pay(pool: &HsmPool, load: &Load, more: u64) {
    let goal = load.verified() + more;
    until(pool, |_| load.verified() >= goal);
}

/// Goes on until both members share what comes, a quarter at least to each.
pub fn until_balanced(pool: &HsmPool, load: &Load) {
    let answered = |name| member(&pool.status(), name).answered;
    let is_balanced = |_| {
        let before = (answered("north"), answered("south"));
        pay(pool, load, 300);
        let (north, south) = (answered("north") - before.0, answered("south") - before.1);
        north.min(south) * 4 >= north + south
    };
    assert!((0..50).any(is_balanced), "{:#?}", pool.status());
}

pub fn nothing_refused(load: &Load) {
    assert_eq!(load.refused(), Vec::<String>::new());
}

#[test]
fn a_killed_worker_costs_no_payment_and_comes_back() {
    let house = House::new();
    let pool = house.open();
    let load = under_load(&pool, |load| {
        pay(&pool, load, 200);
        let killed = processes(&pool, "north");
        for process in &killed {
            kill(*process);
        }
        pay(&pool, load, 200);
        until(&pool, |status| {
            let processes: Vec<_> = member(status, "north")
                .workers
                .iter()
                .filter_map(|worker| worker.process)
                .collect();
            all_serve(status) && killed.iter().all(|killed| !processes.contains(killed))
        });
        until_balanced(&pool, load);
    });
    nothing_refused(&load);
}

#[test]
fn a_module_that_answers_device_errors_is_left_alone_until_it_is_well() {
    let house = House::new();
    let pool = house.open();
    let load = under_load(&pool, |load| {
        pay(&pool, load, 200);
        house.set("north", Fault::DeviceError);
        until(&pool, |status| member(status, "north").breaker != "closed");
        let said = member(&pool.status(), "north").cause.clone().unwrap();
        assert!(said.contains("CKR_DEVICE_ERROR"), "{said}");
        let failures = member(&pool.status(), "north").failed;
        pay(&pool, load, 500);
        // Those that were on their way, and what probes let through: not every second payment.
        assert!(member(&pool.status(), "north").failed < failures + 50);
        house.set("north", Fault::None);
        until(&pool, all_serve);
        until_balanced(&pool, load);
    });
    nothing_refused(&load);
}

#[test]
fn a_module_that_hangs_is_killed_and_no_payment_waits_for_it() {
    let house = House::new();
    let pool = house.open();
    let load = under_load(&pool, |load| {
        pay(&pool, load, 200);
        let hanging = processes(&pool, "north");
        house.set("north", Fault::Hang);
        until(&pool, |status| {
            let workers = &member(status, "north").workers;
            workers.iter().all(|worker| worker.restarts > 0)
        });
        pay(&pool, load, 500);
        house.set("north", Fault::None);
        until(&pool, all_serve);
        assert!(processes(&pool, "north").iter().all(|process| !hanging.contains(process)));
        until_balanced(&pool, load);
    });
    nothing_refused(&load);
    assert!(pool.status().hedges > 0, "others were asked meanwhile");
}

#[test]
fn a_token_that_is_gone_is_found_again() {
    let house = House::new();
    let pool = house.open();
    let load = under_load(&pool, |load| {
        pay(&pool, load, 200);
        house.set("north", Fault::TokenGone);
        processes(&pool, "north").into_iter().for_each(kill);
        until(&pool, |status| {
            let mut workers = member(status, "north").workers.iter();
            workers.all(|one| {
                one.cause.as_ref().is_some_and(|cause| cause.contains("CKR_TOKEN_NOT_PRESENT"))
            })
        });
        pay(&pool, load, 200);
        house.set("north", Fault::None);
        until(&pool, all_serve);
        until_balanced(&pool, load);
    });
    nothing_refused(&load);
}

#[test]
fn without_any_member_calls_are_refused_with_the_reason_until_one_is_back() {
    let house = House::new();
    let pool = house.open();
    for name in ["north", "south"] {
        house.set(name, Fault::TokenGone);
    }
    for name in ["north", "south"] {
        processes(&pool, name).into_iter().for_each(kill);
    }
    until(&pool, |status| !status.serves);
    assert!(matches!(pool.health(), Err(HsmError::Down { .. })));
    until(&pool, |status| {
        let mut workers = status.members.iter().flat_map(|member| &member.workers);
        workers.all(|one| {
            one.cause.as_ref().is_some_and(|cause| cause.contains("CKR_TOKEN_NOT_PRESENT"))
        })
    });
    let refused = Payment::new().verify(&pool).unwrap_err();
    assert!(matches!(refused, HsmError::Down { .. }), "{refused:?}");
    let said = refused.to_string();
    assert!(said.contains("north: ") && said.contains("south: "), "{said}");
    assert!(said.contains("CKR_TOKEN_NOT_PRESENT"), "{said}");

    house.set("south", Fault::None);
    until(&pool, |status| serves(member(status, "south")));
    Payment::new().verify(&pool).unwrap();
    pool.health().unwrap();
}

/// No answer, and nobody else to ask: the call ends at its deadline, and those behind it at once.
#[test]
fn nobody_waits_longer_than_the_deadline() {
    let house = House::new();
    let pool = house.try_open(&["north"], 1).unwrap();
    house.set("north", Fault::Hang);
    let refused = Payment::new().verify(&pool).unwrap_err();
    // Killed as stalled, before the deadline.
    assert!(matches!(refused, HsmError::Down { .. }), "{refused:?}");
    assert!(refused.to_string().contains("did not answer"), "{refused}");
    house.set("north", Fault::None);
    until(&pool, all_serve);
    Payment::new().verify(&pool).unwrap();
}

#[test]
fn a_pool_without_any_member_does_not_open_and_says_why() {
    let house = House::new();
    house.set("north", Fault::TokenGone);
    let refused = house.try_open(&["north"], 2).unwrap_err();
    assert!(refused.to_string().contains("CKR_TOKEN_NOT_PRESENT"), "{refused}");
}

#[test]
fn calls_beyond_the_queue_are_refused_at_once() {
    let house = House::new();
    let pool = house.try_open(&["north"], 1).unwrap();
    house.set("north", Fault::Hang);
    let refused = std::thread::scope(|scope| {
        let calls: Vec<_> =
            (0..70).map(|_| scope.spawn(|| Payment::new().verify(&pool).unwrap_err())).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect::<Vec<_>>()
    });
    let full =
        |error: &&HsmError| matches!(error, HsmError::QueueFull { waiting } if *waiting >= 64);
    assert!(refused.iter().filter(full).count() >= 1, "{refused:?}");
}
