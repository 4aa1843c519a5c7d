//! What the issuer's policy asks of the person, in the words of the wallet.

use tapfer_payment_types::policy::{Requirement, UnlockMethod, VerificationPolicy};
use tapfer_wallet::policy::{Ask, DeclineReason, PinStanding};

/// What a payment needs of the person, from nothing to the most.
#[uniffi::remote(Enum)]
pub enum Requirement {
    /// Nothing: a dark phone in a bag may pay.
    Anything,
    /// The screen is on.
    ScreenOn,
    /// The phone is unlocked and its screen on.
    Unlocked,
    /// The wallet's own PIN, for this payment.
    AppPin,
    /// The card's PIN at the terminal.
    TerminalPin,
}

/// How the person unlocks the phone.
#[uniffi::remote(Enum)]
pub enum UnlockMethod {
    /// The phone has no lock at all.
    None,
    /// A pattern drawn on the screen.
    Pattern,
    /// A number.
    Pin,
    /// A password.
    Password,
    /// Finger or face.
    Biometric,
    /// The device does not say.
    Unknown,
}

/// What the app asks the person to do before the next tap.
#[uniffi::remote(Enum)]
pub enum Ask {
    /// Turn the screen on.
    TurnScreenOn,
    /// Unlock the phone.
    Unlock,
    /// Enter the wallet's PIN; the tap within a minute after that pays.
    EnterPin,
    /// Choose a PIN: the issuer wants one, and there is none.
    SetPin,
    /// Log in at the issuer, who then tells the platform.
    LogIn,
}

/// Why the card declines.
#[uniffi::remote(Enum)]
pub enum DeclineReason {
    /// The terminal itself asked for a decline.
    TerminalDeclined,
    /// The payment needs the card's PIN at the terminal, and the terminal takes none.
    TerminalTakesNoPin,
    /// The policy wants to know who is paid, and the terminal has not proven it.
    MerchantUnproven,
    /// Too many wrong PINs.
    PinBlocked,
}

/// How a token stands to its PIN.
#[uniffi::remote(Enum)]
pub enum PinStanding {
    /// None was set yet.
    NotSet,
    /// One is set, and was not entered for the next payment.
    Set,
    /// It was entered, less than a minute ago.
    Entered,
    /// The issuer has blocked it.
    Blocked,
}

/// The part of the issuer's policy that a person sees. Amounts in minor units.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct Policy {
    /// What people call it.
    pub name: String,
    /// Currency of the limit, ISO 4217 letters; any other counts as above the limit.
    pub currency: String,
    /// Up to and including this amount, `up_to_limit` is enough.
    pub limit_minor: i64,
    /// What a payment up to the limit needs at least.
    pub up_to_limit: Requirement,
    /// What any other payment needs.
    pub above_limit: Requirement,
    /// What the person may choose from for payments up to the limit; none means that there is no choice.
    pub person_may_choose: Vec<Requirement>,
    /// How many digits a PIN has.
    pub pin_length: u8,
}

impl From<&VerificationPolicy> for Policy {
    fn from(policy: &VerificationPolicy) -> Self {
        Self {
            name: policy.name.clone(),
            currency: policy.currency.to_string(),
            limit_minor: policy.limit,
            up_to_limit: policy.up_to_limit,
            above_limit: policy.above_limit,
            person_may_choose: policy.person_may_choose.clone(),
            pin_length: policy.pin.length,
        }
    }
}
