//! Tags of Kernel 8, of the entry point and of field 55, by their names in the data dictionaries
//! (Book 3 annex A, Book C-8 annex A), and what they mean.

use crate::tlv::Tag;

/// Format of a value (Book 3, 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Bits, bytes or a binary number (b).
    Binary,
    /// Decimal digits, two to a byte, filled with zeros on the left (n).
    Numeric,
    /// Decimal digits, two to a byte, filled with `F` on the right (cn).
    CompressedNumeric,
    /// Characters (a, an, ans).
    Alphabetic,
    /// Further data objects.
    Template,
    /// Tags and lengths without values.
    DataObjectList,
    /// Tags without lengths and values.
    TagList,
    /// YYMMDD, numeric.
    Date,
    /// HHMMSS, numeric.
    Time,
    /// Track 2 of the magnetic stripe, packed.
    Track2,
}

impl Format {
    /// Whether a value of another length is cut and filled on the left (Book 3, 5.4).
    #[must_use]
    pub const fn is_numeric(self) -> bool {
        matches!(self, Self::Numeric | Self::Date | Self::Time)
    }
}

/// A row of the data dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagDescription {
    /// The tag.
    pub tag: Tag,
    /// Its name in the data dictionary.
    pub name: &'static str,
    /// How to read the value.
    pub format: Format,
    /// Holds card data that must not be logged: number, name, tracks, PIN.
    pub sensitive: bool,
}

/// The row of a tag, if the dictionary has it.
#[must_use]
pub fn describe(tag: Tag) -> Option<&'static TagDescription> {
    DICTIONARY.iter().find(|row| row.tag == tag)
}

macro_rules! is_sensitive {
    () => {
        false
    };
    (sensitive) => {
        true
    };
}

/// One row each: constant, number, format, name; `sensitive` behind the format of card data.
macro_rules! dictionary {
    ($($constant:ident = $number:literal, $format:ident $($sensitive:ident)?, $name:literal;)*) => {
        $(
            #[doc = concat!("`", stringify!($number), "` ", $name, ".")]
            pub const $constant: Tag = Tag::new($number);
        )*

        /// Every tag that is known by name.
        pub const DICTIONARY: &[TagDescription] = &[
            $(TagDescription {
                tag: $constant,
                name: $name,
                format: Format::$format,
                sensitive: is_sensitive!($($sensitive)?),
            }),*
        ];
    };
}

