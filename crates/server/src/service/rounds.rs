//! Work over all of something, which is wanted now and then, takes longer than the pauses between, and is never done
//! beside itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Rounds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How often it was wanted, and how many of these are done.
    wanted: u64,
    done: u64,
    /// Under way; whether somebody was told that he has to wait.
    is_running: bool,
    is_told: bool,
}

/// What comes of asking for a round.
pub(super) enum Asked<'a> {
    /// This one is yours. It counts where it is [`Round::done`]; dropped, it is wanted still.
    Begin(Round<'a>),
    /// Nothing was wanted since the last.
    Nothing,
    /// Another is under way, which began before this was wanted: this one begins behind it. Told once.
    Later,
    /// Another is under way.
    Running,
}

impl Rounds {
    pub(super) fn want(&self) {
        let mut state = self.state();
        state.wanted = state.wanted.wrapping_add(1);
        state.is_told = false;
    }

    pub(super) fn ask(&self) -> Asked<'_> {
        let mut state = self.state();
        if state.is_running {
            let is_news = !std::mem::replace(&mut state.is_told, true);
            return if is_news { Asked::Later } else { Asked::Running };
        }
        if state.done == state.wanted {
            return Asked::Nothing;
        }
        (state.is_running, state.is_told) = (true, true);
        Asked::Begin(Round { rounds: self, wanted: state.wanted })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A round under way.
pub(super) struct Round<'a> {
    rounds: &'a Rounds,
    /// As often as it was wanted when this began: what is wanted meanwhile needs another.
    wanted: u64,
}

impl Round<'_> {
    pub(super) fn done(self) {
        self.rounds.state().done = self.wanted;
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.rounds.state().is_running = false;
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Round, Rounds};

    fn begin(rounds: &Rounds) -> Round<'_> {
        match rounds.ask() {
            Asked::Begin(round) => round,
            Asked::Nothing | Asked::Later | Asked::Running => panic!("it does not begin"),
        }
    }

    #[test]
    fn no_round_runs_beside_another() {
        let rounds = Rounds::default();
        assert!(matches!(rounds.ask(), Asked::Nothing));
        rounds.want();
        let first = begin(&rounds);
        assert!(matches!(rounds.ask(), Asked::Running));
        rounds.want();
        assert!(matches!(rounds.ask(), Asked::Later), "it began before this was wanted");
        assert!(matches!(rounds.ask(), Asked::Running), "told once");
        first.done();
        begin(&rounds).done();
        assert!(matches!(rounds.ask(), Asked::Nothing));
    }

    #[test]
    fn a_round_that_ends_otherwise_is_wanted_still() {
        let rounds = Rounds::default();
        rounds.want();
        drop(begin(&rounds));
        let panicked = std::panic::catch_unwind(|| {
            let _round = begin(&rounds);
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        begin(&rounds).done();
        assert!(matches!(rounds.ask(), Asked::Nothing));
    }
}
