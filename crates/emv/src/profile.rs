//! The static side of a Kernel 8 card: what the issuer personalises and the card later sends.
//!
//! The platform builds a profile, the phone plays it, and both compute the same SDA hash from it.
//! [`CardProfile::check`] holds the rules; `profile::message` turns a profile into the message that
//! travels to the phone and back, where it comes from outside and is checked again.

mod check;
mod message;

pub use check::ProfileError;

use alloc::vec::Vec;
use core::fmt;

use tapfer_payment_types::{PanSequenceNumber, TokenPan};

use crate::certificate::{self, CertificateDate};
use crate::dol;
use crate::iad::IAD_MAC_OFFSET;
use crate::packed_decimal::pack;
use crate::tags;
use crate::tlv::{self, Tag};

/// Card Qualifier `9F2C` of every card of the platform: version 2, secure channel suite P-256 and no
/// other, no field-off detection (Book C-8 annex A).
pub const CARD_QUALIFIER: [u8; 7] = [0x02, 0x00, 0xFF, 0xFF, 0x00, 0x00, 0x00];

/// Application interchange profile `82`: local authentication and relay resistance check supported;
/// online only, the IAD-MAC goes into the IAD at the offset in `9F8107`.
pub const APPLICATION_INTERCHANGE_PROFILE: [u8; 2] = [0x01, 0x05];

/// PDOL `9F38`: kernel qualifier and kernel key data; all that the merchant proof covers (amounts,
/// country, currency, date, type, unpredictable number, terminal identification); the proof itself.
pub const PDOL: [u8; 30] = [
    0x9F, 0x2B, 0x08, 0x9E, 0x40, 0x9F, 0x02, 0x06, 0x9F, 0x03, 0x06, 0x9F, 0x1A, 0x02, 0x5F, 0x2A,
    0x02, 0x9A, 0x03, 0x9C, 0x01, 0x9F, 0x37, 0x04, 0x9F, 0x1C, 0x08, 0xDF, 0x51, 0x40,
];

/// CDOL1 `8C`: the 29 bytes the cryptogram covers (amount, other amount, country, TVR, currency,
/// date, type, unpredictable number), then terminal type, CVM results and risk management data.
pub const CDOL1: [u8; 30] = [
    0x9F, 0x02, 0x06, 0x9F, 0x03, 0x06, 0x9F, 0x1A, 0x02, 0x95, 0x05, 0x5F, 0x2A, 0x02, 0x9A, 0x03,
    0x9C, 0x01, 0x9F, 0x37, 0x04, 0x9F, 0x35, 0x01, 0x9F, 0x34, 0x03, 0x9F, 0x1D, 0x08,
];

/// Extended SDA Tag List `9F810A`: AID, PDOL, Card Qualifier and CDOL1 are hashed with the signed
/// records, so that nobody on the way can change what the card asks the terminal for.
const EXTENDED_SDA_TAG_LIST: [u8; 7] = [0x9F, 0x06, 0x9F, 0x38, 0x9F, 0x2C, 0x8C];

/// Application Usage Control `9F07`: goods and services, at home and abroad, at terminals that are
/// no cash machines; no cash and no cashback (Book 3 annex C2).
const APPLICATION_USAGE_CONTROL: [u8; 2] = [0x3D, 0x00];

/// All records stand in this file.
const SHORT_FILE_IDENTIFIER: u8 = 2;

/// One record of the card.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Which file, 1 to 10.
    pub short_file_identifier: u8,
    /// Which record of the file, from 1.
    pub number: u8,
    /// Value of template `70`, without `70` and length.
    pub value: Vec<u8>,
    /// Travels in template `DA`, its value encrypted on the secure channel.
    pub encrypted: bool,
    /// Is part of the SDA hash.
    pub signed: bool,
}

/// Shows where the record stands and how long it is: its value is card data.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { short_file_identifier, number, value, encrypted, signed } = self;
        write!(f, "Record({short_file_identifier}.{number}, {} bytes, ", value.len())?;
        write!(f, "encrypted: {encrypted}, signed: {signed})")
    }
}

