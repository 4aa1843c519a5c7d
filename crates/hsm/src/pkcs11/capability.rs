//! What a module can do, found out by doing it.
//!
//! A list of mechanisms says what a module calls things, not what they do: `CKM_AES_KEY_WRAP_PAD` is RFC 5649
//! in one and RFC 3394 behind PKCS#7 padding in another. So every operation is tried with published keys
//! and has to give a known answer, in the very form that payments use, before a key of the realm is
//! touched. What does not is done in this process's locked memory where that is possible, and the module
//! is refused where it is not.

use std::fmt;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use tapfer_emv::mac;
use tapfer_pkcs11::{
    Code, Error, KeyHandle, KeyType, Mechanism, Module, Session, Template, Token, Use,
};

use super::{Fault, roots};
use crate::HsmError;

/// What a vault does with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Token key, limited-use key and session key out of the issuer master key.
    CardKeys,
    /// The cryptogram, with a session key.
    Cryptogram,
    /// HMAC-SHA-256.
    Authentication,
    /// ECDSA.
    Signing,
    /// ECDH.
    Agreement,
    /// Wrapping of symmetric keys (RFC 3394).
    KeyWrap,
    /// Wrapping of private keys (RFC 5649).
    PrivateKeyWrap,
    /// What opens under the sealing root cannot be made readable, whoever opens it.
    UnwrapTemplate,
    /// The roots wrap and unwrap by the two key wraps only.
    AllowedMechanisms,
    /// Nobody deletes the roots with the PIN.
    RootsStay,
    /// EC-SDSA of Kernel 8 certificates.
    SchnorrSigning,
}

impl Operation {
    /// Whether a module is used without it.
    const fn is_dispensable(self) -> bool {
        self.otherwise().is_some()
    }

    /// What a thief can do where the roots are without this guard; nothing for what is none.
    pub(super) const fn otherwise(self) -> Option<&'static str> {
        match self {
            Self::UnwrapTemplate => Some("whoever has PIN and catalogue can read keys out"),
            Self::AllowedMechanisms => {
                Some("the roots unwrap by any mechanism that the module has")
            }
            Self::RootsStay => Some("whoever has the PIN can delete the roots"),
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CardKeys => "derivation of card keys",
            Self::Cryptogram => "cryptograms (AES-CMAC)",
            Self::Authentication => "HMAC-SHA-256",
            Self::Signing => "ECDSA P-256",
            Self::Agreement => "ECDH P-256",
            Self::KeyWrap => "wrapping of symmetric keys (RFC 3394)",
            Self::PrivateKeyWrap => "wrapping of private keys (RFC 5649)",
            Self::UnwrapTemplate => "unwrapped keys stay unreadable (CKA_UNWRAP_TEMPLATE)",
            Self::AllowedMechanisms => "roots wrap by key wraps only (CKA_ALLOWED_MECHANISMS)",
            Self::RootsStay => "roots stay on the token (CKA_DESTROYABLE)",
            Self::SchnorrSigning => "EC-SDSA P-256",
        })
    }
}

/// Where an operation is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Inside the module: the key stays there.
    Inside,
    /// In this process's locked memory, which is wiped behind it.
    LockedMemory,
    /// Nowhere.
    Missing,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inside => "inside",
            Self::LockedMemory => "in locked memory",
            Self::Missing => "missing",
        })
    }
}

/// One operation, where it is done, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// What.
    pub operation: Operation,
    /// Where.
    pub place: Place,
    /// By which mechanism, or why not inside.
    pub how: String,
}

/// Which way card keys go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CardKeyWay {
    /// All inside, with this derivation.
    Inside(Mechanism),
    /// The limited-use key comes out, and the rest is done in memory: the module has no CMAC.
    LimitedUseKeyOut(Mechanism),
    /// The token key comes out: the module derives no keys, it only encrypts.
    TokenKeyOut,
}

/// What was chosen for a module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choices {
    pub(super) card_keys: CardKeyWay,
    /// Which mechanism is RFC 5649.
    pub(super) document_wrap: Mechanism,
    pub(super) unwrap_template: bool,
    pub(super) allowed_mechanisms: bool,
    pub(super) indestructible: bool,
    /// What the module says of a wrapped key that does not open.
    spoiled: Option<Code>,
}

