//! What every phase of the kernel hands to the next one, and the ways a transaction can end.

use alloc::vec::Vec;

use tapfer_emv::certificate::CaPublicKey;
use tapfer_emv::dol::{DataObjectList, parse_tag_list};
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};
use tapfer_emv::tvr::{self, TerminalVerificationResults, TvrBit};
use tapfer_payment_types::Timestamp;
use zeroize::Zeroizing;

use super::configuration::{KernelConfiguration, Session};
use super::data::DataStore;
use super::outcome::{
    DATA_STORAGE_COMPLETED, DATA_STORAGE_NOT_COMPLETED, DataRecord, DeclinedBy, ErrorIndication,
    ErrorLevel1, ErrorLevel2, ErrorLevel3, MessageIdentifier, Outcome, OutcomeParameterSet,
    ReaderStatus, Start, Status, UserInterfaceRequest,
};

/// What the data record holds, if the transaction has it (Book C-8 table A.11).
const DATA_RECORD: &[Tag] = &[
    tags::AMOUNT_AUTHORIZED,
    tags::AMOUNT_OTHER,
    tags::APPLICATION_CRYPTOGRAM,
    tags::APPLICATION_EXPIRATION_DATE,
    tags::APPLICATION_INTERCHANGE_PROFILE,
    tags::APPLICATION_LABEL,
    tags::APPLICATION_PAN,
    tags::PAN_SEQUENCE_NUMBER,
    tags::APPLICATION_PREFERRED_NAME,
    tags::APPLICATION_TRANSACTION_COUNTER,
    tags::APPLICATION_USAGE_CONTROL,
    tags::APPLICATION_VERSION_NUMBER_TERMINAL,
    tags::AUTHENTICATED_APPLICATION_DATA,
    tags::CRYPTOGRAM_INFORMATION_DATA,
    tags::CVM_RESULTS,
    tags::DF_NAME,
    tags::INTERFACE_DEVICE_SERIAL_NUMBER,
    tags::ISSUER_APPLICATION_DATA,
    tags::IAD_MAC,
    tags::ISSUER_CODE_TABLE_INDEX,
    tags::PAYMENT_ACCOUNT_REFERENCE,
    tags::TERMINAL_CAPABILITIES,
    tags::TERMINAL_COUNTRY_CODE,
    tags::TERMINAL_TYPE,
    tags::TERMINAL_VERIFICATION_RESULTS,
    tags::TOKEN_REQUESTOR_ID,
    tags::TRACK_2_EQUIVALENT_DATA,
    tags::TRANSACTION_CURRENCY_CODE,
    tags::TRANSACTION_CURRENCY_EXPONENT,
    tags::TRANSACTION_DATE,
    tags::TRANSACTION_TYPE,
    tags::UNPREDICTABLE_NUMBER,
];

/// Why the dialogue with the card cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    level2: ErrorLevel2,
    status_word: [u8; 2],
}

impl Failure {
    /// A status word that is not `9000`.
    pub(super) const fn refused(status_word: [u8; 2]) -> Self {
        Self { level2: ErrorLevel2::StatusBytes, status_word }
    }
}

impl From<ErrorLevel2> for Failure {
    fn from(level2: ErrorLevel2) -> Self {
        Self { level2, status_word: [0, 0] }
    }
}

/// A transaction on its way through the phases.
pub(super) struct Transaction {
    pub(super) configuration: KernelConfiguration,
    pub(super) ca_public_keys: Vec<CaPublicKey>,
    pub(super) now: Timestamp,
    pub(super) data: DataStore,
    pub(super) parameters: OutcomeParameterSet,
    /// The content of the record that was decrypted last, for whoever writes a transcript.
    pub(super) decrypted: Option<Zeroizing<Vec<u8>>>,
    pub(super) declined_by: Option<DeclinedBy>,
    tvr: TerminalVerificationResults,
    language_preference: [u8; 8],
    /// From here on there are verification results to report.
    accepted: bool,
}

