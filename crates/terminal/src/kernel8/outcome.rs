//! What a kernel says at the end: outcome parameter set, user interface requests, error indication,
//! data record and discretionary data (Book A 6.2; Book C-8 annex A).

use alloc::vec::Vec;

use tapfer_emv::tags;
use tapfer_emv::tlv::Tag;
use tapfer_emv::tvr::TerminalVerificationResults;

use super::data::DataStore;

/// Read and Write Data Status (Book C-8 A.1.106, A.1.145): all of it was done.
pub(super) const DATA_STORAGE_COMPLETED: u8 = 0x80;
/// Not all of it, or nothing was to be done.
pub(super) const DATA_STORAGE_NOT_COMPLETED: u8 = 0x00;

/// First byte of the outcome parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `10`: approved offline.
    Approved,
    /// `20`: declined.
    Declined,
    /// `30`: the issuer has to decide.
    OnlineRequest,
    /// `40`: over, without a result; with start B the card asks for another tap.
    EndApplication,
    /// `50`: try the next application of the card.
    SelectNext,
    /// `60`: insert or swipe the card.
    TryAnotherInterface,
    /// `F0`: nothing yet.
    NotAvailable,
}

impl Status {
    const fn byte(self) -> u8 {
        match self {
            Self::Approved => 0x10,
            Self::Declined => 0x20,
            Self::OnlineRequest => 0x30,
            Self::EndApplication => 0x40,
            Self::SelectNext => 0x50,
            Self::TryAnotherInterface => 0x60,
            Self::NotAvailable => 0xF0,
        }
    }
}

/// Second byte: where the next attempt starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// `10`: at protocol activation: the card is to be presented again.
    B,
    /// `20`: at combination selection: the next application of the card.
    C,
    /// `F0`: there is none.
    NotAvailable,
}

impl Start {
    const fn byte(self) -> u8 {
        match self {
            Self::B => 0x10,
            Self::C => 0x20,
            Self::NotAvailable => 0xF0,
        }
    }
}

/// Fourth byte: what the person does or has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardholderVerification {
    /// `00`: nothing.
    None,
    /// `10`: sign the receipt.
    Signature,
    /// `20`: PIN, checked by the issuer.
    OnlinePin,
    /// `30`: the phone has verified the person.
    ConfirmationCodeVerified,
    /// `F0`: not applicable.
    NotAvailable,
}

impl CardholderVerification {
    const fn byte(self) -> u8 {
        match self {
            Self::None => 0x00,
            Self::Signature => 0x10,
            Self::OnlinePin => 0x20,
            Self::ConfirmationCodeVerified => 0x30,
            Self::NotAvailable => 0xF0,
        }
    }
}

/// `9F8210` (Book C-8 A.1.98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutcomeParameterSet {
    /// How it ended.
    pub status: Status,
    /// Where the next attempt starts.
    pub start: Start,
    /// Cardholder verification.
    pub cardholder_verification: CardholderVerification,
    /// There is a user interface request for now.
    pub ui_request_on_outcome: bool,
    /// There is a user interface request for the restart.
    pub ui_request_on_restart: bool,
    /// There is a data record.
    pub data_record_present: bool,
    /// A receipt is due.
    pub receipt: bool,
    /// High nibble of the sixth byte: `10` contact chip, `20` magnetic stripe, `F0` any.
    pub alternate_interface: u8,
    /// How long the field is to be off, in 100 ms; `FF`: it stays on.
    pub field_off: u8,
}

impl OutcomeParameterSet {
    /// Before anything has happened (Book C-8 KS.2).
    pub const INITIAL: Self = Self {
        status: Status::NotAvailable,
        start: Start::NotAvailable,
        cardholder_verification: CardholderVerification::NotAvailable,
        ui_request_on_outcome: false,
        ui_request_on_restart: false,
        data_record_present: false,
        receipt: false,
        alternate_interface: 0xF0,
        field_off: 0xFF,
    };

    /// The eight bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; 8] {
        // Discretionary data (10) is always there: it carries the error indication.
        let flags = [
            (self.ui_request_on_outcome, 0x80),
            (self.ui_request_on_restart, 0x40),
            (self.data_record_present, 0x20),
            (true, 0x10),
            (self.receipt, 0x08),
        ];
        let presence = flags.iter().filter(|(set, _)| *set).fold(0, |byte, (_, bit)| byte | bit);
        [
            self.status.byte(),
            self.start.byte(),
            0xF0, // online response data: not applicable
            self.cardholder_verification.byte(),
            presence,
            self.alternate_interface,
            self.field_off,
            0x00, // removal timeout
        ]
    }
}

