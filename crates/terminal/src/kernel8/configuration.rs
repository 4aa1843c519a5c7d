//! How a terminal is set up for one application, and what one payment adds (Book C-8 annex A.3).

use alloc::vec::Vec;

use tapfer_emv::certificate::Rid;
use tapfer_emv::dol::parse_tag_list;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};
use tapfer_payment_types::{Money, Timestamp};

use super::data::DataStore;
use super::data_storage::is_data_envelope;
use super::dictionary::{self, Origin};

/// Why a configuration or a session was refused. Found before any card is asked anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// The kernel does not know the data object, or it is one that only cards have.
    #[error("{0} is no data object of the terminal: remove it, or correct its tag")]
    NotConfigurable(Tag),
    /// The value is too short or too long.
    #[error("{0} has a length that Book C-8 annex A.1 does not allow: correct its value")]
    Length(Tag),
    /// A list is none: tags that end half-way, a mapping without its other half, envelopes that are no
    /// data envelopes.
    #[error("{0} is not a list of the form that Book C-8 annex A.1 gives it: correct its value")]
    Malformed(Tag),
    /// A data object that every configuration must have is not there.
    #[error("{0} is missing: Book C-8 annex A.3 wants it in every configuration")]
    Missing(Tag),
    /// The amount is negative or has more than twelve digits.
    #[error("an amount of EMV has up to twelve digits of minor units and no sign")]
    Amount,
}

/// One application's configuration. Book C-8 names every field; amounts are six bytes of BCD minor
/// units, times are in 100 µs.
#[derive(Debug, Clone)]
pub struct KernelConfiguration {
    /// `9F06`: the AID that the terminal selects; the card's may be longer.
    pub application_identifier: Vec<u8>,
    /// `9F09`
    pub application_version_number: [u8; 2],
    /// `9F1A`: ISO 3166 numeric, BCD.
    pub terminal_country_code: [u8; 2],
    /// `9F1D`; the kernel fills byte 1 and the limit bit of byte 2 for each payment.
    pub terminal_risk_management_data: [u8; 8],
    /// `9F35`
    pub terminal_type: u8,
    /// `9F40`
    pub additional_terminal_capabilities: [u8; 5],
    /// `9F8206`: byte 1 of the terminal capabilities.
    pub card_data_input_capability: u8,
    /// `9F8207`: what the terminal offers above the CVM limit.
    pub cvm_capability_required: u8,
    /// `9F8208`: what it offers up to the limit.
    pub cvm_capability_not_required: u8,
    /// `9F8209`
    pub kernel_configuration: [u8; 2],
    /// `9F820A`: byte 3 of the terminal capabilities; `10` is local authentication.
    pub security_capability: u8,
    /// `9F820B`
    pub terminal_action_code_denial: [u8; 5],
    /// `9F820C`
    pub terminal_action_code_online: [u8; 5],
    /// `9F820D`
    pub floor_limit: [u8; 6],
    /// `9F820E`
    pub cvm_required_limit: [u8; 6],
    /// `9F820F`: how long to wait for an answer, in ms. For whoever drives the reader.
    pub timeout_value: u16,
    /// `9F8211`: six BCD digits of 100 ms.
    pub message_hold_time: [u8; 3],
    /// `9F8212`: how long the field is off if the card can notice it, in 100 ms.
    pub hold_time_value: u8,
    /// `9F8213` to `9F8218`
    pub relay_resistance: RelayResistanceConfiguration,
    /// `9F821A`: these bits of the TVR are not the card's to change.
    pub kernel_reserved_tvr_mask: [u8; 5],
    /// `9F821D`: the messages a card may choose.
    pub message_identifiers_on_restart: Vec<u8>,
    /// `9F821E`
    pub default_iad_mac_offset: u8,
    /// `9F821F`
    pub discretionary_data_tag_list: Vec<u8>,
    /// `9F8220`, for cards that send no CDOL1.
    pub default_cdol1: Option<Vec<u8>>,
    /// `9F8221`: pairs of tags: the first one's value is reported under the second one.
    pub tag_mapping_list: Vec<u8>,
    /// Annex B.2 of Book E: issuer certificates that are not to be trusted any more.
    pub revoked_certificates: Vec<RevokedCertificate>,
    /// What else a card's lists may ask for: merchant name, terminal identification, a transaction
    /// type for sessions that bring none. The fields above win over it.
    pub others: DataStore,
}

