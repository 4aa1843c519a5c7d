//! What a key is to be: the attributes that it is made, found or unwrapped with.

use std::ffi::c_void;
use std::marker::PhantomData;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_BBOOL, CK_FALSE, CK_TRUE, CK_ULONG, CKA_ALLOWED_MECHANISMS,
    CKA_CLASS, CKA_COPYABLE, CKA_DECRYPT, CKA_DERIVE, CKA_DESTROYABLE, CKA_EC_PARAMS, CKA_ENCRYPT,
    CKA_EXTRACTABLE, CKA_ID, CKA_KEY_TYPE, CKA_LABEL, CKA_MODIFIABLE, CKA_PRIVATE, CKA_SENSITIVE,
    CKA_SIGN, CKA_TOKEN, CKA_UNWRAP, CKA_UNWRAP_TEMPLATE, CKA_VALUE, CKA_VALUE_LEN, CKA_WRAP,
    CKK_AES, CKK_EC, CKK_GENERIC_SECRET, CKO_PRIVATE_KEY, CKO_PUBLIC_KEY, CKO_SECRET_KEY,
};
use tapfer_payment_types::Secret;

use crate::Mechanism;

/// What kind of key an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// An AES key.
    Aes,
    /// Bytes, for HMAC or to be read out.
    GenericSecret,
    /// The private side on P-256.
    EcPrivate,
    /// The public side on P-256.
    EcPublic,
}

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// Signatures and message authentication codes.
    Sign,
    /// Deriving other keys.
    Derive,
    /// Wrapping other keys.
    Wrap,
    /// Unwrapping other keys.
    Unwrap,
    /// Encryption of data.
    Encrypt,
    /// Decryption of data.
    Decrypt,
}

/// `secp256r1` as an object identifier in DER, as `CKA_EC_PARAMS` wants it.
const P256: [u8; 10] = [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];

enum Value {
    Flag(CK_BBOOL),
    Number(CK_ULONG),
    Bytes(Secret<Vec<u8>>),
    Numbers(Vec<CK_ULONG>),
    Template(Template),
}

/// Attributes of a key, put together call by call. Values are wiped with it.
///
/// Without a word about it a key is a session object.
#[derive(Default)]
pub struct Template {
    attributes: Vec<(CK_ATTRIBUTE_TYPE, Value)>,
}

impl Template {
    /// A key of this type.
    #[must_use]
    pub fn key(key_type: KeyType) -> Self {
        let (class, kind) = match key_type {
            KeyType::Aes => (CKO_SECRET_KEY, CKK_AES),
            KeyType::GenericSecret => (CKO_SECRET_KEY, CKK_GENERIC_SECRET),
            KeyType::EcPrivate => (CKO_PRIVATE_KEY, CKK_EC),
            KeyType::EcPublic => (CKO_PUBLIC_KEY, CKK_EC),
        };
        Self::default()
            .with(CKA_CLASS, Value::Number(class))
            .with(CKA_KEY_TYPE, Value::Number(kind))
    }

    fn with(mut self, attribute: CK_ATTRIBUTE_TYPE, value: Value) -> Self {
        self.attributes.push((attribute, value));
        self
    }

    fn flag(self, attribute: CK_ATTRIBUTE_TYPE, value: bool) -> Self {
        self.with(attribute, Value::Flag(if value { CK_TRUE } else { CK_FALSE }))
    }

    fn bytes(self, attribute: CK_ATTRIBUTE_TYPE, value: &[u8]) -> Self {
        self.with(attribute, Value::Bytes(Secret::new(value.to_vec())))
    }

    /// Ends with its session, or stays on the token. Other processes do not see a session object anyway,
    /// so it is not kept encrypted inside as private objects are.
    #[must_use]
    pub fn stays(self, stays: bool) -> Self {
        self.flag(CKA_TOKEN, stays).flag(CKA_PRIVATE, stays)
    }

    /// Ends with its session; nothing is said of a login.
    #[must_use]
    pub fn ends_with_session(self) -> Self {
        self.flag(CKA_TOKEN, false)
    }

    /// Stays on the token, and is found after a login only, if there is one.
    #[must_use]
    pub fn stays_behind_login(self, needs_login: bool) -> Self {
        self.flag(CKA_TOKEN, true).flag(CKA_PRIVATE, needs_login)
    }

    /// Whether the value can be read or wrapped. What cannot be is sensitive as well.
    #[must_use]
    pub fn extractable(self, extractable: bool) -> Self {
        self.flag(CKA_SENSITIVE, !extractable).flag(CKA_EXTRACTABLE, extractable)
    }

    /// Whether the value can be wrapped, though not be read.
    #[must_use]
    pub fn wrappable(self) -> Self {
        self.flag(CKA_SENSITIVE, true).flag(CKA_EXTRACTABLE, true)
    }

    /// Nobody changes its attributes later, nor makes a copy with others.
    #[must_use]
    pub fn for_good(self) -> Self {
        self.flag(CKA_MODIFIABLE, false).flag(CKA_COPYABLE, false)
    }

