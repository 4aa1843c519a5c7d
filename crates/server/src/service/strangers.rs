//! Issuers in the database that the security module does not know. They are passed over, and the module is not asked about the same
//! ones with each request: who could add rows to the database once would have all its calls.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tapfer_payment_types::{CatalogueMark, IssuerId};

/// So many unknown issuers are named.
const MOST_NAMED: usize = 100;
/// So many are remembered, a few megabytes: the module is asked about those beyond each time.
const MOST_REMEMBERED: usize = 65_536;

/// Unknown issuers, until the catalogue of keys changes.
#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// The catalogue under which they are unknown.
    catalogue: Option<CatalogueMark>,
    unknown: BTreeSet<IssuerId>,
    /// Each is named once in the log, as far as there is room.
    named: BTreeSet<IssuerId>,
}

/// The catalogue under which the security module is asked about an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AskedUnder(Option<CatalogueMark>);

impl Strangers {
    /// `None` for an issuer that the security module did not know, and whose keys cannot have come since.
    pub(super) fn may_be_known(&self, issuer: IssuerId) -> Option<AskedUnder> {
        let seen = self.seen();
        (!seen.unknown.contains(&issuer)).then_some(AskedUnder(seen.catalogue))
    }

    /// The security module does not know an issuer. If the catalogue has changed while it was asked, it is asked again the next time.
    pub(super) fn note(&self, issuer: IssuerId, asked: AskedUnder) {
        let mut seen = self.seen();
        if seen.catalogue == asked.0 && seen.unknown.len() < MOST_REMEMBERED {
            seen.unknown.insert(issuer);
        }
        if seen.named.len() < MOST_NAMED && seen.named.insert(issuer) {
            tracing::error!(
                target: "tapfer::security", event = "issuer_passed_over", %issuer,
                "the security module has no keys of an issuer that is in the database, and nobody is told of it: find out who added it \
                 (docs/disaster-recovery.md, rows that stop a platform)"
            );
        }
    }

    /// Every module has followed this catalogue. Another one may have keys of those that were unknown.
    pub(super) fn follow(&self, newest: CatalogueMark) {
        let mut seen = self.seen();
        if seen.catalogue != Some(newest) {
            seen.catalogue = Some(newest);
            seen.unknown.clear();
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tapfer_hsm::Unlock;
    use tapfer_payment_types::{CatalogueMark, IssuerId, Timestamp};
    use tapfer_payments::audit;
    use tapfer_payments::issuers::{ApplicationIdentifier, CountryCode, Issuer, KeyPolicy};
    use tapfer_storage::{Answer, StoredResponse, Write};
    use tempfile::TempDir;

    use super::{MOST_REMEMBERED, Strangers};
    use crate::client_certificate::ClientCertificates;
    use crate::clock::SystemClock;
    use crate::entropy::SystemEntropy;
    use crate::in_process::{HsmFault, HsmFaults};
    use crate::realm::{Realm, RealmKind};
    use crate::service::{ApiKeysTaken, Service};

    #[derive(Default)]
    struct Calls(AtomicUsize);

    impl HsmFaults for Calls {
        fn before_call(&self) -> HsmFault {
            self.0.fetch_add(1, Ordering::SeqCst);
            HsmFault::None
        }

        fn behind_call(&self) -> HsmFault {
            HsmFault::None
        }
    }

    fn now() -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000)
    }

    fn service(calls: &Arc<Calls>) -> (TempDir, Service) {
        let home = tempfile::tempdir().unwrap();
        let unlock = Unlock::key_from_hex(&"42".repeat(32)).unwrap();
        let realm = Realm::create(home.path(), RealmKind::Demo, &unlock, now()).unwrap();
        let service = Service::new(
            realm,
            Arc::new(SystemClock),
            Arc::new(SystemEntropy),
            ApiKeysTaken::Signed,
            ClientCertificates::default(),
        );
        let faults: Arc<dyn HsmFaults> = Arc::<Calls>::clone(calls);
        (home, service.unwrap().with_hsm_faults(faults))
    }