/// An entry of the certificate revocation list (Book E annex B.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// Whose certification authority signed it.
    pub rid: Rid,
    /// With which of its keys.
    pub ca_index: u8,
    /// The certificate's serial number.
    pub serial: [u8; 3],
}

/// Limits of the relay check, in 100 µs (Book C-8 A.1.85 to A.1.126).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayResistanceConfiguration {
    /// `9F8213`
    pub minimum_grace_period: u16,
    /// `9F8214`
    pub maximum_grace_period: u16,
    /// `9F8215`
    pub expected_command_time: u16,
    /// `9F8216`
    pub expected_response_time: u16,
    /// `9F8217`
    pub accuracy_threshold: u16,
    /// `9F8218`: percent.
    pub mismatch_threshold: u8,
}

impl KernelConfiguration {
    /// Bit of byte 1 of `9F8209`: certificates with RSA keys.
    const RSA_CERTIFICATES: u8 = 0x20;
    /// Bit of byte 1 of `9F8209`: relay check.
    const RELAY_RESISTANCE: u8 = 0x10;
    /// Bit of byte 1 of `9F8209`: report a failed local authentication in the TVR.
    const REPORT_LOCAL_AUTHENTICATION_FAILED: u8 = 0x08;
    /// Bit of the security capability: local authentication.
    const LOCAL_AUTHENTICATION: u8 = 0x10;
    /// Terminal type of a merchant's attended, online only terminal (Book 4 annex A1).
    const ATTENDED_ONLINE_ONLY: u8 = 0x21;

    /// An attended terminal that is online only, without a PIN pad or a receipt to sign: it asks for
    /// verification by the phone above `cvm_required_limit`, approves nothing without the platform,
    /// whatever the card offers, and declines a card whose certificates do not hold, which cannot be
    /// authenticated, or which leaves out a verification that it asked for.
    ///
    /// # Errors
    /// [`ConfigurationError`] if AID or limit cannot be.
    pub fn attended(
        application_identifier: &[u8],
        country: u16,
        cvm_required_limit: Money,
    ) -> Result<Self, ConfigurationError> {
        if !(5..=16).contains(&application_identifier.len()) {
            return Err(ConfigurationError::Length(tags::APPLICATION_IDENTIFIER_TERMINAL));
        }
        Ok(Self {
            application_identifier: application_identifier.to_vec(),
            application_version_number: [0x00, 0x02],
            terminal_country_code: bcd_code(country),
            terminal_risk_management_data: [0; 8],
            terminal_type: Self::ATTENDED_ONLINE_ONLY,
            additional_terminal_capabilities: [0x60, 0x00, 0xF0, 0xB0, 0x01],
            card_data_input_capability: 0x60,
            cvm_capability_required: 0x04,
            cvm_capability_not_required: 0x0C,
            kernel_configuration: [Self::REPORT_LOCAL_AUTHENTICATION_FAILED, 0x00],
            security_capability: Self::LOCAL_AUTHENTICATION,
            // Local authentication not performed or failed; verification of the person failed.
            terminal_action_code_denial: [0x84, 0x00, 0x80, 0x00, 0x00],
            // Whatever is found. An online only terminal does not look at it; one that is set up from
            // this and given another type must not become lenient by that.
            terminal_action_code_online: [0xFF; 5],
            floor_limit: [0x00; 6],
            cvm_required_limit: bcd_amount(cvm_required_limit.minor)?,
            timeout_value: 500,
            message_hold_time: [0x00, 0x00, 0x13],
            hold_time_value: 13,
            relay_resistance: RelayResistanceConfiguration {
                minimum_grace_period: 20,
                maximum_grace_period: 50,
                expected_command_time: 18,
                expected_response_time: 24,
                accuracy_threshold: 300,
                mismatch_threshold: 50,
            },
            kernel_reserved_tvr_mask: [0x84, 0x00, 0x00, 0x00, 0x8F],
            message_identifiers_on_restart: alloc::vec![0x20],
            default_iad_mac_offset: 10,
            discretionary_data_tag_list: alloc::vec![0x9F, 0x82, 0x04, 0x9F, 0x81, 0x0C],
            default_cdol1: None,
            tag_mapping_list: Vec::new(),
            revoked_certificates: Vec::new(),
            others: DataStore::default(),
        })
    }

