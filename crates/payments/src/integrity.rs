//! Device integrity: what was found out about a phone, and what an issuer makes of it.
//!
//! Evidence is verified elsewhere (`tapfer_integrity`, or the issuer's own service for evidence that only
//! its maker can read); here it is one [`Standing`], with the time it was found. The phone's own checks
//! for a changed system or a foreign hand in the app travel in every cryptogram
//! ([`tapfer_emv::own_checks::OwnChecks`]): a phone that suspects itself is believed.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tapfer_emv::own_checks::OwnChecks;
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::messages::HexBytes;

use crate::words::words;

const SHA_256_LENGTH: usize = 32;

words! {
    /// How a phone stands, from worst to best.
    Standing, "device standing" {
        /// Evidence was genuine and spoke against the phone.
        Failed = "failed",
        /// Nothing is known, or what was known is too old.
        Unknown = "unknown",
        /// The operating system vouches for itself.
        Software = "software",
        /// The phone's trusted execution environment vouches for key and system.
        TrustedEnvironment = "trusted_environment",
        /// A security chip of its own does.
        StrongBox = "strongbox",
    }
}

/// What was found, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How the phone stands.
    pub standing: Standing,
    /// Since when.
    pub found_at: Timestamp,
}

/// Who found out how a phone stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The phone attested, with its hardware or without.
    Attestation,
    /// The issuer's own service says so.
    IssuersWord,
}

impl Verdict {
    /// What holds when this is found of a phone of which `known` was found before. A failure is lifted by the
    /// issuer's word or by hardware, not by what the operating system says of itself: that speaks well of a
    /// changed phone, too.
    #[must_use]
    pub fn replacing(self, known: Option<Self>, evidence: Evidence) -> Self {
        match known {
            Some(known)
                if known.standing == Standing::Failed
                    && evidence == Evidence::Attestation
                    && self.standing <= Standing::Software =>
            {
                known
            }
            _ => self,
        }
    }
}

/// What follows for a phone that does not stand well enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Consequence {
    /// Nothing.
    Allow,
    /// It pays up to this amount only, minor units of the issuer's currency.
    LowerLimit(i64),
    /// It pays nothing and gets no keys.
    Refuse,
}

/// What an issuer asks of phones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntegrityPolicy {
    /// A phone that stands like this or better pays as it likes.
    pub least: Standing,
    /// What follows for one that stands worse, but has not failed.
    pub below: Consequence,
    /// What follows for one that has failed, or suspects itself.
    pub failed: Consequence,
    /// For how long a verdict counts, seconds.
    pub maximum_age_seconds: i64,
    /// Whose Key Attestation is believed and about what.
    #[serde(default)]
    pub key_attestation: AttestationTerms,
}

/// What a Key Attestation has to say to count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestationTerms {
    /// Roots that are trusted: `SubjectPublicKeyInfo`, DER. None: no attestation is accepted.
    pub roots: Vec<HexBytes>,
    /// Serial numbers that their makers revoked, hexadecimal digits.
    #[serde(default)]
    pub revoked_serials: Vec<String>,
    /// Package name of the app. Whoever trusts a root names it: any other app on any other phone would attest
    /// whatever it is asked to.
    #[serde(default)]
    pub package: String,
    /// SHA-256 of the certificates the app may be signed with, 32 bytes each; as needed as the package, whose
    /// name anyone can take.
    #[serde(default)]
    pub signature_digests: Vec<HexBytes>,
    /// Security patches at least of this year and month, YYYYMM; any if 0.
    #[serde(default)]
    pub oldest_patch_level: u32,
}

/// What speaks against a policy or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntegrityError {
    /// The policy makes no sense.
    #[error(
        "an integrity policy needs a positive maximum_age_seconds, limits of zero or more, at least \
         the standing `software` to count as good, and a consequence for failure no milder than for \
         less"
    )]
    Policy,
    /// Roots without an app.
    #[error(
        "an integrity policy that trusts roots names the app: key_attestation.package, and \
         signature_digests, SHA-256 of each certificate it may be signed with (32 bytes)"
    )]
    App,
    /// The challenge was answered before, has expired, or was never asked.
    #[error(
        "there is no open challenge of this value for the device: ask for a new one and attest again"
    )]
    Challenge,
}

