//! Directories of cards, and what the terminal makes of them.

use super::*;
use crate::kernel8::KernelConfiguration;
use tapfer_payment_types::{Currency, Money};

const AMOUNT: Money = Money::new(1_000, Currency::EUR);

fn taken(aids: &[&[u8]]) -> Vec<Application> {
    let limit = Money::new(5_000, Currency::EUR);
    let kernel = |aid: &&[u8]| KernelConfiguration::attended(aid, 276, limit).unwrap();
    aids.iter().map(kernel).map(|kernel| Application::new(kernel, limit.currency)).collect()
}

fn applications() -> Vec<Application> {
    taken(&[&[0xF0, 0x54, 0x41, 0x50, 0x46], &[0xF0, 0, 0, 0, 1]])
}

/// Why each entry was skipped.
fn reasons(directory: &[u8], applications: &[Application]) -> Vec<SkipReason> {
    match candidates(directory, applications, AMOUNT) {
        Err(EntryPointError::NoCommonApplication(skipped)) => {
            skipped.iter().map(|one| one.reason).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn entry(aid: &[u8], label: &[u8], priority: u8, kernel: &[u8]) -> Vec<u8> {
    let mut value = tlv::encode(tags::APPLICATION_IDENTIFIER_CARD, aid);
    tlv::write(&mut value, tags::APPLICATION_LABEL, label);
    tlv::write(&mut value, tags::APPLICATION_PRIORITY_INDICATOR, &[priority]);
    tlv::write(&mut value, tags::KERNEL_IDENTIFIER, kernel);
    tlv::encode(tags::DIRECTORY_ENTRY, &value)
}

fn directory(entries: &[Vec<u8>]) -> Vec<u8> {
    let discretionary = tlv::encode(tags::FCI_ISSUER_DISCRETIONARY_DATA, &entries.concat());
    let mut fci = tlv::encode(tags::DF_NAME, PROXIMITY_PAYMENT_ENVIRONMENT);
    fci.extend(tlv::encode(tags::FCI_PROPRIETARY_TEMPLATE, &discretionary));
    tlv::encode(tags::FCI_TEMPLATE, &fci)
}

#[test]
fn the_directory_is_selected_by_name() {
    let command = select_directory().encode().unwrap();
    assert_eq!(command, *b"\x00\xA4\x04\x00\x0E2PAY.SYS.DDF01\x00");
}

#[test]
fn priorities_order_the_candidates() {
    let ours = [0xF0, 0x54, 0x41, 0x50, 0x46, 0x45, 0x52, 0x01];
    let directory = directory(&[
        entry(&[0xF0, 0, 0, 0, 1, 9], b"LAST", 0x00, &[0x08]),
        entry(&[0xA0, 0, 0, 0, 3, 0x10], b"OTHER SCHEME", 1, &[0x03]),
        entry(&[0xF0, 0, 0, 0, 1, 2], b"SECOND", 0x82, &[0x00]),
        entry(&ours, b"TAPFER", 0x01, &[0x08]),
    ]);
    let found = candidates(&directory, &applications(), AMOUNT).unwrap();
    let labels: Vec<_> = found.iter().map(|one| one.label.as_deref().unwrap()).collect();
    assert_eq!(labels, ["TAPFER", "SECOND", "LAST"]);
    assert_eq!(found[0].identifier, ours);
    assert_eq!((found[0].application, found[1].application), (0, 1));
}

#[test]
fn nothing_in_common_has_its_reasons() {
    let domestic = |kernel: &[u8]| entry(&[0xF0, 0, 0, 0, 1, 2], b"D", 1, kernel);
    let without_kernel = {
        let visa = tlv::encode(tags::APPLICATION_IDENTIFIER_CARD, &[0xA0, 0, 0, 0, 3, 0x10, 0x10]);
        tlv::encode(tags::DIRECTORY_ENTRY, &visa)
    };
    let directory = directory(&[
        entry(&[0xF0, 0, 0, 0, 1, 2], b"MAESTRO", 1, &[0x02]),
        entry(&[0xF0, 0, 0, 0], b"SHORT", 1, &[0x08]),
        entry(&[0xF0, 0, 0, 0, 9], b"UNKNOWN", 1, &[0x08]),
        domestic(&[0x88, 0x02, 0x76]),
        domestic(&[0x88, 0x02]),
        without_kernel,
    ]);
    let expected = [
        SkipReason::OtherKernel(2),
        SkipReason::Malformed,
        SkipReason::NotTaken,
        SkipReason::OtherKernel(0x88),
        SkipReason::Malformed,
        SkipReason::OtherKernel(3),
    ];
    assert_eq!(reasons(&directory, &applications()), expected);
    let error = candidates(&directory, &applications(), AMOUNT).unwrap_err().to_string();
    assert!(error.contains("MAESTRO: it needs kernel 02, this terminal has kernel 08"), "{error}");
    assert!(error.contains("A0000000031010: it needs kernel 03"), "{error}");
    assert_eq!(reasons(&self::directory(&[]), &applications()), []);
    assert_eq!(candidates(&[0x6F, 5], &applications(), AMOUNT), Err(EntryPointError::Malformed));
}

#[test]
fn an_amount_may_leave_the_other_application() {
    let limit = Some(Money::new(999, Currency::EUR));
    let mut both = applications();
    both[0].contactless_transaction_limit = limit;
    let ours = entry(&[0xF0, 0x54, 0x41, 0x50, 0x46, 0x45, 0x52, 0x01], b"TAPFER", 1, &[8]);
    let other = entry(&[0xF0, 0, 0, 0, 1, 2], b"OTHER", 2, &[8]);
    let found = candidates(&directory(&[ours.clone(), other]), &both, AMOUNT).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].label.as_deref(), Some("OTHER"));
    assert_eq!(reasons(&directory(&[ours]), &both), [SkipReason::Amount]);
}

#[test]
fn the_longest_of_the_terminals_names_goes_with_the_card() {
    let aids: [&[u8]; 3] = [&[0xF0, 0, 0, 0, 1], &[0xF0, 0, 0, 0, 1, 2, 3], &[0xF0, 0, 0, 0, 1, 2]];
    let goes_with = |aid: &[u8]| {
        let directory = directory(&[entry(aid, b"CARD", 1, &[8])]);
        candidates(&directory, &taken(&aids), AMOUNT).unwrap()[0].application
    };
    assert_eq!(goes_with(&[0xF0, 0, 0, 0, 1, 9]), 0);
    assert_eq!(goes_with(&[0xF0, 0, 0, 0, 1, 2]), 2);
    assert_eq!(goes_with(&[0xF0, 0, 0, 0, 1, 2, 3, 4]), 1);
    // A card's name that is shorter than the terminal's is another one.
    let shorter = directory(&[entry(&[0xF0, 0, 0, 0, 1], b"CARD", 1, &[8])]);
    assert_eq!(reasons(&shorter, &taken(&aids[1..2])), [SkipReason::NotTaken]);
}

#[test]
fn extended_selection_is_appended_where_it_is_on() {
    let with_extension = |extension: &[u8]| {
        let mut value = tlv::encode(tags::APPLICATION_IDENTIFIER_CARD, &[0xF0, 0, 0, 0, 1, 2]);
        tlv::write(&mut value, tags::EXTENDED_SELECTION, extension);
        directory(&[tlv::encode(tags::DIRECTORY_ENTRY, &value)])
    };
    let mut on = applications();
    on[1].extended_selection = true;
    let name = |applications: &[Application]| {
        let found = candidates(&with_extension(&[7, 7]), applications, AMOUNT).unwrap();
        found[0].selected_name.clone()
    };
    assert_eq!(name(&on), [0xF0, 0, 0, 0, 1, 2, 7, 7]);
    assert_eq!(name(&applications()), [0xF0, 0, 0, 0, 1, 2]);
    assert_eq!(reasons(&with_extension(&[7; 11]), &on), [SkipReason::NameTooLong]);
}

#[test]
fn a_label_that_cannot_be_shown_is_left_out() {
    let directory = directory(&[entry(&[0xF0, 0, 0, 0, 1, 2], b"\x1B[2J", 1, &[0x08])]);
    assert_eq!(candidates(&directory, &applications(), AMOUNT).unwrap()[0].label, None);
}