impl Choices {
    /// Whether that is what this module says of a wrapped key that does not open.
    pub(super) fn says_spoiled(&self, error: &Error) -> bool {
        error.code().is_some() && error.code() == self.spoiled
    }
}

/// What was found out about a module: for the vault, and for people.
#[derive(Debug, Clone)]
pub(super) struct Negotiated {
    pub(super) choices: Choices,
    pub(super) capabilities: Vec<Capability>,
}

/// Runs the known-answer tests, and chooses. All their keys are in a session that ends here.
pub(super) fn negotiate(module: &Module, token: &Token) -> Result<Negotiated, Fault> {
    let offered = module.mechanisms(token)?;
    let trial = Trial { session: module.open_session(token, true)?, offered };
    let mut found = Vec::new();
    let card_keys = trial.card_keys(&mut found)?;
    trial.required(&mut found, Operation::Authentication, &[Mechanism::Sha256Hmac], hmac)?;
    trial.required(&mut found, Operation::Signing, &[Mechanism::Ecdsa], |session, _| {
        ecdsa(session)
    })?;
    trial.required(&mut found, Operation::Agreement, &[Mechanism::Ecdh1Derive], |session, _| {
        ecdh(session)
    })?;
    let wrap = [Mechanism::AesKeyWrap];
    trial.required(&mut found, Operation::KeyWrap, &wrap, |session, _| key_wrap(session))?;
    let padded = [Mechanism::AesKeyWrapKwp, Mechanism::AesKeyWrapPad];
    let document_wrap =
        trial.required(&mut found, Operation::PrivateKeyWrap, &padded, document_wrap)?;
    let unwrap_template = answers(|| unwrap_template(&trial.session))?;
    let allowed_mechanisms = answers(|| allowed_mechanisms(&trial.session))?;
    let indestructible = answers(|| indestructible(&trial.session))?;
    for (operation, is_honoured) in [
        (Operation::UnwrapTemplate, unwrap_template),
        (Operation::AllowedMechanisms, allowed_mechanisms),
        (Operation::RootsStay, indestructible),
    ] {
        let (place, how) = match operation.otherwise() {
            Some(otherwise) if !is_honoured => {
                (Place::Missing, format!("not honoured: {otherwise}"))
            }
            _ => (Place::Inside, "honoured".to_owned()),
        };
        found.push(Capability { operation, place, how });
    }
    found.push(Capability {
        operation: Operation::SchnorrSigning,
        place: Place::LockedMemory,
        how: "no PKCS#11 mechanism".to_owned(),
    });
    let missing: Vec<String> = found
        .iter()
        .filter(|one| one.place == Place::Missing && !one.operation.is_dispensable())
        .map(|one| format!("{} ({})", one.operation, one.how))
        .collect();
    if !missing.is_empty() {
        return Err(Fault::Told(HsmError::ModuleFailed {
            operation: "trying what the module can do".to_owned(),
            cause: format!("it lacks what cannot be done elsewhere: {}", missing.join(", ")),
        }));
    }
    let spoiled = spoiled_answer(&trial.session);
    let document_wrap = document_wrap.unwrap_or(Mechanism::AesKeyWrapKwp);
    let choices = Choices {
        card_keys,
        document_wrap,
        unwrap_template,
        allowed_mechanisms,
        indestructible,
        spoiled,
    };
    Ok(Negotiated { choices, capabilities: found })
}

/// Whether a test gives the right answer. A module that is gone is an error; any other refusal is a
/// no, whatever the module calls it.
pub(super) fn answers(test: impl FnOnce() -> Result<bool, Error>) -> Result<bool, Fault> {
    match test() {
        Err(error) if error.may_be_a_refusal() => Ok(false),
        answer => Ok(answer?),
    }
}

/// A session with published keys only.
struct Trial {
    session: Session,
    offered: Vec<Mechanism>,
}

