//! Replenishing a phone: its profile, a certificate that lives hours, and fresh limited-use keys, sealed
//! to the device.
//!
//! The keys are written down before they leave the house: a key that the platform does not know is worth
//! nothing. Nobody between security module and phone sees one.

use tapfer_emv::certificate::CertificateDate;
use tapfer_emv::curve::PublicX;
use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_emv::own_checks::OwnChecks;
use tapfer_emv::profile::{CardProfile, Personalisation};
use tapfer_hsm::{
    IccCertificateRequest, LimitedUseKeyTerms, PersonKeyInUse, ProvisioningRequest,
    SealedPersonKey, SingleUseKeyTerms,
};
use tapfer_payment_types::configuration::Audience;
use tapfer_payment_types::messages::{HexBytes, PinStatus, ReplenishRequest, SealedPayload};
use tapfer_payment_types::policy::VerificationPolicy;
use tapfer_payment_types::{Timestamp, TokenId, TokenPan};
use tapfer_payments::cards::Card;
use tapfer_payments::devices::Device;
use tapfer_payments::integrity::Consequence;
use tapfer_payments::issuers::Issuer;
use tapfer_payments::keys::{self, GrantedKey};
use tapfer_payments::pins;
use tapfer_payments::store_shares::may_be_served;
use tapfer_payments::tokens::Token;
use tapfer_storage::{Refusal, StorageError, TokenPerson};

use crate::service::answer::{Answered, done};
use crate::service::authorities::CA_INDEX;
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

/// Two replenishments of one token at the same moment: the slower one takes later counters.
const ATTEMPTS: usize = 8;
/// Key numbers of so many hours before this one may still be given out.
const HOURS_OF_INDICES: i64 = 24;
/// No replenishment has more keys and rows of them, so no more indices are looked for.
const INDICES_AT_ONCE: usize = 64;
/// Longest application label `50` (Book 1, 12.2.3).
const LABEL_LENGTH: usize = 16;

/// Everything about the token that is to be replenished.
struct Subject {
    token: Token,
    card: Card,
    issuer: Issuer,
    device: Device,
    policy: VerificationPolicy,
    person: TokenPerson,
    /// Highest counter that was heard before the person's history was read: what comes in between is counted
    /// twice on the phone, which asks sooner then, and never not at all.
    heard: Option<u16>,
}

impl Subject {
    /// Number of the person's key in force, if there is one.
    fn generation(&self) -> Option<u32> {
        self.person.key.as_ref().map(|key| key.state.generation)
    }

    fn pin_status(&self) -> PinStatus {
        pins::status(self.person.key.as_ref().map(|key| key.state), &self.policy.pin)
    }

    /// Whether session keys under the person's key are worth anything.
    fn pin_is_usable(&self) -> bool {
        let status = self.pin_status();
        status.generation > 0 && !status.blocked
    }
}

