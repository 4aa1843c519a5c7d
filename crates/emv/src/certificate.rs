//! Issuer certificate `90` and ICC certificate `9F46`, EC-SDSA over P-256 (Book E chapter 5).
//!
//! Parsing checks lengths, fixed bytes, suites, dates and that the key is a point; verifying checks
//! the signer's names, expiry and signature. A kernel answers a failed check of either kind with
//! "local authentication failed" in the TVR.

use alloc::vec::Vec;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tapfer_payment_types::Timestamp;

use crate::curve::PublicX;
use crate::ecsdsa::{self, Signature};
use crate::packed_decimal::{pack, unpack};
use crate::tlv::{self, Tag};

/// Registered application provider identifier: the first five bytes of an AID.
pub type Rid = [u8; 5];

/// Format bytes of an issuer certificate.
const ISSUER_FORMAT: [u8; 2] = [0x12, 0x00];
/// Format bytes of an ICC certificate.
const ICC_FORMAT: [u8; 2] = [0x14, 0x00];
/// EC-SDSA over P-256 with SHA-256.
const SIGNATURE_SUITE: u8 = 0x10;
/// P-256 with AES-128: the secure channel suite of the ICC key.
const CHANNEL_SUITE: u8 = 0x00;
/// Length of an issuer certificate.
const ISSUER_LENGTH: usize = 117;
/// Length of an ICC certificate.
const ICC_LENGTH: usize = 145;
/// Encoding `01` of the static data hash, algorithm `02` (SHA-256).
const SDA_HASH_FORMAT: [u8; 2] = [0x01, 0x02];
const MILLIS_PER_MINUTE: i64 = 60_000;

/// A certification authority's public key as a terminal holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaPublicKey {
    /// Whose key it is.
    pub rid: Rid,
    /// Which of its keys, `8F`.
    pub index: u8,
    /// x of the key.
    pub key: PublicX,
}

/// A day of the Gregorian calendar, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateDate {
    /// Year, 0 to 9999.
    pub year: u16,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, 1 to 31.
    pub day: u8,
}

/// Certificate issued by the certification authority to an issuer, `90`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerCertificate {
    /// The leading 3 to 10 digits of the issuer's card numbers, padded with `F`.
    pub issuer_identifier: [u8; 5],
    /// The last day on which the certificate is good.
    pub expiry: CertificateDate,
    /// Serial number under this CA.
    pub serial: [u8; 3],
    /// The CA's provider identifier.
    pub rid: Rid,
    /// Which of the CA's keys signed.
    pub ca_index: u8,
    /// The issuer's key.
    pub public_key: PublicX,
    /// The CA's signature over everything before it.
    pub signature: Signature,
}

/// Certificate issued by the issuer to a card or phone, `9F46`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IccCertificate {
    /// The last day on which the certificate is good.
    pub expiry: CertificateDate,
    /// Hour of the last minute on which it is good, 0 to 23.
    pub hour: u8,
    /// The last minute on which it is good, 0 to 59.
    pub minute: u8,
    /// Serial number under this issuer.
    pub serial: [u8; 6],
    /// Hash of the card's static data, see [`sda_hash`].
    pub sda_hash: [u8; 32],
    /// The card's key.
    pub public_key: PublicX,
    /// The issuer's signature over everything before it.
    pub signature: Signature,
}

/// Why a certificate is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Wrong number of bytes.
    #[error(
        "the certificate is {0} bytes long; issuer certificates have 117, ICC certificates 145"
    )]
    Length(usize),
    /// Wrong fixed bytes.
    #[error("the certificate does not have the format bytes of its kind")]
    Format,
    /// A suite other than EC-SDSA P-256 SHA-256 with the P-256 channel.
    #[error("the certificate is of an algorithm suite that is not supported")]
    Suite,
    /// The expiry is no date of the calendar.
    #[error("the certificate's expiry is not a date and time of the calendar")]
    Date,
    /// The issuer identifier is not 3 to 10 digits.
    #[error("the issuer identifier is not 3 to 10 digits padded with F")]
    IssuerIdentifier,
    /// The key is not on the curve.
    #[error("the certified public key is not on the curve")]
    PublicKey,
    /// Another provider's certificate.
    #[error("the certificate belongs to another application provider than the CA key")]
    Rid,
    /// Signed with another of the CA's keys.
    #[error("the certificate names another CA key index")]
    CaIndex,
    /// Its time is over.
    #[error("the certificate has expired")]
    Expired,
    /// The card's static data is not what the issuer signed.
    #[error("the card's static data does not have the hash that the issuer signed")]
    SdaHash,
    /// The signature is not the signer's.
    #[error("the certificate's signature does not verify under the signer's key")]
    Signature,
}

