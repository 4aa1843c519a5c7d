//! The card application: answers a reader's commands, Kernel 8 card side.

mod cryptogram;
mod dialogue;
mod options;
mod records;
mod relay;
mod selection;
#[cfg(test)]
mod vector_tests;

use alloc::vec::Vec;

use rand_core::CryptoRng;
use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::status::StatusWord;
use tapfer_payment_types::Timestamp;

use crate::device::DeviceState;
use crate::effect::{Effects, Notification};
use crate::wallet::Wallet;
use dialogue::Phase;

/// The card in the field of a reader.
///
/// # Order of calls
/// 1. A reader appears: nothing to call, a new card is idle. (`deselect` does no harm.)
/// 2. For every command: [`handle`](Self::handle), then carry out the effects **in order**. A
///    [`Persist`](crate::Effect::Persist) must be complete before the reply behind it is sent. If it
///    fails: send nothing, and `deselect`.
/// 3. The field is gone, or the reader powers the card down: [`deselect`](Self::deselect).
/// 4. Between taps: [`wallet_mut`](Self::wallet_mut), for enrolment, replenishment, the default
///    token. It ends a dialogue that is under way.
/// 5. After a restart: open the last durable snapshot ([`crate::store::open`]), and
///    [`Card::new`] again.
///
/// Any bytes in any order get an answer. The transaction counter rises with every answered GET
/// PROCESSING OPTIONS and is never used twice.
pub struct Card {
    wallet: Wallet,
    phase: Phase,
}

/// What comes with a command from outside.
struct Moment<'a> {
    now: Timestamp,
    device: &'a DeviceState,
}

/// A command that is not carried out: the status word, and what the app should know.
struct Refusal {
    status: StatusWord,
    notification: Option<Notification>,
}

impl From<StatusWord> for Refusal {
    fn from(status: StatusWord) -> Self {
        Self { status, notification: None }
    }
}

impl From<Refusal> for Effects {
    fn from(refusal: Refusal) -> Self {
        Self::reply(ResponseApdu::refused(refusal.status)).and_notify(refusal.notification)
    }
}

/// The commands of Kernel 8 (Book C-8), by class and instruction.
///
/// Not played yet, and refused as unknown: PRESENT MERCHANT CREDENTIAL `80 52` (between SELECT and
/// GET PROCESSING OPTIONS), READ DATA `84 32` (behind GET PROCESSING OPTIONS) and WRITE DATA `84 34` (behind GENERATE AC).
#[derive(Clone, Copy)]
enum Instruction {
    Select,
    GetProcessingOptions,
    ExchangeRelayResistanceData,
    ReadRecord,
    GenerateAc,
}

impl Instruction {
    fn of(command: &CommandApdu) -> Result<Self, Refusal> {
        match (command.class, command.instruction) {
            (0x00, 0xA4) => Ok(Self::Select),
            (0x80, 0xA8) => Ok(Self::GetProcessingOptions),
            (0x80, 0xEA) => Ok(Self::ExchangeRelayResistanceData),
            (0x00, 0xB2) => Ok(Self::ReadRecord),
            (0x80, 0xAE) => Ok(Self::GenerateAc),
            (0x00 | 0x80 | 0x84, _) => Err(StatusWord::INSTRUCTION_NOT_SUPPORTED.into()),
            _ => Err(StatusWord::CLASS_NOT_SUPPORTED.into()),
        }
    }
}

impl Card {
    /// A card that plays the tokens of a wallet.
    #[must_use]
    pub const fn new(wallet: Wallet) -> Self {
        Self { wallet, phase: Phase::Idle }
    }

    /// The wallet behind the card.
    #[must_use]
    pub const fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// The wallet behind the card, to change it. Ends a dialogue that is under way: what a reader has
    /// been told would no longer hold.
    pub fn wallet_mut(&mut self) -> &mut Wallet {
        self.deselect();
        &mut self.wallet
    }

    /// The field is gone: forgets the dialogue and wipes its session keys.
    pub fn deselect(&mut self) {
        self.phase = Phase::Idle;
    }

    /// Answers one command.
    ///
    /// `command` is a whole command APDU, `now` the device's time in UTC, `rng` a cryptographically
    /// secure source. Nothing here fails: what can't be done is answered with a status word.
    pub fn handle(
        &mut self,
        command: &[u8],
        now: Timestamp,
        rng: &mut impl CryptoRng,
        device: &DeviceState,
    ) -> Effects {
        let moment = Moment { now, device };
        let answer = CommandApdu::parse(command)
            .map_err(|_| Refusal::from(StatusWord::WRONG_LENGTH))
            .and_then(|command| self.carry_out(&command, &moment, rng));
        answer.unwrap_or_else(Effects::from)
    }

