//! Chip data as a terminal sends it (field 55), read strictly: every object that the cryptogram covers
//! must be there once and have its length. What a card of somebody else may fill as it likes is not
//! refused here: the rules decline it.
//!
//! A refusal names tags and lengths, never values.

use core::ops::RangeInclusive;
use std::sync::Arc;

use tapfer_emv::cryptogram::CryptogramInput;
use tapfer_emv::packed_decimal;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag, Tlv, TlvError};
use tapfer_emv::tvr::TerminalVerificationResults;
use tapfer_payment_types::{PanSequenceNumber, Secret, TokenPan};
use tapfer_payments::authorization::PresentedPayment;

/// Longest chip data: an honest one has some three hundred bytes.
const MAXIMUM_LENGTH: usize = 2048;
/// Longest issuer application data (Book 3, annex A).
const LONGEST_APPLICATION_DATA: usize = 32;
/// How many digits `5A` may have: ISO/IEC 7812-1 allows 8 to 19.
const NUMBER_DIGITS: RangeInclusive<usize> = 8..=19;
/// Cryptogram information data of an authorization request cryptogram (Book 3, 6.5.5.4), without an advice
/// or reason code. It is not signed: nothing but this is taken.
const ARQC: u8 = 0x80;

/// Why chip data cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChipDataError {
    #[error("chip data has at most {MAXIMUM_LENGTH} bytes")]
    TooLong,
    #[error("chip data is not BER-TLV: {0}")]
    Syntax(#[from] TlvError),
    #[error("chip data holds tag {0:?} twice")]
    Duplicate(Tag),
    #[error("chip data lacks tag {0:?}; send what the kernel's data record holds")]
    Missing(Tag),
    #[error("tag {tag:?} has {expected} bytes, not the {found} found")]
    Length { tag: Tag, expected: usize, found: usize },
    #[error("tag {tag:?} has at most {most} bytes, not the {found} found")]
    TooLongValue { tag: Tag, most: usize, found: usize },
    #[error("tag {0:?} holds no decimal digits, or no number of its kind")]
    Digits(Tag),
    #[error("tag 9F27 is not that of an ARQC; a payment that the card declined is not sent on")]
    NotOnline,
}

/// What chip data says: who pays, what was agreed to, and the cryptogram over it.
#[derive(Debug)]
pub(crate) struct ChipData {
    /// `5A`; absent if it cannot be a token's number, having another length or no right check digit.
    pub(crate) token_pan: Option<TokenPan>,
    /// `5F34`, 0 if absent.
    pub(crate) sequence: PanSequenceNumber,
    /// What was agreed to, and the cryptogram over it.
    pub(crate) presented: Arc<PresentedPayment>,
}

impl ChipData {
    /// Reads chip data.
    ///
    /// # Errors
    /// [`ChipDataError`], whatever the bytes are.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ChipDataError> {
        if bytes.len() > MAXIMUM_LENGTH {
            return Err(ChipDataError::TooLong);
        }
        let objects = Objects::read(bytes)?;
        let [information] = objects.array(tags::CRYPTOGRAM_INFORMATION_DATA)?;
        if information != ARQC {
            return Err(ChipDataError::NotOnline);
        }
        Ok(Self {
            token_pan: token_pan(&objects)?,
            sequence: sequence(&objects)?,
            presented: Arc::new(presented(&objects)?),
        })
    }
}

/// Data objects, each tag once.
struct Objects<'a>(Vec<Tlv<'a>>);

impl<'a> Objects<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ChipDataError> {
        let objects = tlv::parse(bytes)?;
        let mut tags: Vec<Tag> = objects.iter().map(|object| object.tag).collect();
        tags.sort_unstable();
        let twice = tags.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(*one),
            _ => None,
        });
        twice.map_or(Ok(Self(objects)), |tag| Err(ChipDataError::Duplicate(tag)))
    }

    fn find(&self, tag: Tag) -> Option<&'a [u8]> {
        self.0.iter().find(|object| object.tag == tag).map(|object| object.value)
    }

    fn value(&self, tag: Tag) -> Result<&'a [u8], ChipDataError> {
        self.find(tag).ok_or(ChipDataError::Missing(tag))
    }

    fn at_most(&self, tag: Tag, most: usize) -> Result<&'a [u8], ChipDataError> {
        let value = self.value(tag)?;
        if value.len() <= most {
            return Ok(value);
        }
        Err(ChipDataError::TooLongValue { tag, most, found: value.len() })
    }

    fn array<const N: usize>(&self, tag: Tag) -> Result<[u8; N], ChipDataError> {
        let value = self.value(tag)?;
        let wrong = ChipDataError::Length { tag, expected: N, found: value.len() };
        value.try_into().map_err(|_| wrong)
    }

    /// Format n (Book 3, 4.3).
    fn decimal<const N: usize>(&self, tag: Tag) -> Result<[u8; N], ChipDataError> {
        let digits = self.array(tag)?;
        packed_decimal::number(&digits).map(|_| digits).ok_or(ChipDataError::Digits(tag))
    }
}

