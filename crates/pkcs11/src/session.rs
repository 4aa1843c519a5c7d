//! A session, and the operations on keys in it.

use std::fmt;
use std::sync::Arc;

use cryptoki::error::RvError;
use cryptoki::session::UserType;
use cryptoki_sys::{CK_OBJECT_HANDLE, CK_ULONG};
use tapfer_payment_types::Secret;

use crate::error::Error;
use crate::module::pin;
use crate::raw::Raw;
use crate::{Mechanism, Template};

/// A key in a module, as long as the session lives that made it (or the token it stays on).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHandle(CK_OBJECT_HANDLE);

/// A session with a token. One thread at a time uses it; it is closed on drop, and with it go the session
/// objects that it made. Other sessions of the same process see them until then.
pub struct Session {
    binding: cryptoki::session::Session,
    raw: Arc<Raw>,
}

impl Session {
    pub(crate) const fn new(binding: cryptoki::session::Session, raw: Arc<Raw>) -> Self {
        Self { binding, raw }
    }

    /// Logs the user in: for all sessions of this process with this token. Whoever is logged in already
    /// stays so.
    ///
    /// # Errors
    /// [`Error::is_about_the_pin`] if the PIN was refused: do not try again, the token counts.
    pub fn login(&self, user_pin: &Secret<String>) -> Result<(), Error> {
        self.login_as(UserType::User, user_pin)
    }

