//! The rules of a profile, broken one by one.

use super::*;
use crate::certificate::IssuerCertificate;
use crate::curve::PrivateKey;
use tapfer_payment_types::messages::{CardProfileMessage, HexBytes};

const AID: [u8; 8] = [0xF0, 0x54, 0x41, 0x50, 0x46, 0x45, 0x52, 0x01];
const TOKEN: &str = "6726599999999990124";

fn issuer_certificate() -> Vec<u8> {
    let key = PrivateKey::from_bytes(&[0x42; 32]).unwrap().public_x();
    let certificate = IssuerCertificate {
        issuer_identifier: [0x67, 0x26, 0x5F, 0xFF, 0xFF],
        expiry: CertificateDate { year: 2030, month: 12, day: 31 },
        serial: [0, 0, 1],
        rid: [0xF0, 0x54, 0x41, 0x50, 0x46],
        ca_index: 0xE0,
        public_key: key,
        signature: [7; 64],
    };
    certificate.encode()
}

/// A valid profile of the platform's own card, for other tests too.
pub(crate) fn profile() -> CardProfile {
    CardProfile::personalise(&Personalisation {
        aid: &AID,
        label: "TAPFER DEMO",
        token_pan: TOKEN,
        sequence: 1,
        expiry: CertificateDate { year: 2030, month: 12, day: 31 },
        issuer_country: 276,
        ca_index: 0xE0,
        issuer_certificate: &issuer_certificate(),
    })
    .unwrap()
}

#[test]
fn the_records_hold_what_a_terminal_asks_for() {
    let profile = profile();
    assert_eq!(profile.token_pan().unwrap().expose(), TOKEN);
    assert_eq!(profile.sequence_number().unwrap().value(), 1);
    let expected: &[(Tag, &[u8])] = &[
        (tags::APPLICATION_PAN, &[0x67, 0x26, 0x59, 0x99, 0x99, 0x99, 0x99, 0x90, 0x12, 0x4F]),
        (tags::APPLICATION_EXPIRATION_DATE, &[0x30, 0x12, 0x31]),
        (tags::ISSUER_COUNTRY_CODE, &[0x02, 0x76]),
        (tags::IAD_MAC_OFFSET, &[24]),
        (tags::CA_PUBLIC_KEY_INDEX, &[0xE0]),
    ];
    for (tag, value) in expected {
        assert_eq!(profile.data_object(*tag), Some(*value), "{tag}");
    }
}

#[test]
fn the_locator_counts_signed_records_and_the_icc_certificate() {
    let locator = profile().application_file_locator();
    assert_eq!(locator, [0x10, 1, 1, 0, 0x10, 2, 2, 1, 0x10, 3, 3, 0]);
    let icc = profile().icc_certificate_record(&[9]);
    assert_eq!((icc.short_file_identifier, icc.number), (2, 3));
    assert_eq!(icc.value, [0x9F, 0x46, 1, 9]);
    assert!(icc.encrypted && !icc.signed);
}

#[test]
fn the_hash_covers_all_that_is_fixed() {
    let before = profile().sda_hash();
    let changes: [fn(&mut CardProfile); 5] = [
        |profile| profile.aid[7] ^= 1,
        |profile| profile.aip[0] ^= 1,
        |profile| profile.pdol[0] ^= 1,
        |profile| profile.cdol1[0] ^= 1,
        |profile| profile.records[1].value[2] ^= 1,
    ];
    for change in changes {
        let mut changed = profile();
        change(&mut changed);
        assert_ne!(changed.sda_hash(), before);
    }
}

#[test]
fn a_profile_travels_unchanged() {
    let message = CardProfileMessage::from(&profile());
    assert_eq!(CardProfile::try_from(&message), Ok(profile()));
    let short_aip = CardProfileMessage { aip: HexBytes(vec![1]), ..message };
    assert_eq!(CardProfile::try_from(&short_aip), Err(ProfileError::InterchangeProfile));
}

/// Replaces the value of one data object in a record.
fn set(profile: &mut CardProfile, record: usize, tag: Tag, value: &[u8]) {
    let old = profile.records[record].value.clone();
    let mut new = Vec::new();
    for object in tlv::parse(&old).unwrap() {
        tlv::write(&mut new, object.tag, if object.tag == tag { value } else { object.value });
    }
    profile.records[record].value = new;
}

/// The PDOL of the platform's first cards, without the merchant proof.
const FIRST_PDOL: [u8; 18] = [
    0x9F, 0x2B, 0x08, 0x9E, 0x40, 0x9F, 0x02, 0x06, 0x9F, 0x37, 0x04, 0x5F, 0x2A, 0x02, 0x9A, 0x03,
    0x9C, 0x01,
];

