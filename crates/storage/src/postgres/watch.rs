//! News from other platforms, and whether anybody is there to ask.
//!
//! One connection of each node listens. What a node keeps in memory and another may change is told there by a trigger, in
//! the transaction of the change, so that nobody can forget to tell. Whoever listened and was cut off may have missed
//! something: as soon as it listens again, all counts as changed.
//!
//! The same connection asks every second whether the server answers. While none does, requests are refused at once, rather
//! than each waiting for itself as long as a server may say nothing.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Connection, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::options::PostgresOptions;
use super::presence::Presence;
use crate::StorageError;
use crate::relational::Result;

/// The channel's name stands in the migrations too.
const LISTEN: &str = "LISTEN tapfer";
/// How often the server is asked whether it is there, and how long it may take to say so: longer than a busy one does.
const BEAT: Duration = Duration::from_secs(1);
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// From one attempt to connect to the next.
const PAUSE: Duration = Duration::from_millis(200);

type Tell = Box<dyn Fn() + Send + Sync>;
type TellRow = Box<dyn Fn(Told<'_>) + Send + Sync>;

/// What has changed of what payments rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told<'a> {
    /// Anything: nobody listened for a while.
    Anything,
    /// A row: table and id.
    Row(&'a str, &'a str),
}

/// The node's ear.
pub(super) struct Watch {
    heard: Arc<Heard>,
    open: Mutex<Option<oneshot::Sender<()>>>,
}

struct Heard {
    presence: Arc<Presence>,
    tell: Mutex<Option<Tell>>,
    tell_row: Mutex<Option<TellRow>>,
}

impl Heard {
    fn news(&self) {
        if let Some(tell) = &*self.tell.lock().unwrap_or_else(PoisonError::into_inner) {
            tell();
        }
    }

    /// As the database's triggers say it: the name of a table, or a row's with its id.
    fn told(&self, payload: &str) {
        match payload.split_once(' ') {
            Some((table, id)) => self.row(Told::Row(table, id)),
            None => self.news(),
        }
    }

    fn row(&self, told: Told<'_>) {
        if let Some(tell) = &*self.tell_row.lock().unwrap_or_else(PoisonError::into_inner) {
            tell(told);
        }
    }

    fn is_there(&self) {
        if self.presence.came() {
            tracing::info!("the database is there again");
        }
    }

    fn is_away(&self, cause: &StorageError) {
        if self.presence.went() {
            tracing::error!(%cause, "the database is away: requests are refused until it is back");
        }
    }
}

impl Watch {
    pub(super) fn start(options: PostgresOptions) -> Result<Self> {
        let presence = options.presence();
        let heard = Heard { presence, tell: Mutex::default(), tell_row: Mutex::default() };
        let heard = Arc::new(heard);
        let (open, closing) = oneshot::channel();
        let of_thread = Arc::clone(&heard);
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StorageError::Unreachable(Arc::new(error)))?;
        Builder::new()
            .name("tapfer-watch".to_owned())
            .spawn(move || {
                let watching = pin!(watch(&options, &of_thread));
                runtime.block_on(select(watching, closing));
            })
            .map_err(|_| StorageError::Closed)?;
        Ok(Self { heard, open: Mutex::new(Some(open)) })
    }

    /// Whom to tell that something has changed, or may have.
    pub(super) fn tell(&self, tell: Tell) {
        *self.heard.tell.lock().unwrap_or_else(PoisonError::into_inner) = Some(tell);
        // What was changed before this is news too.
        self.heard.news();
    }

    /// Whom to tell which rows have lost trust that they had.
    pub(super) fn tell_of_rows(&self, tell: TellRow) {
        *self.heard.tell_row.lock().unwrap_or_else(PoisonError::into_inner) = Some(tell);
    }

    /// Whether nobody answered when it was asked last.
    pub(super) fn is_away(&self) -> bool {
        self.heard.presence.is_away()
    }

    pub(super) fn close(&self) {
        drop(self.open.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Listens as long as it is waited for.
async fn watch(options: &PostgresOptions, heard: &Heard) {
    loop {
        match connect(options).await {
            Ok((client, news)) => {
                heard.row(Told::Anything);
                heard.is_there();
                heard.news();
                listen(&client, news, heard).await;
            }
            Err(cause) => {
                match &cause {
                    StorageError::Unreachable(_) => heard.is_away(&cause),
                    // Somebody is there, and says why not: too many connections, for one.
                    _ => tracing::warn!(%cause, "the database does not let this node listen"),
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Tells news until the connection is lost, or nobody answers on it.
async fn listen(client: &Client, mut news: UnboundedReceiver<String>, heard: &Heard) {
    loop {
        match select(pin!(news.recv()), pin!(sleep(BEAT))).await {
            Either::Left((Some(payload), _)) => heard.told(&payload),
            Either::Left((None, _)) => return,
            Either::Right(_) => {
                match within(ANSWERS_WITHIN, client.batch_execute("")).await {
                    Ok(Ok(())) => {}
                    // One connection that breaks says nothing of the server: the next attempt does.
                    Ok(Err(_)) => return,
                    // A server that says nothing on a connection that stands is as good as gone.
                    Err(cause) => {
                        heard.is_away(&cause);
                        return;
                    }
                }
            }
        }
    }
}

async fn within<T>(time: Duration, answer: impl Future<Output = T>) -> Result<T> {
    let answer = timeout(time, answer).await;
    answer.map_err(|elapsed| StorageError::Unreachable(Arc::new(elapsed)))
}

/// A connection to the primary that listens.
async fn connect(options: &PostgresOptions) -> Result<(Client, UnboundedReceiver<String>)> {
    let (told, news) = unbounded_channel();
    let (config, patience) = (options.config(), options.connected_within());
    let client = match options.tls() {
        None => {
            let (client, connection) = within(patience, config.connect(NoTls)).await??;
            tokio::spawn(drive(connection, told));
            client
        }
        Some(tls) => {
            let tls = MakeRustlsConnect::new(tls.clone());
            let (client, connection) = within(patience, config.connect(tls)).await??;
            tokio::spawn(drive(connection, told));
            client
        }
    };
    within(ANSWERS_WITHIN, client.batch_execute(LISTEN)).await??;
    Ok((client, news))
}

/// Moves bytes, and hands on what is told. Ends with the connection, and the channel with it.
async fn drive<S, T>(connection: Connection<S, T>, told: UnboundedSender<String>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = pin!(connection);
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        let message: std::result::Result<AsyncMessage, Error> = message;
        match message {
            Ok(AsyncMessage::Notification(news))
                if told.send(news.payload().to_owned()).is_ok() => {}
            Ok(AsyncMessage::Notice(_)) => {}
            _ => return,
        }
    }
}
