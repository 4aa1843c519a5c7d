//! The data objects Kernel 8 knows: how long each may be and whether a card may set it (Book C-8
//! annex A.1). Their names and formats are in `tapfer_emv::tags`.

use tapfer_emv::tlv::Tag;

/// Who may set a data object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The card, in one of its answers.
    Card,
    /// Configuration, session or the kernel itself. A card that sends one is in error.
    Terminal,
}

/// One row of the dictionary.
#[derive(Debug, Clone, Copy)]
pub(super) struct DataObject {
    /// Which data object.
    pub(super) tag: Tag,
    /// Fewest bytes of a value.
    pub(super) minimum: usize,
    /// Most bytes of a value.
    pub(super) maximum: usize,
    /// Who may set it.
    pub(super) origin: Origin,
}

impl DataObject {
    /// Whether a value of this many bytes is allowed.
    #[must_use]
    pub(super) const fn allows_length(&self, length: usize) -> bool {
        self.minimum <= length && length <= self.maximum
    }
}

/// Finds the row of a tag. `None`: the kernel does not know the data object, and ignores it.
#[must_use]
pub(super) fn lookup(tag: Tag) -> Option<&'static DataObject> {
    DICTIONARY.iter().find(|object| object.tag.number() == tag.number())
}

/// Values of "variable" length end where the kernel's own lists end.
const VARIABLE: usize = 0xFFFF;

const fn card(tag: u32, minimum: usize, maximum: usize) -> DataObject {
    DataObject { tag: Tag::new(tag), minimum, maximum, origin: Origin::Card }
}

const fn terminal(tag: u32, minimum: usize, maximum: usize) -> DataObject {
    DataObject { tag: Tag::new(tag), minimum, maximum, origin: Origin::Terminal }
}

