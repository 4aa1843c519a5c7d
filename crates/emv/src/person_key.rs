//! The person's key: what a phone and its issuer share since a PIN was set, and what it is used for.
//!
//! Everything here is one AES block without any check: under a wrong key there comes out another key
//! that looks as good as the right one. Only the issuer can tell, by the cryptogram it makes. Nothing
//! that would tell earlier may ever be stored or sent beside these blocks: no tag, no check value, no
//! padding.

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, KeyInit};
use tapfer_payment_types::Secret;

use crate::keys::{SessionKey, derive};
use crate::mac::aes_cmac;

/// In front of what proves the old key when a PIN is changed.
const PIN_CHANGE: &[u8] = b"tapfer-pin-change-1";
/// One key for each use: the person's key itself only derives them.
const SESSION_KEYS: &[u8] = b"tapfer-person-session-keys-1";
const PROOF: &[u8] = b"tapfer-person-proof-1";

/// A person's key: 16 random bytes made by the phone.
///
/// Wiped on drop; `Debug` shows nothing of it.
#[derive(Debug)]
pub struct PersonKey(Secret<[u8; 16]>);

/// A key that a PIN gives (Argon2id), and that a person's key is kept under.
#[derive(Debug)]
pub struct PinKey(Secret<[u8; 16]>);

impl PinKey {
    /// Takes the key's bytes.
    #[must_use]
    pub const fn new(key: Secret<[u8; 16]>) -> Self {
        Self(key)
    }
}

impl PersonKey {
    /// Takes the key's bytes.
    #[must_use]
    pub const fn new(key: [u8; 16]) -> Self {
        Self(Secret::new(key))
    }

    /// Lends the key's bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 16] {
        self.0.expose()
    }

    /// The key as the phone keeps it: one block under the PIN's key.
    #[must_use]
    pub fn under_pin(&self, pin_key: &PinKey) -> [u8; 16] {
        *derive(pin_key.0.expose(), *self.expose()).expose()
    }

    /// The key out of that block. Every PIN gives one.
    #[must_use]
    pub fn from_under_pin(block: [u8; 16], pin_key: &PinKey) -> Self {
        Self(decrypted(pin_key.0.expose(), block))
    }

    /// The key for one use: AES-CMAC of the person's key over its name.
    fn key_for(&self, label: &[u8]) -> Secret<[u8; 16]> {
        Secret::new(aes_cmac(self.expose(), &[label]))
    }

    /// A session key of class `02` as it travels and is stored: one block under a key of the person's key.
    #[must_use]
    pub fn seal_session_key(&self, key: &SessionKey) -> [u8; 16] {
        *derive(self.key_for(SESSION_KEYS).expose(), *key.expose()).expose()
    }

    /// The session key out of that block. Every person's key gives one.
    #[must_use]
    pub fn open_session_key(&self, block: [u8; 16]) -> SessionKey {
        SessionKey::new(*decrypted(self.key_for(SESSION_KEYS).expose(), block).expose())
    }

    /// Proves to the issuer that whoever brings a new key knows this one: AES-CMAC over
    /// `tapfer-pin-change-1` ‖ token id's text ‖ generation of the new key (4) ‖ new key. It goes sealed
    /// only: in clear it would be something to test a PIN against.
    #[must_use]
    pub fn change_proof(&self, token: &str, generation: u32, new_key: &Self) -> Secret<[u8; 16]> {
        let generation = generation.to_be_bytes();
        let parts: [&[u8]; 4] = [PIN_CHANGE, token.as_bytes(), &generation, new_key.expose()];
        Secret::new(aes_cmac(self.key_for(PROOF).expose(), &parts))
    }
}

fn decrypted(key: &[u8; 16], block: [u8; 16]) -> Secret<[u8; 16]> {
    let mut plain = Secret::new(block);
    Aes128::new(key.into()).decrypt_block(plain.expose_mut().into());
    plain
}

#[cfg(test)]
mod tests {
    use super::{PersonKey, PinKey, aes_cmac, derive};
    use crate::keys::SessionKey;
    use tapfer_payment_types::Secret;

    #[test]
    fn the_right_key_gives_back_what_was_sealed_and_any_other_gives_another() {
        let (right, wrong) = (PersonKey::new([1; 16]), PersonKey::new([2; 16]));
        let block = right.seal_session_key(&SessionKey::new([7; 16]));
        assert_eq!(right.open_session_key(block).expose(), &[7; 16]);
        assert_ne!(wrong.open_session_key(block).expose(), &[7; 16]);
        let (pin, other) = (PinKey::new(Secret::new([3; 16])), PinKey::new(Secret::new([4; 16])));
        let kept = right.under_pin(&pin);
        assert_eq!(PersonKey::from_under_pin(kept, &pin).expose(), right.expose());
        assert_ne!(PersonKey::from_under_pin(kept, &other).expose(), right.expose());
    }

    /// AES-128 of FIPS 197, appendix C.1, so that the block is that of the standard.
    #[test]
    fn a_key_under_a_pin_is_one_block_of_plain_aes() {
        let pin_key = PinKey::new(Secret::new(core::array::from_fn(|i| u8::try_from(i).unwrap())));
        let key = PersonKey::new(core::array::from_fn(|i| u8::try_from(i * 0x11).unwrap()));
        assert_eq!(key.under_pin(&pin_key)[..4], [0x69, 0xC4, 0xE0, 0xD8]);
    }

    /// Whoever could have the one computed must learn nothing of the other.
    #[test]
    fn each_use_has_a_key_of_its_own_and_none_has_the_persons() {
        let person = PersonKey::new([1; 16]);
        let session = SessionKey::new([7; 16]);
        let sealed = person.seal_session_key(&session);
        let keys = [person.key_for(super::SESSION_KEYS), person.key_for(super::PROOF)];
        assert_ne!(keys[0].expose(), keys[1].expose());
        assert_eq!(&sealed, derive(keys[0].expose(), [7; 16]).expose());
        for key in [person.expose(), keys[1].expose()] {
            assert_ne!(&sealed, derive(key, [7; 16]).expose());
        }
        let proof = person.change_proof("tok_1", 2, &PersonKey::new([2; 16]));
        let message: [&[u8]; 4] = [super::PIN_CHANGE, b"tok_1", &2_u32.to_be_bytes(), &[2; 16]];
        assert_eq!(proof.expose(), &aes_cmac(keys[1].expose(), &message));
        for key in [person.expose(), keys[0].expose()] {
            assert_ne!(proof.expose(), &aes_cmac(key, &message));
        }
    }

    #[test]
    fn a_proof_holds_for_one_token_one_generation_and_one_new_key() {
        let (old, new) = (PersonKey::new([1; 16]), PersonKey::new([2; 16]));
        let proof = old.change_proof("tok_1", 2, &new);
        for other in [
            old.change_proof("tok_2", 2, &new),
            old.change_proof("tok_1", 3, &new),
            old.change_proof("tok_1", 2, &old),
            new.change_proof("tok_1", 2, &new),
        ] {
            assert_ne!(proof.expose(), other.expose());
        }
    }
}
