//! What happens next, and the auditor's look at it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tapfer_payment_types::Timestamp;
use tapfer_server::in_process::Answer;
use tapfer_storage::Storage;
use tapfer_storage::faults::NoFaults;
use tapfer_storage::sqlite::simulated::{SimulatedNode, SimulatedServer};
use tempfile::TempDir;

use crate::auditor::{Auditor, Objection};
use crate::chance::Chance;
use crate::disk;
use crate::faults::Loss;
use crate::letter::{Letter, LetterNumber};
use crate::node::Node;
use crate::phone::Phone;
use crate::prepared::Prepared;
use crate::sale::{Sale, SaleNumber};
use crate::story::Story;
use crate::trouble::Trouble;
use crate::{Length, SimulationError, Told};

/// When nothing is in the way, everybody has an answer before so many things have happened.
const LONGEST_CALM: u32 = 20_000;

/// A directory for a world: in memory where there is such a place, because what a disk loses is simulated.
///
/// # Errors
/// There is no room for one.
pub(crate) fn scratch() -> std::io::Result<TempDir> {
    let in_memory = Path::new("/dev/shm");
    tempfile::tempdir_in(in_memory).or_else(|_| tempfile::tempdir())
}

/// What comes to pass at some time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A copy of a letter reaches a node.
    Arrives(LetterNumber, usize),
    /// A copy of its answer reaches the sender.
    Answered(LetterNumber, Answer),
    /// The sender has heard nothing.
    AsksAgain(LetterNumber),
    /// A node takes the payments that wait there.
    Decides(usize),
    /// A node's machine is switched on.
    Starts(usize),
    /// A node looks whether its database is there.
    Looks(usize),
    /// A node does what it does beside its work.
    GoesRound(usize),
    /// Somebody wants to buy something at a till.
    SaleBegins(usize),
    /// A phone is held to a till.
    Tap(SaleNumber),
    /// The merchant thinks of a sale again.
    AfterSale(SaleNumber),
    /// The issuer does something.
    IssuerActs,
    /// A phone wants keys.
    WantsKeys(usize),
    /// Something goes wrong.
    TroubleBegins,
    /// It is over.
    TroubleEnds(Trouble),
}

/// Why a story ends before its time.
pub(crate) enum Ending {
    /// The auditor objects.
    Objection(Objection),
    /// The simulation cannot go on.
    Error(SimulationError),
}

impl From<Objection> for Ending {
    fn from(objection: Objection) -> Self {
        Self::Objection(objection)
    }
}

impl<E: Into<SimulationError>> From<E> for Ending {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

pub(crate) type Goes = Result<(), Ending>;

/// One world.
pub(crate) struct World<'p> {
    pub(crate) prepared: &'p Prepared,
    pub(crate) now: Timestamp,
    pub(crate) chance: Chance,
    pub(crate) story: Story,
    pub(crate) auditor: Auditor,
    pub(crate) nodes: Vec<Node>,
    /// The database that nodes share, for the auditor.
    shared: Option<Arc<SimulatedNode>>,
    /// Payments that a node has begun alone, which nobody else knows of before they are booked.
    pub(crate) born_alone: BTreeMap<String, usize>,
    pub(crate) letters: Vec<Letter>,
    /// Payments that have reached each node and wait.
    pub(crate) waiting: Vec<Vec<LetterNumber>>,
    /// The database fails over with its next transaction, of which this becomes.
    pub(crate) fails_over: Option<Loss>,
    pub(crate) sales: Vec<Sale>,
    pub(crate) phones: Vec<Phone>,
    /// What tills have heard from phones: what a thief may have recorded.
    pub(crate) recorded: Vec<Vec<u8>>,
    /// By so much each clock is ahead, milliseconds: the platform's, the tills', the phones', a second node's.
    pub(crate) ahead: [i64; 4],
    pub(crate) is_calm: bool,
    pub(crate) deaths: u32,
    pub(crate) delivered: u64,
    queue: BTreeMap<(i64, u64), Event>,
    queued: u64,
    pub(crate) seed: u64,
    _directory: TempDir,
}

