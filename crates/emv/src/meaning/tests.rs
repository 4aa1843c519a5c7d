use super::*;
use crate::profile;

fn said(tag: Tag, value: &[u8]) -> String {
    of(tag, value, None).join("; ")
}

#[test]
fn values_in_words() {
    let table: &[(Tag, &[u8], &str)] = &[
        (tags::AMOUNT_AUTHORIZED, &[0, 0, 0, 0, 0x12, 0x34], "1234 minor units"),
        (tags::TRANSACTION_DATE, &[0x26, 0x11, 0x21], "2026-11-21"),
        (tags::TRANSACTION_TIME, &[0x23, 0x59, 0x58], "23:59:58"),
        (tags::TRANSACTION_TYPE, &[0x20], "refund"),
        (tags::TRANSACTION_TYPE, &[0x77], "77, which is not known"),
        (tags::CARDHOLDER_VERIFICATION_DECISION, &[0x03], "verified on the phone (CDCVM)"),
        (tags::CRYPTOGRAM_INFORMATION_DATA, &[0x80], "ARQC: ask the issuer online"),
        (tags::KERNEL_IDENTIFIER, &[8], "kernel 8"),
        (tags::APPLICATION_TRANSACTION_COUNTER, &[1, 2], "transaction 258"),
        (tags::APPLICATION_LABEL, b"TAPFER", "\"TAPFER\""),
        (tags::CVM_RESULTS, &[0x1F, 0, 2], "no verification, successful"),
        (tags::CVM_RESULTS, &[0, 0, 0], "not decided yet"),
        (
            tags::TERMINAL_VERIFICATION_RESULTS,
            &[0x04, 0, 0, 0x80, 0x81],
            "local authentication failed; the reader contactless floor limit is exceeded; these are \
             verification results of Kernel 8; the relay resistance check was not performed",
        ),
        (
            tags::APPLICATION_FILE_LOCATOR,
            &[0x10, 2, 3, 1],
            "file 2, records 2 to 3, 1 of them signed",
        ),
        (
            tags::EXTENDED_SDA_TAG_LIST,
            &[0x8C],
            "8C Card Risk Management Data Object List 1 (CDOL1)",
        ),
        (
            tags::PDOL,
            &[0x9E, 0x40, 0x9C, 0x01],
            "9E Kernel Key Data, 64 bytes; 9C Transaction Type, 1 byte",
        ),
        (
            tags::OUTCOME_PARAMETER_SET,
            &[0x30, 0xF0, 0xF0, 0x00, 0xB0, 0xF0, 0xFF, 0x00],
            "status: ask the issuer online, start: not applicable; cardholder verification: none; a \
             message is shown at the outcome; a data record is there; discretionary data is there",
        ),
        (
            tags::ERROR_INDICATION,
            &[0, 0x03, 0, 0x69, 0x85, 0xFF],
            "L1: ok, L2: status bytes; the card answered 6985 (conditions of use not satisfied)",
        ),
        (tags::RESTART_INDICATOR, &[0x20, 0x00], "restart B: see phone, tap again"),
        (
            tags::USER_INTERFACE_REQUEST_DATA_1,
            &[0x1B, 0],
            "message: authorising, please wait, state: not ready",
        ),
        (
            tags::CARD_QUALIFIER,
            &profile::CARD_QUALIFIER,
            "version 2, channel suites 00; the card does not notice that the field was switched off",
        ),
        (
            tags::ISSUER_CERTIFICATE,
            &[],
            "the certificate is 0 bytes long; issuer certificates have 117, ICC certificates 145",
        ),
    ];
    for (tag, value, words) in table {
        assert_eq!(said(*tag, value), *words, "{tag}");
    }
}

#[test]
fn amounts_are_written_in_their_currency() {
    let value = [0, 0, 0, 0, 0x12, 0x34];
    assert_eq!(of(tags::AMOUNT_OTHER, &value, Some(Currency::EUR)), ["12.34 EUR"]);
}

#[test]
fn a_value_of_another_form_says_nothing() {
    for tag in [tags::TRANSACTION_DATE, tags::AMOUNT_AUTHORIZED, tags::TRANSACTION_CURRENCY_CODE] {
        assert_eq!(said(tag, &[0xFA, 0xFB, 0xFC]), "", "{tag}");
    }
    assert_eq!(said(tags::APPLICATION_LABEL, &[0x1B, 0x5B]), "");
    assert_eq!(said(Tag::new(0xDF7F), &[1]), "");
}