    /// Nobody takes it off the token with `C_DestroyObject` (`CKA_DESTROYABLE`); it goes with the token. Not every
    /// module knows the attribute.
    #[must_use]
    pub fn indestructible(self) -> Self {
        self.flag(CKA_DESTROYABLE, false)
    }

    /// Its label.
    #[must_use]
    pub fn label(self, label: &str) -> Self {
        self.bytes(CKA_LABEL, label.as_bytes())
    }

    /// Its `CKA_ID`.
    #[must_use]
    pub fn id(self, id: &[u8]) -> Self {
        self.bytes(CKA_ID, id)
    }

    /// Length of the value in bytes.
    #[must_use]
    pub fn length(self, length: u16) -> Self {
        self.with(CKA_VALUE_LEN, Value::Number(length.into()))
    }

    /// The value: bytes of a secret key, scalar of a private one.
    #[must_use]
    pub fn value(self, value: &[u8]) -> Self {
        self.bytes(CKA_VALUE, value)
    }

    /// On the curve P-256.
    #[must_use]
    pub fn p256(self) -> Self {
        self.bytes(CKA_EC_PARAMS, &P256)
    }

    /// May be used so, and for nothing else of what [`Use`] lists.
    #[must_use]
    pub fn only_for(self, uses: &[Use]) -> Self {
        [
            (Use::Sign, CKA_SIGN),
            (Use::Derive, CKA_DERIVE),
            (Use::Wrap, CKA_WRAP),
            (Use::Unwrap, CKA_UNWRAP),
            (Use::Encrypt, CKA_ENCRYPT),
            (Use::Decrypt, CKA_DECRYPT),
        ]
        .into_iter()
        .fold(self, |template, (use_, attribute)| template.flag(attribute, uses.contains(&use_)))
    }

    /// The same for a private key, which knows signing and deriving only.
    #[must_use]
    pub fn private_key_for(self, use_: Use) -> Self {
        self.flag(CKA_SIGN, use_ == Use::Sign).flag(CKA_DERIVE, use_ == Use::Derive)
    }

    /// May be used by these mechanisms only (`CKA_ALLOWED_MECHANISMS`). Not every module honours it.
    #[must_use]
    pub fn only_by(self, mechanisms: &[Mechanism]) -> Self {
        let numbers = mechanisms.iter().map(|mechanism| mechanism.number()).collect();
        self.with(CKA_ALLOWED_MECHANISMS, Value::Numbers(numbers))
    }

    /// Whatever this key unwraps gets these attributes, whoever unwraps it (`CKA_UNWRAP_TEMPLATE`). Not
    /// every module honours it.
    #[must_use]
    pub fn unwraps_into(self, template: Self) -> Self {
        self.with(CKA_UNWRAP_TEMPLATE, Value::Template(template))
    }

    /// As the module wants it: pointers into this template.
    pub(crate) fn encode(&self) -> Encoded<'_> {
        let mut encoded =
            Encoded { attributes: Vec::new(), nested: Vec::new(), template: PhantomData };
        for (attribute, value) in &self.attributes {
            let (pointer, length): (*const c_void, usize) = match value {
                Value::Flag(flag) => (std::ptr::from_ref(flag).cast(), size_of::<CK_BBOOL>()),
                Value::Number(number) => (std::ptr::from_ref(number).cast(), size_of::<CK_ULONG>()),
                Value::Bytes(bytes) => (bytes.expose().as_ptr().cast(), bytes.expose().len()),
                Value::Numbers(list) => (list.as_ptr().cast(), size_of_val(list.as_slice())),
                Value::Template(inner) => {
                    // One level deep: what is inside a template has no template of its own here.
                    let inner = inner.encode().attributes;
                    let place = (inner.as_ptr().cast(), size_of_val(inner.as_slice()));
                    // Moving the vector leaves the place of its elements as it is.
                    encoded.nested.push(inner);
                    place
                }
            };
            encoded.attributes.push(CK_ATTRIBUTE {
                type_: *attribute,
                pValue: pointer.cast_mut(),
                ulValueLen: CK_ULONG::try_from(length).unwrap_or(CK_ULONG::MAX),
            });
        }
        encoded
    }
}

/// A template in the module's form. It borrows the template it points into.
pub(crate) struct Encoded<'a> {
    attributes: Vec<CK_ATTRIBUTE>,
    /// Holds what a nested template points to.
    nested: Vec<Vec<CK_ATTRIBUTE>>,
    template: PhantomData<&'a Template>,
}

impl Encoded<'_> {
    /// What a function takes: where the attributes are, and how many.
    pub(crate) fn parts(&mut self) -> (*mut CK_ATTRIBUTE, CK_ULONG) {
        let count = CK_ULONG::try_from(self.attributes.len()).unwrap_or(CK_ULONG::MAX);
        (self.attributes.as_mut_ptr(), count)
    }
}