impl<'p> World<'p> {
    /// A world whose story has not begun.
    ///
    /// # Errors
    /// [`SimulationError`]
    pub(crate) fn begin(
        prepared: &'p Prepared,
        seed: u64,
        nodes: u8,
    ) -> Result<Self, SimulationError> {
        let directory = scratch()?;
        let now = prepared.beginning;
        let (nodes, shared) = nodes_of(prepared, directory.path(), seed, nodes)?;
        let phones = prepared
            .phones
            .iter()
            .zip(100..)
            .map(|(phone, what_for)| Phone::starting(&phone.kept, Chance::new(seed, what_for)));
        let phones = phones.collect::<Result<_, _>>()?;
        Ok(Self {
            prepared,
            now,
            chance: Chance::new(seed, 0),
            story: Story::beginning(now),
            auditor: Auditor::new(prepared, nodes.len()),
            waiting: nodes.iter().map(|_| Vec::new()).collect(),
            nodes,
            shared,
            born_alone: BTreeMap::new(),
            fails_over: None,
            letters: Vec::new(),
            sales: Vec::new(),
            phones,
            recorded: Vec::new(),
            ahead: [0; 4],
            is_calm: false,
            deaths: 0,
            delivered: 0,
            queue: BTreeMap::new(),
            queued: 0,
            seed,
            _directory: directory,
        })
    }

    /// Lets it go on to its end.
    ///
    /// # Errors
    /// [`SimulationError`]
    pub(crate) fn go_on(mut self, length: Length) -> Result<Told, SimulationError> {
        let seed = self.seed;
        let objection = match self.story_of(length) {
            Ok(()) => None,
            Err(Ending::Objection(objection)) => Some(objection.to_string()),
            Err(Ending::Error(error)) => return Err(error),
        };
        if let Some(objection) = &objection {
            self.tell(format!("the auditor objects: {objection}"));
        }
        Ok(Told {
            seed,
            objection,
            approved: self.auditor.approved(),
            alone: self.auditor.approved_alone(),
            deaths: self.deaths,
            letters: self.delivered,
            story: self.story.into_lines(),
        })
    }

    fn story_of(&mut self, length: Length) -> Goes {
        self.all_start()?;
        if self.has_two_nodes() {
            self.regulars_pay()?;
            self.may_lose_database();
        }
        for till in 0..self.prepared.tills.len() {
            self.after(200, 3_000, Event::SaleBegins(till));
        }
        self.after(2_000, 8_000, Event::IssuerActs);
        self.after(2_000, 8_000, Event::TroubleBegins);
        for _ in 0..length.steps {
            self.next()?;
        }
        if self.has_another_day() {
            self.another_day()?;
        }
        self.calm_down()
    }

    /// The faults end, and everybody is answered.
    pub(crate) fn comes_to_rest(&mut self) -> Goes {
        self.tell("all faults end");
        self.is_calm = true;
        self.troubles_are_over();
        self.all_comes_to_pass()?;
        self.all_start()
    }

    /// Nothing is in the way, and so there is an end.
    pub(crate) fn all_comes_to_pass(&mut self) -> Goes {
        for _ in 0..LONGEST_CALM {
            self.next()?;
        }
        if !self.queue.is_empty() {
            return Err(Objection::new(
                "nothing is in the way any more, and still there is no end",
            )
            .into());
        }
        Ok(())
    }

    /// It comes to rest, and everything is still there when the platform has started again.
    fn calm_down(&mut self) -> Goes {
        self.comes_to_rest()?;
        self.auditor.everybody_was_answered(&self.letters)?;
        self.inspect()?;
        self.auditor.everything_is_booked()?;
        self.nodes.iter_mut().for_each(Node::stop);
        self.all_start()?;
        self.tell("the platform has started again");
        self.auditor.nothing_is_in_the_way();
        self.everybody_asks_once_more()?;
        self.inspect()
    }