impl Trial {
    /// The first mechanism that is offered and passes its test.
    fn first(
        &self,
        candidates: &[Mechanism],
        test: impl Fn(&Session, Mechanism) -> Result<bool, Error>,
    ) -> Result<Option<Mechanism>, Fault> {
        for mechanism in candidates.iter().copied().filter(|one| self.offered.contains(one)) {
            if answers(|| test(&self.session, mechanism))? {
                return Ok(Some(mechanism));
            }
        }
        Ok(None)
    }

    /// As [`Trial::first`], for what can be done nowhere else.
    fn required(
        &self,
        found: &mut Vec<Capability>,
        operation: Operation,
        candidates: &[Mechanism],
        test: impl Fn(&Session, Mechanism) -> Result<bool, Error>,
    ) -> Result<Option<Mechanism>, Fault> {
        let chosen = self.first(candidates, test)?;
        found.push(match chosen {
            Some(mechanism) => {
                Capability { operation, place: Place::Inside, how: mechanism.to_string() }
            }
            None => Capability {
                operation,
                place: Place::Missing,
                how: format!("no {} with the right answer", names(candidates)),
            },
        });
        Ok(chosen)
    }

    fn card_keys(&self, found: &mut Vec<Capability>) -> Result<CardKeyWay, Fault> {
        let candidates = [Mechanism::AesEcbEncryptData, Mechanism::AesCbcEncryptData];
        let cmac = self.first(&[Mechanism::AesCmac], |session, _| cmac(session))?.is_some();
        let derivation = match cmac {
            true => self.first(&candidates, derivation_inside)?,
            false => self.first(&candidates, derivation_to_be_read)?,
        };
        let by_encryption = match derivation {
            None => self.first(&[Mechanism::AesEcb], |session, _| ecb(session))?.is_some(),
            Some(_) => false,
        };
        let in_memory = |how: &str| (Place::LockedMemory, how.to_owned());
        let (way, keys, cryptogram) = match (derivation, cmac, by_encryption) {
            (Some(mechanism), true, _) => (
                CardKeyWay::Inside(mechanism),
                (Place::Inside, mechanism.to_string()),
                (Place::Inside, Mechanism::AesCmac.to_string()),
            ),
            (Some(mechanism), false, _) => (
                CardKeyWay::LimitedUseKeyOut(mechanism),
                in_memory("the limited-use key comes out"),
                in_memory("the module has no CKM_AES_CMAC"),
            ),
            (None, _, true) => (
                CardKeyWay::TokenKeyOut,
                in_memory("the module derives no keys: the token key comes out"),
                in_memory("with a session key made in memory"),
            ),
            (None, _, false) => {
                let missing = || (Place::Missing, "no derivation and no CKM_AES_ECB".to_owned());
                (CardKeyWay::TokenKeyOut, missing(), missing())
            }
        };
        for (operation, (place, how)) in
            [(Operation::CardKeys, keys), (Operation::Cryptogram, cryptogram)]
        {
            found.push(Capability { operation, place, how });
        }
        Ok(way)
    }
}

