//! Keys of the catalogue as objects of a module: what they may be used for, how they are made.

use aws_lc_rs::cmac;
use aws_lc_rs::digest::{self, SHA256, digest};
use tapfer_emv::curve::{PrivateKey, PublicPoint};
use tapfer_payment_types::Secret;
use tapfer_pkcs11::{KeyHandle, KeyType, Mechanism, Session, Template, Use};

use super::Fault;
use super::capability::{CardKeyWay, Choices};
use super::link::Link;
use crate::HsmError;
use crate::vault::{Custody, KeyAlgorithm, NewKey};

/// Which wrapped key it is: SHA-256 over algorithm, custody and wrapped bytes.
pub(super) type KeyId = [u8; 32];

/// A key of the catalogue. It holds the wrapped key, and no handle: those end with a login, and it does
/// not.
#[derive(Debug)]
pub struct Pkcs11Key {
    pub(super) id: KeyId,
    pub(super) algorithm: KeyAlgorithm,
    pub(super) custody: Custody,
    pub(super) wrapped: Vec<u8>,
}

impl Pkcs11Key {
    pub(super) fn new(algorithm: KeyAlgorithm, custody: Custody, wrapped: &[u8]) -> Self {
        let mut context = digest::Context::new(&SHA256);
        context.update(format!("{algorithm:?} {custody:?} ").as_bytes());
        context.update(wrapped);
        let id = context.finish().as_ref().first_chunk().copied().unwrap_or_default();
        Self { id, algorithm, custody, wrapped: wrapped.to_vec() }
    }

    /// What the key is unwrapped into.
    pub(super) fn template(&self, choices: &Choices) -> Template {
        let template = match self.algorithm {
            KeyAlgorithm::CardKeyDerivation => {
                Template::key(KeyType::Aes).only_for(&[card_use(choices)])
            }
            KeyAlgorithm::KeyWrapping => {
                Template::key(KeyType::Aes).only_for(&[Use::Wrap, Use::Unwrap])
            }
            KeyAlgorithm::Authentication => {
                Template::key(KeyType::GenericSecret).only_for(&[Use::Sign])
            }
            KeyAlgorithm::Signing => Template::key(KeyType::EcPrivate).private_key_for(Use::Sign),
            KeyAlgorithm::Agreement => {
                Template::key(KeyType::EcPrivate).private_key_for(Use::Derive)
            }
            KeyAlgorithm::SchnorrSigning => Template::key(KeyType::GenericSecret).only_for(&[]),
        };
        template.stays(false).extractable(self.custody == Custody::Releasable)
    }
}

fn card_use(choices: &Choices) -> Use {
    match choices.card_keys {
        CardKeyWay::Inside(_) | CardKeyWay::LimitedUseKeyOut(_) => Use::Derive,
        CardKeyWay::TokenKeyOut => Use::Encrypt,
    }
}

/// Length of a symmetric key in bytes.
const fn length(algorithm: KeyAlgorithm) -> u16 {
    match algorithm {
        KeyAlgorithm::CardKeyDerivation => 16,
        _ => 32,
    }
}

impl Link {
    /// Makes a key inside and wraps it.
    pub(super) fn generate(
        &mut self,
        algorithm: KeyAlgorithm,
        custody: Custody,
    ) -> Result<NewKey, Fault> {
        let (mechanism, kind) = match algorithm {
            KeyAlgorithm::Signing | KeyAlgorithm::Agreement => {
                return self.generate_pair(algorithm, custody);
            }
            KeyAlgorithm::SchnorrSigning => return self.generate_scalar(custody),
            KeyAlgorithm::CardKeyDerivation | KeyAlgorithm::KeyWrapping => {
                (Mechanism::AesKeyGen, KeyType::Aes)
            }
            KeyAlgorithm::Authentication => {
                (Mechanism::GenericSecretKeyGen, KeyType::GenericSecret)
            }
        };
        // What it may be used for is not wrapped with it: here it authenticates its check value.
        let template = Template::key(kind).stays(false).only_for(&[Use::Sign]);
        let template = self.readable_if_needed(template).length(length(algorithm));
        let key = self.session.generate(mechanism, &template)?;
        self.keep(algorithm, custody, key, None)
    }

    fn generate_pair(
        &mut self,
        algorithm: KeyAlgorithm,
        custody: Custody,
    ) -> Result<NewKey, Fault> {
        let use_ = private_use(algorithm);
        let public = Template::key(KeyType::EcPublic).stays(false).p256();
        let private = Template::key(KeyType::EcPrivate).stays(false).wrappable();
        let (public, private) =
            self.session.generate_pair(&public, &private.private_key_for(use_))?;
        let point = self.session.point(public);
        self.session.destroy(public)?;
        let [_, point @ ..] = point?;
        let point = PublicPoint::from_bytes(&point)
            .map_err(|_| HsmError::Internal { operation: "reading a public key" })?;
        self.keep(algorithm, custody, private, Some(point))
    }

    /// A scalar is drawn from the module's random numbers, in locked memory, where it will be used.
    fn generate_scalar(&mut self, custody: Custody) -> Result<NewKey, Fault> {
        let mut bytes = Secret::new(vec![0; 32]);
        // One draw of four billion is no scalar.
        for _ in 0..8 {
            self.session.random(bytes.expose_mut())?;
            if scalar(bytes.expose()).is_ok() {
                return self.import(KeyAlgorithm::SchnorrSigning, custody, &bytes);
            }
        }
        Err(HsmError::Internal { operation: "drawing a scalar" }.into())
    }