fn presented(objects: &Objects<'_>) -> Result<PresentedPayment, ChipDataError> {
    let tvr = objects.array(tags::TERMINAL_VERIFICATION_RESULTS)?;
    let tvr_as_found = TerminalVerificationResults::from_bytes(tvr);
    let aids = [tags::DF_NAME, tags::APPLICATION_IDENTIFIER_TERMINAL]
        .iter()
        .filter_map(|tag| objects.find(*tag).map(<[u8]>::to_vec))
        .collect();
    Ok(PresentedPayment {
        input: cryptogram_input(objects, tvr_as_found.as_signed())?,
        cryptogram: objects.array(tags::APPLICATION_CRYPTOGRAM)?,
        tvr_as_found,
        aids,
    })
}

/// The 29 bytes from the terminal, AIP, counter and IAD, in the order of Book E chapter 4. The terminal
/// sends its verification results as found in the end; the card signed them before its answer was judged.
fn cryptogram_input(
    objects: &Objects<'_>,
    signed: TerminalVerificationResults,
) -> Result<CryptogramInput, ChipDataError> {
    let [transaction_type] = objects.array(tags::TRANSACTION_TYPE)?;
    Ok(CryptogramInput {
        amount_authorized: objects.decimal(tags::AMOUNT_AUTHORIZED)?,
        amount_other: objects.decimal(tags::AMOUNT_OTHER)?,
        terminal_country: objects.array(tags::TERMINAL_COUNTRY_CODE)?,
        tvr: signed.bytes(),
        currency: objects.decimal(tags::TRANSACTION_CURRENCY_CODE)?,
        date: objects.array(tags::TRANSACTION_DATE)?,
        transaction_type,
        unpredictable_number: objects.array(tags::UNPREDICTABLE_NUMBER)?,
        aip: objects.array(tags::APPLICATION_INTERCHANGE_PROFILE)?,
        application_transaction_counter: u16::from_be_bytes(
            objects.array(tags::APPLICATION_TRANSACTION_COUNTER)?,
        ),
        issuer_application_data: objects
            .at_most(tags::ISSUER_APPLICATION_DATA, LONGEST_APPLICATION_DATA)?
            .to_vec(),
    })
}

/// A card number in format cn: digits from the left, filled with `F` (Book 3, 4.3). None, if no token
/// has such a number.
fn token_pan(objects: &Objects<'_>) -> Result<Option<TokenPan>, ChipDataError> {
    let tag = tags::APPLICATION_PAN;
    // Sized in advance, so that no unwiped copy is left behind by growing.
    let mut digits = Secret::new(String::with_capacity(20));
    for byte in objects.at_most(tag, 10)? {
        for nibble in [byte >> 4, byte & 0x0F] {
            let digit = core::char::from_digit(u32::from(nibble), 16);
            digits.expose_mut().extend(digit);
        }
    }
    // `from_digit` writes the filler in lower case.
    let number = digits.expose().trim_end_matches('f');
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || !NUMBER_DIGITS.contains(&number.len()) {
        return Err(ChipDataError::Digits(tag));
    }
    Ok(number.parse().ok())
}

fn sequence(objects: &Objects<'_>) -> Result<PanSequenceNumber, ChipDataError> {
    let tag = tags::PAN_SEQUENCE_NUMBER;
    if objects.find(tag).is_none() {
        return Ok(PanSequenceNumber::ZERO);
    }
    let [digits] = objects.array(tag)?;
    packed_decimal::unpack(digits)
        .and_then(|value| PanSequenceNumber::new(value).ok())
        .ok_or(ChipDataError::Digits(tag))
}

#[cfg(test)]
mod tests {
    use super::{ChipData, ChipDataError};
    use proptest::prelude::*;
    use tapfer_emv::tags;
    use tapfer_payments::authorization::PresentedPayment;

