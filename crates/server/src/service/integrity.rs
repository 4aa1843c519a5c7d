//! Device integrity: questions to phones, their answers, and what follows.

use tapfer_integrity::key_attestation::{
    self, KeyAttestation, KeyDescription, RevokedCertificates, SecurityLevel, Trust,
    VerifiedBootState,
};
use tapfer_payment_types::messages::{HexBytes, attestation_challenge};
use tapfer_payment_types::{DeviceId, IssuerId};
use tapfer_payments::devices::Device;
use tapfer_payments::integrity::{
    AttestationTerms, IntegrityError, IntegrityPolicy, Standing, Verdict,
};
use tapfer_storage::{Challenge, Refusal, StorageError, StoredResponse};

use crate::api;
use crate::service::answer::{Answered, created, done};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

/// A phone answers a question within this, seconds.
const CHALLENGE_LIFE_SECONDS: i64 = 600;

fn policy_set(policy: &IntegrityPolicy) -> StoredResponse {
    done(policy)
}

fn asked(challenge: &Challenge) -> StoredResponse {
    created(&api::integrity::Challenge {
        challenge: HexBytes(challenge.challenge.to_vec()),
        expires_at: challenge.expires_at,
    })
}

fn judged(verdict: &Verdict) -> StoredResponse {
    created(&api::integrity::Verdict::from(verdict))
}

impl Service {
    /// Sets what an issuer asks of phones.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn set_integrity_policy(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: IssuerId,
        policy: IntegrityPolicy,
    ) -> Result<Answered, ServiceError> {
        let issuer = self.issuer(caller, id)?.id;
        policy.check().map_err(|error| ServiceError::Invalid(error.to_string()))?;
        self.once(caller, repetition, policy_set, |write| {
            Ok(self.storage.set_integrity_policy(issuer, policy, write)?)
        })
    }

    /// What an issuer asks of phones.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] if it asks nothing.
    pub(crate) fn integrity_policy(
        &self,
        caller: &Caller,
        id: IssuerId,
    ) -> Result<IntegrityPolicy, ServiceError> {
        let issuer = self.issuer(caller, id)?.id;
        let policy = self.storage.integrity_policy(issuer)?;
        policy.ok_or(ServiceError::NotFound("integrity policy"))
    }

    /// Asks a phone to attest.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn challenge_device(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: DeviceId,
    ) -> Result<Answered, ServiceError> {
        let device = self.device(caller, id)?.id;
        self.once(caller, repetition, asked, |write| {
            let expires_at = write.now.plus_seconds(CHALLENGE_LIFE_SECONDS);
            let challenge = Challenge { challenge: self.random()?, expires_at };
            Ok(self.storage.challenge_device(device, challenge, write)?)
        })
    }

    /// Takes a phone's Key Attestation, which covers the question and the phone's own public key. One that is not
    /// genuine changes nothing: the phone stands as it stood, and the question stays open until its time is
    /// over.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`] if the chain is not genuine; [`ServiceError`].
    pub(crate) fn attest(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: DeviceId,
        request: &api::integrity::CreateAttestation,
    ) -> Result<Answered, ServiceError> {
        let device = self.device(caller, id)?;
        self.once(caller, repetition, judged, |write| {
            let answered = self.answered(&device, &request.challenge)?;
            let policy = self.storage.integrity_policy(device.issuer)?;
            let terms = policy.map(|policy| policy.key_attestation).unwrap_or_default();
            let chain: Vec<Vec<u8>> = request.chain.iter().map(|one| one.0.clone()).collect();
            let trust = trust(&terms)?;
            let covered = attestation_challenge(&answered, device.public_key.as_bytes());
            let attested = key_attestation::verify(&chain, &covered, &trust, write.now)
                .map_err(|error| refused(caller, &device, error.to_string()))?;
            let (standing, reason) = standing(&attested, &terms);
            let verdict = Verdict { standing, found_at: write.now };
            let reason = format!("key attestation: {reason}");
            Ok(self.storage.record_verdict(device.id, verdict, Some(answered), reason, write)?)
        })
    }

    /// Takes what the issuer's own service found out.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn set_verdict(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: DeviceId,
        request: api::integrity::CreateVerdict,
    ) -> Result<Answered, ServiceError> {
        caller.issuer_scope()?;
        let device = self.device(caller, id)?.id;
        self.once(caller, repetition, judged, |write| {
            let verdict = Verdict { standing: request.standing, found_at: write.now };
            let reason = String::from(request.reason);
            Ok(self.storage.record_verdict(device, verdict, None, reason, write)?)
        })
    }

    /// How a phone stands.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] if nothing was found out yet.
    pub(crate) fn verdict(&self, caller: &Caller, id: DeviceId) -> Result<Verdict, ServiceError> {
        let device = self.device(caller, id)?.id;
        let verdict = self.storage.device_verdict(device)?;
        verdict.ok_or(ServiceError::NotFound("integrity verdict"))
    }

    /// The question that is open, if it is the one that was answered. The store asks again when the
    /// verdict is written down.
    fn answered(&self, device: &Device, challenge: &HexBytes) -> Result<[u8; 32], ServiceError> {
        let open = self.storage.open_challenge(device.id)?;
        let open = open.filter(|open| self.now() <= open.expires_at);
        match open {
            Some(open) if open.challenge.as_slice() == challenge.0 => Ok(open.challenge),
            _ => Err(StorageError::from(Refusal::from(IntegrityError::Challenge)).into()),
        }
    }
}

