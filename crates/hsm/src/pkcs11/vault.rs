//! The vault's operations, each as calls of a module.

use aws_lc_rs::digest::{SHA256, digest};
use tapfer_emv::cryptogram;
use tapfer_emv::curve::PublicPoint;
use tapfer_emv::keys::{
    KeyClass, KeyIndex, LimitedUseKey, TokenKey, limited_use_key_data, token_key_data,
};
use tapfer_payment_types::{PanSequenceNumber, Secret, TokenPan};
use tapfer_pkcs11::{KeyHandle, KeyType, Mechanism, Template};
use zeroize::Zeroizing;

use super::capability::{self, CardKeyWay};
use super::card_keys::{inside, to_be_read};
use super::link::Link;
use super::objects::{Pkcs11Key, read};
use super::{Connection, Fault, ModuleReport, Pkcs11Vault};
use crate::HsmError;
use crate::vault::{CardKeyPath, Custody, KeyAlgorithm, NewKey, Vault, VaultDescription};

/// A key was used for what it is not made for.
const MISUSED: HsmError =
    HsmError::Internal { operation: "using a key for what it is not made for" };

fn only(key: &Pkcs11Key, algorithm: KeyAlgorithm) -> Result<(), HsmError> {
    if key.algorithm == algorithm { Ok(()) } else { Err(MISUSED) }
}

impl Link {
    /// Reads a key that was made to be read, and destroys it.
    fn take(&mut self, key: KeyHandle, length: usize) -> Result<Secret<Vec<u8>>, Fault> {
        let session = self.scratch()?;
        let value = read(session, key, length);
        session.destroy(key)?;
        value
    }

    fn token_key(
        &mut self,
        master: KeyHandle,
        pan: &TokenPan,
        sequence: PanSequenceNumber,
    ) -> Result<TokenKey, Fault> {
        let data = token_key_data(pan, sequence);
        let mut out = Zeroizing::new([0; 16]);
        let session = self.scratch()?;
        session.encrypt(Mechanism::AesEcb, master, data.expose(), out.as_mut_slice())?;
        Ok(TokenKey::new(*out))
    }

    /// Limited-use keys that leave the module.
    fn limited_use_keys(
        &mut self,
        master: KeyHandle,
        pan: &TokenPan,
        sequence: PanSequenceNumber,
        keys: &[(KeyClass, KeyIndex)],
    ) -> Result<Vec<LimitedUseKey>, Fault> {
        let mechanism = match self.choices().card_keys {
            CardKeyWay::Inside(mechanism) | CardKeyWay::LimitedUseKeyOut(mechanism) => mechanism,
            CardKeyWay::TokenKeyOut => {
                let token_key = self.token_key(master, pan, sequence)?;
                let derive = |(class, index): &_| token_key.limited_use_key(*class, *index);
                return Ok(keys.iter().map(derive).collect());
            }
        };
        let data = token_key_data(pan, sequence);
        let derives = inside(&[tapfer_pkcs11::Use::Derive]);
        let token_key = self.session.derive(mechanism, master, data.expose(), &derives)?;
        let made = keys.iter().map(|(class, index)| {
            let data = limited_use_key_data(*class, *index);
            let key = self.scratch()?.derive(mechanism, token_key, &data, &to_be_read())?;
            let bytes = self.take(key, 16)?;
            let mut value = Zeroizing::new([0; 16]);
            value.copy_from_slice(bytes.expose());
            Ok(LimitedUseKey::new(*value))
        });
        let made = made.collect::<Result<Vec<_>, Fault>>();
        self.session.destroy(token_key)?;
        made
    }

