//! What goes wrong for a while: security modules, the disk, clocks, tills.

use crate::world::{Event, Goes, World};

/// Something that is wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No security module serves.
    HsmDown,
    /// There is no room on the disk.
    DiskFull,
    /// A clock is wrong: the platform's, the tills', the phones'.
    Clock(usize),
}

const WHOSE: [&str; 3] = ["the platform's clock", "the tills' clocks", "the phones' clocks"];

impl World<'_> {
    pub(crate) fn trouble_begins(&mut self) -> Goes {
        if self.is_calm {
            return Ok(());
        }
        self.after(3_000, 12_000, Event::TroubleBegins);
        match self.chance.below(5) {
            0 => {
                self.tell("no security module serves");
                self.node.set_hsm_down(true);
                self.after(500, 9_000, Event::TroubleEnds(Trouble::HsmDown));
            }
            1 => {
                self.tell("the disk is full");
                self.node.set_disk_full(true);
                self.after(500, 9_000, Event::TroubleEnds(Trouble::DiskFull));
            }
            2 => self.a_clock_jumps(),
            3 => {
                let till = self.chance.index(self.prepared.tills.len());
                self.till_dies(till);
            }
            _ => {
                let phone = self.chance.index(self.phones.len());
                return self.wants_keys(phone);
            }
        }
        Ok(())
    }

    fn a_clock_jumps(&mut self) {
        let whose = self.chance.index(WHOSE.len());
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

    pub(crate) fn trouble_ends(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::HsmDown => {
                self.tell("a security module serves again");
                self.node.set_hsm_down(false);
            }
            Trouble::DiskFull => {
                self.tell("there is room on the disk again");
                self.node.set_disk_full(false);
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
        self.node.set_hsm_down(false);
        self.node.set_disk_full(false);
        self.ahead = [0; 3];
    }
}
