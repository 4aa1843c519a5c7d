//! A vault in this process's memory.

use aws_lc_rs::agreement::{self, UnparsedPublicKey};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::hmac;
use aws_lc_rs::key_wrap::{self, AesKek, KeyWrap};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use aws_lc_rs::{cmac, digest};
use tapfer_emv::cryptogram;
use tapfer_emv::curve::{PrivateKey, PublicPoint};
use tapfer_emv::keys::{IssuerMasterKey, KeyClass, KeyIndex, LimitedUseKey};
use tapfer_payment_types::{PanSequenceNumber, Secret, TokenPan};
use zeroize::Zeroizing;

use super::roots::RootKeys;
use crate::vault::{CardKeyPath, Custody, KeyAlgorithm, NewKey, Vault, VaultDescription};
use crate::{HsmError, randomness};

const fn failed(operation: &'static str) -> HsmError {
    HsmError::Internal { operation }
}

/// A key was used for what it is not made for.
const MISUSED: HsmError = failed("using a key for what it is not made for");

/// A vault without hardware: root keys and all that they open are in this process's memory. See
/// [`super`].
pub struct SoftwareVault {
    roots: RootKeys,
}

impl SoftwareVault {
    /// Takes the root keys.
    #[must_use]
    pub const fn new(roots: RootKeys) -> Self {
        Self { roots }
    }

    /// The roots, from a vault that is not needed any more.
    pub(super) fn into_roots(self) -> RootKeys {
        self.roots
    }

    /// The bytes of a wrapped key.
    pub(super) fn open_wrapped(
        &self,
        algorithm: KeyAlgorithm,
        custody: Custody,
        wrapped: &[u8],
    ) -> Result<Secret<Vec<u8>>, HsmError> {
        self.roots.unwrap(algorithm, custody, wrapped)
    }

    /// Wraps a key that stands in `clear`, as [`Vault::import`] takes it.
    fn keep(
        &self,
        algorithm: KeyAlgorithm,
        custody: Custody,
        clear: &[u8],
    ) -> Result<NewKey, HsmError> {
        let public = match algorithm.is_asymmetric() {
            true => Some(public_point(clear)?),
            false => None,
        };
        let wrapped = match algorithm {
            KeyAlgorithm::Signing | KeyAlgorithm::Agreement => {
                let document = pair(clear)?.to_pkcs8v1().map_err(|_| failed("writing PKCS#8"))?;
                self.roots.wrap(algorithm, custody, document.as_ref())?
            }
            _ => self.roots.wrap(algorithm, custody, clear)?,
        };
        let check_value = check_value(algorithm, clear, public.as_ref())?;
        Ok(NewKey { wrapped, public, check_value })
    }
}

/// A key of the software vault, in the form in which it is used.
pub struct SoftwareKey {
    material: Material,
    custody: Custody,
}

enum Material {
    CardKeyDerivation(IssuerMasterKey),
    KeyWrapping(Secret<[u8; 32]>),
    Authentication { key: Box<hmac::Key>, bytes: Secret<[u8; 32]> },
    Signing(EcdsaKeyPair),
    Agreement(agreement::PrivateKey),
    SchnorrSigning(Secret<[u8; 32]>),
}

