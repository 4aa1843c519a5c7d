use data_encoding::HEXLOWER;
use serde::Deserialize;
use tapfer_emv::cryptogram::{CryptogramInput, application_cryptogram};
use tapfer_emv::keys::{IssuerMasterKey, KeyClass, KeyIndex, SessionKey, TokenKey};
use tapfer_hsm::{CryptogramRequest, CryptogramVerdict, HsmError, PaymentHsm};
use tapfer_payment_types::{IssuerId, PanSequenceNumber, TokenId, TokenPan};

use crate::{issuer, now, token_pan};

/// Group `application_cryptogram` of `kernel8.json`.
#[derive(Deserialize)]
struct Golden {
    issuer_master_key: String,
    pan: String,
    pan_sequence_number: String,
    aes_card_master_key_option_c: String,
}

fn key(digits: &str) -> [u8; 16] {
    HEXLOWER.decode(digits.as_bytes()).unwrap().try_into().unwrap()
}

pub fn key_index() -> KeyIndex {
    KeyIndex::at(now(), 1).unwrap()
}

pub fn input() -> CryptogramInput {
    CryptogramInput {
        amount_authorized: [0, 0, 0, 0, 0x12, 0x34],
        amount_other: [0; 6],
        terminal_country: [0x02, 0x76],
        tvr: [0; 5],
        currency: [0x09, 0x78],
        date: [0x26, 0x11, 0x21],
        transaction_type: 0,
        unpredictable_number: [1, 2, 3, 4],
        aip: [0x01, 0x04],
        application_transaction_counter: 7,
        issuer_application_data: vec![0xC8; 32],
    }
}

fn cryptogram(token_key: &TokenKey, input: &CryptogramInput) -> [u8; 8] {
    let limited_use_key = token_key.limited_use_key(KeyClass::Unverified, key_index());
    let session_key = limited_use_key.session_key(input.application_transaction_counter);
    application_cryptogram(&session_key, &input.encode())
}

fn token() -> TokenId {
    TokenId::new(now(), [3; 10])
}

fn request<'a>(
    token_pan: &'a TokenPan,
    input: &'a CryptogramInput,
    received: &'a [u8; 8],
) -> CryptogramRequest<'a> {
    CryptogramRequest {
        issuer: issuer(1),
        derivation_key_index: 1,
        token: token(),
        token_pan,
        sequence: PanSequenceNumber::ZERO,
        key_class: KeyClass::Unverified,
        key_index: key_index(),
        input,
        received,
    }
}

const MASTER_KEY: [u8; 16] = [0x42; 16];

fn with_known_master_key(hsm: &impl PaymentHsm) -> TokenKey {
    let keys = hsm.import_demo_issuer(issuer(1), IssuerMasterKey::new(MASTER_KEY), now()).unwrap();
    assert_eq!(keys.derivation_key_index, 1);
    IssuerMasterKey::new(MASTER_KEY).token_key(&token_pan(), PanSequenceNumber::ZERO)
}

/// From the published card master key on, the card goes its own way; the module starts at the issuer
/// master key. Token numbers have a check digit, so only those cases count that have one too; the
/// whole group is recomputed in `tapfer-emv`.
pub fn golden_card_keys(hsm: &impl PaymentHsm) {
    let cases: Vec<Golden> =
        serde_json::from_str(include_str!("../data/application_cryptogram.json")).unwrap();
    assert_eq!(cases.len(), 16);
    let mut checked = 0;
    for (number, case) in (1..).zip(&cases) {
        let Ok(token_pan) = case.pan.parse() else { continue };
        let issuer = issuer(number);
        hsm.import_demo_issuer(issuer, IssuerMasterKey::new(key(&case.issuer_master_key)), now())
            .unwrap();
        let token_key = TokenKey::new(key(&case.aes_card_master_key_option_c));
        let (input, sequence) = (input(), case.pan_sequence_number.parse().unwrap());
        let received = cryptogram(&token_key, &input);
        let sequence = PanSequenceNumber::new(sequence).unwrap();
        let request =
            CryptogramRequest { issuer, sequence, ..request(&token_pan, &input, &received) };
        let verdict = hsm.verify_cryptogram(&request).unwrap();
        assert!(matches!(verdict, CryptogramVerdict::Verified(_)), "case {number}");
        checked += 1;
    }
    assert!(checked > 0);
}

