use tapfer_hsm::{
    DetokenizationGrant, HsmError, OperatorGrant, PaymentHsm, RecordOwner, SealedCardRecord,
};
use tapfer_payment_types::Pan;

use crate::{card, cryptograms, issuer, now, token};

const RECORD: &[u8] = b"{\"pan\":\"4111111111111111\"}";

fn operator() -> DetokenizationGrant<'static> {
    DetokenizationGrant::Operator(OperatorGrant::new("ada", "dispute 17").unwrap())
}

pub fn opens_with_a_grant(hsm: &impl PaymentHsm) {
    let proof = cryptograms::proof(hsm);
    let sealed = hsm.seal_card_record(issuer(1), card(1), RECORD).unwrap();
    for grant in [operator(), DetokenizationGrant::Payment(&proof)] {
        let opened = hsm.open_card_record(issuer(1), card(1), &sealed, &grant).unwrap();
        assert_eq!(opened.expose(), RECORD);
    }
    assert!(!sealed.0.windows(16).any(|window| RECORD.windows(16).any(|plain| plain == window)));
    let again = hsm.seal_card_record(issuer(1), card(1), RECORD).unwrap();
    assert_ne!(sealed, again, "equal records do not look equal");
    let empty = hsm.seal_card_record(issuer(1), card(1), b"").unwrap();
    let opened = hsm.open_card_record(issuer(1), card(1), &empty, &operator()).unwrap();
    assert!(opened.expose().is_empty());
}

pub fn every_byte_is_protected(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    let sealed = hsm.seal_card_record(issuer(1), card(1), RECORD).unwrap();
    let damaged = |bytes: Vec<u8>| {
        let opened =
            hsm.open_card_record(issuer(1), card(1), &SealedCardRecord(bytes), &operator());
        matches!(opened, Err(HsmError::CardRecord))
    };
    for position in 0..sealed.0.len() {
        let mut changed = sealed.0.clone();
        changed[position] ^= 1;
        assert!(damaged(changed), "byte {position}");
        assert!(damaged(sealed.0[..position].to_vec()), "cut at {position}");
    }
    let mut longer = sealed.0.clone();
    longer.push(0);
    assert!(damaged(longer));
}

pub fn belongs_to_one_card_of_one_issuer(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    hsm.create_issuer(issuer(2), now()).unwrap();
    let sealed = hsm.seal_card_record(issuer(1), card(1), RECORD).unwrap();
    for (issuer, card) in [(issuer(1), card(2)), (issuer(2), card(1))] {
        let opened = hsm.open_card_record(issuer, card, &sealed, &operator());
        assert!(matches!(opened, Err(HsmError::CardRecord)));
    }
    let unknown = hsm.open_card_record(issuer(3), card(1), &sealed, &operator());
    assert!(matches!(unknown, Err(HsmError::UnknownIssuer(_))));
    let unknown = hsm.seal_card_record(issuer(3), card(1), RECORD);
    assert!(matches!(unknown, Err(HsmError::UnknownIssuer(_))));
}

/// A phone that is personalised gets its own token's number, and nothing else opens to it.
pub fn personalisation_opens_its_own_token_only(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    let owners = [card(1), token(1), token(2)];
    let sealed = owners.map(|owner| hsm.seal_card_record(issuer(1), owner, RECORD).unwrap());
    let RecordOwner::Token(own) = token(1) else { unreachable!() };
    let grant = DetokenizationGrant::Personalisation(own);
    for (owner, record) in owners.into_iter().zip(&sealed) {
        let opened = hsm.open_card_record(issuer(1), owner, record, &grant);
        if owner == token(1) {
            assert_eq!(opened.unwrap().expose(), RECORD);
        } else {
            assert!(matches!(opened, Err(HsmError::GrantElsewhere)));
        }
        // Another's record in the own one's place.
        let exchanged = hsm.open_card_record(issuer(1), token(1), record, &grant);
        assert_eq!(exchanged.is_ok(), owner == token(1));
    }
}

pub fn lookup_is_keyed_and_over_the_whole_number(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    hsm.create_issuer(issuer(2), now()).unwrap();
    let pan: Pan = "4111111111111111".parse().unwrap();
    // The same first six and last four digits: what may be shown of a number must not find it.
    let mut neighbours = (0..10).map(|digit| format!("41111100000{digit}1111").parse::<Pan>());
    let neighbour = neighbours.find_map(Result::ok).unwrap();
    let hash = hsm.pan_lookup(issuer(1), &pan).unwrap();
    assert_eq!(hash, hsm.pan_lookup(issuer(1), &pan).unwrap());
    assert_ne!(hash, hsm.pan_lookup(issuer(2), &pan).unwrap());
    assert_ne!(hash, hsm.pan_lookup(issuer(1), &neighbour).unwrap());
    assert!(matches!(hsm.pan_lookup(issuer(3), &pan), Err(HsmError::UnknownIssuer(_))));
    // Those that are asked for together are answered in their order, each as if it were alone.
    let together = [(issuer(2), pan.clone()), (issuer(3), pan.clone()), (issuer(1), pan.clone())];
    let of_second = hsm.pan_lookup(issuer(2), &pan).unwrap();
    let together = hsm.pan_lookups(&together);
    assert!(matches!(&together[..], [Ok(second), Err(HsmError::UnknownIssuer(_)), Ok(first)]
            if *second == of_second && *first == hash));
    assert!(hsm.pan_lookups(&[]).is_empty());
}
