//! A tap: one card against an armed terminal, from the directory to what becomes of the payment.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use rand_core::CryptoRng;
use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::merchant::{MerchantSignature, MerchantSigningError, refused_credential};
use tapfer_emv::status::StatusWord;
use tapfer_emv::tags;
use tapfer_payment_types::Timestamp;

use crate::authorization::{AuthorizationRequest, PaymentState, Receipt};
use crate::entry_point::{self, Candidate, EntryPointError};
use crate::kernel8::{
    Action, ErrorLevel1, Inputs, Kernel, MessageIdentifier, Outcome, Session, Status,
};
use crate::merchant_proof::{WithoutProof, asks_for_proof};
use crate::online_pin::PinEntry;
use crate::reasons::decline_reason;
use crate::terminal::{Armed, OnlinePayment, Terminal, Unarmed};

/// One card in the field of an armed terminal.
///
/// [`poll`](Self::poll), transmit, [`handle_response`](Self::handle_response), until it is finished;
/// then [`finish`](Self::finish).
pub struct Tap {
    terminal: Terminal<Armed>,
    session: Session,
    now: Timestamp,
    stage: Stage,
    /// The card has taken a proof of ours and gone on.
    merchant_proven: bool,
}

enum Stage {
    Directory(CommandApdu),
    Application(Selection),
    Credential(Box<Presentation>),
    Kernel { kernel: Box<Kernel>, others: Vec<Candidate> },
    Finished(Box<Ended>),
}

/// SELECT of an application was sent.
struct Selection {
    command: CommandApdu,
    chosen: Candidate,
    others: Vec<Candidate>,
    /// The proof could not be made before, and is not tried again.
    unproven: bool,
}

/// PRESENT MERCHANT CREDENTIAL was sent.
struct Presentation {
    command: CommandApdu,
    chosen: Candidate,
    others: Vec<Candidate>,
    /// What the application answered to SELECT.
    fci: Vec<u8>,
    inputs: Inputs,
}

enum Ended {
    ByKernel(Outcome),
    BeforeKernel(TapError),
    CardLost,
}

/// Why a tap ended before a kernel had an outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TapError {
    /// There is nothing to try.
    #[error(transparent)]
    EntryPoint(#[from] EntryPointError),
    /// The phone knows who signed the terminal's certificate, and does not accept it any more.
    #[error(
        "the phone refuses this terminal: its certificate has expired or was revoked. Renew it, and \
         ask the platform if that does not help"
    )]
    TerminalRefused,
    /// The phone broke the protocol.
    #[error("the phone did not answer the terminal's certificate with a number of eight bytes")]
    Nonce,
    /// The terminal's own key.
    #[error(transparent)]
    Signing(#[from] MerchantSigningError),
    /// More than one card in the field.
    #[error("there is more than one card in the field: present one card only")]
    SeveralCards,
}

impl TapError {
    const fn message(&self) -> MessageIdentifier {
        match self {
            Self::EntryPoint(_) | Self::TerminalRefused | Self::Nonce => {
                MessageIdentifier::ERROR_OTHER_CARD
            }
            // Not the card's fault: another one would fare no better.
            Self::Signing(_) => MessageIdentifier::PROCESSING_ERROR,
            Self::SeveralCards => MessageIdentifier::PRESENT_ONE_CARD,
        }
    }
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
    /// The platform has to decide, and wants the cardholder's PIN with the question. The arming is spent.
    AskPin(Box<PinEntry>),
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
        error: Option<TapError>,
    },
}

impl Tap {
    pub(crate) fn begin(terminal: Terminal<Armed>, session: Session, now: Timestamp) -> Self {
        let stage = Stage::Directory(entry_point::select_directory());
        Self { terminal, session, now, stage, merchant_proven: false }
    }

    /// What to do next. The same until the card has answered.
    #[must_use]
    pub fn poll(&self) -> TapAction<'_> {
        match &self.stage {
            Stage::Directory(command) => TapAction::Transmit(command),
            Stage::Application(selection) => TapAction::Transmit(&selection.command),
            Stage::Credential(presentation) => TapAction::Transmit(&presentation.command),
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
        let stage = core::mem::replace(&mut self.stage, Stage::lost());
        self.stage = match (stage, ResponseApdu::parse(response)) {
            (Stage::Kernel { kernel, others }, _) => {
                after_kernel(kernel.handle_response(response, elapsed), others)
            }
            (finished @ Stage::Finished(_), _) => finished,
            (_, Err(_)) => Stage::lost(),
            (Stage::Directory(_), Ok(answer)) => self.after_directory(&answer),
            (Stage::Application(selection), Ok(answer)) => {
                self.after_selection(selection, answer, rng)
            }
            (Stage::Credential(presentation), Ok(answer)) => {
                self.after_presentation(*presentation, &answer)
            }
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
            finished @ Stage::Finished(_) => finished,
            _ => Stage::lost(),
        };
        self
    }