    /// The row of an issuer, and no keys.
    fn add(service: &Service, number: u8) -> IssuerId {
        let issuer = Issuer {
            id: IssuerId::new(now(), [number; 10]),
            name: "somebody".to_owned(),
            country: CountryCode::new(276).unwrap(),
            pan_prefix: None,
            token_prefix: format!("9{number:05}").parse().unwrap(),
            currency: "EUR".parse().unwrap(),
            aid: ApplicationIdentifier::new(&[0xF0, 1, 2, 3, 4, 5]).unwrap(),
            unverified_limit_minor: 2_500,
            policy_version: 1,
            key_policy: KeyPolicy::default(),
            derivation_key_index: 1,
            certificate: vec![1],
            created_at: now(),
        };
        let id = issuer.id;
        let answer = Answer::Known(StoredResponse { status: 200, body: Vec::new() });
        let write = Write { caller: audit::Caller::platform(), claim: None, answer, now: now() };
        service.storage().create_issuer(issuer, write).unwrap();
        id
    }

    /// Who is told, and how many calls of the security module that took.
    fn told(service: &Service, calls: &Calls) -> (Vec<IssuerId>, usize) {
        calls.0.store(0, Ordering::SeqCst);
        let trust = service.trust_of(None, now()).unwrap();
        let issuers = trust.issuers.iter().map(|issuer| issuer.id).collect();
        (issuers, calls.0.load(Ordering::SeqCst))
    }

    /// Attack: rows of issuers that no security module knows. Whoever asks whom to trust has it asked about each of them, each time.
    #[test]
    fn attack_issuers_that_are_asked_for_each_time() {
        let calls = Arc::new(Calls::default());
        let (_home, service) = service(&calls);
        let (_, without) = told(&service, &calls);
        let strangers = [1, 2, 3].map(|number| add(&service, number));
        assert_eq!(told(&service, &calls), (vec![], without + strangers.len()));
        assert_eq!(told(&service, &calls), (vec![], without), "they were asked for once");
        // To follow the same catalogue again is no news.
        service.follow_catalogue().unwrap();
        assert_eq!(told(&service, &calls), (vec![], without));

        // Its keys come, and it is seen at once.
        let [first, known, last] = strangers;
        let made = service.make_keys(|| {
            service.ensure_authority([0xF0, 1, 2, 3, 4], now())?;
            service.ask_hsm("create_issuer", |hsm| hsm.create_issuer(known, now()))
        });
        made.unwrap();
        assert_eq!(told(&service, &calls).0, [known]);
        let (issuers, asked) = told(&service, &calls);
        assert_eq!(issuers, [known]);
        assert!(asked < without + strangers.len(), "{first} and {last} are remembered again");
    }

    #[test]
    fn what_was_asked_before_keys_came_is_not_kept() {
        let mark = |version| CatalogueMark { version, mac: [0; 32], key: [0; 32] };
        let issuer = IssuerId::new(now(), [1; 10]);
        let strangers = Strangers::default();
        strangers.follow(mark(1));
        let asked = strangers.may_be_known(issuer).unwrap();
        strangers.follow(mark(2));
        strangers.note(issuer, asked);
        let asked = strangers.may_be_known(issuer).unwrap();
        strangers.note(issuer, asked);
        assert_eq!(strangers.may_be_known(issuer), None);
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let strangers = Strangers::default();
        let issuers = (0..MOST_REMEMBERED + 10).map(|number| {
            let millis = i64::try_from(number).unwrap();
            IssuerId::new(Timestamp::from_unix_millis(millis), [1; 10])
        });
        let issuers: Vec<_> = issuers.collect();
        for issuer in &issuers {
            strangers.note(*issuer, strangers.may_be_known(*issuer).unwrap());
        }
        let asked = issuers.iter().filter(|issuer| strangers.may_be_known(**issuer).is_some());
        assert_eq!(asked.count(), 10);
    }
}
