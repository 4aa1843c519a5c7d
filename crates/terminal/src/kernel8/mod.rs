//! Kernel 8 (EMV Contactless Book C-8 v1.1, Book E v1.1) without IO.
//!
//! A [`Kernel`] starts from the card's answer to SELECT. From there the caller asks [`Kernel::poll`]
//! what to do, sends what it is told to, and gives the answer to [`Kernel::handle_response`], until
//! there is an [`Outcome`].
//!
//! Inside, each phase of the dialogue is a struct of its own that is consumed by the answer it waits
//! for, so that no step can be taken twice or in the wrong order:
//!
//! ```text
//! options ──► (relay)* ──► records* ──► (read data)* ──► cryptogram ──► (write data)* ──► conclusion
//!    │            │            │              │               │                               │
//!    └────────────┴────────────┴──────────────┴───────────────┴───────────────────────────────┴──► Outcome
//! ```
//!
//! Absent on purpose: certificates with RSA keys, and the signals by which a terminal changes its mind
//! while a card is there (DEK and DET): everything is known when the card comes.
//!
//! Numbers such as "2930.12" are steps of Book C-8 as public material names them. Golden
//! transactions come from another terminal; this kernel differs from it where a rule is at stake:
//! records are decrypted in the order in which they are sent and not sorted, transaction type `09`
//! is the purchase with cashback (ISO 8583), a revocation list is honoured, and a malformed list or
//! answer ends the application instead of the program (`docs/adr/0007-how-kernel-8-was-read.md`).

mod action_analysis;
mod authentication;
mod cardholder_verification;
mod conclusion;
mod configuration;
mod cryptogram;
mod data;
mod data_storage;
mod dictionary;
mod options;
mod outcome;
mod records;
mod relay;
mod transaction;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use rand_core::CryptoRng;
use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::certificate::CaPublicKey;
use tapfer_emv::curve::PrivateKey;
use tapfer_payment_types::Timestamp;
use zeroize::Zeroizing;

pub(crate) use authentication::pan_digits;
pub use configuration::{
    ConfigurationError, KernelConfiguration, RelayResistanceConfiguration, RevokedCertificate,
    Session,
};
pub(crate) use configuration::{bcd_amount, terminal_data};
pub use data::{CardDataError, DataStore};
pub use outcome::{
    CardholderVerification, DataRecord, DeclinedBy, ErrorIndication, ErrorLevel1, ErrorLevel2,
    ErrorLevel3, MessageIdentifier, Outcome, OutcomeParameterSet, ReaderStatus, Start, Status,
    UserInterfaceRequest,
};

use cryptogram::AwaitingCryptogram;
use data_storage::{ReadingData, WritingData};
use options::AwaitingOptions;
use records::ReadingRecords;
use relay::AwaitingRelayAnswer;
use transaction::Transaction;

/// What one transaction takes from the world: the time, and secrets that are used once.
pub struct Inputs {
    /// Certificates are checked against it.
    pub now: Timestamp,
    /// The kernel's key for this one secure channel.
    pub kernel_key: PrivateKey,
    /// `9F37`, also the entropy of the relay check.
    pub unpredictable_number: [u8; 4],
}

impl Inputs {
    /// Draws key and number.
    #[must_use]
    pub fn draw(now: Timestamp, rng: &mut impl CryptoRng) -> Self {
        let kernel_key = PrivateKey::generate(rng);
        let mut unpredictable_number = [0; 4];
        rng.fill_bytes(&mut unpredictable_number);
        Self { now, kernel_key, unpredictable_number }
    }
}