fn names(mechanisms: &[Mechanism]) -> String {
    mechanisms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

/// RFC 4493: the key of its examples.
const AES_128: [u8; 16] = [
    0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c,
];
/// RFC 4493: its second example, one block.
const BLOCK: [u8; 16] = [
    0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93, 0x17, 0x2a,
];
/// RFC 4493: the CMAC of that block.
const BLOCK_CMAC: [u8; 16] = [
    0x07, 0x0a, 0x16, 0xb4, 0x6b, 0x4d, 0x41, 0x44, 0xf7, 0x9b, 0xdd, 0x9d, 0xd0, 0x4a, 0x28, 0x7c,
];
/// SP 800-38A F.1.1: that block, encrypted.
const BLOCK_ENCRYPTED: [u8; 16] = [
    0x3a, 0xd7, 0x7b, 0xb4, 0x0d, 0x7a, 0x36, 0x60, 0xa8, 0x9e, 0xca, 0xf3, 0x24, 0x66, 0xef, 0x97,
];
/// RFC 3394 4.6: key, key data, and the data wrapped.
const WRAPPING: [u8; 32] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F,
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F,
];
const DATA: [u8; 32] = [
    0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF,
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F,
];
const DATA_WRAPPED: [u8; 40] = [
    0x28, 0xC9, 0xF4, 0x04, 0xC4, 0xB8, 0x10, 0xF4, 0xCB, 0xCC, 0xB3, 0x5C, 0xFB, 0x87, 0xF8, 0x26,
    0x3F, 0x57, 0x86, 0xE2, 0xD8, 0x0E, 0xD3, 0x26, 0xCB, 0xC7, 0xF0, 0xE7, 0x1A, 0x99, 0xF4, 0x3B,
    0xFB, 0x98, 0x8B, 0x9B, 0x7A, 0x02, 0xDD, 0x21,
];
/// RFC 6979 A.2.5: a scalar on P-256, and its point.
const SCALAR: [u8; 32] = [
    0xC9, 0xAF, 0xA9, 0xD8, 0x45, 0xBA, 0x75, 0x16, 0x6B, 0x5C, 0x21, 0x57, 0x67, 0xB1, 0xD6, 0x93,
    0x4E, 0x50, 0xC3, 0xDB, 0x36, 0xE8, 0x9B, 0x12, 0x7B, 0x8A, 0x62, 0x2B, 0x12, 0x0F, 0x67, 0x21,
];
const POINT: [u8; 65] = [
    0x04, 0x60, 0xFE, 0xD4, 0xBA, 0x25, 0x5A, 0x9D, 0x31, 0xC9, 0x61, 0xEB, 0x74, 0xC6, 0x35, 0x6D,
    0x68, 0xC0, 0x49, 0xB8, 0x92, 0x3B, 0x61, 0xFA, 0x6C, 0xE6, 0x69, 0x62, 0x2E, 0x60, 0xF2, 0x9F,
    0xB6, 0x79, 0x03, 0xFE, 0x10, 0x08, 0xB8, 0xBC, 0x99, 0xA4, 0x1A, 0xE9, 0xE9, 0x56, 0x28, 0xBC,
    0x64, 0xF2, 0xF1, 0xB2, 0x0C, 0x2D, 0x7E, 0x9F, 0x51, 0x77, 0xA3, 0xC2, 0x94, 0xD4, 0x46, 0x22,
    0x99,
];

/// A published AES key.
fn aes(value: &[u8], uses: &[Use]) -> Template {
    Template::key(KeyType::Aes).stays(false).wrappable().only_for(uses).value(value)
}

fn cmac(session: &Session) -> Result<bool, Error> {
    let key = session.create(&aes(&AES_128, &[Use::Sign]))?;
    let mut out = [0; 16];
    session.sign(Mechanism::AesCmac, key, &BLOCK, &mut out)?;
    Ok(out == BLOCK_CMAC)
}

/// Derives as payments do, to a key that stays inside, and asks it for a CMAC.
fn derivation_inside(session: &Session, mechanism: Mechanism) -> Result<bool, Error> {
    let base = session.create(&aes(&AES_128, &[Use::Derive]))?;
    let template = Template::key(KeyType::Aes).stays(false).extractable(false).length(16);
    let key = session.derive(mechanism, base, &BLOCK, &template.only_for(&[Use::Sign]))?;
    let mut out = [0; 16];
    session.sign(Mechanism::AesCmac, key, &BLOCK, &mut out)?;
    Ok(out == mac::aes_cmac(&BLOCK_ENCRYPTED, &[&BLOCK]))
}

/// Derives to a key that is read out.
fn derivation_to_be_read(session: &Session, mechanism: Mechanism) -> Result<bool, Error> {
    let base = session.create(&aes(&AES_128, &[Use::Derive]))?;
    let template = Template::key(KeyType::Aes).stays(false).extractable(true).length(16);
    let key = session.derive(mechanism, base, &BLOCK, &template.only_for(&[]))?;
    let mut out = [0; 16];
    session.value(key, &mut out)?;
    Ok(out == BLOCK_ENCRYPTED)
}

fn ecb(session: &Session) -> Result<bool, Error> {
    let key = session.create(&aes(&AES_128, &[Use::Encrypt]))?;
    let mut out = [0; 16];
    session.encrypt(Mechanism::AesEcb, key, &BLOCK, &mut out)?;
    Ok(out == BLOCK_ENCRYPTED)
}

