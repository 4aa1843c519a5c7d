//! Calls that go to the module directly. All unsafe code of the workspace is in this file.

#![allow(unsafe_code, reason = "a PKCS#11 module is a C library")]

use std::path::Path;
use std::ptr;

use cryptoki::error::{Rv, RvError};
use cryptoki_sys::{
    CK_AES_CBC_ENCRYPT_DATA_PARAMS, CK_ATTRIBUTE, CK_BYTE, CK_ECDH1_DERIVE_PARAMS,
    CK_FUNCTION_LIST, CK_KEY_DERIVATION_STRING_DATA, CK_MECHANISM, CK_MECHANISM_TYPE,
    CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CK_ULONG, CKA_ALLOWED_MECHANISMS,
    CKA_DESTROYABLE, CKA_EC_POINT, CKA_LABEL, CKA_TOKEN, CKA_VALUE, CKD_NULL,
};

use crate::error::{Code, Error};
use crate::template::Template;
use crate::{Calls, Mechanism};

/// The functions of a module (PKCS#11 2.40) and their count.
pub(crate) struct Raw {
    functions: CK_FUNCTION_LIST,
    pub(crate) calls: Calls,
    /// Keeps the code mapped that the functions point to.
    _library: cryptoki_sys::Pkcs11,
}

/// Calls a function of the module, counts it, and makes an error of anything but `CKR_OK`.
///
/// Whoever uses it passes handles, numbers, and pointers that were made from borrows that last over the
/// call, each with the length of what it points to. `CK_ATTRIBUTE` and `CK_MECHANISM` hold such pointers
/// themselves.
macro_rules! call {
    ($raw:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        let name = stringify!($function);
        match $raw.functions.$function {
            None => Err(Error::Refused { function: name, code: Code(RvError::FunctionNotSupported) }),
            Some(function) => {
                $raw.calls.add(1);
                // SAFETY: `function` is from the list that the module gave out, and its library is mapped
                // as long as `Raw` lives. The arguments are as the macro demands: the module reads and
                // writes only inside of what is borrowed here, because it is told the true lengths. PKCS#11
                // functions keep no pointer beyond the call.
                let answer = unsafe { function($($argument),*) };
                check(name, answer)
            }
        }
    }};
}

fn check(function: &'static str, answer: CK_RV) -> Result<(), Error> {
    match Rv::from(answer) {
        Rv::Ok => Ok(()),
        Rv::Error(code) => Err(Error::Refused { function, code: Code(code) }),
    }
}

/// Length of a slice as the module counts.
fn length<T>(slice: &[T]) -> CK_ULONG {
    // No slice is longer: `CK_ULONG` is as wide as a pointer on the systems tapfer runs on.
    CK_ULONG::try_from(slice.len()).unwrap_or(CK_ULONG::MAX)
}

/// A mechanism without parameters.
const fn plain(mechanism: Mechanism) -> CK_MECHANISM {
    CK_MECHANISM { mechanism: mechanism.number(), pParameter: ptr::null_mut(), ulParameterLen: 0 }
}

/// A mechanism with the parameters it points to.
fn with_parameters<T>(mechanism: Mechanism, parameters: &mut T) -> CK_MECHANISM {
    CK_MECHANISM {
        mechanism: mechanism.number(),
        pParameter: ptr::from_mut(parameters).cast(),
        ulParameterLen: CK_ULONG::try_from(size_of::<T>()).unwrap_or(CK_ULONG::MAX),
    }
}

impl Raw {
    /// Opens the library. It may be open already: the loader counts, and the module is the same one.
    pub(crate) fn open(path: &Path, calls: Calls) -> Result<Self, Error> {
        let refuse = |reason: String| Error::Library { path: path.to_owned(), reason };
        // SAFETY: loading a library runs its initialisers. Which library that is the operator has decided:
        // a PKCS#11 module is trusted with the keys anyway.
        let library = unsafe { cryptoki_sys::Pkcs11::new(path) };
        let library = library.map_err(|error| refuse(error.to_string()))?;
        let Ok(get_function_list) = library.C_GetFunctionList.as_ref() else {
            return Err(refuse("it has no C_GetFunctionList".to_owned()));
        };
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        calls.add(1);
        // SAFETY: the function has the type that PKCS#11 gives it, and `list` can be written to.
        let answer = unsafe { get_function_list(&raw mut list) };
        check("C_GetFunctionList", answer)?;
        if list.is_null() {
            return Err(refuse("its function list is empty".to_owned()));
        }
        // SAFETY: not null, and PKCS#11 demands that it points to the module's list, which stays as long
        // as the library is loaded. `CK_FUNCTION_LIST` is plain data; unaligned, should a module pack it.
        let functions = unsafe { list.read_unaligned() };
        Ok(Self { functions, calls, _library: library })
    }

