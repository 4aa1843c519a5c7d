//! The card application: answers a reader's commands, Kernel 8 card side.

mod asked;
mod cryptogram;
mod data_storage;
mod dialogue;
mod merchant;
mod options;
mod records;
mod relay;
mod selection;
#[cfg(test)]
mod vector_tests;

use alloc::boxed::Box;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::status::StatusWord;
use tapfer_payment_types::Timestamp;

use crate::device::DeviceState;
use crate::effect::{Effects, Notification};
use crate::wallet::Wallet;
use asked::Asked;
use dialogue::{Phase, Session, Writing};

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
    asked: Option<Asked>,
    /// The terminal in whose field the card is presented one of our certificates that is over. It gets no
    /// second try, however often it selects, until the field is gone.
    is_refused_merchant: bool,
}

/// What comes with a command from outside.
struct Moment<'a> {
    now: Timestamp,
    device: &'a DeviceState,
}

/// A command that is not carried out: the status word, and what the app should know.
struct Refusal {
    status: StatusWord,
    notification: Option<Box<Notification>>,
}

impl Refusal {
    fn with_news(status: StatusWord, news: Notification) -> Self {
        Self { status, notification: Some(Box::new(news)) }
    }
}

impl From<StatusWord> for Refusal {
    fn from(status: StatusWord) -> Self {
        Self { status, notification: None }
    }
}

impl From<Refusal> for Effects {
    fn from(refusal: Refusal) -> Self {
        Self::reply(ResponseApdu::refused(refusal.status))
            .and_notify(refusal.notification.map(|news| *news))
    }
}

/// The commands of Kernel 8 (Book C-8) and PRESENT MERCHANT CREDENTIAL, which is ours, by class and
/// instruction.
#[derive(Clone, Copy)]
enum Instruction {
    Select,
    PresentMerchantCredential,
    GetProcessingOptions,
    ExchangeRelayResistanceData,
    ReadRecord,
    ReadData,
    GenerateAc,
    WriteData,
}

impl Instruction {
    fn of(command: &CommandApdu) -> Result<Self, Refusal> {
        match (command.class, command.instruction) {
            (0x00, 0xA4) => Ok(Self::Select),
            (0x80, 0x52) => Ok(Self::PresentMerchantCredential),
            (0x80, 0xA8) => Ok(Self::GetProcessingOptions),
            (0x80, 0xEA) => Ok(Self::ExchangeRelayResistanceData),
            (0x00, 0xB2) => Ok(Self::ReadRecord),
            (0x84, 0x32) => Ok(Self::ReadData),
            (0x80, 0xAE) => Ok(Self::GenerateAc),
            (0x84, 0x34) => Ok(Self::WriteData),
            (0x00 | 0x80 | 0x84, _) => Err(StatusWord::INSTRUCTION_NOT_SUPPORTED.into()),
            _ => Err(StatusWord::CLASS_NOT_SUPPORTED.into()),
        }
    }
}

impl Card {
    /// A card that plays the tokens of a wallet.
    #[must_use]
    pub const fn new(wallet: Wallet) -> Self {
        Self { wallet, phase: Phase::Idle, asked: None, is_refused_merchant: false }
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

    /// The person does not want the payment that the phone has asked her about, because the till has corrected the
    /// amount, for example. The next one is asked about at once and not after the minute of this one, and is
    /// asked about in any case: neither an unlocked phone nor a PIN that was entered answers for it. Forgets
    /// every PIN that was entered. So it is for a minute after `now`, the device's time in UTC.
    ///
    /// For a button in the app and for nothing that a reader could cause.
    pub fn withdraw_from_question(&mut self, now: Timestamp) {
        self.wallet_mut().forget_pins();
        if let Some(asked) = &mut self.asked {
            asked.withdraw(now);
        }
    }

    /// The field is gone: forgets the dialogue and wipes its session keys.
    pub fn deselect(&mut self) {
        self.phase = Phase::Idle;
        self.is_refused_merchant = false;
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
        self.wallet.tell_time(now);
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
            Instruction::PresentMerchantCredential => {
                self.present_merchant_credential(command, moment, rng)
            }
            Instruction::GetProcessingOptions => self.get_processing_options(command, moment, rng),
            Instruction::ExchangeRelayResistanceData => {
                self.exchange_relay_resistance_data(command, rng)
            }
            Instruction::ReadRecord => self.read_record(command),
            Instruction::ReadData => self.read_data(command),
            Instruction::GenerateAc => self.generate_ac(command, moment, rng),
            Instruction::WriteData => self.write_data(command),
        }
    }