    pub(crate) fn login_as(&self, user: UserType, user_pin: &Secret<String>) -> Result<(), Error> {
        self.raw.calls.add(1);
        match self.binding.login(user, Some(&pin(user_pin))) {
            Ok(()) | Err(cryptoki::error::Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(error) => Err(Error::from_binding("C_Login", error)),
        }
    }

    pub(crate) fn initialize_pin(&self, user_pin: &Secret<String>) -> Result<(), Error> {
        self.raw.calls.add(1);
        self.binding
            .init_pin(&pin(user_pin))
            .map_err(|error| Error::from_binding("C_InitPIN", error))
    }

    /// Logs out: for all sessions of this process with this token.
    ///
    /// # Errors
    /// What `C_Logout` answers.
    pub fn logout(&self) -> Result<(), Error> {
        self.raw.calls.add(1);
        self.binding.logout().map_err(|error| Error::from_binding("C_Logout", error))
    }

    /// Asks the module whether the session lives. One call.
    ///
    /// # Errors
    /// What `C_GetSessionInfo` answers.
    pub fn check(&self) -> Result<(), Error> {
        self.raw.calls.add(1);
        let info = self.binding.get_session_info();
        info.map(drop).map_err(|error| Error::from_binding("C_GetSessionInfo", error))
    }

    /// Fills `out` from the token's random generator.
    ///
    /// # Errors
    /// What `C_GenerateRandom` answers.
    pub fn random(&self, out: &mut [u8]) -> Result<(), Error> {
        self.raw.calls.add(1);
        self.binding
            .generate_random_slice(out)
            .map_err(|error| Error::from_binding("C_GenerateRandom", error))
    }

    /// Makes a secret key.
    ///
    /// # Errors
    /// What `C_GenerateKey` answers.
    pub fn generate(&self, mechanism: Mechanism, template: &Template) -> Result<KeyHandle, Error> {
        self.raw.generate_key(self.binding.handle(), mechanism, template).map(KeyHandle)
    }

    /// Makes a key pair on the curve that the public template names: public and private key.
    ///
    /// # Errors
    /// What `C_GenerateKeyPair` answers.
    pub fn generate_pair(
        &self,
        public: &Template,
        private: &Template,
    ) -> Result<(KeyHandle, KeyHandle), Error> {
        let (public, private) =
            self.raw.generate_key_pair(self.binding.handle(), public, private)?;
        Ok((KeyHandle(public), KeyHandle(private)))
    }

    /// Brings a key in whose value the template holds.
    ///
    /// # Errors
    /// What `C_CreateObject` answers.
    pub fn create(&self, template: &Template) -> Result<KeyHandle, Error> {
        self.raw.create_object(self.binding.handle(), template).map(KeyHandle)
    }

    /// Destroys a key.
    ///
    /// # Errors
    /// What `C_DestroyObject` answers.
    pub fn destroy(&self, key: KeyHandle) -> Result<(), Error> {
        self.raw.destroy_object(self.binding.handle(), key.0)
    }

    /// Keys that have these attributes: at most sixteen, which is more than anyone here looks for.
    ///
    /// # Errors
    /// What `C_FindObjects` answers.
    pub fn find(&self, template: &Template) -> Result<Vec<KeyHandle>, Error> {
        let found = self.raw.find::<16>(self.binding.handle(), template)?;
        Ok(found.into_iter().map(KeyHandle).collect())
    }

    /// A key that is the AES encryption of one block under `base`, by
    /// [`Mechanism::AesEcbEncryptData`] or [`Mechanism::AesCbcEncryptData`]. One call.
    ///
    /// # Errors
    /// What `C_DeriveKey` answers.
    pub fn derive(
        &self,
        mechanism: Mechanism,
        base: KeyHandle,
        block: &[u8; 16],
        template: &Template,
    ) -> Result<KeyHandle, Error> {
        let session = self.binding.handle();
        self.raw.derive_by_encryption(session, mechanism, base.0, block, template).map(KeyHandle)
    }

    /// ECDH: a key that is the x coordinate that both sides share. `peer` is an uncompressed point
    /// (`04` ‖ x ‖ y).
    ///
    /// # Errors
    /// What `C_DeriveKey` answers.
    pub fn agree(
        &self,
        base: KeyHandle,
        peer: &[u8; 65],
        template: &Template,
    ) -> Result<KeyHandle, Error> {
        let session = self.binding.handle();
        self.raw.derive_by_agreement(session, base.0, peer, template).map(KeyHandle)
    }

    /// Wraps a key into `out`; gives the number of bytes.
    ///
    /// # Errors
    /// What `C_WrapKey` answers.
    pub fn wrap(
        &self,
        mechanism: Mechanism,
        wrapping: KeyHandle,
        key: KeyHandle,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.raw.wrap(self.binding.handle(), mechanism, wrapping.0, key.0, out)
    }

    /// Unwraps a key.
    ///
    /// # Errors
    /// What `C_UnwrapKey` answers. Modules differ in what they call a wrapped key that does not open.
    pub fn unwrap(
        &self,
        mechanism: Mechanism,
        unwrapping: KeyHandle,
        wrapped: &[u8],
        template: &Template,
    ) -> Result<KeyHandle, Error> {
        let session = self.binding.handle();
        self.raw.unwrap(session, mechanism, unwrapping.0, wrapped, template).map(KeyHandle)
    }

    /// Signs, or computes a message authentication code ([`Mechanism::Ecdsa`] over a digest,
    /// [`Mechanism::Sha256Hmac`], [`Mechanism::AesCmac`]) into `out`; gives the number of bytes. Two calls.
    ///
    /// # Errors
    /// What `C_SignInit` or `C_Sign` answers.
    pub fn sign(
        &self,
        mechanism: Mechanism,
        key: KeyHandle,
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.raw.sign(self.binding.handle(), mechanism, key.0, data, out)
    }

    /// Encrypts into `out`; gives the number of bytes. Two calls.
    ///
    /// # Errors
    /// What `C_EncryptInit` or `C_Encrypt` answers.
    pub fn encrypt(
        &self,
        mechanism: Mechanism,
        key: KeyHandle,
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.raw.encrypt(self.binding.handle(), mechanism, key.0, data, out)
    }

    /// Reads the value of a key that lets itself be read; gives the number of bytes.
    ///
    /// # Errors
    /// What `C_GetAttributeValue` answers: `CKR_ATTRIBUTE_SENSITIVE` for every other key.
    pub fn value(&self, key: KeyHandle, out: &mut [u8]) -> Result<usize, Error> {
        self.raw.value(self.binding.handle(), key.0, out)
    }

    /// The label of a key, as far as it is text and not longer than 64 bytes.
    ///
    /// # Errors
    /// What `C_GetAttributeValue` answers.
    pub fn label(&self, key: KeyHandle) -> Result<String, Error> {
        let mut bytes = [0; 64];
        let length = self.raw.label(self.binding.handle(), key.0, &mut bytes)?;
        Ok(String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned())
    }

    /// Whether a key stays on the token when its session ends.
    ///
    /// # Errors
    /// What `C_GetAttributeValue` answers.
    pub fn stays(&self, key: KeyHandle) -> Result<bool, Error> {
        let mut flag = [0; 1];
        self.raw.stays(self.binding.handle(), key.0, &mut flag)?;
        Ok(flag != [0])
    }

    /// Whether whoever has logged in can destroy a key, as the module says.
    ///
    /// # Errors
    /// What `C_GetAttributeValue` answers.
    pub fn is_destroyable(&self, key: KeyHandle) -> Result<bool, Error> {
        let mut flag = [0; 1];
        self.raw.is_destroyable(self.binding.handle(), key.0, &mut flag)?;
        Ok(flag != [0])
    }

    /// Whether a key can be used by these mechanisms only, as the module says.
    ///
    /// # Errors
    /// What `C_GetAttributeValue` answers.
    pub fn is_only_by(&self, key: KeyHandle, mechanisms: &[Mechanism]) -> Result<bool, Error> {
        let mut bytes = [0; 128];
        let length = self.raw.allowed_mechanisms(self.binding.handle(), key.0, &mut bytes)?;
        let (numbers, rest) =
            bytes.get(..length).unwrap_or_default().as_chunks::<{ size_of::<CK_ULONG>() }>();
        let is_allowed = |number: &[u8; size_of::<CK_ULONG>()]| {
            let number = CK_ULONG::from_ne_bytes(*number);
            mechanisms.iter().any(|mechanism| mechanism.number() == number)
        };
        Ok(!numbers.is_empty() && rest.is_empty() && numbers.iter().all(is_allowed))
    }

    /// Reads the point of a public key as the module keeps it: an uncompressed point, in an OCTET STRING
    /// as PKCS#11 demands, or without one as some modules have it.
    ///
    /// # Errors
    /// What `C_GetAttributeValue` answers; [`Error::Senseless`] if it is no point.
    pub fn point(&self, key: KeyHandle) -> Result<[u8; 65], Error> {
        let mut bytes = [0; 67];
        let length = self.raw.point(self.binding.handle(), key.0, &mut bytes)?;
        let senseless =
            Error::Senseless { function: "C_GetAttributeValue", what: "no point on P-256" };
        let read = match bytes.get(..length) {
            Some([0x04, 0x41, point @ ..]) if point.len() == 65 => point,
            Some(point) => point,
            None => return Err(senseless),
        };
        <[u8; 65]>::try_from(read).map_err(|_| senseless)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The binding closes it; here it is only counted.
        self.raw.calls.add(1);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