    pub(crate) fn next(&mut self) -> Goes {
        let Some(((at, _), event)) = self.queue.pop_first() else { return Ok(()) };
        self.now = Timestamp::from_unix_millis(at);
        self.set_clocks();
        self.auditor.next_step();
        match event {
            Event::Arrives(letter, node) => self.arrives(letter, node),
            Event::Answered(letter, answer) => self.answered(letter, answer),
            Event::AsksAgain(letter) => self.asks_again(letter),
            Event::Decides(node) => self.decides(node),
            Event::Starts(node) => self.starts(node),
            Event::Looks(node) => self.looks(node),
            Event::GoesRound(node) => self.goes_round(node),
            Event::SaleBegins(till) => self.sale_begins(till),
            Event::Tap(sale) => self.tap(sale),
            Event::AfterSale(sale) => self.after_sale(sale),
            Event::IssuerActs => self.issuer_acts(),
            Event::WantsKeys(phone) => self.wants_keys(phone),
            Event::TroubleBegins => self.trouble_begins(),
            Event::TroubleEnds(trouble) => {
                self.trouble_ends(trouble);
                Ok(())
            }
        }
    }

    /// Lets something come to pass after so many milliseconds, from the first to the last.
    pub(crate) fn after(&mut self, first: i64, last: i64, event: Event) {
        let delay = self.chance.between(first, last);
        self.queued = self.queued.saturating_add(1);
        self.queue.insert((self.now.plus_millis(delay).unix_millis(), self.queued), event);
    }

    pub(crate) fn tell(&mut self, words: impl AsRef<str>) {
        self.story.tell(self.now, words);
    }

    /// The auditor looks at what is new.
    pub(crate) fn compare(&mut self) -> Goes {
        self.look(|auditor, letters, store| auditor.compare(letters, store))
    }

    /// The auditor looks at everything.
    pub(crate) fn inspect(&mut self) -> Goes {
        self.look(|auditor, letters, store| auditor.inspect(letters, store))
    }

    /// Into the database that nodes share, which is there for whoever only looks; or into that of the machine, if it is up.
    fn look(
        &mut self,
        look: impl FnOnce(&mut Auditor, &[Letter], &dyn Storage) -> Result<(), Objection>,
    ) -> Goes {
        let Self { nodes, shared, auditor, letters, .. } = self;
        match (shared, nodes.iter().find(|node| node.is_up())) {
            (Some(shared), _) => look(auditor, letters, &**shared)?,
            (None, Some(node)) => {
                node.look(|store| look(auditor, letters, store)).transpose()?;
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn all_start(&mut self) -> Goes {
        (0..self.nodes.len()).try_for_each(|node| self.starts(node))
    }

    fn set_clocks(&self) {
        let [first, _, _, second] = self.ahead;
        for (node, ahead) in self.nodes.iter().zip([first, second]) {
            node.set_clock(self.now.plus_millis(ahead));
        }
    }

    /// Whether there is another node to ask.
    pub(crate) const fn has_two_nodes(&self) -> bool {
        self.nodes.len() > 1
    }

    /// A node in words.
    pub(crate) fn name_of(&self, node: usize) -> String {
        if self.has_two_nodes() {
            format!("node {}", node.saturating_add(1))
        } else {
            "the platform".to_owned()
        }
    }
}

/// The machines of a world: one with all the files, or several at one database's server; and the way to that.
fn nodes_of(
    prepared: &Prepared,
    directory: &Path,
    seed: u64,
    nodes: u8,
) -> Result<(Vec<Node>, Option<Arc<SimulatedNode>>), SimulationError> {
    let now = prepared.beginning;
    if nodes < 2 {
        return Ok((vec![Node::with_files(&prepared.home, directory, seed, now)?], None));
    }
    let database = directory.join(disk::DATABASE);
    std::fs::copy(prepared.home.join(disk::DATABASE), &database)?;
    let server = SimulatedServer::over(&database)?;
    let node = |number| Node::at_server(&prepared.home, directory, (seed, number), now, &server);
    let nodes = (0..2).map(node).collect::<Result<_, _>>()?;
    Ok((nodes, Some(SimulatedNode::at(&server, Arc::new(NoFaults)))))
}