    /// A made-up payment of 12.34 EUR with published test number 4111111111111111.
    const GOOD: &str = "9f02060000000012349f03060000000000009f1a02027695050000000000\
        5f2a0209789a032611219c01009f3704010203048202010\
        49f360200079f10201f01c80000010000000700000100000100000000000000005c5c5c5c5c5c5c5c\
        9f260811223344556677889f2701805a0841111111111111115f340100\
        8408f054415046455201";

    fn good() -> Vec<u8> {
        let digits: String = GOOD.split_whitespace().collect();
        data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap()
    }

    #[test]
    fn reads_what_a_terminal_sends() {
        let data = ChipData::parse(&good()).unwrap();
        assert_eq!(data.token_pan.unwrap().expose(), "4111111111111111");
        assert_eq!(data.sequence.value(), 0);
        let PresentedPayment { input, cryptogram, .. } = &*data.presented;
        assert_eq!((input.amount_minor(), input.currency_numeric()), (Some(1_234), Some(978)));
        assert_eq!(input.application_transaction_counter, 7);
        assert_eq!(*cryptogram, [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
        assert_eq!(input.encode().len(), 29 + 2 + 2 + 32);
    }

    #[test]
    fn prints_without_the_number() {
        assert!(!format!("{:?}", ChipData::parse(&good())).contains("4111"));
    }

    fn with(tag: tapfer_emv::tlv::Tag, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for object in tapfer_emv::tlv::parse(&good()).unwrap() {
            let value = if object.tag == tag { value } else { object.value };
            tapfer_emv::tlv::write(&mut bytes, object.tag, value);
        }
        bytes
    }

    /// What cards of others have there is read, and no token and no application data of ours.
    #[test]
    fn cards_of_others_are_read() {
        for length in [0, 1, 7, 18, 31, 32] {
            let data = with(tags::ISSUER_APPLICATION_DATA, &vec![0x06; length]);
            let data = ChipData::parse(&data).unwrap();
            assert_eq!(data.presented.input.application_data(), None, "{length}");
            assert_eq!(data.presented.input.issuer_application_data.len(), length);
        }
        for number in ["4111111111111112", "41111111", "411111111fff", "4111111111111111112f"] {
            let packed = data_encoding::HEXLOWER.decode(number.as_bytes()).unwrap();
            let data = ChipData::parse(&with(tags::APPLICATION_PAN, &packed)).unwrap();
            assert_eq!(data.token_pan, None, "{number}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let tag = tags::ISSUER_APPLICATION_DATA;
        let refused = ChipDataError::TooLongValue { tag, most: 32, found: 33 };
        assert_eq!(ChipData::parse(&with(tag, &[0x06; 33])).unwrap_err(), refused);
        let tag = tags::APPLICATION_PAN;
        let refused = ChipDataError::TooLongValue { tag, most: 10, found: 11 };
        assert_eq!(ChipData::parse(&with(tag, &[0x41; 11])).unwrap_err(), refused);
        for tag in [tags::AMOUNT_AUTHORIZED, tags::AMOUNT_OTHER] {
            let found = ChipData::parse(&with(tag, &[0, 0, 0, 0, 0, 0x0A])).unwrap_err();
            assert_eq!(found, ChipDataError::Digits(tag));
        }
        for number in [vec![], vec![0x41; 3], vec![0x41; 10], vec![0x4A; 8], vec![0xF4; 8]] {
            let found = ChipData::parse(&with(tag, &number)).unwrap_err();
            assert_eq!(found, ChipDataError::Digits(tag), "{number:02X?}");
        }
    }

    /// Every object that the cryptogram covers is needed, and so is the number.
    #[test]
    fn nothing_that_was_signed_may_be_missing() {
        let bytes = good();
        let objects = tapfer_emv::tlv::parse(&bytes).unwrap();
        for left_out in &objects {
            let rest: Vec<u8> = objects
                .iter()
                .filter(|object| object.tag != left_out.tag)
                .flat_map(|object| object.raw.iter().copied())
                .collect();
            let is_optional = [tags::PAN_SEQUENCE_NUMBER, tags::DF_NAME].contains(&left_out.tag);
            assert_eq!(ChipData::parse(&rest).is_ok(), is_optional, "{:?}", left_out.tag);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(ChipData::parse(&bytes).is_err());
        }

        #[test]
        fn any_change_is_answered(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
        ) {
            let mut bytes = good();
            for (place, value) in changes {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            let _ = ChipData::parse(&bytes);
        }
    }
}
