//! One token on the phone: a card, its keys and its counter.

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use tapfer_emv::certificate::IccCertificate;
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::keys::{KeyClass, KeyIndex, SessionKey};
use tapfer_emv::profile::CardProfile;
use tapfer_payment_types::messages::{HexBytes, MerchantTrust, PinStatus};
use tapfer_payment_types::policy::{Requirement, VerificationPolicy};
use tapfer_payment_types::{Timestamp, TokenId};

use crate::clock::Clock;
use crate::configuration::ConfiguredBy;
use crate::data_storage::DataEnvelopes;
use crate::keys::{DrawnKey, LimitedUseKeys, SessionKeys};
use crate::pin::TokenPin;
use crate::policy::{self, Counted, Decision, History, PinStanding, Situation, TerminalDemand};
use crate::secret_bytes::private_key;
use crate::{DeviceState, PaymentAmount};

/// With so few payments left, the wallet asks for more keys.
const LOW_PAYMENTS: u32 = 2;
/// What a terminal can ask for at most (`9F02`, twelve digits). A single-use key has no total of its own.
const LARGEST_AMOUNT: i64 = 999_999_999_999;
/// So long before keys or certificate expire, the wallet asks for new ones: 30 minutes.
const LOW_TIME_MILLIS: i64 = 30 * 60 * 1_000;

/// A token: what the issuer personalised, the keys it granted, and how far they are used.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub(crate) id: TokenId,
    #[serde(with = "profile_message")]
    pub(crate) profile: CardProfile,
    #[serde(with = "private_key")]
    pub(crate) icc_key: PrivateKey,
    pub(crate) icc_certificate: HexBytes,
    pub(crate) icc_certificate_expires_at: Timestamp,
    pub(crate) application_transaction_counter: u16,
    pub(crate) policy: VerificationPolicy,
    pub(crate) chosen_level: Option<Requirement>,
    pub(crate) history: History,
    /// Empty in a store that was written before there was any: then no terminal can prove anything.
    #[serde(default)]
    pub(crate) merchant_trust: MerchantTrust,
    /// Empty in a store that was written before there were any.
    #[serde(default)]
    pub(crate) data_envelopes: DataEnvelopes,
    pub(crate) keys: LimitedUseKeys,
    /// Session keys of class `01`.
    #[serde(default)]
    pub(crate) single_use: SessionKeys,
    /// Session keys of class `02`, under the person's key.
    #[serde(default)]
    pub(crate) verified: SessionKeys,
    #[serde(default)]
    pub(crate) pin: TokenPin,
    /// Whose configuration it obeys. Nothing in a store that was written before there were any.
    #[serde(default)]
    pub(crate) configured_by: Option<ConfiguredBy>,
    /// When policy and merchant trust are too old to go by.
    #[serde(default)]
    pub(crate) configuration_expires_at: Option<Timestamp>,
    /// The latest time that a tap was told since the token's platform last answered.
    #[serde(default)]
    pub(crate) latest: Option<Timestamp>,
}

/// What a token can still do before it needs the platform again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// How many payments without a PIN the keys are good for.
    pub payments_left: u32,
    /// How many payments with the wallet's PIN the keys are good for. Each payment takes one of these
    /// with it, of whatever kind it is.
    pub verified_payments_left: u32,
    /// The largest amount one payment may have, minor units of the policy's currency.
    pub largest_payment_minor: i64,
    /// Until when: the earlier of certificate and last key. `None` if nothing can be paid now.
    pub usable_until: Option<Timestamp>,
    /// Whether keys or certificate last for a little while only: worth telling the person.
    pub runs_low: bool,
    /// Whether the wallet should ask the platform at the next occasion: because it runs low, or to hear whether a
    /// PIN was right.
    pub wants_replenishment: bool,
}

/// What a tap brings to the decision.
#[derive(Clone, Copy)]
pub(crate) struct Tap<'a> {
    pub(crate) amount: PaymentAmount,
    pub(crate) device: &'a DeviceState,
    pub(crate) terminal: TerminalDemand,
    pub(crate) merchant_proven: bool,
    pub(crate) counter: u16,
    pub(crate) clock: Clock,
}

/// A payment that was decided on, and waits for its key.
pub(crate) struct Payment {
    pub(crate) decision: Decision,
    /// What it takes up of a key's total, minor units of the policy's currency.
    pub(crate) charge_minor: i64,
    pub(crate) counter: u16,
    pub(crate) device: DeviceState,
}

impl Token {
    /// Which token this is.
    #[must_use]
    pub const fn id(&self) -> TokenId {
        self.id
    }

    /// The static side of the card.
    #[must_use]
    pub const fn profile(&self) -> &CardProfile {
        &self.profile
    }

    /// The level that the person chose for payments up to the limit, as far as the policy offers it.
    #[must_use]
    pub fn level(&self) -> Requirement {
        self.policy.level(self.chosen_level)
    }

    /// How it stands with the wallet's PIN.
    #[must_use]
    pub fn pin_standing(&self, now: Timestamp) -> PinStanding {
        self.pin.standing(now)
    }

