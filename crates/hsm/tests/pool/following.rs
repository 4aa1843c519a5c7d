//! What another process does with keys reaches every worker of every member, and nothing takes it back: two
//! SoftHSM2 tokens.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tapfer_hsm::catalogue::{KeyName, KeyOwner, KeyPurpose, KeyState};
use tapfer_hsm::pool::{HsmPool, Launcher, MemberConfig, PoolStatus, WorkerStatus};
use tapfer_hsm::software::SoftwareVault;
use tapfer_hsm::{HsmError, PaymentHsm, VaultedHsm};
use tapfer_payment_types::CatalogueMark;
use tapfer_test_tokens::Kind;

use crate::house::{all_serve, issuer, kill, now, processes, until};
use crate::load::Payment;
use crate::modules::{CATALOGUE, Modules, child, roots};

const THREADS: usize = 6;

const OWNER: fn() -> KeyOwner = || KeyOwner::Issuer(issuer());

fn master(generation: u8) -> KeyName {
    KeyName { owner: OWNER(), purpose: KeyPurpose::IssuerMaster, generation }
}

/// Another process, with the keys in software.
fn beside(catalogue: &Path) -> VaultedHsm<SoftwareVault> {
    VaultedHsm::over_catalogue(SoftwareVault::new(roots()), catalogue).unwrap()
}

/// As somebody does who puts another file in its place.
fn overwrite(catalogue: &Path, bytes: &[u8]) {
    let unfinished = catalogue.with_extension("put-back");
    fs::write(&unfinished, bytes).unwrap();
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(unfinished, catalogue).unwrap();
}

