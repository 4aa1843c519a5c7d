//! From the answer to SELECT to the answer to GET PROCESSING OPTIONS (Book C-8 KS.1 to 20.21).

use alloc::vec::Vec;

use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::channel::{CardKeyData, SecureChannel};
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::tags;
use tapfer_emv::tlv;
use tapfer_emv::tvr;

use super::outcome::ErrorLevel2;
use super::records::{self, Channel};
use super::relay;
use super::transaction::{Failure, Transaction};
use super::{Phase, Step};

/// Channel suite `00`: P-256 and AES-128, the only one there is here (Book E 7.1).
const CHANNEL_SUITE: u8 = 0x00;
/// Certificate suites: `10` is EC-SDSA over P-256 with SHA-256, `FF` none.
const CERTIFICATE_SUITES: [u8; 3] = [0x10, 0xFF, 0xFF];
/// Bit of byte 5 of the card qualifier: the card notices when the field is off.
const FIELD_OFF_DETECTION: u8 = 0x80;

/// GET PROCESSING OPTIONS was sent.
pub(super) struct AwaitingOptions {
    pub(super) transaction: Transaction,
    kernel_key: PrivateKey,
    pdol_values: Vec<u8>,
}

/// Takes in what the card answered to SELECT, and asks for processing options.
pub(super) fn start(
    mut transaction: Transaction,
    kernel_key: PrivateKey,
    unpredictable_number: [u8; 4],
    fci: &[u8],
) -> Step {
    let qualifier = match card_qualifier(&mut transaction, fci) {
        Ok(qualifier) => qualifier,
        Err(failure) => return Step::finished(transaction.select_next(failure)),
    };
    let [_, _, _, _, capabilities, ..] = qualifier;
    transaction.accept(capabilities & FIELD_OFF_DETECTION != 0);
    if transaction.configuration.wants_rsa() {
        return Step::finished(transaction.terminal_data_error());
    }
    match prepare(&mut transaction, &qualifier, &kernel_key, unpredictable_number) {
        Ok(pdol_values) => {
            let data = tlv::encode(tags::COMMAND_TEMPLATE, &pdol_values);
            let command = CommandApdu::new(0x80, 0xA8, 0x00, 0x00, data);
            let phase = AwaitingOptions { transaction, kernel_key, pdol_values };
            Step::send(Phase::Options(phase), command)
        }
        Err(failure) => Step::finished(transaction.end_application(failure)),
    }
}

/// A card of Kernel 8 names itself and has a card qualifier with a version (Book C-8 1.5 to 1.8).
fn card_qualifier(transaction: &mut Transaction, fci: &[u8]) -> Result<[u8; 7], Failure> {
    let template = tlv::parse_one(fci).map_err(|_| ErrorLevel2::Parsing)?;
    if template.tag != tags::FCI_TEMPLATE || transaction.data.store_card_answer(fci).is_err() {
        return Err(ErrorLevel2::Parsing.into());
    }
    // A card may want the whole of it signed (Extended SDA Tag List).
    transaction.data.set(tags::FCI_TEMPLATE, template.value);
    let has_name = transaction.data.get(tags::DF_NAME).is_some();
    match transaction.data.array(tags::CARD_QUALIFIER) {
        Some(qualifier) if has_name && qualifier[0] != 0 => Ok(qualifier),
        _ => Err(ErrorLevel2::CardDataMissing.into()),
    }
}

/// Kernel qualifier, key and unpredictable number, then the values the card's PDOL asks for.
fn prepare(
    transaction: &mut Transaction,
    card_qualifier: &[u8; 7],
    kernel_key: &PrivateKey,
    unpredictable_number: [u8; 4],
) -> Result<Vec<u8>, Failure> {
    let [_, suites @ .., _, _, _] = card_qualifier;
    if !suites.contains(&CHANNEL_SUITE) {
        return Err(ErrorLevel2::CardData.into());
    }
    // Book C-8 A.1.80
    let local_authentication =
        if transaction.configuration.authenticates_locally() { 0x80 } else { 0x00 };
    let [first, second, third] = CERTIFICATE_SUITES;
    let qualifier = [0x02, local_authentication, CHANNEL_SUITE, first, second, third, 0x00, 0x00];
    transaction.data.set(tags::KERNEL_QUALIFIER, &qualifier);
    transaction.data.set(tags::KERNEL_KEY_DATA, &kernel_key.public_point());
    transaction.data.set(tags::UNPREDICTABLE_NUMBER, &unpredictable_number);
    transaction.list_values(transaction.data.get(tags::PDOL))
}

impl AwaitingOptions {
    pub(super) fn handle(mut self, response: &ResponseApdu) -> Step {
        if !response.status.is_ok() {
            let failure = Failure::refused(response.status.bytes());
            return Step::finished(self.transaction.select_next(failure));
        }
        match self.open_channel(&response.data) {
            Ok(channel) => proceed(self.transaction, channel),
            Err(failure) => Step::finished(self.transaction.end_application(failure)),
        }
    }

    fn open_channel(&mut self, answer: &[u8]) -> Result<Channel, Failure> {
        store_format_2(&mut self.transaction, answer)?;
        let data = &mut self.transaction.data;
        let complete = [
            tags::APPLICATION_FILE_LOCATOR,
            tags::APPLICATION_INTERCHANGE_PROFILE,
            tags::CARD_KEY_DATA,
        ];
        if complete.into_iter().any(|tag| data.get(tag).is_none()) {
            return Err(ErrorLevel2::CardDataMissing.into());
        }
        if data.get(tags::CDOL1).is_none() {
            let default = self.transaction.configuration.default_cdol1.as_deref();
            data.set(tags::CDOL1, default.ok_or(ErrorLevel2::CardDataMissing)?);
        }
        // Longer card key data belongs to a curve that was not offered.
        let card_key_data: CardKeyData =
            data.array(tags::CARD_KEY_DATA).ok_or(ErrorLevel2::DecryptionFailed)?;
        let (secure_channel, blinding_factor) =
            SecureChannel::kernel(&self.kernel_key, &card_key_data)
                .map_err(|_| ErrorLevel2::DecryptionFailed)?;
        let pdol_values = core::mem::take(&mut self.pdol_values);
        Ok(Channel { secure_channel, blinding_factor, pdol_values })
    }
}

/// Takes in an answer that must be a template `77`.
pub(super) fn store_format_2(transaction: &mut Transaction, answer: &[u8]) -> Result<(), Failure> {
    let is_format_2 =
        tlv::parse_one(answer).is_ok_and(|object| object.tag == tags::RESPONSE_TEMPLATE_FORMAT_2);
    if is_format_2 && transaction.data.store_card_answer(answer).is_ok() {
        Ok(())
    } else {
        Err(ErrorLevel2::Parsing.into())
    }
}

/// The relay check comes first where card and terminal both have it (Book C-8 2021).
fn proceed(mut transaction: Transaction, channel: Channel) -> Step {
    let [_, profile] = transaction.interchange_profile();
    if transaction.configuration.checks_relay() && profile & 0x01 != 0 {
        return relay::start(transaction, channel);
    }
    transaction.set_tvr_bit(tvr::RELAY_RESISTANCE_NOT_PERFORMED);
    records::start(transaction, channel, None)
}