    /// From data objects, as terminals are configured in the field.
    ///
    /// # Errors
    /// [`ConfigurationError`] names the data object that is wrong or missing.
    pub fn from_data_objects<'a>(
        objects: impl IntoIterator<Item = (Tag, &'a [u8])>,
    ) -> Result<Self, ConfigurationError> {
        let data = terminal_data(objects)?;
        Ok(Self {
            application_identifier: required(&data, tags::APPLICATION_IDENTIFIER_TERMINAL)?,
            application_version_number: array(&data, tags::APPLICATION_VERSION_NUMBER_TERMINAL)?,
            terminal_country_code: array(&data, tags::TERMINAL_COUNTRY_CODE)?,
            terminal_risk_management_data: array(&data, tags::TERMINAL_RISK_MANAGEMENT_DATA)?,
            terminal_type: byte(&data, tags::TERMINAL_TYPE)?,
            additional_terminal_capabilities: array(&data, tags::ADDITIONAL_TERMINAL_CAPABILITIES)?,
            card_data_input_capability: byte(&data, tags::CARD_DATA_INPUT_CAPABILITY)?,
            cvm_capability_required: byte(&data, tags::CVM_CAPABILITY_CVM_REQUIRED)?,
            cvm_capability_not_required: byte(&data, tags::CVM_CAPABILITY_NO_CVM_REQUIRED)?,
            kernel_configuration: array(&data, tags::KERNEL_CONFIGURATION)?,
            security_capability: byte(&data, tags::SECURITY_CAPABILITY)?,
            terminal_action_code_denial: array(&data, tags::TERMINAL_ACTION_CODE_DENIAL)?,
            terminal_action_code_online: array(&data, tags::TERMINAL_ACTION_CODE_ONLINE)?,
            floor_limit: array(&data, tags::READER_CONTACTLESS_FLOOR_LIMIT)?,
            cvm_required_limit: array(&data, tags::READER_CVM_REQUIRED_LIMIT)?,
            timeout_value: number(&data, tags::TIME_OUT_VALUE)?,
            message_hold_time: array(&data, tags::MESSAGE_HOLD_TIME)?,
            hold_time_value: byte(&data, tags::HOLD_TIME_VALUE)?,
            relay_resistance: RelayResistanceConfiguration {
                minimum_grace_period: number(&data, tags::MINIMUM_RELAY_RESISTANCE_GRACE_PERIOD)?,
                maximum_grace_period: number(&data, tags::MAXIMUM_RELAY_RESISTANCE_GRACE_PERIOD)?,
                expected_command_time: number(&data, tags::TERMINAL_EXPECTED_COMMAND_TIME)?,
                expected_response_time: number(&data, tags::TERMINAL_EXPECTED_RESPONSE_TIME)?,
                accuracy_threshold: number(&data, tags::RELAY_RESISTANCE_ACCURACY_THRESHOLD)?,
                mismatch_threshold: byte(
                    &data,
                    tags::RELAY_RESISTANCE_TRANSMISSION_TIME_MISMATCH_THRESHOLD,
                )?,
            },
            kernel_reserved_tvr_mask: array(&data, tags::KERNEL_RESERVED_TVR_MASK)?,
            message_identifiers_on_restart: present(&data, tags::MESSAGE_IDENTIFIERS_ON_RESTART)?,
            default_iad_mac_offset: byte(&data, tags::DEFAULT_IAD_MAC_OFFSET)?,
            discretionary_data_tag_list: present(&data, tags::DISCRETIONARY_DATA_TAG_LIST)?,
            default_cdol1: data.get(tags::DEFAULT_CDOL1).map(<[u8]>::to_vec),
            tag_mapping_list: present(&data, tags::TAG_MAPPING_LIST)?,
            revoked_certificates: Vec::new(),
            others: data,
        })
    }

