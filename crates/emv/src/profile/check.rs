//! The rules for a card profile. A phone gets its profile from outside and checks all of it before it
//! plays the card.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use tapfer_payment_types::{PanSequenceNumber, Secret, TokenPan};

use super::CardProfile;
use crate::certificate::IssuerCertificate;
use crate::dol::{self, DataObjectList};
use crate::iad::IAD_MAC_OFFSET;
use crate::packed_decimal::unpack;
use crate::tags;
use crate::tlv::{self, Tag};

/// The most bytes of records' values: what fits an answer of 256 bytes with template and length.
const MAXIMUM_RECORD_LENGTH: usize = 250;
/// More records would make the tap slow; the platform's cards have two and the ICC certificate's.
const MAXIMUM_RECORDS: usize = 8;

/// Profiles that are played: both authenticate locally, are online only and name the place of the
/// IAD-MAC; the second does the relay check, which cards of the first months do not.
const INTERCHANGE_PROFILES: [[u8; 2]; 2] = [[0x01, 0x04], [0x01, 0x05]];

/// What the PDOL must ask for, and in how many bytes, so that channel and policy work.
const PDOL_NEEDS: [(Tag, usize); 7] = [
    (tags::KERNEL_QUALIFIER, 8),
    (tags::KERNEL_KEY_DATA, 64),
    (tags::AMOUNT_AUTHORIZED, 6),
    (tags::UNPREDICTABLE_NUMBER, 4),
    (tags::TRANSACTION_CURRENCY_CODE, 2),
    (tags::TRANSACTION_DATE, 3),
    (tags::TRANSACTION_TYPE, 1),
];

/// What it must ask for besides, if it asks for the merchant proof: all that the proof covers.
const PROOF_NEEDS: [(Tag, usize); 4] = [
    (tags::MERCHANT_PROOF, 64),
    (tags::AMOUNT_OTHER, 6),
    (tags::TERMINAL_COUNTRY_CODE, 2),
    (tags::TERMINAL_IDENTIFICATION, 8),
];

/// What CDOL1 must ask for: the 29 bytes the cryptogram covers.
const CDOL1_NEEDS: [(Tag, usize); 8] = [
    (tags::AMOUNT_AUTHORIZED, 6),
    (tags::AMOUNT_OTHER, 6),
    (tags::TERMINAL_COUNTRY_CODE, 2),
    (tags::TERMINAL_VERIFICATION_RESULTS, 5),
    (tags::TRANSACTION_CURRENCY_CODE, 2),
    (tags::TRANSACTION_DATE, 3),
    (tags::TRANSACTION_TYPE, 1),
    (tags::UNPREDICTABLE_NUMBER, 4),
];

/// What is wrong with a card profile. The card's data is never part of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// AID of a wrong length.
    #[error("an application identifier has 5 to 16 bytes")]
    ApplicationIdentifier,
    /// Label empty, too long or not printable.
    #[error("an application label has 1 to 16 printable ASCII characters")]
    Label,
    /// An AIP that this version does not play.
    #[error(
        "the application interchange profile must be 0104 or 0105: local authentication, online only"
    )]
    InterchangeProfile,
    /// A data object list is broken or lacks something.
    #[error("the {0} is broken, or does not ask for all that the card needs")]
    DataObjectList(&'static str),
    /// Number, order or size of the records.
    #[error(
        "records stand in rising order, files 1 to 10, numbers 1 to 254, one to eight of them, \
         each of at most 250 bytes"
    )]
    Records,
    /// A record is no list of data objects, each once in the whole card.
    #[error("a record is not a list of data objects, or repeats one that the card already has")]
    RecordContent,
    /// A data object is missing.
    #[error("data object {0} is missing from the records that it belongs to")]
    Missing(Tag),
    /// Something that has to be hashed or encrypted is not.
    #[error("the record with the card number must be signed and encrypted")]
    Unprotected,
    /// Not a card number.
    #[error("the card number 5A or its sequence number 5F34 is not one")]
    CardNumber,
    /// Not a date of this century.
    #[error("the expiry 5F24 is not a date from 2000 to 2099")]
    Expiry,
    /// The issuer's country is not three digits.
    #[error("the issuer country code 5F28 is not three digits")]
    Country,
    /// `9F8107` is not where the platform's IAD has its MAC.
    #[error("the IAD-MAC offset 9F8107 must be 24")]
    IadMacOffset,
    /// The Extended SDA Tag List is broken or names what the card does not have.
    #[error("the extended SDA tag list 9F810A must name AID, PDOL, Card Qualifier and CDOL1")]
    ExtendedSdaTagList,
    /// The issuer certificate is none, or belongs to other cards.
    #[error("the issuer certificate is broken, or belongs to another AID, CA key or number range")]
    IssuerCertificate,
}

