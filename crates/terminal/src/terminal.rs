//! The terminal above entry point and kernel: armed for one payment, it takes one tap after another
//! until that payment is decided.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use rand_core::CryptoRng;
use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::certificate::CaPublicKey;
use tapfer_emv::tvr::{self, TerminalVerificationResults, TvrBit};
use tapfer_payment_types::{Money, PaymentIntentId, Timestamp};

use crate::arming::{Arming, ArmingError};
use crate::authorization::{AuthorizationRequest, HostDecision, PaymentState, Receipt};
use crate::entry_point::{self, Candidate, EntryPointError};
use crate::kernel8::{
    Action, ConfigurationError, DeclinedBy, ErrorLevel1, Inputs, Kernel, KernelConfiguration,
    MessageIdentifier, Outcome, Session, Status,
};

/// What a terminal is set up with.
#[derive(Debug, Clone)]
pub struct TerminalConfiguration {
    /// The applications it takes, one configuration each.
    pub applications: Vec<KernelConfiguration>,
    /// Certification authorities it trusts.
    pub ca_public_keys: Vec<CaPublicKey>,
    /// The most it takes by a tap (Book B 3.1.1.3). `None`: anything.
    pub contactless_transaction_limit: Option<Money>,
}

/// State of a terminal that speaks to no card.
#[derive(Debug)]
pub struct Unarmed(());

/// State of a terminal that waits for the card of one payment.
#[derive(Debug)]
pub struct Armed {
    arming: Arming,
}

/// A terminal. What it can do is a matter of its state:
///
/// ```compile_fail
/// # use tapfer_terminal::{Terminal, Unarmed};
/// fn tap_while_unarmed(terminal: Terminal<Unarmed>, now: tapfer_payment_types::Timestamp) {
///     terminal.tap(now); // no such method: only an armed terminal answers a card
/// }
/// ```
///
/// and an arming is spent with its payment:
///
/// ```compile_fail
/// # use tapfer_terminal::{Arming, Terminal, Unarmed};
/// fn arm_twice(one: Terminal<Unarmed>, other: Terminal<Unarmed>, arming: Arming) {
///     let _ = one.arm(arming);
///     let _ = other.arm(arming); // moved
/// }
/// ```
#[derive(Debug)]
pub struct Terminal<State> {
    configuration: TerminalConfiguration,
    state: State,
}

/// A terminal that was not armed, unchanged, and why.
#[derive(Debug)]
pub struct NotArmed {
    /// The terminal, ready for another try.
    pub terminal: Terminal<Unarmed>,
    /// Why.
    pub error: ArmingError,
}

impl Terminal<Unarmed> {
    /// A terminal as it is switched on.
    #[must_use]
    pub const fn new(configuration: TerminalConfiguration) -> Self {
        Self { configuration, state: Unarmed(()) }
    }

    /// Arms for one payment, after pre-processing its amount (Book B 3.1).
    ///
    /// # Errors
    /// [`NotArmed`] if the amount is above the contactless limit. The arming is spent all the same.
    pub fn arm(self, arming: Arming) -> Result<Terminal<Armed>, Box<NotArmed>> {
        match self.pre_process(arming.amount()) {
            Ok(()) => Ok(Terminal { configuration: self.configuration, state: Armed { arming } }),
            Err(error) => Err(Box::new(NotArmed { terminal: self, error })),
        }
    }

    fn pre_process(&self, amount: Money) -> Result<(), ArmingError> {
        let Some(limit) = self.configuration.contactless_transaction_limit else {
            return Ok(());
        };
        match limit.checked_sub(amount) {
            Ok(room) if room.minor >= 0 => Ok(()),
            Ok(_) => Err(ArmingError::AboveContactlessLimit { amount, limit }),
            Err(_) => Err(ArmingError::Currency(amount)),
        }
    }
}

