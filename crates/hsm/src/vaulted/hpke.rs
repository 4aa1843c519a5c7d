//! Opens what was sealed by HPKE (RFC 9180, base mode, DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM)
//! with a private key that stays in a vault: the vault agrees on x, everything after that is done here.
//!
//! Libraries want the private key, so this one composition of published parts is written out. It is
//! checked against RFC 9180's vectors, the `hpke` crate and rustls' implementation.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use tapfer_emv::curve::PublicPoint;
use tapfer_payment_types::Secret;
use zeroize::Zeroizing;

use crate::HsmError;

/// RFC 9180 7.1: DHKEM(P-256, HKDF-SHA256).
const KEM_SUITE: &[u8] = b"KEM\x00\x10";
/// RFC 9180 7.1 to 7.3: that KEM, HKDF-SHA256, AES-256-GCM.
const HPKE_SUITE: &[u8] = b"HPKE\x00\x10\x00\x01\x00\x02";
const MODE_BASE: u8 = 0;
const FAILED: HsmError = HsmError::Internal { operation: "HKDF" };

/// A point as HPKE has it: uncompressed.
pub(super) fn uncompressed(point: &PublicPoint) -> [u8; 65] {
    let mut bytes = [0x04; 65];
    let (_, coordinates) = bytes.split_at_mut(1);
    coordinates.copy_from_slice(&point.bytes());
    bytes
}

/// The sender's ephemeral key, known to be a point of the curve.
pub(crate) struct Encapsulated(PublicPoint);

impl Encapsulated {
    /// Reads an uncompressed point. `None` if it is none: a point off the curve could draw a private key
    /// out of a module that does not check.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [0x04, coordinates @ ..] = bytes else { return None };
        PublicPoint::from_bytes(coordinates.try_into().ok()?).ok().map(Self)
    }

    pub(super) const fn point(&self) -> &PublicPoint {
        &self.0
    }
}

/// Opens a message that was sealed to `own`, which has agreed on `shared_x` with the sender's key.
/// `Ok(None)`, whatever is wrong with it.
pub(crate) fn open(
    shared_x: &Secret<[u8; 32]>,
    encapsulated: &Encapsulated,
    own: &PublicPoint,
    info: &[u8],
    associated: &[u8],
    sealed: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>, HsmError> {
    let shared_secret = decapsulate(shared_x, encapsulated, own)?;
    let (key, nonce) = key_schedule(&shared_secret, info)?;
    let Ok(key) = UnboundKey::new(&aead::AES_256_GCM, key.expose()) else {
        return Err(HsmError::Internal { operation: "AES-256-GCM" });
    };
    let mut plain = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened =
        LessSafeKey::new(key).open_in_place(nonce, Aad::from(associated), plain.as_mut_slice());
    let Ok(length) = opened.map(|opened| opened.len()) else { return Ok(None) };
    plain.truncate(length);
    Ok(Some(plain))
}

/// RFC 9180 4.1, `Decap` from the Diffie-Hellman value on.
fn decapsulate(
    shared_x: &Secret<[u8; 32]>,
    encapsulated: &Encapsulated,
    own: &PublicPoint,
) -> Result<Secret<[u8; 32]>, HsmError> {
    let context = [uncompressed(&encapsulated.0), uncompressed(own)].concat();
    let prk = labeled_extract(KEM_SUITE, &[], b"eae_prk", shared_x.expose());
    labeled_expand(KEM_SUITE, &prk, b"shared_secret", &context).map(Secret::new)
}

/// RFC 9180 5.1, `KeySchedule` in base mode: the key, and the nonce of the first message.
fn key_schedule(
    shared_secret: &Secret<[u8; 32]>,
    info: &[u8],
) -> Result<(Secret<[u8; 32]>, [u8; aead::NONCE_LEN]), HsmError> {
    let digest = |label, input| {
        // Extracting is HMAC, which gives the bytes that the library's type does not lend.
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[]);
        aws_lc_rs::hmac::sign(&key, &labeled(HPKE_SUITE, label, input))
    };
    let mut context = vec![MODE_BASE];
    context.extend_from_slice(digest(b"psk_id_hash", b"").as_ref());
    context.extend_from_slice(digest(b"info_hash", info).as_ref());
    let secret = labeled_extract(HPKE_SUITE, shared_secret.expose(), b"secret", b"");
    let key = labeled_expand(HPKE_SUITE, &secret, b"key", &context)?;
    let nonce = labeled_expand(HPKE_SUITE, &secret, b"base_nonce", &context)?;
    Ok((Secret::new(key), nonce))
}

/// RFC 9180 4: `"HPKE-v1" ‖ suite ‖ label ‖ input`.
fn labeled(suite: &[u8], label: &[u8], input: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([b"HPKE-v1", suite, label, input].concat())
}