impl IntegrityPolicy {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// [`IntegrityError::Policy`], [`IntegrityError::App`].
    pub fn check(&self) -> Result<(), IntegrityError> {
        let sane = self.maximum_age_seconds > 0
            && self.least >= Standing::Software
            && [self.below, self.failed]
                .iter()
                .all(|one| one.limit().is_none_or(|minor| minor >= 0))
            && self.failed.strictness() >= self.below.strictness();
        if sane { self.key_attestation.check() } else { Err(IntegrityError::Policy) }
    }

    /// What follows for a phone with this verdict, from its issuer's or the platform's checks, and
    /// these findings of its own.
    #[must_use]
    pub fn judge(&self, verdict: Option<Verdict>, own: OwnChecks, now: Timestamp) -> Consequence {
        let standing =
            if own.suspects_anything() { Standing::Failed } else { self.standing(verdict, now) };
        match standing {
            Standing::Failed => self.failed,
            good if good >= self.least => Consequence::Allow,
            _ => self.below,
        }
    }

    /// A failure counts until something lifts it ([`Verdict::replacing`]); the rest grows old.
    fn standing(&self, verdict: Option<Verdict>, now: Timestamp) -> Standing {
        match verdict {
            Some(Verdict { standing: Standing::Failed, .. }) => Standing::Failed,
            Some(Verdict { standing, found_at })
                if now <= found_at.plus_seconds(self.maximum_age_seconds) =>
            {
                standing
            }
            _ => Standing::Unknown,
        }
    }
}

impl AttestationTerms {
    /// Whether an attestation can be told from one that another app made. Without roots there is none.
    ///
    /// # Errors
    /// [`IntegrityError::App`].
    pub fn check(&self) -> Result<(), IntegrityError> {
        let names_app = !self.package.is_empty()
            && !self.signature_digests.is_empty()
            && self.signature_digests.iter().all(|digest| digest.0.len() == SHA_256_LENGTH);
        if self.roots.is_empty() || names_app { Ok(()) } else { Err(IntegrityError::App) }
    }
}

impl Consequence {
    /// Whether a payment of this amount, minor units of the issuer's currency, is let through.
    #[must_use]
    pub fn allows(self, amount_minor: i64) -> bool {
        match self {
            Self::Allow => true,
            Self::LowerLimit(limit) => amount_minor <= limit,
            Self::Refuse => false,
        }
    }

    const fn limit(self) -> Option<i64> {
        match self {
            Self::LowerLimit(limit) => Some(limit),
            Self::Allow | Self::Refuse => None,
        }
    }

