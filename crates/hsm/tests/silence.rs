//! Nothing that can be printed shows a key.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

use std::fmt::Debug;

use data_encoding::{HEXLOWER, HEXUPPER};
use proptest::prelude::*;
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_hsm::{PaymentHsm, Realm, RecordOwner, SoftwareHsm, Unlock};
use tapfer_payment_types::{CardId, IssuerId, RealmId, Timestamp};

/// The ways in which bytes get into a text by accident, cut to four bytes: even a part is too much.
fn traces(key: &[u8]) -> Vec<String> {
    let part = &key[..4];
    let lists = [
        format!("{part:?}"),
        format!("{part:x?}"),
        format!("{part:X?}"),
        format!("{part:02x?}"),
        format!("{part:02X?}"),
    ];
    let lists = lists.map(|list| list.trim_matches(['[', ']']).to_owned());
    [vec![HEXLOWER.encode(part), HEXUPPER.encode(part)], lists.to_vec()].concat()
}

fn shown(texts: &mut Vec<String>, value: &impl Debug) {
    texts.push(format!("{value:?}"));
    texts.push(format!("{value:#?}").replace([' ', '\n'], ""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn no_key_is_printed(master_key in any::<[u8; 16]>(), file_key in any::<[u8; 32]>()) {
        let directory = tempfile::tempdir().unwrap();
        let [keystore, keys] = ["keystore", "keys.json"].map(|name| directory.path().join(name));
        let issuer = IssuerId::new(Timestamp::from_unix_millis(1), [1; 10]);
        let card = RecordOwner::Card(CardId::new(Timestamp::from_unix_millis(1), [1; 10]));
        let realm_id = RealmId::new(Timestamp::from_unix_millis(1), [1; 10]);
        let unlock = Unlock::key_from_hex(&HEXLOWER.encode(&file_key)).unwrap();
        let hsm = SoftwareHsm::create(&keystore, &keys, &unlock, Realm::Demo, realm_id).unwrap();
        let mut texts = Vec::new();
        shown(&mut texts, &unlock);
        shown(&mut texts, &hsm);
        shown(&mut texts, &hsm.import_demo_issuer(issuer, IssuerMasterKey::new(master_key), Timestamp::from_unix_millis(1)));
        shown(&mut texts, &hsm.import_demo_issuer(issuer, IssuerMasterKey::new(master_key), Timestamp::from_unix_millis(1)));
        shown(&mut texts, &hsm.key_records());
        shown(&mut texts, &hsm.demo_keys(issuer, 1));
        shown(&mut texts, &hsm.demo_keys(issuer, 2));
        shown(&mut texts, &hsm.pan_lookup(issuer, &"4111111111111111".parse().unwrap()));
        shown(&mut texts, &hsm.seal_card_record(issuer, card, &master_key));
        shown(&mut texts, &SoftwareHsm::open(&keystore, &keys, &unlock));
        let other = Unlock::key_from_hex(&HEXLOWER.encode(&[0x3C; 32])).unwrap();
        shown(&mut texts, &SoftwareHsm::open(&keystore, &keys, &other));
        shown(&mut texts, &Unlock::key_from_hex(&HEXLOWER.encode(&file_key[1..])));

        for trace in [traces(&master_key), traces(&file_key), traces(&file_key[1..])].concat() {
            for text in &texts {
                prop_assert!(!text.contains(&trace), "{trace} in {text}");
                prop_assert!(!text.contains(&trace.replace(' ', "")), "{trace} in {text}");
            }
        }
    }
}
