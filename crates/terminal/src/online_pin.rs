//! The PIN at the terminal (`docs/adr/0011-policies-and-the-pin-at-the-terminal.md`).
//!
//! The card left it to its issuer to verify the person (`9F8102` = `02`, "online PIN"): the tap is over, the
//! person enters the PIN, and it travels beside the cryptogram, sealed to the issuer and bound to this
//! payment at this terminal. The core keeps no PIN.

use alloc::boxed::Box;
use alloc::format;

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable, Kem, OpModeS, Serializable};
use rand_core::CryptoRng;
use tapfer_emv::certificate::IssuerCertificate;
use tapfer_emv::tags;
use tapfer_payment_types::messages::{HexBytes, SealedPayload};
use tapfer_payment_types::pin::ONLINE_PIN_INFO;
use tapfer_payment_types::{Money, PaymentIntentId, Pin, TerminalId};

use crate::authorization::{PaymentState, Receipt};
use crate::kernel8::{MessageIdentifier, Outcome};
use crate::messages::Language;
use crate::terminal::{OnlinePayment, Terminal, Unarmed};

type Kem256 = DhP256HkdfSha256;

/// An issuer's key to which the PINs of its cards are sealed (HPKE, RFC 9180, base mode).
pub struct PinRecipient {
    issuer_identifier: [u8; 5],
    key: <Kem256 as Kem>::PublicKey,
}

/// What the platform says of an issuer is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinRecipientError {
    /// No issuer certificate `90`.
    #[error("the issuer's certificate cannot be read")]
    Certificate,
    /// No point on P-256.
    #[error("the issuer's key for PINs is no point on P-256")]
    Key,
}

/// Why a PIN was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinSealError {
    /// The card is of an issuer whose key the terminal has not got.
    #[error("the terminal has no key of this card's issuer to seal a PIN to: use another card")]
    UnknownIssuer,
    /// The seal failed.
    #[error("the PIN could not be sealed to its issuer")]
    Seal,
}

impl PinRecipient {
    /// `issuer_certificate` is `90` as `/v1/trust` has it, whose issuer identifier names the cards; `key` an
    /// uncompressed point on P-256.
    ///
    /// # Errors
    /// [`PinRecipientError`].
    pub fn new(issuer_certificate: &[u8], key: &[u8]) -> Result<Self, PinRecipientError> {
        let certificate = IssuerCertificate::parse(issuer_certificate);
        let certificate = certificate.map_err(|_| PinRecipientError::Certificate)?;
        let key = <Kem256 as Kem>::PublicKey::from_bytes(key);
        let key = key.map_err(|_| PinRecipientError::Key)?;
        Ok(Self { issuer_identifier: certificate.issuer_identifier, key })
    }

    /// Seals a PIN as a block of ISO 9564-1 format 4. `info` says what it is for
    /// ([`tapfer_payment_types::pin`]), `associated` to what it is bound.
    ///
    /// # Errors
    /// [`PinSealError::Seal`].
    pub fn seal(
        &self,
        pin: &Pin,
        info: &[u8],
        associated: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<SealedPayload, PinSealError> {
        let mut random = [0; 8];
        rng.fill_bytes(&mut random);
        let block = pin.to_block(random);
        let (encapsulated, ciphertext) =
            hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, Kem256>(
                &OpModeS::Base,
                &self.key,
                info,
                block.expose(),
                associated,
                rng,
            )
            .map_err(|_| PinSealError::Seal)?;
        Ok(SealedPayload {
            encapsulated_key: HexBytes(encapsulated.to_bytes().to_vec()),
            ciphertext: HexBytes(ciphertext),
        })
    }
}

/// A payment that waits for the cardholder's PIN. The terminal behind it is disarmed already: the same arming
/// asks no second card. What comes next is one of [`enter`](Self::enter), [`cancel`](Self::cancel) and
/// [`without_pin`](Self::without_pin).
#[derive(Debug)]
pub struct PinEntry {
    payment: OnlinePayment,
}

/// A PIN that was not sealed: the payment still waits.
#[derive(Debug)]
pub struct PinNotSealed {
    /// To be cancelled, or sent without a PIN.
    pub entry: PinEntry,
    /// Why.
    pub error: PinSealError,
}

impl PinEntry {
    pub(crate) const fn new(payment: OnlinePayment) -> Self {
        Self { payment }
    }

    /// What to show the cardholder beside the amount: "Please enter your PIN", in her language if the till
    /// has it.
    #[must_use]
    pub fn text(&self, till: Language) -> &'static str {
        MessageIdentifier::ENTER_PIN.text(self.outcome().language(till))
    }

    /// What is paid for.
    #[must_use]
    pub const fn payment_intent(&self) -> PaymentIntentId {
        self.payment.request().payment_intent()
    }

    /// How much she agrees to with her PIN.
    #[must_use]
    pub const fn amount(&self) -> Money {
        self.payment.request().amount()
    }

    /// What the kernel said.
    #[must_use]
    pub const fn outcome(&self) -> &Outcome {
        self.payment.outcome()
    }

    /// Seals the PIN to the card's issuer, bound to this payment and this terminal: it is good nowhere else.
    ///
    /// # Errors
    /// [`PinNotSealed`], with the payment to go on with.
    pub fn enter(
        mut self,
        pin: &Pin,
        recipients: &[PinRecipient],
        terminal: TerminalId,
        rng: &mut impl CryptoRng,
    ) -> Result<OnlinePayment, Box<PinNotSealed>> {
        match self.seal(pin, recipients, terminal, rng) {
            Ok(sealed) => {
                self.payment.set_online_pin(sealed);
                Ok(self.payment)
            }
            Err(error) => Err(Box::new(PinNotSealed { entry: self, error })),
        }
    }

    /// The issuer is the one whose certificate the card showed. Whether the certificate and the card are genuine
    /// is not asked here, nor need it be: recipients are the platform's own, so the PIN is sealed to one of its
    /// issuers or to nobody, and the platform judges the results of local authentication.
    fn seal(
        &self,
        pin: &Pin,
        recipients: &[PinRecipient],
        terminal: TerminalId,
        rng: &mut impl CryptoRng,
    ) -> Result<SealedPayload, PinSealError> {
        let certificate = self.outcome().data.get(tags::ISSUER_CERTIFICATE);
        let certificate = certificate.and_then(|bytes| IssuerCertificate::parse(bytes).ok());
        let issuer = certificate.ok_or(PinSealError::UnknownIssuer)?.issuer_identifier;
        let mut recipients = recipients.iter();
        let recipient = recipients.find(|recipient| recipient.issuer_identifier == issuer);
        let associated = format!("{}{terminal}", self.payment.request().payment_intent());
        let recipient = recipient.ok_or(PinSealError::UnknownIssuer)?;
        recipient.seal(pin, ONLINE_PIN_INFO, associated.as_bytes(), rng)
    }

    /// The cardholder or the cashier gave up. The platform is not asked; the card's cryptogram is thrown away.
    #[must_use]
    pub fn cancel(self) -> (Terminal<Unarmed>, Receipt) {
        self.payment.end(PaymentState::PinCancelled)
    }

    /// Leaves it to the platform what a payment without the PIN is worth: to issuers that want it, nothing.
    #[must_use]
    pub fn without_pin(self) -> OnlinePayment {
        self.payment
    }
}
