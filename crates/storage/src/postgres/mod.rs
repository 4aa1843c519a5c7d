//! The store of many platforms: one PostgreSQL database, its primary.
//!
//! Every change is one transaction on a connection of its own, which locks what it rests on before it reads it (READ
//! COMMITTED, [`crate::relational::sql::Guard`]): a card's payments are decided one after another, on whichever node they
//! arrive, and others do not wait. Reads see one snapshot. Nothing is ever read from a standby. ADR 21 says why.

mod chain;
mod claims;
mod durability;
mod errors;
mod fetched;
mod gather;
mod joint;
mod locks;
mod look;
mod lots;
mod migrations;
mod options;
mod overdue;
mod partition;
mod pool;
mod presence;
mod reader;
mod retention;
mod rights;
mod session;
mod sharing;
mod slots;
mod sql;
mod together;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tapfer_payment_types::{ApiKeyId, RealmId};
use tapfer_payments::access::ApiKey;

use self::chain::Linker;
use self::claims::Claims;
use self::gather::Gather;
use self::pool::Pool;
use self::session::{Asked, CHANGE, SNAPSHOT, Session};
pub(crate) use self::watch::Told;
use self::watch::Watch;
use crate::relational::known_keys::{KnownKeys, WhichKey};
use crate::relational::rows::{Columns, first};
use crate::relational::sql::{Connection, params};
use crate::relational::{Engine, Result, access, of_each};
use crate::stand_in::database::MayBeAway;
use crate::{Inconsistency, Load, Storage, StorageError};
pub(crate) use joint::Joint;
pub use locks::LockHolder;
pub use look::{Look, look};
pub use migrations::{make, migrate};
pub use options::{PostgresOptions, PostgresOptionsError};
pub use partition::{
    Found, PUBLICATION, Part, PlaceName, close_partition, make_partition, open_partition,
    partition_of,
};
pub(crate) use reader::ServerReader;
pub use slots::Slot;

/// Lots of payments, and API keys, are looked up and written on so many connections at most.
const LOTS: usize = 4;

/// The store in a PostgreSQL database, which other platforms of the realm may use at the same time.
pub struct PostgresStorage {
    pool: Arc<Pool>,
    /// For what is asked for each payment.
    lots: Pool,
    api_keys: Gather<WhichKey, ReadKey>,
    claims: Claims,
    linker: Linker,
    linking: Arc<Pool>,
    settled: Joint,
    watch: Watch,
    waiting: AtomicUsize,
    commits: AtomicU64,
}

impl fmt::Debug for PostgresStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStorage").field("load", &self.load()).finish_non_exhaustive()
    }
}

impl PostgresStorage {
    /// Opens the database of a realm, which its owner has made and brought to this schema ([`make`], [`migrate`]).
    ///
    /// # Errors
    /// [`StorageError::Unreachable`], [`StorageError::Empty`], [`StorageError::OtherRealm`],
    /// [`StorageError::OlderDatabase`], [`StorageError::TooManyRights`], [`StorageError::Forgetful`]
    pub fn open(options: &PostgresOptions, realm: RealmId) -> Result<Self> {
        // What holds marks and what links have connections of their own: they keep no payment waiting for one.
        let by_index = |connections| Pool::new(options.clone().by_index(), connections);
        let (lots, holder, linking) =
            (by_index(LOTS), Arc::new(by_index(1)), Arc::new(by_index(1)));
        let pool = Arc::new(Pool::new(options.clone(), options.connections()));
        pool.begin(SNAPSHOT, |session| {
            migrations::check(session, options, realm)?;
            partition::check(options.part(), options.place_name(), partition::found(session)?)?;
            rights::check(session)?;
            rights::warn_of_others(session)?;
            durability::check(session)?;
            locks::check(session)?;
            session.end()
        })?;
        let claims = Claims::start(Arc::clone(&pool), holder)?;
        let linker = Linker::start(Arc::clone(&linking))?;
        let watch = Watch::start(options.clone())?;
        Ok(Self {
            pool,
            lots,
            api_keys: Gather::default(),
            claims,
            linker,
            linking,
            settled: Joint::default(),
            watch,
            waiting: AtomicUsize::new(0),
            commits: AtomicU64::new(0),
        })
    }

