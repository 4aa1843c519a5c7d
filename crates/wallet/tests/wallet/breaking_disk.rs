//! A disk on which the power goes at one step of a replacement.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use tapfer_wallet::store::{Directory, FileMedium, StoreMedium};

/// Files by name. Everything that was done is kept; a write that is cut leaves half of it.
struct BreakingDisk {
    files: RefCell<BTreeMap<String, Vec<u8>>>,
    steps_left: Cell<usize>,
}

/// The power is gone.
struct Gone;

impl BreakingDisk {
    fn step(&self) -> Result<(), Gone> {
        let left = self.steps_left.get().checked_sub(1).ok_or(Gone)?;
        self.steps_left.set(left);
        Ok(())
    }
}

impl Directory for &BreakingDisk {
    type Error = Gone;
    type File = String;

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Gone> {
        Ok(self.files.borrow().get(name).cloned())
    }

    fn remove(&self, name: &str) -> Result<(), Gone> {
        self.step()?;
        self.files.borrow_mut().remove(name);
        Ok(())
    }

    fn create(&self, name: &str) -> Result<String, Gone> {
        self.step()?;
        self.files.borrow_mut().insert(name.to_owned(), Vec::new());
        Ok(name.to_owned())
    }

    fn write(&self, file: &mut String, bytes: &[u8]) -> Result<(), Gone> {
        let went = self.step();
        let length = if went.is_ok() { bytes.len() } else { bytes.len() / 2 };
        self.files.borrow_mut().entry(file.clone()).or_default().extend(&bytes[..length]);
        went
    }

    fn sync(&self, _file: &mut String) -> Result<(), Gone> {
        self.step()
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Gone> {
        self.step()?;
        let content = self.files.borrow_mut().remove(from).expect("renamed from nothing");
        self.files.borrow_mut().insert(to.to_owned(), content);
        Ok(())
    }

    fn sync_directory(&self) -> Result<(), Gone> {
        self.step()
    }
}

/// What the wallet's file holds after the power went at this step of its replacement: the old content or
/// the new, and nothing between. `power_loss.rs` has every byte, and disks that lose what was not flushed.
pub fn replaced_until(step: usize, old: &[u8], new: &[u8]) -> Vec<u8> {
    let name = FileMedium::<&BreakingDisk>::NAME.to_owned();
    let files = RefCell::new(BTreeMap::from([(name, old.to_vec())]));
    let disk = BreakingDisk { files, steps_left: Cell::new(step) };
    let _cut = FileMedium::new(&disk).replace(new);
    disk.steps_left.set(usize::MAX);
    let found = FileMedium::new(&disk).load().ok().flatten().expect("the wallet is gone");
    assert!(found == old || found == new, "torn at step {step}");
    found
}