    /// The same with the relay check on (`9F8209`): for readers that answer within its times.
    #[must_use]
    pub const fn with_relay_check(mut self) -> Self {
        self.kernel_configuration[0] |= Self::RELAY_RESISTANCE;
        self
    }

    /// Whether certificates with RSA keys are wanted, which this kernel does not have.
    pub(super) const fn wants_rsa(&self) -> bool {
        self.kernel_configuration[0] & Self::RSA_CERTIFICATES != 0
    }

    /// Whether the relay check is on.
    pub(super) const fn checks_relay(&self) -> bool {
        self.kernel_configuration[0] & Self::RELAY_RESISTANCE != 0
    }

    /// Whether a failed local authentication stays in the TVR.
    pub(super) const fn reports_local_authentication(&self) -> bool {
        self.kernel_configuration[0] & Self::REPORT_LOCAL_AUTHENTICATION_FAILED != 0
    }

    /// Whether the terminal can authenticate cards.
    pub(super) const fn authenticates_locally(&self) -> bool {
        self.security_capability & Self::LOCAL_AUTHENTICATION != 0
    }

    /// What of it a card may ask for in its lists.
    pub(crate) fn data_objects(&self) -> DataStore {
        let mut data = self.others.clone();
        data.set(tags::APPLICATION_IDENTIFIER_TERMINAL, &self.application_identifier);
        data.set(tags::APPLICATION_VERSION_NUMBER_TERMINAL, &self.application_version_number);
        data.set(tags::TERMINAL_COUNTRY_CODE, &self.terminal_country_code);
        data.set(tags::TERMINAL_RISK_MANAGEMENT_DATA, &self.terminal_risk_management_data);
        data.set(tags::TERMINAL_TYPE, &[self.terminal_type]);
        data.set(tags::ADDITIONAL_TERMINAL_CAPABILITIES, &self.additional_terminal_capabilities);
        data
    }
}

/// What one payment brings: amounts, date, type and currency.
#[derive(Debug, Clone)]
pub struct Session {
    data: DataStore,
}

impl Session {
    /// A purchase of this amount at this time (UTC, as the terminal knows no other).
    ///
    /// # Errors
    /// [`ConfigurationError::Amount`].
    pub fn purchase(amount: Money, now: Timestamp) -> Result<Self, ConfigurationError> {
        let calendar = now.calendar();
        let mut data = DataStore::default();
        data.set(tags::AMOUNT_AUTHORIZED, &bcd_amount(amount.minor)?);
        data.set(tags::AMOUNT_OTHER, &[0; 6]);
        data.set(tags::TRANSACTION_CURRENCY_CODE, &bcd_code(amount.currency.numeric()));
        let year = u8::try_from(calendar.year.checked_rem(100).unwrap_or(0)).unwrap_or(0);
        data.set(tags::TRANSACTION_DATE, &[year, calendar.month, calendar.day].map(bcd));
        data.set(
            tags::TRANSACTION_TIME,
            &[calendar.hour, calendar.minute, calendar.second].map(bcd),
        );
        data.set(tags::TRANSACTION_TYPE, &[0x00]);
        Ok(Self { data })
    }

    /// From data objects. One without amount or date is a session too: it ends with the error of level
    /// 3 that the book has for it, once the card has been read.
    ///
    /// # Errors
    /// [`ConfigurationError`] names the data object that is wrong.
    pub fn from_data_objects<'a>(
        objects: impl IntoIterator<Item = (Tag, &'a [u8])>,
    ) -> Result<Self, ConfigurationError> {
        Ok(Self { data: terminal_data(objects)? })
    }

    /// Asks for data objects of the card (Tags To Read `9F8203`): data envelopes are read with READ
    /// DATA, anything else is taken from what the card sent. The answer is in Data To Send.
    ///
    /// # Errors
    /// [`ConfigurationError::Malformed`] if the list is too long.
    pub fn with_tags_to_read(mut self, wanted: &[Tag]) -> Result<Self, ConfigurationError> {
        let list: Vec<u8> = wanted.iter().flat_map(|tag| tag.significant_bytes()).collect();
        self.data.append(&terminal_data([(tags::TAGS_TO_READ, list.as_slice())])?);
        Ok(self)
    }

