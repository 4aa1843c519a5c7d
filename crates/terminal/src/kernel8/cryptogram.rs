//! GENERATE AC: limits and restrictions before it, checks and the second decision behind it
//! (Book C-8 202122232425, 26 to 29).
//!
//! Kernel 8 has no processing restrictions of its own: application version, dates and usage control
//! are the card's to judge by what its lists ask for, and come back in the Card TVR `9F8104`. The
//! data dictionary accordingly has neither `9F08` nor `5F25`.

use alloc::vec::Vec;

use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::tags;
use tapfer_emv::tvr::{self, TerminalVerificationResults};

use super::action_analysis::{self, Decision};
use super::conclusion::Decisions;
use super::configuration::is_numeric;
use super::options::store_format_2;
use super::outcome::{ErrorLevel2, ErrorLevel3};
use super::records::ReadRecords;
use super::transaction::{Failure, Transaction};
use super::{Phase, Step, authentication, cardholder_verification, data_storage};

/// Bit of byte 2 of the terminal risk management data: the amount is above the CVM limit.
const CVM_LIMIT_EXCEEDED: u8 = 0x80;

/// What a card must answer (Book C-8 26.14), and its number, which a record must have given
/// (2627.1).
const MANDATORY: [tapfer_emv::tlv::Tag; 7] = [
    tags::APPLICATION_TRANSACTION_COUNTER,
    tags::CRYPTOGRAM_INFORMATION_DATA,
    tags::APPLICATION_CRYPTOGRAM,
    tags::CARDHOLDER_VERIFICATION_DECISION,
    tags::EDA_MAC,
    tags::ISSUER_APPLICATION_DATA,
    tags::APPLICATION_PAN,
];

/// GENERATE AC was sent.
pub(super) struct AwaitingCryptogram {
    pub(super) transaction: Transaction,
    records: ReadRecords,
    asked_for: Decision,
    cdol1_values: Vec<u8>,
}

pub(super) fn start(mut transaction: Transaction, records: ReadRecords) -> Step {
    let Some(amount) = transaction
        .data
        .array::<6>(tags::AMOUNT_AUTHORIZED)
        .filter(|_| transaction.data.get(tags::TRANSACTION_DATE).is_some())
    else {
        return Step::finished(transaction.end_by_terminal(ErrorLevel3::TransactionDataMissing));
    };
    let cvm_limit = transaction.configuration.cvm_required_limit;
    if !is_numeric(&amount) || !is_numeric(&cvm_limit) {
        return Step::finished(transaction.terminal_data_error());
    }
    apply_limits(&mut transaction, amount);
    check_application_identifier(&mut transaction);
    if !transaction.authenticates_locally() {
        transaction.set_tvr_bit(tvr::LOCAL_AUTHENTICATION_NOT_PERFORMED);
    }
    let asked_for = action_analysis::decide(&transaction);
    match transaction.list_values(transaction.data.get(tags::CDOL1)) {
        Ok(cdol1_values) => {
            let control = asked_for.reference_control_parameter();
            let more = data_storage::more_follow(data_storage::wants_to_write(&transaction));
            let command = CommandApdu::new(0x80, 0xAE, control, more, cdol1_values.clone());
            let phase = AwaitingCryptogram { transaction, records, asked_for, cdol1_values };
            Step::send(Phase::Cryptogram(phase), command)
        }
        Err(failure) => Step::finished(transaction.end_application(failure)),
    }
}

/// CVM limit and floor limit (Book C-8 202122232425.7 to .15). Six bytes of BCD compare as numbers.
fn apply_limits(transaction: &mut Transaction, amount: [u8; 6]) {
    let configuration = &transaction.configuration;
    let floor_limit = configuration.floor_limit;
    let is_above_cvm_limit = amount > configuration.cvm_required_limit;
    let capability = if is_above_cvm_limit {
        configuration.cvm_capability_required
    } else {
        configuration.cvm_capability_not_required
    };
    let input = configuration.card_data_input_capability;
    let security = configuration.security_capability;
    let [_, second, rest @ ..] =
        transaction.data.array::<8>(tags::TERMINAL_RISK_MANAGEMENT_DATA).unwrap_or_default();
    let limit_bit = if is_above_cvm_limit { CVM_LIMIT_EXCEEDED } else { 0x00 };
    let [c, d, e, f, g, h] = rest;
    let risk_management = [capability, second | limit_bit, c, d, e, f, g, h];

    transaction.parameters.receipt = is_above_cvm_limit;
    transaction.data.set(tags::TERMINAL_CAPABILITIES, &[input, capability, security]);
    transaction.data.set(tags::TERMINAL_RISK_MANAGEMENT_DATA, &risk_management);
    if amount > floor_limit {
        transaction.set_tvr_bit(tvr::FLOOR_LIMIT_EXCEEDED);
    }
}