/// RFC 4231 4.7.
fn hmac(session: &Session, mechanism: Mechanism) -> Result<bool, Error> {
    let template = Template::key(KeyType::GenericSecret).stays(false).extractable(false);
    let key = session.create(&template.only_for(&[Use::Sign]).value(&[0xAA; 131]))?;
    let mut out = [0; 32];
    let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
    session.sign(mechanism, key, text, &mut out)?;
    Ok(out.starts_with(&[0x60, 0xE4, 0x31, 0x59, 0x1E, 0xE0, 0xB6, 0x7F, 0x0D, 0x8A, 0x26, 0xAA]))
}

/// Both directions of RFC 3394 4.6.
fn key_wrap(session: &Session) -> Result<bool, Error> {
    let root = session.create(&aes(&WRAPPING, &[Use::Wrap, Use::Unwrap]))?;
    let data = session.create(&aes(&DATA, &[]))?;
    let mut out = [0; 40];
    session.wrap(Mechanism::AesKeyWrap, root, data, &mut out)?;
    let template = Template::key(KeyType::Aes).stays(false).extractable(true).only_for(&[]);
    let opened = session.unwrap(Mechanism::AesKeyWrap, root, &DATA_WRAPPED, &template)?;
    let mut value = [0; 32];
    session.value(opened, &mut value)?;
    for key in [opened, data, root] {
        session.destroy(key)?;
    }
    Ok(out == DATA_WRAPPED && value == DATA)
}

/// That the module opens what is right, after it has said of something else that it does not open.
pub(super) fn still_unwraps(session: &Session) -> Result<(), Fault> {
    match key_wrap(session)? {
        true => Ok(()),
        false => Err(HsmError::SelfTestFailed { test: "AES-256 key wrap in the module" }.into()),
    }
}

/// What the module says of a wrapped key that was changed.
fn spoiled_answer(session: &Session) -> Option<Code> {
    let root = session.create(&aes(&WRAPPING, &[Use::Unwrap])).ok()?;
    let template = Template::key(KeyType::Aes).stays(false).extractable(true).only_for(&[]);
    let mut spoiled = DATA_WRAPPED;
    spoiled.iter_mut().for_each(|byte| *byte ^= 0x55);
    session.unwrap(Mechanism::AesKeyWrap, root, &spoiled, &template).err()?.code()
}

/// Whether what opens under a root with a template stays unreadable and in its session.
fn unwrap_template(session: &Session) -> Result<bool, Error> {
    let root = aes(&WRAPPING, &[Use::Unwrap]).unwraps_into(roots::sealed());
    keeps_inside(session, session.create(&root)?, &DATA_WRAPPED)
}

/// Whether a key that opens under this root stays unreadable and in its session, however it is asked for. What it
/// opens for that ends with the session.
pub(super) fn keeps_inside(
    session: &Session,
    root: KeyHandle,
    wrapped: &[u8],
) -> Result<bool, Error> {
    let open = |template: Template| {
        session.unwrap(Mechanism::AesKeyWrap, root, wrapped, &template.only_for(&[]))
    };
    let readable = open(Template::key(KeyType::Aes).stays(false).extractable(true));
    if let Some(opened) = unless_refused(readable)?
        && unless_refused(session.value(opened, &mut [0; 32]))?.is_some()
    {
        return Ok(false);
    }
    let for_good = Template::key(KeyType::Aes).stays_behind_login(false).extractable(false);
    if let Some(left_behind) = unless_refused(open(for_good))? {
        let stays = session.stays(left_behind)?;
        session.destroy(left_behind)?;
        if stays {
            return Ok(false);
        }
    }
    // It may also refuse everything: what is asked for properly has to open.
    open(Template::key(KeyType::Aes).stays(false).extractable(false)).map(|_| true)
}

/// `None` is a refusal, which is what a thief should get, or an answer without sense, as some give of what they do not
/// show. A module that is gone has not refused anything.
pub(super) fn unless_refused<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Err(error) if error.may_be_a_refusal() || error.code().is_none() => Ok(None),
        answer => answer.map(Some),
    }
}

