//! What is tried of every store: one more backend is one more [`Backend`], and one more line of [`contract`].
#![allow(unused_imports, unused_macros, reason = "some test files need no backend but one")]

use std::sync::Arc;

use tapfer_payments::authorization::{DeclineReason, Outcome};
use tapfer_storage::faults::NoFaults;
use tapfer_storage::partitions::PartitionedStorage;
use tapfer_storage::postgres::{
    PUBLICATION, Part, PostgresOptions, PostgresStorage, make, make_partition,
};
use tapfer_storage::sqlite::simulated::{SimulatedNode, SimulatedServer};
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{IdempotencyClaim, Refusal, Storage, StorageError};
use tapfer_test_postgres::{OWNER, PLATFORM, TestPostgres};

use super::{World, answer_key, realm};

/// A store to be tried, and what has to live as long as it.
pub(crate) trait Backend {
    fn open() -> (Arc<dyn Storage>, Self);

    /// As if the answers that are kept had been written long ago, where somebody looks when they were.
    fn age_answers(&self) {}

    /// As if what has ended had done so so many days before, where somebody looks at his own clock.
    fn age_ended(&self, _days: i64) {}

    /// Whether a phone that was in use lately is kept for a while, since its tokens are not where it is.
    fn keeps_phones(&self) -> bool {
        false
    }
}

impl Backend for tempfile::TempDir {
    fn open() -> (Arc<dyn Storage>, Self) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tapfer.db");
        let store = SqliteStorage::create(&path, realm(), &SqliteOptions::default());
        (Arc::new(store.unwrap()), directory)
    }
}

/// What stands in a server's place in simulations.
pub(crate) struct Simulated(tempfile::TempDir);

impl Backend for Simulated {
    fn open() -> (Arc<dyn Storage>, Self) {
        let (made, directory) = <tempfile::TempDir as Backend>::open();
        made.close();
        let server = SimulatedServer::over(&directory.path().join("tapfer.db")).unwrap();
        (SimulatedNode::at(&server, Arc::new(NoFaults)), Self(directory))
    }
}

/// A server, and the way in for platforms.
impl Backend for TestPostgres {
    fn open() -> (Arc<dyn Storage>, Self) {
        let server = migrated();
        (platform(&server), server)
    }

    fn age_answers(&self) {
        self.say(
            "SET session_replication_role = replica; UPDATE answers_vouched SET since = -1;
             UPDATE idempotency_answers SET inserted_at = 0",
        );
    }

    fn age_ended(&self, days: i64) {
        self.say(&format!(
            "SET session_replication_role = replica;
             UPDATE cards SET closed_seen_at = closed_seen_at - {days} * CAST(86400000 AS BIGINT);
             UPDATE tokens SET ended_seen_at = ended_seen_at - {days} * CAST(86400000 AS BIGINT);
             UPDATE phones_in_use SET seen_at = seen_at - {days} * CAST(86400000 AS BIGINT);
             UPDATE devices SET created_at = created_at - {days} * CAST(86400000 AS BIGINT)"
        ));
    }
}

/// Two partitions on two servers. All cards are in the second, and what everybody needs comes there from the first.
pub(crate) struct Partitions(pub(crate) Vec<TestPostgres>);

impl Backend for Partitions {
    fn open() -> (Arc<dyn Storage>, Self) {
        let partitions = Self::start(2);
        (partitions.platform(), partitions)
    }

    fn age_answers(&self) {
        self.0.iter().for_each(Backend::age_answers);
    }

    fn age_ended(&self, days: i64) {
        self.0.iter().for_each(|server| server.age_ended(days));
    }

    fn keeps_phones(&self) -> bool {
        true
    }
}

