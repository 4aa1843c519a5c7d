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

/// A library that never finds its device again, in a process that lives: another process finds it.
#[test]
fn a_library_that_is_lost_for_good_gets_another_process() {
    let house = House::new();
    let pool = house.open();
    let lost = processes(&pool, "north");
    house.set("north", Fault::LostForGood);
    until(&pool, |status| {
        Payment::new().verify(&pool).unwrap();
        member(status, "north").breaker != "closed"
    });
    house.set("north", Fault::None);
    until(&pool, |status| {
        Payment::new().verify(&pool).unwrap();
        all_serve(status)
    });
    assert!(processes(&pool, "north").iter().all(|process| !lost.contains(process)));
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

/// No answer, and nobody else to ask: the call ends at its deadline, long before the worker is killed, and those behind
/// it end at once. Without the deadline this call would end when the worker is killed, with another error.
#[test]
fn nobody_waits_longer_than_the_deadline() {
    let house = House::new();
    let limits = "deadline_ms = 300\nsilent_after_ms = 200\nstalled_after_ms = 20000";
    let pool = house.try_open_with(limits, &["north"], 1).unwrap();
    house.set("north", Fault::Hang);
    let late = Payment::new().verify(&pool).unwrap_err();
    assert!(matches!(late, HsmError::DeadlinePassed { milliseconds: 300 }), "{late:?}");
    let refused = Payment::new().verify(&pool).unwrap_err();
    assert!(matches!(refused, HsmError::Down { .. }), "{refused:?}");
    assert!(refused.to_string().contains("no answer for"), "{refused}");
}

#[test]
fn who_waits_for_a_worker_that_is_killed_is_told_why() {
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

/// The answer belongs to nobody, and nobody waits for the worker any longer: not until the deadline.
#[test]
fn who_waits_for_a_worker_that_answers_something_else_is_told_at_once() {
    let house = House::new();
    house.set("north", Fault::WrongId);
    let pool = house.try_open_with("stalled_after_ms = 60000", &["north"], 1).unwrap();
    let refused = Payment::new().verify(&pool).unwrap_err();
    assert!(matches!(refused, HsmError::Down { .. }), "{refused:?}");
    assert!(refused.to_string().contains("answers what it was not asked"), "{refused}");
    house.set("north", Fault::None);
    until(&pool, |status| all_serve(status) && status.members[0].workers[0].restarts > 0);
    Payment::new().verify(&pool).unwrap();
}

/// The other member comes back while the first one hangs, long before that one is killed: it is asked then.
#[test]
fn who_comes_back_serves_what_waits_for_one_that_hangs() {
    let house = House::new();
    let limits = "deadline_ms = 60000\nsilent_after_ms = 60000\nstalled_after_ms = 60000";
    house.set("south", Fault::TokenGone);
    let pool = house.try_open_with(limits, &["north", "south"], 1).unwrap();
    house.set("north", Fault::Hang);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| Payment::new().verify(&pool));
        until(&pool, |status| member(status, "north").workers[0].waiting > 0);
        house.set("south", Fault::None);
        call.join().unwrap().unwrap();
    });
    assert!(pool.status().hedges > 0);
}

/// More than may be on their way at once, some of them wrong: each verdict stands where its request stood.
#[test]
fn verdicts_on_many_come_in_the_order_of_the_requests() {
    let house = House::new();
    let pool = house.try_open_with("queue = 1024", &["north"], 1).unwrap();
    let right = |place: usize| place % 7 != 3;
    let payments: Vec<_> = (0..300).map(|place| Payment::of(right(place))).collect();
    let verdicts = Payment::verify_all(&payments, &pool);
    assert_eq!(verdicts.len(), payments.len());
    for (place, verdict) in verdicts.into_iter().enumerate() {
        assert_eq!(verdict.unwrap(), right(place), "{place}");
    }
    assert!(Payment::verify_all(&[], &pool).is_empty());

    // A queue that holds fewer takes them one part after the other.
    let pool = house.try_open_with("queue = 64", &["north"], 1).unwrap();
    for (place, verdict) in Payment::verify_all(&payments, &pool).into_iter().enumerate() {
        assert_eq!(verdict.unwrap(), right(place), "{place}");
    }
}

/// A worker is asked 128 things at once, and both members have almost as many when one of them fails.
#[test]
fn calls_of_a_member_that_fails_wait_for_room_at_the_other() {
    const CALLERS: usize = 5;
    let house = House::new();
    let limits =
        "deadline_ms = 60000\nsilent_after_ms = 60000\nstalled_after_ms = 60000\nqueue = 1024";
    let pool = house.try_open_with(limits, &["north", "south"], 1).unwrap();
    until(&pool, all_serve);
    let owes = |name: &str| member(&pool.status(), name).workers[0].waiting;
    for name in ["north", "south"] {
        house.set(name, Fault::Busy);
    }
    let payments: Vec<_> = (0..50).map(|_| Payment::new()).collect();
    let verdicts = std::thread::scope(|scope| {
        let callers: Vec<_> =
            (0..CALLERS).map(|_| scope.spawn(|| Payment::verify_all(&payments, &pool))).collect();
        until(&pool, |_| owes("north") + owes("south") >= CALLERS * payments.len());
        house.set("north", Fault::TokenGone);
        until(&pool, |_| owes("north") == 0);
        house.set("south", Fault::None);
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(verdicts.len(), CALLERS * payments.len());
    for verdict in verdicts {
        assert!(verdict.unwrap());
    }
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
    // Nobody gives up for another reason meanwhile, on however busy a machine.
    let limits =
        "deadline_ms = 60000\nsilent_after_ms = 60000\nstalled_after_ms = 60000\nqueue = 64";
    let pool = house.try_open_with(limits, &["north"], 1).unwrap();
    house.set("north", Fault::Hang);
    let (told, refusals) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..70 {
            let (told, pool) = (told.clone(), &pool);
            scope.spawn(move || told.send(Payment::new().verify(pool).unwrap_err()));
        }
        let first: Vec<HsmError> = refusals.iter().take(70 - 64).collect();
        let is_full = |error: &HsmError| matches!(error, HsmError::QueueFull { waiting: 64.. });
        assert!(first.iter().all(is_full), "{first:?}");
        // The others need not wait for their deadline.
        processes(&pool, "north").into_iter().for_each(kill);
    });
}

/// Attack: whoever asks again and again whether the platform is ready, which needs no key, hides that no module serves:
/// what he asks is answered from the catalogue.
#[test]
fn attack_dead_modules_hidden_by_asking_for_readiness() {
    let house = House::new();
    let pool = house.open();
    for name in ["north", "south"] {
        house.set(name, Fault::DeviceError);
    }
    until(&pool, |status| {
        // Whatever comes of it: the last one is asked when nobody serves any more.
        drop(pool.follow_catalogue(None));
        !status.serves
    });
    let said = pool.health().unwrap_err().to_string();
    assert!(said.contains("CKR_DEVICE_ERROR"), "{said}");
}