/// The card's AID starts with the terminal's (Book C-8 202122232425.16).
fn check_application_identifier(transaction: &mut Transaction) {
    let name = transaction.data.get(tags::DF_NAME).unwrap_or_default();
    let terminals = transaction.data.get(tags::APPLICATION_IDENTIFIER_TERMINAL).unwrap_or_default();
    if !name.starts_with(terminals) {
        transaction.set_tvr_bit(tvr::AID_MISMATCH);
    }
}

impl AwaitingCryptogram {
    pub(super) fn handle(mut self, response: &ResponseApdu) -> Step {
        let card_decision = match self.evaluate(response) {
            Ok(card_decision) => card_decision,
            Err(failure) => return Step::finished(self.transaction.end_application(failure)),
        };
        cardholder_verification::evaluate(&mut self.transaction);
        let kernel = action_analysis::decide(&self.transaction);
        let decisions = Decisions { card: card_decision, kernel };
        data_storage::start_writing(self.transaction, self.records.channel, decisions)
    }

    /// Everything that can end the application, in the book's order: completeness, IAD-MAC,
    /// certificates, EDA-MAC, kind of cryptogram.
    fn evaluate(&mut self, response: &ResponseApdu) -> Result<Decision, Failure> {
        if !response.status.is_ok() {
            return Err(Failure::refused(response.status.bytes()));
        }
        store_format_2(&mut self.transaction, &response.data)?;
        if MANDATORY.into_iter().any(|tag| self.transaction.data.get(tag).is_none()) {
            return Err(ErrorLevel2::CardDataMissing.into());
        }
        self.authenticate(&response.data)?;
        let card_decision = self.card_decision()?;
        self.merge_card_tvr();
        Ok(card_decision)
    }

    fn authenticate(&mut self, answer: &[u8]) -> Result<(), Failure> {
        let sda_hash = authentication::sda_hash(&self.transaction, &self.records.signed_values)?;
        let iad_mac = authentication::process_iad_mac(
            &mut self.transaction,
            &self.records,
            &self.cdol1_values,
            answer,
            &sda_hash,
        )?;
        if self.transaction.authenticates_locally() {
            let factor = &self.records.channel.blinding_factor;
            if !authentication::verify_card(&self.transaction, &sda_hash, factor)? {
                self.transaction.set_tvr_bit(tvr::LOCAL_AUTHENTICATION_FAILED);
            }
        }
        authentication::check_eda_mac(&self.transaction, &self.records, &iad_mac)
    }

    /// A card may always decline, may go online when asked to approve, and nothing else that was not
    /// asked for (Book C-8 29.20).
    fn card_decision(&self) -> Result<Decision, Failure> {
        let information = self.transaction.data.byte(tags::CRYPTOGRAM_INFORMATION_DATA);
        let answered = information.and_then(Decision::from_cryptogram_information);
        match (answered, self.asked_for) {
            (Some(Decision::Decline), _)
            | (Some(Decision::GoOnline), Decision::GoOnline | Decision::Approve)
            | (Some(Decision::Approve), Decision::Approve) => {
                answered.ok_or(ErrorLevel2::CardData.into())
            }
            _ => Err(ErrorLevel2::CardData.into()),
        }
    }

    /// The card's results replace the terminal's, but for the bits that the mask reserves
    /// (Book C-8 29.21 to 29.23).
    fn merge_card_tvr(&mut self) {
        let Some(card) = self.transaction.data.array::<5>(tags::CARD_TVR) else {
            return;
        };
        let mask = self.transaction.configuration.kernel_reserved_tvr_mask;
        let mut merged = self.transaction.tvr().bytes();
        for ((ours, cards), reserved) in merged.iter_mut().zip(card).zip(mask) {
            *ours = (*ours & reserved) | (cards & !reserved);
        }
        self.transaction.replace_tvr(TerminalVerificationResults::from_bytes(merged));
    }
}
