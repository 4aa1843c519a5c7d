//! The whole world in one process, on a clock of its own: phones, tills, merchants, an issuer and the platform, and what
//! goes wrong between and in them; and an auditor who looks after every step.
//!
//! The wallet, the terminal, the platform, its store and its keys are the real ones. Simulated are the network, the
//! clocks, the randomness, and what a machine finds on its disk when it has died. One seed gives one story: [`run`] tells it
//! again, byte for byte.
//!
//! Rooms: `world` what happens next; `people`, `sale`, `another_day` and `trouble` what they want and what befalls them; `post` letters
//! and the network; `node`, `faults` and `disk` the machine that runs the platform; `phone` and `till`; `auditor`.

mod another_day;
mod auditor;
mod chance;
mod clock;
mod disk;
mod faults;
mod letter;
mod many;
mod node;
mod people;
mod phone;
mod post;
mod prepared;
mod sale;
mod story;
mod till;
mod trouble;
mod world;

use std::io;

pub use many::{Go, run_many};
pub use prepared::Prepared;

/// The simulation itself cannot go on. Not the platform's fault.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The world cannot be set up.
    #[error("the simulated world cannot be set up: {0}")]
    SetUp(String),
    /// A file.
    #[error(
        "a file of the simulated world cannot be read or written: {0}; look whether there is room in the temporary directory"
    )]
    File(#[from] io::Error),
    /// The database that several nodes share.
    #[error("the simulated database's server does not start: {0}")]
    Server(#[from] tapfer_storage::StorageError),
    /// The realm does not open.
    #[error("the simulated platform's realm does not open: {0}")]
    Realm(#[from] tapfer_server::RealmError),
    /// The platform does not start.
    #[error("the simulated platform does not start: {0}")]
    Platform(#[from] tapfer_server::ServerError),
    /// A phone's memory.
    #[error("a simulated phone's memory is no wallet: {0}")]
    Phone(#[from] tapfer_wallet::store::StoreError),
    /// An answer that is not JSON.
    #[error("an answer of the simulated platform is not JSON: {0}")]
    Answer(#[from] serde_json::Error),
}

/// How long a story is, and where it plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// So many things happen; then the faults end, and everybody is answered.
    pub steps: u64,
    /// At so many nodes: one with a database of its own, or two that share a server's.
    pub nodes: u8,
}

impl Default for Length {
    fn default() -> Self {
        Self { steps: 250, nodes: 1 }
    }
}

/// What happened.
#[derive(Debug)]
pub struct Told {
    /// From which seed.
    pub seed: u64,
    /// In words, a line for each thing.
    pub story: Vec<String>,
    /// What the auditor objected to, if anything. The story ends there.
    pub objection: Option<String>,
    /// How many payments were approved.
    pub approved: usize,
    /// How many of them tills were told by a node alone.
    pub alone: usize,
    /// How often the machine died.
    pub deaths: u32,
    /// How many letters reached the platform.
    pub letters: u64,
}

/// Lets a world go on from its beginning.
///
/// # Errors
/// [`SimulationError`]: the simulation cannot go on. That the platform does not is in [`Told::objection`].
pub fn run(prepared: &Prepared, seed: u64, length: Length) -> Result<Told, SimulationError> {
    world::World::begin(prepared, seed, length.nodes)?.go_on(length)
}