    /// How often somebody waited for the server since the store was opened: several statements that were sent together
    /// are one. What links the audit log, behind everybody's back, is not counted.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        let asked = [self.pool.round_trips(), self.lots.round_trips(), self.claims.round_trips()];
        asked.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// One transaction, which is undone if it fails. If the server undid it for the sake of something else there is nothing
    /// left of it, and it is made again.
    fn transact<T>(&self, pool: &Pool, job: impl Fn(&Session) -> Result<T>) -> Result<T> {
        self.transact_whole(pool, |session| job(session).map(Ended::Open))
    }

    /// As [`Self::transact`]. The job may commit by itself.
    fn transact_whole<T>(
        &self,
        pool: &Pool,
        job: impl Fn(&Session) -> Result<Ended<T>>,
    ) -> Result<T> {
        let _waiting = Waiting::one_more(&self.waiting);
        let made = pool.repeat(CHANGE, |session, is_last| match attempt(session, &job) {
            Ok(Ended::Committed(made)) => Ok(made),
            // Something of it may be missing, where its parts stand or fall each for itself.
            Ok(Ended::Open(made)) if is_last || !session.is_overtaken() => {
                session.commit().map(|()| made)
            }
            // Nobody knows how it has ended: there is nothing to be undone by this connection.
            Err(unknown @ StorageError::NotSynced(_)) => Err(unknown),
            Ok(Ended::Open(undone)) => {
                session.roll_back();
                Ok(undone)
            }
            Err(error) => {
                if session.is_in_transaction() {
                    session.roll_back();
                }
                Err(error)
            }
        });
        made.inspect(|_| {
            self.commits.fetch_add(1, Ordering::Relaxed);
        })
    }
}

/// How the job of a transaction leaves it.
enum Ended<T> {
    /// It is to be committed.
    Open(T),
    /// It is committed.
    Committed(T),
}

/// Reads; all statements see the same snapshot.
fn snapshot<T>(pool: &Pool, job: impl Fn(&Session) -> Result<T>) -> Result<T> {
    pool.repeat(SNAPSHOT, |session, _| {
        let found = attempt(session, &job);
        match found {
            Ok(_) => session.end()?,
            Err(_) => session.roll_back(),
        }
        found
    })
}

/// API keys by what they were asked by, in one round trip. A row that makes no sense is the matter of whoever asks for it, and keeps
/// nobody out who asked at the same moment.
fn api_keys(session: &Session, asked: &[WhichKey]) -> Result<HashMap<WhichKey, ReadKey>> {
    let (mut ids, mut secrets) = (Vec::new(), Vec::new());
    for which in asked {
        match which {
            WhichKey::Id(id) => ids.push(id.to_string()),
            WhichKey::Secret(hash) => secrets.push(hash.as_slice()),
        }
    }
    let mut statements: Vec<Asked<'_>> = Vec::new();
    if !ids.is_empty() {
        statements.push(("SELECT * FROM api_keys WHERE id = ANY (?1::text[])", vec![&ids]));
    }
    if !secrets.is_empty() {
        let by_secret = "SELECT * FROM api_keys WHERE secret_hash = ANY (?1::bytea[])";
        statements.push((by_secret, vec![&secrets]));
    }
    let mut found = HashMap::new();
    for row in session.ask_all(&statements)?.iter().flatten() {
        let key = access::read_or_name(row)?;
        let columns = Columns::new(row, "api_keys");
        let names = [
            columns.get("secret_hash").map(WhichKey::Secret),
            columns.parse("id").map(WhichKey::Id),
        ];
        found.extend(names.into_iter().flatten().map(|name| (name, key.clone())));
    }
    Ok(found)
}

/// A job that panics is an error of its own.
fn attempt<T>(session: &Session, job: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(|| job(session))).unwrap_or_else(|_| {
        tracing::error!("a change was given up half-way and rolled back");
        Err(StorageError::Abandoned)
    })
}

