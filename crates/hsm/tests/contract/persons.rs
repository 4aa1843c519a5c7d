use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable, Kem, OpModeS, Serializable};
use rand_core::UnwrapErr;
use tapfer_emv::mac::aes_cmac;
use tapfer_emv::person_key::PersonKey;
use tapfer_hsm::{
    CardPinSubject, HsmError, PaymentHsm, PersonKeyImport, PersonKeyInUse, PersonKeySubject,
    PersonKeyVerdict, SealedPersonKey,
};
use tapfer_payment_types::messages::{HexBytes, PERSON_KEY_INFO, SealedPayload};
use tapfer_payment_types::pin::{CARD_PIN_INFO, ONLINE_PIN_INFO};
use tapfer_payment_types::{CardId, IssuerId, Pin, TokenId};

use crate::{issuer, now};

const OLD_KEY: [u8; 16] = [0x42; 16];
const NEW_KEY: [u8; 16] = [0x43; 16];
const NO_PROOF: [u8; 16] = [0; 16];

fn token(number: u8) -> TokenId {
    TokenId::new(now(), [number; 10])
}

fn card(number: u8) -> CardId {
    CardId::new(now(), [number; 10])
}

fn subject(generation: u32) -> PersonKeySubject {
    PersonKeySubject { issuer: issuer(1), token: token(1), generation }
}

fn bound_to(subject: PersonKeySubject) -> Vec<u8> {
    [subject.token.to_string().as_bytes(), &subject.generation.to_be_bytes()].concat()
}

/// Seals as a phone or a till does, with the wallet's HPKE library.
fn seal(
    hsm: &impl PaymentHsm,
    to: IssuerId,
    info: &[u8],
    associated: &[u8],
    plain: &[u8],
) -> SealedPayload {
    let recipient = hsm.person_key_recipient(to).unwrap();
    let recipient = <DhP256HkdfSha256 as Kem>::PublicKey::from_bytes(&recipient.0).unwrap();
    let (encapsulated, ciphertext) =
        hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
            &OpModeS::Base,
            &recipient,
            info,
            plain,
            associated,
            &mut UnwrapErr(getrandom::SysRng),
        )
        .unwrap();
    SealedPayload {
        encapsulated_key: HexBytes(encapsulated.to_bytes().to_vec()),
        ciphertext: HexBytes(ciphertext),
    }
}

/// New key ‖ proof of the old one, sealed for a subject.
fn sealed_key(
    hsm: &impl PaymentHsm,
    subject: PersonKeySubject,
    key: &[u8],
    proof: &[u8],
) -> SealedPayload {
    seal(hsm, subject.issuer, PERSON_KEY_INFO, &bound_to(subject), &[key, proof].concat())
}

fn proof(old: &[u8; 16], new: PersonKeySubject, new_key: &[u8; 16]) -> [u8; 16] {
    let (token, generation) = (new.token.to_string(), new.generation.to_be_bytes());
    let key = aes_cmac(old, &[b"tapfer-person-proof-1"]);
    aes_cmac(&key, &[b"tapfer-pin-change-1", token.as_bytes(), &generation, new_key])
}

fn accept(
    hsm: &impl PaymentHsm,
    subject: PersonKeySubject,
    sealed: &SealedPayload,
    old: Option<PersonKeyInUse<'_>>,
) -> Result<Option<SealedPersonKey>, HsmError> {
    let verdict = hsm.accept_person_key(&PersonKeyImport { subject, sealed, old })?;
    Ok(match verdict {
        PersonKeyVerdict::Accepted(key) => Some(key),
        PersonKeyVerdict::WrongProof => None,
    })
}

/// The first key of a token, which proves nothing.
fn first_key(hsm: &impl PaymentHsm) -> SealedPersonKey {
    let sealed = sealed_key(hsm, subject(1), &OLD_KEY, &NO_PROOF);
    accept(hsm, subject(1), &sealed, None).unwrap().unwrap()
}

fn is_refused<T: std::fmt::Debug>(answer: Result<T, HsmError>) -> bool {
    matches!(answer, Err(HsmError::SealedToIssuer))
}

