//! The thread that looks after what nobody waits for: stalled workers, members that may be tried again, and
//! modules that nobody has asked for a while.

use std::time::Duration;

use super::shared::{Shared, framed};
use super::wire::Request;
use super::worker::{Phase, Purpose, Question, Worker};

/// From one look to the next.
const PERIOD: Duration = Duration::from_millis(25);
/// A worker whose module was asked nothing for so long is asked whether it serves.
const IDLE: Duration = Duration::from_secs(5);

/// Looks until the pool stops.
pub(super) fn watch(shared: &Shared) {
    while !shared.is_stopping() {
        shared.wait(PERIOD, || false);
        let now = shared.clock.now();
        end_stalled(shared, now);
        probe(shared, now);
        renew(shared, now);
    }
}

fn end_stalled(shared: &Shared, now: Duration) {
    for worker in &shared.workers {
        let mut state = worker.state();
        let Some(cause) = state.overdue(now, &shared.limits) else { continue };
        let has_served = state.phase == Phase::Serving;
        state.end(&cause);
        drop(state);
        let others_serve = of_member(shared, worker.member).any(|other| fit(shared, other, now));
        if has_served
            && !others_serve
            && let Some(member) = shared.member_of(worker)
        {
            // Its next life is tried by a probe, not by a payment.
            member.breaker().trip(now, cause);
        }
    }
}

fn of_member(shared: &Shared, member: usize) -> impl Iterator<Item = &Worker> {
    shared.workers.iter().filter(move |worker| worker.member == member)
}

fn fit(shared: &Shared, worker: &Worker, now: Duration) -> bool {
    worker.standing(now, &shared.limits).is_ok()
}

fn probe(shared: &Shared, now: Duration) {
    for (place, member) in shared.members.iter().enumerate() {
        if member.breaker().take_probe(now) {
            let sent = of_member(shared, place).any(|worker| send(shared, worker, now));
            if !sent {
                let cause = member.breaker().cause().unwrap_or("no worker serves").to_owned();
                member.breaker().probed(now, Err(cause));
            }
        }
    }
    for worker in &shared.workers {
        if worker.state().is_idle(now, IDLE) {
            // What comes of it is seen where it is answered.
            let _sent = send(shared, worker, now);
        }
    }
}

fn send(shared: &Shared, worker: &Worker, now: Duration) -> bool {
    let patience = shared.limits.silent_after();
    fit(shared, worker, now)
        && framed(&Request::Health).is_some_and(|frame| {
            worker.ask(&frame, Question::new(Purpose::Probe, now, patience)).is_ok()
        })
}

/// Ends the processes of a member that fails and fails: what a library has lost for good, only a new process finds
/// again.
fn renew(shared: &Shared, now: Duration) {
    for (place, member) in shared.members.iter().enumerate() {
        if !member.breaker().wants_new_processes(now) {
            continue;
        }
        for worker in of_member(shared, place) {
            let mut state = worker.state();
            if state.phase == Phase::Serving {
                state.end("its module failed too often, and begins anew in another process");
            }
        }
    }
}