    fn application_cryptogram(
        &mut self,
        master: &Pkcs11Key,
        path: &CardKeyPath<'_>,
        message: &[u8],
        now: std::time::Duration,
    ) -> Result<[u8; 8], Fault> {
        let handle = self.key(master, now)?;
        let (cards, module, token, choices) = self.card_parts();
        if let CardKeyWay::Inside(mechanism) = choices.card_keys {
            let place = (module, token, now);
            let mac = cards.cryptogram(place, mechanism, (master.id, handle), path, message)?;
            let [a, b, c, d, e, f, g, h, ..] = mac;
            return Ok([a, b, c, d, e, f, g, h]);
        }
        let wanted = [(path.key_class, path.key_index)];
        let keys = self.limited_use_keys(handle, path.token_pan, path.sequence, &wanted)?;
        let [key] = keys.as_slice() else { return Err(MISUSED.into()) };
        let session_key = key.session_key(path.application_transaction_counter);
        Ok(cryptogram::application_cryptogram(&session_key, message))
    }
}

impl Vault for Pkcs11Vault {
    type Key = Pkcs11Key;

    fn describe(&self) -> VaultDescription {
        VaultDescription {
            backend: "pkcs11",
            says_it_is_hardware: self.is_hardware,
            notice: match self.is_hardware {
                true => {
                    "Keys are kept by a PKCS#11 module that calls itself hardware; whether and how it is \
                     certified, its vendor says."
                }
                false => {
                    "Keys are kept by a PKCS#11 module that is software, by its own word: not for production."
                }
            },
        }
    }

    fn report(&self) -> Option<ModuleReport> {
        self.report.clone()
    }

    fn generate(&self, algorithm: KeyAlgorithm, custody: Custody) -> Result<NewKey, HsmError> {
        self.ask("making a key", |link| link.generate(algorithm, custody))
    }

    fn import(
        &self,
        algorithm: KeyAlgorithm,
        custody: Custody,
        clear: &Secret<Vec<u8>>,
    ) -> Result<NewKey, HsmError> {
        self.ask("importing a key", |link| link.import(algorithm, custody, clear))
    }

    fn load(
        &self,
        algorithm: KeyAlgorithm,
        custody: Custody,
        wrapped: &[u8],
    ) -> Result<Pkcs11Key, HsmError> {
        let key = Pkcs11Key::new(algorithm, custody, wrapped);
        let now = self.now();
        self.ask("opening a key of the catalogue", |link| link.key(&key, now).map(drop))?;
        Ok(key)
    }

    fn forget(&self, key: &Pkcs11Key) {
        let now = self.now();
        let mut state = self.state();
        if let Connection::Open(link) = &mut state.connection
            && link.forget(key, now).is_err()
        {
            // With the sessions ends whatever lives in them.
            state.close_sessions();
        }
    }

    fn application_cryptogram(
        &self,
        master: &Pkcs11Key,
        path: &CardKeyPath<'_>,
        message: &[u8],
    ) -> Result<[u8; 8], HsmError> {
        only(master, KeyAlgorithm::CardKeyDerivation)?;
        let now = self.now();
        self.ask("computing a cryptogram", |link| {
            link.application_cryptogram(master, path, message, now)
        })
    }

    fn limited_use_keys(
        &self,
        master: &Pkcs11Key,
        token_pan: &TokenPan,
        sequence: PanSequenceNumber,
        keys: &[(KeyClass, KeyIndex)],
    ) -> Result<Vec<LimitedUseKey>, HsmError> {
        only(master, KeyAlgorithm::CardKeyDerivation)?;
        let now = self.now();
        self.ask("deriving limited-use keys", |link| {
            let handle = link.key(master, now)?;
            link.limited_use_keys(handle, token_pan, sequence, keys)
        })
    }

    fn authenticate(&self, key: &Pkcs11Key, parts: &[&[u8]]) -> Result<[u8; 32], HsmError> {
        only(key, KeyAlgorithm::Authentication)?;
        let message = Zeroizing::new(parts.concat());
        let now = self.now();
        self.ask("computing an HMAC", |link| {
            let handle = link.key(key, now)?;
            let mut out = [0; 32];
            link.session.sign(Mechanism::Sha256Hmac, handle, &message, &mut out)?;
            Ok(out)
        })
    }

    fn sign(&self, key: &Pkcs11Key, message: &[u8]) -> Result<[u8; 64], HsmError> {
        only(key, KeyAlgorithm::Signing)?;
        let hash = digest(&SHA256, message);
        let now = self.now();
        self.ask("signing", |link| {
            let handle = link.key(key, now)?;
            let mut out = [0; 64];
            link.session.sign(Mechanism::Ecdsa, handle, hash.as_ref(), &mut out)?;
            Ok(out)
        })
    }