impl Partitions {
    /// So many servers, each with the tables of the realm; the first is the home.
    pub(crate) fn start(count: u8) -> Self {
        let servers: Vec<_> = (0..count)
            .map(|number| match number {
                0 => TestPostgres::start_to_subscribe_from(),
                _ => TestPostgres::start(),
            })
            .collect();
        for (number, server) in (0..).zip(&servers) {
            make(&options(server, OWNER), realm()).unwrap();
            server.let_platforms_in();
            let part = Part { number, partitions: count.into(), place: 1 };
            make_partition(&options(server, OWNER), part).unwrap();
            if number > 0 {
                let home = servers[0].conninfo();
                server.say(&format!(
                    "CREATE SUBSCRIPTION tapfer_{number} CONNECTION '{home}' PUBLICATION {PUBLICATION}"
                ));
            }
        }
        Self(servers)
    }

    /// One of several platforms on them.
    pub(crate) fn platform(&self) -> Arc<PartitionedStorage> {
        self.platform_of(self.0.len())
    }

    /// The same, where the last ones may be gone.
    pub(crate) fn platform_of(&self, count: usize) -> Arc<PartitionedStorage> {
        let nowhere = || PostgresOptions::new("postgres://node@127.0.0.1:1/none", None, None);
        let there = self.0.iter().map(|server| options(server, PLATFORM));
        let gone = (self.0.len()..count).map(|_| nowhere().unwrap());
        let places: Vec<_> = there.chain(gone).collect();
        let open = move |number: usize| {
            let partitions = u16::try_from(count).unwrap();
            let part = Part { number: u8::try_from(number).unwrap(), partitions, place: 1 };
            PostgresStorage::open(&places[number].clone().as_partition(part), realm())
        };
        let home = open(0).unwrap();
        Arc::new(PartitionedStorage::new(Arc::new(home), count, Arc::new(open)))
    }
}

pub(crate) fn options(server: &TestPostgres, login: &str) -> PostgresOptions {
    PostgresOptions::new(&server.address(login), None, None).unwrap()
}

/// A server with the tables of a realm.
pub(crate) fn migrated() -> TestPostgres {
    let server = TestPostgres::start();
    make(&options(&server, OWNER), realm()).unwrap();
    server.let_platforms_in();
    server
}

/// One of several platforms on it.
pub(crate) fn platform(server: &TestPostgres) -> Arc<PostgresStorage> {
    Arc::new(PostgresStorage::open(&options(server, PLATFORM), realm()).unwrap())
}

pub(crate) fn claim(world: &World, key: &str) -> IdempotencyClaim {
    let (api_key, key) = (world.operator, key.parse().unwrap());
    IdempotencyClaim { api_key, key, fingerprint: [1; 32], answers: answer_key() }
}

pub(crate) fn world<B: Backend>() -> (World, B) {
    let (store, backend) = B::open();
    (World::new(store), backend)
}

/// What was refused, and by which rule.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, StorageError>) -> Refusal {
    match result {
        Err(StorageError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) fn declined(reason: DeclineReason) -> Outcome {
    Outcome::Declined(reason)
}

/// Each case as a test of each backend.
macro_rules! contract {
    ($($case:ident)+) => {
        mod sqlite {
            $(#[test] fn $case() { super::$case::<tempfile::TempDir>(); })+
        }
        mod postgres {
            $(#[test] fn $case() { super::$case::<tapfer_test_postgres::TestPostgres>(); })+
        }
        mod simulated {
            $(#[test] fn $case() { super::$case::<super::world::backend::Simulated>(); })+
        }
        mod partitions {
            $(#[test] fn $case() { super::$case::<super::world::backend::Partitions>(); })+
        }
    };
}
pub(crate) use contract;

/// The same, of those that look at what payments leave in the audit log, where each partition has its own.
macro_rules! contract_of_one_log {
    ($($case:ident)+) => {
        mod sqlite_log {
            $(#[test] fn $case() { super::$case::<tempfile::TempDir>(); })+
        }
        mod postgres_log {
            $(#[test] fn $case() { super::$case::<tapfer_test_postgres::TestPostgres>(); })+
        }
    };
}
pub(crate) use contract_of_one_log;