/// What to show (Book A 9.4). The numbers are those of the card's restart indicator too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageIdentifier(pub u8);

impl MessageIdentifier {
    /// "Approved"
    pub const APPROVED: Self = Self(0x03);
    /// "Declined"
    pub const DECLINED: Self = Self(0x07);
    /// "Try another interface"
    pub const TRY_ANOTHER_INTERFACE: Self = Self(0x18);
    /// "Approved, please sign"
    pub const APPROVED_PLEASE_SIGN: Self = Self(0x1A);
    /// "Authorising, please wait"
    pub const AUTHORISING: Self = Self(0x1B);
    /// "Error, use another card"
    pub const ERROR_OTHER_CARD: Self = Self(0x1C);
    /// Clears the display.
    pub const CLEAR_DISPLAY: Self = Self(0x1E);
    /// "See phone for instructions"
    pub const SEE_PHONE: Self = Self(0x20);
    /// "Present card again"
    pub const TRY_AGAIN: Self = Self(0x21);
    /// No message.
    pub const NONE: Self = Self(0xFF);
}

/// Second byte of a user interface request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReaderStatus {
    /// `00`: no card can be read now.
    NotReady,
    /// `02`: waiting for a card.
    ReadyToRead,
}

/// `9F8205` and `9F8219` (Book C-8 A.1.143).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserInterfaceRequest {
    /// What to show.
    pub message: MessageIdentifier,
    /// What the reader does.
    pub status: ReaderStatus,
    /// How long the message stands at least, six BCD digits of 100 ms.
    pub hold_time: [u8; 3],
    /// The person's languages as the card says, filled with zeros.
    pub language_preference: [u8; 8],
}

impl UserInterfaceRequest {
    /// The thirteen bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let status = match self.status {
            ReaderStatus::NotReady => 0x00,
            ReaderStatus::ReadyToRead => 0x02,
        };
        let mut bytes = alloc::vec![self.message.0, status];
        bytes.extend_from_slice(&self.hold_time);
        bytes.extend_from_slice(&self.language_preference);
        bytes
    }
}

/// First byte of the error indication: what was wrong on the air.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ErrorLevel1 {
    /// `01`
    #[error("the card did not answer in time")]
    Timeout,
    /// `02`
    #[error("the card left the field, or its answer was garbled")]
    Transmission,
    /// `03`
    #[error("the card broke the rules of the contactless protocol")]
    Protocol,
}

impl ErrorLevel1 {
    const fn byte(self) -> u8 {
        match self {
            Self::Timeout => 0x01,
            Self::Transmission => 0x02,
            Self::Protocol => 0x03,
        }
    }
}

/// Second byte of the error indication: what was wrong with the dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ErrorLevel2 {
    /// `01`
    #[error("the card did not send a data object it must send")]
    CardDataMissing,
    /// `03`
    #[error("the card refused a command")]
    StatusBytes,
    /// `04`
    #[error("the card's answer could not be read")]
    Parsing,
    /// `06`
    #[error("the card's data contradicts itself or what was asked of it")]
    CardData,
    /// `0F`
    #[error("the terminal's configuration cannot work")]
    TerminalData,
    /// `10`
    #[error("the secure channel could not be set up or has been used up")]
    DecryptionFailed,
    /// `12`
    #[error(
        "the card's list of signed data objects could not be read, so no MAC can be made of them"
    )]
    IadMacFailed,
    /// `13`
    #[error("the card's answer was changed on the way: the EDA-MAC is wrong")]
    EdaMacFailed,
}

impl ErrorLevel2 {
    const fn byte(self) -> u8 {
        match self {
            Self::CardDataMissing => 0x01,
            Self::StatusBytes => 0x03,
            Self::Parsing => 0x04,
            Self::CardData => 0x06,
            Self::TerminalData => 0x0F,
            Self::DecryptionFailed => 0x10,
            Self::IadMacFailed => 0x12,
            Self::EdaMacFailed => 0x13,
        }
    }
}

