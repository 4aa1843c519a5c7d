//! 3DES against the Python package `pyemv`, in the virtual environment that `./test` sets up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod python;

use data_encoding::HEXLOWER;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tapfer_emv::cryptogram::CryptogramInput;
use tapfer_emv::keys::CardDigits;
use tapfer_emv::triple_des::{
    IssuerMasterKey, Padding, application_cryptogram, response_cryptogram_method_2, retail_mac,
};
use tapfer_payment_types::PanSequenceNumber;

const CASES: usize = 200;

/// One card, one transaction, one answer of the issuer.
#[derive(Debug)]
struct Case {
    issuer_master_key: [u8; 16],
    pan: String,
    sequence: u8,
    input: CryptogramInput,
    card_status_update: [u8; 4],
    proprietary_data: Vec<u8>,
}

impl Case {
    fn to_json(&self) -> Value {
        json!({
            "issuer_master_key": HEXLOWER.encode(&self.issuer_master_key),
            "pan": self.pan,
            "pan_sequence_number": format!("{:02}", self.sequence),
            "atc": HEXLOWER.encode(&self.input.application_transaction_counter.to_be_bytes()),
            "input": HEXLOWER.encode(&self.input.encode()),
            "csu": HEXLOWER.encode(&self.card_status_update),
            "proprietary_data": HEXLOWER.encode(&self.proprietary_data),
        })
    }

    fn check(&self, theirs: &Value) {
        let theirs =
            |name: &str| HEXLOWER.decode(theirs[name].as_str().unwrap().as_bytes()).unwrap();
        let sequence = PanSequenceNumber::new(self.sequence).unwrap();
        let digits = CardDigits::new(&self.pan, sequence).unwrap();
        let card_key = IssuerMasterKey::new(self.issuer_master_key).card_master_key(&digits);
        assert!(card_key.has_key_bits_of(&theirs("card_master_key").try_into().unwrap()));
        let session_key = card_key.session_key(self.input.application_transaction_counter);
        assert!(session_key.has_key_bits_of(&theirs("session_key").try_into().unwrap()));

        let input = self.input.encode();
        let cryptogram = application_cryptogram(&session_key, &input);
        assert_eq!(cryptogram.as_slice(), theirs("cvn18_cryptogram"));
        let mac = retail_mac(card_key.expose(), &input, Padding::Method1);
        assert_eq!(mac.as_slice(), theirs("mac_padding_method_1"));
        let response = response_cryptogram_method_2(
            &session_key,
            &cryptogram,
            &self.card_status_update,
            &self.proprietary_data,
        );
        assert_eq!(response.as_slice(), theirs("arpc_method_2"));
    }
}

fn any_input() -> impl Strategy<Value = CryptogramInput> {
    let fixed = (any::<[u8; 6]>(), any::<[u8; 6]>(), any::<[u8; 5]>(), any::<[u8; 4]>());
    (fixed, any::<[u8; 10]>(), any::<u16>(), vec(any::<u8>(), 0..33)).prop_map(
        |((amount_authorized, amount_other, tvr, unpredictable_number), rest, counter, data)| {
            let [c0, c1, m0, m1, d0, d1, d2, transaction_type, a0, a1] = rest;
            CryptogramInput {
                amount_authorized,
                amount_other,
                terminal_country: [c0, c1],
                tvr,
                currency: [m0, m1],
                date: [d0, d1, d2],
                transaction_type,
                unpredictable_number,
                aip: [a0, a1],
                application_transaction_counter: counter,
                issuer_application_data: data,
            }
        },
    )
}

/// pyemv takes option B for its CVN 18 card, which is option A up to 16 digits.
fn any_case() -> impl Strategy<Value = Case> {
    let answer = (any::<[u8; 4]>(), vec(any::<u8>(), 0..9));
    (any::<[u8; 16]>(), "[0-9]{12,16}", 0_u8..100, any_input(), answer).prop_map(
        |(issuer_master_key, pan, sequence, input, (card_status_update, proprietary_data))| Case {
            issuer_master_key,
            pan,
            sequence,
            input,
            card_status_update,
            proprietary_data,
        },
    )
}

#[test]
fn triple_des_as_pyemv_has_it() {
    let mut runner = TestRunner::deterministic();
    let strategy = any_case();
    let cases: Vec<Case> =
        (0..CASES).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let theirs = python::ask("pyemv_vectors.py", cases.iter().map(Case::to_json).collect());
    cases.iter().zip(&theirs).for_each(|(case, theirs)| case.check(theirs));
}
