//! Signed configurations on the phone: which is in force for which token, and that none goes back.

use serde::{Deserialize, Serialize};
use tapfer_emv::configuration::{ConfigurationError, KnownConfiguration};
use tapfer_emv::document::DocumentKey;
use tapfer_payment_types::configuration::{
    Audience, Content, PhoneConfiguration, SignedConfiguration,
};
use tapfer_payment_types::{IssuerId, RealmId, Timestamp, TokenId};

use crate::enrolment::AcceptError;
use crate::store::Snapshot;
use crate::token::Token;
use crate::wallet::Wallet;

/// Whose configuration a token obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfiguredBy {
    /// The platform.
    pub realm: RealmId,
    /// The issuer.
    pub issuer: IssuerId,
}

/// The phone knows another key for this issuer already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this phone knows another key of that issuer's platform: if the platform was set up anew, remove its cards and \
     enrol them again"
)]
pub struct OtherKeyKnown;

/// The platform of a card went on from a backup: what it knew of the time in between is lost, and what was revoked
/// then lives again. Nobody does that in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "Your bank's platform says that it was restored from a backup at {at}. It may not know of your latest payments, \
     and what you had blocked shortly before may be open again. If your bank has said nothing of this, call it."
)]
pub struct PlatformRestored {
    /// When, as it says.
    pub at: Timestamp,
}

/// A configuration that was found good, and what the phone remembers of it.
pub(crate) struct Configured {
    pub(crate) by: ConfiguredBy,
    known: KnownConfiguration,
    content: PhoneConfiguration,
}

impl Wallet {
    /// Tells the phone, before its first card of an issuer comes, by which key it knows that issuer's
    /// platform. Without it the first answer is believed, and nobody else from then on.
    ///
    /// # Errors
    /// [`OtherKeyKnown`]; nothing was changed.
    pub fn pin_configuration_key(
        &mut self,
        by: ConfiguredBy,
        key: DocumentKey,
    ) -> Result<(), OtherKeyKnown> {
        match self.known(by) {
            Some(known) if known.key == key => Ok(()),
            Some(_) => Err(OtherKeyKnown),
            None => {
                let audience = Audience::Phones(by.issuer);
                self.remember(KnownConfiguration::pinned(by.realm, audience, key));
                Ok(())
            }
        }
    }

    /// Takes a configuration that came by itself, between two replenishments, for all tokens that obey it.
    ///
    /// # Errors
    /// [`AcceptError::Configuration`], or [`AcceptError::OtherPlatform`] if no card of that issuer is on this
    /// phone; the wallet is unchanged. [`AcceptError::Store`] alone comes after the change.
    pub fn accept_configuration(
        &mut self,
        signed: &SignedConfiguration,
        now: Timestamp,
    ) -> Result<Snapshot, AcceptError> {
        let configured = self.check_configuration(signed, None, now)?;
        if self.known(configured.by).is_none() {
            return Err(AcceptError::OtherPlatform);
        }
        self.configure(configured, now);
        Ok(self.snapshot()?)
    }

    /// Whether the phone knows by which key that platform speaks for that issuer.
    #[must_use]
    pub fn knows_configuration_of(&self, by: ConfiguredBy) -> bool {
        self.known(by).is_some()
    }

    /// What the phone remembers of the configurations it obeys: versions, ends, audit heads.
    #[must_use]
    pub fn configurations(&self) -> &[KnownConfiguration] {
        &self.configurations
    }

    /// What to tell the person: a platform said for the first time that it was restored from a backup. It stays, in
    /// the sealed store too, until [`Self::told_of_restoration`].
    #[must_use]
    pub const fn platform_restored(&self) -> Option<PlatformRestored> {
        self.platform_restored
    }

    /// The person has been told. In the store with the next snapshot.
    pub const fn told_of_restoration(&mut self) {
        self.platform_restored = None;
    }

    /// Checks a configuration for a token, or for whichever tokens obey it.
    pub(crate) fn check_configuration(
        &self,
        signed: &SignedConfiguration,
        token: Option<TokenId>,
        now: Timestamp,
    ) -> Result<Configured, AcceptError> {
        let by = token.and_then(|id| self.token(id)).and_then(|token| token.configured_by);
        let (known, configuration) = match by.and_then(|by| self.known(by)) {
            Some(known) => known.accept(signed, now)?,
            // Whose it is, stands in the document itself; known or not is asked then.
            None => {
                let (first, configuration) = KnownConfiguration::first(signed, now)?;
                match self.find(first.realm, first.audience) {
                    Some(known) => known.accept(signed, now)?,
                    None => (first, configuration),
                }
            }
        };
        let (Audience::Phones(issuer), Content::Phones(content)) =
            (known.audience, configuration.content)
        else {
            return Err(AcceptError::OtherPlatform);
        };
        Ok(Configured { by: ConfiguredBy { realm: known.realm, issuer }, known, content })
    }

    /// Puts a configuration in force for every token that obeys it.
    pub(crate) fn configure(&mut self, configured: Configured, now: Timestamp) {
        let Configured { by, known, content } = configured;
        if let Some(at) = self.known(by).and_then(|before| before.restored_in(&known)) {
            self.platform_restored = Some(PlatformRestored { at });
        }
        self.remember(known);
        let expires_at = known.newest.map(|newest| newest.expires_at);
        for token in self.tokens.iter_mut().filter(|token| token.configured_by == Some(by)) {
            // A login that was due stays due, whatever the new policy asks for.
            let latest = token.clock(now).latest;
            token.history.keep_login_due(&token.policy, latest);
            token.policy = content.policy.clone();
            token.merchant_trust = content.merchant_trust.clone();
            token.configuration_expires_at = expires_at;
        }
    }

    fn known(&self, by: ConfiguredBy) -> Option<&KnownConfiguration> {
        self.find(by.realm, Audience::Phones(by.issuer))
    }

    fn find(&self, realm: RealmId, audience: Audience) -> Option<&KnownConfiguration> {
        let is_it =
            |known: &&KnownConfiguration| (known.realm, known.audience) == (realm, audience);
        self.configurations.iter().find(is_it)
    }

    fn remember(&mut self, known: KnownConfiguration) {
        let others = |other: &KnownConfiguration| {
            (other.realm, other.audience) != (known.realm, known.audience)
        };
        self.configurations.retain(others);
        self.configurations.push(known);
    }
}

impl Configured {
    /// What it says, for a token that is being made.
    pub(crate) const fn content(&self) -> &PhoneConfiguration {
        &self.content
    }
}

impl Token {
    /// Whose configuration this token obeys; `None` in a store from before there were any.
    #[must_use]
    pub const fn configured_by(&self) -> Option<ConfiguredBy> {
        self.configured_by
    }
}

impl From<ConfigurationError> for AcceptError {
    fn from(error: ConfigurationError) -> Self {
        Self::Configuration(error)
    }
}