/// Everything that is fixed for a token: AID, label, AIP, PDOL, CDOL1 and the records but that of the
/// ICC certificate, which is renewed with the keys ([`CardProfile::icc_certificate_record`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardProfile {
    /// Application identifier, 5 to 16 bytes.
    pub aid: Vec<u8>,
    /// Application label `50`, 1 to 16 printable ASCII characters.
    pub label: Vec<u8>,
    /// Application interchange profile `82`.
    pub aip: [u8; 2],
    /// Processing options data object list `9F38`.
    pub pdol: Vec<u8>,
    /// Card risk management data object list 1 `8C`.
    pub cdol1: Vec<u8>,
    /// In the order of the application file locator.
    pub records: Vec<Record>,
}

/// What a profile is made from.
pub struct Personalisation<'a> {
    /// Application identifier.
    pub aid: &'a [u8],
    /// What terminals show as the name of the card.
    pub label: &'a str,
    /// Digits of the token.
    pub token_pan: &'a str,
    /// Sequence number of the token, 0 to 99.
    pub sequence: u8,
    /// Last day on which the token is good.
    pub expiry: CertificateDate,
    /// ISO 3166 numeric.
    pub issuer_country: u16,
    /// Which of the CA's keys signed the issuer certificate.
    pub ca_index: u8,
    /// Issuer certificate `90`.
    pub issuer_certificate: &'a [u8],
}

impl CardProfile {
    /// Lays out the card of one token: the issuer's certificate in clear, because it is needed before
    /// anything can be believed; the card data encrypted and signed.
    ///
    /// # Errors
    /// What [`CardProfile::check`] finds wrong with the result.
    pub fn personalise(p: &Personalisation<'_>) -> Result<Self, ProfileError> {
        let profile = Self {
            aid: p.aid.to_vec(),
            label: p.label.as_bytes().to_vec(),
            aip: APPLICATION_INTERCHANGE_PROFILE,
            pdol: PDOL.to_vec(),
            cdol1: CDOL1.to_vec(),
            records: alloc::vec![issuer_record(p), card_data_record(p)?],
        };
        profile.check()?;
        Ok(profile)
    }

    /// The hash that the ICC certificate signs and the terminal recomputes: the signed records, the
    /// data objects of the Extended SDA Tag List, the AIP (Book E chapter 5).
    #[must_use]
    pub fn sda_hash(&self) -> [u8; 32] {
        let signed: Vec<&[u8]> = self
            .records
            .iter()
            .filter(|record| record.signed)
            .map(|record| record.value.as_slice())
            .collect();
        let list = self.data_object(tags::EXTENDED_SDA_TAG_LIST).unwrap_or_default();
        let listed = dol::parse_tag_list(list).unwrap_or_default();
        let extended = certificate::extended_data(listed, |tag| self.outside_records(tag));
        certificate::sda_hash(&signed, &extended, self.aip)
    }

    /// Data objects that stand in the answers to SELECT and GET PROCESSING OPTIONS.
    fn outside_records(&self, tag: Tag) -> Option<&[u8]> {
        match tag {
            tags::APPLICATION_IDENTIFIER_TERMINAL | tags::DF_NAME => Some(&self.aid),
            tags::APPLICATION_LABEL => Some(&self.label),
            tags::PDOL => Some(&self.pdol),
            tags::CARD_QUALIFIER => Some(&CARD_QUALIFIER),
            tags::CDOL1 => Some(&self.cdol1),
            _ => None,
        }
    }

