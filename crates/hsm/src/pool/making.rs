//! Calls that make keys.

use std::slice;
use std::time::Duration;

use super::call::{Life, Outcome, Reader};
use super::plan::{Effect, Ending, Patience};
use super::shared::Shared;
use super::wire::{Reply, Request};
use crate::HsmError;

/// How often a verb that makes keys is tried, each time after it was seen that nothing was made.
const ATTEMPTS_TO_MAKE: usize = 3;

impl Shared {
    /// Asks for keys to be made, at most once: when it is unknown what came of it, `look` says what there is.
    /// The other workers know the new catalogue before the answer is given. All attempts have one deadline
    /// together; what may follow it is the last look.
    pub(super) fn make<T>(
        &self,
        request: &Request<'_>,
        reader: Reader<'_, T>,
        exists: impl Fn(&HsmError) -> bool,
        look: impl Fn() -> Result<Option<T>, HsmError>,
    ) -> Result<T, HsmError> {
        let until = self.clock.now().saturating_add(self.limits.making_deadline());
        let mut last = HsmError::Down { cause: self.causes().join("; ") };
        for attempt in 0..ATTEMPTS_TO_MAKE {
            let deadline = until.saturating_sub(self.clock.now());
            if deadline.is_zero() {
                break;
            }
            match self.try_to_make(request, reader, deadline)? {
                Outcome::Answered { worker, answer: Ok(made) } => {
                    self.broadcast_change(Some(worker));
                    return Ok(made);
                }
                // An earlier attempt had made it after all.
                Outcome::Answered { answer: Err(error), .. } if attempt > 0 && exists(&error) => {}
                Outcome::Answered { answer: Err(error), .. } => return Err(error),
                Outcome::Ended { ending: ending @ Ending::Unknown(_), asked } => {
                    // Whoever may still be at it must not finish it behind our back.
                    asked.iter().for_each(|life| {
                        self.end_life(*life, "it was asked for keys and gave no answer")
                    });
                    last = ending.into_error(self.limits.making_deadline());
                }
                Outcome::Ended { ending, .. } => {
                    return Err(self.refuse(ending.into_error(self.limits.making_deadline())));
                }
                Outcome::Refused(error) => return Err(self.refuse(error)),
            }
            self.broadcast_change(None);
            // Whoever was asked may have been the only one, and is started again now.
            self.wait(until.saturating_sub(self.clock.now()), || self.serves());
            if let Some(made) = look()? {
                return Ok(made);
            }
        }
        Err(self.refuse(last))
    }

    fn try_to_make<T>(
        &self,
        request: &Request<'_>,
        reader: Reader<'_, T>,
        deadline: Duration,
    ) -> Result<Outcome<T>, HsmError> {
        let place = self.enter(1);
        let _place = place.map_err(|waiting| self.refuse(HsmError::QueueFull { waiting }))?;
        let patience = Patience { deadline, hedge_after: self.limits.hedge_after() };
        let reader = |_: usize, reply: &Reply<'_>| reader(reply);
        let outcome = self.call(Effect::Makes, slice::from_ref(request), &reader, patience).pop();
        outcome.ok_or(HsmError::Internal { operation: "asking a worker" })
    }

    fn end_life(&self, (place, life): Life, cause: &str) {
        if let Some(worker) = self.workers.get(place) {
            let mut state = worker.state();
            if state.life == life {
                state.end(cause);
            }
        }
    }
}
