//! The wallet's own judgement: what becomes of a payment, and what the person is asked for it.
//!
//! [`decide`] is a pure function of a [`Situation`]. What chance has a say in is drawn before
//! ([`History::draw_lots`]) and stays in the history until it is satisfied, so that tapping again does
//! not throw the dice again. The same [`VerificationPolicy::expected`] that is asked here is asked by
//! the platform.

mod history;
mod terminal_demand;

use tapfer_emv::iad::VerificationMethod;
use tapfer_emv::keys::KeyClass;
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::messages::charge_minor;
use tapfer_payment_types::policy::{Requirement, Shown, VerificationPolicy};

pub use history::{Confirmation, Counted, History};
pub use terminal_demand::TerminalDemand;

use crate::{DeviceState, PaymentAmount};

/// All that decides about a payment.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The issuer's policy.
    pub policy: &'a VerificationPolicy,
    /// The level the person chose for payments up to the limit.
    pub chosen_level: Option<Requirement>,
    /// What the terminal asks for.
    pub amount: PaymentAmount,
    /// What the device says about itself.
    pub device: &'a DeviceState,
    /// What was paid since the person was last asked.
    pub history: &'a History,
    /// Which kinds of verification the terminal takes (`9F1D`).
    pub terminal: TerminalDemand,
    /// Whether the terminal has proven whose it is.
    pub merchant_proven: bool,
    /// How it stands with the wallet's PIN.
    pub pin: PinStanding,
    /// Whether a key under the PIN is left for this payment.
    pub has_verified_key: bool,
    /// The time now, UTC.
    pub now: Timestamp,
}

/// How a token stands to its PIN at the moment of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinStanding {
    /// None was set yet.
    NotSet,
    /// One is set, and was not entered for this payment.
    Set,
    /// It was entered for this payment, less than a minute ago.
    Entered,
    /// The issuer has blocked it.
    Blocked,
}

/// What the card does with a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Ask the issuer online.
    Online {
        /// How the person was verified.
        method: VerificationMethod,
        /// Which class of key signs.
        key_class: KeyClass,
    },
    /// Ask the issuer online, and let the terminal ask for the card's PIN. A key of class `01` signs.
    AskAtTerminal,
    /// Not now: the person has to do something first. The card declines with "see phone", the app asks,
    /// and the next tap pays.
    AskPerson(Ask),
    /// Decline.
    Decline(DeclineReason),
}

/// What the app asks the person to do before the next tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ask {
    /// Turn the screen on.
    #[error("turn the screen on and tap again")]
    TurnScreenOn,
    /// Unlock the phone; one without a lock has to get one.
    #[error(
        "this payment needs you: unlock the phone (if it has no lock, set one up first) and tap again"
    )]
    Unlock,
    /// Enter the wallet's PIN.
    #[error("this payment needs your PIN: enter it in the app and tap again within a minute")]
    EnterPin,
    /// Choose a PIN: the issuer wants one, and there is none.
    #[error("this payment needs a PIN and you have none yet: choose one in the app")]
    SetPin,
    /// Log in at the issuer, who then tells the platform.
    #[error("your issuer asks you to log in again before you pay on")]
    LogIn,
}

/// Why the card declines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeclineReason {
    /// The terminal itself asked for a decline.
    #[error("the terminal declined the payment")]
    TerminalDeclined,
    /// The payment needs the card's PIN at the terminal, and the terminal takes none.
    #[error("this payment needs the PIN at the terminal, and this terminal takes none")]
    TerminalTakesNoPin,
    /// The policy wants to know who is paid.
    #[error("the terminal has not proven whose it is, and your issuer asks for that")]
    MerchantUnproven,
    /// Too many wrong PINs.
    #[error("the PIN is blocked: ask your issuer for a reset")]
    PinBlocked,
}

impl Situation<'_> {
    /// What this payment needs of the person: the most that amount, history, chance, the person's own
    /// choice and the terminal ask for.
    #[must_use]
    pub fn requirement(&self) -> Requirement {
        let (minor, currency) = (self.amount.minor(), self.amount.currency_numeric());
        let expected = self.policy.expected(minor, currency, self.history.since_verified());
        expected
            .max(self.policy.level(self.chosen_level))
            .max(self.history.asks_for(self.policy))
            .max(self.terminal.asks_for())
    }

    /// Whether a key under the PIN signs. A PIN that was entered is used, whether it was needed or not: the person
    /// wanted it so. But where nobody needs it and no key under it is left, the payment does not fail for that;
    /// and beside a PIN at the terminal it has nothing to sign.
    fn pin_signs(&self, requirement: Requirement) -> bool {
        let has_use = match requirement {
            Requirement::AppPin => true,
            Requirement::TerminalPin => false,
            _ => self.has_verified_key,
        };
        self.pin == PinStanding::Entered && has_use
    }

    /// What the phone shows. Whether a PIN was right, the phone can't tell: one that will not sign shows nothing,
    /// or any digits at all would stand for the lock.
    fn shown(&self, pin_signs: bool) -> Shown {
        Shown {
            screen_on: self.device.screen_on,
            unlocked: self.device.is_unlocked(),
            app_pin: pin_signs,
            terminal_pin: false,
        }
    }

    /// A PIN at the terminal leaves open what the phone must be like, so this holds beside it: the
    /// screen and the lock as the person's level wants them.
    fn device_floor(&self) -> Requirement {
        self.policy.level(self.chosen_level).min(Requirement::Unlocked)
    }
}

