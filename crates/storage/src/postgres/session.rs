//! One connection to the primary, driven by the thread that uses it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::{Either, join, maybe_done, poll_immediate, select, try_join_all};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::Severity;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::options::{PATIENCE, PostgresOptions};
use super::partition;
use super::presence::{Away, Presence, away};
use crate::StorageError;
use crate::relational::Result;

/// How the transactions of changes begin. What they rest on they lock before they read it ([`crate::relational::sql::Guard`]).
pub(super) const CHANGE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
/// How reads begin: one snapshot for all statements.
pub(super) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What the server says without being asked.
#[derive(Default)]
struct Heard {
    /// It warned of something. Behind a COMMIT: what was committed may not be on the standby.
    warned: AtomicBool,
}

/// A statement and its parameters.
pub(super) type Asked<'a> = (&'a str, Vec<&'a (dyn ToSql + Sync)>);

pub(super) struct Session {
    /// Taken when it ends.
    runtime: Option<Runtime>,
    client: Client,
    presence: Arc<Presence>,
    heard: Arc<Heard>,
    statements: RefCell<HashMap<String, Statement>>,
    /// Whether the transaction that was begun has not ended yet, or nobody knows how.
    unfinished: Cell<bool>,
    /// Whether the server has undone something of this transaction for the sake of something else.
    overtaken: Cell<bool>,
    /// Whether the server has said nothing for too long: it is not asked any more.
    is_lost: Cell<bool>,
    round_trips: Arc<AtomicU64>,
}