    /// The reader sees a second card: nothing more is said to either. What was decided before stands,
    /// although envelopes were still to be written.
    #[must_use]
    pub fn handle_several_cards(mut self) -> Self {
        let refused = Ended::BeforeKernel(TapError::SeveralCards);
        self.stage = Stage::Finished(self.stage.cut_short(refused));
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

    /// What became of it. A tap that is given up before the card's cryptogram was checked leaves the
    /// terminal armed; after that the payment is what was decided.
    #[must_use]
    pub fn finish(self) -> TapEnd {
        let Self { terminal, stage, merchant_proven, .. } = self;
        match *stage.cut_short(Ended::CardLost) {
            Ended::ByKernel(outcome) => by_kernel(terminal, outcome, merchant_proven),
            Ended::BeforeKernel(error) => TapEnd::Undecided {
                terminal,
                message: error.message(),
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

    fn after_directory(&self, answer: &ResponseApdu) -> Stage {
        let applications = &self.terminal.configuration().applications;
        let found = if answer.status.is_ok() {
            entry_point::candidates(&answer.data, applications, self.terminal.amount())
        } else {
            Err(EntryPointError::NoCommonApplication(Vec::new()))
        };
        match found {
            Ok(candidates) => select_next(candidates),
            Err(error) => Stage::refused(error.into()),
        }
    }

    /// Final selection. An application that asks for the merchant proof is shown the certificate first,
    /// if there is one.
    fn after_selection(
        &mut self,
        selection: Selection,
        answer: ResponseApdu,
        rng: &mut impl CryptoRng,
    ) -> Stage {
        let Selection { chosen, others, unproven, .. } = selection;
        self.merchant_proven = false;
        if !is_selected(&answer) {
            return select_next(others);
        }
        let inputs = Inputs::draw(self.now, rng);
        match &self.terminal.configuration().merchant {
            Some(merchant) if !unproven && asks_for_proof(&answer.data) => {
                let (command, fci) = (merchant.present(), answer.data);
                Stage::Credential(Box::new(Presentation { command, chosen, others, fci, inputs }))
            }
            _ => self.start_kernel(chosen, others, &answer.data, inputs, None),
        }
    }

    /// A number: the proof is made with it. `6985`: the phone knows the terminal, and will not have it.
    /// Anything else: it does not know who certified the terminal, and may pay an unproven one, which tells it
    /// what it has presented.
    fn after_presentation(&mut self, presentation: Presentation, answer: &ResponseApdu) -> Stage {
        let Presentation { command, chosen, others, fci, inputs } = presentation;
        if answer.status == StatusWord::CONDITIONS_NOT_SATISFIED {
            return Stage::refused(TapError::TerminalRefused);
        }
        if !answer.status.is_ok() {
            let refused = refused_credential(&command.data);
            return self.start_kernel(chosen, others, &fci, inputs, Some(refused));
        }
        let Ok(nonce) = answer.data.as_slice().try_into() else {
            return Stage::refused(TapError::Nonce);
        };
        let configuration = self.terminal.configuration();
        let application = configuration.applications.get(chosen.application);
        let (Some(merchant), Some(application)) = (&configuration.merchant, application) else {
            return select_next(others);
        };
        match merchant.prove(&application.kernel, &self.session, &inputs, nonce) {
            Ok(proof) => {
                self.merchant_proven = true;
                self.start_kernel(chosen, others, &fci, inputs, Some(proof))
            }
            // The phone waits for a proof now: only a new selection lets go of that.
            Err(_) if merchant.without_proof == WithoutProof::GoOn => {
                Stage::Application(Selection::of(chosen, others, true))
            }
            Err(error) => Stage::refused(error.into()),
        }
    }

    /// `said` is what stands in `DF51`: the proof, or what was presented and refused.
    fn start_kernel(
        &self,
        chosen: Candidate,
        others: Vec<Candidate>,
        fci: &[u8],
        inputs: Inputs,
        said: Option<MerchantSignature>,
    ) -> Stage {
        let configuration = self.terminal.configuration();
        let Some(application) = configuration.applications.get(chosen.application) else {
            return select_next(others);
        };
        let mut session = self.session.clone();
        if let Some(said) = said {
            session.set(tags::MERCHANT_PROOF, &said);
        }
        let kernel = Kernel::start(
            application.kernel.clone(),
            &session,
            configuration.ca_public_keys.clone(),
            inputs,
            fci,
        );
        after_kernel(kernel, others)
    }
}

impl Stage {
    fn lost() -> Self {
        Self::Finished(Box::new(Ended::CardLost))
    }

    fn refused(error: TapError) -> Self {
        Self::Finished(Box::new(Ended::BeforeKernel(error)))
    }

    /// The end of a dialogue that does not go on: the kernel's, if it has one or had decided before
    /// (it wrote envelopes), else `undecided`.
    fn cut_short(self, undecided: Ended) -> Box<Ended> {
        match self {
            Self::Finished(ended) => ended,
            Self::Kernel { kernel, .. } => match kernel.stop().into_outcome() {
                // Only a checked cryptogram leaves a record behind.
                Some(outcome) if outcome.data_record.is_some() => {
                    Box::new(Ended::ByKernel(outcome))
                }
                _ => Box::new(undecided),
            },
            _ => Box::new(undecided),
        }
    }
}

impl Selection {
    fn of(chosen: Candidate, others: Vec<Candidate>, unproven: bool) -> Self {
        let command = entry_point::select(&chosen.selected_name);
        Self { command, chosen, others, unproven }
    }
}

/// A warning (`62xx`, `63xx`) still selects (Book B 3.3.3.5).
fn is_selected(answer: &ResponseApdu) -> bool {
    let [first, _] = answer.status.bytes();
    answer.status.is_ok() || matches!(first, 0x62 | 0x63)
}

/// The next application, the first of the list (Book B 3.3.3.2; start C of Book B 3.5).
fn select_next(mut candidates: Vec<Candidate>) -> Stage {
    if candidates.is_empty() {
        return Stage::refused(EntryPointError::NoCommonApplication(Vec::new()).into());
    }
    let chosen = candidates.remove(0);
    Stage::Application(Selection::of(chosen, candidates, false))
}

/// A kernel that says Select Next passes the card on, as long as there is something to pass it to.
fn after_kernel(kernel: Kernel, others: Vec<Candidate>) -> Stage {
    let is_next = match kernel.poll() {
        Action::Transmit(_) => return Stage::Kernel { kernel: Box::new(kernel), others },
        Action::Finished(outcome) => outcome.parameters.status == Status::SelectNext,
    };
    if is_next && !others.is_empty() {
        return select_next(others);
    }
    kernel
        .into_outcome()
        .map_or_else(Stage::lost, |outcome| Stage::Finished(Box::new(Ended::ByKernel(outcome))))
}

fn by_kernel(terminal: Terminal<Armed>, outcome: Outcome, merchant_proven: bool) -> TapEnd {
    let message = outcome.ui_request.map_or(MessageIdentifier::ERROR_OTHER_CARD, |ui| ui.message);
    let state = match (outcome.parameters.status, &outcome.data_record) {
        (Status::OnlineRequest, Some(record)) => {
            let request = AuthorizationRequest::new(terminal.arming(), record);
            let payment = terminal.go_online(request, outcome, merchant_proven);
            return if payment.wants_pin() {
                TapEnd::AskPin(Box::new(PinEntry::new(payment)))
            } else {
                TapEnd::Online(Box::new(payment))
            };
        }
        (Status::Approved, _) => PaymentState::ApprovedOffline,
        (Status::Declined, _) => {
            let reason = decline_reason(&outcome, terminal.configuration().language);
            PaymentState::Declined { authorization: None, reason }
        }
        _ => return TapEnd::Undecided { terminal, message, outcome: Some(outcome), error: None },
    };
    let name = terminal.merchant_name().map(String::from);
    let (terminal, arming) = terminal.disarm();
    let receipt = Receipt::new(&arming, &outcome, state, name, merchant_proven);
    TapEnd::Decided { terminal, receipt, outcome }
}