pub fn recipient_is_the_issuers_own_and_stays(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    hsm.create_issuer(issuer(2), now()).unwrap();
    let first = hsm.person_key_recipient(issuer(1)).unwrap();
    assert_eq!(first, hsm.person_key_recipient(issuer(1)).unwrap());
    assert_ne!(first, hsm.person_key_recipient(issuer(2)).unwrap());
    assert_eq!(first.0[0], 0x04);
    let unknown = hsm.person_key_recipient(issuer(3));
    assert!(matches!(unknown, Err(HsmError::UnknownIssuer(_))));
}

pub fn old_person_key_proves_the_new_one(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    let key = first_key(hsm);
    assert!(!key.0.windows(16).any(|window| window == OLD_KEY));
    let old = || Some(PersonKeyInUse { generation: 1, key: &key });
    let accepted = |proof: &[u8; 16], old| {
        let sealed = sealed_key(hsm, subject(2), &NEW_KEY, proof);
        accept(hsm, subject(2), &sealed, old).unwrap().is_some()
    };
    let good = proof(&OLD_KEY, subject(2), &NEW_KEY);
    assert!(accepted(&good, old()));
    assert!(accepted(&NO_PROOF, None), "the issuer granted a reset");
    let other_token = PersonKeySubject { token: token(2), ..subject(2) };
    for wrong in [
        NO_PROOF,
        proof(&NEW_KEY, subject(2), &NEW_KEY),
        proof(&OLD_KEY, subject(3), &NEW_KEY),
        proof(&OLD_KEY, other_token, &NEW_KEY),
        proof(&OLD_KEY, subject(2), &OLD_KEY),
    ] {
        assert!(!accepted(&wrong, old()));
    }
    for bit in 0..128 {
        let mut wrong = good;
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(!accepted(&wrong, old()));
    }
}

/// A stored key opens for its own token and generation only, and in no other issuer.
pub fn stored_person_key_is_bound(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    hsm.create_issuer(issuer(2), now()).unwrap();
    let stored = first_key(hsm);
    let opens = |new: PersonKeySubject, generation, key: &SealedPersonKey| {
        let sealed = sealed_key(hsm, new, &NEW_KEY, &proof(&OLD_KEY, new, &NEW_KEY));
        accept(hsm, new, &sealed, Some(PersonKeyInUse { generation, key }))
    };
    assert!(opens(subject(9), 1, &stored).unwrap().is_some());
    let elsewhere = [
        (subject(9), 2),
        (PersonKeySubject { token: token(2), ..subject(9) }, 1),
        (PersonKeySubject { issuer: issuer(2), ..subject(9) }, 1),
    ];
    for (subject, generation) in elsewhere {
        let opened = opens(subject, generation, &stored);
        assert!(matches!(opened, Err(HsmError::CardRecord)), "{subject:?}");
    }
    for position in 0..stored.0.len() {
        let mut damaged = stored.clone();
        damaged.0[position] ^= 1;
        assert!(matches!(opens(subject(9), 1, &damaged), Err(HsmError::CardRecord)));
    }
    let card_record = hsm.seal_card_record(issuer(1), crate::token(1), &OLD_KEY).unwrap();
    let exchanged = opens(subject(9), 1, &SealedPersonKey(card_record.0));
    assert!(matches!(exchanged, Err(HsmError::CardRecord)), "a card record is no person's key");
}