impl Service {
    /// Gives a phone its profile and fresh keys.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn replenish(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: TokenId,
        request: &ReplenishRequest,
    ) -> Result<Answered, ServiceError> {
        let token = self.token(caller, id)?;
        let icc_key = icc_key(&request.icc_public_key)?;
        self.once_with_secret(repetition, || {
            // Before the policy is read: keys are not to look younger than a policy that came meanwhile, for
            // the one that they are given with would then not be good for them.
            let now = self.now();
            let mut subject = self.subject(token)?;
            self.require_may_pay(caller, &subject, request)?;
            let mut attempts = ATTEMPTS;
            loop {
                let counter = request.application_transaction_counter;
                let keys = self.next_keys(&subject, counter, now)?;
                let payload = self.seal_payload(&subject, &icc_key, &keys, now)?;
                let clear = done(&payload);
                let write = self.sealed_write(caller, repetition, &clear)?;
                attempts = attempts.saturating_sub(1);
                match self.storage.grant_keys(id, subject.generation(), keys, write) {
                    Err(StorageError::Refused(Refusal::Exists(_))) if attempts > 0 => {}
                    // The PIN was changed meanwhile: seal again, under the new key.
                    Err(StorageError::Conflict) if attempts > 0 => {
                        subject.person = self.storage.token_person(id)?;
                    }
                    result => return Ok((clear, result?)),
                }
            }
        })
    }

    fn subject(&self, token: Token) -> Result<Subject, ServiceError> {
        let card = self.storage.card(token.card)?.ok_or(ServiceError::Damaged("a token's card"))?;
        let issuer = self.storage.issuer(token.issuer)?;
        let device = self.storage.device(token.device)?;
        let policy = self.storage.policy(token.issuer)?;
        let heard = self.storage.highest_counter(token.id)?;
        let person = self.storage.token_person(token.id)?;
        Ok(Subject {
            policy: policy.ok_or(ServiceError::Damaged("a policy"))?.policy,
            person,
            heard,
            card: card.card,
            issuer: issuer.ok_or(ServiceError::Damaged("a token's issuer"))?,
            device: device.ok_or(ServiceError::Damaged("a token's device"))?,
            token,
        })
    }

    /// Keys only for what may pay, or will once it is activated.
    fn require_may_pay(
        &self,
        caller: &Caller,
        subject: &Subject,
        request: &ReplenishRequest,
    ) -> Result<(), ServiceError> {
        let conflict = |detail: String| Err(ServiceError::Conflict(detail));
        may_be_served(subject.device.lock.as_ref()).map_err(StorageError::from)?;
        subject.token.state.may_get_keys().map_err(StorageError::from)?;
        subject.card.status.may_get_keys().map_err(StorageError::from)?;
        if subject.card.expiry.is_past(self.now()) {
            return conflict("the card has expired; its tokens get no keys".to_owned());
        }
        if self.is_refused(subject)? {
            return conflict(
                "the phone is not what its issuer asks of phones; it gets no keys. Attest again"
                    .to_owned(),
            );
        }
        let seen = self.storage.highest_counter(subject.token.id)?.unwrap_or(0);
        if request.application_transaction_counter < seen {
            // A copy of the phone's store, older than the phone: restored, or stolen.
            let why = format!("the transaction counter of {} is behind", subject.token.id);
            return Err(self.rolled_back(caller, subject.device.id, &why)?);
        }
        Ok(())
    }

    /// Whether the issuer lets this phone pay nothing at all.
    fn is_refused(&self, subject: &Subject) -> Result<bool, ServiceError> {
        let Some(policy) = self.storage.integrity_policy(subject.issuer.id)? else {
            return Ok(false);
        };
        let verdict = self.storage.device_verdict(subject.device.id)?;
        Ok(policy.judge(verdict, OwnChecks::NOT_RUN, self.now()) == Consequence::Refuse)
    }

    /// Keys for the phone. Rows of session keys begin behind the phone's counter, which is not behind any that
    /// was seen. The store asks the same rule again whether there may be new keys.
    fn next_keys(
        &self,
        subject: &Subject,
        counter: u16,
        now: Timestamp,
    ) -> Result<Vec<GrantedKey>, ServiceError> {
        let issuer = &subject.issuer;
        let policy = &issuer.key_policy;
        let granted = self.storage.keys_that_count(subject.token.id, policy, now)?;
        keys::replace(&granted, policy, now).map_err(StorageError::from)?;
        let mut free = self.free_indices(subject.token.id, now)?;
        let first = counter.checked_add(1);
        let mut keys = Vec::new();
        if let Some(first) = first.filter(|_| subject.pin_is_usable()) {
            let index = free.for_a_row();
            keys.extend(index.map(|index| GrantedKey::verified(index, issuer, first, now)));
        }
        if policy.single_use {
            let row = first.zip(free.for_a_row());
            keys.extend(
                row.map(|(first, index)| GrantedKey::single_use(index, issuer, first, now)),
            );
        } else {
            let count = usize::from(policy.keys_per_replenishment);
            let indices = free.indices.iter().take(count);
            keys.extend(indices.map(|index| GrantedKey::new(*index, issuer, now)));
        }
        if !keys.iter().any(|key| key.class == KeyClass::Unverified) {
            if !free.indices.is_empty() {
                let detail = "the platform was restored from a backup in this hour and does not know which \
                              key numbers of the hour it has given out; the keys the phone has stay good. \
                              Ask again in the next hour";
                return Err(ServiceError::Conflict(detail.to_owned()));
            }
            let detail = "this token has had 2,500 keys within a day, as many as there are numbers \
                          for; the keys it has stay good. Ask again in an hour";
            return Err(ServiceError::Conflict(detail.to_owned()));
        }
        Ok(keys)
    }

    /// Indices YHHHHCC for a replenishment, of which the token has had none, in no class: those of this hour,
    /// and what is left of the hours before. How much a phone may pay is for [`keys::replace`] to say; a
    /// person who sets a PIN, or tries something out, does not wait for the next hour. The store refuses an
    /// index that is taken after all.
    fn free_indices(&self, token: TokenId, now: Timestamp) -> Result<FreeIndices, ServiceError> {
        let restored = self.storage.last_restoration()?.map(hour_of);
        let mut free = FreeIndices { indices: Vec::new(), certain: 0 };
        for hours in 0..=HOURS_OF_INDICES {
            let hour = now.plus_seconds(hours.saturating_mul(-3_600));
            let indices: Vec<_> =
                (0..=99).map(|number| index_at(hour, number)).collect::<Result<_, _>>()?;
            let taken =
                self.storage.key_indices(token, index_at(hour, 0)?..=index_at(hour, 99)?)?;
            free.indices.extend(indices.into_iter().filter(|index| !taken.contains(index)));
            if restored.is_none_or(|restored| hour_of(hour) > restored) {
                free.certain = free.indices.len();
            }
            if free.indices.len() >= INDICES_AT_ONCE {
                break;
            }
        }
        Ok(free)
    }

    fn seal_payload(
        &self,
        subject: &Subject,
        icc_key: &PublicX,
        keys: &[GrantedKey],
        now: Timestamp,
    ) -> Result<SealedPayload, ServiceError> {
        let token_pan = self.token_number(subject)?;
        let profile = personalise(subject, &token_pan)?;
        let certificate = self.ask_hsm("sign_icc_certificate", |hsm| {
            hsm.sign_icc_certificate(&IccCertificateRequest {
                issuer: subject.issuer.id,
                public_key: *icc_key,
                sda_hash: profile.sda_hash(),
                serial: self.random().map_err(|_| tapfer_hsm::HsmError::Randomness)?,
                expires_at: now.plus_seconds(subject.issuer.key_policy.lifetime_seconds),
                now,
            })
        })?;
        let limited: Vec<_> = keys.iter().filter_map(limited_terms).collect();
        let rows = |class| {
            keys.iter().filter(move |key| key.class == class).filter_map(row_terms).collect()
        };
        let (single_use, verified): (Vec<_>, Vec<_>) =
            (rows(KeyClass::Unverified), rows(KeyClass::Verified));
        let stored_key =
            subject.person.key.as_ref().map(|key| SealedPersonKey(key.key_sealed.clone()));
        let person_key = subject
            .generation()
            .zip(stored_key.as_ref())
            .map(|(generation, key)| PersonKeyInUse { generation, key });
        let recipient = subject.device.public_key.as_bytes();
        let recipient =
            recipient.try_into().map_err(|_| ServiceError::Damaged("a device's key"))?;
        let configuration = self.current_configuration(Audience::Phones(subject.issuer.id), now)?;
        self.ask_hsm("seal_provisioning", |hsm| {
            hsm.seal_provisioning(ProvisioningRequest {
                issuer: subject.issuer.id,
                derivation_key_index: subject.issuer.derivation_key_index,
                token: subject.token.id,
                token_pan: &token_pan,
                sequence: subject.token.sequence_number,
                recipient,
                profile: (&profile).into(),
                icc_certificate: HexBytes(certificate.encode()),
                limited_use_keys: &limited,
                single_use_keys: &single_use,
                verified_keys: &verified,
                person_key,
                pin: Some(subject.pin_status()),
                since_verified: Some(subject.person.history.since),
                last_verified: subject.person.history.last,
                counter_heard: Some(subject.heard.unwrap_or(0)),
                logged_in_at: subject.person.logged_in_at,
                payments_since_login: Some(subject.person.history.since_login),
                configuration: configuration.clone(),
            })
        })
    }

    fn token_number(&self, subject: &Subject) -> Result<TokenPan, ServiceError> {
        let token = &subject.token;
        let sealed = self.storage.sealed_token_number(token.id)?;
        let sealed = sealed.ok_or(ServiceError::Damaged("a token"))?;
        self.open_token_number(token.issuer, token.id, sealed)
    }
}

