use std::thread;

use tapfer_hsm::{DetokenizationGrant, OperatorGrant, PaymentHsm};

use crate::{card, issuer, now};

/// Half of the threads make issuers while the others work with one that is there.
pub fn threads_share_a_module(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(100), now()).unwrap();
    let grant = || DetokenizationGrant::Operator(OperatorGrant::new("ada", "test").unwrap());
    thread::scope(|scope| {
        for thread_number in 0..4_u8 {
            scope.spawn(move || {
                for turn in 0..5 {
                    hsm.create_issuer(issuer(thread_number * 5 + turn), now()).unwrap();
                }
            });
            scope.spawn(move || {
                for turn in 0..50 {
                    let record = [thread_number, turn];
                    let sealed = hsm.seal_card_record(issuer(100), card(turn), &record).unwrap();
                    let opened =
                        hsm.open_card_record(issuer(100), card(turn), &sealed, &grant()).unwrap();
                    assert_eq!(opened.expose().as_slice(), record);
                }
            });
        }
    });
    let mut keys: Vec<_> = (0..20)
        .map(|number| *hsm.issuer_keys(issuer(number)).unwrap().public_key.bytes())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 20, "every issuer is there, and has a key of its own");
}
