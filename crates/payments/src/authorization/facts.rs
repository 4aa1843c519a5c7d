//! Everything a decision may look at.

use alloc::sync::Arc;
use alloc::vec::Vec;
use tapfer_emv::cryptogram::CryptogramInput;
use tapfer_emv::keys::KeyClass;
use tapfer_emv::merchant::{AcquirerId, MerchantIdentity};
use tapfer_emv::tvr::TerminalVerificationResults;
use tapfer_payment_types::messages::charge_minor;
use tapfer_payment_types::policy::PinRules;
use tapfer_payment_types::{
    AuthorizationId, Currency, Money, PaymentIntentId, TerminalId, Timestamp,
};

use crate::cards::Card;
use crate::integrity::{IntegrityPolicy, Verdict};
use crate::intents::PaymentIntent;
use crate::issuers::Issuer;
use crate::keys::GrantedKey;
use crate::merchants::Merchant;
use crate::pins::{CardPin, PersonKeyState, VerificationHistory};
use crate::policies::IssuedPolicy;
use crate::terminals::Terminal;
use crate::tokens::Token;

/// What the terminal presents, read from chip data; nothing of it is to be believed before the
/// cryptogram was verified. What the card signed stands in one place, so that what is judged can be
/// compared as a whole with what was proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PresentedPayment {
    /// What the card is said to have signed.
    pub input: CryptogramInput,
    /// `9F26`, the cryptogram over it.
    pub cryptogram: [u8; 8],
    /// `95` as the terminal found it in the end. Not signed: the card had answered by then.
    pub tvr_as_found: TerminalVerificationResults,
    /// `84` and `9F06`, whichever the terminal sent. Not signed.
    pub aids: Vec<Vec<u8>>,
}

impl PresentedPayment {
    /// `9F36`.
    #[must_use]
    pub const fn application_transaction_counter(&self) -> u16 {
        self.input.application_transaction_counter
    }

    /// Whether the card signed that it declines. The cryptogram information data is not signed: whoever
    /// carries the cryptogram could pass a decline on as a request.
    #[must_use]
    pub fn is_declined_by_card(&self) -> bool {
        self.input.application_data().is_some_and(|data| data.results.declined)
    }

    /// Which terminal proved to the phone that it asks for this payment, as far as the card says.
    #[must_use]
    pub fn proven_merchant(&self) -> Option<MerchantIdentity> {
        self.input.application_data().and_then(|data| data.merchant_identity)
    }

    /// How much of its key's total it takes up, as the phone counts it. What is no amount moves no
    /// money.
    #[must_use]
    pub fn charge_minor(&self, issuer: Currency) -> i64 {
        let declined = self.is_declined_by_card();
        match (self.input.amount_minor(), self.input.currency_numeric()) {
            (Some(amount), Some(currency)) => charge_minor(issuer, amount, currency, declined),
            _ => 0,
        }
    }
}

/// A counter that is spent: by which cryptogram, and in which authorization.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpentCounter {
    /// The authorization.
    pub authorization: AuthorizationId,
    /// For which intent.
    pub payment_intent: PaymentIntentId,
    /// At which terminal.
    pub terminal: TerminalId,
    /// The cryptogram; absent where it was spent before cryptograms were kept.
    pub cryptogram: Option<[u8; 8]>,
    /// Whether the cryptogram was right. A wrong one under the person's key is remembered as well.
    pub verified: bool,
}

/// What is known about the token that was presented.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenFacts {
    /// The token itself.
    pub token: Arc<Token>,
    /// The card behind it.
    pub card: Arc<Card>,
    /// Who gave it out.
    pub issuer: Arc<Issuer>,
    /// What spent the presented counter, if it is spent.
    pub counter_spent: Option<SpentCounter>,
    /// The highest counter that came with a right cryptogram.
    pub highest_counter: Option<u16>,
    /// The key that the application data names, if this token was given it.
    pub key: Option<GrantedKey>,
    /// The version of the issuer's policy that the application data names, if there is one.
    pub policy: Option<Arc<IssuedPolicy>>,
    /// How many wrong PINs the issuer forgives, by the newest version of its policy.
    pub pin_rules: PinRules,
    /// How the person was verified so far.
    pub history: VerificationHistory,
    /// When the person last logged in at the issuer, or was enrolled: when the phone got its first keys.
    pub logged_in_at: Timestamp,
    /// The person's key, if the phone has set a PIN.
    pub person_key: Option<PersonKeyState>,
    /// The card's PIN for terminals, if it has one.
    pub card_pin: Option<CardPin>,
    /// What the card can spend.
    pub available: Money,
    /// What the issuer asks of phones, if anything.
    pub integrity_policy: Option<Arc<IntegrityPolicy>>,
    /// What was found out about this phone last.
    pub integrity_verdict: Option<Verdict>,
}

impl TokenFacts {
    /// The policy that the application data names, if a payment with the named key may be judged by it now.
    #[must_use]
    pub fn policy_in_force(&self, now: Timestamp) -> Option<&IssuedPolicy> {
        let granted_at = self.key?.granted_at;
        let keys = &self.issuer.key_policy;
        self.policy.as_deref().filter(|policy| policy.is_acceptable(keys, granted_at, now))
    }

    /// Whether the counter was spent by another cryptogram that was right. A phone writes its counter down before it
    /// signs, so one phone makes one cryptogram under a counter; two are made by two copies of it.
    #[must_use]
    pub fn is_copied(&self, presented: &PresentedPayment) -> bool {
        let spent_by = self.counter_spent.filter(|spent| spent.verified);
        let spent_by = spent_by.and_then(|spent| spent.cryptogram);
        spent_by.is_some_and(|cryptogram| cryptogram != presented.cryptogram)
    }

    /// Whether the presented counter is gone for what was presented. A wrong PIN uses up its own cryptogram
    /// under the person's key and no other: anybody can send a wrong one in a phone's name, and what the phone
    /// itself signs under that counter must not be taken for a replay.
    #[must_use]
    pub fn is_spent_for(&self, presented: &PresentedPayment) -> bool {
        let claims = presented.input.application_data();
        let by_person = claims.is_some_and(|data| data.results.key_class == KeyClass::Verified);
        self.counter_spent.is_some_and(|spent| {
            spent.verified || (by_person && spent.cryptogram == Some(presented.cryptogram))
        })
    }
}

/// What is known about the terminal that asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TerminalFacts {
    /// The terminal, as authenticated.
    pub terminal: Arc<Terminal>,
    /// Whose it is.
    pub merchant: Arc<Merchant>,
    /// Who certified it.
    pub acquirer: AcquirerId,
}

impl TerminalFacts {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> TerminalId {
        self.terminal.id
    }

    /// How a phone names it to which it proved itself.
    #[must_use]
    pub fn identity(&self) -> MerchantIdentity {
        let terminal = self.terminal.identification.bytes();
        MerchantIdentity::of(&self.acquirer, &self.merchant.identifier(), &terminal)
    }
}

/// Every fact a decision needs, loaded once, in one snapshot. What seldom changes is shared with whoever loaded it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// What was presented.
    pub presented: Arc<PresentedPayment>,
    /// The terminal that asks.
    pub terminal: TerminalFacts,
    /// What the merchant wants to be paid.
    pub intent: Arc<PaymentIntent>,
    /// The token, if the presented number is one.
    pub token: Option<TokenFacts>,
}
