//! Closed sets of stable words: one spelling for the API, the database and the logs.

use alloc::string::String;

/// A word that is not in the set it was read as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{found}\" is not a {kind}: it is one of: {known}")]
pub struct UnknownWord {
    /// What was to be read, such as "token state".
    pub kind: &'static str,
    /// What was found.
    pub found: String,
    /// The words there are, separated by blanks.
    pub known: &'static str,
}

/// An enum whose variants have one stable word each: `as_str`, `FromStr`, `Display` and serde all
/// use it, so that the API, the database and the logs cannot drift apart.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $kind:literal {
        $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl core::str::FromStr for $name {
            type Err = $crate::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err($crate::UnknownWord {
                        kind: $kind,
                        found: alloc::string::String::from(other),
                        known: concat!($($word, " "),+),
                    }),
                }
            }
        }
    };
}
pub(crate) use words;
