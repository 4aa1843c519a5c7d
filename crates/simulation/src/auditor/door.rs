//! The platform's door: what went in, and what came out.

use std::collections::{BTreeMap, BTreeSet};

use tapfer_server::in_process::Answer;

use super::{Objection, Sound, Voice};
use crate::letter::{Letter, LetterNumber, Order, is_passing, problem, words};

/// An answer: its status and body.
type Said = (u16, Vec<u8>);

/// What is known of one letter.
#[derive(Debug, Default)]
struct Passed {
    /// How often it came in.
    times: u32,
    /// The first answer that says it was done.
    yes: Option<Said>,
    /// Of a payment that is made: what nodes alone have said, each in its life. None of them knows of the other.
    alone: BTreeMap<(usize, u64), Said>,
    /// Which of these are booked: from then on it is said everywhere, unless something else was before.
    is_booked: bool,
    /// Whether another may have been made before that.
    may_be_there: bool,
    /// Who knows that it has.
    there: BTreeSet<(usize, u64)>,
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

impl Passed {
    /// A payment is made once by the database; and once by each node that is alone and has not asked the database about it. What is
    /// booked of these is the database's, if it had none.
    fn intent_agrees(&mut self, number: LetterNumber, answer: &Answer, by: Voice) -> Sound {
        let (who, said) = ((by.node, by.life), (answer.status, answer.body.clone()));
        let is_yes = (200..300).contains(&answer.status);
        let is_another = match by.is_alone {
            true if is_yes && self.there.contains(&who) => true,
            true if is_yes => *self.alone.entry(who).or_insert_with(|| said.clone()) != said,
            true => false,
            false => {
                let is_told = is_yes && self.is_booked && !self.may_be_there;
                is_told && !self.alone.values().any(|alone| *alone == said)
            }
        };
        if !by.is_alone && is_yes {
            self.there.insert(who);
        }
        if is_another {
            return Err(Objection(format!(
                "letter {number} was answered before, by a node alone or to it, and now otherwise: {}",
                words(answer)
            )));
        }
        Ok(())
    }
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
        by: Voice,
    ) -> Result<Effect, Objection> {
        let passed = self.letters.entry(name(letter)).or_default();
        passed.times = passed.times.saturating_add(1);
        let is_said_alone = by.is_alone && letter.order.is_intent();
        if letter.order.is_intent() {
            answer.map_or(Ok(()), |answer| passed.intent_agrees(number, answer, by))?;
            // Nobody knows what became of it; a node alone that refuses says that nothing did.
            let is_open = answer.is_none_or(|answer| is_passing(answer) && !is_refused(answer));
            passed.may_be_there |= !passed.is_booked && (!by.is_alone || is_open);
        }
        let is_open = passed.yes.is_none();
        let Some(answer) = answer else {
            return Ok(if is_open { Effect::Open } else { Effect::None });
        };
        let said = (answer.status, answer.body.clone());
        match &passed.yes {
            // Another payment than the database's: its node has not heard of that.
            Some(_) if is_said_alone => Ok(Effect::Done),
            Some(before) if *before == said => Ok(Effect::None),
            Some(_) if is_passing(answer) && !self.is_calm => Ok(Effect::None),
            Some((status, _)) => Err(Objection(format!(
                "letter {number} was answered {status} before, and now otherwise: {}",
                words(answer)
            ))),
            None if (200..300).contains(&answer.status) => {
                if !is_said_alone {
                    passed.yes = Some(said);
                }
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

    /// A node has booked what it has done alone.
    pub(super) fn has_booked(&mut self, node: usize) {
        for passed in self.letters.values_mut() {
            passed.is_booked |= passed.alone.keys().any(|(by, _)| *by == node);
        }
    }

    pub(super) fn everybody_was_answered(&self, letters: &[Letter]) -> Sound {
        for (number, letter) in
            letters.iter().enumerate().filter(|(_, letter)| !letter.is_forgotten)
        {
            let passed = self.letters.get(&name(letter));
            let is_answered =
                |passed: &Passed| passed.yes.is_some() || passed.no || !passed.alone.is_empty();
            if !passed.is_some_and(is_answered) {
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

fn is_refused(answer: &Answer) -> bool {
    problem(answer).is_some_and(|kind| kind == "database_down")
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