/// Third byte of the error indication: what was wrong at the terminal's side. `01` (timeout) is for
/// kernels that ask the terminal for data while a card is there; this one has all of it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ErrorLevel3 {
    /// `02`
    #[error("the terminal stopped the transaction")]
    Stop,
    /// `03`
    #[error("the terminal gave no amount, or no date")]
    TransactionDataMissing,
}

impl ErrorLevel3 {
    const fn byte(self) -> u8 {
        match self {
            Self::Stop => 0x02,
            Self::TransactionDataMissing => 0x03,
        }
    }
}

/// `9F8204` (Book C-8 A.1.55).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorIndication {
    /// What was wrong on the air, if anything.
    pub level1: Option<ErrorLevel1>,
    /// What was wrong with the dialogue, if anything.
    pub level2: Option<ErrorLevel2>,
    /// What was wrong at the terminal's side, if anything.
    pub level3: Option<ErrorLevel3>,
    /// The status word that was not `9000`.
    pub status_word: [u8; 2],
    /// The message that the error calls for.
    pub message: MessageIdentifier,
}

impl ErrorIndication {
    /// Nothing went wrong.
    pub const NONE: Self = Self {
        level1: None,
        level2: None,
        level3: None,
        status_word: [0, 0],
        message: MessageIdentifier::NONE,
    };

    /// The six bytes.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 6] {
        let level1 = match self.level1 {
            Some(error) => error.byte(),
            None => 0x00,
        };
        let level2 = match self.level2 {
            Some(error) => error.byte(),
            None => 0x00,
        };
        let level3 = match self.level3 {
            Some(error) => error.byte(),
            None => 0x00,
        };
        let [sw1, sw2] = self.status_word;
        [level1, level2, level3, sw1, sw2, self.message.0]
    }
}

/// Whose decision a decline was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclinedBy {
    /// The card answered with an AAC that was not asked for.
    Card,
    /// Terminal action analysis.
    Terminal,
}

/// Where the kernel's work ends. The raw lists are as Book C-8 orders them.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub parameters: OutcomeParameterSet,
    /// Whose decision it was that the payment was not to be.
    pub declined_by: Option<DeclinedBy>,
    /// What went wrong, if anything.
    pub error: ErrorIndication,
    /// What to show now.
    pub ui_request: Option<UserInterfaceRequest>,
    /// What to show when the card is to be presented again.
    pub ui_request_on_restart: Option<UserInterfaceRequest>,
    /// Value of `BF8102`: what authorization and clearing need. Card data: wiped on drop.
    pub data_record: Option<DataRecord>,
    /// Value of `BF8103`.
    pub discretionary_data: Vec<u8>,
    /// Terminal verification results, from where the card was accepted for Kernel 8.
    pub tvr: Option<TerminalVerificationResults>,
    /// CVM results `9F34`, from where the card was accepted for Kernel 8.
    pub cvm_results: Option<[u8; 3]>,
    /// Everything that was known in the end.
    pub data: DataStore,
}

impl Outcome {
    /// Value of Data To Send `BF8101`: the data objects that Tags To Read `9F8203` asked for, data
    /// envelopes and others, each as a TLV, empty if the card did not give it. Empty if nothing was
    /// asked for, or the transaction did not come that far.
    #[must_use]
    pub fn data_to_send(&self) -> &[u8] {
        self.data.get(tags::DATA_TO_SEND).unwrap_or_default()
    }

    /// Whether every data envelope that was asked for was read (Read Data Status `9F821C`).
    #[must_use]
    pub fn has_read_data(&self) -> bool {
        self.data.byte(tags::READ_DATA_STATUS) == Some(DATA_STORAGE_COMPLETED)
    }

    /// Whether the card confirmed every data envelope that was to be written (Write Data Status
    /// `9F821B`). False if there was none.
    #[must_use]
    pub fn has_written_data(&self) -> bool {
        self.data.byte(tags::WRITE_DATA_STATUS) == Some(DATA_STORAGE_COMPLETED)
    }
}

/// Value of the data record: card data. Wiped on drop, redacted in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct DataRecord(pub(super) Vec<u8>);

impl DataRecord {
    /// The TLVs, one after another.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value of one data object.
    #[must_use]
    pub fn get(&self, tag: Tag) -> Option<&[u8]> {
        tapfer_emv::tlv::find(&self.0, tag).ok().flatten()
    }
}

impl Drop for DataRecord {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl core::fmt::Debug for DataRecord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "DataRecord({} bytes)", self.0.len())
    }
}