impl SoftwareKey {
    /// Raw bytes, for P-256 keys the scalar, whatever the custody: whoever has this vault has the roots.
    pub(crate) fn bytes(&self) -> Result<Secret<Vec<u8>>, HsmError> {
        let scalar_failed = |_| failed("reading a scalar");
        Ok(Secret::new(match &self.material {
            Material::CardKeyDerivation(key) => key.expose().to_vec(),
            Material::KeyWrapping(key) => key.expose().to_vec(),
            Material::Authentication { bytes, .. } => bytes.expose().to_vec(),
            Material::SchnorrSigning(scalar) => scalar.expose().to_vec(),
            Material::Signing(pair) => {
                pair.private_key().as_be_bytes().map_err(scalar_failed)?.as_ref().to_vec()
            }
            Material::Agreement(private) => {
                let scalar: EcPrivateKeyBin<'_> = private.as_be_bytes().map_err(scalar_failed)?;
                scalar.as_ref().to_vec()
            }
        }))
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<Secret<[u8; N]>, HsmError> {
    let mut key = Secret::new([0; N]);
    if bytes.len() != N {
        return Err(HsmError::KeyFormat);
    }
    key.expose_mut().copy_from_slice(bytes);
    Ok(key)
}

/// x ‖ y of a scalar's point.
fn public_point(scalar: &[u8]) -> Result<PublicPoint, HsmError> {
    let private =
        PrivateKey::from_bytes(fixed(scalar)?.expose()).map_err(|_| HsmError::KeyFormat)?;
    PublicPoint::from_bytes(&private.public_point()).map_err(|_| failed("multiplying a point"))
}

fn pair(scalar: &[u8]) -> Result<EcdsaKeyPair, HsmError> {
    let public = [[0x04].as_slice(), &public_point(scalar)?.bytes()].concat();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, scalar, &public)
        .map_err(|_| HsmError::KeyFormat)
}

/// See [`NewKey::check_value`].
pub(crate) fn check_value(
    algorithm: KeyAlgorithm,
    clear: &[u8],
    public: Option<&PublicPoint>,
) -> Result<[u8; 3], HsmError> {
    let cmac = |algorithm| {
        let key = cmac::Key::new(algorithm, clear).map_err(|_| HsmError::KeyFormat)?;
        let tag = cmac::sign(&key, &[0; 16]).map_err(|_| failed("CMAC"))?;
        Ok::<_, HsmError>(tag.as_ref().first_chunk().copied())
    };
    let value = match (algorithm, public) {
        (_, Some(point)) => {
            digest::digest(&digest::SHA256, &point.bytes()).as_ref().first_chunk().copied()
        }
        (KeyAlgorithm::CardKeyDerivation, None) => cmac(cmac::AES_128)?,
        (KeyAlgorithm::KeyWrapping, None) => cmac(cmac::AES_256)?,
        _ => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, clear);
            hmac::sign(&key, b"").as_ref().first_chunk().copied()
        }
    };
    value.ok_or(failed("making a check value"))
}

/// Bytes of a symmetric key; scalars are drawn by [`PrivateKey`].
const fn length(algorithm: KeyAlgorithm) -> usize {
    match algorithm {
        KeyAlgorithm::CardKeyDerivation => 16,
        _ => 32,
    }
}

impl Vault for SoftwareVault {
    type Key = SoftwareKey;

    fn describe(&self) -> VaultDescription {
        VaultDescription {
            backend: "software",
            says_it_is_hardware: false,
            notice: "Keys are kept in a sealed file and in the memory of this process, not in \
                     certified hardware: not for production.",
        }
    }

    fn generate(&self, algorithm: KeyAlgorithm, custody: Custody) -> Result<NewKey, HsmError> {
        if algorithm.is_asymmetric() {
            let private = randomness::with_generator(PrivateKey::generate)?;
            return self.keep(algorithm, custody, private.to_bytes().expose());
        }
        let mut clear = Zeroizing::new(vec![0; length(algorithm)]);
        randomness::fill(&mut clear)?;
        self.keep(algorithm, custody, &clear)
    }

    fn import(
        &self,
        algorithm: KeyAlgorithm,
        custody: Custody,
        clear: &Secret<Vec<u8>>,
    ) -> Result<NewKey, HsmError> {
        if clear.expose().len() != length(algorithm) {
            return Err(HsmError::KeyFormat);
        }
        self.keep(algorithm, custody, clear.expose())
    }

