//! Known-answer tests of what this process computes itself: every algorithm gives a published answer
//! before any key is touched. Each test goes through the same library as the work it stands for.
//! What a vault computes is tested in the vault, by `vaulted::self_test`.

use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, UnparsedPublicKey};
use aws_lc_rs::key_wrap::{self, AesKek, KeyWrap};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::{digest, hkdf, hmac, signature};
use data_encoding::HEXLOWER;
use rustls::crypto::hpke::{EncapsulatedSecret, HpkePrivateKey, HpkePublicKey};
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_emv::{cryptogram, ecsdsa, mac};
use tapfer_payment_types::PanSequenceNumber;

use crate::HsmError;
use crate::vaulted::HPKE;

/// One test: its name, and whether the answer was right. `None` counts as wrong.
pub(crate) struct KnownAnswerTest {
    pub(crate) name: &'static str,
    pub(crate) answer: fn() -> Option<bool>,
}

/// All tests.
pub(crate) const ALL: &[KnownAnswerTest] = &[
    KnownAnswerTest { name: "SHA-256", answer: sha_256 },
    KnownAnswerTest { name: "HMAC-SHA-256", answer: hmac_sha_256 },
    KnownAnswerTest { name: "HKDF-SHA-256", answer: hkdf_sha_256 },
    KnownAnswerTest { name: "AES-256-GCM", answer: aes_256_gcm },
    KnownAnswerTest { name: "AES-256 key wrap", answer: aes_256_key_wrap },
    KnownAnswerTest { name: "AES-128 card keys", answer: card_keys },
    KnownAnswerTest { name: "AES-CMAC", answer: aes_cmac },
    KnownAnswerTest { name: "EC-SDSA", answer: ec_sdsa },
    KnownAnswerTest { name: "ECDSA P-256", answer: ecdsa },
    KnownAnswerTest { name: "ECDH P-256", answer: ecdh },
    KnownAnswerTest { name: "HPKE", answer: hpke },
    KnownAnswerTest { name: "Argon2id", answer: argon2id },
];

/// Runs tests in order, up to the first that fails.
pub(crate) fn run(tests: &[KnownAnswerTest]) -> Result<(), HsmError> {
    match tests.iter().find(|test| (test.answer)() != Some(true)) {
        None => Ok(()),
        Some(failed) => Err(HsmError::SelfTestFailed { test: failed.name }),
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    HEXLOWER.decode(digits.as_bytes()).ok()
}

fn hex_array<const N: usize>(digits: &str) -> Option<[u8; N]> {
    hex(digits)?.try_into().ok()
}

/// FIPS 180-4, the example of one block.
fn sha_256() -> Option<bool> {
    let expected = hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")?;
    Some(digest::digest(&digest::SHA256, b"abc").as_ref() == expected)
}

/// RFC 4231, test case 2.
fn hmac_sha_256() -> Option<bool> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
    let tag = hmac::sign(&key, b"what do ya want for nothing?");
    let expected = hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")?;
    Some(tag.as_ref() == expected)
}

/// RFC 5869, test case 1, the first 32 bytes.
fn hkdf_sha_256() -> Option<bool> {
    let salt = hex("000102030405060708090a0b0c")?;
    let info = hex("f0f1f2f3f4f5f6f7f8f9")?;
    let mut output = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, &salt)
        .extract(&[0x0B; 22])
        .expand(&[&info], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut output))
        .ok()?;
    Some(output == *hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf")?)
}

/// "The Galois/Counter Mode of Operation", test case 16; and a changed tag is refused.
fn aes_256_gcm() -> Option<bool> {
    let key = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")?;
    let associated = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2")?;
    let plain = hex(concat!(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72",
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    ))?;
    let expected = hex(concat!(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa",
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        "76fc6ece0f4e1768cddf8853bb2d551b"
    ))?;
    let nonce = || Nonce::try_assume_unique_for_key(&hex("cafebabefacedbaddecaf888")?).ok();
    let cipher = LessSafeKey::new(UnboundKey::new(&aead::AES_256_GCM, &key).ok()?);

    let mut sealed = plain.clone();
    let aad = Aad::from(&associated);
    cipher.seal_in_place_append_tag(nonce()?, aad, &mut sealed).ok()?;
    let mut opened = sealed.clone();
    let opened = cipher.open_in_place(nonce()?, Aad::from(&associated), &mut opened).ok()?;
    let mut changed = sealed.clone();
    changed.last_mut().map(|byte| *byte ^= 1)?;
    let refused = cipher.open_in_place(nonce()?, Aad::from(&associated), &mut changed).is_err();
    Some(sealed == expected && *opened == plain && refused)
}