    /// What the platform last said about the PIN.
    #[must_use]
    pub const fn pin_status(&self) -> Option<&PinStatus> {
        self.pin.status()
    }

    /// Whether the person has to log in at the issuer before the next payment.
    #[must_use]
    pub fn login_is_due(&self, now: Timestamp) -> bool {
        self.history.login_is_due(&self.policy, now)
    }

    /// The verification policy in force.
    #[must_use]
    pub const fn policy(&self) -> &VerificationPolicy {
        &self.policy
    }

    /// Which terminals' certificates this token's platform stands behind.
    #[must_use]
    pub const fn merchant_trust(&self) -> &MerchantTrust {
        &self.merchant_trust
    }

    /// Counter of the last transaction begun, 0 before the first.
    #[must_use]
    pub const fn application_transaction_counter(&self) -> u16 {
        self.application_transaction_counter
    }

    /// When the ICC certificate ends.
    #[must_use]
    pub const fn icc_certificate_expires_at(&self) -> Timestamp {
        self.icc_certificate_expires_at
    }

    /// Index of the limited-use key that the next payment uses, if the payment fits into what is left
    /// of that key. The index travels in every cryptogram; it is no secret.
    #[must_use]
    pub fn next_key_index(&self, now: Timestamp) -> Option<KeyIndex> {
        let single_use = self.single_use.index_at(self.next_counter()?, now);
        single_use.or_else(|| self.keys.next_index(now))
    }

    /// What terminals have stored on the card: the numbers of the envelopes that hold something, 1 to 10,
    /// and what is in them.
    pub fn data_envelopes(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.data_envelopes.iter()
    }

    /// What is left at this moment, for a tap: by a clock that was set back, nothing is good again.
    #[must_use]
    pub fn readiness(&self, now: Timestamp) -> Readiness {
        let now = self.clock(now).latest;
        let worn_out = self.application_transaction_counter == u16::MAX;
        let is_dead = worn_out || self.has_expired(now);
        let counter = self.application_transaction_counter;
        let ends = [self.keys.expire_at(now), self.single_use.expire_at(counter, now)];
        let keys_end = if is_dead { None } else { ends.into_iter().flatten().max() };
        let usable_until = keys_end.map(|end| end.min(self.expires_at()));
        let single_use_left = self.single_use.left_after(counter, now);
        let largest_payment_minor = match single_use_left {
            0 => self.keys.largest_payment(now),
            _ => LARGEST_AMOUNT,
        };
        let unverified = self.keys.payments_left(now).saturating_add(single_use_left);
        let payments_left = if is_dead { 0 } else { unverified };
        let verified_left = if is_dead { 0 } else { self.verified.left_after(counter, now) };
        let ends_soon = usable_until.is_none_or(|end| end.millis_since(now) < LOW_TIME_MILLIS);
        let runs_low = payments_left <= LOW_PAYMENTS
            || ends_soon
            || largest_payment_minor < self.largest_payment_wanted()
            || self.wants_verified_keys(verified_left, now);
        Readiness {
            payments_left,
            verified_payments_left: verified_left,
            largest_payment_minor: if is_dead { 0 } else { largest_payment_minor },
            usable_until,
            runs_low: runs_low && !worn_out,
            wants_replenishment: (runs_low || self.history.awaits_confirmation()) && !worn_out,
        }
    }

    /// What one payment should be able to have: all that needs no more than the policy's limit, as far as a
    /// key's total, when it was new, went at all. Fresh keys bring no more than that.
    fn largest_payment_wanted(&self) -> i64 {
        self.policy.limit.min(self.keys.largest_grant())
    }

    fn wants_verified_keys(&self, left: u32, now: Timestamp) -> bool {
        let counter = self.application_transaction_counter;
        let end = self.verified.expire_at(counter, now);
        let is_low =
            left <= LOW_PAYMENTS || end.is_none_or(|end| end.millis_since(now) < LOW_TIME_MILLIS);
        self.pin.generation() > 0 && self.policy.may_require(Requirement::AppPin) && is_low
    }

    /// Whether all keys that the token was given have run out of time.
    pub(crate) fn has_only_expired_keys(&self, now: Timestamp) -> bool {
        let ends = self.keys.ends().chain(self.single_use.ends()).chain(self.verified.ends());
        let mut ends = ends.peekable();
        ends.peek().is_some() && ends.all(|end| now > end)
    }

    /// The transaction begins: its counter is taken, and what belongs to earlier ones is erased.
    pub(crate) fn begin_transaction(&mut self, counter: u16) {
        self.application_transaction_counter = counter;
        self.erase_to(counter.saturating_sub(1));
    }

    pub(crate) fn erase_to(&mut self, counter: u16) {
        self.single_use.erase_to(counter);
        self.verified.erase_to(counter);
    }