impl Transaction {
    pub(super) fn new(
        configuration: KernelConfiguration,
        session: &Session,
        ca_public_keys: Vec<CaPublicKey>,
        now: Timestamp,
    ) -> Self {
        let mut data = configuration.data_objects();
        data.append(session.data_objects());
        Self {
            configuration,
            ca_public_keys,
            now,
            data,
            parameters: OutcomeParameterSet::INITIAL,
            decrypted: None,
            declined_by: None,
            tvr: TerminalVerificationResults::default(),
            language_preference: [0; 8],
            accepted: false,
        }
    }

    /// The card is one for Kernel 8: results are kept from here on (Book C-8 1.10 to 1.13).
    pub(super) fn accept(&mut self, field_off_detection: bool) {
        self.accepted = true;
        if let Some(languages) = self.data.get(tags::LANGUAGE_PREFERENCE) {
            self.language_preference.iter_mut().zip(languages).for_each(|(to, from)| *to = *from);
        }
        if field_off_detection {
            self.parameters.field_off = self.configuration.hold_time_value;
        }
        self.set_tvr_bit(tvr::KERNEL_8_FORMAT);
        self.data.set(tags::CVM_RESULTS, &[0, 0, 0]);
        let input = self.configuration.card_data_input_capability;
        let security = self.configuration.security_capability;
        self.data.set(tags::TERMINAL_CAPABILITIES, &[input, 0x00, security]);
        self.data.set(tags::RELAY_RESISTANCE_TIME_EXCESS, &[0, 0]);
        self.data.set(tags::READ_DATA_STATUS, &[DATA_STORAGE_COMPLETED]);
        self.data.set(tags::WRITE_DATA_STATUS, &[DATA_STORAGE_NOT_COMPLETED]);
    }

    pub(super) const fn tvr(&self) -> TerminalVerificationResults {
        self.tvr
    }

    pub(super) fn replace_tvr(&mut self, tvr: TerminalVerificationResults) {
        self.tvr = tvr;
        self.data.set(tags::TERMINAL_VERIFICATION_RESULTS, &tvr.bytes());
    }

    pub(super) fn set_tvr_bit(&mut self, bit: TvrBit) {
        let mut tvr = self.tvr;
        tvr.set(bit);
        self.replace_tvr(tvr);
    }

    pub(super) fn clear_tvr_bit(&mut self, bit: TvrBit) {
        let mut tvr = self.tvr;
        tvr.clear(bit);
        self.replace_tvr(tvr);
    }

    /// AIP of the card; zeros before it is known.
    pub(super) fn interchange_profile(&self) -> [u8; 2] {
        self.data.array(tags::APPLICATION_INTERCHANGE_PROFILE).unwrap_or_default()
    }

    /// Whether card and terminal both can do local authentication.
    pub(super) fn authenticates_locally(&self) -> bool {
        self.configuration.authenticates_locally() && self.interchange_profile()[0] & 0x01 != 0
    }

    /// The values a list of the card asks for.
    pub(super) fn list_values(&self, list: Option<&[u8]>) -> Result<Vec<u8>, Failure> {
        let list = DataObjectList::parse(list.unwrap_or_default())
            .map_err(|_| Failure::from(ErrorLevel2::Parsing))?;
        Ok(list.build(|tag| self.data.get(tag)))
    }

    pub(super) const fn message(&self, message: MessageIdentifier) -> UserInterfaceRequest {
        UserInterfaceRequest {
            message,
            status: ReaderStatus::NotReady,
            hold_time: self.configuration.message_hold_time,
            language_preference: self.language_preference,
        }
    }

    pub(super) const fn brief_message(&self, message: MessageIdentifier) -> UserInterfaceRequest {
        UserInterfaceRequest { hold_time: [0; 3], ..self.message(message) }
    }

    /// "Error, use another card": End Application (Book C-8 2021-E, 2627-C).
    pub(super) fn end_application(mut self, failure: Failure) -> Outcome {
        self.parameters.status = Status::EndApplication;
        self.parameters.start = Start::NotAvailable;
        self.parameters.ui_request_on_outcome = true;
        let message = MessageIdentifier::ERROR_OTHER_CARD;
        let ui_request = self.message(message);
        self.finish(error(failure, message), Some(ui_request), None)
    }

