//! Letters on their way, over a network that loses, repeats, delays and so reorders them; and the platform's door.

use tapfer_server::in_process::Answer;

use crate::SimulationError;
use crate::auditor::Objection;
use crate::disk::Tail;
use crate::faults::{Death, Loss};
use crate::letter::{Letter, LetterNumber, Order, is_passing, words};
use crate::node::Asked;
use crate::sale::SaleNumber;
use crate::world::{Ending, Event, Goes, World};

/// A sender that hears nothing asks again after so many milliseconds.
const PATIENCE: (i64, i64) = (2_000, 6_000);
/// Of a hundred messages so many are lost, and so many come twice.
const LOST: u64 = 5;
const REPEATED: u64 = 8;
/// Of a hundred messages so many are late.
const LATE: u64 = 12;
/// Of a hundred times that the platform works, it dies so often, and a transaction is lost so often.
const DIES: u64 = 3;
const LOSES: u64 = 4;
/// A machine that dies survives at most so many moments.
const MOMENTS: u64 = 12;
/// So many payments and more are never ahead of the store's tables in a story.
const ALL_AHEAD: usize = 1_000;

impl World<'_> {
    /// Somebody writes a letter, and sends it.
    pub(crate) fn write(
        &mut self,
        sender: String,
        bearer: &str,
        order: Order,
        sale: Option<SaleNumber>,
    ) -> LetterNumber {
        let number = self.letters.len();
        let call = order.call(bearer, format!("letter-{number}"));
        self.tell(format!("{sender} wants {} (letter {number})", order.words()));
        self.letters.push(Letter { sender, order, call, sale, heard: None, is_forgotten: false });
        self.send(number);
        number
    }

    fn send(&mut self, number: LetterNumber) {
        for _ in 0..self.copies() {
            let (first, last) = self.delay();
            self.after(first, last, Event::Arrives(number));
        }
        let (first, last) = PATIENCE;
        self.after(first, last, Event::AsksAgain(number));
    }

    /// How many copies of a message come to its end.
    fn copies(&mut self) -> u8 {
        match self.chance.below(100) {
            _ if self.is_calm => 1,
            fate if fate < LOST => 0,
            fate if fate < LOST.saturating_add(REPEATED) => 2,
            _ => 1,
        }
    }

    fn delay(&mut self) -> (i64, i64) {
        if !self.is_calm && self.chance.percent(LATE) { (500, 12_000) } else { (5, 80) }
    }

    pub(crate) fn asks_again(&mut self, number: LetterNumber) -> Goes {
        let Some(letter) = self.letters.get(number) else { return Ok(()) };
        if letter.heard.is_none() && !letter.is_forgotten {
            self.tell(format!("letter {number} is sent again"));
            self.send(number);
        }
        Ok(())
    }

    /// A copy of a letter is at the door.
    pub(crate) fn arrives(&mut self, number: LetterNumber) -> Goes {
        let Some(letter) = self.letters.get(number) else { return Ok(()) };
        if !self.node.is_up() {
            self.tell(format!("letter {number} finds nobody there"));
            return Ok(());
        }
        if !letter.order.is_payment() {
            // What was decided before is looked at before something else changes.
            self.compare()?;
            self.works_on(&[number])?;
            return self.compare();
        }
        if self.waiting.is_empty() {
            // Mostly at once; sometimes the platform is busy, and they gather.
            let last = if self.chance.percent(25) { 4_000 } else { 40 };
            self.after(0, last, Event::Decides);
        }
        self.waiting.push(number);
        Ok(())
    }

    /// The platform takes the payments that wait, together.
    pub(crate) fn decides(&mut self) -> Goes {
        let lot = core::mem::take(&mut self.waiting);
        if lot.is_empty() || !self.node.is_up() {
            return Ok(());
        }
        self.works_on(&lot)?;
        // Who looks makes the store's tables catch up with its journal, so that is not always done.
        if self.chance.percent(30) { self.compare() } else { Ok(()) }
    }

    /// The platform works on letters, and may die of it.
    fn works_on(&mut self, numbers: &[LetterNumber]) -> Goes {
        self.delivered = self.delivered.saturating_add(u64::try_from(numbers.len()).unwrap_or(0));
        if !self.is_calm {
            self.may_fail();
        }
        let letters: Vec<_> = numbers
            .iter()
            .filter_map(|number| Some((*number, self.letters.get(*number)?)))
            .collect();
        let calls = letters.iter().map(|(_, letter)| letter.call.clone()).collect();
        match self.node.ask(calls)? {
            Asked::Died(when) => {
                self.auditor.at_the_door(&letters, None)?;
                self.dies(&format!("while it worked on {}", list(numbers)), &when);
            }
            Asked::Answered(answers) => {
                for (number, answer) in numbers.iter().zip(&answers) {
                    self.story.tell(
                        self.now,
                        format!("the platform answers letter {number}: {}", words(answer)),
                    );
                }
                self.auditor.at_the_door(&letters, Some(&answers))?;
                for (number, answer) in numbers.iter().zip(answers) {
                    self.sends_back(*number, &answer);
                }
            }
        }
        Ok(())
    }

    fn may_fail(&mut self) {
        if self.chance.percent(LOSES) {
            let is_all = self.chance.percent(50);
            self.node.lose(if is_all { Loss::Transaction } else { Loss::Answer });
        }
        let dies = self.chance.percent(DIES);
        // More often where that is one more place to die at.
        let (catches_up, is_lost) = match self.chance.below(if dies { 40 } else { 100 }) {
            0..4 => (ALL_AHEAD, true),
            4..10 => (1, false),
            10..20 => (ALL_AHEAD, false),
            _ => (0, false),
        };
        self.node.set_catches_up(catches_up);
        if is_lost {
            self.node.lose(Loss::CatchUp);
        }
        if dies {
            let death = self.death();
            self.node.will_die(death);
        }
    }

    /// A death at some moment.
    pub(crate) fn death(&mut self) -> Death {
        let moments_left = u32::try_from(self.chance.below(MOMENTS)).unwrap_or(0);
        let tail = match self.chance.below(4) {
            0 => Tail::Whole,
            1 => Tail::Sectors(self.chance.below(u64::MAX)),
            _ => Tail::Cut(u16::try_from(self.chance.below(1_000)).unwrap_or(0)),
        };
        Death { moments_left, tail }
    }

    /// The machine is dead, and all that waited in it.
    pub(crate) fn dies(&mut self, doing: &str, when: &str) {
        self.tell(format!("the platform dies {doing}: {when}"));
        self.deaths = self.deaths.saturating_add(1);
        self.waiting.clear();
        self.after(1_000, 15_000, Event::Starts);
    }

    fn sends_back(&mut self, number: LetterNumber, answer: &Answer) {
        for _ in 0..self.copies() {
            let (first, last) = self.delay();
            self.after(first, last, Event::Answered(number, answer.clone()));
        }
    }

    /// An answer is there. Whoever has one already, or forgot, throws it away; one that says "not now" is waited out.
    pub(crate) fn answered(&mut self, number: LetterNumber, answer: Answer) -> Goes {
        let Some(letter) = self.letters.get_mut(number) else { return Ok(()) };
        if letter.heard.is_some() || letter.is_forgotten || is_passing(&answer) {
            return Ok(());
        }
        letter.heard = Some(answer.clone());
        self.hears(number, &answer)
    }

    /// The platform's machine is switched on.
    pub(crate) fn starts(&mut self) -> Goes {
        if self.node.is_up() {
            return Ok(());
        }
        let death =
            (!self.is_calm && self.deaths > 0 && self.chance.percent(15)).then(|| self.death());
        if let Some(when) = self.node.start(death).map_err(does_not_start)? {
            self.dies("while it started", &when);
            return Ok(());
        }
        self.tell("the platform serves");
        self.inspect()
    }

    /// Every letter that was answered is sent once more, to hear the same.
    pub(crate) fn everybody_asks_once_more(&mut self) -> Goes {
        for number in 0..self.letters.len() {
            let is_due = self.letters.get(number).is_some_and(|letter| !letter.is_forgotten);
            if is_due {
                self.auditor.next_step();
                self.works_on(&[number])?;
            }
        }
        Ok(())
    }
}

/// That the platform does not start over what a death has left is the platform's fault.
fn does_not_start(error: SimulationError) -> Ending {
    match error {
        SimulationError::Realm(_) | SimulationError::Platform(_) => {
            Ending::Objection(Objection::new(error.to_string()))
        }
        error => Ending::Error(error),
    }
}

fn list(numbers: &[LetterNumber]) -> String {
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    let noun = if numbers.len() == 1 { "letter" } else { "letters" };
    format!("{noun} {}", numbers.join(", "))
}
