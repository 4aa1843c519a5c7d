//! What local authentication does to a payment beyond the golden transactions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

mod scripted;

use scripted::Script;
use tapfer_emv::tvr::{self, TerminalVerificationResults};
use tapfer_terminal::kernel8::{DeclinedBy, RevokedCertificate, Status};

const SERIAL: [u8; 3] = [0, 0, 1];

fn revoked(serial: [u8; 3]) -> RevokedCertificate {
    RevokedCertificate { rid: [0xF0, 0, 0, 0, 1], ca_index: 0xE0, serial }
}

#[test]
fn a_revoked_issuer_certificate_fails() {
    let script = Script::named("cvd_03_below_limit");
    for (serial, fails) in [([0, 0, 2], false), (SERIAL, true)] {
        let mut configuration = script.configuration();
        configuration.revoked_certificates = vec![revoked([9, 9, 9]), revoked(serial)];
        let (_, outcome) = script.play_with(configuration, &script.responses());
        assert_eq!(outcome.tvr.unwrap().contains(tvr::LOCAL_AUTHENTICATION_FAILED), fails);
        assert_eq!(outcome.parameters.status, Status::OnlineRequest);
    }
}

#[test]
fn action_codes_decline_a_card_that_fails() {
    let script = Script::named("bad_icc_signature");
    let mut configuration = script.configuration();
    configuration.terminal_action_code_denial = [0x04, 0, 0, 0, 0];
    let (_, outcome) = script.play_with(configuration.clone(), &script.responses());
    assert_eq!(outcome.parameters.status, Status::Declined);
    assert_eq!(outcome.declined_by, Some(DeclinedBy::Terminal));

    // Not to report it is no reason to approve: the decision is made before the bit is cleared.
    configuration.kernel_configuration = [0, 0];
    let (_, outcome) = script.play_with(configuration, &script.responses());
    assert_eq!(outcome.parameters.status, Status::Declined);
    assert!(!outcome.tvr.unwrap().contains(tvr::LOCAL_AUTHENTICATION_FAILED));
}

/// The issuer recomputes the cryptogram from the data record: it must find the results as the card
/// signed them.
#[test]
fn the_signed_results_can_be_found_again() {
    let names = ["cvd_00_above_limit", "cvd_02_above_limit", "bad_issuer_signature", "relay_60ms"];
    for name in names {
        let script = Script::named(name);
        let (_, outcome) = script.play(&script.responses());
        let sent = script.commands().pop().unwrap();
        // CDOL1: amount, other amount, country, then the results.
        let signed: [u8; 5] = sent[5 + 14..5 + 19].try_into().unwrap();
        let signed = TerminalVerificationResults::from_bytes(signed);
        assert_eq!(outcome.tvr.unwrap().as_signed(), signed, "{name}");
    }
}