    /// Takes a key in whose bytes are known, and wraps it.
    pub(super) fn import(
        &mut self,
        algorithm: KeyAlgorithm,
        custody: Custody,
        clear: &Secret<Vec<u8>>,
    ) -> Result<NewKey, Fault> {
        let clear = clear.expose();
        let (template, public) = match algorithm {
            KeyAlgorithm::Signing | KeyAlgorithm::Agreement => {
                let template = Template::key(KeyType::EcPrivate).wrappable().p256();
                let template = template.private_key_for(private_use(algorithm));
                (template, Some(point(clear)?))
            }
            KeyAlgorithm::SchnorrSigning => {
                (Template::key(KeyType::GenericSecret).wrappable(), Some(point(clear)?))
            }
            KeyAlgorithm::Authentication => {
                (Template::key(KeyType::GenericSecret).wrappable().only_for(&[Use::Sign]), None)
            }
            KeyAlgorithm::CardKeyDerivation | KeyAlgorithm::KeyWrapping => {
                let template = Template::key(KeyType::Aes).only_for(&[Use::Sign]);
                (self.readable_if_needed(template), None)
            }
        };
        if clear.len() != usize::from(length(algorithm)) {
            return Err(HsmError::KeyFormat.into());
        }
        let key = self.session.create(&template.stays(false).value(clear))?;
        self.keep(algorithm, custody, key, public)
    }

    /// A new key can be wrapped; and read, where the module has no CMAC to make a check value with.
    fn readable_if_needed(&self, template: Template) -> Template {
        match self.choices().card_keys {
            CardKeyWay::Inside(_) => template.wrappable(),
            _ => template.extractable(true),
        }
    }

    /// Wraps a new key, makes its check value, and destroys the object.
    fn keep(
        &mut self,
        algorithm: KeyAlgorithm,
        custody: Custody,
        key: KeyHandle,
        public: Option<PublicPoint>,
    ) -> Result<NewKey, Fault> {
        let wrapped = self.wrap_out(algorithm, custody, key);
        let check_value = self.check_value(algorithm, key, public.as_ref());
        self.session.destroy(key)?;
        Ok(NewKey { wrapped: wrapped?, public, check_value: check_value? })
    }

    fn wrap_out(
        &self,
        algorithm: KeyAlgorithm,
        custody: Custody,
        key: KeyHandle,
    ) -> Result<Vec<u8>, Fault> {
        let mut room = vec![0; 256];
        let mechanism = self.wrapping(algorithm);
        let length = self.session.wrap(mechanism, self.root(custody), key, &mut room)?;
        room.truncate(length);
        Ok(room)
    }

    /// See [`NewKey::check_value`].
    fn check_value(
        &self,
        algorithm: KeyAlgorithm,
        key: KeyHandle,
        public: Option<&PublicPoint>,
    ) -> Result<[u8; 3], Fault> {
        let mut out = [0; 32];
        match (algorithm, public) {
            (_, Some(point)) => {
                let hash = digest(&SHA256, &point.bytes());
                return Ok(hash.as_ref().first_chunk().copied().unwrap_or_default());
            }
            (KeyAlgorithm::CardKeyDerivation | KeyAlgorithm::KeyWrapping, None) => {
                self.cmac_of_zeros(algorithm, key, &mut out)?;
            }
            (_, None) => {
                self.session.sign(Mechanism::Sha256Hmac, key, b"", &mut out)?;
            }
        }
        let [a, b, c, ..] = out;
        Ok([a, b, c])
    }

    fn cmac_of_zeros(
        &self,
        algorithm: KeyAlgorithm,
        key: KeyHandle,
        out: &mut [u8; 32],
    ) -> Result<(), Fault> {
        if matches!(self.choices().card_keys, CardKeyWay::Inside(_)) {
            self.session.sign(Mechanism::AesCmac, key, &[0; 16], out)?;
            return Ok(());
        }
        let value = read(&self.session, key, usize::from(length(algorithm)))?;
        let kind =
            if algorithm == KeyAlgorithm::KeyWrapping { cmac::AES_256 } else { cmac::AES_128 };
        let tag = cmac::Key::new(kind, value.expose())
            .and_then(|key| cmac::sign(&key, &[0; 16]))
            .map_err(|_| HsmError::Internal { operation: "CMAC" })?;
        out.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

/// Reads a key of this length that lets itself be read.
pub(super) fn read(
    session: &Session,
    key: KeyHandle,
    length: usize,
) -> Result<Secret<Vec<u8>>, Fault> {
    let mut bytes = Secret::new(vec![0; length]);
    let written = session.value(key, bytes.expose_mut())?;
    if written != length {
        return Err(HsmError::Internal { operation: "reading a key of another length" }.into());
    }
    Ok(bytes)
}

fn private_use(algorithm: KeyAlgorithm) -> Use {
    if algorithm == KeyAlgorithm::Signing { Use::Sign } else { Use::Derive }
}

fn scalar(bytes: &[u8]) -> Result<PrivateKey, HsmError> {
    let bytes = <&[u8; 32]>::try_from(bytes).map_err(|_| HsmError::KeyFormat)?;
    PrivateKey::from_bytes(bytes).map_err(|_| HsmError::KeyFormat)
}

fn point(bytes: &[u8]) -> Result<PublicPoint, HsmError> {
    let public = scalar(bytes)?.public_point();
    PublicPoint::from_bytes(&public).map_err(|_| HsmError::KeyFormat)
}