/// Key numbers that a token has not had, newest hour first.
struct FreeIndices {
    indices: Vec<KeyIndex>,
    /// So many of them, in front, are of hours in which nothing was forgotten: a platform that was restored
    /// does not know what it had given out in the hours up to then.
    certain: usize,
}

impl FreeIndices {
    /// For a row of session keys: two of one number would be sealed under two person's keys, and phones refuse
    /// them. A limited-use key that is given twice is the same key, with the limits that the phone knows.
    fn for_a_row(&mut self) -> Option<KeyIndex> {
        self.certain = self.certain.checked_sub(1)?;
        (!self.indices.is_empty()).then(|| self.indices.remove(0))
    }
}

/// Full hours since 1970.
const fn hour_of(at: Timestamp) -> i64 {
    at.unix_millis().div_euclid(3_600_000)
}

fn icc_key(bytes: &HexBytes) -> Result<PublicX, ServiceError> {
    let array = bytes.0.as_slice().try_into().ok();
    array.and_then(|bytes| PublicX::from_bytes(bytes).ok()).ok_or_else(|| {
        let detail = "icc_public_key is not the x coordinate of a point on P-256, 32 bytes";
        ServiceError::Invalid(detail.to_owned())
    })
}

fn index_at(now: Timestamp, counter: u8) -> Result<KeyIndex, ServiceError> {
    KeyIndex::at(now, counter).map_err(|_| ServiceError::Damaged("the hour of the year"))
}

