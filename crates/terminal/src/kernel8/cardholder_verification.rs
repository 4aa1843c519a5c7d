//! What the card decided about the person, and whether the terminal offered it (Book C-8 29.25 to
//! 29.42).

use tapfer_emv::tags;
use tapfer_emv::tvr;

use super::outcome::CardholderVerification;
use super::transaction::Transaction;

/// Bits of byte 1 of the terminal risk management data (Book C-8 A.1.129).
const OFFERS_ONLINE_PIN: u8 = 0x40;
const OFFERS_SIGNATURE: u8 = 0x20;
const OFFERS_NONE: u8 = 0x08;
const OFFERS_ON_DEVICE: u8 = 0x04;

/// Evaluates the Cardholder Verification Decision `9F8102`.
pub(super) fn evaluate(transaction: &mut Transaction) {
    let decision = transaction.data.byte(tags::CARDHOLDER_VERIFICATION_DECISION).unwrap_or(0xFF);
    let [offered, ..] =
        transaction.data.array::<8>(tags::TERMINAL_RISK_MANAGEMENT_DATA).unwrap_or_default();
    let offers = |method: u8| offered & method != 0;
    let (verification, results) = match decision {
        0x00 if offers(OFFERS_NONE) => (CardholderVerification::None, [0x1F, 0x00, 0x02]),
        0x01 if offers(OFFERS_SIGNATURE) => (CardholderVerification::Signature, [0x1E, 0x00, 0x00]),
        0x02 if offers(OFFERS_ONLINE_PIN) => {
            transaction.set_tvr_bit(tvr::ONLINE_CVM_CAPTURED);
            (CardholderVerification::OnlinePin, [0x02, 0x00, 0x00])
        }
        0x03 if offers(OFFERS_ON_DEVICE) => {
            (CardholderVerification::ConfirmationCodeVerified, [0x01, 0x00, 0x02])
        }
        0x0F => (CardholderVerification::NotAvailable, [0x3F, 0x00, 0x00]),
        // `FF`, what was not offered, and what nobody knows.
        _ => {
            transaction.set_tvr_bit(tvr::CARDHOLDER_VERIFICATION_FAILED);
            (CardholderVerification::NotAvailable, [0x3F, 0x00, 0x01])
        }
    };
    transaction.parameters.cardholder_verification = verification;
    transaction.data.set(tags::CVM_RESULTS, &results);
}