/// RFC 3394, 4.6; and a changed key is refused.
fn aes_256_key_wrap() -> Option<bool> {
    let kek = hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")?;
    let key = hex("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f")?;
    let expected = concat!(
        "28c9f404c4b810f4cbccb35cfb87f826",
        "3f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"
    );
    let kek = || AesKek::new(&key_wrap::AES_256, &kek).ok();
    let mut room = [0; 40];
    let mut wrapped = kek()?.wrap(&key, &mut room).ok()?.to_vec();
    let right = wrapped == hex(expected)?;
    let mut room = [0; 40];
    let back = *kek()?.unwrap(&wrapped, &mut room).ok()? == key;
    wrapped.last_mut().map(|byte| *byte ^= 1)?;
    let refused = kek()?.unwrap(&wrapped, &mut [0; 40]).is_err();
    Some(right && back && refused)
}

/// `kernel8.json`, `application_cryptogram` 9: issuer master key to cryptogram.
fn card_keys() -> Option<bool> {
    let master_key = IssuerMasterKey::new(hex_array("2de0dfa2ff6b906a2fc88fb94c74be78")?);
    let pan = "9990770996775434".parse().ok()?;
    let token_key = master_key.token_key(&pan, PanSequenceNumber::new(52).ok()?);
    let session_key = token_key.session_key(0xB188);
    let input = hex(concat!(
        "c59f33978d95bc76e8e479edb98399e1d5599ab2f1f42ead40ac3dff149ac732cd4d06716f3685a118fa",
        "b284a7caf5010be2efc3dc82eb631bf91e5cdd9db6a31dc8af80a979a917d6"
    ))?;
    let cryptogram = cryptogram::application_cryptogram(&session_key, &input);
    Some(
        *token_key.expose() == *hex("27f3fe432f0f0b90c716a37ea2dbd7d7")?
            && *session_key.expose() == *hex("a25494bc1ec0d0501187ae03d524f915")?
            && cryptogram == *hex("fae963b00851e1af")?,
    )
}

/// RFC 4493, example 2.
fn aes_cmac() -> Option<bool> {
    let key = hex_array("2b7e151628aed2a6abf7158809cf4f3c")?;
    let message = hex("6bc1bee22e409f96e93d7e117393172a")?;
    Some(mac::aes_cmac(&key, &[&message]) == *hex("070a16b46b4d4144f79bdd9dd04a287c")?)
}

/// Book E, the worked example of an issuer certificate; and a changed signature is refused.
fn ec_sdsa() -> Option<bool> {
    let private = "723222b51845e8b41a66263ae90e962148f9ccc3be45b3e5902cec0195f2aeaf";
    let nonce = "049916f4fd4046c1dba9fbbd41c5a9643bdc6978c42371ddcd5d725e144b6446";
    let message = hex(concat!(
        "120054133390ff1020301231123456a000000004e0",
        "cd7400578b1164fea954658c763c5a94fb3514fa89db5b3b447ae8f4d5df870a"
    ))?;
    let expected = hex(concat!(
        "739061adbc6fc71c8864ea9d3d6bab5c9501c058d895fe0f69d92e22412953dc",
        "1acccbbe60809c5694c739ca54cc3ff4cf0964e1b946c3ed00c4e572a5021988"
    ))?;
    let key = PrivateKey::from_bytes(&hex_array(private)?).ok()?;
    let mut signature = ecsdsa::sign_with_nonce(&key, &message, &hex_array(nonce)?)?;
    let right = signature == *expected;
    let verifies = ecsdsa::verify(&key.public_x(), &message, &signature).is_ok();
    signature.last_mut().map(|byte| *byte ^= 1)?;
    let refused = ecsdsa::verify(&key.public_x(), &message, &signature).is_err();
    Some(right && verifies && refused)
}