    /// Application file locator `94` with the ICC certificate's record in it (Book 3, 10.2): four
    /// bytes for each run of records: file, first, last, how many of them are signed. Signed and
    /// unsigned records never share an entry, so that nobody can count wrong.
    #[must_use]
    pub fn application_file_locator(&self) -> Vec<u8> {
        let mut locator = Vec::new();
        let mut records = self.records.clone();
        records.push(self.icc_certificate_record(&[]));
        for run in records.chunk_by(is_same_run) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                let signed = run.iter().filter(|record| record.signed).count();
                let file = first.short_file_identifier.wrapping_shl(3);
                let signed = u8::try_from(signed).unwrap_or(u8::MAX);
                locator.extend_from_slice(&[file, first.number, last.number, signed]);
            }
        }
        locator
    }

    /// The record that carries the ICC certificate `9F46`: behind the last of the others, encrypted
    /// because it would let anyone recognise the phone, unsigned because it holds the hash itself.
    #[must_use]
    pub fn icc_certificate_record(&self, icc_certificate: &[u8]) -> Record {
        let last = self.records.last();
        let short_file_identifier =
            last.map_or(SHORT_FILE_IDENTIFIER, |record| record.short_file_identifier);
        let number = last.map_or(1, |record| record.number.saturating_add(1));
        let value = tlv::encode(tags::ICC_CERTIFICATE, icc_certificate);
        Record { short_file_identifier, number, value, encrypted: true, signed: false }
    }

    /// The value of a data object in any of the records; `None` too if a record is not well formed.
    #[must_use]
    pub fn data_object(&self, tag: Tag) -> Option<&[u8]> {
        self.records.iter().find_map(|record| tlv::find(&record.value, tag).ok().flatten())
    }

    /// The token this card is about: `5A`.
    #[must_use]
    pub fn token_pan(&self) -> Option<TokenPan> {
        check::digits(self.data_object(tags::APPLICATION_PAN)?)?.expose().parse().ok()
    }

    /// The token's sequence number: `5F34`.
    #[must_use]
    pub fn sequence_number(&self) -> Option<PanSequenceNumber> {
        check::sequence_number(self.data_object(tags::PAN_SEQUENCE_NUMBER)?)
    }
}

fn is_same_run(before: &Record, after: &Record) -> bool {
    before.short_file_identifier == after.short_file_identifier
        && before.signed == after.signed
        && before.number.checked_add(1) == Some(after.number)
}

fn issuer_record(p: &Personalisation<'_>) -> Record {
    let mut value = Vec::new();
    tlv::write(&mut value, tags::CA_PUBLIC_KEY_INDEX, &[p.ca_index]);
    tlv::write(&mut value, tags::ISSUER_CERTIFICATE, p.issuer_certificate);
    let short_file_identifier = SHORT_FILE_IDENTIFIER;
    Record { short_file_identifier, number: 1, value, encrypted: false, signed: false }
}

fn card_data_record(p: &Personalisation<'_>) -> Result<Record, ProfileError> {
    let token: TokenPan = p.token_pan.parse().map_err(|_| ProfileError::CardNumber)?;
    let [century, year] = four_digits(p.expiry.year);
    if century != 0x20 {
        return Err(ProfileError::Expiry);
    }
    let expiry = [year, pack(p.expiry.month), pack(p.expiry.day)];
    let mut value = Vec::new();
    tlv::write(&mut value, tags::APPLICATION_PAN, &packed_card_number(&token));
    tlv::write(&mut value, tags::APPLICATION_EXPIRATION_DATE, &expiry);
    tlv::write(&mut value, tags::ISSUER_COUNTRY_CODE, &four_digits(p.issuer_country));
    tlv::write(&mut value, tags::PAN_SEQUENCE_NUMBER, &[pack(p.sequence)]);
    tlv::write(&mut value, tags::APPLICATION_USAGE_CONTROL, &APPLICATION_USAGE_CONTROL);
    tlv::write(&mut value, tags::IAD_MAC_OFFSET, &[IAD_MAC_OFFSET]);
    tlv::write(&mut value, tags::EXTENDED_SDA_TAG_LIST, &EXTENDED_SDA_TAG_LIST);
    let short_file_identifier = SHORT_FILE_IDENTIFIER;
    Ok(Record { short_file_identifier, number: 2, value, encrypted: true, signed: true })
}

/// Compressed numeric: two digits to a byte, `F` behind an odd number of them (Book 3, 4.3).
fn packed_card_number(token: &TokenPan) -> Vec<u8> {
    let half_byte = |digit: Option<&u8>| digit.map_or(0x0F, |digit| digit & 0x0F);
    let pairs = token.expose().as_bytes().chunks(2);
    pairs.map(|pair| half_byte(pair.first()).wrapping_shl(4) | half_byte(pair.get(1))).collect()
}

/// The last four digits of a number, two to a byte.
fn four_digits(number: u16) -> [u8; 2] {
    let two_digits = |number: u16| pack(u8::try_from(number.wrapping_rem(100)).unwrap_or(0));
    [two_digits(number.wrapping_div(100)), two_digits(number)]
}

#[cfg(test)]
pub(crate) mod tests;