dictionary! {
    // Entry point and file control.
    ISSUER_IDENTIFICATION_NUMBER = 0x42, Numeric, "Issuer Identification Number (IIN)";
    APPLICATION_IDENTIFIER_CARD = 0x4F, Binary, "Application Identifier (AID) - card";
    APPLICATION_LABEL = 0x50, Alphabetic, "Application Label";
    TRACK_1_DATA = 0x56, Alphabetic sensitive, "Track 1 Data";
    TRACK_2_EQUIVALENT_DATA = 0x57, Track2 sensitive, "Track 2 Equivalent Data";
    APPLICATION_PAN = 0x5A, CompressedNumeric sensitive, "Application Primary Account Number (PAN)";
    DIRECTORY_ENTRY = 0x61, Template, "Application Template";
    FCI_TEMPLATE = 0x6F, Template, "File Control Information (FCI) Template";
    READ_RECORD_TEMPLATE = 0x70, Template, "READ RECORD Response Message Template";
    ISSUER_SCRIPT_TEMPLATE_1 = 0x71, Template, "Issuer Script Template 1";
    ISSUER_SCRIPT_TEMPLATE_2 = 0x72, Template, "Issuer Script Template 2";
    DIRECTORY_DISCRETIONARY_TEMPLATE = 0x73, Template, "Directory Discretionary Template";
    RESPONSE_TEMPLATE_FORMAT_2 = 0x77, Template, "Response Message Template Format 2";
    RESPONSE_TEMPLATE_FORMAT_1 = 0x80, Binary, "Response Message Template Format 1";
    AMOUNT_AUTHORIZED_BINARY = 0x81, Binary, "Amount, Authorised (Binary)";
    APPLICATION_INTERCHANGE_PROFILE = 0x82, Binary, "Application Interchange Profile";
    COMMAND_TEMPLATE = 0x83, Binary, "Command Template";
    DF_NAME = 0x84, Binary, "Dedicated File (DF) Name";
    ISSUER_SCRIPT_COMMAND = 0x86, Binary, "Issuer Script Command";
    APPLICATION_PRIORITY_INDICATOR = 0x87, Binary, "Application Priority Indicator";
    SHORT_FILE_IDENTIFIER = 0x88, Binary, "Short File Identifier (SFI)";
    AUTHORISATION_CODE = 0x89, Alphabetic, "Authorisation Code";
    AUTHORISATION_RESPONSE_CODE = 0x8A, Alphabetic, "Authorisation Response Code";
    CDOL1 = 0x8C, DataObjectList, "Card Risk Management Data Object List 1 (CDOL1)";
    CDOL2 = 0x8D, DataObjectList, "Card Risk Management Data Object List 2 (CDOL2)";
    CVM_LIST = 0x8E, Binary, "Cardholder Verification Method (CVM) List";
    CA_PUBLIC_KEY_INDEX = 0x8F, Binary, "Certification Authority Public Key Index - card";
    ISSUER_CERTIFICATE = 0x90, Binary, "Issuer Public Key Certificate";
    ISSUER_AUTHENTICATION_DATA = 0x91, Binary, "Issuer Authentication Data";
    APPLICATION_FILE_LOCATOR = 0x94, Binary, "Application File Locator (AFL)";
    TERMINAL_VERIFICATION_RESULTS = 0x95, Binary, "Terminal Verification Results";
    TRANSACTION_PIN_DATA = 0x99, Binary sensitive, "Transaction Personal Identification Number (PIN) Data";
    TRANSACTION_DATE = 0x9A, Date, "Transaction Date";
    TRANSACTION_STATUS_INFORMATION = 0x9B, Binary, "Transaction Status Information";
    TRANSACTION_TYPE = 0x9C, Numeric, "Transaction Type";
    KERNEL_KEY_DATA = 0x9E, Binary, "Kernel Key Data";
    FCI_PROPRIETARY_TEMPLATE = 0xA5, Template, "File Control Information (FCI) Proprietary Template";
    FCI_ISSUER_DISCRETIONARY_DATA = 0xBF0C, Template, "File Control Information (FCI) Issuer Discretionary Data";
    ENCRYPTED_RECORD = 0xDA, Binary, "Encrypted READ RECORD Response Message Template";

    // Dates, countries, currencies, language.
    CARDHOLDER_NAME = 0x5F20, Alphabetic sensitive, "Cardholder Name";
    APPLICATION_EXPIRATION_DATE = 0x5F24, Date, "Application Expiration Date";
    APPLICATION_EFFECTIVE_DATE = 0x5F25, Date, "Application Effective Date";
    ISSUER_COUNTRY_CODE = 0x5F28, Numeric, "Issuer Country Code";
    TRANSACTION_CURRENCY_CODE = 0x5F2A, Numeric, "Transaction Currency Code";
    LANGUAGE_PREFERENCE = 0x5F2D, Alphabetic, "Language Preference";
    SERVICE_CODE = 0x5F30, Numeric, "Service Code";
    PAN_SEQUENCE_NUMBER = 0x5F34, Numeric, "Application Primary Account Number (PAN) Sequence Number";
    TRANSACTION_CURRENCY_EXPONENT = 0x5F36, Numeric, "Transaction Currency Exponent";
    ACCOUNT_TYPE = 0x5F57, Numeric, "Account Type";

    // Transaction and terminal data.
    ACQUIRER_IDENTIFIER = 0x9F01, Numeric, "Acquirer Identifier";
    AMOUNT_AUTHORIZED = 0x9F02, Numeric, "Amount, Authorised (Numeric)";
    AMOUNT_OTHER = 0x9F03, Numeric, "Amount, Other (Numeric)";
    APPLICATION_IDENTIFIER_TERMINAL = 0x9F06, Binary, "Application Identifier (AID) - terminal";
    APPLICATION_USAGE_CONTROL = 0x9F07, Binary, "Application Usage Control";
    APPLICATION_VERSION_NUMBER_CARD = 0x9F08, Binary, "Application Version Number - card";
    APPLICATION_VERSION_NUMBER_TERMINAL = 0x9F09, Binary, "Application Version Number - terminal";
    APPLICATION_SELECTION_REGISTERED_PROPRIETARY_DATA = 0x9F0A, Binary, "Application Selection Registered Proprietary Data";
    ISSUER_ACTION_CODE_DEFAULT = 0x9F0D, Binary, "Issuer Action Code - Default";
    ISSUER_ACTION_CODE_DENIAL = 0x9F0E, Binary, "Issuer Action Code - Denial";
    ISSUER_ACTION_CODE_ONLINE = 0x9F0F, Binary, "Issuer Action Code - Online";
    ISSUER_APPLICATION_DATA = 0x9F10, Binary, "Issuer Application Data";
    ISSUER_CODE_TABLE_INDEX = 0x9F11, Numeric, "Issuer Code Table Index";
    APPLICATION_PREFERRED_NAME = 0x9F12, Alphabetic, "Application Preferred Name";
    MERCHANT_CATEGORY_CODE = 0x9F15, Numeric, "Merchant Category Code";
    MERCHANT_IDENTIFIER = 0x9F16, Alphabetic, "Merchant Identifier";
    TOKEN_REQUESTOR_ID = 0x9F19, Numeric, "Token Requestor ID";
    TERMINAL_COUNTRY_CODE = 0x9F1A, Numeric, "Terminal Country Code";
    TERMINAL_FLOOR_LIMIT = 0x9F1B, Binary, "Terminal Floor Limit";
    TERMINAL_IDENTIFICATION = 0x9F1C, Alphabetic, "Terminal Identification";
    TERMINAL_RISK_MANAGEMENT_DATA = 0x9F1D, Binary, "Terminal Risk Management Data";
    INTERFACE_DEVICE_SERIAL_NUMBER = 0x9F1E, Alphabetic, "Interface Device (IFD) Serial Number";
    TRACK_1_DISCRETIONARY_DATA = 0x9F1F, Alphabetic sensitive, "Track 1 Discretionary Data";
    TRACK_2_DISCRETIONARY_DATA = 0x9F20, CompressedNumeric sensitive, "Track 2 Discretionary Data";
    TRANSACTION_TIME = 0x9F21, Time, "Transaction Time";
    PAYMENT_ACCOUNT_REFERENCE = 0x9F24, Alphabetic, "Payment Account Reference (PAR)";
    LAST_4_DIGITS_OF_PAN = 0x9F25, Numeric, "Last 4 Digits of PAN";
    APPLICATION_CRYPTOGRAM = 0x9F26, Binary, "Application Cryptogram";
    CRYPTOGRAM_INFORMATION_DATA = 0x9F27, Binary, "Cryptogram Information Data";
    EXTENDED_SELECTION = 0x9F29, Binary, "Extended Selection";
    KERNEL_IDENTIFIER = 0x9F2A, Binary, "Kernel Identifier";
    KERNEL_QUALIFIER = 0x9F2B, Binary, "Kernel Qualifier";
    CARD_QUALIFIER = 0x9F2C, Binary, "Card Qualifier";
    TERMINAL_CAPABILITIES = 0x9F33, Binary, "Terminal Capabilities";
    CVM_RESULTS = 0x9F34, Binary, "Cardholder Verification Method (CVM) Results";
    TERMINAL_TYPE = 0x9F35, Numeric, "Terminal Type";
    APPLICATION_TRANSACTION_COUNTER = 0x9F36, Binary, "Application Transaction Counter (ATC)";
    UNPREDICTABLE_NUMBER = 0x9F37, Binary, "Unpredictable Number";
    PDOL = 0x9F38, DataObjectList, "Processing Options Data Object List (PDOL)";
    POS_ENTRY_MODE = 0x9F39, Numeric, "Point-of-Service (POS) Entry Mode";
    ADDITIONAL_TERMINAL_CAPABILITIES = 0x9F40, Binary, "Additional Terminal Capabilities";
    TRANSACTION_SEQUENCE_COUNTER = 0x9F41, Numeric, "Transaction Sequence Counter";
    APPLICATION_CURRENCY_CODE = 0x9F42, Numeric, "Application Currency Code";
    APPLICATION_CURRENCY_EXPONENT = 0x9F44, Numeric, "Application Currency Exponent";
    ICC_CERTIFICATE = 0x9F46, Binary, "ICC Public Key Certificate";
    ICC_DYNAMIC_NUMBER = 0x9F4C, Binary, "ICC Dynamic Number";
    LOG_ENTRY = 0x9F4D, Binary, "Log Entry";
    MERCHANT_NAME_AND_LOCATION = 0x9F4E, Alphabetic, "Merchant Name and Location";
    TERMINAL_TRANSACTION_QUALIFIERS = 0x9F66, Binary, "Terminal Transaction Qualifiers (TTQ)";
    TRACK_2_DATA = 0x9F6B, Track2 sensitive, "Track 2 Data";
    CARD_TRANSACTION_QUALIFIERS = 0x9F6C, Binary, "Card Transaction Qualifiers (CTQ)";
    FORM_FACTOR_INDICATOR = 0x9F6E, Binary, "Form Factor Indicator";
    CUSTOMER_EXCLUSIVE_DATA = 0x9F7C, Binary, "Customer Exclusive Data";

    // Between wallet and terminal of this platform.
    MERCHANT_PROOF = 0xDF51, Binary, "Merchant Proof";

    // Kernel 8: from the card.
    CARDHOLDER_VERIFICATION_DECISION = 0x9F_8102, Binary, "Cardholder Verification Decision";
    CARD_KEY_DATA = 0x9F_8103, Binary, "Card Key Data";
    CARD_TVR = 0x9F_8104, Binary, "Card TVR";
    EDA_MAC = 0x9F_8105, Binary, "Enhanced Data Authentication MAC (EDA-MAC)";
    AUTHENTICATED_APPLICATION_DATA = 0x9F_8106, Binary, "Authenticated Application Data";
    IAD_MAC_OFFSET = 0x9F_8107, Binary, "Issuer Application Data MAC Offset";
    RESTART_INDICATOR = 0x9F_8108, Binary, "Restart Indicator";
    IAD_MAC = 0x9F_8109, Binary, "Issuer Application Data MAC (IAD-MAC)";
    EXTENDED_SDA_TAG_LIST = 0x9F_810A, TagList, "Extended SDA Tag List";
    RELAY_RESISTANCE_TIME_EXCESS = 0x9F_810C, Binary, "Relay Resistance Time Excess";
    CARD_CAPABILITIES = 0x9F_810D, Binary, "Card Capabilities";
    DATA_ENVELOPE_1 = 0x9F_8111, Binary, "Data Envelope 1";
    DATA_ENVELOPE_2 = 0x9F_8112, Binary, "Data Envelope 2";
    DATA_ENVELOPE_3 = 0x9F_8113, Binary, "Data Envelope 3";
    DATA_ENVELOPE_4 = 0x9F_8114, Binary, "Data Envelope 4";
    DATA_ENVELOPE_5 = 0x9F_8115, Binary, "Data Envelope 5";
    DATA_ENVELOPE_6 = 0x9F_8116, Binary, "Data Envelope 6";
    DATA_ENVELOPE_7 = 0x9F_8117, Binary, "Data Envelope 7";
    DATA_ENVELOPE_8 = 0x9F_8118, Binary, "Data Envelope 8";
    DATA_ENVELOPE_9 = 0x9F_8119, Binary, "Data Envelope 9";
    DATA_ENVELOPE_10 = 0x9F_811A, Binary, "Data Envelope 10";

    // Kernel 8: configuration and outcome.
    DATA_NEEDED = 0x9F_8201, TagList, "Data Needed";
    PROCEED_TO_FIRST_WRITE_FLAG = 0x9F_8202, Binary, "Proceed To First Write Flag";
    TAGS_TO_READ = 0x9F_8203, TagList, "Tags To Read";
    ERROR_INDICATION = 0x9F_8204, Binary, "Error Indication";
    USER_INTERFACE_REQUEST_DATA_1 = 0x9F_8205, Binary, "User Interface Request Data 1";
    CARD_DATA_INPUT_CAPABILITY = 0x9F_8206, Binary, "Card Data Input Capability";
    CVM_CAPABILITY_CVM_REQUIRED = 0x9F_8207, Binary, "CVM Capability - CVM Required";
    CVM_CAPABILITY_NO_CVM_REQUIRED = 0x9F_8208, Binary, "CVM Capability - No CVM Required";
    KERNEL_CONFIGURATION = 0x9F_8209, Binary, "Kernel Configuration";
    SECURITY_CAPABILITY = 0x9F_820A, Binary, "Security Capability";
    TERMINAL_ACTION_CODE_DENIAL = 0x9F_820B, Binary, "Terminal Action Code - Denial";
    TERMINAL_ACTION_CODE_ONLINE = 0x9F_820C, Binary, "Terminal Action Code - Online";
    READER_CONTACTLESS_FLOOR_LIMIT = 0x9F_820D, Numeric, "Reader Contactless Floor Limit";
    READER_CVM_REQUIRED_LIMIT = 0x9F_820E, Numeric, "Reader CVM Required Limit";
    TIME_OUT_VALUE = 0x9F_820F, Binary, "Time Out Value";
    OUTCOME_PARAMETER_SET = 0x9F_8210, Binary, "Outcome Parameter Set";
    MESSAGE_HOLD_TIME = 0x9F_8211, Numeric, "Message Hold Time";
    HOLD_TIME_VALUE = 0x9F_8212, Binary, "Hold Time Value";
    MINIMUM_RELAY_RESISTANCE_GRACE_PERIOD = 0x9F_8213, Binary, "Minimum Relay Resistance Grace Period";
    MAXIMUM_RELAY_RESISTANCE_GRACE_PERIOD = 0x9F_8214, Binary, "Maximum Relay Resistance Grace Period";
    TERMINAL_EXPECTED_COMMAND_TIME = 0x9F_8215, Binary, "Terminal Expected Transmission Time For Relay Resistance C-APDU";
    TERMINAL_EXPECTED_RESPONSE_TIME = 0x9F_8216, Binary, "Terminal Expected Transmission Time For Relay Resistance R-APDU";
    RELAY_RESISTANCE_ACCURACY_THRESHOLD = 0x9F_8217, Binary, "Relay Resistance Accuracy Threshold";
    RELAY_RESISTANCE_TRANSMISSION_TIME_MISMATCH_THRESHOLD = 0x9F_8218, Binary, "Relay Resistance Transmission Time Mismatch Threshold";
    USER_INTERFACE_REQUEST_DATA_2 = 0x9F_8219, Binary, "User Interface Request Data 2";
    KERNEL_RESERVED_TVR_MASK = 0x9F_821A, Binary, "Kernel Reserved TVR Mask";
    WRITE_DATA_STATUS = 0x9F_821B, Binary, "Write Data Status";
    READ_DATA_STATUS = 0x9F_821C, Binary, "Read Data Status";
    MESSAGE_IDENTIFIERS_ON_RESTART = 0x9F_821D, Binary, "Message Identifiers On Restart";
    DEFAULT_IAD_MAC_OFFSET = 0x9F_821E, Binary, "Default IAD MAC Offset";
    DISCRETIONARY_DATA_TAG_LIST = 0x9F_821F, TagList, "Discretionary Data Tag List";
    DEFAULT_CDOL1 = 0x9F_8220, DataObjectList, "Default CDOL1";
    TAG_MAPPING_LIST = 0x9F_8221, Binary, "Tag Mapping List";
    DATA_TO_SEND = 0xBF_8101, Template, "Data To Send";
    DATA_RECORD = 0xBF_8102, Template, "Data Record";
    DISCRETIONARY_DATA = 0xBF_8103, Template, "Discretionary Data";
    DATA_ENVELOPES_TO_WRITE = 0xBF_8104, Template, "Data Envelopes To Write";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlv;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_is_a_tag_of_its_own() {
        let numbers: BTreeSet<Tag> = DICTIONARY.iter().map(|row| row.tag).collect();
        assert_eq!(numbers.len(), DICTIONARY.len());
        for row in DICTIONARY {
            let encoded = tlv::encode(row.tag, &[]);
            assert_eq!(tlv::parse_one(&encoded).unwrap().tag, row.tag, "{}", row.name);
            assert_eq!(row.tag.is_constructed(), row.format == Format::Template, "{}", row.name);
        }
    }

    #[test]
    fn card_data_is_marked() {
        for tag in [APPLICATION_PAN, TRACK_2_EQUIVALENT_DATA, TRACK_1_DATA, CARDHOLDER_NAME] {
            assert!(describe(tag).unwrap().sensitive, "{tag}");
        }
        assert!(!describe(AMOUNT_AUTHORIZED).unwrap().sensitive);
        assert_eq!(describe(Tag::new(0xDF7F)), None);
    }
}