/// Whatever is wrong with an import, the answer is the same: nothing is learnt about any key.
pub fn imports_are_refused_alike(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    hsm.create_issuer(issuer(2), now()).unwrap();
    let sealed = |subject, key: &[u8]| sealed_key(hsm, subject, key, &NO_PROOF);
    let good = sealed(subject(1), &OLD_KEY);
    assert!(accept(hsm, subject(1), &good, None).unwrap().is_some());
    let (mut torn, mut swapped, mut empty) = (good.clone(), good.clone(), good.clone());
    torn.ciphertext.0[0] ^= 1;
    swapped.encapsulated_key = sealed(subject(1), &OLD_KEY).encapsulated_key;
    empty.encapsulated_key.0.clear();
    let plain = [OLD_KEY, NO_PROOF].concat();
    let strangers = [
        torn,
        swapped,
        empty,
        sealed(subject(2), &OLD_KEY),
        sealed(PersonKeySubject { token: token(2), ..subject(1) }, &OLD_KEY),
        sealed(PersonKeySubject { issuer: issuer(2), ..subject(1) }, &OLD_KEY),
        seal(hsm, issuer(1), CARD_PIN_INFO, &bound_to(subject(1)), &plain),
        sealed(subject(1), &[0x42; 15]),
        sealed(subject(1), &[0x42; 17]),
        sealed_key(hsm, subject(1), &OLD_KEY, &[]),
        sealed_key(hsm, subject(1), &[], &[]),
    ];
    for sealed in &strangers {
        assert!(is_refused(accept(hsm, subject(1), sealed, None)));
    }
}

/// A person's key of a token, and what the module keeps of it.
pub fn a_persons_key(hsm: &impl PaymentHsm, token: TokenId) -> (PersonKey, SealedPersonKey) {
    let subject = PersonKeySubject { token, ..subject(1) };
    let sealed = sealed_key(hsm, subject, &OLD_KEY, &NO_PROOF);
    (PersonKey::new(OLD_KEY), accept(hsm, subject, &sealed, None).unwrap().unwrap())
}

fn pin_block(digits: &str) -> Vec<u8> {
    digits.parse::<Pin>().unwrap().to_block([7; 8]).expose().to_vec()
}

/// A PIN, sealed to issuer 1.
pub fn sealed_pin(
    hsm: &impl PaymentHsm,
    info: &[u8],
    associated: &[u8],
    digits: &str,
) -> SealedPayload {
    seal(hsm, issuer(1), info, associated, &pin_block(digits))
}

pub fn card_pin_is_compared_inside(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    let of = |number| CardPinSubject { issuer: issuer(1), card: card(number) };
    let set = |number, digits| {
        let bound_to = card(number).to_string();
        let sealed = seal(hsm, issuer(1), CARD_PIN_INFO, bound_to.as_bytes(), &pin_block(digits));
        hsm.card_pin_value(of(number), &sealed).unwrap()
    };
    let value = set(1, "1234");
    assert_eq!(value, set(1, "1234"), "one PIN of one card has one value");
    assert_ne!(value, set(2, "1234"), "cards with equal PINs do not look equal");

    let entered = |digits| seal(hsm, issuer(1), ONLINE_PIN_INFO, b"here", &pin_block(digits));
    let verify = |number, digits, associated: &[u8]| {
        hsm.verify_card_pin(of(number), &value, &entered(digits), associated)
    };
    assert!(verify(1, "1234", b"here").unwrap());
    for wrong in ["1235", "12345", "123456789012"] {
        assert!(!verify(1, wrong, b"here").unwrap(), "{wrong}");
    }
    assert!(!verify(2, "1234", b"here").unwrap(), "another card's value");
    assert!(is_refused(verify(1, "1234", b"there")), "bound to this payment");
}

pub fn pins_are_refused_alike(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    let subject = CardPinSubject { issuer: issuer(1), card: card(1) };
    let bound_to = card(1).to_string();
    let sealed = |info: &[u8], associated: &str, plain: &[u8]| {
        seal(hsm, issuer(1), info, associated.as_bytes(), plain)
    };
    let block = pin_block("1234");
    assert!(hsm.card_pin_value(subject, &sealed(CARD_PIN_INFO, &bound_to, &block)).is_ok());
    let other = card(2).to_string();
    for (info, associated, plain) in [
        (ONLINE_PIN_INFO, &bound_to, &block[..]),
        (CARD_PIN_INFO, &other, &block),
        (CARD_PIN_INFO, &bound_to, b"1234"),
        (CARD_PIN_INFO, &bound_to, &[0x44; 16]),
        (CARD_PIN_INFO, &bound_to, &block[..15]),
    ] {
        assert!(is_refused(hsm.card_pin_value(subject, &sealed(info, associated, plain))));
    }
}