/// The digits of a compressed numeric value: `F` only behind the last of them.
pub(super) fn digits(packed: &[u8]) -> Option<Secret<String>> {
    let mut text = Secret::new(String::with_capacity(packed.len().saturating_mul(2)));
    let mut ended = false;
    for half_byte in packed.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]) {
        match (char::from_digit(u32::from(half_byte), 10), half_byte) {
            (Some(digit), _) if !ended => text.expose_mut().push(digit),
            (None, 0x0F) => ended = true,
            _ => return None,
        }
    }
    Some(text)
}

pub(super) fn sequence_number(value: &[u8]) -> Option<PanSequenceNumber> {
    match value {
        [byte] => PanSequenceNumber::new(unpack(*byte)?).ok(),
        _ => None,
    }
}

impl CardProfile {
    /// Checks everything a phone relies on when it plays this card.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ProfileError> {
        if !(5..=16).contains(&self.aid.len()) {
            return Err(ProfileError::ApplicationIdentifier);
        }
        let is_printable = self.label.iter().all(|byte| (0x20..0x7F).contains(byte));
        if !is_printable || !(1..=16).contains(&self.label.len()) {
            return Err(ProfileError::Label);
        }
        if !INTERCHANGE_PROFILES.contains(&self.aip) {
            return Err(ProfileError::InterchangeProfile);
        }
        check_list(&self.pdol, &PDOL_NEEDS, "PDOL")?;
        if DataObjectList::parse(&self.pdol).is_ok_and(|pdol| pdol.contains(tags::MERCHANT_PROOF)) {
            check_list(&self.pdol, &PROOF_NEEDS, "PDOL")?;
        }
        check_list(&self.cdol1, &CDOL1_NEEDS, "CDOL1")?;
        self.check_records()?;
        self.check_protection()?;
        self.check_values()?;
        self.check_extended_sda_tag_list()?;
        self.check_issuer_certificate()
    }

    fn check_records(&self) -> Result<(), ProfileError> {
        let place = |record: &super::Record| (record.short_file_identifier, record.number);
        let rising = self.records.is_sorted_by(|before, after| place(before) < place(after));
        // 254 and not 255, so that the ICC certificate's record has a number behind the last.
        let in_range = self.records.iter().all(|record| {
            (1..=10).contains(&record.short_file_identifier)
                && (1..=254).contains(&record.number)
                && record.value.len() <= MAXIMUM_RECORD_LENGTH
        });
        if !rising || !in_range || !(1..=MAXIMUM_RECORDS).contains(&self.records.len()) {
            return Err(ProfileError::Records);
        }
        let mut seen = BTreeSet::from([tags::ICC_CERTIFICATE]);
        for record in &self.records {
            let objects = tlv::parse(&record.value).map_err(|_| ProfileError::RecordContent)?;
            if !objects.iter().all(|object| seen.insert(object.tag)) {
                return Err(ProfileError::RecordContent);
            }
        }
        Ok(())
    }

    /// The card number travels encrypted, and what the issuer vouches for is in the hash.
    fn check_protection(&self) -> Result<(), ProfileError> {
        let holds =
            |record: &super::Record, tag| tlv::find(&record.value, tag).ok().flatten().is_some();
        for tag in [tags::APPLICATION_PAN, tags::EXTENDED_SDA_TAG_LIST, tags::IAD_MAC_OFFSET] {
            let record = self.records.iter().find(|record| holds(record, tag));
            let record = record.ok_or(ProfileError::Missing(tag))?;
            if !(record.signed && record.encrypted) {
                return Err(ProfileError::Unprotected);
            }
        }
        Ok(())
    }

    fn required(&self, tag: Tag) -> Result<&[u8], ProfileError> {
        self.data_object(tag).ok_or(ProfileError::Missing(tag))
    }

    fn check_values(&self) -> Result<(), ProfileError> {
        self.token_pan().ok_or(ProfileError::CardNumber)?;
        let sequence = self.required(tags::PAN_SEQUENCE_NUMBER)?;
        sequence_number(sequence).ok_or(ProfileError::CardNumber)?;
        if !is_date(self.required(tags::APPLICATION_EXPIRATION_DATE)?) {
            return Err(ProfileError::Expiry);
        }
        match self.required(tags::ISSUER_COUNTRY_CODE)? {
            [first @ 0..=9, last] if unpack(*first).is_some() && unpack(*last).is_some() => {}
            _ => return Err(ProfileError::Country),
        }
        match self.required(tags::IAD_MAC_OFFSET)? {
            [IAD_MAC_OFFSET] => Ok(()),
            _ => Err(ProfileError::IadMacOffset),
        }
    }

    fn check_extended_sda_tag_list(&self) -> Result<(), ProfileError> {
        let list = self.required(tags::EXTENDED_SDA_TAG_LIST)?;
        let named = dol::parse_tag_list(list).map_err(|_| ProfileError::ExtendedSdaTagList)?;
        let mut sorted: Vec<Tag> = named;
        sorted.sort_unstable();
        let mut expected =
            [tags::APPLICATION_IDENTIFIER_TERMINAL, tags::PDOL, tags::CARD_QUALIFIER, tags::CDOL1];
        expected.sort_unstable();
        if sorted == expected { Ok(()) } else { Err(ProfileError::ExtendedSdaTagList) }
    }

    /// The certificate must be the one a terminal will look for: of this AID's provider, of the CA key
    /// the card names, for this card's number range. Its signature is the terminal's business.
    fn check_issuer_certificate(&self) -> Result<(), ProfileError> {
        let bytes = self.required(tags::ISSUER_CERTIFICATE)?;
        let ca_index = self.required(tags::CA_PUBLIC_KEY_INDEX)?;
        let issuer =
            IssuerCertificate::parse(bytes).map_err(|_| ProfileError::IssuerCertificate)?;
        let token: TokenPan = self.token_pan().ok_or(ProfileError::CardNumber)?;
        let fits = self.aid.starts_with(&issuer.rid)
            && ca_index == [issuer.ca_index]
            && issuer.matches_pan(token.expose());
        if fits { Ok(()) } else { Err(ProfileError::IssuerCertificate) }
    }
}

fn check_list(
    bytes: &[u8],
    needs: &[(Tag, usize)],
    name: &'static str,
) -> Result<(), ProfileError> {
    let error = ProfileError::DataObjectList(name);
    let list = DataObjectList::parse(bytes).map_err(|_| error)?;
    // Each once: a list that asks twice would let a terminal answer in two ways.
    let asked_once = |(tag, length): &(Tag, usize)| {
        let mut asked = list.entries().iter().filter(|entry| entry.tag == *tag);
        asked.next().is_some_and(|entry| entry.length == *length) && asked.next().is_none()
    };
    if needs.iter().all(asked_once) { Ok(()) } else { Err(error) }
}

/// YYMMDD of this century.
fn is_date(value: &[u8]) -> bool {
    let [year, month, day] = value else { return false };
    let in_calendar =
        |number: &u8, last: u8| unpack(*number).is_some_and(|n| (1..=last).contains(&n));
    unpack(*year).is_some() && in_calendar(month, 12) && in_calendar(day, 31)
}