impl Terminal<Armed> {
    /// What it is armed for.
    #[must_use]
    pub const fn payment_intent(&self) -> PaymentIntentId {
        self.state.arming.payment_intent()
    }

    /// How much it will ask for.
    #[must_use]
    pub const fn amount(&self) -> Money {
        self.state.arming.amount()
    }

    /// The till gave up.
    #[must_use]
    pub fn cancel(self) -> Terminal<Unarmed> {
        self.disarm().0
    }

    /// A card is in the field.
    ///
    /// # Errors
    /// None in practice: the amount was checked when the terminal was armed.
    pub fn tap(self, now: Timestamp) -> Result<Tap, ConfigurationError> {
        let session = Session::purchase(self.amount(), now)?;
        let stage = Stage::Directory(entry_point::select_directory());
        Ok(Tap { terminal: self, session, now, stage })
    }

    fn disarm(self) -> (Terminal<Unarmed>, Arming) {
        (Terminal::new(self.configuration), self.state.arming)
    }
}

/// One card in the field of an armed terminal.
///
/// [`poll`](Self::poll), transmit, [`handle_response`](Self::handle_response), until it is finished;
/// then [`finish`](Self::finish).
pub struct Tap {
    terminal: Terminal<Armed>,
    session: Session,
    now: Timestamp,
    stage: Stage,
}

enum Stage {
    Directory(CommandApdu),
    Application { command: CommandApdu, chosen: Candidate, others: Vec<Candidate> },
    Kernel { kernel: Box<Kernel>, others: Vec<Candidate> },
    Finished(Box<Ended>),
}

enum Ended {
    ByKernel(Outcome),
    BeforeKernel(EntryPointError),
    CardLost,
}

/// What the caller of a [`Tap`] does next.
#[derive(Debug)]
pub enum TapAction<'a> {
    /// Send this to the card, then call [`Tap::handle_response`] or [`Tap::handle_no_answer`].
    Transmit(&'a CommandApdu),
    /// The card can go. Call [`Tap::finish`].
    Finished,
}

/// What became of a tap.
#[derive(Debug)]
pub enum TapEnd {
    /// The platform has to decide. The arming is spent.
    Online(Box<OnlinePayment>),
    /// Decided by card and terminal alone. The terminal is disarmed.
    Decided {
        /// Ready to be armed again.
        terminal: Terminal<Unarmed>,
        /// What the merchant keeps.
        receipt: Receipt,
        /// What the kernel said.
        outcome: Outcome,
    },
    /// Nothing was decided: the terminal stays armed, for this or another card.
    Undecided {
        /// Waiting for the next tap.
        terminal: Terminal<Armed>,
        /// What to show.
        message: MessageIdentifier,
        /// What the kernel said, if it came that far.
        outcome: Option<Outcome>,
        /// Why the kernel was not reached.
        error: Option<EntryPointError>,
    },
}

