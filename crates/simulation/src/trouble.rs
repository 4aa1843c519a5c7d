//! What goes wrong for a while: security modules, the disk, clocks, tills.

use crate::faults::Loss;
use crate::world::{Event, Goes, World};

/// Something that is wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No security module serves.
    HsmDown,
    /// There is no room on the disk.
    DiskFull,
    /// A clock is wrong: the platform's, the tills', the phones', a second node's.
    Clock(usize),
    /// A node does not reach the database.
    Link(usize),
    /// Nobody does: a standby takes over.
    Failover,
}

const WHOSE: [&str; 4] =
    ["the platform's clock", "the tills' clocks", "the phones' clocks", "the clock of node 2"];

impl World<'_> {
    pub(crate) fn trouble_begins(&mut self) -> Goes {
        if self.is_calm {
            return Ok(());
        }
        self.after(3_000, 12_000, Event::TroubleBegins);
        match self.chance.below(if self.has_two_nodes() { 8 } else { 5 }) {
            0 => {
                self.tell("no security module serves");
                self.nodes.iter_mut().for_each(|node| node.set_hsm_down(true));
                self.after(500, 9_000, Event::TroubleEnds(Trouble::HsmDown));
            }
            1 => {
                self.tell("the disk is full");
                self.nodes.iter_mut().for_each(|node| node.set_disk_full(true));
                self.after(500, 9_000, Event::TroubleEnds(Trouble::DiskFull));
            }
            2 => self.a_clock_jumps(),
            3 => {
                let till = self.chance.index(self.prepared.tills.len());
                self.till_dies(till);
            }
            5 => self.a_link_breaks(),
            6 | 7 => self.the_database_fails_over(),
            _ => {
                let phone = self.chance.index(self.phones.len());
                return self.wants_keys(phone);
            }
        }
        Ok(())
    }

    fn a_clock_jumps(&mut self) {
        let whose = self.chance.index(if self.has_two_nodes() { WHOSE.len() } else { 3 });
        let jump = match self.chance.below(3) {
            0 => self.chance.between(-5_000, 5_000),
            1 => self.chance.between(-400_000, 400_000),
            _ => self.chance.between(-7_200_000, 7_200_000),
        };
        if let (Some(ahead), Some(name)) = (self.ahead.get_mut(whose), WHOSE.get(whose)) {
            *ahead = jump;
            self.tell(format!("{name}: {} ms off", jump));
        }
        self.after(2_000, 20_000, Event::TroubleEnds(Trouble::Clock(whose)));
    }

    fn a_link_breaks(&mut self) {
        let at = self.chance.index(self.nodes.len());
        let name = self.name_of(at);
        self.tell(format!("{name} does not reach the database"));
        self.reaches_database(at, false);
        self.outage(Trouble::Link(at));
    }

    /// Often the day begins without it.
    pub(crate) fn may_lose_database(&mut self) {
        match self.chance.below(100) {
            0..40 => self.a_link_breaks(),
            40..70 => self.database_is_gone(),
            _ => {}
        }
    }

    /// Between two transactions, or in one: then it is lost, or nobody hears that it stands.
    fn the_database_fails_over(&mut self) {
        match self.chance.below(3) {
            0 => self.database_is_gone(),
            1 => self.fails_over = Some(Loss::Transaction),
            _ => self.fails_over = Some(Loss::Answer),
        }
    }

    pub(crate) fn database_is_gone(&mut self) {
        self.nobody_reaches_database();
        self.outage(Trouble::Failover);
    }

    pub(crate) fn nobody_reaches_database(&mut self) {
        self.tell("the database fails over");
        (0..self.nodes.len()).for_each(|node| self.reaches_database(node, false));
    }

    /// It lasts for a moment, or so long that people go on without the database.
    fn outage(&mut self, trouble: Trouble) {
        let (first, last) = if self.chance.percent(60) { (12_000, 30_000) } else { (500, 12_000) };
        self.after(first, last, Event::TroubleEnds(trouble));
    }

    /// Whether a node reaches the database, which it notices a while later.
    fn reaches_database(&mut self, at: usize, is_there: bool) {
        let Some(node) = self.nodes.get_mut(at) else { return };
        node.set_away(!is_there);
        if self.has_two_nodes() {
            self.after(0, if is_there { 1_500 } else { 4_000 }, Event::Looks(at));
        }
    }

    pub(crate) fn trouble_ends(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::HsmDown => {
                self.tell("a security module serves again");
                self.nodes.iter_mut().for_each(|node| node.set_hsm_down(false));
            }
            Trouble::DiskFull => {
                self.tell("there is room on the disk again");
                self.nodes.iter_mut().for_each(|node| node.set_disk_full(false));
            }
            Trouble::Link(at) => {
                let name = self.name_of(at);
                self.tell(format!("{name} reaches the database again"));
                self.reaches_database(at, true);
            }
            Trouble::Failover => {
                self.tell("the database is there again, on another machine");
                (0..self.nodes.len()).for_each(|node| self.reaches_database(node, true));
            }
            Trouble::Clock(whose) => {
                if let Some(ahead) = self.ahead.get_mut(whose) {
                    *ahead = 0;
                }
                let name = WHOSE.get(whose).copied().unwrap_or_default();
                self.tell(format!("{name}: right again"));
            }
        }
    }

    /// Nothing is wrong any more.
    pub(crate) fn troubles_are_over(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.set_hsm_down(false));
        self.nodes.iter_mut().for_each(|node| node.set_disk_full(false));
        (0..self.nodes.len()).for_each(|node| self.reaches_database(node, true));
        self.fails_over = None;
        self.ahead = [0; 4];
    }
}