    /// Numbers of the mechanisms of a slot.
    pub(crate) fn mechanisms(&self, slot: CK_SLOT_ID) -> Result<Vec<CK_MECHANISM_TYPE>, Error> {
        let mut count: CK_ULONG = 0;
        call!(self, C_GetMechanismList(slot, ptr::null_mut(), &raw mut count))?;
        let mut list = vec![0; usize::try_from(count).unwrap_or(0)];
        let mut count = length(&list);
        call!(self, C_GetMechanismList(slot, list.as_mut_ptr(), &raw mut count))?;
        list.truncate(usize::try_from(count).unwrap_or(0));
        Ok(list)
    }

    pub(crate) fn generate_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE, Error> {
        let (mut mechanism, mut template) = (plain(mechanism), template.encode());
        let (attributes, count) = template.parts();
        let mut key = 0;
        call!(self, C_GenerateKey(session, &raw mut mechanism, attributes, count, &raw mut key))?;
        Ok(key)
    }

    pub(crate) fn generate_key_pair(
        &self,
        session: CK_SESSION_HANDLE,
        public: &Template,
        private: &Template,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE), Error> {
        let mut mechanism = plain(Mechanism::EcKeyPairGen);
        let (mut public, mut private) = (public.encode(), private.encode());
        let (public_attributes, public_count) = public.parts();
        let (private_attributes, private_count) = private.parts();
        let (mut public_key, mut private_key) = (0, 0);
        call!(
            self,
            C_GenerateKeyPair(
                session,
                &raw mut mechanism,
                public_attributes,
                public_count,
                private_attributes,
                private_count,
                &raw mut public_key,
                &raw mut private_key,
            )
        )?;
        Ok((public_key, private_key))
    }