fn personalise(subject: &Subject, token_pan: &TokenPan) -> Result<CardProfile, ServiceError> {
    let expiry = subject.card.expiry;
    let label = label(&subject.issuer.name);
    Ok(CardProfile::personalise(&Personalisation {
        aid: subject.issuer.aid.as_bytes(),
        label: &label,
        token_pan: token_pan.expose(),
        sequence: subject.token.sequence_number.value(),
        expiry: CertificateDate {
            year: expiry.year(),
            month: expiry.month(),
            day: expiry.last_day(),
        },
        issuer_country: subject.issuer.country.numeric(),
        ca_index: CA_INDEX,
        issuer_certificate: &subject.issuer.certificate,
    })?)
}

/// What a terminal can show of an issuer's name: sixteen printable ASCII characters.
fn label(name: &str) -> String {
    let printable = |c: char| c.is_ascii_graphic() || c == ' ';
    let text: String = name.chars().filter(|&c| printable(c)).take(LABEL_LENGTH).collect();
    let text = text.trim();
    if text.is_empty() { "tapfer".to_owned() } else { text.to_owned() }
}

fn limited_terms(key: &GrantedKey) -> Option<LimitedUseKeyTerms> {
    key.counters.is_none().then_some(LimitedUseKeyTerms {
        key_index: key.index,
        expires_at: key.expires_at,
        maximum_payments: key.maximum_payments,
        maximum_total_minor: key.maximum_total_minor,
    })
}

fn row_terms(key: &GrantedKey) -> Option<SingleUseKeyTerms> {
    key.counters.map(|counters| SingleUseKeyTerms {
        key_index: key.index,
        expires_at: key.expires_at,
        first_counter: counters.first,
        count: counters.count,
    })
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn labels_are_printable_and_short() {
        assert_eq!(label("Studierendenwerk Mü"), "Studierendenwerk");
        assert_eq!(label("Café"), "Caf");
        assert_eq!(label("ÄÖÜ"), "tapfer");
    }
}