/// Takes fixed-size fields from the front.
struct Fields<'a> {
    rest: &'a [u8],
    whole: usize,
}

impl<'a> Fields<'a> {
    const fn of(bytes: &'a [u8], length: usize) -> Result<Self, CertificateError> {
        let whole = bytes.len();
        if whole == length {
            Ok(Self { rest: bytes, whole })
        } else {
            Err(CertificateError::Length(whole))
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], CertificateError> {
        let too_short = CertificateError::Length(self.whole);
        let (field, rest) = self.rest.split_first_chunk().ok_or(too_short)?;
        self.rest = rest;
        Ok(*field)
    }

    fn take_byte(&mut self) -> Result<u8, CertificateError> {
        let [byte] = self.take()?;
        Ok(byte)
    }

    fn expect<const N: usize>(
        &mut self,
        fixed: [u8; N],
        otherwise: CertificateError,
    ) -> Result<(), CertificateError> {
        if self.take()? == fixed { Ok(()) } else { Err(otherwise) }
    }

    fn take_key(&mut self) -> Result<PublicX, CertificateError> {
        PublicX::from_bytes(&self.take()?).map_err(|_| CertificateError::PublicKey)
    }
}

impl CertificateDate {
    /// The day a point in time falls on, UTC.
    #[must_use]
    pub fn of(time: Timestamp) -> Self {
        let calendar = time.calendar();
        Self { year: calendar.year, month: calendar.month, day: calendar.day }
    }

    /// The first instant after the given minute of this day; `None` if there is no such minute.
    pub(crate) fn end_of_minute(self, hour: u8, minute: u8) -> Option<Timestamp> {
        Timestamp::at_minute(self.year, self.month, self.day, hour, minute)
            .map(|begin| begin.plus_millis(MILLIS_PER_MINUTE))
    }

    /// YYYYMMDD, packed. A year above 9999 is written as 9999.
    pub(crate) fn encode(self) -> [u8; 4] {
        let year = self.year.min(9999);
        let century = u8::try_from(year.wrapping_div(100)).unwrap_or(99);
        let year_of_century = u8::try_from(year.wrapping_rem(100)).unwrap_or(99);
        [pack(century), pack(year_of_century), pack(self.month), pack(self.day)]
    }

    pub(crate) fn parse(bytes: [u8; 4]) -> Option<Self> {
        let [century, year_of_century, month, day] = bytes;
        let hundreds = u16::from(unpack(century)?).saturating_mul(100);
        let year = hundreds.saturating_add(u16::from(unpack(year_of_century)?));
        let date = Self { year, month: unpack(month)?, day: unpack(day)? };
        date.end_of_minute(0, 0).map(|_| date)
    }
}

impl IssuerCertificate {
    /// Reads `90` and checks its form.
    ///
    /// # Errors
    /// Every [`CertificateError`] that needs no key and no clock.
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        let mut fields = Fields::of(bytes, ISSUER_LENGTH)?;
        fields.expect(ISSUER_FORMAT, CertificateError::Format)?;
        let issuer_identifier = fields.take()?;
        if !is_issuer_identifier(issuer_identifier) {
            return Err(CertificateError::IssuerIdentifier);
        }
        fields.expect([SIGNATURE_SUITE], CertificateError::Suite)?;
        Ok(Self {
            issuer_identifier,
            expiry: CertificateDate::parse(fields.take()?).ok_or(CertificateError::Date)?,
            serial: fields.take()?,
            rid: fields.take()?,
            ca_index: fields.take_byte()?,
            public_key: fields.take_key()?,
            signature: fields.take()?,
        })
    }

    /// All fields before the signature: what the CA signs.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        [
            ISSUER_FORMAT.as_slice(),
            &self.issuer_identifier,
            &[SIGNATURE_SUITE],
            &self.expiry.encode(),
            &self.serial,
            &self.rid,
            &[self.ca_index],
            self.public_key.bytes(),
        ]
        .concat()
    }

    /// The value of `90`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.message();
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Checks that the CA named here signed this, and that it has not expired: it is good through
    /// its expiry date.
    ///
    /// # Errors
    /// [`CertificateError::Rid`], [`CertificateError::CaIndex`], [`CertificateError::Expired`],
    /// [`CertificateError::Signature`], in this order.
    pub fn verify(&self, ca: &CaPublicKey, now: Timestamp) -> Result<(), CertificateError> {
        if self.rid != ca.rid {
            return Err(CertificateError::Rid);
        }
        if self.ca_index != ca.index {
            return Err(CertificateError::CaIndex);
        }
        if CertificateDate::of(now) > self.expiry {
            return Err(CertificateError::Expired);
        }
        ecsdsa::verify(&ca.key, &self.message(), &self.signature)
            .map_err(|_| CertificateError::Signature)
    }

    /// Whether the card number begins with the certificate's issuer identifier.
    #[must_use]
    pub fn matches_pan(&self, pan_digits: &str) -> bool {
        let mut pan = pan_digits.bytes();
        half_bytes(self.issuer_identifier)
            .take_while(|&digit| digit <= 9)
            .all(|digit| pan.next() == Some(digit | b'0'))
    }
}

