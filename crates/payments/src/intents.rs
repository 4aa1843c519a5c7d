//! Payment intents: what a merchant wants to be paid, from the wish to the money.
//!
//! An intent is armed at one terminal for one tap. Whatever comes of the tap, the arming is consumed
//! by it; after a decline the merchant arms again.

use alloc::string::String;
use tapfer_payment_types::money::EMV_MAXIMUM_MINOR;
use tapfer_payment_types::{
    AuthorizationId, MerchantId, Money, PaymentIntentId, TerminalId, Timestamp,
};

use crate::words::words;

words! {
    /// Where a payment intent stands.
    IntentStatus, "payment intent status" {
        /// Waits to be armed at a terminal.
        RequiresPaymentMethod = "requires_payment_method",
        /// Reserved for payments that the merchant confirms after the card was read.
        RequiresConfirmation = "requires_confirmation",
        /// Armed: waits for the tap.
        RequiresAction = "requires_action",
        /// Reserved for decisions that are not taken at once.
        Processing = "processing",
        /// Approved; the money is held until the merchant captures it.
        RequiresCapture = "requires_capture",
        /// Given up; nothing is held.
        Canceled = "canceled",
        /// Paid.
        Succeeded = "succeeded",
    }
}

words! {
    /// When held money goes to the merchant.
    CaptureMethod, "capture method" {
        /// With the approval.
        Automatic = "automatic",
        /// When the merchant says so.
        Manual = "manual",
    }
}

words! {
    /// Whether a terminal still waits for the tap.
    ArmingState, "arming state" {
        /// It waits.
        Armed = "armed",
        /// There was a tap.
        Consumed = "consumed",
    }
}

/// One terminal, ready for one tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arming {
    /// Which terminal.
    pub terminal: TerminalId,
    /// Whether it still waits.
    pub state: ArmingState,
    /// From then on it waits no more, so that a till that died blocks no terminal for good.
    pub expires_at: Timestamp,
}

impl Arming {
    /// Whether the terminal waits at this moment.
    #[must_use]
    pub fn is_waiting(&self, now: Timestamp) -> bool {
        self.state == ArmingState::Armed && now < self.expires_at
    }
}

/// What cannot be done with a payment intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntentError {
    /// The amount is not one that can be paid.
    #[error("an amount to pay is above zero and at most {EMV_MAXIMUM_MINOR} minor units")]
    Amount,
    /// The action does not start from this state.
    #[error("a payment intent that is \"{status}\" cannot be {done}")]
    NotFrom {
        /// Where the intent stands.
        status: IntentStatus,
        /// What was asked for, as a participle.
        done: &'static str,
    },
    /// The arming would be over before it began.
    #[error("the arming expires before it begins; give a time in the future")]
    ArmingExpiry,
    /// More is to be captured than was approved, or nothing.
    #[error("between one minor unit and {approved} can be captured")]
    CaptureAmount {
        /// What was approved.
        approved: Money,
    },
}

/// What becomes of the held money in a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capture {
    /// Goes to the merchant.
    pub captured: Money,
    /// Goes back to the card; may be zero.
    pub released: Money,
}

/// What a merchant wants to be paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentIntent {
    /// Its id.
    pub id: PaymentIntentId,
    /// Who is to be paid.
    pub merchant: MerchantId,
    /// How much.
    pub amount: Money,
    /// The merchant's own word for it.
    pub reference: Option<String>,
    /// When held money goes to the merchant.
    pub capture_method: CaptureMethod,
    /// Where it stands.
    pub status: IntentStatus,
    /// The last terminal it was armed at.
    pub arming: Option<Arming>,
    /// The approval, once there is one.
    pub authorization: Option<AuthorizationId>,
    /// How much went to the merchant, minor units.
    pub captured_minor: i64,
    /// How much of that went back, minor units.
    pub refunded_minor: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

impl PaymentIntent {
    /// A new intent that waits to be armed.
    ///
    /// # Errors
    /// [`IntentError::Amount`].
    pub fn new(
        id: PaymentIntentId,
        merchant: MerchantId,
        amount: Money,
        capture_method: CaptureMethod,
        reference: Option<String>,
        now: Timestamp,
    ) -> Result<Self, IntentError> {
        if !(1..=EMV_MAXIMUM_MINOR).contains(&amount.minor) {
            return Err(IntentError::Amount);
        }
        Ok(Self {
            id,
            merchant,
            amount,
            reference,
            capture_method,
            status: IntentStatus::RequiresPaymentMethod,
            arming: None,
            authorization: None,
            captured_minor: 0,
            refunded_minor: 0,
            created_at: now,
        })
    }

