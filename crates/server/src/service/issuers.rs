//! Issuers.

use tapfer_emv::certificate::CertificateDate;
use tapfer_hsm::catalogue::{KeyOwner, KeyPurpose};
use tapfer_hsm::{
    IssuerCertificateRequest, IssuerKeys, MAXIMUM_ICC_CERTIFICATE_LIFE_SECONDS,
    MAXIMUM_SINGLE_USE_KEYS,
};
use tapfer_payment_types::{IssuerId, Timestamp};
use tapfer_payments::issuers::{ApplicationIdentifier, Issuer, KeyPolicy, NumberPrefix};
use tapfer_storage::{Page, Slice, StoredResponse};

use crate::api;
use crate::service::answer::{Answered, created};
use crate::service::authorities::{CA_INDEX, DEMO_AID, PLATFORM_RID, rid_of};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

/// A payment up to this needs no verification of the person, unless the issuer says otherwise.
const UNVERIFIED_LIMIT_MINOR: i64 = 2_500;
/// The first version of the verification policy.
const POLICY_VERSION: u32 = 1;
/// How long an issuer certificate lives. Renewing it earlier is the issuer's choice.
const CERTIFICATE_LIFE_SECONDS: i64 = 3_650 * 86_400;
/// Most keys a replenishment: the security module gives 64, and two may be rows of session keys.
const MAXIMUM_KEYS: u8 = 62;

fn answer(issuer: &Issuer) -> StoredResponse {
    created(&api::issuers::Issuer::from(issuer))
}

impl Service {
    /// Makes an issuer with all its keys and its certificate.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn create_issuer(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        request: api::issuers::CreateIssuer,
    ) -> Result<Answered, ServiceError> {
        caller.require_operator()?;
        self.once(caller, repetition, answer, |write| {
            let issuer = self.new_issuer(request, write.now)?;
            Ok(self.storage.create_issuer(issuer, write)?)
        })
    }

    /// Everything is checked before the security module makes keys, because those stay.
    fn new_issuer(
        &self,
        request: api::issuers::CreateIssuer,
        now: Timestamp,
    ) -> Result<Issuer, ServiceError> {
        let aid = request.aid.map_or_else(|| DEMO_AID.to_vec(), |aid| aid.0);
        let mut issuer = Issuer {
            id: IssuerId::new(now, self.random()?),
            name: String::from(request.name),
            country: request.country,
            pan_prefix: request.pan_prefix,
            token_prefix: request.token_prefix,
            currency: request.currency,
            aid: ApplicationIdentifier::new(&aid).map_err(invalid)?,
            unverified_limit_minor: request.unverified_limit.unwrap_or(UNVERIFIED_LIMIT_MINOR),
            policy_version: POLICY_VERSION,
            key_policy: request.key_policy.unwrap_or_default(),
            derivation_key_index: 0,
            certificate: Vec::new(),
            created_at: now,
        };
        issuer.check().map_err(invalid)?;
        check_key_policy(&issuer.key_policy)?;
        self.require_free_ranges(&issuer)?;
        let rid = rid_of(issuer.aid.as_bytes()).unwrap_or(PLATFORM_RID);
        let keys = self.make_keys(|| {
            self.ensure_authority(rid, now)?;
            self.ask_hsm("create_issuer", |hsm| hsm.create_issuer(issuer.id, now))
        })?;
        self.note_new_keys(KeyOwner::Issuer(issuer.id), &KeyPurpose::OF_AN_ISSUER, now)?;
        issuer.derivation_key_index = keys.derivation_key_index;
        issuer.certificate = self.certify(&issuer, &keys, now)?;
        Ok(issuer)
    }

    /// The store decides in the end; asking first spares the security module keys that nobody uses.
    fn require_free_ranges(&self, new: &Issuer) -> Result<(), ServiceError> {
        let ranges = |issuer: &Issuer| {
            let token = Some(issuer.token_prefix.clone());
            [issuer.pan_prefix.clone(), token].into_iter().flatten().collect::<Vec<_>>()
        };
        let own = ranges(new);
        if let [pan, token] = own.as_slice()
            && pan.overlaps(token)
        {
            let detail = "the ranges of cards and tokens overlap; give different prefixes";
            return Err(ServiceError::Invalid(detail.to_owned()));
        }
        let taken: Vec<NumberPrefix> = self.all_issuers()?.iter().flat_map(ranges).collect();
        if own.iter().any(|prefix| taken.iter().any(|other| other.overlaps(prefix))) {
            let detail = "another issuer has a range of numbers that overlaps; give other prefixes";
            return Err(ServiceError::Conflict(detail.to_owned()));
        }
        Ok(())
    }

    pub(super) fn certify(
        &self,
        issuer: &Issuer,
        keys: &IssuerKeys,
        now: Timestamp,
    ) -> Result<Vec<u8>, ServiceError> {
        let rid = rid_of(issuer.aid.as_bytes()).unwrap_or(PLATFORM_RID);
        self.ensure_authority(rid, now)?;
        let request = IssuerCertificateRequest {
            issuer: keys.issuer,
            rid,
            ca_index: CA_INDEX,
            issuer_identifier: issuer_identifier(&issuer.token_prefix),
            expiry: CertificateDate::of(now.plus_seconds(CERTIFICATE_LIFE_SECONDS)),
            serial: self.random()?,
            now,
        };
        let certificate =
            self.ask_hsm("issue_issuer_certificate", |hsm| hsm.issue_issuer_certificate(&request))?;
        Ok(certificate.encode())
    }

    /// One issuer.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn issuer(&self, caller: &Caller, id: IssuerId) -> Result<Issuer, ServiceError> {
        caller.require_issuer(id, "issuer")?;
        self.storage.issuer(id)?.ok_or(ServiceError::NotFound("issuer"))
    }

    /// All issuers, or the caller itself.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn list_issuers(
        &self,
        caller: &Caller,
        page: Page<IssuerId>,
    ) -> Result<Slice<Issuer, IssuerId>, ServiceError> {
        match caller.issuer_scope()? {
            None => Ok(self.storage.list_issuers(page)?),
            Some(own) => Ok(Slice { items: vec![self.issuer(caller, own)?], next: None }),
        }
    }
}

