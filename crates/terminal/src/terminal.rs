//! The terminal above entry point and kernel: armed for one payment, it takes one tap after another
//! until that payment is decided.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use tapfer_emv::certificate::CaPublicKey;
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::{Currency, Money, PaymentIntentId, Timestamp};

use crate::arming::{Arming, ArmingError};
use crate::authorization::{AuthorizationRequest, HostDecision, PaymentState, Receipt};
use crate::entry_point::{Application, Indicators};
use crate::kernel8::{
    CardholderVerification, ConfigurationError, KernelConfiguration, MessageIdentifier, Outcome,
    Session,
};
use crate::merchant_proof::MerchantCredential;
use crate::messages::Language;
use crate::tap::{Tap, TapEnd, TapError};

/// What a terminal is set up with.
#[derive(Debug, Clone)]
pub struct TerminalConfiguration {
    /// The applications it takes.
    pub applications: Vec<Application>,
    /// Certification authorities it trusts.
    pub ca_public_keys: Vec<CaPublicKey>,
    /// Who it says it is, to phones that ask. `None`: it proves nothing.
    pub merchant: Option<MerchantCredential>,
    /// What it speaks to people whose card names no language that it has.
    pub language: Language,
}

impl TerminalConfiguration {
    /// These applications without rules of their own, with limits in this currency; these authorities,
    /// no merchant's certificate, English.
    #[must_use]
    pub fn new(
        applications: impl IntoIterator<Item = KernelConfiguration>,
        currency: Currency,
        ca_public_keys: Vec<CaPublicKey>,
    ) -> Self {
        let applications = applications.into_iter();
        Self {
            applications: applications.map(|kernel| Application::new(kernel, currency)).collect(),
            ca_public_keys,
            merchant: None,
            language: Language::English,
        }
    }
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

/// A terminal that asks no card any more, and why.
#[derive(Debug)]
pub struct NotTapped {
    /// The terminal, disarmed.
    pub terminal: Terminal<Unarmed>,
    /// What is not paid.
    pub payment_intent: PaymentIntentId,
    /// Why.
    pub error: NotTappedError,
}

/// Why no card was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTappedError {
    /// Nobody came in time.
    #[error("the terminal was armed until {0}: arm it again for this payment")]
    Expired(Timestamp),
    /// The session could not be set up.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
}

impl Terminal<Unarmed> {
    /// A terminal as it is switched on.
    #[must_use]
    pub const fn new(configuration: TerminalConfiguration) -> Self {
        Self { configuration, state: Unarmed(()) }
    }

    /// How it is set up.
    #[must_use]
    pub const fn configuration(&self) -> &TerminalConfiguration {
        &self.configuration
    }

    /// Puts a renewed certificate into its place. Only between payments.
    pub fn replace_credential(&mut self, merchant: Option<MerchantCredential>) {
        self.configuration.merchant = merchant;
    }

    /// Arms for one payment, after pre-processing its amount for every application (Book B 3.1).
    ///
    /// # Errors
    /// [`NotArmed`] if no application takes the amount, with the reason of the first. The arming is
    /// spent all the same.
    pub fn arm(self, arming: Arming) -> Result<Terminal<Armed>, Box<NotArmed>> {
        match self.refusal(arming.amount()) {
            None => Ok(Terminal { configuration: self.configuration, state: Armed { arming } }),
            Some(error) => Err(Box::new(NotArmed { terminal: self, error })),
        }
    }

    /// Why no application at all takes this amount.
    fn refusal(&self, amount: Money) -> Option<ArmingError> {
        let mut refusals = self
            .configuration
            .applications
            .iter()
            .map(|application| application.pre_process(amount).not_allowed);
        let first = refusals.next().unwrap_or(Some(ArmingError::NoApplication))?;
        refusals.all(|refusal| refusal.is_some()).then_some(first)
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

    /// The first instant at which it asks no card any more.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.state.arming.expires_at()
    }

