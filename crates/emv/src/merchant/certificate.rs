//! The certificate `A2 00` that the merchant CA gives a terminal for hours or days.

use alloc::vec::Vec;

use tapfer_payment_types::Timestamp;

use super::{
    AcquirerId, MerchantIdentifier, MerchantIdentity, MerchantName, MerchantNameError,
    MerchantSignature, TerminalIdentifier, is_signed_by,
};
use crate::certificate::CertificateDate;
use crate::curve::{CurveError, PublicPoint};
use crate::packed_decimal::{pack, unpack};

/// Format bytes.
const FORMAT: [u8; 2] = [0xA2, 0x00];
/// ECDSA over P-256 with SHA-256.
const SUITE: u8 = 0x20;

/// The merchant CA's key as a phone holds it: a point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MerchantCaKey(PublicPoint);

impl MerchantCaKey {
    /// Reads x ‖ y.
    ///
    /// # Errors
    /// [`CurveError::Point`] if it is no point of the curve.
    pub fn from_bytes(bytes: &[u8; 64]) -> Result<Self, CurveError> {
        PublicPoint::from_bytes(bytes).map(Self)
    }

    /// x ‖ y.
    #[must_use]
    pub fn bytes(&self) -> [u8; 64] {
        self.0.bytes()
    }
}

impl From<PublicPoint> for MerchantCaKey {
    fn from(point: PublicPoint) -> Self {
        Self(point)
    }
}

/// What the merchant CA certifies about one terminal.
///
/// | bytes | content |
/// |---|---|
/// | 2 | `A2 00` |
/// | 6, 15, 8 | acquirer, merchant, terminal |
/// | 1 | suite `20`: ECDSA P-256 SHA-256 |
/// | 6 | expiry YYYYMMDDHHMM, packed: the last minute, UTC |
/// | 6 | serial number under this CA |
/// | 1, 1 to 40 | length of the name, name in UTF-8 |
/// | 64 | public key x ‖ y |
/// | 64 | the CA's signature over everything before it |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerchantCertificate {
    /// Who pays the merchant, `9F01`.
    pub acquirer: AcquirerId,
    /// Who is paid, `9F16`.
    pub merchant: MerchantIdentifier,
    /// Where, `9F1C`.
    pub terminal: TerminalIdentifier,
    /// Day of the last minute on which it is good.
    pub expiry: CertificateDate,
    /// Hour of it, 0 to 23.
    pub hour: u8,
    /// Minute of it, 0 to 59.
    pub minute: u8,
    /// Serial number under this CA, by which it can be revoked.
    pub serial: [u8; 6],
    /// What phone and till show.
    pub name: MerchantName,
    /// The terminal's key.
    pub public_key: PublicPoint,
    /// The CA's signature.
    pub signature: MerchantSignature,
}

/// Why a merchant's certificate is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MerchantCertificateError {
    /// Too few or too many bytes.
    #[error("the merchant certificate has {0} bytes, which its name's length does not explain")]
    Length(usize),
    /// Wrong fixed bytes.
    #[error("the merchant certificate does not begin with A2 00")]
    Format,
    /// Identifiers that cannot be written on a receipt.
    #[error("acquirer, merchant or terminal in the certificate are not digits and printable text")]
    Identifier,
    /// Another algorithm.
    #[error("the merchant certificate is of another suite than 20, ECDSA P-256 with SHA-256")]
    Suite,
    /// The expiry is no minute of the calendar.
    #[error("the merchant certificate's expiry is not a minute of the calendar")]
    Date,
    /// A name that cannot be shown.
    #[error(transparent)]
    Name(#[from] MerchantNameError),
    /// The key is not on the curve.
    #[error("the certified key is not a point of P-256")]
    PublicKey,
    /// Not signed by this CA.
    #[error("the merchant certificate's signature does not verify under the merchant CA's key")]
    Signature,
    /// Signed by this CA, but its time is over.
    #[error("the merchant certificate has expired: the terminal has to ask for a new one")]
    Expired,
}

impl MerchantCertificate {
    /// The most bytes a certificate has; it fits the data of a short command.
    pub const MAXIMUM_LENGTH: usize = 213;

