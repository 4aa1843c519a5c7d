//! The wallet: several tokens, one of them the default, and the device's key for provisioning.

use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use tapfer_emv::configuration::KnownConfiguration;
use tapfer_emv::curve::PrivateKey;
use tapfer_payment_types::TokenId;

use crate::configuration::PlatformRestored;
use crate::data_storage::DataEnvelopes;
use crate::enrolment::PendingKey;
use crate::secret_bytes::private_key;
use crate::store::{Snapshot, StoreError};
use crate::token::Token;

/// Everything the phone keeps. It is durable only as far as its last [`Snapshot`] is.
///
/// Serialized it shows its keys in clear. That is the inside of a snapshot, which is sealed before it
/// leaves memory; nothing else should serialize a wallet.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wallet {
    pub(crate) generation: u64,
    #[serde(with = "private_key")]
    pub(crate) device_key: PrivateKey,
    pub(crate) default_token: Option<TokenId>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) pending_keys: Vec<PendingKey>,
    /// Empty in a store that was written before there were any: then the next answer is believed.
    #[serde(default)]
    pub(crate) configurations: Vec<KnownConfiguration>,
    /// What the person has not been told yet.
    #[serde(default)]
    pub(crate) platform_restored: Option<PlatformRestored>,
    /// Where earlier stores have the time of the last tap, which each token now keeps for itself.
    #[serde(default, skip_serializing, rename = "latest")]
    _earlier_latest: IgnoredAny,
}

/// No such token in the wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is not in this wallet: enrol it first")]
pub struct UnknownToken;

impl Wallet {
    /// An empty wallet with a new device key.
    #[must_use]
    pub fn new(rng: &mut impl CryptoRng) -> Self {
        Self {
            generation: 0,
            device_key: PrivateKey::generate(rng),
            default_token: None,
            tokens: Vec::new(),
            pending_keys: Vec::new(),
            configurations: Vec::new(),
            platform_restored: None,
            _earlier_latest: IgnoredAny,
        }
    }

    /// The device's public key that the platform seals payloads to: an uncompressed P-256 point
    /// (65 bytes), as `POST /v1/devices` takes it.
    #[must_use]
    pub fn device_public_key(&self) -> [u8; 65] {
        let mut uncompressed = [0x04; 65];
        let (_, coordinates) = uncompressed.split_at_mut(1);
        coordinates.copy_from_slice(&self.device_key.public_point());
        uncompressed
    }

    /// The tokens, in the order a terminal is offered them: the default first.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        let is_default = |token: &&Token| Some(token.id) == self.default_token;
        let default = self.tokens.iter().filter(is_default);
        default.chain(self.tokens.iter().filter(move |token| !is_default(token)))
    }

    /// Finds a token.
    #[must_use]
    pub fn token(&self, id: TokenId) -> Option<&Token> {
        self.tokens.iter().find(|token| token.id == id)
    }

    pub(crate) fn token_mut(&mut self, id: TokenId) -> Option<&mut Token> {
        self.tokens.iter_mut().find(|token| token.id == id)
    }

    /// The token that a terminal is offered first: the first enrolled, until another is chosen.
    #[must_use]
    pub const fn default_token(&self) -> Option<TokenId> {
        self.default_token
    }

    /// Chooses the token that a terminal is offered first.
    ///
    /// # Errors
    /// [`UnknownToken`] if the wallet does not hold it.
    pub fn set_default_token(&mut self, id: TokenId) -> Result<(), UnknownToken> {
        self.token(id).ok_or(UnknownToken)?;
        self.default_token = Some(id);
        Ok(())
    }

    /// Forgets a token and wipes its keys. The issuer should delete the token as well: what was
    /// forgotten here can't be enrolled again with its old counter.
    ///
    /// # Errors
    /// [`UnknownToken`] if the wallet does not hold it.
    pub fn remove_token(&mut self, id: TokenId) -> Result<(), UnknownToken> {
        self.token(id).ok_or(UnknownToken)?;
        self.tokens.retain(|token| token.id != id);
        self.pending_keys.retain(|pending| pending.token != id);
        if self.default_token == Some(id) {
            self.default_token = self.tokens.first().map(Token::id);
        }
        Ok(())
    }

    /// Empties all data envelopes of a token: what terminals have stored there is the person's to keep or
    /// to throw away.
    ///
    /// # Errors
    /// [`UnknownToken`] if the wallet does not hold it.
    pub fn erase_data_envelopes(&mut self, id: TokenId) -> Result<(), UnknownToken> {
        self.token_mut(id).ok_or(UnknownToken)?.data_envelopes = DataEnvelopes::default();
        Ok(())
    }

    /// Number of the last snapshot.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Writes the wallet down, under the next generation number.
    ///
    /// # Errors
    /// [`StoreError::Sealing`] if it can't be written; nothing that depends on it may then happen.
    pub fn snapshot(&mut self) -> Result<Snapshot, StoreError> {
        self.generation = self.generation.checked_add(1).ok_or(StoreError::Sealing)?;
        Snapshot::of(self)
    }
}
