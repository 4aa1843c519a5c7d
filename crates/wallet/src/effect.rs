//! What the device has to do after a command, in order.

use alloc::string::String;
use alloc::vec::Vec;

use tapfer_emv::apdu::ResponseApdu;
use tapfer_emv::iad::VerificationMethod;
use tapfer_emv::keys::KeyClass;
use tapfer_emv::merchant::MerchantProven;
use tapfer_payment_types::TokenId;
use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payment_types::policy::UnlockMethod;

use crate::PaymentAmount;
use crate::policy::{Ask, DeclineReason};
use crate::store::Snapshot;

/// One thing for the device to do.
pub enum Effect {
    /// Make this snapshot durable, wholly and atomically, before anything behind it is done.
    Persist(Snapshot),
    /// Send this to the reader.
    Reply(ResponseApdu),
    /// Tell the app.
    Notify(Notification),
}

/// The effects of one command: at most one [`Effect::Persist`], then exactly one
/// [`Effect::Reply`], then any [`Effect::Notify`]. No other order can be made.
#[must_use = "a reader waits for the reply, and the counter has to be persisted before it"]
pub struct Effects(Vec<Effect>);

impl Effects {
    /// An answer that depends on nothing that would have to survive a crash.
    pub(crate) fn reply(response: ResponseApdu) -> Self {
        Self(alloc::vec![Effect::Reply(response)])
    }

    /// An answer that may leave the phone only after the snapshot is durable.
    pub(crate) fn persist_then_reply(snapshot: Snapshot, response: ResponseApdu) -> Self {
        if is_skipped(Control::PersistBeforeReply) {
            return Self::reply(response);
        }
        Self(alloc::vec![Effect::Persist(snapshot), Effect::Reply(response)])
    }

    /// Adds news for the app behind the reply: the reader does not wait for the screen.
    pub(crate) fn and_notify(mut self, news: impl IntoIterator<Item = Notification>) -> Self {
        self.0.extend(news.into_iter().map(Effect::Notify));
        self
    }

    /// Looks at the effects without taking them.
    pub fn iter(&self) -> core::slice::Iter<'_, Effect> {
        self.0.iter()
    }
}

impl IntoIterator for Effects {
    type Item = Effect;
    type IntoIter = alloc::vec::IntoIter<Effect>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Effects {
    type Item = &'a Effect;
    type IntoIter = core::slice::Iter<'a, Effect>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Who asked for a payment, proven by a certificate of the merchant CA and a signature over the payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenMerchant {
    /// The name that the till shows too, 1 to 40 bytes.
    pub name: String,
    /// Merchant identifier `9F16`, without the spaces behind it.
    pub merchant_id: String,
    /// Terminal identification `9F1C`, without the spaces behind it.
    pub terminal_id: String,
}

impl From<&MerchantProven> for ProvenMerchant {
    fn from(proven: &MerchantProven) -> Self {
        // A parsed certificate has printable ASCII only.
        let text = |bytes: &[u8]| String::from(String::from_utf8_lossy(bytes).trim_end());
        let certificate = proven.certificate();
        Self {
            name: String::from(certificate.name.as_str()),
            merchant_id: text(&certificate.merchant),
            terminal_id: text(&certificate.terminal),
        }
    }
}

/// Why a certificate that the merchant CA signed is good no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialFault {
    /// Its time is over.
    #[error("the terminal's certificate has expired")]
    Expired,
    /// The platform has revoked it.
    #[error("the terminal was taken out of service")]
    Revoked,
}

/// News for the app, and through it for the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// A cryptogram for a payment has left the phone. Whether it is approved, the issuer decides.
    PaymentSent {
        /// The token that pays.
        token: TokenId,
        /// What the terminal asked for.
        amount: PaymentAmount,
        /// How the person was verified.
        verification: VerificationMethod,
        /// Application transaction counter of the payment.
        application_transaction_counter: u16,
        /// Who is paid, if the terminal has proven that.
        merchant: Option<ProvenMerchant>,
    },
    /// The card declined a payment.
    PaymentDeclined {
        /// The token that was asked to pay.
        token: TokenId,
        /// What the terminal asked for.
        amount: PaymentAmount,
        /// Why.
        reason: DeclineReason,
        /// Who asked, if the terminal has proven that.
        merchant: Option<ProvenMerchant>,
    },
    /// The terminal came with a certificate that is over, and the tap was refused: warn the person.
    MerchantRefused {
        /// The token that was asked to pay.
        token: TokenId,
        /// The name in the certificate. Nobody has proven that it is the terminal's own.
        name: String,
        /// What is wrong with it.
        fault: CredentialFault,
    },
    /// The terminal's proof does not fit its certificate or what it asks for, or it asks in the end for another
    /// payment than it began with; the tap was refused. Someone pretends to be a merchant, or stands in
    /// between. Warn the person.
    MerchantProofWrong {
        /// The token that was asked to pay.
        token: TokenId,
        /// The name in the certificate, if there was one: perhaps not the one who asked.
        name: Option<String>,
    },
    /// A terminal has read a data envelope.
    DataRead {
        /// The token whose envelope it is.
        token: TokenId,
        /// Number of the envelope, 1 to 10.
        envelope: u8,
    },
    /// A terminal has written a data envelope.
    DataWritten {
        /// The token whose envelope it is.
        token: TokenId,
        /// Number of the envelope, 1 to 10.
        envelope: u8,
    },
    /// The payment waits for the person: ask, and let the phone be tapped again.
    PersonNeeded {
        /// The token that was asked to pay.
        token: TokenId,
        /// What the terminal asked for.
        amount: PaymentAmount,
        /// What to ask for.
        ask: Ask,
        /// Who asks, if the terminal has proven that.
        merchant: Option<ProvenMerchant>,
    },
    /// The payment went by the phone's lock, and the issuer advises against the way this phone is unlocked.
    DiscouragedUnlock {
        /// The token that pays.
        token: TokenId,
        /// How the phone is unlocked.
        method: UnlockMethod,
    },
    /// The tap ended before a payment: the policy wants the screen on.
    ScreenOff {
        /// The token that was asked to pay.
        token: TokenId,
    },
    /// Keys or certificate last for a little while only: replenish at the next occasion.
    ReplenishSoon {
        /// The token that needs keys.
        token: TokenId,
    },
    /// Whether the PIN of an earlier payment was right only the platform knows: replenish at the next occasion to
    /// hear it. Nothing that the person has to be told.
    PinUnconfirmed {
        /// The token whose PIN it is.
        token: TokenId,
    },
    /// No key is left that could pay this amount now: replenish, then tap again.
    NoKeysLeft {
        /// The token that needs keys.
        token: TokenId,
    },
    /// The PIN was entered for a payment that needs it, and no key under it is left: replenish, then tap again.
    NoPinKeysLeft {
        /// The token that needs keys.
        token: TokenId,
    },
    /// The ICC certificate has expired: replenish, then tap again.
    CertificateExpired {
        /// The token that needs a certificate.
        token: TokenId,
    },
    /// The token has used its last transaction counter and will never pay again: ask the issuer for
    /// a new one.
    CounterExhausted {
        /// The token that is worn out.
        token: TokenId,
    },
}

impl Notification {
    /// No key of this class is left for a payment.
    pub(crate) const fn no_keys(token: TokenId, class: KeyClass) -> Self {
        match class {
            KeyClass::Unverified => Self::NoKeysLeft { token },
            KeyClass::Verified => Self::NoPinKeysLeft { token },
        }
    }
}
