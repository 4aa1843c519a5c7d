//! Key bytes that are stored: wiped on drop, hexadecimal digits in the snapshot, never printed.

use alloc::boxed::Box;
use core::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use tapfer_payment_types::Secret;
use zeroize::Zeroizing;

/// The longest secret is a P-256 scalar: 32 bytes, 64 digits.
const MAXIMUM_DIGITS: usize = 64;

/// A secret of `N` bytes, at most 32. It stays where it is until it is wiped: a list that grows, or closes
/// the gap of what was used, moves what it holds and leaves copies behind that nobody wipes.
pub(crate) struct SecretBytes<const N: usize>(Box<Secret<[u8; N]>>);

impl<const N: usize> SecretBytes<N> {
    pub(crate) fn new(bytes: [u8; N]) -> Self {
        Self(Box::new(Secret::new(bytes)))
    }

    pub(crate) fn expose(&self) -> &[u8; N] {
        self.0.expose()
    }
}

impl<const N: usize> Serialize for SecretBytes<N> {
    /// The digits pass over the stack only, and are wiped there.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = Zeroizing::new([0_u8; MAXIMUM_DIGITS]);
        let digits = buffer
            .get_mut(..HEXLOWER.encode_len(N))
            .ok_or_else(|| ser::Error::custom("a stored secret has at most 32 bytes"))?;
        HEXLOWER.encode_mut(self.expose(), digits);
        let text = core::str::from_utf8(digits).map_err(ser::Error::custom)?;
        serializer.serialize_str(text)
    }
}

impl<'de, const N: usize> Deserialize<'de> for SecretBytes<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits<const N: usize>;

        impl<const N: usize> de::Visitor<'_> for Digits<N> {
            type Value = SecretBytes<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{N} bytes as hexadecimal digits")
            }

            /// The error never repeats the text: it may be most of a key.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let malformed = || E::custom("a stored secret is malformed");
                if text.len() != HEXLOWER.encode_len(N) {
                    return Err(malformed());
                }
                let mut bytes = Box::new(Secret::new([0_u8; N]));
                HEXLOWER
                    .decode_mut(text.as_bytes(), bytes.expose_mut())
                    .map_err(|_| malformed())?;
                Ok(SecretBytes(bytes))
            }
        }

        deserializer.deserialize_str(Digits)
    }
}

/// For `#[serde(with)]`: a P-256 private key, stored as its scalar.
pub(crate) mod private_key {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use tapfer_emv::curve::PrivateKey;

    use super::SecretBytes;

    pub(crate) fn serialize<S: Serializer>(key: &PrivateKey, out: S) -> Result<S::Ok, S::Error> {
        SecretBytes::new(*key.to_bytes().expose()).serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<PrivateKey, D::Error> {
        let scalar = SecretBytes::<32>::deserialize(input)?;
        PrivateKey::from_bytes(scalar.expose()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::SecretBytes;

    #[test]
    fn digits_round_trip_and_errors_keep_quiet() {
        let secret: SecretBytes<2> = serde_json::from_str("\"00ff\"").unwrap();
        assert_eq!(secret.expose(), &[0x00, 0xFF]);
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"00ff\"");
        for text in ["\"\"", "\"00f\"", "\"00f\u{e9}\"", "\"00fg\"", "\"00ff00\"", "7"] {
            let error = serde_json::from_str::<SecretBytes<2>>(text).err().unwrap();
            assert!(!error.to_string().contains("00f"), "{error}");
        }
    }
}