/// RFC 6979, A.2.5, P-256 with SHA-256, message "sample": verified as published; and what aws-lc-rs signs
/// with that key verifies, and a changed message does not.
fn ecdsa() -> Option<bool> {
    let private = hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")?;
    let public = hex(concat!(
        "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
        "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    ))?;
    let published = hex(concat!(
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    ))?;
    let verifier = signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &public);
    let signing = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = signature::EcdsaKeyPair::from_private_key_and_public_key(signing, &private, &public)
        .ok()?;
    let own = pair.sign(&SystemRandom::new(), b"sample").ok()?;
    Some(
        verifier.verify(b"sample", &published).is_ok()
            && verifier.verify(b"sample", own.as_ref()).is_ok()
            && verifier.verify(b"simple", own.as_ref()).is_err(),
    )
}

/// NIST CAVP, ECC CDH primitive, P-256, count 0. HPKE rests on it.
fn ecdh() -> Option<bool> {
    let private = hex("7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534")?;
    let peer = hex(concat!(
        "04700c48f77f56584c5cc632ca65640db91b6bacce3a4df6b42ce7cc838833d287",
        "db71e509e3fd9b060ddb20ba5c51dcc5948d46fbf640dfe0441782cab85fa4ac"
    ))?;
    let expected = hex("46fc62106420ff012e54a434fbdd2d25ccc5852060561e68040dd7778997bd7b")?;
    let curve = &agreement::ECDH_P256;
    let private = agreement::PrivateKey::from_private_key(curve, &private).ok()?;
    let peer = UnparsedPublicKey::new(curve, &peer);
    agreement::agree(&private, peer, (), |shared| Ok(shared == expected)).ok()
}

/// Opens what another implementation sealed (the `hpke` crate, base mode), and what it sealed itself;
/// other associated data are refused. RFC 9180 has no vector for P-256 with AES-256-GCM.
fn hpke() -> Option<bool> {
    let (info, associated) = (b"tapfer known answer", b"associated");
    let private = "7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534";
    let public = hex(concat!(
        "04ead218590119e8876b29146ff89ca61770c4edbbf97d38ce385ed281d8a6b230",
        "28af61281fd35e2fa7002523acc85a429cb06ee6648325389f59edfce1405141"
    ))?;
    let encapsulated = hex(concat!(
        "0422ef37917c9ae4dbef05b787eb1bfd792b03b983e068502838d866440a5f19b3",
        "b691c53c3a1f8b39c24a275d2ff940eca6c8f734142235dfff4e3098e2fc2358"
    ))?;
    let ciphertext = hex(concat!(
        "a2c43f9659a0030267832f5821e6386045b09ab31372f214ee7c601c33948db3",
        "f20c30d6a5bcf6a339b8f89acb4b4c3a"
    ))?;
    let plain = b"sealed by another implementation";
    let private = HpkePrivateKey::from(hex(private)?);
    let encapsulated = EncapsulatedSecret(encapsulated);

    let opened = HPKE.open(&encapsulated, info, associated, &ciphertext, &private).ok()?;
    let refused = HPKE.open(&encapsulated, info, b"other", &ciphertext, &private).is_err();
    let (own, sealed) = HPKE.seal(info, associated, plain, &HpkePublicKey(public)).ok()?;
    let back = HPKE.open(&own, info, associated, &sealed, &private).ok()?;
    Some(opened == plain && back == plain && refused)
}

/// RFC 9106, 5.3.
fn argon2id() -> Option<bool> {
    let mut params = ParamsBuilder::new();
    params.m_cost(32).t_cost(3).p_cost(4).data(AssociatedData::new(&[4; 12]).ok()?);
    let secret = [3; 8];
    let params = params.build().ok()?;
    let argon2 =
        Argon2::new_with_secret(&secret, Algorithm::Argon2id, Version::V0x13, params).ok()?;
    let mut tag = [0; 32];
    argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).ok()?;
    Some(tag == *hex("0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659")?)
}

#[cfg(test)]
mod tests {
    use super::{ALL, KnownAnswerTest, run};
    use crate::HsmError;

    #[test]
    fn every_known_answer_is_given() {
        for test in ALL {
            assert_eq!((test.answer)(), Some(true), "{}", test.name);
        }
    }

    #[test]
    fn a_wrong_answer_and_no_answer_fail() {
        let wrong: [fn() -> Option<bool>; 2] = [|| Some(false), || None];
        for answer in wrong {
            let tests = [KnownAnswerTest { name: "broken", answer }];
            assert!(matches!(run(&tests), Err(HsmError::SelfTestFailed { test: "broken" })));
        }
    }
}