    /// Writes data envelopes to the card after GENERATE AC (Data Envelopes To Write `BF8104`).
    ///
    /// # Errors
    /// [`ConfigurationError::Malformed`] if one is no data envelope, or longer than 243 bytes.
    pub fn with_envelopes_to_write(
        mut self,
        envelopes: &[(Tag, &[u8])],
    ) -> Result<Self, ConfigurationError> {
        let mut list = Vec::new();
        envelopes.iter().for_each(|(tag, value)| tlv::write(&mut list, *tag, value));
        self.data.append(&terminal_data([(tags::DATA_ENVELOPES_TO_WRITE, list.as_slice())])?);
        Ok(self)
    }

    /// Adds what the terminal says about itself in this payment.
    pub(crate) fn set(&mut self, tag: Tag, value: &[u8]) {
        self.data.set(tag, value);
    }

    pub(crate) const fn data_objects(&self) -> &DataStore {
        &self.data
    }
}

/// Data objects that are the terminal's to set, each as Book C-8 annex A.1 wants it.
///
/// # Errors
/// [`ConfigurationError`] names the data object that is wrong.
pub(crate) fn terminal_data<'a>(
    objects: impl IntoIterator<Item = (Tag, &'a [u8])>,
) -> Result<DataStore, ConfigurationError> {
    let mut data = DataStore::default();
    for (tag, value) in objects {
        let known = dictionary::lookup(tag).ok_or(ConfigurationError::NotConfigurable(tag))?;
        if known.origin == Origin::Card {
            return Err(ConfigurationError::NotConfigurable(tag));
        }
        if !known.allows_length(value.len()) {
            return Err(ConfigurationError::Length(tag));
        }
        if !is_well_formed(tag, value) {
            return Err(ConfigurationError::Malformed(tag));
        }
        data.set(tag, value);
    }
    Ok(data)
}

/// Lists are read while a card is there; one that cannot be read is found before.
fn is_well_formed(tag: Tag, value: &[u8]) -> bool {
    match tag {
        tags::TAGS_TO_READ | tags::DISCRETIONARY_DATA_TAG_LIST => parse_tag_list(value).is_ok(),
        tags::TAG_MAPPING_LIST => {
            parse_tag_list(value).is_ok_and(|list| list.len().is_multiple_of(2))
        }
        tags::DATA_ENVELOPES_TO_WRITE => tlv::parse(value).is_ok_and(|envelopes| {
            envelopes.iter().all(|envelope| {
                is_data_envelope(envelope.tag)
                    && dictionary::lookup(envelope.tag)
                        .is_some_and(|known| known.allows_length(envelope.value.len()))
            })
        }),
        _ => true,
    }
}

/// A value that must be there, but may be empty.
fn present(data: &DataStore, tag: Tag) -> Result<Vec<u8>, ConfigurationError> {
    data.iter()
        .find(|(present, _)| *present == tag)
        .map(|(_, value)| value.to_vec())
        .ok_or(ConfigurationError::Missing(tag))
}

fn required(data: &DataStore, tag: Tag) -> Result<Vec<u8>, ConfigurationError> {
    data.get(tag).map(<[u8]>::to_vec).ok_or(ConfigurationError::Missing(tag))
}

fn array<const N: usize>(data: &DataStore, tag: Tag) -> Result<[u8; N], ConfigurationError> {
    data.array(tag).ok_or(ConfigurationError::Missing(tag))
}

fn byte(data: &DataStore, tag: Tag) -> Result<u8, ConfigurationError> {
    data.byte(tag).ok_or(ConfigurationError::Missing(tag))
}

fn number(data: &DataStore, tag: Tag) -> Result<u16, ConfigurationError> {
    array(data, tag).map(u16::from_be_bytes)
}

/// Two digits, 0 to 99, as one byte of BCD.
fn bcd(number: u8) -> u8 {
    let tens = number.checked_div(10).unwrap_or(0);
    let ones = number.checked_rem(10).unwrap_or(0);
    tens.wrapping_shl(4) | ones
}