    /// The terminal itself is set up wrongly: End Application, and nothing to tell the person.
    pub(super) fn terminal_data_error(mut self) -> Outcome {
        self.parameters.status = Status::EndApplication;
        let failure = Failure::from(ErrorLevel2::TerminalData);
        self.finish(error(failure, MessageIdentifier::ERROR_OTHER_CARD), None, None)
    }

    /// Not a card for this kernel: the next application is tried (Book C-8 1.14, 20.12).
    pub(super) fn select_next(mut self, failure: Failure) -> Outcome {
        self.parameters.status = Status::SelectNext;
        self.parameters.start = Start::C;
        self.parameters.field_off = OutcomeParameterSet::INITIAL.field_off;
        self.finish(error(failure, MessageIdentifier::NONE), None, None)
    }

    /// The terminal's side ended it, or has not what is needed: End Application, nothing to tell the
    /// person (Book C-8 202122232425.15).
    pub(super) fn end_by_terminal(mut self, level3: ErrorLevel3) -> Outcome {
        self.parameters.status = Status::EndApplication;
        let indication = ErrorIndication { level3: Some(level3), ..ErrorIndication::NONE };
        self.finish(indication, None, None)
    }

    /// The card left the field or its answer was garbled: it is to be presented again. Only the
    /// restart has a message, and that is in User Interface Request Data 1 (A.1.143: the second one
    /// is for outcomes that have both).
    pub(super) fn try_again(mut self, level1: ErrorLevel1) -> Outcome {
        self.parameters.status = Status::EndApplication;
        self.parameters.start = Start::B;
        self.parameters.ui_request_on_restart = true;
        let message = MessageIdentifier::TRY_AGAIN;
        let indication = ErrorIndication { level1: Some(level1), message, ..ErrorIndication::NONE };
        let restart = self.restart_message(message);
        self.finish(indication, Some(restart), None)
    }

    pub(super) const fn restart_message(&self, message: MessageIdentifier) -> UserInterfaceRequest {
        UserInterfaceRequest { status: ReaderStatus::ReadyToRead, ..self.brief_message(message) }
    }

    /// The dialogue was completed: parameters, messages and the data record tell the result.
    pub(super) fn conclude(
        self,
        ui_request: UserInterfaceRequest,
        on_restart: Option<UserInterfaceRequest>,
    ) -> Outcome {
        self.finish(ErrorIndication::NONE, Some(ui_request), on_restart)
    }

    fn finish(
        mut self,
        error: ErrorIndication,
        ui_request: Option<UserInterfaceRequest>,
        ui_request_on_restart: Option<UserInterfaceRequest>,
    ) -> Outcome {
        self.data.set(tags::ERROR_INDICATION, &error.bytes());
        let data_record = self.parameters.data_record_present.then(|| self.list(DATA_RECORD));
        let wanted = parse_tag_list(&self.configuration.discretionary_data_tag_list);
        Outcome {
            parameters: self.parameters,
            declined_by: self.declined_by,
            error,
            ui_request,
            ui_request_on_restart,
            data_record: data_record.map(DataRecord),
            discretionary_data: self.list(&wanted.unwrap_or_default()),
            tvr: self.accepted.then_some(self.tvr),
            cvm_results: self.data.array(tags::CVM_RESULTS),
            data: self.data,
        }
    }

    /// Data objects that are there as TLVs, under the tags the mapping list gives them.
    fn list(&self, wanted: &[Tag]) -> Vec<u8> {
        let mapping = parse_tag_list(&self.configuration.tag_mapping_list).unwrap_or_default();
        let mapped = |tag: Tag| {
            let pair = mapping.chunks_exact(2).find(|pair| pair.first() == Some(&tag));
            pair.and_then(|pair| pair.last().copied()).unwrap_or(tag)
        };
        let mut out = Vec::new();
        for tag in wanted {
            if let Some(value) = self.data.get(*tag) {
                tlv::write(&mut out, mapped(*tag), value);
            }
        }
        out
    }
}

const fn error(failure: Failure, message: MessageIdentifier) -> ErrorIndication {
    let Failure { level2, status_word } = failure;
    ErrorIndication { level1: None, level2: Some(level2), level3: None, status_word, message }
}