    fn agree(&self, key: &Pkcs11Key, peer: &PublicPoint) -> Result<Secret<[u8; 32]>, HsmError> {
        only(key, KeyAlgorithm::Agreement)?;
        let mut point = [0x04; 65];
        point.iter_mut().skip(1).zip(peer.bytes()).for_each(|(to, from)| *to = from);
        let now = self.now();
        self.ask("agreeing on a key", |link| {
            let handle = link.key(key, now)?;
            let template = Template::key(KeyType::GenericSecret).stays(false).extractable(true);
            let template = template.length(32).only_for(&[]);
            let shared = link.scratch()?.agree(handle, &point, &template)?;
            fixed(&link.take(shared, 32)?)
        })
    }

    fn wrap_data_key(
        &self,
        key: &Pkcs11Key,
        data_key: &Secret<[u8; 32]>,
    ) -> Result<[u8; 40], HsmError> {
        only(key, KeyAlgorithm::KeyWrapping)?;
        let now = self.now();
        self.ask("wrapping a data key", |link| {
            let handle = link.key(key, now)?;
            let template = Template::key(KeyType::Aes).stays(false).wrappable().only_for(&[]);
            let session = link.scratch()?;
            let object = session.create(&template.value(data_key.expose()))?;
            let mut out = [0; 40];
            let wrapped = session.wrap(Mechanism::AesKeyWrap, handle, object, &mut out);
            session.destroy(object)?;
            wrapped?;
            Ok(out)
        })
    }

    fn unwrap_data_key(
        &self,
        key: &Pkcs11Key,
        wrapped: &[u8; 40],
    ) -> Result<Option<Secret<[u8; 32]>>, HsmError> {
        only(key, KeyAlgorithm::KeyWrapping)?;
        let now = self.now();
        self.ask("opening a data key", |link| {
            let handle = link.key(key, now)?;
            let choices = link.choices();
            let template = Template::key(KeyType::Aes).stays(false).extractable(true);
            let session = link.scratch()?;
            let opened =
                session.unwrap(Mechanism::AesKeyWrap, handle, wrapped, &template.only_for(&[]));
            match opened {
                Ok(object) => fixed(&link.take(object, 32)?).map(Some),
                Err(error) if choices.says_spoiled(&error) => {
                    // Some modules say the same when they are broken: one that opens what is right is not.
                    capability::still_unwraps(session)?;
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            }
        })
    }

    fn release(&self, key: &Pkcs11Key) -> Result<Secret<Vec<u8>>, HsmError> {
        if key.custody == Custody::Sealed {
            return Err(MISUSED);
        }
        let length = if key.algorithm == KeyAlgorithm::CardKeyDerivation { 16 } else { 32 };
        let now = self.now();
        self.ask("releasing a key", |link| {
            let handle = link.key(key, now)?;
            read(&link.session, handle, length)
        })
    }

    fn random(&self, out: &mut [u8]) -> Result<(), HsmError> {
        // Filled once, whatever it takes.
        let bytes = self.ask("drawing random bytes", |link| {
            let mut bytes = Secret::new(vec![0; out.len()]);
            link.session.random(bytes.expose_mut())?;
            Ok(bytes)
        })?;
        out.copy_from_slice(bytes.expose());
        Ok(())
    }

    fn health(&self) -> Result<(), HsmError> {
        let now = self.now();
        self.ask("asking for its health", |link| {
            link.tidy(now)?;
            link.session.check()?;
            link.session.random(&mut [0; 8])?;
            link.look_at_roots()
        })
    }
}

fn fixed(bytes: &Secret<Vec<u8>>) -> Result<Secret<[u8; 32]>, Fault> {
    let mut out = Secret::new([0; 32]);
    let bytes = bytes.expose();
    if bytes.len() != 32 {
        return Err(HsmError::Internal { operation: "reading a key of another length" }.into());
    }
    out.expose_mut().copy_from_slice(bytes);
    Ok(out)
}