/// Book C-8 annex A.1, in the order of their tags: what is primitive, and the templates of the
/// terminal. Templates of the card hold data objects and are none themselves.
static DICTIONARY: &[DataObject] = &[
    card(0x42, 3, 3),              // Issuer Identification Number
    card(0x50, 0, 16),             // Application Label
    card(0x57, 0, 19),             // Track 2 Equivalent Data
    card(0x5A, 1, 10),             // Application PAN
    card(0x82, 2, 2),              // Application Interchange Profile
    card(0x84, 5, 16),             // DF Name
    card(0x87, 1, 1),              // Application Priority Indicator
    card(0x8C, 0, 250),            // CDOL1
    card(0x8F, 1, 1),              // Certification Authority Public Key Index (Card)
    card(0x90, 0, 248),            // Issuer Public Key Certificate
    card(0x92, 0, 255),            // Issuer RSA Public Key Remainder
    card(0x94, 4, 248),            // Application File Locator
    terminal(0x95, 5, 5),          // Terminal Verification Results
    terminal(0x9A, 3, 3),          // Transaction Date
    terminal(0x9C, 1, 1),          // Transaction Type
    terminal(0x9E, 0, 132),        // Kernel Key Data
    card(0x5F20, 2, 26),           // Cardholder Name
    card(0x5F24, 3, 3),            // Application Expiration Date
    terminal(0x5F2A, 2, 2),        // Transaction Currency Code
    card(0x5F2D, 2, 8),            // Language Preference
    card(0x5F30, 2, 2),            // Service Code
    card(0x5F34, 1, 1),            // Application PAN Sequence Number
    terminal(0x5F36, 1, 1),        // Transaction Currency Exponent
    terminal(0x5F57, 1, 1),        // Account Type
    terminal(0x9F01, 6, 6),        // Acquirer Identifier
    terminal(0x9F02, 6, 6),        // Amount, Authorised (Numeric)
    terminal(0x9F03, 6, 6),        // Amount, Other (Numeric)
    terminal(0x9F06, 5, 16),       // Application Identifier (Configuration Data)
    card(0x9F07, 2, 2),            // Application Usage Control
    terminal(0x9F09, 2, 2),        // Application Version Number (Reader)
    card(0x9F0A, 0, 255),          // Application Selection Registered Proprietary Data
    card(0x9F0C, 3, 4),            // Issuer Identification Number Extended
    card(0x9F10, 0, 32),           // Issuer Application Data
    card(0x9F11, 1, 1),            // Issuer Code Table Index
    card(0x9F12, 0, 16),           // Application Preferred Name
    terminal(0x9F15, 2, 2),        // Merchant Category Code
    terminal(0x9F16, 15, 15),      // Merchant Identifier
    card(0x9F19, 6, 6),            // Token Requestor ID
    terminal(0x9F1A, 2, 2),        // Terminal Country Code
    terminal(0x9F1C, 8, 8),        // Terminal Identification
    terminal(0x9F1D, 8, 8),        // Terminal Risk Management Data
    terminal(0x9F1E, 8, 8),        // Interface Device Serial Number
    card(0x9F1F, 0, 54),           // Track 1 Discretionary Data
    card(0x9F20, 0, 16),           // Track 2 Discretionary Data
    terminal(0x9F21, 3, 3),        // Transaction Time
    card(0x9F24, 29, 29),          // Payment Account Reference
    card(0x9F26, 8, 8),            // Application Cryptogram
    card(0x9F27, 1, 1),            // Cryptogram Information Data
    terminal(0x9F2B, 8, 8),        // Kernel Qualifier
    card(0x9F2C, 7, 7),            // Card Qualifier
    card(0x9F32, 1, 3),            // Issuer RSA Public Key Exponent
    terminal(0x9F33, 3, 3),        // Terminal Capabilities
    terminal(0x9F34, 3, 3),        // CVM Results
    terminal(0x9F35, 1, 1),        // Terminal Type
    card(0x9F36, 2, 2),            // Application Transaction Counter
    terminal(0x9F37, 4, 4),        // Unpredictable Number
    card(0x9F38, 0, 240),          // PDOL
    terminal(0x9F40, 5, 5),        // Additional Terminal Capabilities
    card(0x9F42, 2, 2),            // Application Currency Code
    card(0x9F44, 1, 1),            // Application Currency Exponent
    card(0x9F46, 0, 255),          // ICC Public Key Certificate
    card(0x9F47, 1, 3),            // ICC RSA Public Key Exponent
    card(0x9F48, 0, 255),          // ICC RSA Public Key Remainder
    card(0x9F4D, 2, 2),            // Log Entry
    terminal(0x9F4E, 0, VARIABLE), // Merchant Name and Location
    card(0x9F_8102, 1, 1),         // Cardholder Verification Decision
    card(0x9F_8103, 64, 132),      // Card Key Data
    card(0x9F_8104, 5, 5),         // Card TVR
    card(0x9F_8105, 8, 8),         // Enhanced Data Authentication MAC
    card(0x9F_8106, 0, 128),       // Authenticated Application Data
    card(0x9F_8107, 1, 1),         // IAD MAC Offset
    card(0x9F_8108, 2, 5),         // Restart Indicator
    terminal(0x9F_8109, 8, 8),     // Issuer Application Data MAC
    card(0x9F_810A, 0, 255),       // Extended SDA Tag List
    card(0x9F_810B, 32, 66),       // ICC ECC Public Key (for RSA Certificates)
    terminal(0x9F_810C, 2, 2),     // Relay Resistance Time Excess
    card(0x9F_810D, 2, 2),         // Card Capabilities Information
    card(0x9F_8111, 0, 243),       // Data Envelopes 1 to 10
    card(0x9F_8112, 0, 243),
    card(0x9F_8113, 0, 243),
    card(0x9F_8114, 0, 243),
    card(0x9F_8115, 0, 243),
    card(0x9F_8116, 0, 243),
    card(0x9F_8117, 0, 243),
    card(0x9F_8118, 0, 243),
    card(0x9F_8119, 0, 243),
    card(0x9F_811A, 0, 243),
    terminal(0x9F_8201, 0, VARIABLE), // Data Needed
    terminal(0x9F_8202, 1, 1),        // Proceed To First Write Flag
    terminal(0x9F_8203, 0, VARIABLE), // Tags To Read
    terminal(0x9F_8204, 6, 6),        // Error Indication
    terminal(0x9F_8205, 13, 13),      // User Interface Request Data 1
    terminal(0x9F_8206, 1, 1),        // Card Data Input Capability
    terminal(0x9F_8207, 1, 1),        // CVM Capability - CVM Required
    terminal(0x9F_8208, 1, 1),        // CVM Capability - No CVM Required
    terminal(0x9F_8209, 2, 2),        // Kernel Configuration
    terminal(0x9F_820A, 1, 1),        // Security Capability
    terminal(0x9F_820B, 5, 5),        // Terminal Action Code - Denial
    terminal(0x9F_820C, 5, 5),        // Terminal Action Code - Online
    terminal(0x9F_820D, 6, 6),        // Reader Contactless Floor Limit
    terminal(0x9F_820E, 6, 6),        // Reader CVM Required Limit
    terminal(0x9F_820F, 2, 2),        // Timeout Value
    terminal(0x9F_8210, 8, 8),        // Outcome Parameter Set
    terminal(0x9F_8211, 3, 3),        // Message Hold Time
    terminal(0x9F_8212, 1, 1),        // Hold Time Value
    terminal(0x9F_8213, 2, 2),        // Minimum Relay Resistance Grace Period
    terminal(0x9F_8214, 2, 2),        // Maximum Relay Resistance Grace Period
    terminal(0x9F_8215, 2, 2),        // Terminal Expected Transmission Time For RR C-APDU
    terminal(0x9F_8216, 2, 2),        // Terminal Expected Transmission Time For RR R-APDU
    terminal(0x9F_8217, 2, 2),        // Relay Resistance Accuracy Threshold
    terminal(0x9F_8218, 1, 1),        // Relay Resistance Transmission Time Mismatch Threshold
    terminal(0x9F_8219, 13, 13),      // User Interface Request Data 2
    terminal(0x9F_821A, 5, 5),        // Kernel Reserved TVR Mask
    terminal(0x9F_821B, 1, 1),        // Write Data Status
    terminal(0x9F_821C, 1, 1),        // Read Data Status
    terminal(0x9F_821D, 0, 32),       // Message Identifiers On Restart
    terminal(0x9F_821E, 1, 1),        // Default IAD MAC Offset
    terminal(0x9F_821F, 0, VARIABLE), // Discretionary Data Tag List
    terminal(0x9F_8220, 0, 250),      // Default CDOL1
    terminal(0x9F_8221, 0, VARIABLE), // Tag Mapping List
    terminal(0xBF_8101, 0, VARIABLE), // Data To Send
    terminal(0xBF_8102, 0, VARIABLE), // Data Record
    terminal(0xBF_8103, 0, VARIABLE), // Discretionary Data
    terminal(0xBF_8104, 0, VARIABLE), // Data Envelopes To Write
];

#[cfg(test)]
mod tests {
    use super::{DICTIONARY, Origin, Tag, lookup};

    #[test]
    fn every_row_can_be_found_and_cards_set_no_templates() {
        for object in DICTIONARY {
            let found = lookup(object.tag).unwrap();
            assert_eq!((found.minimum, found.maximum), (object.minimum, object.maximum));
            assert!(object.minimum <= object.maximum, "{:?}", object.tag);
            let is_of_card = object.origin == Origin::Card;
            assert!(!(is_of_card && object.tag.is_constructed()), "{:?}", object.tag);
        }
        assert!(DICTIONARY.is_sorted_by_key(|object| object.tag));
        assert!(lookup(Tag::new(0x9F4B)).is_none());
    }
}