impl Tap {
    /// What to do next. The same until the card has answered.
    #[must_use]
    pub fn poll(&self) -> TapAction<'_> {
        match &self.stage {
            Stage::Directory(command) | Stage::Application { command, .. } => {
                TapAction::Transmit(command)
            }
            Stage::Kernel { kernel, .. } => match kernel.poll() {
                Action::Transmit(command) => TapAction::Transmit(command),
                Action::Finished(_) => TapAction::Finished,
            },
            Stage::Finished(_) => TapAction::Finished,
        }
    }

    /// The card's answer with its status word, and how long it took. `rng` is asked for one key and
    /// one number for each application that is tried. After the end, answers are ignored.
    #[must_use]
    pub fn handle_response(
        mut self,
        response: &[u8],
        elapsed: Duration,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let parsed = ResponseApdu::parse(response);
        self.stage = match (self.stage, parsed) {
            (Stage::Kernel { kernel, others }, _) => {
                let kernel = kernel.handle_response(response, elapsed);
                after_kernel(kernel, others)
            }
            (Stage::Directory(_), Ok(answer)) => {
                after_directory(&answer, &self.terminal.configuration.applications)
            }
            (Stage::Application { chosen, others, .. }, Ok(answer)) if is_selected(&answer) => {
                let inputs = Inputs::draw(self.now, rng);
                let configuration = &self.terminal.configuration;
                match configuration.applications.get(chosen.configuration) {
                    Some(application) => after_kernel(
                        Kernel::start(
                            application.clone(),
                            &self.session,
                            configuration.ca_public_keys.clone(),
                            inputs,
                            &answer.data,
                        ),
                        others,
                    ),
                    None => select_next(others),
                }
            }
            (Stage::Application { others, .. }, Ok(_)) => select_next(others),
            (Stage::Directory(_) | Stage::Application { .. }, Err(_)) => {
                Stage::Finished(Box::new(Ended::CardLost))
            }
            (finished @ Stage::Finished(_), _) => finished,
        };
        self
    }

    /// The card did not answer, or left the field.
    #[must_use]
    pub fn handle_no_answer(mut self, error: ErrorLevel1) -> Self {
        self.stage = match self.stage {
            Stage::Kernel { kernel, others } => {
                after_kernel(kernel.handle_no_answer(error), others)
            }
            Stage::Directory(_) | Stage::Application { .. } => {
                Stage::Finished(Box::new(Ended::CardLost))
            }
            finished @ Stage::Finished(_) => finished,
        };
        self
    }

    /// The content of the record that came last, if it was encrypted: for a transcript.
    #[must_use]
    pub fn decrypted_record(&self) -> Option<&[u8]> {
        match &self.stage {
            Stage::Kernel { kernel, .. } => kernel.decrypted_record(),
            _ => None,
        }
    }

    /// What became of it. A tap that is given up half-way leaves the terminal armed.
    #[must_use]
    pub fn finish(self) -> TapEnd {
        let ended = match self.stage {
            Stage::Finished(ended) => *ended,
            _ => Ended::CardLost,
        };
        let terminal = self.terminal;
        match ended {
            Ended::ByKernel(outcome) => by_kernel(terminal, outcome),
            Ended::BeforeKernel(error) => TapEnd::Undecided {
                terminal,
                message: MessageIdentifier::ERROR_OTHER_CARD,
                outcome: None,
                error: Some(error),
            },
            Ended::CardLost => TapEnd::Undecided {
                terminal,
                message: MessageIdentifier::TRY_AGAIN,
                outcome: None,
                error: None,
            },
        }
    }
}

/// A warning (`62xx`, `63xx`) still selects (Book B 3.3.3.5).
fn is_selected(answer: &ResponseApdu) -> bool {
    let [first, _] = answer.status.bytes();
    answer.status.is_ok() || matches!(first, 0x62 | 0x63)
}

fn after_directory(answer: &ResponseApdu, applications: &[KernelConfiguration]) -> Stage {
    let found = if answer.status.is_ok() {
        entry_point::candidates(&answer.data, applications)
    } else {
        Err(EntryPointError::NoCommonApplication)
    };
    match found {
        Ok(candidates) => select_next(candidates),
        Err(error) => Stage::Finished(Box::new(Ended::BeforeKernel(error))),
    }
}

/// The next application, the first of the list.
fn select_next(mut candidates: Vec<Candidate>) -> Stage {
    if candidates.is_empty() {
        return Stage::Finished(Box::new(Ended::BeforeKernel(
            EntryPointError::NoCommonApplication,
        )));
    }
    let chosen = candidates.remove(0);
    let command = entry_point::select(&chosen.identifier);
    Stage::Application { command, chosen, others: candidates }
}