    /// Reads a certificate and checks its form.
    ///
    /// # Errors
    /// Every [`MerchantCertificateError`] that needs no key and no clock.
    pub fn parse(bytes: &[u8]) -> Result<Self, MerchantCertificateError> {
        let mut fields = Fields { rest: bytes, whole: bytes.len() };
        if fields.take()? != FORMAT {
            return Err(MerchantCertificateError::Format);
        }
        let (acquirer, merchant, terminal) = (fields.take()?, fields.take()?, fields.take()?);
        if !are_identifiers(&acquirer, &merchant, &terminal) {
            return Err(MerchantCertificateError::Identifier);
        }
        if fields.take()? != [SUITE] {
            return Err(MerchantCertificateError::Suite);
        }
        let (expiry, hour, minute) =
            parse_minute(fields.take()?).ok_or(MerchantCertificateError::Date)?;
        let serial = fields.take()?;
        let [name_length] = fields.take()?;
        let name = MerchantName::from_utf8(fields.take_slice(name_length)?)?;
        let public_key = PublicPoint::from_bytes(&fields.take()?)
            .map_err(|_| MerchantCertificateError::PublicKey)?;
        let signature = fields.take()?;
        fields.end()?;
        Ok(Self {
            acquirer,
            merchant,
            terminal,
            expiry,
            hour,
            minute,
            serial,
            name,
            public_key,
            signature,
        })
    }

    /// All fields before the signature: what the CA signs.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let name = self.name.as_str().as_bytes();
        // A name has at most 40 bytes.
        let name_length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        [
            FORMAT.as_slice(),
            &self.acquirer,
            &self.merchant,
            &self.terminal,
            &[SUITE],
            &self.expiry.encode(),
            &[pack(self.hour), pack(self.minute)],
            &self.serial,
            &[name_length],
            name,
            &self.public_key.bytes(),
        ]
        .concat()
    }

    /// The bytes that travel.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.message();
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Checks that this CA signed it, and that it has not expired: it is good through its minute.
    ///
    /// Whether it was revoked is for the caller to know, by its
    /// [`serial`](Self::serial): the phone's list came from the platform.
    ///
    /// # Errors
    /// [`MerchantCertificateError::Signature`], then [`MerchantCertificateError::Expired`], so that
    /// only a certificate that this CA really signed counts as expired.
    pub fn verify(
        &self,
        ca: &MerchantCaKey,
        now: Timestamp,
    ) -> Result<TrustedMerchant, MerchantCertificateError> {
        if !is_signed_by(&ca.0, &self.message(), &self.signature) {
            return Err(MerchantCertificateError::Signature);
        }
        if now >= self.expires_at() {
            return Err(MerchantCertificateError::Expired);
        }
        Ok(TrustedMerchant(self.clone()))
    }

    /// The first instant at which the certificate is no longer good: the end of its minute. A minute
    /// that does not exist, which no parsed certificate has, counts as long past.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expiry
            .end_of_minute(self.hour, self.minute)
            .unwrap_or(Timestamp::from_unix_millis(i64::MIN))
    }

    /// Which terminal this is about, as the issuer application data names it.
    #[must_use]
    pub fn identity(&self) -> MerchantIdentity {
        MerchantIdentity::of(&self.acquirer, &self.merchant, &self.terminal)
    }
}

/// A certificate that a trusted CA signed and that has not expired: only
/// [`MerchantCertificate::verify`] makes one. It does not say yet that whoever sent it is the merchant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedMerchant(MerchantCertificate);

impl TrustedMerchant {
    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &MerchantCertificate {
        &self.0
    }
}

/// Takes fields from the front.
struct Fields<'a> {
    rest: &'a [u8],
    whole: usize,
}

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], MerchantCertificateError> {
        let too_short = MerchantCertificateError::Length(self.whole);
        let (field, rest) = self.rest.split_first_chunk().ok_or(too_short)?;
        self.rest = rest;
        Ok(*field)
    }

    fn take_slice(&mut self, length: u8) -> Result<&'a [u8], MerchantCertificateError> {
        let too_short = MerchantCertificateError::Length(self.whole);
        let (field, rest) = self.rest.split_at_checked(usize::from(length)).ok_or(too_short)?;
        self.rest = rest;
        Ok(field)
    }

    const fn end(&self) -> Result<(), MerchantCertificateError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(MerchantCertificateError::Length(self.whole))
        }
    }
}

/// YYYYMMDDHHMM, packed.
fn parse_minute(bytes: [u8; 6]) -> Option<(CertificateDate, u8, u8)> {
    let [y1, y2, month, day, hour, minute] = bytes;
    let date = CertificateDate::parse([y1, y2, month, day])?;
    let (hour, minute) = (unpack(hour)?, unpack(minute)?);
    date.end_of_minute(hour, minute).map(|_| (date, hour, minute))
}

fn are_identifiers(
    acquirer: &AcquirerId,
    merchant: &MerchantIdentifier,
    terminal: &TerminalIdentifier,
) -> bool {
    let is_printable = |byte: &u8| (0x20..0x7F).contains(byte);
    acquirer.iter().all(|byte| unpack(*byte).is_some())
        && merchant.iter().all(is_printable)
        && terminal.iter().all(is_printable)
}