pub fn right_cryptogram_is_proven(hsm: &impl PaymentHsm) {
    let token_key = with_known_master_key(hsm);
    let (token_pan, input) = (token_pan(), input());
    let received = cryptogram(&token_key, &input);
    match hsm.verify_cryptogram(&request(&token_pan, &input, &received)).unwrap() {
        CryptogramVerdict::Verified(proof) => {
            assert_eq!((proof.input(), proof.cryptogram()), (&input, &received));
        }
        other => panic!("{other:?}"),
    }
    let unknown = CryptogramRequest { issuer: issuer(9), ..request(&token_pan, &input, &received) };
    assert!(matches!(hsm.verify_cryptogram(&unknown), Err(HsmError::UnknownIssuer(_))));
}

pub fn any_change_is_a_mismatch(hsm: &impl PaymentHsm) {
    let token_key = with_known_master_key(hsm);
    let (token_pan, input) = (token_pan(), input());
    let received = cryptogram(&token_key, &input);
    let good = || request(&token_pan, &input, &received);
    let mismatch = |request: &CryptogramRequest<'_>| {
        matches!(hsm.verify_cryptogram(request).unwrap(), CryptogramVerdict::Mismatch)
    };
    assert!(!mismatch(&good()));

    for bit in 0..64 {
        let mut received = received;
        received[bit / 8] ^= 1 << (bit % 8);
        assert!(mismatch(&CryptogramRequest { received: &received, ..good() }));
    }
    let changes: [fn(&mut CryptogramInput); 6] = [
        |input| input.amount_authorized[5] ^= 1,
        |input| input.currency[1] ^= 1,
        |input| input.tvr[0] ^= 0x04,
        |input| input.unpredictable_number[0] ^= 1,
        |input| input.application_transaction_counter += 1,
        |input| input.issuer_application_data[31] ^= 1,
    ];
    for change in changes {
        let mut input = input.clone();
        change(&mut input);
        assert!(mismatch(&CryptogramRequest { input: &input, ..good() }));
    }
    let sequence = PanSequenceNumber::new(1).unwrap();
    assert!(mismatch(&CryptogramRequest { sequence, ..good() }));
    assert!(mismatch(&CryptogramRequest { key_class: KeyClass::Verified, ..good() }));
    let key_index = KeyIndex::at(now(), 2).unwrap();
    assert!(mismatch(&CryptogramRequest { key_index, ..good() }));
    let other_pan = "4111111111111111".parse().unwrap();
    assert!(mismatch(&CryptogramRequest { token_pan: &other_pan, ..good() }));
    hsm.create_issuer(issuer(2), now()).unwrap();
    assert!(mismatch(&CryptogramRequest { issuer: issuer(2), ..good() }));
}

pub fn unknown_generation_is_an_answer(hsm: &impl PaymentHsm) {
    let token_key = with_known_master_key(hsm);
    let (token_pan, input) = (token_pan(), input());
    let received = cryptogram(&token_key, &input);
    let request =
        CryptogramRequest { derivation_key_index: 2, ..request(&token_pan, &input, &received) };
    let verdict = hsm.verify_cryptogram(&request).unwrap();
    assert!(matches!(verdict, CryptogramVerdict::UnknownDerivationKey));
}

pub fn many_are_answered_in_their_order(hsm: &impl PaymentHsm) {
    let token_key = with_known_master_key(hsm);
    let (token_pan, input) = (token_pan(), input());
    let received = cryptogram(&token_key, &input);
    let good = || request(&token_pan, &input, &received);
    let verdicts = hsm.verify_cryptograms(&[
        CryptogramRequest { received: &[0; 8], ..good() },
        good(),
        CryptogramRequest { issuer: issuer(9), ..good() },
        CryptogramRequest { derivation_key_index: 2, ..good() },
        good(),
    ]);
    let [wrong, right, nobody, unknown, again] = verdicts.as_slice() else {
        panic!("{verdicts:?}")
    };
    assert!(matches!(wrong, Ok(CryptogramVerdict::Mismatch)), "{wrong:?}");
    assert!(matches!(right, Ok(CryptogramVerdict::Verified(_))), "{right:?}");
    assert!(matches!(nobody, Err(HsmError::UnknownIssuer(_))), "{nobody:?}");
    assert!(matches!(unknown, Ok(CryptogramVerdict::UnknownDerivationKey)), "{unknown:?}");
    assert!(matches!(again, Ok(CryptogramVerdict::Verified(_))), "{again:?}");
}

