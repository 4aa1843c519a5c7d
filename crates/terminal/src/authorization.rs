//! Going online: what the platform is asked, what it may answer, and what is left of a payment.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::{AuthorizationId, Money, PaymentIntentId};
use zeroize::Zeroizing;

use crate::arming::Arming;
use crate::entry_point::printable;
use crate::kernel8::{CardholderVerification, DataRecord, Outcome, pan_digits};

/// Field 55 and the card's own data, in this order, as far as the data record has them.
const CHIP_DATA: &[Tag] = &[
    tags::AMOUNT_AUTHORIZED,
    tags::AMOUNT_OTHER,
    tags::TERMINAL_COUNTRY_CODE,
    tags::TERMINAL_VERIFICATION_RESULTS,
    tags::TRANSACTION_CURRENCY_CODE,
    tags::TRANSACTION_DATE,
    tags::TRANSACTION_TYPE,
    tags::UNPREDICTABLE_NUMBER,
    tags::APPLICATION_INTERCHANGE_PROFILE,
    tags::APPLICATION_TRANSACTION_COUNTER,
    tags::ISSUER_APPLICATION_DATA,
    tags::APPLICATION_CRYPTOGRAM,
    tags::CRYPTOGRAM_INFORMATION_DATA,
    tags::CVM_RESULTS,
    tags::TERMINAL_CAPABILITIES,
    tags::TERMINAL_TYPE,
    tags::APPLICATION_PAN,
    tags::PAN_SEQUENCE_NUMBER,
    tags::APPLICATION_EXPIRATION_DATE,
    tags::DF_NAME,
];

/// The one question a tap puts to the platform.
///
/// It may be sent again, with the same idempotency key, until there is an answer; it is not made
/// twice. Prints without card data.
pub struct AuthorizationRequest {
    payment_intent: PaymentIntentId,
    amount: Money,
    chip_data: Zeroizing<Vec<u8>>,
    pub(crate) online_pin: Option<SealedPayload>,
}

impl AuthorizationRequest {
    pub(crate) fn new(arming: &Arming, record: &DataRecord) -> Self {
        let mut chip_data = Zeroizing::new(Vec::new());
        for tag in CHIP_DATA {
            if let Some(value) = record.get(*tag) {
                tlv::write(&mut chip_data, *tag, value);
            }
        }
        let (payment_intent, amount) = (arming.payment_intent(), arming.amount());
        Self { payment_intent, amount, chip_data, online_pin: None }
    }

    /// What is paid for.
    #[must_use]
    pub const fn payment_intent(&self) -> PaymentIntentId {
        self.payment_intent
    }

    /// How much, as the till said. The card signed the same amount: it is in the chip data.
    #[must_use]
    pub const fn amount(&self) -> Money {
        self.amount
    }

    /// TLVs, one after another: card data, for the platform only.
    #[must_use]
    pub fn chip_data(&self) -> &[u8] {
        &self.chip_data
    }

    /// The PIN that the cardholder entered, sealed to her issuer; `None` if the card wanted none.
    #[must_use]
    pub const fn online_pin(&self) -> Option<&SealedPayload> {
        self.online_pin.as_ref()
    }
}

impl fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationRequest")
            .field("payment_intent", &self.payment_intent)
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
}

/// What the platform said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostDecision {
    /// The payment is good.
    Approved {
        /// The transaction id.
        authorization: AuthorizationId,
    },
    /// It is not.
    Declined {
        /// The transaction id, if the platform gave one.
        authorization: Option<AuthorizationId>,
        /// Why, in words for the merchant.
        reason: String,
    },
    /// There was no answer. The payment may or may not have been made: ask for its status.
    NoAnswer,
}

/// How a payment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentState {
    /// Approved by the platform, under this transaction id.
    Approved(AuthorizationId),
    /// Approved by card and terminal, which are set up to need no platform: nobody has booked it yet.
    /// A terminal set up by [`KernelConfiguration::attended`](crate::kernel8::KernelConfiguration::attended)
    /// never ends like this.
    ApprovedOffline,
    /// Declined by the card, the kernel or the platform, and why.
    Declined {
        /// The transaction id, if the platform decided.
        authorization: Option<AuthorizationId>,
        /// Why, in words for the merchant.
        reason: String,
    },
    /// The card wanted the PIN, and nobody entered it: the platform was not asked.
    PinCancelled,
    /// Nobody knows yet: the platform was asked and did not answer.
    Unknown,
}

/// What the merchant keeps. No card number, no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What was paid for.
    pub payment_intent: PaymentIntentId,
    /// How much.
    pub amount: Money,
    /// Who is paid: the name in the terminal's certificate, which a phone that asked for the proof has
    /// shown. `None` if the terminal has no certificate.
    pub merchant: Option<String>,
    /// The terminal proved this name and amount to the phone.
    pub merchant_proven: bool,
    /// How it ended.
    pub state: PaymentState,
    /// Name of the card's application.
    pub application: Option<String>,
    /// Last four digits of the number the card showed.
    pub last_four: Option<String>,
    /// How the person was verified.
    pub verification: CardholderVerification,
}

impl Receipt {
    pub(crate) fn new(
        arming: &Arming,
        outcome: &Outcome,
        state: PaymentState,
        merchant: Option<String>,
        merchant_proven: bool,
    ) -> Self {
        let pan = outcome.data.get(tags::APPLICATION_PAN).map(pan_digits);
        let last_four = pan.and_then(|digits| {
            let start = digits.len().checked_sub(4)?;
            digits.get(start..).map(ToString::to_string)
        });
        Self {
            payment_intent: arming.payment_intent(),
            amount: arming.amount(),
            merchant,
            merchant_proven,
            state,
            application: outcome.data.get(tags::APPLICATION_LABEL).and_then(printable),
            last_four,
            verification: outcome.parameters.cardholder_verification,
        }
    }
}