    /// Readies one terminal for one tap. Arming again, there or elsewhere, replaces the first.
    ///
    /// # Errors
    /// [`IntentError::NotFrom`] once it is paid or given up, [`IntentError::ArmingExpiry`].
    pub fn arm(
        mut self,
        terminal: TerminalId,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Self, IntentError> {
        match self.status {
            IntentStatus::RequiresPaymentMethod | IntentStatus::RequiresAction => {}
            status => return Err(IntentError::NotFrom { status, done: "armed" }),
        }
        if expires_at <= now {
            return Err(IntentError::ArmingExpiry);
        }
        self.arming = Some(Arming { terminal, state: ArmingState::Armed, expires_at });
        self.status = IntentStatus::RequiresAction;
        Ok(self)
    }

    /// Whether this terminal waits for the tap at this moment.
    #[must_use]
    pub fn is_armed_at(&self, terminal: TerminalId, now: Timestamp) -> bool {
        self.status == IntentStatus::RequiresAction
            && self
                .arming
                .is_some_and(|arming| arming.terminal == terminal && arming.is_waiting(now))
    }

    /// The terminal waits no more. Without an approval the intent can be armed again.
    #[must_use]
    pub fn disarmed(mut self) -> Self {
        if let Some(arming) = &mut self.arming {
            arming.state = ArmingState::Consumed;
        }
        if self.status == IntentStatus::RequiresAction {
            self.status = IntentStatus::RequiresPaymentMethod;
        }
        self
    }

    /// The intent after its approval: paid, or waiting for the capture.
    ///
    /// # Errors
    /// [`IntentError::NotFrom`] unless it waits for a tap.
    pub fn approved(mut self, authorization: AuthorizationId) -> Result<Self, IntentError> {
        if self.status != IntentStatus::RequiresAction {
            return Err(IntentError::NotFrom { status: self.status, done: "approved" });
        }
        self = self.disarmed();
        self.authorization = Some(authorization);
        match self.capture_method {
            CaptureMethod::Automatic => {
                self.status = IntentStatus::Succeeded;
                self.captured_minor = self.amount.minor;
            }
            CaptureMethod::Manual => self.status = IntentStatus::RequiresCapture,
        }
        Ok(self)
    }

    /// Takes held money for the merchant: all of it, or a part, and the rest goes back to the card.
    ///
    /// # Errors
    /// [`IntentError::NotFrom`] or [`IntentError::CaptureAmount`].
    pub fn capture(mut self, minor: Option<i64>) -> Result<(Self, Capture), IntentError> {
        if self.status != IntentStatus::RequiresCapture {
            return Err(IntentError::NotFrom { status: self.status, done: "captured" });
        }
        let approved = self.amount;
        let captured = minor.unwrap_or(approved.minor);
        let released = approved.minor.checked_sub(captured).filter(|&rest| rest >= 0);
        let (Some(released), true) = (released, captured > 0) else {
            return Err(IntentError::CaptureAmount { approved });
        };
        self.status = IntentStatus::Succeeded;
        self.captured_minor = captured;
        let currency = approved.currency;
        let capture = Capture {
            captured: Money::new(captured, currency),
            released: Money::new(released, currency),
        };
        Ok((self, capture))
    }

    /// Gives the intent up. Returns what was held and goes back to the card: the amount, or zero.
    ///
    /// # Errors
    /// [`IntentError::NotFrom`] once it is paid (that is a refund) or given up.
    pub fn cancel(self) -> Result<(Self, Money), IntentError> {
        let nothing = Money::zero(self.amount.currency);
        let released = match self.status {
            IntentStatus::RequiresCapture => self.amount,
            IntentStatus::RequiresPaymentMethod
            | IntentStatus::RequiresConfirmation
            | IntentStatus::RequiresAction => nothing,
            status @ (IntentStatus::Processing
            | IntentStatus::Canceled
            | IntentStatus::Succeeded) => {
                return Err(IntentError::NotFrom { status, done: "canceled" });
            }
        };
        Ok((self.canceled(), released))
    }

    /// How much of what went to the merchant went back because the approval was undone.
    #[must_use]
    pub const fn reversed_minor(&self) -> i64 {
        match self.status {
            IntentStatus::Canceled => self.captured_minor.saturating_sub(self.refunded_minor),
            _ => 0,
        }
    }

    /// The intent in its last state, with no terminal waiting.
    pub(crate) fn canceled(self) -> Self {
        Self { status: IntentStatus::Canceled, ..self.disarmed() }
    }
}
