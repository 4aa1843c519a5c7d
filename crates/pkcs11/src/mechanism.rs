//! The mechanisms that tapfer asks of a module.

use std::fmt;

use cryptoki_sys::{
    CK_MECHANISM_TYPE, CKM_AES_CBC_ENCRYPT_DATA, CKM_AES_CMAC, CKM_AES_ECB,
    CKM_AES_ECB_ENCRYPT_DATA, CKM_AES_KEY_GEN, CKM_AES_KEY_WRAP, CKM_AES_KEY_WRAP_KWP,
    CKM_AES_KEY_WRAP_PAD, CKM_EC_KEY_PAIR_GEN, CKM_ECDH1_DERIVE, CKM_ECDSA,
    CKM_GENERIC_SECRET_KEY_GEN, CKM_SHA256_HMAC,
};

/// A mechanism, with the parameters it always has here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// Makes AES keys.
    AesKeyGen,
    /// Makes keys of bytes, for HMAC.
    GenericSecretKeyGen,
    /// Makes key pairs on a curve.
    EcKeyPairGen,
    /// One block of AES.
    AesEcb,
    /// AES-CMAC (RFC 4493).
    AesCmac,
    /// HMAC with SHA-256.
    Sha256Hmac,
    /// ECDSA over a digest.
    Ecdsa,
    /// ECDH.
    Ecdh1Derive,
    /// A key that is the encryption of a block.
    AesEcbEncryptData,
    /// The same in CBC mode: with one block and an initialisation vector of zeros equal to ECB.
    AesCbcEncryptData,
    /// AES key wrap (RFC 3394).
    AesKeyWrap,
    /// AES key wrap with padding. PKCS#11 2.40 leaves open which: RFC 5649 in some modules, PKCS#7 and
    /// RFC 3394 in others.
    AesKeyWrapPad,
    /// AES key wrap with padding (RFC 5649), by the name that PKCS#11 3.0 gave it.
    AesKeyWrapKwp,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::AesKeyGen,
        Self::GenericSecretKeyGen,
        Self::EcKeyPairGen,
        Self::AesEcb,
        Self::AesCmac,
        Self::Sha256Hmac,
        Self::Ecdsa,
        Self::Ecdh1Derive,
        Self::AesEcbEncryptData,
        Self::AesCbcEncryptData,
        Self::AesKeyWrap,
        Self::AesKeyWrapPad,
        Self::AesKeyWrapKwp,
    ];

    pub(crate) const fn number(self) -> CK_MECHANISM_TYPE {
        match self {
            Self::AesKeyGen => CKM_AES_KEY_GEN,
            Self::GenericSecretKeyGen => CKM_GENERIC_SECRET_KEY_GEN,
            Self::EcKeyPairGen => CKM_EC_KEY_PAIR_GEN,
            Self::AesEcb => CKM_AES_ECB,
            Self::AesCmac => CKM_AES_CMAC,
            Self::Sha256Hmac => CKM_SHA256_HMAC,
            Self::Ecdsa => CKM_ECDSA,
            Self::Ecdh1Derive => CKM_ECDH1_DERIVE,
            Self::AesEcbEncryptData => CKM_AES_ECB_ENCRYPT_DATA,
            Self::AesCbcEncryptData => CKM_AES_CBC_ENCRYPT_DATA,
            Self::AesKeyWrap => CKM_AES_KEY_WRAP,
            Self::AesKeyWrapPad => CKM_AES_KEY_WRAP_PAD,
            Self::AesKeyWrapKwp => CKM_AES_KEY_WRAP_KWP,
        }
    }

    /// Its name in PKCS#11.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesKeyGen => "CKM_AES_KEY_GEN",
            Self::GenericSecretKeyGen => "CKM_GENERIC_SECRET_KEY_GEN",
            Self::EcKeyPairGen => "CKM_EC_KEY_PAIR_GEN",
            Self::AesEcb => "CKM_AES_ECB",
            Self::AesCmac => "CKM_AES_CMAC",
            Self::Sha256Hmac => "CKM_SHA256_HMAC",
            Self::Ecdsa => "CKM_ECDSA",
            Self::Ecdh1Derive => "CKM_ECDH1_DERIVE",
            Self::AesEcbEncryptData => "CKM_AES_ECB_ENCRYPT_DATA",
            Self::AesCbcEncryptData => "CKM_AES_CBC_ENCRYPT_DATA",
            Self::AesKeyWrap => "CKM_AES_KEY_WRAP",
            Self::AesKeyWrapPad => "CKM_AES_KEY_WRAP_PAD",
            Self::AesKeyWrapKwp => "CKM_AES_KEY_WRAP_KWP",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