/// One change of several, which leaves nothing if it fails.
///
/// # Errors
/// The transaction is lost, with all that was made in it.
fn one_change<T>(session: &Session, job: impl FnOnce(&Session) -> Result<T>) -> Result<Result<T>> {
    session.execute_batch("SAVEPOINT one_change")?;
    let made = attempt(session, job);
    session.execute_batch(match made {
        Ok(_) => "RELEASE one_change",
        Err(_) => "ROLLBACK TO one_change; RELEASE one_change",
    })?;
    Ok(made)
}

impl Engine for PostgresStorage {
    fn read<T>(&self, job: impl FnOnce(&Connection) -> Result<T> + Clone) -> Result<T> {
        snapshot(&self.pool, |session| job.clone()(session))
    }

    fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Clone + Send + 'static,
    ) -> Result<T> {
        self.transact(&self.pool, |session| job.clone()(session))
    }

    fn write_all<T: Send + 'static>(
        &self,
        jobs: Vec<impl FnOnce(&Connection) -> Result<T> + Clone + Send + 'static>,
    ) -> Vec<Result<T>> {
        if jobs.is_empty() {
            return Vec::new();
        }
        let made = self.transact(&self.pool, |session| {
            jobs.iter().map(|job| one_change(session, |session| job.clone()(session))).collect()
        });
        made.unwrap_or_else(|error| of_each(jobs.len(), &error))
    }

    /// Without a transaction around it, which would be two round trips more.
    fn look_up<T>(&self, job: impl Fn(&Connection) -> Result<T>) -> Result<T> {
        self.pool.ask(|session| attempt(session, |session| job(session)))
    }

    fn look_up_api_key(&self, which: WhichKey) -> Result<Option<ApiKey>> {
        let found = self.api_keys.ask(which, |asked| {
            self.lots.ask(|session| attempt(session, |session| api_keys(session, asked)))
        })?;
        Ok(found.transpose()?)
    }

    fn look_up_api_keys(&self, ids: &[ApiKeyId]) -> Vec<Result<Option<ApiKey>>> {
        if ids.is_empty() {
            return Vec::new();
        }
        let asked: Vec<_> = ids.iter().copied().map(WhichKey::Id).collect();
        match self.lots.ask(|session| attempt(session, |session| api_keys(session, &asked))) {
            Ok(found) => {
                asked.iter().map(|which| Ok(found.get(which).cloned().transpose()?)).collect()
            }
            Err(error) => of_each(ids.len(), &error),
        }
    }

    /// Another platform may take a key back at any moment, and it ends with the answer to that.
    fn known_keys(&self) -> Option<&KnownKeys> {
        None
    }

    fn settle_audit(&self) -> Result<()> {
        self.settled.run(|| chain::settle(&self.linking))
    }
}

/// An API key, or what is wrong with its row.
type ReadKey = std::result::Result<ApiKey, Inconsistency>;

/// Counts changes for as long as it lives, however their caller leaves.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn one_more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Storage for PostgresStorage {
    fn check(&self) -> Result<()> {
        self.write(|connection| first(connection, "SELECT 1", params![], |_| Ok(())).map(drop))
    }

    fn load(&self) -> Load {
        Load {
            waiting_changes: self.waiting.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            payments_ahead: 0,
            audit_waits: self.linker.waits(),
        }
    }

    fn close(&self) {
        // The linker first: it links what was committed before.
        self.linker.close();
        self.linking.close();
        self.watch.close();
        self.claims.close();
        self.lots.close();
        self.pool.close();
    }
}

impl MayBeAway for PostgresStorage {
    fn is_away(&self) -> bool {
        self.watch.is_away()
    }

    fn tell_of_rows(&self, tell: Box<dyn Fn(Told<'_>) + Send + Sync>) {
        self.watch.tell_of_rows(tell);
    }

    fn is_trouble(&self, error: &StorageError) -> bool {
        errors::is_trouble(error)
    }
}

impl Drop for PostgresStorage {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use tapfer_payment_types::{ApiKeyId, RealmId, Timestamp};
    use tapfer_payments::access::{ApiKey, Principal};
    use tapfer_test_postgres::{OWNER, PLATFORM, TestPostgres};