fn half_bytes(bytes: [u8; 5]) -> impl Iterator<Item = u8> {
    bytes.into_iter().flat_map(|byte| [byte >> 4, byte & 0x0F])
}

/// 3 to 10 digits, then nothing but `F` (Book E 5.2).
fn is_issuer_identifier(bytes: [u8; 5]) -> bool {
    let digits = half_bytes(bytes).take_while(|&digit| digit <= 9).count();
    digits >= 3 && half_bytes(bytes).skip(digits).all(|padding| padding == 0x0F)
}

impl IccCertificate {
    /// Reads `9F46` and checks its form.
    ///
    /// # Errors
    /// Every [`CertificateError`] that needs no key and no clock.
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        let mut fields = Fields::of(bytes, ICC_LENGTH)?;
        fields.expect(ICC_FORMAT, CertificateError::Format)?;
        fields.expect([CHANNEL_SUITE], CertificateError::Suite)?;
        let expiry = CertificateDate::parse(fields.take()?).ok_or(CertificateError::Date)?;
        let hour = unpack(fields.take_byte()?).ok_or(CertificateError::Date)?;
        let minute = unpack(fields.take_byte()?).ok_or(CertificateError::Date)?;
        expiry.end_of_minute(hour, minute).ok_or(CertificateError::Date)?;
        let serial = fields.take()?;
        fields.expect(SDA_HASH_FORMAT, CertificateError::Format)?;
        Ok(Self {
            expiry,
            hour,
            minute,
            serial,
            sda_hash: fields.take()?,
            public_key: fields.take_key()?,
            signature: fields.take()?,
        })
    }

    /// All fields before the signature: what the issuer signs.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        [
            ICC_FORMAT.as_slice(),
            &[CHANNEL_SUITE],
            &self.expiry.encode(),
            &[pack(self.hour), pack(self.minute)],
            &self.serial,
            &SDA_HASH_FORMAT,
            &self.sda_hash,
            self.public_key.bytes(),
        ]
        .concat()
    }

    /// The value of `9F46`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.message();
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Checks that the issuer signed this for exactly this static data, and that it has not
    /// expired: it is good through its minute.
    ///
    /// # Errors
    /// [`CertificateError::SdaHash`], [`CertificateError::Expired`],
    /// [`CertificateError::Signature`], in this order.
    pub fn verify(
        &self,
        issuer: &PublicX,
        sda_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<(), CertificateError> {
        if !bool::from(self.sda_hash.ct_eq(sda_hash)) {
            return Err(CertificateError::SdaHash);
        }
        if now >= self.expires_at() {
            return Err(CertificateError::Expired);
        }
        ecsdsa::verify(issuer, &self.message(), &self.signature)
            .map_err(|_| CertificateError::Signature)
    }

    /// The first instant at which the certificate is no longer good: the end of its minute. A date
    /// that does not exist, which no parsed certificate has, counts as long past.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expiry
            .end_of_minute(self.hour, self.minute)
            .unwrap_or(Timestamp::from_unix_millis(i64::MIN))
    }
}

/// The extended SDA data: what the tag list `9F810A` names, each as a TLV. What is not
/// there counts as empty: a card cannot add it later unnoticed.
pub fn extended_data<V: AsRef<[u8]>>(
    listed: impl IntoIterator<Item = Tag>,
    value_of: impl Fn(Tag) -> Option<V>,
) -> Vec<u8> {
    let mut extended = Vec::new();
    for tag in listed {
        let value = value_of(tag);
        tlv::write(&mut extended, tag, value.as_ref().map_or(&[], AsRef::as_ref));
    }
    extended
}

/// SDA hash: SHA-256 over the values of the signed records (without `70` and length) ‖ TLVs of the
/// extended SDA tag list ‖ AIP value.
///
/// The exact composition is confirmed by an independent terminal, not by a published vector.
#[must_use]
pub fn sda_hash(
    signed_record_values: &[&[u8]],
    extended_sda_tlvs: &[u8],
    aip: [u8; 2],
) -> [u8; 32] {
    let mut hash = Sha256::new();
    signed_record_values.iter().for_each(|value| hash.update(value));
    hash.chain_update(extended_sda_tlvs).chain_update(aip).finalize().into()
}