impl Session {
    /// Connects to the primary: of several hosts the first one that takes writes.
    ///
    /// # Errors
    /// [`StorageError::Unreachable`]
    pub(super) fn open(options: &PostgresOptions, round_trips: &Arc<AtomicU64>) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StorageError::Unreachable(Arc::new(error)))?;
        let heard = Arc::new(Heard::default());
        let connecting = async {
            let config = options.config();
            Ok::<_, tokio_postgres::Error>(match options.tls() {
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    tokio::spawn(drive(connection, Arc::clone(&heard)));
                    client
                }
                Some(tls) => {
                    let tls = MakeRustlsConnect::new(tls.clone());
                    let (client, connection) = config.connect(tls).await?;
                    tokio::spawn(drive(connection, Arc::clone(&heard)));
                    client
                }
            })
        };
        // A proxy, or a machine that stands still, may take the connection and then say nothing.
        let connected =
            async { tokio::time::timeout(options.connected_within(), connecting).await };
        let client = runtime.block_on(connected);
        let client = client.map_err(|elapsed| StorageError::Unreachable(Arc::new(elapsed)))?;
        let client = client.map_err(super::errors::not_let_in)?;
        let session = Self {
            runtime: Some(runtime),
            client,
            presence: options.presence(),
            heard,
            statements: RefCell::default(),
            unfinished: Cell::new(false),
            overtaken: Cell::new(false),
            is_lost: Cell::new(false),
            round_trips: Arc::clone(round_trips),
        };
        // The address may lead somewhere else than it did.
        if options.part().is_some() && partition::is_known(&session)? {
            let found = partition::found(&session)?;
            partition::check(options.part(), options.place_name(), found)?;
        }
        Ok(session)
    }

    /// Waits for an answer, and not for ever: a server that says nothing is as good as gone, and nobody waits for one that is
    /// known to be away.
    pub(super) fn wait<T>(
        &self,
        answer: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        self.next(answer)
    }

    /// Waits for the next part of an answer, as long as for the first one.
    pub(super) fn next<T>(
        &self,
        part: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        if self.is_lost.get() {
            return Err(StorageError::Unreachable(Arc::new(SaysNothing)));
        }
        let runtime = self.runtime.as_ref().ok_or(StorageError::Closed)?;
        let part = async { tokio::time::timeout(PATIENCE, part).await };
        let (part, gone) = (pin!(part), pin!(self.presence.gone()));
        let unanswered = match runtime.block_on(select(part, gone)) {
            Either::Left((Ok(part), _)) => {
                return Ok(part.inspect_err(|error| self.look_at(error))?);
            }
            Either::Left((Err(elapsed), _)) => StorageError::Unreachable(Arc::new(elapsed)),
            Either::Right(_) => away(),
        };
        self.is_lost.set(true);
        Err(unanswered)
    }

    /// Waits as long as it takes, where nobody waits for whoever waits.
    pub(super) fn take_time<T>(
        &self,
        answer: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let runtime = self.runtime.as_ref().ok_or(StorageError::Closed)?;
        Ok(runtime.block_on(answer)?)
    }

    fn look_at(&self, error: &tokio_postgres::Error) {
        if super::errors::is_outdated(error) {
            // A table has columns that it had not when they were prepared.
            self.statements.borrow_mut().clear();
            self.overtaken.set(true);
        }
        if super::errors::is_overtaken(error) {
            self.overtaken.set(true);
        }
    }

    /// Uses the client for something that is no statement of a verb.
    pub(super) fn run<T>(
        &mut self,
        job: impl AsyncFnOnce(&mut Client) -> std::result::Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        let runtime = self.runtime.as_ref().ok_or(StorageError::Closed)?;
        Ok(runtime.block_on(job(&mut self.client))?)
    }

    /// The statement, prepared once for each connection. The verbs write `?1`, the server `$1`.
    pub(super) fn prepared(&self, sql: &str) -> Result<Statement> {
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.wait(self.client.prepare(&sql.replace('?', "$")))?;
        self.statements.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// The client, to ask with a prepared statement.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Asks several statements, one after another on the server, in one round trip.
    pub(super) fn ask_all(&self, asked: &[Asked<'_>]) -> Result<Vec<Vec<Row>>> {
        let statements = self.all_prepared(asked)?;
        let answers = statements
            .iter()
            .zip(asked)
            .map(|(statement, (_, parameters))| self.client.query(statement, parameters));
        self.wait(try_join_all(answers))
    }

    fn all_prepared(&self, asked: &[Asked<'_>]) -> Result<Vec<Statement>> {
        asked.iter().map(|(sql, _)| self.prepared(sql)).collect()
    }

    /// Statements without parameters and without answers.
    pub(super) fn execute_batch(&self, sql: &str) -> Result<()> {
        self.wait(self.client.batch_execute(sql))
    }

    /// Begins a transaction.
    pub(super) fn begin(&self, how: &str) -> Result<()> {
        self.overtaken.set(false);
        self.wait(self.client.batch_execute(how))?;
        self.unfinished.set(true);
        Ok(())
    }

    /// Ends a transaction that read.
    pub(super) fn end(&self) -> Result<()> {
        self.wait(self.client.batch_execute("COMMIT"))?;
        self.unfinished.set(false);
        Ok(())
    }

    /// Commits what was changed.
    ///
    /// # Errors
    /// [`StorageError::NotSynced`] if nobody knows whether it is committed, or whether it is where it has to be: the
    /// connection was lost, or the server gave up waiting for its standby. It is never asked to give up: that would
    /// leave the commit standing.
    pub(super) fn commit(&self) -> Result<()> {
        self.commit_behind(&[]).inspect_err(|error| {
            if matches!(error, StorageError::Abandoned) {
                tracing::error!(
                    "a change went on behind a statement that failed, and was rolled back"
                );
                self.roll_back();
            }
        })
    }

    /// Asks the last statements of a change, and commits it behind them: all in one round trip, so that what they lock is kept for
    /// no longer than the server takes. A warning of any of them is taken for one of the commit.
    ///
    /// # Errors
    /// Of the first statement that failed: then the transaction is still open ([`Session::is_in_transaction`]), and nothing of it
    /// is committed. [`StorageError::Abandoned`] if none of these did, but one before them. Else as [`Session::commit`].
    pub(super) fn commit_behind(&self, asked: &[Asked<'_>]) -> Result<()> {
        let statements = self.all_prepared(asked)?;
        self.presence.demand()?;
        self.heard.warned.store(false, Ordering::Release);
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        let runtime = self.runtime.as_ref().ok_or(StorageError::Closed)?;
        let last = statements.iter().zip(asked);
        let last = try_join_all(
            last.map(|(statement, (_, parameters))| self.client.query(statement, parameters)),
        );
        let mut last = pin!(maybe_done(last));
        // Sends them. One that cannot be sent has failed here, and of the others nothing is committed.
        runtime.block_on(poll_immediate(last.as_mut()));
        if matches!(last.as_mut().output_mut(), Some(Err(_)))
            && let Some(Err(unsent)) = last.as_mut().take_output()
        {
            return Err(unsent.into());
        }
        let answer = {
            // Of a transaction in which a statement failed the server takes COMMIT for ROLLBACK, and says so in a word that is not
            // read.
            let commit = join(last.as_mut(), self.client.batch_execute("SELECT 1; COMMIT"));
            let commit = async { tokio::time::timeout(PATIENCE, commit).await };
            let (commit, gone) = (pin!(commit), pin!(self.presence.gone()));
            match runtime.block_on(select(commit, gone)) {
                Either::Left((answer, _)) => answer,
                // It may stand when the server is there again; whoever asks then hears it.
                Either::Right(_) => return Err(StorageError::NotSynced(Arc::new(Away))),
            }
        };
        let answer = match answer {
            Ok(((), answer)) => answer,
            Err(elapsed) => return Err(StorageError::NotSynced(Arc::new(elapsed))),
        };
        let failed = last.as_mut().take_output().and_then(std::result::Result::err);
        match answer {
            Ok(()) if self.heard.warned.load(Ordering::Acquire) => {
                Err(StorageError::NotSynced(Arc::new(NotReplicated)))
            }
            Ok(()) => match failed {
                None => {
                    self.unfinished.set(false);
                    Ok(())
                }
                // Not what a server does.
                Some(failed) => Err(StorageError::NotSynced(Arc::new(failed))),
            },
            Err(error) if super::errors::has_failed_before(&error) => {
                let failed = failed.inspect(|error| self.look_at(error));
                Err(failed.map_or(StorageError::Abandoned, StorageError::from))
            }
            Err(error) if super::errors::is_rolled_back(&error) => {
                self.look_at(&error);
                self.unfinished.set(false);
                Err(error.into())
            }
            Err(error) => Err(StorageError::NotSynced(Arc::new(error))),
        }
    }

    /// Undoes what was changed; if not even that can be said, the connection ends, and with it the transaction.
    pub(super) fn roll_back(&self) {
        if self.wait(self.client.batch_execute("ROLLBACK")).is_ok() {
            self.unfinished.set(false);
        }
    }

    /// Whether the server has undone something of the transaction that was begun last for the sake of something else: a
    /// deadlock, what could not have come of one transaction behind the other, or a schema that has gone on. Made again it
    /// may succeed.
    pub(super) const fn is_overtaken(&self) -> bool {
        self.overtaken.get()
    }

    /// Whether a transaction was begun and has not ended, as far as is known.
    pub(super) const fn is_in_transaction(&self) -> bool {
        self.unfinished.get()
    }

    /// Whether it can be used again.
    pub(super) fn is_fit(&self) -> bool {
        !self.unfinished.get() && !self.is_lost.get() && !self.client.is_closed()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may be dropped where nothing may block; what still runs is this connection's own task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Moves bytes, and listens to what is said beside the answers.
async fn drive<S, T>(connection: Connection<S, T>, heard: Arc<Heard>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = pin!(connection);
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        let AsyncMessage::Notice(notice) = message else { continue };
        if notice.parsed_severity() == Some(Severity::Warning) {
            heard.warned.store(true, Ordering::Release);
            tracing::warn!(notice = notice.message(), "the database warns");
        }
    }
}

/// What is said of a connection on which nothing is asked any more.
#[derive(Debug, thiserror::Error)]
#[error("it has said nothing for too long")]
struct SaysNothing;

/// A commit that was acknowledged with a warning.
#[derive(Debug, thiserror::Error)]
#[error("the primary gave up waiting for its standby: committed there, and perhaps nowhere else")]
struct NotReplicated;
