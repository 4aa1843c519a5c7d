//! What is recorded about every change and every view of card data: who did what to which object,
//! when, from where, and with what result.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use tapfer_emv::audit_chain::{self, AuditHash};
use tapfer_payment_types::{ApiKeyId, Timestamp};

use crate::access::Role;
use crate::words::words;

words! {
    /// What was done. The words are stable: reports and alarms are built on them.
    AuditAction, "audit action" {
        /// An issuer was set up.
        IssuerCreated = "issuer.created",
        /// An issuer set a version of its verification policy.
        IssuerPolicySet = "issuer.policy_set",
        /// An issuer's certificate was taken out of use.
        IssuerCertificateRevoked = "issuer.certificate_revoked",
        /// An issuer makes cards' keys and certificates under newer keys of its own from here on.
        IssuerKeysRenewed = "issuer.keys_renewed",
        /// A card was put into the vault.
        CardCreated = "card.created",
        /// A card was blocked.
        CardBlocked = "card.blocked",
        /// A card was unblocked.
        CardUnblocked = "card.unblocked",
        /// A card was closed for good, or what came onto a closed one was paid out.
        CardClosed = "card.closed",
        /// Money was loaded onto a card.
        CardToppedUp = "card.topped_up",
        /// A card was looked up by its number.
        CardLookedUp = "card.looked_up",
        /// A card's PIN for terminals was set.
        CardPinSet = "card.pin_set",
        /// A phone was registered.
        DeviceCreated = "device.created",
        /// A phone was asked to attest.
        DeviceChallenged = "device.challenged",
        /// Something was found out about a phone.
        DeviceJudged = "device.judged",
        /// An issuer said what it asks of phones.
        IntegrityPolicySet = "issuer.integrity_policy_set",
        /// A phone's store is kept closed from now on.
        DeviceLocked = "device.locked",
        /// A phone may open its store again.
        DeviceUnlocked = "device.unlocked",
        /// A phone was given the share that opens its store, or was not.
        StoreShareGiven = "device.store_share_given",
        /// A phone was given the share of its store's next epoch, or was not.
        StoreShareRotated = "device.store_share_rotated",
        /// A phone came with a store that is older than one that was seen.
        StoreRolledBack = "device.store_rolled_back",
        /// A card was tokenized for a phone.
        TokenCreated = "token.created",
        /// A token was activated.
        TokenActivated = "token.activated",
        /// A token was suspended.
        TokenSuspended = "token.suspended",
        /// A suspension was lifted.
        TokenUnsuspended = "token.unsuspended",
        /// A token was deleted for good.
        TokenDeleted = "token.deleted",
        /// Fresh keys were given to a phone.
        TokenReplenished = "token.replenished",
        /// A phone set or changed its PIN.
        TokenPinSet = "token.pin_set",
        /// A phone wanted another PIN and did not know the old one.
        TokenPinRefused = "token.pin_refused",
        /// An issuer lets a phone choose a new PIN without the old one.
        TokenPinReset = "token.pin_reset_granted",
        /// A person logged in at the issuer.
        TokenLoginRecorded = "token.login_recorded",
        /// A card number was shown in clear.
        TokenDetokenized = "token.detokenized",
        /// A merchant was set up.
        MerchantCreated = "merchant.created",
        /// A terminal was set up.
        TerminalCreated = "terminal.created",
        /// A terminal got a certificate.
        TerminalCertified = "terminal.certified",
        /// A terminal was ended for good.
        TerminalRevoked = "terminal.revoked",
        /// A terminal or a phone got a TLS certificate.
        ClientCertified = "client.certified",
        /// An API key was made.
        ApiKeyCreated = "api_key.created",
        /// An API key was taken back.
        ApiKeyRevoked = "api_key.revoked",
        /// A merchant asked for a payment.
        IntentCreated = "payment_intent.created",
        /// A terminal was armed for a payment.
        IntentArmed = "payment_intent.armed",
        /// An intent was handed over to another partition, or came from one.
        IntentMoved = "payment_intent.moved",
        /// A payment intent was given up.
        IntentCanceled = "payment_intent.canceled",
        /// Held money was captured.
        IntentCaptured = "payment_intent.captured",
        /// A payment was decided.
        AuthorizationDecided = "authorization.decided",
        /// An authorization was undone.
        AuthorizationReversed = "authorization.reversed",
        /// Money was given back.
        RefundCreated = "refund.created",
        /// A signed configuration was published.
        ConfigurationPublished = "configuration.published",
        /// An API key that nobody had signed was signed, by whoever starts the platform.
        ApiKeyAccepted = "api_key.accepted",
        /// The key that signs configurations was followed by another; in older logs, newer ones have
        /// [`AuditAction::KeyRotated`] alone.
        ConfigurationKeySucceeded = "configuration.key_succeeded",
        /// The platform goes on from a backup; its devices are told.
        PlatformRestored = "platform.restored",
        /// What is kept of what has ended is kept for another time from here on.
        RetentionSet = "retention.set",
        /// What has ended and was past its limit was erased.
        DataErased = "data.erased",
        /// A key was made in the security module.
        KeyCreated = "key.created",
        /// A key was followed by its next generation.
        KeyRotated = "key.rotated",
        /// A key makes nothing new any more.
        KeyRetired = "key.retired",
        /// A key was destroyed.
        KeyDestroyed = "key.destroyed",
        /// A key left the security module, wrapped.
        KeyExported = "key.exported",
        /// A key came into the security module, wrapped.
        KeyImported = "key.imported",
        /// Custodians brought their parts together.
        KeyCeremonyHeld = "key.ceremony_held",
        /// A member of the pool of security modules stopped serving.
        HsmMemberDown = "hsm.member_down",
        /// A member of the pool serves again.
        HsmMemberUp = "hsm.member_up",
    }
}

