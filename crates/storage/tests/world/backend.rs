//! What is tried of every store: one more backend is one more [`Backend`], and one more line of [`contract`].
#![allow(unused_imports, unused_macros, reason = "some test files need no backend but one")]

use std::sync::Arc;

use tapfer_payments::authorization::{DeclineReason, Outcome};
use tapfer_storage::postgres::{PostgresOptions, PostgresStorage, make};
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{IdempotencyClaim, Refusal, Storage, StorageError};
use tapfer_test_postgres::{OWNER, PLATFORM, TestPostgres};

use super::{World, realm};

/// A store to be tried, and what has to live as long as it.
pub(crate) trait Backend {
    fn open() -> (Arc<dyn Storage>, Self);
}

impl Backend for tempfile::TempDir {
    fn open() -> (Arc<dyn Storage>, Self) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tapfer.db");
        let store = SqliteStorage::create(&path, realm(), &SqliteOptions::default());
        (Arc::new(store.unwrap()), directory)
    }
}

/// A server, and the way in for platforms.
impl Backend for TestPostgres {
    fn open() -> (Arc<dyn Storage>, Self) {
        let server = migrated();
        (platform(&server), server)
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
    IdempotencyClaim { api_key: world.operator, key: key.parse().unwrap(), fingerprint: [1; 32] }
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
    };
}
pub(crate) use contract;