    pub(crate) fn create_object(
        &self,
        session: CK_SESSION_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE, Error> {
        let mut template = template.encode();
        let (attributes, count) = template.parts();
        let mut object = 0;
        call!(self, C_CreateObject(session, attributes, count, &raw mut object))?;
        Ok(object)
    }

    pub(crate) fn destroy_object(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
    ) -> Result<(), Error> {
        call!(self, C_DestroyObject(session, object))
    }

    /// Objects that have these attributes, at most `N`.
    pub(crate) fn find<const N: usize>(
        &self,
        session: CK_SESSION_HANDLE,
        template: &Template,
    ) -> Result<Vec<CK_OBJECT_HANDLE>, Error> {
        let mut template = template.encode();
        let (attributes, count) = template.parts();
        call!(self, C_FindObjectsInit(session, attributes, count))?;
        let (mut found, mut number) = ([0; N], 0);
        let room = length(&found);
        let answer = call!(self, C_FindObjects(session, found.as_mut_ptr(), room, &raw mut number));
        // The search is ended in any case: a session has room for one.
        let ended = call!(self, C_FindObjectsFinal(session));
        answer?;
        ended?;
        let number = usize::try_from(number).unwrap_or(N);
        Ok(found.into_iter().take(number).collect())
    }

    /// A key that is the encryption of one block under `base`.
    pub(crate) fn derive_by_encryption(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism,
        base: CK_OBJECT_HANDLE,
        block: &[u8; 16],
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE, Error> {
        let mut template = template.encode();
        let (attributes, count) = template.parts();
        let mut ecb = CK_KEY_DERIVATION_STRING_DATA {
            pData: block.as_ptr().cast_mut(),
            ulLen: length(block),
        };
        let mut cbc = CK_AES_CBC_ENCRYPT_DATA_PARAMS {
            iv: [0; 16],
            pData: block.as_ptr().cast_mut(),
            length: length(block),
        };
        let mut mechanism = match mechanism {
            Mechanism::AesCbcEncryptData => with_parameters(mechanism, &mut cbc),
            _ => with_parameters(Mechanism::AesEcbEncryptData, &mut ecb),
        };
        let mut key = 0;
        call!(
            self,
            C_DeriveKey(session, &raw mut mechanism, base, attributes, count, &raw mut key)
        )?;
        Ok(key)
    }

    /// ECDH without a derivation behind it: a key that is the x coordinate.
    pub(crate) fn derive_by_agreement(
        &self,
        session: CK_SESSION_HANDLE,
        base: CK_OBJECT_HANDLE,
        peer: &[u8],
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE, Error> {
        let mut template = template.encode();
        let (attributes, count) = template.parts();
        let mut parameters = CK_ECDH1_DERIVE_PARAMS {
            kdf: CKD_NULL,
            ulSharedDataLen: 0,
            pSharedData: ptr::null_mut(),
            ulPublicDataLen: length(peer),
            pPublicData: peer.as_ptr().cast_mut(),
        };
        let mut mechanism = with_parameters(Mechanism::Ecdh1Derive, &mut parameters);
        let mut key = 0;
        call!(
            self,
            C_DeriveKey(session, &raw mut mechanism, base, attributes, count, &raw mut key)
        )?;
        Ok(key)
    }

    /// Wraps a key into `out`, and says how many bytes it took.
    pub(crate) fn wrap(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism,
        wrapping: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let (mut mechanism, mut written) = (plain(mechanism), length(out));
        call!(
            self,
            C_WrapKey(
                session,
                &raw mut mechanism,
                wrapping,
                key,
                out.as_mut_ptr(),
                &raw mut written
            )
        )?;
        taken("C_WrapKey", written, out)
    }

    pub(crate) fn unwrap(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism,
        unwrapping: CK_OBJECT_HANDLE,
        wrapped: &[u8],
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE, Error> {
        let (mut mechanism, mut template) = (plain(mechanism), template.encode());
        let (attributes, count) = template.parts();
        let mut key = 0;
        call!(
            self,
            C_UnwrapKey(
                session,
                &raw mut mechanism,
                unwrapping,
                wrapped.as_ptr().cast_mut(),
                length(wrapped),
                attributes,
                count,
                &raw mut key,
            )
        )?;
        Ok(key)
    }

    /// Signs or authenticates into `out`, and says how many bytes it took. Two calls.
    pub(crate) fn sign(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let (mut mechanism, mut written) = (plain(mechanism), length(out));
        call!(self, C_SignInit(session, &raw mut mechanism, key))?;
        call!(
            self,
            C_Sign(
                session,
                data.as_ptr().cast_mut(),
                length(data),
                out.as_mut_ptr(),
                &raw mut written,
            )
        )?;
        taken("C_Sign", written, out)
    }

    /// Encrypts into `out`, and says how many bytes it took. Two calls.
    pub(crate) fn encrypt(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism,
        key: CK_OBJECT_HANDLE,
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let (mut mechanism, mut written) = (plain(mechanism), length(out));
        call!(self, C_EncryptInit(session, &raw mut mechanism, key))?;
        call!(
            self,
            C_Encrypt(
                session,
                data.as_ptr().cast_mut(),
                length(data),
                out.as_mut_ptr(),
                &raw mut written,
            )
        )?;
        taken("C_Encrypt", written, out)
    }

    /// Reads the value of a key into `out`, and says how many bytes it took.
    pub(crate) fn value(
        &self,
        session: CK_SESSION_HANDLE,
        key: CK_OBJECT_HANDLE,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.attribute(session, key, CKA_VALUE, out)
    }

    /// Reads `CKA_TOKEN`, one byte, and says how many bytes it took.
    pub(crate) fn stays(
        &self,
        session: CK_SESSION_HANDLE,
        key: CK_OBJECT_HANDLE,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.attribute(session, key, CKA_TOKEN, out)
    }

    /// Reads `CKA_DESTROYABLE`, one byte, and says how many bytes it took.
    pub(crate) fn is_destroyable(
        &self,
        session: CK_SESSION_HANDLE,
        key: CK_OBJECT_HANDLE,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.attribute(session, key, CKA_DESTROYABLE, out)
    }

    /// Reads `CKA_ALLOWED_MECHANISMS`, numbers as the machine has them, and says how many bytes it took.
    pub(crate) fn allowed_mechanisms(
        &self,
        session: CK_SESSION_HANDLE,
        key: CK_OBJECT_HANDLE,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.attribute(session, key, CKA_ALLOWED_MECHANISMS, out)
    }

    /// Reads the point of a public key into `out`, and says how many bytes it took.
    pub(crate) fn point(
        &self,
        session: CK_SESSION_HANDLE,
        key: CK_OBJECT_HANDLE,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.attribute(session, key, CKA_EC_POINT, out)
    }

    /// Reads the label of an object into `out`, and says how many bytes it took.
    pub(crate) fn label(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.attribute(session, object, CKA_LABEL, out)
    }

    fn attribute(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        attribute: CK_ULONG,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let bytes: *mut CK_BYTE = out.as_mut_ptr();
        let mut attribute =
            CK_ATTRIBUTE { type_: attribute, pValue: bytes.cast(), ulValueLen: length(out) };
        call!(self, C_GetAttributeValue(session, object, &raw mut attribute, 1))?;
        taken("C_GetAttributeValue", attribute.ulValueLen, out)
    }
}

/// A module that says it wrote more than there was room for is not believed.
fn taken(function: &'static str, written: CK_ULONG, out: &[u8]) -> Result<usize, Error> {
    match usize::try_from(written) {
        Ok(written) if written <= out.len() => Ok(written),
        _ => Err(Error::Senseless { function, what: "more bytes than it was given room for" }),
    }
}