    /// A SELECT that finds nothing ends the dialogue, as ISO/IEC 7816-4 wants it for the next one.
    fn select(&mut self, command: &CommandApdu) -> Result<Effects, Refusal> {
        let phase = core::mem::take(&mut self.phase);
        let (next, answer) = selection::select(&self.wallet, &phase, command)?;
        self.phase = next;
        Ok(Effects::reply(ResponseApdu::ok(answer)))
    }

    fn present_merchant_credential(
        &mut self,
        command: &CommandApdu,
        moment: &Moment<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Effects, Refusal> {
        let Phase::Selected(application) = &mut self.phase else {
            return Err(StatusWord::CONDITIONS_NOT_SATISFIED.into());
        };
        if self.is_refused_merchant {
            return Err(StatusWord::CONDITIONS_NOT_SATISFIED.into());
        }
        let token = self.wallet.token(application.token).ok_or(StatusWord::FILE_NOT_FOUND)?;
        let latest = token.clock(moment.now).latest;
        let presented = application.credential.present(token, command, latest, rng)?;
        let nonce = presented.map_err(|news| {
            self.is_refused_merchant = true;
            Refusal::with_news(StatusWord::CONDITIONS_NOT_SATISFIED, news)
        })?;
        Ok(Effects::reply(ResponseApdu::ok(nonce)))
    }

    /// A selection is good for one GET PROCESSING OPTIONS, whatever becomes of it: so is the nonce that
    /// the terminal was given.
    fn get_processing_options(
        &mut self,
        command: &CommandApdu,
        moment: &Moment<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Effects, Refusal> {
        let application = match core::mem::take(&mut self.phase) {
            Phase::Selected(application) => application,
            other => {
                self.phase = other;
                return Err(StatusWord::CONDITIONS_NOT_SATISFIED.into());
            }
        };
        if self.is_refused_merchant {
            return Err(StatusWord::CONDITIONS_NOT_SATISFIED.into());
        }
        let token = self.wallet.token_mut(application.token).ok_or(StatusWord::FILE_NOT_FOUND)?;
        let request = options::Request::read(token, command)?;
        let (session, answer) =
            options::begin(token, application.credential, request, moment, rng)?;
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

    fn read_data(&mut self, command: &CommandApdu) -> Result<Effects, Refusal> {
        let Phase::Processing(session) = &mut self.phase else {
            return Err(StatusWord::CONDITIONS_NOT_SATISFIED.into());
        };
        let token = self.wallet.token(session.token).ok_or(StatusWord::FILE_NOT_FOUND)?;
        let (answer, news) = data_storage::read(token, session, command)?;
        Ok(Effects::reply(ResponseApdu::ok(answer)).and_notify([news]))
    }

    fn write_data(&mut self, command: &CommandApdu) -> Result<Effects, Refusal> {
        let Phase::CryptogramSent(Some(writing)) = &mut self.phase else {
            return Err(StatusWord::CONDITIONS_NOT_SATISFIED.into());
        };
        let token = self.wallet.token_mut(writing.token).ok_or(StatusWord::FILE_NOT_FOUND)?;
        let (answer, news) = data_storage::write(token, writing, command)?;
        Ok(self.persist_then_reply(answer)?.and_notify([news]))
    }

    /// Who asks for one payment and then for another gets neither: the dialogue ends.
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
        if let Some(refusal) = cryptogram::contradiction(token, session, command) {
            self.phase = Phase::Idle;
            return Err(refusal);
        }
        let request = cryptogram::Request::read(token, session, command)?;
        let made = cryptogram::generate(token, session, &request, &mut self.asked, moment, rng)?;
        let token = session.token;
        self.go_on_behind(&made);
        let readiness = self.wallet.token(token).map(|token| token.readiness(moment.now));
        let soon = readiness.filter(|readiness| readiness.wants_replenishment).map(|readiness| {
            match readiness.runs_low {
                true => Notification::ReplenishSoon { token },
                false => Notification::PinUnconfirmed { token },
            }
        });
        Ok(self.persist_then_reply(made.answer)?.and_notify(made.news).and_notify(soon))
    }

    /// The cryptogram ends the transaction, but for the data that the terminal has announced.
    fn go_on_behind(&mut self, made: &cryptogram::Made) {
        let before = core::mem::replace(&mut self.phase, Phase::CryptogramSent(None));
        if let (Phase::Processing(session), true) = (before, made.takes_data) {
            let Session { token, channel, .. } = *session;
            let writing = Writing { token, channel, is_open: true };
            self.phase = Phase::CryptogramSent(Some(Box::new(writing)));
        }
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