    use super::options::BY_INDEX;
    use super::{PostgresOptions, PostgresStorage, WhichKey, api_keys, attempt, fetched, make};
    use crate::StorageError;
    use crate::relational::rows::execute;
    use crate::relational::{access, cards};

    fn begun() -> (TestPostgres, PostgresStorage) {
        let server = TestPostgres::start();
        let realm = RealmId::new(Timestamp::from_unix_millis(1), [1; 10]);
        let options = |login| PostgresOptions::new(&server.address(login), None, None).unwrap();
        make(&options(OWNER), realm).unwrap();
        server.let_platforms_in();
        let store = PostgresStorage::open(&options(PLATFORM), realm).unwrap();
        (server, store)
    }

    /// A job that goes on behind a statement that failed has changed nothing, and is not told as done.
    #[test]
    fn a_change_of_which_a_statement_failed_is_not_done() {
        let (server, store) = begun();
        let set = |days: u16, fails: bool| {
            store.transact(&store.pool, |session| {
                execute(session, "UPDATE retention SET days = ?1", [days])?;
                if fails {
                    session.execute_batch("SELECT 1 / 0").unwrap_err();
                }
                Ok(())
            })
        };
        assert!(matches!(set(200, true), Err(StorageError::Abandoned)));
        assert_eq!(server.ask("SELECT days FROM retention"), "540");
        set(300, false).unwrap();
        assert_eq!(server.ask("SELECT days FROM retention"), "300");
    }

    /// Whose money it is, is part of what the index is asked for, also while nobody has counted the table's rows.
    #[test]
    fn an_account_is_looked_up_by_its_whole_key_in_a_young_database() {
        let (server, _store) = begun();
        server.say(
            "INSERT INTO accounts (kind, owner, currency, balance)
             SELECT 'cardholder', 'card_' || number, 'EUR', 1 FROM generate_series(1, 200) AS number",
        );
        for (query, accounts) in [
            (fetched::CARDS.to_owned(), 1),
            (format!("{} WHERE id = ANY (?1::text[])", cards::SELECT), 2),
        ] {
            let plan = server.ask(&format!(
                "{};
                 PREPARE cards (text[]) AS {};
                 EXPLAIN (COSTS OFF) EXECUTE cards ('{{}}')",
                BY_INDEX.replace(" -c ", "; SET ").trim_start_matches("; "),
                query.replace("?1", "$1")
            ));
            let by_owner = plan
                .lines()
                .filter(|line| line.contains("Index Cond") && line.contains("owner = cards.id"));
            assert_eq!(by_owner.count(), accounts, "{plan}");
        }
    }

    /// A row that makes no sense, of somebody who asks all the time, keeps nobody out who asks at the same moment.
    #[test]
    fn a_spoiled_api_key_is_told_to_whoever_asks_for_it_alone() {
        let (server, store) = begun();
        let at = Timestamp::from_unix_millis(1);
        let key = |number| ApiKey {
            id: ApiKeyId::new(at, [number; 10]),
            principal: Principal::Operator,
            secret_hash: [number; 32],
            created_at: at,
            revoked_at: None,
            signature: None,
        };
        let (good, spoiled) = (key(1), key(2));
        for key in [&good, &spoiled] {
            store.transact(&store.pool, |session| access::insert(session, key)).unwrap();
        }
        server.say(&format!("UPDATE api_keys SET id = 'key_spoiled' WHERE id = '{}'", spoiled.id));
        let [by_id, by_secret] = [WhichKey::Id(good.id), WhichKey::Secret(good.secret_hash)];
        let of_spoiled = WhichKey::Secret(spoiled.secret_hash);
        let asked = [by_id, of_spoiled, by_secret];
        let found = store.lots.ask(|session| attempt(session, |session| api_keys(session, &asked)));
        let mut found = found.unwrap();
        assert_eq!(found.remove(&by_id), Some(Ok(good.clone())));
        assert_eq!(found.remove(&by_secret), Some(Ok(good)));
        let named = found.remove(&of_spoiled).unwrap().unwrap_err();
        assert_eq!(
            (named.table, named.id.as_str(), named.column),
            ("api_keys", "key_spoiled", "id")
        );
        assert!(found.is_empty());
    }
}
