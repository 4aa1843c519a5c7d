//! Letters on their way, over a network that loses, repeats, delays and so reorders them; and the platform's door.

use tapfer_server::in_process::{Answer, Call};

use crate::SimulationError;
use crate::auditor::{Objection, Voice};
use crate::disk::Tail;
use crate::faults::{Death, Loss};
use crate::letter::{Letter, LetterNumber, Order, is_passing, text, words};
use crate::node::{Asked, Node, Started};
use crate::sale::SaleNumber;
use crate::world::{Ending, Event, Goes, World};
use std::sync::mpsc::channel;

/// A sender that hears nothing asks again after so many milliseconds.
const PATIENCE: (i64, i64) = (2_000, 6_000);
const LONG_PATIENCE: (i64, i64) = (6_000, 20_000);
/// Of a hundred messages so many are lost, and so many come twice.
const LOST: u64 = 5;
const REPEATED: u64 = 8;
/// Of a hundred messages so many are late.
const LATE: u64 = 12;
/// Of a hundred times that the platform works, it dies so often, and a transaction is lost so often.
const DIES: u64 = 3;
const DIES_WITH_NOTES: u64 = 12;
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
        // A till, and what is behind it, keeps to a node as long as that answers.
        let of_sale = sale.map(|sale| self.till_of(sale));
        let alone_at = sale.and_then(|sale| self.known_alone_at(sale));
        let node = match of_sale {
            _ if !self.has_two_nodes() => 0,
            _ if alone_at.is_some() => alone_at.unwrap_or(0),
            Some(till) => till.checked_rem(self.nodes.len()).unwrap_or(0),
            None => self.chance.index(self.nodes.len()),
        };
        let (heard, is_forgotten) = (None, false);
        self.letters.push(Letter { sender, order, call, sale, node, heard, is_forgotten });
        self.send(number);
        number
    }

    fn send(&mut self, number: LetterNumber) {
        let node = self.letters.get(number).map_or(0, |letter| letter.node);
        for _ in 0..self.copies() {
            let (first, last) = self.delay();
            self.after(first, last, Event::Arrives(number, node));
        }
        let (first, last) = self.patience(number);
        self.after(first, last, Event::AsksAgain(number));
    }

    /// Who is told that a node is alone, and cannot do this, does not ask it all the time.
    fn patience(&self, number: LetterNumber) -> (i64, i64) {
        let Some(letter) = self.letters.get(number) else { return PATIENCE };
        let is_known = letter.order.is_intent()
            || letter.sale.is_some_and(|sale| self.known_alone_at(sale).is_some());
        let is_in_vain =
            !is_known && !self.is_calm && self.nodes.get(letter.node).is_some_and(Node::is_alone);
        if is_in_vain { LONG_PATIENCE } else { PATIENCE }
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
            let is_bound = letter.sale.is_some_and(|sale| self.known_alone_at(sale).is_some());
            let goes_to_another = self.has_two_nodes() && self.chance.percent(50) && !is_bound;
            match goes_to_another {
                true => self.goes_to_another(number),
                false => self.tell(format!("letter {number} is sent again")),
            }
            self.send(number);
        }
        Ok(())
    }

    /// Whoever hears nothing, or "not now", asks another node, under the same name.
    fn goes_to_another(&mut self, number: LetterNumber) {
        let count = self.nodes.len();
        let Some(letter) = self.letters.get_mut(number) else { return };
        letter.node = letter.node.saturating_add(1).checked_rem(count).unwrap_or(0);
        let node = letter.node;
        let name = self.name_of(node);
        self.tell(format!("letter {number} is sent again, to {name}"));
    }

    /// A copy of a letter is at the door of a node.
    pub(crate) fn arrives(&mut self, number: LetterNumber, at: usize) -> Goes {
        let Some(letter) = self.letters.get(number) else { return Ok(()) };
        if !self.nodes.get(at).is_some_and(Node::is_up) {
            let there = if self.has_two_nodes() {
                format!(" at {}", self.name_of(at))
            } else {
                String::new()
            };
            self.tell(format!("letter {number} finds nobody there{there}"));
            return Ok(());
        }
        if !letter.order.is_payment() {
            // What was decided before is looked at before something else changes.
            self.compare()?;
            match self.lot_of_another(at) {
                Some((other, lot)) => self.work_together((other, &lot), (at, &[number]))?,
                None => self.works_on(at, &[number])?,
            }
            return self.compare();
        }
        let Some(waiting) = self.waiting.get_mut(at) else { return Ok(()) };
        waiting.push(number);
        if waiting.len() == 1 {
            // Mostly at once; sometimes the platform is busy, and they gather. At two nodes that is more of interest.
            let busy = match self.has_two_nodes() {
                true if self.nodes.get(at).is_some_and(Node::is_alone) => 10,
                true => 80,
                false => 25,
            };
            let last = if self.chance.percent(busy) { 4_000 } else { 40 };
            self.after(0, last, Event::Decides(at));
        }
        Ok(())
    }

    /// A node takes the payments that wait there, together.
    pub(crate) fn decides(&mut self, at: usize) -> Goes {
        let lot = self.waiting.get_mut(at).map(core::mem::take).unwrap_or_default();
        if lot.is_empty() || !self.nodes.get(at).is_some_and(Node::is_up) {
            return Ok(());
        }
        match self.lot_of_another(at) {
            Some((other, others)) => {
                self.compare()?;
                self.work_together((at, &lot), (other, &others))?;
            }
            None => self.works_on(at, &lot)?,
        }
        // Who looks makes the store's tables catch up with its journal, so that is not always done.
        if self.chance.percent(30) { self.compare() } else { Ok(()) }
    }

    /// Payments that wait at the other node, if it is to take them in the middle of what this one does.
    fn lot_of_another(&mut self, at: usize) -> Option<(usize, Vec<LetterNumber>)> {
        if !self.has_two_nodes() {
            return None;
        }
        let other = 1_usize.saturating_sub(at);
        let waiting = self.waiting.get(other).is_some_and(|waiting| !waiting.is_empty());
        let may = waiting && self.nodes.get(other).is_some_and(Node::is_up);
        let lot = may && self.chance.percent(70);
        lot.then(|| self.waiting.get_mut(other).map(core::mem::take))?.map(|lot| (other, lot))
    }

    /// A node works on letters, and may die of it.
    fn works_on(&mut self, at: usize, numbers: &[LetterNumber]) -> Goes {
        let calls = self.calls(at, numbers);
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        let asked = node.ask(calls)?;
        if node.was_alone() {
            // What it decided with the database is looked at before what it decides alone.
            self.compare()?;
        }
        self.has_worked(at, numbers, asked)?;
        self.is_the_database_gone(at);
        Ok(())
    }

    /// A node decides payments, and between the facts that it looks at and what it writes down the other one does its work.
    fn work_together(
        &mut self,
        (first, lot): (usize, &[LetterNumber]),
        (second, others): (usize, &[LetterNumber]),
    ) -> Goes {
        let (one, other) = (self.name_of(first), self.name_of(second));
        self.tell(format!(
            "{one} decides {}, and in the middle of it {other} works on {}",
            list(lot),
            list(others)
        ));
        let (calls, other_calls) = (self.calls(first, lot), self.calls(second, others));
        if second >= self.nodes.len() {
            return Ok(());
        }
        let mut other = self.nodes.remove(second);
        let (is_done, done) = channel();
        let work = move || {
            let asked = other.ask(other_calls);
            // Who waits for it is there until it comes.
            let _heard = is_done.send((other, asked));
        };
        let asked = match self.nodes.first_mut() {
            Some(node) => node.ask_meanwhile(calls, Box::new(work)),
            None => return Ok(()),
        };
        let gone = |_| Ending::Error(SimulationError::SetUp("a node is gone".to_owned()));
        let (other, other_asked) = done.recv().map_err(gone)?;
        self.nodes.insert(second, other);
        self.has_worked(second, others, other_asked?)?;
        self.has_worked(first, lot, asked?)?;
        self.is_the_database_gone(first);
        self.is_the_database_gone(second);
        Ok(())
    }

    /// What is asked of a node, with what may go wrong.
    fn calls(&mut self, at: usize, numbers: &[LetterNumber]) -> Vec<Call> {
        self.delivered = self.delivered.saturating_add(u64::try_from(numbers.len()).unwrap_or(0));
        if !self.is_calm {
            self.may_fail(at);
        }
        let letters = numbers.iter().filter_map(|number| self.letters.get(*number));
        letters.map(|letter| letter.call.clone()).collect()
    }

    fn has_worked(&mut self, at: usize, numbers: &[LetterNumber], asked: Asked) -> Goes {
        let Some(by) = self.voice_of(at) else { return Ok(()) };
        let letters: Vec<_> = numbers
            .iter()
            .filter_map(|number| Some((*number, self.letters.get(*number)?)))
            .collect();
        match asked {
            Asked::Died(when) => {
                self.auditor.at_the_door(&letters, None, by)?;
                self.dies(at, &format!("while it worked on {}", list(numbers)), &when);
            }
            Asked::Answered(answers) => {
                let name = self.name_of(at);
                let name = if by.is_alone { format!("{name}, alone,") } else { name };
                for (number, answer) in numbers.iter().zip(&answers) {
                    self.story.tell(
                        self.now,
                        format!("{name} answers letter {number}: {}", words(answer)),
                    );
                }
                self.auditor.at_the_door(&letters, Some(&answers), by)?;
                let Self { nodes, auditor, letters: all, born_alone, .. } = &mut *self;
                if let (true, Some(node)) = (by.is_alone, nodes.get(at)) {
                    let told = || {
                        let letters = numbers.iter().filter_map(|number| all.get(*number));
                        letters.zip(&answers)
                    };
                    node.look(|store| auditor.promised(by, told(), store)).transpose()?;
                    let born = told().filter(|(letter, _)| letter.order.is_intent());
                    born_alone
                        .extend(born.filter_map(|(_, answer)| Some((text(answer, "id")?, at))));
                }
                for (number, answer) in numbers.iter().zip(answers) {
                    self.sends_back(*number, &answer);
                }
            }
        }
        self.stands(at);
        Ok(())
    }

    /// How a node stands that has done something.
    fn voice_of(&self, at: usize) -> Option<Voice> {
        let node = self.nodes.get(at)?;
        Some(Voice { node: at, life: node.life(), is_alone: node.was_alone(), time: node.time() })
    }

    /// The auditor sees how nodes stand.
    fn stands(&mut self, at: usize) {
        if !self.has_two_nodes() {
            return;
        }
        if let Some(by) = self.voice_of(at) {
            self.auditor.stands(by);
        }
        if self.nodes.get(at).is_some_and(Node::has_booked) {
            self.born_alone.retain(|_, node| *node != at);
            self.auditor.has_booked(at);
        }
        for (node, _) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_told()) {
            self.auditor.is_told(node);
        }
    }

    /// A node looks whether its database is there.
    pub(crate) fn looks(&mut self, at: usize) -> Goes {
        let name = self.name_of(at);
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        let is_there_again = node.looks_for_database();
        self.tell(match is_there_again {
            true => format!("{name} finds the database again"),
            false => format!("{name} looks for the database"),
        });
        self.after(0, 1_000, Event::GoesRound(at));
        Ok(())
    }

    /// A node books what it has decided alone, and asks what it has not heard; and may die of it.
    pub(crate) fn goes_round(&mut self, at: usize) -> Goes {
        let name = self.name_of(at);
        let up = self.nodes.get(at).filter(|node| node.is_up());
        let Some(is_to_book) = up.map(Node::has_notes) else {
            return Ok(());
        };
        self.compare()?;
        if is_to_book && !self.is_calm {
            self.booking_may_fail(at);
        }
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        let died = node.goes_round()?;
        let (has_booked, is_done) = (node.has_booked(), node.has_booked() && node.is_told());
        let is_away = node.is_away();
        if let Some(when) = died {
            self.dies(at, "beside its work", &when);
        } else if is_to_book && has_booked {
            self.tell(format!("{name} has booked what it decided alone"));
        }
        self.is_the_database_gone(at);
        self.stands(at);
        if !is_done && !is_away {
            self.after(200, 1_000, Event::GoesRound(at));
        }
        self.compare()
    }

    /// It fails over in the midst of it, the node dies, or an answer is lost.
    fn booking_may_fail(&mut self, at: usize) {
        let (fate, loss) = (self.chance.below(100), self.loss());
        let death = self.death();
        let Some(node) = self.nodes.get(at) else { return };
        match fate {
            0..10 => node.fails_over(loss),
            10..25 => node.lose(loss),
            25..45 => node.will_die(death),
            _ => {}
        }
    }

    const fn loss(&mut self) -> Loss {
        if self.chance.percent(50) { Loss::Transaction } else { Loss::Answer }
    }

    /// A node that has lost a transaction with its server was the first to notice.
    fn is_the_database_gone(&mut self, at: usize) {
        if self.nodes.get(at).is_some_and(Node::has_lost_server) {
            self.database_is_gone();
        }
    }

    fn may_fail(&mut self, at: usize) {
        if let (true, Some(loss), Some(node)) =
            (self.has_two_nodes(), self.fails_over.take(), self.nodes.get(at))
        {
            node.fails_over(loss);
            return;
        }
        if self.chance.percent(LOSES) {
            let is_all = self.chance.percent(50);
            self.lose(at, if is_all { Loss::Transaction } else { Loss::Answer });
        }
        // What it decided alone it alone has.
        let has_notes = self.nodes.get(at).is_some_and(Node::has_notes);
        let dies = self.chance.percent(if has_notes { DIES_WITH_NOTES } else { DIES });
        // More often where that is one more place to die at.
        let (catches_up, is_lost) = match self.chance.below(if dies { 40 } else { 100 }) {
            0..4 => (ALL_AHEAD, true),
            4..10 => (1, false),
            10..20 => (ALL_AHEAD, false),
            _ => (0, false),
        };
        if let Some(node) = self.nodes.get(at) {
            node.set_catches_up(catches_up);
        }
        if is_lost {
            self.lose(at, Loss::CatchUp);
        }
        if dies {
            let death = self.death();
            if let Some(node) = self.nodes.get(at) {
                node.will_die(death);
            }
        }
    }

    fn lose(&self, at: usize, loss: Loss) {
        if let Some(node) = self.nodes.get(at) {
            node.lose(loss);
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
    pub(crate) fn dies(&mut self, at: usize, doing: &str, when: &str) {
        let name = self.name_of(at);
        self.tell(format!("{name} dies {doing}: {when}"));
        self.deaths = self.deaths.saturating_add(1);
        if let Some(waiting) = self.waiting.get_mut(at) {
            waiting.clear();
        }
        self.after(1_000, 15_000, Event::Starts(at));
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
            if text(&answer, "reason").is_some() {
                self.begins_another(number);
            }
            return Ok(());
        }
        letter.heard = Some(answer.clone());
        self.hears(number, &answer)
    }

    /// A node's machine is switched on.
    pub(crate) fn starts(&mut self, at: usize) -> Goes {
        let name = self.name_of(at);
        match self.nodes.get(at) {
            Some(node) if node.is_up() => return Ok(()),
            Some(node) if node.is_away() => {
                self.tell(format!("{name} does not start without its database"));
                self.after(1_000, 3_000, Event::Starts(at));
                return Ok(());
            }
            _ => {}
        }
        let death =
            (!self.is_calm && self.deaths > 0 && self.chance.percent(15)).then(|| self.death());
        let is_lost = self.has_two_nodes() && !self.is_calm && self.chance.percent(10);
        let loss = is_lost.then(|| self.loss());
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        match node.start(death, loss).map_err(does_not_start)? {
            Started::Serves => self.tell(format!("{name} serves")),
            Started::Died(when) => self.dies(at, "while it started", &when),
            Started::Waits => {
                self.tell(format!("{name} does not start: its database went meanwhile"));
                self.after(1_000, 3_000, Event::Starts(at));
            }
        }
        self.is_the_database_gone(at);
        self.stands(at);
        self.inspect()
    }

    /// Every letter that was answered is sent once more, to hear the same.
    pub(crate) fn everybody_asks_once_more(&mut self) -> Goes {
        for number in 0..self.letters.len() {
            let is_due = self.letters.get(number).is_some_and(|letter| !letter.is_forgotten);
            if is_due {
                self.auditor.next_step();
                // Whichever node it is.
                let at = number.checked_rem(self.nodes.len()).unwrap_or(0);
                self.works_on(at, &[number])?;
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