/// A country or currency code, 0 to 999, as two bytes of BCD.
pub(crate) fn bcd_code(code: u16) -> [u8; 2] {
    let part = |number: u16| u8::try_from(number.checked_rem(100).unwrap_or(0)).unwrap_or(0);
    [bcd(part(code.checked_div(100).unwrap_or(0))), bcd(part(code))]
}

/// Minor units as six bytes of BCD (format n 12).
pub(crate) fn bcd_amount(minor: i64) -> Result<[u8; 6], ConfigurationError> {
    let mut rest = u64::try_from(minor).map_err(|_| ConfigurationError::Amount)?;
    let mut digits = [0_u8; 6];
    for byte in digits.iter_mut().rev() {
        *byte = bcd(u8::try_from(rest.checked_rem(100).unwrap_or(0)).unwrap_or(0));
        rest = rest.checked_div(100).unwrap_or(0);
    }
    if rest == 0 { Ok(digits) } else { Err(ConfigurationError::Amount) }
}

/// Whether every half byte is a decimal digit.
pub(super) fn is_numeric(value: &[u8]) -> bool {
    value.iter().all(|byte| byte & 0x0F <= 9 && byte.wrapping_shr(4) <= 9)
}

#[cfg(test)]
mod tests {
    use super::{
        ConfigurationError, KernelConfiguration, Session, Tag, bcd_amount, bcd_code, tags,
    };
    use tapfer_payment_types::{Currency, Money};

    #[test]
    fn amounts_and_codes_in_bcd() {
        assert_eq!(bcd_amount(123_456).unwrap(), [0, 0, 0, 0x12, 0x34, 0x56]);
        assert_eq!(bcd_amount(999_999_999_999).unwrap(), [0x99; 6]);
        assert_eq!(bcd_amount(1_000_000_000_000), Err(ConfigurationError::Amount));
        assert_eq!(bcd_amount(-1), Err(ConfigurationError::Amount));
        assert_eq!(bcd_code(978), [0x09, 0x78]);
    }

    #[test]
    fn a_purchase_has_what_the_kernel_needs() {
        let amount = Money::new(1234, Currency::EUR);
        let session = Session::purchase(amount, "2026-11-21T23:59:58Z".parse().unwrap()).unwrap();
        let data = session.data_objects();
        assert_eq!(data.get(tags::AMOUNT_AUTHORIZED), Some(&[0, 0, 0, 0, 0x12, 0x34][..]));
        assert_eq!(data.get(tags::TRANSACTION_DATE), Some(&[0x26, 0x11, 0x21][..]));
        assert_eq!(data.get(tags::TRANSACTION_TIME), Some(&[0x23, 0x59, 0x58][..]));
        assert_eq!(data.get(tags::TRANSACTION_CURRENCY_CODE), Some(&[0x09, 0x78][..]));
    }

    #[test]
    fn names_what_is_wrong() {
        let read = |tag: u32, value: &[u8]| {
            KernelConfiguration::from_data_objects([(Tag::new(tag), value)]).unwrap_err()
        };
        assert_eq!(read(0x5A, &[1]), ConfigurationError::NotConfigurable(Tag::new(0x5A)));
        assert_eq!(read(0xDF01, &[1]), ConfigurationError::NotConfigurable(Tag::new(0xDF01)));
        assert_eq!(read(0x9F35, &[1, 2]), ConfigurationError::Length(Tag::new(0x9F35)));
        assert_eq!(read(0x9F_8203, &[0x9F]), ConfigurationError::Malformed(Tag::new(0x9F_8203)));
        assert_eq!(read(0x9F_8221, &[0x50]), ConfigurationError::Malformed(Tag::new(0x9F_8221)));
        for not_an_envelope in [&[0x50, 0x01, 0x41][..], &[0x9F, 0x81, 0x11, 0x05, 0x00]] {
            let error = read(0xBF_8104, not_an_envelope);
            assert_eq!(error, ConfigurationError::Malformed(Tag::new(0xBF_8104)));
        }
        assert_eq!(read(0x9F35, &[0x22]), ConfigurationError::Missing(Tag::new(0x9F06)));
        let attended = KernelConfiguration::attended(&[1; 4], 276, Money::new(1, Currency::EUR));
        assert_eq!(attended.unwrap_err(), ConfigurationError::Length(Tag::new(0x9F06)));
    }
}