    /// What the merchant's certificate says the merchant is called: what phone and till both show.
    #[must_use]
    pub fn merchant_name(&self) -> Option<&str> {
        self.configuration.merchant.as_ref().map(|merchant| merchant.certificate.name.as_str())
    }

    /// What pre-processing found, in the order of the applications. It stays as it is until the payment
    /// is over (Book B 3.5, start B).
    pub fn pre_processing(&self) -> impl Iterator<Item = (&Application, Indicators)> {
        let applications = self.configuration.applications.iter();
        applications.map(|application| (application, application.pre_process(self.amount())))
    }

    /// The till gave up.
    #[must_use]
    pub fn cancel(self) -> Terminal<Unarmed> {
        self.disarm().0
    }

    /// A card is in the field.
    ///
    /// # Errors
    /// [`NotTapped`] if the arming has expired. The terminal is disarmed then.
    pub fn tap(self, now: Timestamp) -> Result<Tap, Box<NotTapped>> {
        let arming = &self.state.arming;
        let session = if arming.has_expired(now) {
            Err(NotTappedError::Expired(arming.expires_at()))
        } else {
            Session::purchase(arming.amount(), now).map_err(NotTappedError::from)
        };
        match session {
            Ok(mut session) => {
                if let Some(merchant) = &self.configuration.merchant {
                    merchant.name_in(&mut session);
                }
                Ok(Tap::begin(self, session, now))
            }
            Err(error) => {
                let payment_intent = self.payment_intent();
                let terminal = self.cancel();
                Err(Box::new(NotTapped { terminal, payment_intent, error }))
            }
        }
    }

    /// The reader sees more than one card and speaks to none of them (Book D 9.3). Stays armed.
    #[must_use]
    pub const fn several_cards(self) -> TapEnd {
        TapEnd::Undecided {
            terminal: self,
            message: MessageIdentifier::PRESENT_ONE_CARD,
            outcome: None,
            error: Some(TapError::SeveralCards),
        }
    }

    pub(crate) const fn configuration(&self) -> &TerminalConfiguration {
        &self.configuration
    }

    pub(crate) fn disarm(self) -> (Terminal<Unarmed>, Arming) {
        (Terminal::new(self.configuration), self.state.arming)
    }

    /// The platform has to decide: the arming is spent on the question.
    pub(crate) fn go_online(
        self,
        request: AuthorizationRequest,
        outcome: Outcome,
        merchant_proven: bool,
    ) -> OnlinePayment {
        let (terminal, arming) = self.disarm();
        OnlinePayment { terminal, arming, request, outcome, merchant_proven }
    }

    pub(crate) const fn arming(&self) -> &Arming {
        &self.state.arming
    }
}

/// A payment that waits for the platform. The terminal behind it is disarmed already: whatever
/// becomes of the answer, the same arming asks no second card.
#[derive(Debug)]
pub struct OnlinePayment {
    terminal: Terminal<Unarmed>,
    arming: Arming,
    request: AuthorizationRequest,
    outcome: Outcome,
    merchant_proven: bool,
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

    /// The card left it to its issuer to check the PIN.
    pub(crate) fn wants_pin(&self) -> bool {
        self.outcome.parameters.cardholder_verification == CardholderVerification::OnlinePin
    }

    pub(crate) fn set_online_pin(&mut self, sealed: SealedPayload) {
        self.request.online_pin = Some(sealed);
    }

    /// What the merchant's certificate says the merchant is called.
    fn merchant_name(&self) -> Option<String> {
        let merchant = self.terminal.configuration.merchant.as_ref()?;
        Some(merchant.certificate.name.as_str().into())
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
        self.end(state)
    }

    pub(crate) fn end(self, state: PaymentState) -> (Terminal<Unarmed>, Receipt) {
        let name = self.merchant_name();
        let receipt = Receipt::new(&self.arming, &self.outcome, state, name, self.merchant_proven);
        (self.terminal, receipt)
    }
}