/// A kernel that says Select Next passes the card on, as long as there is something to pass it to.
fn after_kernel(kernel: Kernel, others: Vec<Candidate>) -> Stage {
    let is_next = match kernel.poll() {
        Action::Transmit(_) => false,
        Action::Finished(outcome) => outcome.parameters.status == Status::SelectNext,
    };
    if is_next && !others.is_empty() {
        return select_next(others);
    }
    match kernel.poll() {
        Action::Transmit(_) => Stage::Kernel { kernel: Box::new(kernel), others },
        Action::Finished(_) => match kernel.into_outcome() {
            Some(outcome) => Stage::Finished(Box::new(Ended::ByKernel(outcome))),
            None => Stage::Finished(Box::new(Ended::CardLost)),
        },
    }
}

fn by_kernel(terminal: Terminal<Armed>, outcome: Outcome) -> TapEnd {
    let message = outcome.ui_request.map_or(MessageIdentifier::ERROR_OTHER_CARD, |ui| ui.message);
    let state = match (outcome.parameters.status, &outcome.data_record) {
        (Status::OnlineRequest, Some(record)) => {
            let request = AuthorizationRequest::new(&terminal.state.arming, record);
            let (terminal, arming) = terminal.disarm();
            return TapEnd::Online(Box::new(OnlinePayment { terminal, arming, request, outcome }));
        }
        (Status::Approved, _) => PaymentState::ApprovedOffline,
        (Status::Declined, _) => {
            PaymentState::Declined { authorization: None, reason: decline_reason(&outcome) }
        }
        _ => return TapEnd::Undecided { terminal, message, outcome: Some(outcome), error: None },
    };
    let (terminal, arming) = terminal.disarm();
    let receipt = Receipt::new(&arming, &outcome, state);
    TapEnd::Decided { terminal, receipt, outcome }
}

/// In words for the merchant. The results that the terminal declined for are in it.
fn decline_reason(outcome: &Outcome) -> String {
    let results = outcome.tvr.unwrap_or_default();
    let serious = serious_results(results);
    match outcome.declined_by {
        // The phone could not verify its person, or not in a way that the terminal offers.
        _ if serious.len() == 1 && results.contains(tvr::CARDHOLDER_VERIFICATION_FAILED) => {
            String::from("the phone's owner must be verified: unlock the phone and tap again")
        }
        Some(DeclinedBy::Terminal) => format!("the terminal declined: {}", serious.join(", ")),
        _ => String::from("the card declined"),
    }
}

/// The results that speak against a payment, in words.
fn serious_results(results: TerminalVerificationResults) -> Vec<&'static str> {
    const HARMLESS: [TvrBit; 5] = [
        tvr::KERNEL_8_FORMAT,
        tvr::RELAY_RESISTANCE_PERFORMED,
        tvr::RELAY_RESISTANCE_NOT_PERFORMED,
        tvr::FLOOR_LIMIT_EXCEEDED,
        tvr::ONLINE_CVM_CAPTURED,
    ];
    let mut serious = results;
    HARMLESS.into_iter().for_each(|bit| serious.clear(bit));
    serious.meanings().collect()
}

/// A payment that waits for the platform. The terminal behind it is disarmed already: whatever
/// becomes of the answer, the same arming asks no second card.
#[derive(Debug)]
pub struct OnlinePayment {
    terminal: Terminal<Unarmed>,
    arming: Arming,
    request: AuthorizationRequest,
    outcome: Outcome,
}

impl OnlinePayment {
    /// What the platform is asked.
    #[must_use]
    pub const fn request(&self) -> &AuthorizationRequest {
        &self.request
    }

    /// What the kernel said.
    #[must_use]
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The platform has decided, or has not answered.
    #[must_use]
    pub fn complete(self, decision: HostDecision) -> (Terminal<Unarmed>, Receipt) {
        let state = match decision {
            HostDecision::Approved { authorization } => PaymentState::Approved(authorization),
            HostDecision::Declined { authorization, reason } => {
                PaymentState::Declined { authorization, reason }
            }
            HostDecision::NoAnswer => PaymentState::Unknown,
        };
        let receipt = Receipt::new(&self.arming, &self.outcome, state);
        (self.terminal, receipt)
    }
}