#[test]
fn cards_of_the_first_months_are_still_played() {
    for (aip, pdol) in [([0x01, 0x04], PDOL.to_vec()), ([0x01, 0x05], FIRST_PDOL.to_vec())] {
        let profile = CardProfile { aip, pdol, ..profile() };
        assert_eq!(profile.check(), Ok(()));
    }
}

type BrokenRule = (fn(&mut CardProfile), ProfileError);

#[test]
fn each_rule_is_enforced() {
    let cases: &[BrokenRule] = &[
        (|p| p.aid.truncate(4), ProfileError::ApplicationIdentifier),
        (|p| p.label.clear(), ProfileError::Label),
        (|p| p.label = vec![b'A'; 17], ProfileError::Label),
        (|p| p.label = "TÄPFER".into(), ProfileError::Label),
        (|p| p.aip = [0x01, 0x0D], ProfileError::InterchangeProfile),
        (|p| p.aip = [0x00, 0x04], ProfileError::InterchangeProfile),
        (|p| p.pdol.truncate(5), ProfileError::DataObjectList("PDOL")),
        (|p| p.pdol.extend([0x9E, 0x40]), ProfileError::DataObjectList("PDOL")),
        (|p| p.pdol[29] = 63, ProfileError::DataObjectList("PDOL")),
        (|p| drop(p.pdol.drain(24..27)), ProfileError::DataObjectList("PDOL")),
        (|p| p.cdol1[2] = 5, ProfileError::DataObjectList("CDOL1")),
        (|p| p.records.clear(), ProfileError::Records),
        (|p| p.records.swap(0, 1), ProfileError::Records),
        (|p| p.records[1].number = 1, ProfileError::Records),
        (|p| p.records[1].short_file_identifier = 11, ProfileError::Records),
        (|p| p.records[1].number = 255, ProfileError::Records),
        (|p| p.records[1].value.push(0x5A), ProfileError::RecordContent),
        (|p| p.records[1].value.extend([0x8F, 0]), ProfileError::RecordContent),
        (|p| p.records[0].value.extend([0x9F, 0x46, 0]), ProfileError::RecordContent),
        (|p| p.records.truncate(1), ProfileError::Missing(tags::APPLICATION_PAN)),
        (|p| drop(p.records.remove(0)), ProfileError::Missing(tags::ISSUER_CERTIFICATE)),
        (|p| p.records[1].signed = false, ProfileError::Unprotected),
        (|p| p.records[1].encrypted = false, ProfileError::Unprotected),
        (|p| set(p, 1, tags::APPLICATION_PAN, &[0x66; 8]), ProfileError::CardNumber),
        (|p| set(p, 1, tags::APPLICATION_PAN, &[0xF1; 8]), ProfileError::CardNumber),
        (|p| set(p, 1, tags::PAN_SEQUENCE_NUMBER, &[0x0A]), ProfileError::CardNumber),
        (|p| set(p, 1, tags::APPLICATION_EXPIRATION_DATE, &[0x30, 0x13, 1]), ProfileError::Expiry),
        (|p| set(p, 1, tags::ISSUER_COUNTRY_CODE, &[0x12, 0x76]), ProfileError::Country),
        (|p| set(p, 1, tags::IAD_MAC_OFFSET, &[25]), ProfileError::IadMacOffset),
        (|p| set(p, 1, tags::EXTENDED_SDA_TAG_LIST, &[0x8C]), ProfileError::ExtendedSdaTagList),
        (|p| set(p, 0, tags::ISSUER_CERTIFICATE, &[0x12]), ProfileError::IssuerCertificate),
        (|p| set(p, 0, tags::CA_PUBLIC_KEY_INDEX, &[0xE1]), ProfileError::IssuerCertificate),
        (|p| p.aid[0] ^= 1, ProfileError::IssuerCertificate),
        (
            |p| set(p, 1, tags::APPLICATION_PAN, &[0x41, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11]),
            ProfileError::IssuerCertificate,
        ),
    ];
    for (number, (change, error)) in cases.iter().enumerate() {
        let mut changed = profile();
        change(&mut changed);
        assert_eq!(changed.check(), Err(*error), "case {number}");
        assert!(CardProfile::try_from(&CardProfileMessage::from(&changed)).is_err());
    }
}

#[test]
fn debug_shows_no_card_data() {
    let text = std::format!("{:?}", profile().records);
    assert!(!text.contains("103") && !text.contains("38"), "{text}");
}