fn labeled_extract(suite: &[u8], salt: &[u8], label: &[u8], input: &[u8]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&labeled(suite, label, input))
}

fn labeled_expand<const N: usize>(
    suite: &[u8],
    prk: &hkdf::Prk,
    label: &[u8],
    info: &[u8],
) -> Result<[u8; N], HsmError> {
    let length = u16::try_from(N).map_err(|_| FAILED)?.to_be_bytes();
    let info = [&length, b"HPKE-v1".as_slice(), suite, label, info];
    let mut out = [0; N];
    prk.expand(&info, Length(N)).and_then(|okm| okm.fill(&mut out)).map_err(|_| FAILED)?;
    Ok(out)
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Encapsulated, decapsulate, open, uncompressed};
    use crate::vaulted::HPKE;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;
    use rustls::crypto::hpke::HpkePublicKey;
    use tapfer_emv::curve::{PrivateKey, PublicPoint};
    use tapfer_payment_types::Secret;

    fn hex<const N: usize>(digits: &str) -> [u8; N] {
        HEXLOWER.decode(digits.as_bytes()).unwrap().try_into().unwrap()
    }

    fn public(private: &PrivateKey) -> PublicPoint {
        PublicPoint::from_bytes(&private.public_point()).unwrap()
    }

    /// As a vault does.
    fn agree(private: &PrivateKey, peer: &Encapsulated) -> Secret<[u8; 32]> {
        let x = peer.point().bytes()[..32].try_into().unwrap();
        private.shared_x(&tapfer_emv::curve::PublicX::from_bytes(&x).unwrap())
    }

    /// RFC 9180 A.3.1. Its AEAD is another one, which the KEM does not know of.
    #[test]
    fn the_shared_secret_is_the_published_one() {
        let private = "f3ce7fdae57e1a310d87f1ebbde6f328be0a99cdbcadf4d6589cf29de4b8ffd2";
        let private = PrivateKey::from_bytes(&hex(private)).unwrap();
        let encapsulated: [u8; 65] = hex(concat!(
            "04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325ac9",
            "8536d7b61a1af4b78e5b7f951c0900be863c403ce65c9bfcb9382657222d18c4"
        ));
        let encapsulated = Encapsulated::read(&encapsulated).unwrap();
        let shared = agree(&private, &encapsulated);
        let secret = decapsulate(&shared, &encapsulated, &public(&private)).unwrap();
        let expected = "c0d26aeab536609a572b07695d933b589dcf363ff9d93c93adea537aeabb8cb8";
        assert_eq!(*secret.expose(), hex(expected));
    }

    #[test]
    fn points_off_the_curve_are_no_keys() {
        let mut bytes = uncompressed(&public(&PrivateKey::from_bytes(&[7; 32]).unwrap()));
        assert!(Encapsulated::read(&bytes).is_some());
        assert!(Encapsulated::read(&bytes[..64]).is_none());
        bytes[64] ^= 1;
        assert!(Encapsulated::read(&bytes).is_none());
        assert!(Encapsulated::read(&[]).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// What rustls seals, this opens, and nothing else.
        #[test]
        fn agrees_with_another_implementation(
            scalar in any::<[u8; 32]>(),
            info in proptest::collection::vec(any::<u8>(), 0..40),
            associated in proptest::collection::vec(any::<u8>(), 0..40),
            plain in proptest::collection::vec(any::<u8>(), 0..200),
            flipped: prop::sample::Index,
        ) {
            let Ok(private) = PrivateKey::from_bytes(&scalar) else { return Ok(()) };
            let own = public(&private);
            let recipient = HpkePublicKey(uncompressed(&own).to_vec());
            let (encapsulated, mut sealed) =
                HPKE.seal(&info, &associated, &plain, &recipient).unwrap();
            let encapsulated = Encapsulated::read(&encapsulated.0).unwrap();
            let shared = agree(&private, &encapsulated);
            let open = |info: &[u8], associated: &[u8], sealed: &[u8]| {
                open(&shared, &encapsulated, &own, info, associated, sealed).unwrap()
            };
            prop_assert_eq!(&*open(&info, &associated, &sealed).unwrap(), &plain);
            prop_assert!(open(&[&info[..], b"x"].concat(), &associated, &sealed).is_none());
            prop_assert!(open(&info, &[&associated[..], b"x"].concat(), &sealed).is_none());
            prop_assert!(open(&info, &associated, &sealed[..15]).is_none());
            *flipped.get_mut(&mut sealed) ^= 1;
            prop_assert!(open(&info, &associated, &sealed).is_none());
        }
    }
}
