//! From two decisions, the card's and the kernel's, to one outcome (Book C-8 2930).

use tapfer_emv::tags;
use tapfer_emv::tvr;

use super::action_analysis::Decision;
use super::outcome::{
    CardholderVerification, DeclinedBy, MessageIdentifier, Outcome, Start, Status,
};
use super::transaction::Transaction;

/// High half byte of the restart indicator: the card wants to be presented again.
const RESTART_B: u8 = 0x20;
/// The card wants another interface to be tried.
const TRY_ANOTHER_INTERFACE: u8 = 0x30;

/// What was decided once the card had answered GENERATE AC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decisions {
    /// By the card: the kind of its cryptogram.
    pub(super) card: Decision,
    /// By the second action analysis.
    pub(super) kernel: Decision,
}

pub(super) fn conclude(mut transaction: Transaction, decisions: Decisions) -> Outcome {
    if !transaction.configuration.reports_local_authentication() {
        // Only now: the decisions above have seen the bit (Book C-8 2930.1b).
        transaction.clear_tvr_bit(tvr::LOCAL_AUTHENTICATION_FAILED);
    }
    transaction.parameters.data_record_present = true;
    transaction.parameters.ui_request_on_outcome = true;
    let restart = RestartIndicator::read(&transaction);
    match (restart, decisions.card, decisions.kernel) {
        (Some(indicator), _, _) if indicator.request == RESTART_B => {
            present_again(transaction, indicator)
        }
        (_, Decision::Approve, Decision::Approve) => approved(transaction),
        (_, Decision::GoOnline, Decision::GoOnline | Decision::Approve)
        | (_, Decision::Approve, Decision::GoOnline) => online(transaction),
        (_, _, Decision::Decline) => refused(transaction, restart, DeclinedBy::Terminal),
        (_, Decision::Decline, _) => refused(transaction, restart, DeclinedBy::Card),
    }
}

/// `9F8108`: what the card wants next, and what is to be shown.
#[derive(Debug, Clone, Copy)]
struct RestartIndicator {
    request: u8,
    interface: u8,
    /// The card's message, if the terminal's configuration allows it.
    message: Option<MessageIdentifier>,
}

impl RestartIndicator {
    fn read(transaction: &Transaction) -> Option<Self> {
        let (request, message) = match transaction.data.get(tags::RESTART_INDICATOR)? {
            [request, message, ..] => (request, message),
            _ => return None,
        };
        let allowed = &transaction.configuration.message_identifiers_on_restart;
        let is_allowed = *message != 0 && allowed.contains(message);
        Some(Self {
            request: request & 0xF0,
            interface: request & 0x0F,
            message: is_allowed.then_some(MessageIdentifier(*message)),
        })
    }
}

/// Start B: "see phone", "present card again" (Book C-8 2930.2 to 2930.9).
fn present_again(mut transaction: Transaction, indicator: RestartIndicator) -> Outcome {
    transaction.parameters.status = Status::EndApplication;
    transaction.parameters.start = Start::B;
    transaction.parameters.ui_request_on_restart = true;
    let message = indicator.message.unwrap_or(MessageIdentifier::TRY_AGAIN);
    let (now, restart) = (transaction.message(message), transaction.restart_message(message));
    transaction.conclude(now, Some(restart))
}

fn approved(mut transaction: Transaction) -> Outcome {
    transaction.parameters.status = Status::Approved;
    let message = match transaction.parameters.cardholder_verification {
        CardholderVerification::Signature => MessageIdentifier::APPROVED_PLEASE_SIGN,
        _ => MessageIdentifier::APPROVED,
    };
    let ui_request = transaction.message(message);
    transaction.conclude(ui_request, None)
}

fn online(mut transaction: Transaction) -> Outcome {
    transaction.parameters.status = Status::OnlineRequest;
    let ui_request = transaction.brief_message(MessageIdentifier::AUTHORISING);
    transaction.conclude(ui_request, None)
}

/// Declined, or another interface, or nothing at all for what was no sale (Book C-8 2930.21 to .41).
fn refused(
    mut transaction: Transaction,
    restart: Option<RestartIndicator>,
    declined_by: DeclinedBy,
) -> Outcome {
    transaction.declined_by = Some(declined_by);
    if !is_cash_or_purchase(transaction.data.byte(tags::TRANSACTION_TYPE)) {
        transaction.parameters.status = Status::EndApplication;
        let ui_request = transaction.brief_message(MessageIdentifier::CLEAR_DISPLAY);
        return transaction.conclude(ui_request, None);
    }
    let wants_other_interface =
        restart.filter(|indicator| indicator.request == TRY_ANOTHER_INTERFACE);
    let default_message = if let Some(indicator) = wants_other_interface {
        transaction.parameters.status = Status::TryAnotherInterface;
        if matches!(indicator.interface, 0x1 | 0x2 | 0xF) {
            transaction.parameters.alternate_interface = indicator.interface.wrapping_shl(4);
        }
        MessageIdentifier::TRY_ANOTHER_INTERFACE
    } else {
        transaction.parameters.status = Status::Declined;
        MessageIdentifier::DECLINED
    };
    let message = restart.and_then(|indicator| indicator.message).unwrap_or(default_message);
    let ui_request = transaction.message(message);
    transaction.conclude(ui_request, None)
}

/// ISO 8583 processing codes: purchase, cash withdrawal, purchase with cashback, cash disbursement.
const fn is_cash_or_purchase(transaction_type: Option<u8>) -> bool {
    matches!(transaction_type, Some(0x00 | 0x01 | 0x09 | 0x17))
}
