//! What every security module must do, whatever stands behind it. A new vault adds one function to
//! `backend`, and a `contract!` and a `key_life!` line at the end of this file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    unreachable_pub,
    missing_docs
)]

mod backend;
mod certificates;
mod clients;
mod concurrency;
mod cryptograms;
mod documents;
mod key_life;
mod merchants;
mod module;
mod persons;
mod provisioning;
mod records;
mod store_shares;

use tapfer_emv::certificate::Rid;
use tapfer_hsm::RecordOwner;
use tapfer_payment_types::{CardId, IssuerId, Timestamp, TokenId, TokenPan};

const RID: Rid = [0xF0, 0x54, 0x41, 0x50, 0x46];

fn now() -> Timestamp {
    "2026-11-21T12:34:56Z".parse().unwrap()
}

fn issuer(number: u8) -> IssuerId {
    IssuerId::new(now(), [number; 10])
}

fn card(number: u8) -> RecordOwner {
    RecordOwner::Card(CardId::new(now(), [number; 10]))
}

fn token(number: u8) -> RecordOwner {
    RecordOwner::Token(TokenId::new(now(), [number; 10]))
}

fn token_pan() -> TokenPan {
    "9990770996775434".parse().unwrap()
}

/// Makes a test of every clause for one backend.
macro_rules! contract {
    ($backend:ident $(on $kind:ident)?) => {
        contract! { $backend $(on $kind)?:
            module::describes_itself
            module::random_bytes_differ
            certificates::authority_is_made_once
            certificates::issuer_is_made_once
            certificates::chain_verifies
            certificates::issuer_certificate_ends_in_bounds
            certificates::icc_certificate_ends_in_bounds
            certificates::malformed_issuer_identifier_is_refused
            certificates::unknown_keys_are_named
            merchants::merchant_authority_is_made_once
            merchants::certified_terminal_proves_itself
            merchants::merchant_certificate_ends_in_bounds
            merchants::unreadable_identifier_is_refused
            clients::access_keys_are_made_once
            clients::certified_client_is_known
            clients::client_certificate_ends_in_bounds
            documents::document_keys_are_made_once
            documents::a_signed_document_verifies_for_its_purpose
            cryptograms::golden_card_keys
            cryptograms::right_cryptogram_is_proven
            cryptograms::any_change_is_a_mismatch
            cryptograms::unknown_generation_is_an_answer
            cryptograms::many_are_answered_in_their_order
            cryptograms::demo_keys_recompute_the_cryptogram
            provisioning::phone_opens_and_pays
            provisioning::other_info_or_token_is_refused
            provisioning::bad_recipient_is_refused
            provisioning::bad_terms_are_refused
            provisioning::no_key_in_what_travels
            provisioning::session_keys_pay_once_and_their_class_shows
            provisioning::bad_rows_are_refused
            persons::recipient_is_the_issuers_own_and_stays
            persons::old_person_key_proves_the_new_one
            persons::stored_person_key_is_bound
            persons::imports_are_refused_alike
            persons::card_pin_is_compared_inside
            persons::pins_are_refused_alike
            records::opens_with_a_grant
            records::every_byte_is_protected
            records::belongs_to_one_card_of_one_issuer
            records::personalisation_opens_its_own_token_only
            records::lookup_is_keyed_and_over_the_whole_number
            store_shares::a_share_belongs_to_one_phone_and_epoch
            store_shares::shares_asked_for_at_once_are_of_one_key
            concurrency::threads_share_a_module
        }
    };
    ($backend:ident: $($module:ident::$clause:ident)*) => {
        mod $backend {
            use tapfer_hsm::Realm;

            use crate::*;

            $(#[test]
            fn $clause() {
                $module::$clause(&backend::$backend(Realm::Demo).hsm);
            })*

            #[test]
            fn production_realm_shows_no_key() {
                module::production_realm_shows_no_key(&backend::$backend(Realm::Production).hsm);
            }
        }
    };
    ($backend:ident on $kind:ident: $($module:ident::$clause:ident)*) => {
        mod $backend {
            use tapfer_hsm::Realm;
            use tapfer_test_tokens::{Kind, isolated};

            use crate::*;

            $(#[test]
            fn $clause() {
                isolated(Kind::$kind, |place| {
                    $module::$clause(&backend::in_module(place, Realm::Demo).hsm);
                });
            })*

            #[test]
            fn production_realm_shows_no_key() {
                isolated(Kind::$kind, |place| {
                    let backend = backend::in_module(place, Realm::Production);
                    module::production_realm_shows_no_key(&backend.hsm);
                });
            }
        }
    };
}

/// Makes a test of every clause about the life of keys for one vault, in a module of that name.
macro_rules! key_life {
    ($tests:ident, $($vault:ident)+) => {
        key_life! { $tests, $($vault)+:
            every_key_is_listed
            rotated_master_keys_overlap
            an_imported_generation_takes_over
            rotated_record_keys_overlap
            rotated_person_and_pin_keys_overlap
            rotated_document_keys_sign_anew
            rotated_client_authorities_overlap
            the_configuration_key_signs_for_the_next
            what_is_retired_makes_nothing
            what_makes_what_is_new_stays
            a_key_lives_forwards
            what_must_stay_the_same_is_not_rotated
            another_process_sees_every_change
            changes_from_all_sides_are_kept
            a_catalogue_is_portable
            the_vault_keeps_what_it_should
        }
    };
    ($tests:ident, $vault:ident: $($clause:ident)*) => {
        mod $tests {
            use tapfer_hsm::Realm;

            use crate::*;

            $(#[test]
            fn $clause() {
                key_life::$clause(&backend::$vault(Realm::Demo));
            })*
        }
    };
    ($tests:ident, on $kind:ident: $($clause:ident)*) => {
        mod $tests {
            use tapfer_hsm::Realm;
            use tapfer_test_tokens::{Kind, isolated};

            use crate::*;

            $(#[test]
            fn $clause() {
                isolated(Kind::$kind, |place| {
                    key_life::$clause(&backend::in_module(place, Realm::Demo));
                });
            })*
        }
    };
}

contract!(software);
key_life!(software_key_life, software);
contract!(pooled);
// PKCS#11 modules, each test in a process of its own.
contract!(softhsm on SoftHsm);
key_life!(softhsm_key_life, on SoftHsm);
contract!(kryoptic on Kryoptic);
key_life!(kryoptic_key_life, on Kryoptic);
