//! What goes in and out as plain data.

use std::time::SystemTime;

use tapfer_payment_types::Timestamp;
use tapfer_payment_types::policy::{Requirement, UnlockMethod};
use tapfer_wallet::policy::PinStanding;
use tapfer_wallet::{PaymentAmount, Token, Wallet};

use crate::surroundings::to_app;
use crate::{News, Policy};

/// What the device says about itself with every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct DeviceState {
    /// The screen is on. Android: `PowerManager.isInteractive`.
    pub screen_on: bool,
    /// The person has unlocked the device and it has not been locked since. Android:
    /// `!KeyguardManager.isDeviceLocked`.
    pub unlocked: bool,
    /// How the person unlocks it; the policy may advise against some ways, and a device without a lock
    /// ([`UnlockMethod::None`]) never counts as unlocked.
    pub unlock_method: UnlockMethod,
    /// Result of the device's integrity check as the issuer numbers it; 0 is "no verdict".
    pub integrity_verdict: u8,
}

impl From<DeviceState> for tapfer_wallet::DeviceState {
    fn from(device: DeviceState) -> Self {
        let DeviceState { screen_on, unlocked, unlock_method, integrity_verdict } = device;
        Self { screen_on, unlocked, unlock_method, integrity_verdict }
    }
}

/// What a terminal asks for.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct Amount {
    /// Minor units, for example cents.
    pub minor: i64,
    /// ISO 4217 letters, such as `EUR`; nothing if the terminal named a currency nobody knows.
    pub currency: Option<String>,
    /// Both, such as `12.34 EUR`.
    pub text: String,
}

impl From<PaymentAmount> for Amount {
    fn from(amount: PaymentAmount) -> Self {
        Self {
            minor: amount.minor(),
            currency: amount.money().map(|money| money.currency.to_string()),
            text: amount.to_string(),
        }
    }
}

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct TapReply {
    /// For the terminal, at once: data and status word. What it depends on is stored already.
    pub response: Vec<u8>,
    /// For the app, after that.
    pub news: Vec<News>,
}

/// What a terminal has stored on the card, a loyalty number say.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct DataEnvelope {
    /// Its number, 1 to 10: tags `9F8111` to `9F811A` (EMV Contactless Book C-8).
    pub number: u8,
    /// What is in it: what it means is between card and merchant.
    pub content: Vec<u8>,
}

impl From<(u8, &[u8])> for DataEnvelope {
    fn from((number, content): (u8, &[u8])) -> Self {
        Self { number, content: content.to_vec() }
    }
}

/// One token on the phone, as the app shows it. No key, no number.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct TokenStatus {
    /// Its id at the platform, `tok_...`.
    pub token: String,
    /// What the issuer calls the card.
    pub label: String,
    /// Application identifier, as the app registers it with the system's NFC routing.
    pub application: Vec<u8>,
    /// Whether a terminal is offered this one first.
    pub is_default: bool,
    /// Counter of the last payment begun, 0 before the first.
    pub transaction_counter: u16,
    /// What is left.
    pub readiness: Readiness,
    /// When the person is asked for what.
    pub policy: Policy,
    /// What payments up to the limit need now: the policy's level, or the person's own choice.
    pub level: Requirement,
    /// How it stands with the wallet's PIN.
    pub pin: PinStanding,
    /// How many wrong PINs the platform still forgives, as it last said.
    pub pin_tries_left: Option<u8>,
}

/// What a token can still do before it needs the platform again.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct Readiness {
    /// How many payments its keys are good for.
    pub payments_left: u32,
    /// The largest amount that one payment may have, minor units of the policy's currency.
    pub largest_payment_minor: i64,
    /// Until when; nothing if no payment is possible now.
    pub usable_until: Option<SystemTime>,
    /// Whether the app should fetch keys at the next occasion.
    pub wants_replenishment: bool,
}

impl TokenStatus {
    /// All tokens of a wallet, the default one first.
    pub(crate) fn all(wallet: &Wallet, now: Timestamp) -> Vec<Self> {
        let default = wallet.default_token();
        wallet.tokens().map(|token| Self::of(token, default == Some(token.id()), now)).collect()
    }

    fn of(token: &Token, is_default: bool, now: Timestamp) -> Self {
        let readiness = token.readiness(now);
        Self {
            token: token.id().to_string(),
            label: String::from_utf8_lossy(&token.profile().label).into_owned(),
            application: token.profile().aid.clone(),
            is_default,
            transaction_counter: token.application_transaction_counter(),
            readiness: Readiness {
                payments_left: readiness.payments_left,
                largest_payment_minor: readiness.largest_payment_minor,
                usable_until: readiness.usable_until.and_then(to_app),
                wants_replenishment: readiness.wants_replenishment,
            },
            policy: token.policy().into(),
            level: token.level(),
            pin: token.pin_standing(now),
            pin_tries_left: token.pin_status().map(|status| status.tries_left),
        }
    }
}