/// Evidence that is not genuine is a security event.
fn refused(caller: &Caller, device: &Device, error: String) -> ServiceError {
    tracing::warn!(
        target: "tapfer::security",
        event = "attestation_refused",
        caller = %caller.key,
        device = %device.id,
        request_id = caller.request_id,
        reason = error,
        "a key attestation was refused"
    );
    ServiceError::Invalid(error)
}

fn trust(terms: &AttestationTerms) -> Result<Trust, ServiceError> {
    if terms.roots.is_empty() {
        let detail = "the issuer accepts no key attestation: its integrity policy names no roots";
        return Err(ServiceError::Conflict(detail.to_owned()));
    }
    // A policy from before apps had to be named.
    terms.check().map_err(|error| ServiceError::Conflict(error.to_string()))?;
    let roots = terms.roots.iter().map(|root| root.0.clone()).collect();
    let revoked = RevokedCertificates::from_serials(&terms.revoked_serials);
    Ok(Trust { roots, revoked })
}

/// How a phone stands that says this about itself. Everything that speaks against it is a failure. How it was
/// started, how old its system is and where the key was made only hardware can say; which app asked, any system.
fn standing(attested: &KeyAttestation, terms: &AttestationTerms) -> (Standing, &'static str) {
    let description = &attested.description;
    let level = description.attestation_security_level.min(description.key_security_level);
    let by_hardware = match level {
        SecurityLevel::Software => None,
        _ => hardware_objection(description, terms),
    };
    if let Some(objection) = by_hardware.or_else(|| app_objection(description, terms)) {
        return (Standing::Failed, objection);
    }
    match level {
        SecurityLevel::Software => (Standing::Software, "made by the operating system"),
        SecurityLevel::StrongBox => (Standing::StrongBox, "made by a security chip"),
        _ => (Standing::TrustedEnvironment, "made by the trusted execution environment"),
    }
}

fn hardware_objection(
    description: &KeyDescription,
    terms: &AttestationTerms,
) -> Option<&'static str> {
    let Some(root_of_trust) = &description.root_of_trust else {
        return Some("the hardware does not say how the phone was started");
    };
    let patched = description.os_patch_level.unwrap_or(0) >= terms.oldest_patch_level;
    first_that_fails(&[
        (root_of_trust.device_locked, "the boot loader is unlocked"),
        (
            root_of_trust.verified_boot == VerifiedBootState::Verified,
            "the phone was not started from its maker's system",
        ),
        (description.generated_inside, "the key was not made inside the hardware"),
        (patched, "the system's security patches are too old"),
    ])
}

fn app_objection(description: &KeyDescription, terms: &AttestationTerms) -> Option<&'static str> {
    let app = description.application.clone().unwrap_or_default();
    let is_ours = app.packages == [terms.package.as_str()];
    let is_own = |digest: &Vec<u8>| terms.signature_digests.iter().any(|ours| ours.0 == *digest);
    let is_signed = !app.signature_digests.is_empty() && app.signature_digests.iter().all(is_own);
    first_that_fails(&[
        (is_ours, "another app had the key made"),
        (is_signed, "the app is signed by somebody else"),
    ])
}

fn first_that_fails(checks: &[(bool, &'static str)]) -> Option<&'static str> {
    checks.iter().find(|(holds, _)| !holds).map(|(_, objection)| *objection)
}