    /// Allow, then limits from high to low, then refusal.
    const fn strictness(self) -> (u8, i64) {
        match self {
            Self::Allow => (0, 0),
            Self::LowerLimit(limit) => (1, limit.saturating_neg()),
            Self::Refuse => (2, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        AttestationTerms, Consequence, Evidence, IntegrityError, IntegrityPolicy, Standing, Verdict,
    };
    use tapfer_emv::own_checks::OwnChecks;
    use tapfer_payment_types::Timestamp;
    use tapfer_payment_types::messages::HexBytes;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);

    fn policy() -> IntegrityPolicy {
        IntegrityPolicy {
            least: Standing::TrustedEnvironment,
            below: Consequence::LowerLimit(1_000),
            failed: Consequence::Refuse,
            maximum_age_seconds: 3_600,
            key_attestation: AttestationTerms::default(),
        }
    }

    /// Columns: standing, age in seconds, the phone's own checks, what follows.
    const TABLE: &str = "
        strongbox            10    clean    allow
        trusted_environment  10    none     allow
        trusted_environment  3600  clean    allow
        trusted_environment  3601  clean    lower
        software             10    clean    lower
        unknown              10    clean    lower
        failed               10    clean    refuse
        failed               9999  clean    refuse
        strongbox            10    root     refuse
        strongbox            10    hook     refuse
        strongbox            10    emulator refuse
        none                 0     clean    lower
        none                 0     root     refuse
    ";

    #[test]
    fn the_table_of_verdicts() {
        let rows: Vec<Vec<&str>> = TABLE
            .lines()
            .map(|line| line.split_whitespace().collect())
            .filter(|row: &Vec<&str>| !row.is_empty())
            .collect();
        assert_eq!(rows.len(), 13);
        for row in rows {
            let age: i64 = row[1].parse().unwrap();
            let verdict = (row[0] != "none").then(|| Verdict {
                standing: row[0].parse().unwrap(),
                found_at: NOW.plus_seconds(-age),
            });
            let own = match row[2] {
                "none" => OwnChecks::NOT_RUN,
                "clean" => OwnChecks::CLEAN,
                "root" => OwnChecks::CLEAN.with_changed_system(),
                "hook" => OwnChecks::CLEAN.with_foreign_code(),
                "emulator" => OwnChecks::CLEAN.with_emulator(),
                other => panic!("{other}"),
            };
            let expected = match row[3] {
                "allow" => Consequence::Allow,
                "lower" => Consequence::LowerLimit(1_000),
                _ => Consequence::Refuse,
            };
            assert_eq!(policy().judge(verdict, own, NOW), expected, "{row:?}");
        }
    }

    /// Columns: known before, found now, by whom, what holds.
    const SUCCESSION: &str = "
        none                 software            attestation  software
        failed               software            attestation  failed
        failed               unknown             attestation  failed
        failed               failed              attestation  failed
        failed               trusted_environment attestation  trusted_environment
        failed               strongbox           attestation  strongbox
        failed               software            issuer       software
        failed               unknown             issuer       unknown
        strongbox            software            attestation  software
        strongbox            failed              attestation  failed
        trusted_environment  failed              issuer       failed
    ";

    #[test]
    fn what_lifts_a_failure() {
        let before = NOW.plus_seconds(-60);
        let verdict = |word: &str, found_at| Verdict { standing: word.parse().unwrap(), found_at };
        for row in SUCCESSION.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<&str> = row.split_whitespace().collect();
            let known = (words[0] != "none").then(|| verdict(words[0], before));
            let evidence = match words[2] {
                "attestation" => Evidence::Attestation,
                _ => Evidence::IssuersWord,
            };
            let held = verdict(words[1], NOW).replacing(known, evidence);
            assert_eq!(held.standing.as_str(), words[3], "{row}");
        }
    }

    #[test]
    fn policies_that_make_no_sense_are_refused() {
        assert!(policy().check().is_ok());
        let breaks: [fn(&mut IntegrityPolicy); 5] = [
            |policy| policy.maximum_age_seconds = 0,
            |policy| policy.least = Standing::Unknown,
            |policy| policy.below = Consequence::LowerLimit(-1),
            |policy| policy.failed = Consequence::Allow,
            |policy| policy.failed = Consequence::LowerLimit(2_000),
        ];
        for broken in breaks {
            let mut policy = policy();
            broken(&mut policy);
            assert!(policy.check().is_err(), "{policy:?}");
        }
    }

    #[test]
    fn who_trusts_a_root_names_the_app() {
        let digest = |length| HexBytes(vec![0xD1; length]);
        let terms = |roots: usize, package: &str, digests: &[HexBytes]| AttestationTerms {
            roots: vec![digest(91); roots],
            package: package.into(),
            signature_digests: digests.to_vec(),
            ..AttestationTerms::default()
        };
        assert_eq!(terms(0, "", &[]).check(), Ok(()));
        assert_eq!(terms(1, "org.example.wallet", &[digest(32)]).check(), Ok(()));
        for terms in [
            terms(1, "", &[]),
            terms(1, "org.example.wallet", &[]),
            terms(1, "", &[digest(32)]),
            terms(1, "org.example.wallet", &[digest(32), digest(20)]),
        ] {
            assert_eq!(terms.check(), Err(IntegrityError::App));
            let policy = IntegrityPolicy { key_attestation: terms, ..policy() };
            assert_eq!(policy.check(), Err(IntegrityError::App));
        }
    }

    #[test]
    fn a_lower_limit_is_a_limit() {
        assert!(Consequence::LowerLimit(1_000).allows(1_000));
        assert!(!Consequence::LowerLimit(1_000).allows(1_001));
        assert!(Consequence::Allow.allows(i64::MAX) && !Consequence::Refuse.allows(0));
    }
}
