//! Known-answer tests inside a vault: every operation gives a published answer, or the one that this
//! process computes with what has passed [`crate::known_answers`], before any key of the realm is touched.
//!
//! The keys are published ones. They go in wrapped under the roots as all others do, so the way in is
//! tested too, and stand in no catalogue.

use data_encoding::HEXLOWER;
use tapfer_emv::curve::{PrivateKey, PublicPoint};
use tapfer_emv::document::DocumentPurpose;
use tapfer_emv::keys::{IssuerMasterKey, KeyClass, KeyIndex};
use tapfer_emv::{cryptogram, mac};
use tapfer_payment_types::{PanSequenceNumber, Secret, Timestamp, TokenPan};

use crate::HsmError;
use crate::vault::{CardKeyPath, Custody, KeyAlgorithm, NewKey, Vault};

/// Runs all tests, up to the first that fails. A vault that cannot be asked is told from one that
/// answers wrongly.
pub(super) fn run(vault: &impl Vault) -> Result<(), HsmError> {
    let tests = [
        ("AES-128 card keys in the vault", card_keys(vault)?),
        ("AES-256 key wrap in the vault", key_wrap(vault)?),
        ("HMAC-SHA-256 in the vault", hmac(vault)?),
        ("ECDSA P-256 in the vault", ecdsa(vault)?),
        ("ECDH P-256 in the vault", ecdh(vault)?),
        ("release of a scalar by the vault", release(vault)?),
    ];
    match tests.into_iter().find(|(_, passed)| *passed != Some(true)) {
        None => Ok(()),
        Some((test, _)) => Err(HsmError::SelfTestFailed { test }),
    }
}

/// `None` counts as a wrong answer.
type Answer = Result<Option<bool>, HsmError>;

fn hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(digits.as_bytes()).ok()?.try_into().ok()
}

/// Takes a published key in, and makes it ready.
fn import<V: Vault>(
    vault: &V,
    algorithm: KeyAlgorithm,
    custody: Custody,
    clear: &[u8],
) -> Result<(NewKey, V::Key), HsmError> {
    let key = vault.import(algorithm, custody, &Secret::new(clear.to_vec()))?;
    let ready = vault.load(algorithm, custody, &key.wrapped)?;
    Ok((key, ready))
}

fn card_keys(vault: &impl Vault) -> Answer {
    let bytes = [0x2D; 16];
    let (key, ready) = import(vault, KeyAlgorithm::CardKeyDerivation, Custody::Sealed, &bytes)?;
    let (Ok(token_pan), Ok(sequence)) =
        ("9990770996775434".parse::<TokenPan>(), PanSequenceNumber::new(52))
    else {
        return Ok(None);
    };
    let Ok(key_index) = KeyIndex::at(Timestamp::from_unix_millis(0), 7) else { return Ok(None) };
    let (key_class, counter, message) = (KeyClass::Verified, 0xB188, b"known answer");
    let path = CardKeyPath {
        token_pan: &token_pan,
        sequence,
        key_class,
        key_index,
        application_transaction_counter: counter,
    };
    let found = vault.application_cryptogram(&ready, &path, message)?;
    let wanted = [(key_class, key_index), (KeyClass::Unverified, key_index)];
    let limited = vault.limited_use_keys(&ready, &token_pan, sequence, &wanted)?;

    let token_key = IssuerMasterKey::new(bytes).token_key(&token_pan, sequence);
    let expected = wanted.map(|(class, index)| token_key.limited_use_key(class, index));
    let [verified, _] = &expected;
    let session_key = verified.session_key(counter);
    let cmac = mac::aes_cmac(&bytes, &[&[0; 16]]);
    Ok(Some(
        found == cryptogram::application_cryptogram(&session_key, message)
            && limited.iter().map(|key| key.expose()).eq(expected.iter().map(|key| key.expose()))
            && cmac.starts_with(&key.check_value)
            && key.public.is_none(),
    ))
}