pub fn demo_keys_recompute_the_cryptogram(hsm: &impl PaymentHsm) {
    let keys = hsm.create_issuer(issuer(1), now()).unwrap();
    let demo = hsm.demo_keys(issuer(1), keys.derivation_key_index).unwrap();
    let token_key = demo.issuer_master_key.token_key(&token_pan(), PanSequenceNumber::ZERO);
    let (token_pan, input) = (token_pan(), input());
    let received = cryptogram(&token_key, &input);
    let verdict = hsm.verify_cryptogram(&request(&token_pan, &input, &received)).unwrap();
    assert!(matches!(verdict, CryptogramVerdict::Verified(_)));
    let unknown = hsm.demo_keys(issuer(1), 2);
    assert!(matches!(unknown, Err(HsmError::UnknownDerivationKey { index: 2, .. })));
}

/// What a module says of a cryptogram that was made under a master key, as issuer 1's of a generation.
pub fn verdict(
    hsm: &dyn PaymentHsm,
    issuer: IssuerId,
    master: &IssuerMasterKey,
    generation: u8,
) -> CryptogramVerdict {
    let (token_pan, input) = (token_pan(), input());
    let received = cryptogram(&master.token_key(&token_pan, PanSequenceNumber::ZERO), &input);
    let request = CryptogramRequest {
        issuer,
        derivation_key_index: generation,
        ..request(&token_pan, &input, &received)
    };
    hsm.verify_cryptogram(&request).unwrap()
}

/// Whether a cryptogram under an issuer's first master key is found right.
pub fn verifies(hsm: &dyn PaymentHsm, issuer: IssuerId, master: &IssuerMasterKey) -> bool {
    matches!(verdict(hsm, issuer, master, 1), CryptogramVerdict::Verified(_))
}

/// A verified payment, for those who need its proof.
pub fn proof(hsm: &impl PaymentHsm) -> tapfer_emv::cryptogram::CryptogramVerified {
    let token_key = with_known_master_key(hsm);
    let (token_pan, input) = (token_pan(), input());
    let received = cryptogram(&token_key, &input);
    match hsm.verify_cryptogram(&request(&token_pan, &input, &received)).unwrap() {
        CryptogramVerdict::Verified(proof) => proof,
        other => panic!("{other:?}"),
    }
}

/// Whether a limited-use key as a phone holds it pays.
pub fn pays(hsm: &impl PaymentHsm, token_pan: &TokenPan, limited_use_key: [u8; 16]) -> bool {
    let input = input();
    let session_key = tapfer_emv::keys::LimitedUseKey::new(limited_use_key)
        .session_key(input.application_transaction_counter);
    let received = application_cryptogram(&session_key, &input.encode());
    let verdict = hsm.verify_cryptogram(&request(token_pan, &input, &received)).unwrap();
    matches!(verdict, CryptogramVerdict::Verified(_))
}

/// Whether a session key as a phone holds it pays with this counter.
pub fn pays_with(
    hsm: &impl PaymentHsm,
    token_pan: &TokenPan,
    key_class: KeyClass,
    key_index: KeyIndex,
    counter: u16,
    session_key: &SessionKey,
) -> bool {
    let input = CryptogramInput { application_transaction_counter: counter, ..input() };
    let received = application_cryptogram(session_key, &input.encode());
    let good = request(token_pan, &input, &received);
    let request = CryptogramRequest { key_class, key_index, ..good };
    matches!(hsm.verify_cryptogram(&request).unwrap(), CryptogramVerdict::Verified(_))
}
