//! The platform's door: what went in, and what came out.

use std::collections::BTreeMap;

use tapfer_server::in_process::Answer;

use super::{Objection, Sound};
use crate::letter::{Letter, LetterNumber, Order, is_passing, problem, words};

/// What is known of one letter.
#[derive(Debug, Default)]
struct Passed {
    /// How often it came in.
    times: u32,
    /// The first answer that says it was done.
    yes: Option<(u16, Vec<u8>)>,
    /// An answer that says it was refused for good.
    no: bool,
}

/// What an answer means for what it orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It is done, and this is the first word of it.
    Done,
    /// It may be done, now or not at all; nobody knows.
    Open,
    /// Nothing: it was done or refused before, or is refused now.
    None,
}

/// Everything that passed.
#[derive(Debug, Default)]
pub(super) struct Door {
    letters: BTreeMap<String, Passed>,
    /// Whether an answer may say "not now".
    is_calm: bool,
}

fn name(letter: &Letter) -> String {
    letter.call.idempotency_key.clone().unwrap_or_default()
}

impl Door {
    pub(super) const fn nothing_is_in_the_way(&mut self) {
        self.is_calm = true;
    }

    /// A letter comes in, and its answer goes out: what that means.
    ///
    /// # Errors
    /// It is not what was said before, or a fault of the platform's own.
    pub(super) fn passes(
        &mut self,
        number: LetterNumber,
        letter: &Letter,
        answer: Option<&Answer>,
    ) -> Result<Effect, Objection> {
        let passed = self.letters.entry(name(letter)).or_default();
        passed.times = passed.times.saturating_add(1);
        let is_open = passed.yes.is_none();
        let Some(answer) = answer else {
            return Ok(if is_open { Effect::Open } else { Effect::None });
        };
        let said = (answer.status, answer.body.clone());
        match &passed.yes {
            Some(before) if *before == said => Ok(Effect::None),
            Some(_) if is_passing(answer) && !self.is_calm => Ok(Effect::None),
            Some((status, _)) => Err(Objection(format!(
                "letter {number} was answered {status} before, and now otherwise: {}",
                words(answer)
            ))),
            None if (200..300).contains(&answer.status) => {
                passed.yes = Some(said);
                Ok(Effect::Done)
            }
            None => {
                if is_passing(answer) {
                    return Ok(Effect::Open);
                }
                passed.no = true;
                is_a_refusal(number, letter, answer).map(|()| Effect::None)
            }
        }
    }

    /// Whether it ever came in.
    pub(super) fn has_come(&self, letter: &Letter) -> bool {
        self.letters.get(&name(letter)).is_some_and(|passed| passed.times > 0)
    }

    pub(super) fn everybody_was_answered(&self, letters: &[Letter]) -> Sound {
        for (number, letter) in
            letters.iter().enumerate().filter(|(_, letter)| !letter.is_forgotten)
        {
            let passed = self.letters.get(&name(letter));
            if !passed.is_some_and(|passed| passed.yes.is_some() || passed.no) {
                return Err(Objection(format!(
                    "letter {number} ({} wants {}) has no answer although nothing is in the way any more",
                    letter.sender,
                    letter.order.words()
                )));
            }
        }
        Ok(())
    }
}

/// A well-formed order is refused for what it is, and never because of how the platform is made.
fn is_a_refusal(number: LetterNumber, letter: &Letter, answer: &Answer) -> Sound {
    match problem(answer).as_deref() {
        Some("conflict") if !letter.order.is_payment() => Ok(()),
        Some("invalid_request") if !letter.order.is_payment() => Ok(()),
        // A phone that has asked for keys since.
        Some("store_rolled_back") if matches!(letter.order, Order::Replenish { .. }) => Ok(()),
        _ => Err(Objection(format!(
            "letter {number} ({} wants {}) was answered: {}",
            letter.sender,
            letter.order.words(),
            words(answer)
        ))),
    }
}