words! {
    /// How it ended.
    AuditResult, "audit result" {
        /// It was done.
        Succeeded = "succeeded",
        /// A rule or a right forbade it.
        Refused = "refused",
    }
}

/// Who asks, and from where. Comes with every change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The API key, unless the platform itself acts (set-up from the command line).
    pub api_key: Option<ApiKeyId>,
    /// In which role.
    pub role: Role,
    /// From where: the peer's address, or `local`.
    pub origin: String,
    /// `x-request-id` of the request.
    pub request_id: String,
}

/// One line of the audit log. Holds no card number, token number or key: ids and words only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// When.
    pub at: Timestamp,
    /// Who, from where.
    pub caller: Caller,
    /// What.
    pub action: AuditAction,
    /// To which object: its id.
    pub object: String,
    /// How it ended.
    pub result: AuditResult,
    /// Reason or outcome in a few words, as the caller gave it.
    pub detail: Option<String>,
}

impl Caller {
    /// The platform itself, from its own machine: its command line, its keys, its chores.
    #[must_use]
    pub fn platform() -> Self {
        let (origin, request_id) = (String::from("local"), String::new());
        Self { api_key: None, role: Role::Operator, origin, request_id }
    }
}

impl AuditEvent {
    /// What the platform itself did or saw, such as a key that was rotated.
    #[must_use]
    pub fn of_platform(
        action: AuditAction,
        object: String,
        detail: Option<String>,
        at: Timestamp,
    ) -> Self {
        let result = AuditResult::Succeeded;
        Self { at, caller: Caller::platform(), action, object, result, detail }
    }

    /// The event as one row of bytes, in which no two different events are the same: time as 8 bytes, then
    /// each text behind its length as 4 bytes, `FF FF FF FF` for none.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let api_key = self.caller.api_key.map(|key| key.to_string());
        let texts = [
            api_key.as_deref(),
            Some(self.caller.role.as_str()),
            Some(&self.caller.origin),
            Some(&self.caller.request_id),
            Some(self.action.as_str()),
            Some(&self.object),
            Some(self.result.as_str()),
            self.detail.as_deref(),
        ];
        encode(self.at.unix_millis(), texts)
    }

    /// What goes into the chain.
    #[must_use]
    pub fn hash(&self) -> AuditHash {
        audit_chain::event(&self.encode())
    }
}

/// As [`AuditEvent::encode`].
fn encode(at: i64, texts: [Option<&str>; 8]) -> Vec<u8> {
    let mut out = Vec::from(at.to_be_bytes());
    for text in texts {
        let length = text.map_or(u32::MAX, |text| u32::try_from(text.len()).unwrap_or(u32::MAX));
        out.extend(length.to_be_bytes());
        out.extend_from_slice(text.unwrap_or_default().as_bytes());
    }
    out
}

/// The hash of a line as it is kept, whether or not it is an event that is known here: time in milliseconds, then API key, role, origin,
/// id of the request, action, object, result and detail.
#[must_use]
pub fn hash_of_line(at: i64, texts: [Option<&str>; 8]) -> AuditHash {
    audit_chain::event(&encode(at, texts))
}