/// Decides on a payment that the terminal wants to go through.
///
/// Asked first is what no PIN mends: a login that is due, a merchant that must be proven. Then the phone
/// itself, then the person.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Decision {
    let Situation { policy, amount, .. } = situation;
    if situation.history.login_is_due(policy, situation.now) {
        return Decision::AskPerson(Ask::LogIn);
    }
    let demands_proof = policy.demands_merchant_proof(amount.minor(), amount.currency_numeric());
    if demands_proof && !situation.merchant_proven {
        return Decision::Decline(DeclineReason::MerchantUnproven);
    }
    let requirement = situation.requirement();
    let of_the_phone = match requirement {
        Requirement::TerminalPin => situation.device_floor(),
        other => other,
    };
    let pin_signs = situation.pin_signs(requirement);
    if let Some(decision) = lacking(situation, of_the_phone, pin_signs) {
        return decision;
    }
    match requirement {
        Requirement::TerminalPin if situation.terminal.takes_pin() => Decision::AskAtTerminal,
        Requirement::TerminalPin => Decision::Decline(DeclineReason::TerminalTakesNoPin),
        _ => online(requirement, pin_signs),
    }
}

/// What speaks against paying now, if the phone has to show `wanted`.
fn lacking(situation: &Situation<'_>, wanted: Requirement, pin_signs: bool) -> Option<Decision> {
    let is_dark = !situation.device.screen_on && wanted > Requirement::Anything;
    if is_dark {
        return Some(Decision::AskPerson(Ask::TurnScreenOn));
    }
    if situation.shown(pin_signs).reached() >= wanted {
        return None;
    }
    Some(match (wanted, situation.pin) {
        (Requirement::AppPin, PinStanding::NotSet) => Decision::AskPerson(Ask::SetPin),
        (Requirement::AppPin, PinStanding::Blocked) => Decision::Decline(DeclineReason::PinBlocked),
        (Requirement::AppPin, _) => Decision::AskPerson(Ask::EnterPin),
        _ => Decision::AskPerson(Ask::Unlock),
    })
}

fn online(requirement: Requirement, pin_signs: bool) -> Decision {
    if pin_signs {
        return Decision::Online { method: VerificationMethod::Pin, key_class: KeyClass::Verified };
    }
    let method = match requirement {
        Requirement::Unlocked => VerificationMethod::DeviceUnlock,
        _ => VerificationMethod::None,
    };
    Decision::Online { method, key_class: KeyClass::Unverified }
}

impl Decision {
    /// Whether the card asks the issuer, so that money may move.
    #[must_use]
    pub const fn is_online(self) -> bool {
        matches!(self, Self::Online { .. } | Self::AskAtTerminal)
    }

    /// What such a payment shows of phone and person, as far as the phone can tell: whether a PIN was right
    /// it never knows. The platform reads the same from the issuer application data.
    #[must_use]
    pub fn reached(self, device: &DeviceState) -> Requirement {
        let by_lock = matches!(self, Self::Online { method: VerificationMethod::DeviceUnlock, .. });
        let (screen_on, unlocked) = (device.screen_on, by_lock && device.is_unlocked());
        Shown { screen_on, unlocked, ..Shown::default() }.reached()
    }

    /// Which class of key signs. A decline, too, is signed.
    #[must_use]
    pub const fn key_class(self) -> KeyClass {
        match self {
            Self::Online { key_class, .. } => key_class,
            _ => KeyClass::Unverified,
        }
    }
}

/// How much of a key's total a payment takes up, minor units of the policy's currency: as the
/// platform counts it.
#[must_use]
pub const fn charge(policy: &VerificationPolicy, amount: PaymentAmount, decision: Decision) -> i64 {
    charge_minor(policy.currency, amount.minor(), amount.currency_numeric(), !decision.is_online())
}