/// What the caller does next.
#[derive(Debug)]
pub enum Action<'a> {
    /// Send this to the card, then call [`Kernel::handle_response`] or [`Kernel::handle_no_answer`].
    Transmit(&'a CommandApdu),
    /// The card can go; nothing more is sent.
    Finished(&'a Outcome),
}

/// A transaction with one card, as far as it has come.
pub struct Kernel {
    state: State,
    decrypted: Option<Zeroizing<Vec<u8>>>,
}

enum State {
    Waiting(Box<Phase>, CommandApdu),
    Finished(Box<Outcome>),
}

/// What the card's next answer is for.
enum Phase {
    Options(AwaitingOptions),
    Relay(AwaitingRelayAnswer),
    Records(ReadingRecords),
    ReadData(ReadingData),
    Cryptogram(AwaitingCryptogram),
    WriteData(WritingData),
}

/// What an answer leads to.
enum Step {
    Send(Box<Phase>, CommandApdu),
    Finished(Box<Outcome>),
}

impl Step {
    fn send(phase: Phase, command: CommandApdu) -> Self {
        Self::Send(Box::new(phase), command)
    }

    fn finished(outcome: Outcome) -> Self {
        Self::Finished(Box::new(outcome))
    }
}

impl Kernel {
    /// Starts from `fci`, the data of the card's answer to SELECT.
    #[must_use]
    pub fn start(
        configuration: KernelConfiguration,
        session: &Session,
        ca_public_keys: Vec<CaPublicKey>,
        inputs: Inputs,
        fci: &[u8],
    ) -> Self {
        let Inputs { now, kernel_key, unpredictable_number } = inputs;
        let transaction = Transaction::new(configuration, session, ca_public_keys, now);
        let step = options::start(transaction, kernel_key, unpredictable_number, fci);
        Self { state: State::after(step), decrypted: None }
    }

    /// What to do next. The same until the card has answered.
    #[must_use]
    pub fn poll(&self) -> Action<'_> {
        match &self.state {
            State::Waiting(_, command) => Action::Transmit(command),
            State::Finished(outcome) => Action::Finished(outcome),
        }
    }

    /// The card's answer with its status word, and how long it took from the first bit of the command
    /// to the last of the answer. After the end, answers are ignored.
    #[must_use]
    pub fn handle_response(self, response: &[u8], elapsed: Duration) -> Self {
        let State::Waiting(phase, _) = self.state else {
            return self;
        };
        let Ok(response) = ResponseApdu::parse(response) else {
            return Self::ended(phase.torn(ErrorLevel1::Transmission));
        };
        let step = match *phase {
            Phase::Options(phase) => phase.handle(&response),
            Phase::Relay(phase) => phase.handle(&response, elapsed),
            Phase::Records(phase) => phase.handle(&response),
            Phase::ReadData(phase) => phase.handle(&response),
            Phase::Cryptogram(phase) => phase.handle(&response),
            Phase::WriteData(phase) => phase.handle(&response),
        };
        let mut state = State::after(step);
        let decrypted =
            state.transaction_mut().and_then(|transaction| transaction.decrypted.take());
        Self { state, decrypted }
    }

    /// The card did not answer, or left the field: it is to be presented again. Once its cryptogram
    /// was checked the payment stands, and what was not written is reported as not written.
    #[must_use]
    pub fn handle_no_answer(self, error: ErrorLevel1) -> Self {
        match self.state {
            State::Waiting(phase, _) => Self::ended(phase.torn(error)),
            State::Finished(_) => self,
        }
    }

    /// The terminal gives up while a card is there. After the end nothing changes any more; once the
    /// card's cryptogram was checked it is as if the card had left.
    #[must_use]
    pub fn stop(self) -> Self {
        match self.state {
            State::Waiting(phase, _) => Self::ended(phase.stopped()),
            State::Finished(_) => self,
        }
    }

    /// The content of the record that came last, if it was encrypted: for a transcript.
    #[must_use]
    pub fn decrypted_record(&self) -> Option<&[u8]> {
        self.decrypted.as_deref().map(Vec::as_slice)
    }

    /// The outcome, once [`poll`](Self::poll) says that there is one.
    #[must_use]
    pub fn into_outcome(self) -> Option<Outcome> {
        match self.state {
            State::Waiting(..) => None,
            State::Finished(outcome) => Some(*outcome),
        }
    }

    fn ended(outcome: Outcome) -> Self {
        Self { state: State::Finished(Box::new(outcome)), decrypted: None }
    }
}

impl State {
    fn after(step: Step) -> Self {
        match step {
            Step::Send(phase, command) => Self::Waiting(phase, command),
            Step::Finished(outcome) => Self::Finished(outcome),
        }
    }

    fn transaction_mut(&mut self) -> Option<&mut Transaction> {
        match self {
            Self::Waiting(phase, _) => Some(phase.transaction_mut()),
            Self::Finished(_) => None,
        }
    }
}

impl Phase {
    /// The card is gone.
    fn torn(self, error: ErrorLevel1) -> Outcome {
        self.cut_short(|transaction| transaction.try_again(error))
    }

    /// The terminal gave up.
    fn stopped(self) -> Outcome {
        self.cut_short(|transaction| transaction.end_by_terminal(ErrorLevel3::Stop))
    }

    /// `end` is for what is not decided yet. Where only envelopes are still to be written, the
    /// decision stands.
    fn cut_short(self, end: impl FnOnce(Transaction) -> Outcome) -> Outcome {
        end(match self {
            Self::Options(phase) => phase.transaction,
            Self::Relay(phase) => phase.transaction,
            Self::Records(phase) => phase.transaction,
            Self::ReadData(phase) => phase.transaction,
            Self::Cryptogram(phase) => phase.transaction,
            Self::WriteData(decided) => return decided.give_up(),
        })
    }

    fn transaction_mut(&mut self) -> &mut Transaction {
        match self {
            Self::Options(phase) => &mut phase.transaction,
            Self::Relay(phase) => &mut phase.transaction,
            Self::Records(phase) => &mut phase.transaction,
            Self::ReadData(phase) => &mut phase.transaction,
            Self::Cryptogram(phase) => &mut phase.transaction,
            Self::WriteData(phase) => &mut phase.transaction,
        }
    }
}