#[test]
fn rotated_retired_and_destroyed_keys_are_followed_by_every_worker_under_load() {
    let (modules, pool) = Modules::new(Kind::SoftHsm, Kind::SoftHsm);
    let beside = beside(&modules.catalogue());
    let (is_destroyed, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let (verified, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let pay = |count: &AtomicU64| {
        let goal = count.load(Ordering::SeqCst) + 400;
        until(&pool, |_| count.load(Ordering::SeqCst) >= goal);
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let payment = Payment::new();
                while !stop.load(Ordering::SeqCst) {
                    let must_be_gone = is_destroyed.load(Ordering::SeqCst);
                    let is_verified = payment.is_verified(&pool).unwrap();
                    assert!(!(must_be_gone && is_verified), "a worker has the destroyed key");
                    let count = if is_verified { &verified } else { &refused };
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // A failed assertion must not leave the threads at work for ever.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pay(&verified);
            beside.add_generation(OWNER(), KeyPurpose::IssuerMaster, now()).unwrap();
            let known = pool.follow_catalogue(None).unwrap();
            for _ in 0..100 {
                assert_eq!(pool.issuer_keys(issuer()).unwrap().derivation_key_index, 2);
            }
            beside.set_key_state(master(1), KeyState::Retired).unwrap();
            assert!(pool.follow_catalogue(Some(&known)).unwrap().version > known.version);
            pay(&verified);
            assert_eq!(refused.load(Ordering::SeqCst), 0, "what is retired verifies");
            beside.set_key_state(master(1), KeyState::Destroyed).unwrap();
            pool.follow_catalogue(None).unwrap();
            is_destroyed.store(true, Ordering::SeqCst);
            pay(&refused);
        }));
        stop.store(true, Ordering::SeqCst);
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(all_serve(&pool.status()), "{:#?}", pool.status());
}

/// Workers that start anew have seen nothing. The pool has.
#[test]
fn attack_old_catalogue_put_back_and_all_workers_killed() {
    let (modules, pool) = Modules::new(Kind::SoftHsm, Kind::SoftHsm);
    let (catalogue, beside) = (modules.catalogue(), beside(&modules.catalogue()));
    beside.add_generation(OWNER(), KeyPurpose::IssuerMaster, now()).unwrap();
    beside.set_key_state(master(1), KeyState::Retired).unwrap();
    let old = fs::read(&catalogue).unwrap();
    beside.set_key_state(master(1), KeyState::Destroyed).unwrap();
    let newest = fs::read(&catalogue).unwrap();
    pool.follow_catalogue(None).unwrap();
    let kill_all = || {
        ["north", "south"].iter().flat_map(|name| processes(&pool, name)).for_each(kill);
    };
    let gone_on_with = {
        overwrite(&catalogue, &old);
        let late = self::beside(&catalogue);
        for _ in 0..3 {
            late.add_generation(OWNER(), KeyPurpose::CardPins, now()).unwrap();
        }
        fs::read(&catalogue).unwrap()
    };
    for (put_back, said) in
        [(&old, "was used already: an old copy"), (&gone_on_with, "went on with")]
    {
        overwrite(&catalogue, put_back);
        kill_all();
        until(&pool, |status| {
            let mut workers = status.members.iter().flat_map(|member| &member.workers);
            workers.all(|one| one.cause.as_ref().is_some_and(|cause| cause.contains(said)))
        });
        let refused = Payment::new().is_verified(&pool).unwrap_err();
        assert!(matches!(refused, HsmError::Down { .. }), "{refused:?}");
        assert!(refused.to_string().contains(said), "{refused}");
        assert!(pool.health().is_err() && pool.follow_catalogue(None).is_err());
        // The right one is back, and work goes on by itself.
        overwrite(&catalogue, &newest);
        until(&pool, all_serve);
        assert!(!Payment::new().is_verified(&pool).unwrap(), "it stays destroyed");
    }
}

/// Workers that run and have not looked yet, and a pool that knows less than the database.
#[test]
fn attack_old_catalogue_put_back_before_the_workers_looked() {
    let (modules, pool) = Modules::new(Kind::SoftHsm, Kind::SoftHsm);
    let (catalogue, beside) = (modules.catalogue(), beside(&modules.catalogue()));
    let old = fs::read(&catalogue).unwrap();
    beside.add_generation(OWNER(), KeyPurpose::IssuerMaster, now()).unwrap();
    let (known, newest) = (beside.follow_catalogue(None).unwrap(), fs::read(&catalogue).unwrap());
    overwrite(&catalogue, &old);
    // The database has heard of it from the process that made it.
    let refused = pool.follow_catalogue(Some(&known)).unwrap_err();
    assert!(refused.to_string().contains("was used already"), "{refused}");
    until(&pool, |status| !status.serves);
    let refused = Payment::new().is_verified(&pool).unwrap_err();
    assert!(refused.to_string().contains("was used already"), "{refused}");
    overwrite(&catalogue, &newest);
    until(&pool, all_serve);
    assert_eq!(pool.follow_catalogue(Some(&known)).unwrap(), known);
}

fn workers(status: &PoolStatus) -> impl Iterator<Item = &WorkerStatus> {
    status.members.iter().flat_map(|member| &member.workers)
}

fn restarts(pool: &HsmPool) -> Vec<u64> {
    workers(&pool.status()).map(|worker| worker.restarts).collect()
}

/// A database names a version that nobody has, until custodians accept the one that lies there: a lower number, the
/// same one, and a higher one.
#[test]
fn a_catalogue_that_was_accepted_is_gone_on_with() {
    let (modules, pool) = Modules::new(Kind::SoftHsm, Kind::SoftHsm);
    beside(&modules.catalogue()).add_generation(OWNER(), KeyPurpose::CardPins, now()).unwrap();
    let accepted = pool.follow_catalogue(None).unwrap();
    for version in [accepted.version - 1, accepted.version, accepted.version + 1] {
        until(&pool, all_serve);
        let before = restarts(&pool);
        let nobodys = |version| CatalogueMark { version, mac: [0; 32], ..accepted };
        pool.follow_catalogue(Some(&nobodys(u64::MAX))).unwrap_err();
        until(&pool, |status| workers(status).zip(&before).all(|(one, &old)| one.restarts > old));
        // Processes that have served end when they hear of it, and say so as others do that come: another number
        // shows who has heard of it and waits.
        pool.follow_catalogue(Some(&nobodys(version))).unwrap_err();
        let said = [
            format!("and version {version} was used already"),
            format!("and was not made from version {version}"),
        ];
        let heard = |cause: &String| said.iter().any(|said| cause.contains(said));
        until(&pool, |status| workers(status).all(|one| one.cause.as_ref().is_some_and(heard)));
        // The first to say what was accepted may find nobody who could answer.
        let _at_first = pool.follow_catalogue(Some(&accepted));
        until(&pool, all_serve);
        assert_eq!(pool.follow_catalogue(Some(&accepted)).unwrap(), accepted);
        assert!(Payment::new().is_verified(&pool).unwrap());
    }
}

/// Who has read the database before keys were made, and says so behind who read it after, says nothing new: nobody is
/// ended for it.
#[test]
fn an_ancestor_that_is_told_late_ends_nobody() {
    let (modules, pool) = Modules::new(Kind::SoftHsm, Kind::SoftHsm);
    // SoftHSM2 that two processes open at the same moment now and then sees no token: one of them begins again.
    let begun = restarts(&pool);
    let before = pool.follow_catalogue(None).unwrap();
    beside(&modules.catalogue()).add_generation(OWNER(), KeyPurpose::CardPins, now()).unwrap();
    let after = pool.follow_catalogue(Some(&before)).unwrap();
    assert!(after.version > before.version);
    assert_eq!(pool.follow_catalogue(Some(&after)).unwrap(), after);
    assert_eq!(pool.follow_catalogue(Some(&before)).unwrap(), after);
    assert!(Payment::new().is_verified(&pool).unwrap());
    assert!(all_serve(&pool.status()));
    assert_eq!(restarts(&pool), begun);
}

/// Starts workers of [`Modules`].
struct Workers(PathBuf);

impl Launcher for Workers {
    fn command(&self, _: &MemberConfig) -> Command {
        let mut command = child("modules::module_worker");
        command.env(CATALOGUE, &self.0);
        command
    }
}

/// Workers of a platform that starts read the file before anybody has asked them, and what they have read has a higher
/// number than what the database knows.
#[test]
fn attack_old_catalogue_gone_on_with_before_the_platform_starts() {
    let (modules, config) = Modules::prepare(Kind::SoftHsm, Kind::SoftHsm);
    let catalogue = modules.catalogue();
    let lawful = beside(&catalogue);
    lawful.add_generation(OWNER(), KeyPurpose::IssuerMaster, now()).unwrap();
    lawful.set_key_state(master(1), KeyState::Retired).unwrap();
    let old = fs::read(&catalogue).unwrap();
    lawful.set_key_state(master(1), KeyState::Destroyed).unwrap();
    let (known, newest) = (lawful.follow_catalogue(None).unwrap(), fs::read(&catalogue).unwrap());
    overwrite(&catalogue, &old);
    let late = beside(&catalogue);
    while late.follow_catalogue(None).unwrap().version < known.version + 3 {
        late.add_generation(OWNER(), KeyPurpose::CardPins, now()).unwrap();
    }

    let start = |known| HsmPool::launch(config.clone(), None, known, Workers(catalogue.clone()));
    let refused = start(Some(known)).unwrap_err().to_string();
    assert!(refused.contains("went on with"), "{refused}");
    // Workers that were told of nothing have used it, and stop as soon as the database is asked.
    let pool = start(None).unwrap();
    until(&pool, all_serve);
    assert!(Payment::new().is_verified(&pool).unwrap(), "the destroyed key is there");
    let refused = pool.follow_catalogue(Some(&known)).unwrap_err().to_string();
    assert!(refused.contains("went on with"), "{refused}");
    until(&pool, |status| !status.serves);
    let refused = Payment::new().is_verified(&pool).unwrap_err().to_string();
    assert!(refused.contains("went on with"), "{refused}");
    drop(pool);

    overwrite(&catalogue, &newest);
    let pool = start(Some(known)).unwrap();
    assert_eq!(pool.follow_catalogue(Some(&known)).unwrap(), known);
    until(&pool, all_serve);
    assert!(!Payment::new().is_verified(&pool).unwrap(), "it stays destroyed");
}