/// Whether a key that is not to be destroyed stays.
fn indestructible(session: &Session) -> Result<bool, Error> {
    let key = session.create(&aes(&WRAPPING, &[]).indestructible())?;
    Ok(unless_refused(session.destroy(key))?.is_none())
}

/// Whether a key that is for another wrap refuses this one.
fn allowed_mechanisms(session: &Session) -> Result<bool, Error> {
    let unwrap = |allowed: Mechanism| {
        let root = session.create(&aes(&WRAPPING, &[Use::Unwrap]).only_by(&[allowed]))?;
        let template = Template::key(KeyType::Aes).stays(false).extractable(false).only_for(&[]);
        session.unwrap(Mechanism::AesKeyWrap, root, &DATA_WRAPPED, &template)
    };
    unwrap(Mechanism::AesKeyWrap)?;
    Ok(unwrap(Mechanism::AesCbcEncryptData).is_err())
}

fn private_key(use_: Use) -> Template {
    Template::key(KeyType::EcPrivate).stays(false).private_key_for(use_)
}

fn ecdsa(session: &Session) -> Result<bool, Error> {
    let key = session.create(&private_key(Use::Sign).wrappable().p256().value(&SCALAR))?;
    signs(session, key)
}

/// Whether a key's signature verifies under the published point.
fn signs(session: &Session, key: KeyHandle) -> Result<bool, Error> {
    let message = b"sample";
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message);
    let mut signature = [0; 64];
    session.sign(Mechanism::Ecdsa, key, digest.as_ref(), &mut signature)?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &POINT);
    Ok(public.verify(message, &signature).is_ok())
}

/// The published key agrees with itself: x of scalar times point, as this process computes it.
fn ecdh(session: &Session) -> Result<bool, Error> {
    let key = session.create(&private_key(Use::Derive).wrappable().p256().value(&SCALAR))?;
    let template = Template::key(KeyType::GenericSecret).stays(false).extractable(true).length(32);
    let shared = session.agree(key, &POINT, &template.only_for(&[]))?;
    let mut out = [0; 32];
    session.value(shared, &mut out)?;
    Ok(expected_agreement().is_some_and(|expected| out == expected))
}

fn expected_agreement() -> Option<[u8; 32]> {
    use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
    let private = PrivateKey::from_private_key(&ECDH_P256, &SCALAR).ok()?;
    let peer = UnparsedPublicKey::new(&ECDH_P256, &POINT);
    agree(&private, peer, (), |shared| shared.try_into().map_err(|_| ())).ok()
}

/// A private key that this process wrapped opens inside and signs, and one that the module wrapped opens
/// here: RFC 5649 around PKCS#8.
fn document_wrap(session: &Session, mechanism: Mechanism) -> Result<bool, Error> {
    let root = session.create(&aes(&WRAPPING, &[Use::Wrap, Use::Unwrap]))?;
    let Some(wrapped) = wrapped_document() else { return Ok(false) };
    let template = private_key(Use::Sign).extractable(false);
    let opened = session.unwrap(mechanism, root, &wrapped, &template)?;
    if !signs(session, opened)? {
        return Ok(false);
    }
    let key = session.create(&private_key(Use::Sign).wrappable().p256().value(&SCALAR))?;
    let mut out = [0; 256];
    let length = session.wrap(mechanism, root, key, &mut out)?;
    Ok(out.get(..length).and_then(open_document).is_some())
}

fn wrapped_document() -> Option<Vec<u8>> {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &SCALAR, &POINT).ok()?;
    let document = pair.to_pkcs8v1().ok()?;
    let mut room = vec![0; document.as_ref().len().saturating_add(16)];
    let kek = AesKek::new(&AES_256, &WRAPPING).ok()?;
    let wrapped = kek.wrap_with_padding(document.as_ref(), &mut room).ok()?.to_vec();
    Some(wrapped)
}

fn open_document(wrapped: &[u8]) -> Option<()> {
    let mut room = vec![0; wrapped.len().saturating_add(16)];
    let kek = AesKek::new(&AES_256, &WRAPPING).ok()?;
    let document = kek.unwrap_with_padding(wrapped, &mut room).ok()?;
    let pair =
        EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, document).ok()?;
    (pair.public_key().as_ref() == POINT).then_some(())
}