    fn load(
        &self,
        algorithm: KeyAlgorithm,
        custody: Custody,
        wrapped: &[u8],
    ) -> Result<SoftwareKey, HsmError> {
        let clear = self.roots.unwrap(algorithm, custody, wrapped)?;
        let clear = clear.expose().as_slice();
        let material = match algorithm {
            KeyAlgorithm::CardKeyDerivation => {
                Material::CardKeyDerivation(IssuerMasterKey::new(*fixed(clear)?.expose()))
            }
            KeyAlgorithm::KeyWrapping => Material::KeyWrapping(fixed(clear)?),
            KeyAlgorithm::Authentication => Material::Authentication {
                bytes: fixed(clear)?,
                key: Box::new(hmac::Key::new(hmac::HMAC_SHA256, clear)),
            },
            KeyAlgorithm::Signing => {
                let pair =
                    EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, clear);
                Material::Signing(pair.map_err(|_| HsmError::KeyFormat)?)
            }
            KeyAlgorithm::Agreement => {
                let private =
                    agreement::PrivateKey::from_private_key_der(&agreement::ECDH_P256, clear);
                Material::Agreement(private.map_err(|_| HsmError::KeyFormat)?)
            }
            KeyAlgorithm::SchnorrSigning => Material::SchnorrSigning(fixed(clear)?),
        };
        Ok(SoftwareKey { material, custody })
    }

    fn application_cryptogram(
        &self,
        master: &SoftwareKey,
        path: &CardKeyPath<'_>,
        message: &[u8],
    ) -> Result<[u8; 8], HsmError> {
        let Material::CardKeyDerivation(master) = &master.material else { return Err(MISUSED) };
        let session_key = master
            .token_key(path.token_pan, path.sequence)
            .limited_use_key(path.key_class, path.key_index)
            .session_key(path.application_transaction_counter);
        Ok(cryptogram::application_cryptogram(&session_key, message))
    }

    fn limited_use_keys(
        &self,
        master: &SoftwareKey,
        token_pan: &TokenPan,
        sequence: PanSequenceNumber,
        keys: &[(KeyClass, KeyIndex)],
    ) -> Result<Vec<LimitedUseKey>, HsmError> {
        let Material::CardKeyDerivation(master) = &master.material else { return Err(MISUSED) };
        let token_key = master.token_key(token_pan, sequence);
        Ok(keys.iter().map(|(class, index)| token_key.limited_use_key(*class, *index)).collect())
    }

    fn authenticate(&self, key: &SoftwareKey, parts: &[&[u8]]) -> Result<[u8; 32], HsmError> {
        let Material::Authentication { key, .. } = &key.material else { return Err(MISUSED) };
        let mut context = hmac::Context::with_key(key);
        parts.iter().for_each(|part| context.update(part));
        context.sign().as_ref().try_into().map_err(|_| failed("HMAC"))
    }

    fn sign(&self, key: &SoftwareKey, message: &[u8]) -> Result<[u8; 64], HsmError> {
        let Material::Signing(pair) = &key.material else { return Err(MISUSED) };
        let signature = pair.sign(&SystemRandom::new(), message).map_err(|_| failed("ECDSA"))?;
        signature.as_ref().try_into().map_err(|_| failed("ECDSA"))
    }

    fn agree(&self, key: &SoftwareKey, peer: &PublicPoint) -> Result<Secret<[u8; 32]>, HsmError> {
        let Material::Agreement(private) = &key.material else { return Err(MISUSED) };
        let peer = [[0x04].as_slice(), &peer.bytes()].concat();
        let peer = UnparsedPublicKey::new(&agreement::ECDH_P256, &peer);
        agreement::agree(private, peer, failed("ECDH"), fixed)
    }

    fn wrap_data_key(
        &self,
        key: &SoftwareKey,
        data_key: &Secret<[u8; 32]>,
    ) -> Result<[u8; 40], HsmError> {
        let Material::KeyWrapping(key) = &key.material else { return Err(MISUSED) };
        let mut wrapped = [0; 40];
        AesKek::new(&key_wrap::AES_256, key.expose())
            .and_then(|kek| kek.wrap(data_key.expose(), &mut wrapped).map(|_| ()))
            .map_err(|_| failed("wrapping a data key"))?;
        Ok(wrapped)
    }

    fn unwrap_data_key(
        &self,
        key: &SoftwareKey,
        wrapped: &[u8; 40],
    ) -> Result<Option<Secret<[u8; 32]>>, HsmError> {
        let Material::KeyWrapping(key) = &key.material else { return Err(MISUSED) };
        // The library asks for room for one block more than the key.
        let mut room = Zeroizing::new([0; 40]);
        let kek = AesKek::new(&key_wrap::AES_256, key.expose());
        let kek = kek.map_err(|_| failed("unwrapping a data key"))?;
        kek.unwrap(wrapped, &mut *room).map_or(Ok(None), |plain| fixed(plain).map(Some))
    }

    fn release(&self, key: &SoftwareKey) -> Result<Secret<Vec<u8>>, HsmError> {
        match key.custody {
            Custody::Releasable => key.bytes(),
            Custody::Sealed => Err(MISUSED),
        }
    }

    fn random(&self, out: &mut [u8]) -> Result<(), HsmError> {
        randomness::fill(out)
    }

    fn health(&self) -> Result<(), HsmError> {
        Ok(())
    }
}
