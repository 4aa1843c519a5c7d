//! Terminal profiles: the files that are shipped, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

use proptest::prelude::*;
use tapfer_payment_types::{Currency, Money};
use tapfer_terminal::kernel8::KernelConfiguration;
use tapfer_terminal::profile::{Hex, HexList, RevokedProfile, TerminalProfile};

const ATTENDED: &str = include_str!("../../../profiles/terminal/attended.toml");
const SHIPPED: [&str; 4] = [
    ATTENDED,
    include_str!("../../../profiles/terminal/pin-pad.toml"),
    include_str!("../../../profiles/terminal/transit.toml"),
    include_str!("../../../profiles/terminal/vectors.toml"),
];
const AID: [u8; 6] = [0xF0, 0, 0, 0, 1, 1];
const REVOKED: RevokedProfile =
    RevokedProfile { rid: Hex([0xF0, 0, 0, 0, 1]), ca_index: Hex([0xE0]), serial: Hex([0, 0, 1]) };

fn read(text: &str) -> TerminalProfile {
    toml::from_str(text).unwrap()
}

#[test]
fn every_shipped_profile_sets_a_terminal_up() {
    for text in SHIPPED {
        let profile = read(text);
        profile.check().unwrap();
        let configuration = profile.configuration(&[AID.to_vec()], Vec::new()).unwrap();
        assert_eq!(configuration.applications.len(), 1, "{}", profile.name);
        assert_eq!(configuration.applications[0].kernel.application_identifier, AID);
    }
}

/// The file and the terminal that is built in are the same one.
#[test]
fn the_attended_profile_is_the_one_that_is_built_in() {
    let limit = Money::new(5_000, Currency::EUR);
    let built_in = KernelConfiguration::attended(&AID, 276, limit).unwrap();
    let configuration = read(ATTENDED).configuration(&[AID.to_vec()], Vec::new()).unwrap();
    let from_file = &configuration.applications[0].kernel;
    assert_eq!(format!("{from_file:?}"), format!("{built_in:?}"));
}

#[test]
fn a_key_that_is_not_known_or_missing_is_refused() {
    let refused = |text: String| toml::from_str::<TerminalProfile>(&text).unwrap_err().to_string();
    assert!(refused(format!("flor = 1\n{ATTENDED}")).contains("unknown field `flor`"));
    let table = ATTENDED.replace("[limits]", "[limits]\nceiling = 1");
    assert!(refused(table).contains("unknown field `ceiling`"));
    for key in ["name =", "floor =", "terminal_type =", "mismatch_threshold ="] {
        let without: String = ATTENDED
            .lines()
            .filter(|line| !line.starts_with(key))
            .map(|line| format!("{line}\n"))
            .collect();
        let error = refused(without);
        assert!(error.contains("missing field"), "{error}");
    }
}

#[test]
fn what_cannot_work_is_named_by_its_key() {
    type Change = fn(&mut TerminalProfile);
    let cases: [(Change, &str); 23] = [
        (|p| p.name.clear(), "name"),
        (|p| p.country = 0, "country"),
        (|p| p.country = 1_000, "country"),
        (|p| p.applications = vec![HexList(vec![1; 4])], "applications"),
        (|p| p.applications = vec![HexList(AID.to_vec()), HexList(AID.to_vec())], "applications"),
        (|p| p.limits.floor = -1, "limits.floor"),
        (|p| p.limits.verification = 1_000_000_000_000, "limits.verification"),
        (|p| p.limits.contactless_transaction = Some(-1), "limits.contactless_transaction"),
        (|p| p.kernel8.kernel_configuration.0[0] = 0x20, "kernel8.kernel_configuration"),
        (|p| p.kernel8.cvm_capability_required.0[0] = 0x01, "kernel8.cvm_capability_required"),
        (|p| p.kernel8.cvm_capability_required.0[0] = 0x00, "kernel8.cvm_capability_required"),
        (
            |p| p.kernel8.cvm_capability_not_required.0[0] = 0x00,
            "kernel8.cvm_capability_not_required",
        ),
        (|p| p.kernel8.terminal_type.0[0] = 0x99, "kernel8.terminal_type"),
        // A cardholder's own terminal has nobody beside it.
        (|p| p.kernel8.terminal_type.0[0] = 0x31, "kernel8.terminal_type"),
        // Online only, and yet with a floor.
        (|p| p.limits.floor = 1, "limits.floor"),
        (|p| p.kernel8.revoked_certificates = vec![REVOKED; 2], "kernel8.revoked_certificates"),
        // Of an authority that no application of the profile has: it would revoke nothing.
        (
            |p| {
                p.applications = vec![HexList(vec![0xA0, 0, 0, 9, 9, 1])];
                p.kernel8.revoked_certificates = vec![REVOKED];
            },
            "kernel8.revoked_certificates",
        ),
        (|p| p.kernel8.timeout_value = 0, "kernel8.timeout_value"),
        (|p| p.kernel8.tag_mapping_list = HexList(vec![0x95]), "kernel8.tag_mapping_list"),
        (|p| p.kernel8.tags_to_read = HexList(vec![0x9F]), "kernel8.tags_to_read"),
        (
            |p| p.kernel8.data_envelopes_to_write = HexList(vec![0x50, 1, 0x41]),
            "kernel8.data_envelopes_to_write",
        ),
        (
            |p| p.kernel8.data_envelopes_to_write = HexList(vec![0x9F, 0x81, 0x11, 5, 0]),
            "kernel8.data_envelopes_to_write",
        ),
        (|p| p.kernel8.default_cdol1 = Some(HexList(vec![0x95])), "kernel8.default_cdol1"),
    ];
    for (change, key) in cases {
        let mut profile = read(ATTENDED);
        change(&mut profile);
        assert_eq!(profile.check().unwrap_err().key, key);
    }
}

/// Floor and verification limit are two questions: a terminal that may decide alone has any two.
#[test]
fn a_terminal_that_may_decide_alone_has_a_floor() {
    let mut profile = read(ATTENDED);
    profile.kernel8.terminal_type = Hex([0x22]);
    profile.limits.floor = profile.limits.verification + 1;
    profile.check().unwrap();
}

proptest! {
    #[test]
    fn any_text_is_answered(text in ".*", position in any::<prop::sample::Index>()) {
        let _ = toml::from_str::<TerminalProfile>(&text);
        let mut mixed = ATTENDED.to_owned();
        let position = position.index(mixed.len());
        if mixed.is_char_boundary(position) {
            mixed.insert_str(position, &text);
        }
        if let Ok(profile) = toml::from_str::<TerminalProfile>(&mixed) {
            // What is found to work sets a terminal up.
            if profile.check().is_ok() {
                prop_assert!(profile.configuration(&[AID.to_vec()], Vec::new()).is_ok());
            }
        }
    }
}