/// RFC 3394, 4.6; and a changed key is refused.
fn key_wrap(vault: &impl Vault) -> Answer {
    let kek = std::array::from_fn::<u8, 32, _>(|i| u8::try_from(i).unwrap_or(0));
    let key = hex("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f");
    let expected = concat!(
        "28c9f404c4b810f4cbccb35cfb87f826",
        "3f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"
    );
    let (Some(key), Some(expected)) = (key, hex(expected)) else { return Ok(None) };
    let (_, ready) = import(vault, KeyAlgorithm::KeyWrapping, Custody::Sealed, &kek)?;
    let wrapped = vault.wrap_data_key(&ready, &Secret::new(key))?;
    let back = vault.unwrap_data_key(&ready, &wrapped)?;
    let mut changed = wrapped;
    changed.iter_mut().take(1).for_each(|byte| *byte ^= 1);
    let refused = vault.unwrap_data_key(&ready, &changed)?.is_none();
    let is_back = back.is_some_and(|back| *back.expose() == key);
    Ok(Some(wrapped == expected && is_back && refused))
}

/// Computed with Python's `hmac`; RFC 4231 has no key of 32 bytes.
fn hmac(vault: &impl Vault) -> Answer {
    let key = std::array::from_fn::<u8, 32, _>(|i| u8::try_from(i).unwrap_or(0));
    let expected = hex("099805f4ac310786968565c098db515cc50862b420ae31e20238312344bed36a");
    let (_, ready) = import(vault, KeyAlgorithm::Authentication, Custody::Sealed, &key)?;
    let found = vault.authenticate(&ready, &[b"what do ya want", b"", b" for nothing?"])?;
    Ok(expected.map(|expected: [u8; 32]| found == expected))
}

/// The key of RFC 6979, A.2.5: its public point, and what the vault signs verifies.
fn ecdsa(vault: &impl Vault) -> Answer {
    let scalar = hex::<32>("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    let point = hex::<64>(concat!(
        "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
        "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    ));
    let point = point.and_then(|point| PublicPoint::from_bytes(&point).ok());
    let (Some(scalar), Some(point)) = (scalar, point) else { return Ok(None) };
    let (key, ready) = import(vault, KeyAlgorithm::Signing, Custody::Sealed, &scalar)?;
    let purpose = DocumentPurpose::Configuration;
    let signature = vault.sign(&ready, &purpose.message(b"sample"))?;
    Ok(Some(
        key.public == Some(point)
            && purpose.is_signed_by(&point, b"sample", &signature)
            && !purpose.is_signed_by(&point, b"simple", &signature),
    ))
}

/// NIST CAVP, ECC CDH primitive, P-256, count 0.
fn ecdh(vault: &impl Vault) -> Answer {
    let scalar = hex::<32>("7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534");
    let peer = hex::<64>(concat!(
        "700c48f77f56584c5cc632ca65640db91b6bacce3a4df6b42ce7cc838833d287",
        "db71e509e3fd9b060ddb20ba5c51dcc5948d46fbf640dfe0441782cab85fa4ac"
    ));
    let expected = hex::<32>("46fc62106420ff012e54a434fbdd2d25ccc5852060561e68040dd7778997bd7b");
    let peer = peer.and_then(|peer| PublicPoint::from_bytes(&peer).ok());
    let (Some(scalar), Some(peer)) = (scalar, peer) else { return Ok(None) };
    let (_, ready) = import(vault, KeyAlgorithm::Agreement, Custody::Sealed, &scalar)?;
    let shared = vault.agree(&ready, &peer)?;
    Ok(expected.map(|expected| *shared.expose() == expected))
}

fn release(vault: &impl Vault) -> Answer {
    let scalar = [0x37; 32];
    let (key, ready) = import(vault, KeyAlgorithm::SchnorrSigning, Custody::Releasable, &scalar)?;
    let Ok(private) = PrivateKey::from_bytes(&scalar) else { return Ok(None) };
    let public = PublicPoint::from_bytes(&private.public_point()).ok();
    let released = vault.release(&ready)?;
    Ok(Some(released.expose().as_slice() == scalar && key.public == public))
}