fn invalid(error: impl core::fmt::Display) -> ServiceError {
    ServiceError::Invalid(error.to_string())
}

/// What the security module would refuse at every replenishment is refused when the policy is made.
fn check_key_policy(policy: &KeyPolicy) -> Result<(), ServiceError> {
    let lives = 60..=MAXIMUM_ICC_CERTIFICATE_LIFE_SECONDS;
    let counts = 1..=MAXIMUM_KEYS;
    if lives.contains(&policy.lifetime_seconds)
        && counts.contains(&policy.keys_per_replenishment)
        && (1..=MAXIMUM_SINGLE_USE_KEYS).contains(&policy.verified_payments)
    {
        return Ok(());
    }
    Err(ServiceError::Invalid(format!(
        "a key policy has a lifetime_seconds from {} to {}, keys_per_replenishment from 1 to {} and \
         verified_payments from 1 to {MAXIMUM_SINGLE_USE_KEYS}",
        lives.start(),
        lives.end(),
        counts.end()
    )))
}

/// Digits in four bits each, filled with `F` (Book E chapter 5).
fn issuer_identifier(prefix: &NumberPrefix) -> [u8; 5] {
    let mut digits = prefix.as_str().bytes().map(|digit| digit.wrapping_sub(b'0') & 0x0F);
    core::array::from_fn(|_| {
        let [high, low] = [digits.next().unwrap_or(0x0F), digits.next().unwrap_or(0x0F)];
        high << 4 | low
    })
}

#[cfg(test)]
mod tests {
    use super::issuer_identifier;

    #[test]
    fn the_identifier_is_filled_with_f() {
        assert_eq!(issuer_identifier(&"999912".parse().unwrap()), [0x99, 0x99, 0x12, 0xFF, 0xFF]);
        assert_eq!(issuer_identifier(&"9999123".parse().unwrap()), [0x99, 0x99, 0x12, 0x3F, 0xFF]);
    }
}