    /// Whether there is a key for a payment with this counter, decided like this.
    pub(crate) fn can_pay(
        &self,
        decision: Decision,
        charge_minor: i64,
        counter: u16,
        now: Timestamp,
    ) -> bool {
        match decision.key_class() {
            KeyClass::Verified => self.verified.can_pay(counter, now),
            KeyClass::Unverified => {
                self.single_use.can_pay(counter, now) || self.keys.can_pay(charge_minor, now)
            }
        }
    }

    /// Draws the key for a payment and erases what belongs to its counter in every list. A PIN that was
    /// entered has then served: it is for one payment. Persist the token before the key's work leaves
    /// the phone.
    pub(crate) fn draw(&mut self, payment: &Payment, clock: Clock) -> Option<DrawnKey> {
        let &Payment { decision, charge_minor, counter, device } = payment;
        let drawn = match decision.key_class() {
            KeyClass::Verified => self.draw_verified(counter, clock),
            KeyClass::Unverified => self.draw_unverified(charge_minor, counter, clock.latest),
        }?;
        self.erase_to(counter);
        let reached = decision.reached(&device);
        let payment = Counted { counter, charge_minor, reached, by_pin: false, at: clock.now };
        self.history.count(&self.policy, payment, decision);
        if decision.is_online() {
            self.pin.forget();
        }
        Some(drawn)
    }

    fn draw_verified(&mut self, counter: u16, clock: Clock) -> Option<DrawnKey> {
        let person_key = self.pin.entered_key(clock.now)?;
        let drawn = self.verified.draw(counter, clock.latest)?;
        Some(DrawnKey {
            session_key: person_key.open_session_key(*drawn.block.expose()),
            index: drawn.index,
            derivation_key_index: drawn.derivation_key_index,
        })
    }

    fn draw_unverified(
        &mut self,
        charge_minor: i64,
        counter: u16,
        now: Timestamp,
    ) -> Option<DrawnKey> {
        let Some(drawn) = self.single_use.draw(counter, now) else {
            return self.keys.draw(charge_minor, counter, now);
        };
        Some(DrawnKey {
            session_key: SessionKey::new(*drawn.block.expose()),
            index: drawn.index,
            derivation_key_index: drawn.derivation_key_index,
        })
    }

    /// What becomes of a payment. Chance has its say first, and what it asks for stays due: persist the
    /// token before the decision is told to anyone.
    pub(crate) fn decide(&mut self, tap: &Tap<'_>, rng: &mut impl CryptoRng) -> Decision {
        self.pin.forget_if_over(tap.clock.now);
        self.history.draw_lots(&self.policy, self.application_transaction_counter, rng);
        policy::decide(&self.situation(tap))
    }

    /// What would become of a payment if neither chance nor the terminal had anything to say.
    pub(crate) fn foresee(
        &self,
        amount: PaymentAmount,
        device: &DeviceState,
        clock: Clock,
    ) -> Decision {
        let terminal = TerminalDemand::SILENT;
        let counter = self.next_counter().unwrap_or(u16::MAX);
        policy::decide(&self.situation(&Tap {
            amount,
            device,
            terminal,
            merchant_proven: true,
            counter,
            clock,
        }))
    }

    fn situation<'t>(&'t self, tap: &Tap<'t>) -> Situation<'t> {
        Situation {
            policy: &self.policy,
            chosen_level: self.chosen_level,
            amount: tap.amount,
            device: tap.device,
            history: &self.history,
            terminal: tap.terminal,
            merchant_proven: tap.merchant_proven,
            pin: self.pin.standing(tap.clock.now),
            has_verified_key: self.verified.can_pay(tap.counter, tap.clock.latest),
            now: tap.clock.latest,
        }
    }

    /// Whether certificate or configuration is over. Terminals compare the certificate to the minute (Book
    /// E 5), so the card stops when that minute begins.
    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at()
    }

    /// When the card stops, whatever keys it has.
    fn expires_at(&self) -> Timestamp {
        let certificate = self.icc_certificate_expires_at;
        self.configuration_expires_at.map_or(certificate, |end| end.min(certificate))
    }

    /// The counter of the next transaction. `None` when the last one has been used: for ever.
    pub(crate) fn next_counter(&self) -> Option<u16> {
        self.application_transaction_counter.checked_add(1)
    }

    /// Puts a new certificate in place, with the key it was made for.
    pub(crate) fn set_certificate(&mut self, certificate: &IccCertificate, key: PrivateKey) {
        self.icc_certificate = HexBytes(certificate.encode());
        self.icc_certificate_expires_at = certificate.expires_at();
        self.icc_key = key;
    }
}

/// For `#[serde(with)]`: a profile is stored as it travels, and checked again when it is read.
mod profile_message {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use tapfer_emv::profile::CardProfile;
    use tapfer_payment_types::messages::CardProfileMessage;

    pub(super) fn serialize<S: Serializer>(
        profile: &CardProfile,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        CardProfileMessage::from(profile).serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<CardProfile, D::Error> {
        let message = CardProfileMessage::deserialize(input)?;
        CardProfile::try_from(&message).map_err(de::Error::custom)
    }
}