    fn carry_out(
        &mut self,
        command: &CommandApdu,
        moment: &Moment<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Effects, Refusal> {
        match Instruction::of(command)? {
            Instruction::Select => self.select(command),
            Instruction::GetProcessingOptions => self.get_processing_options(command, moment, rng),
            Instruction::ExchangeRelayResistanceData => {
                self.exchange_relay_resistance_data(command, rng)
            }
            Instruction::ReadRecord => self.read_record(command),
            Instruction::GenerateAc => self.generate_ac(command, moment, rng),
        }
    }

    /// A SELECT that finds nothing ends the dialogue, as ISO/IEC 7816-4 wants it for the next one.
    fn select(&mut self, command: &CommandApdu) -> Result<Effects, Refusal> {
        let phase = core::mem::take(&mut self.phase);
        let (next, answer) = selection::select(&self.wallet, &phase, command)?;
        self.phase = next;
        Ok(Effects::reply(ResponseApdu::ok(answer)))
    }

    fn get_processing_options(
        &mut self,
        command: &CommandApdu,
        moment: &Moment<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Effects, Refusal> {
        let Phase::Selected(application) = &self.phase else {
            return Err(StatusWord::CONDITIONS_NOT_SATISFIED.into());
        };
        let token = self.wallet.token_mut(application.token).ok_or(StatusWord::FILE_NOT_FOUND)?;
        let request = options::Request::read(token, command)?;
        let (session, answer) = options::begin(token, request, moment, rng)?;
        self.phase = Phase::Processing(session);
        self.persist_then_reply(answer)
    }

    fn exchange_relay_resistance_data(
        &mut self,
        command: &CommandApdu,
        rng: &mut impl CryptoRng,
    ) -> Result<Effects, Refusal> {
        let Phase::Processing(session) = &mut self.phase else {
            return Err(StatusWord::CONDITIONS_NOT_SATISFIED.into());
        };
        let token = self.wallet.token(session.token).ok_or(StatusWord::FILE_NOT_FOUND)?;
        let answer = session.relay.exchange(token.profile().aip, command, rng)?;
        Ok(Effects::reply(ResponseApdu::ok(answer)))
    }

    fn read_record(&mut self, command: &CommandApdu) -> Result<Effects, Refusal> {
        let Phase::Processing(session) = &mut self.phase else {
            return Err(StatusWord::CONDITIONS_NOT_SATISFIED.into());
        };
        let token = self.wallet.token(session.token).ok_or(StatusWord::FILE_NOT_FOUND)?;
        let answer = records::read(token, session, command)?;
        Ok(Effects::reply(ResponseApdu::ok(answer)))
    }

    fn generate_ac(
        &mut self,
        command: &CommandApdu,
        moment: &Moment<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Effects, Refusal> {
        let Phase::Processing(session) = &self.phase else {
            return Err(StatusWord::CONDITIONS_NOT_SATISFIED.into());
        };
        let token = self.wallet.token_mut(session.token).ok_or(StatusWord::FILE_NOT_FOUND)?;
        let request = cryptogram::Request::read(token, session, command)?;
        let (answer, news) = cryptogram::generate(token, session, &request, moment, rng)?;
        let token = session.token;
        self.phase = Phase::CryptogramSent;
        let wants_keys = self
            .wallet
            .token(token)
            .is_some_and(|token| token.readiness(moment.now).wants_replenishment);
        let soon = wants_keys.then_some(Notification::ReplenishSoon { token });
        Ok(self.persist_then_reply(answer)?.and_notify([news]).and_notify(soon))
    }

    /// The counter or a key has moved: the reply may follow only once that is durable. If it can't be
    /// written down, the dialogue is over and nothing of the answer leaves the card.
    fn persist_then_reply(&mut self, answer: Vec<u8>) -> Result<Effects, Refusal> {
        match self.wallet.snapshot() {
            Ok(snapshot) => Ok(Effects::persist_then_reply(snapshot, ResponseApdu::ok(answer))),
            Err(_) => {
                self.deselect();
                Err(StatusWord::NO_PRECISE_DIAGNOSIS.into())
            }
        }
    }
}
