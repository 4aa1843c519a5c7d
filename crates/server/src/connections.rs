//! Connections: how many there may be, and how long one may be held without asking for anything.
//!
//! A connection takes a place before its TLS handshake and gives it back when it is gone. It is ended
//! when no request of it has been worked on for too long. Only requests count: neither HTTP/2 pings nor
//! bytes that never become a request's head keep a connection alive (ASVS v5.0.0-13.1.2).
//!
//! A connection is a stranger's until a request on it has proved who asks, and so are those that an API key has beyond its share.
//! When there is no place left, whoever comes gets that of the stranger who has been there longest: nobody keeps others out by
//! asking what anybody may ask, nor with one key.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::body::HttpBody;
use axum::http::{Request, Response};
use axum_server::accept::Accept;
use tapfer_payment_types::ApiKeyId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::Sleep;
use tower::Service;

use crate::clock::Stopwatch;
use crate::http::{BodyRoom, Limits};
use crate::metrics;

/// Refused connections are told of in the log at most this often.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// One API key has one of so many parts of all places for sure, and so many where there are few.
const KEYS: usize = 12;
const FEW: usize = 4;
/// The half of an IPv6 address that names a network; the other half is its owner's to choose.
const NETWORK: u128 = 0xFFFF_FFFF_FFFF_FFFF << 64;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these locks can stop half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets connections in, as long as there are places, and watches them from then on.
#[derive(Debug, Clone)]
pub(crate) struct Door<A> {
    /// Does the TLS handshake, within its own time limit.
    handshake: A,
    places: Arc<Places>,
    first_request: Duration,
    idle: Duration,
}

impl<A> Door<A> {
    pub(crate) fn new(handshake: A, places: Arc<Places>, limits: &Limits) -> Self {
        let (first_request, idle) = (limits.opening, limits.idle);
        Self { handshake, places, first_request, idle }
    }
}

impl<A, S> Accept<TcpStream, S> for Door<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = Watched<A::Stream>;
    type Service = Counted<A::Service>;
    type Future = Boxed<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let (place, mut sent_away) =
            match stream.peer_addr().and_then(|peer| self.places.take(peer)) {
                Ok(taken) => taken,
                Err(refusal) => return Box::pin(core::future::ready(Err(refusal))),
            };
        let (first_request, idle) = (self.first_request, self.idle);
        let handshake = self.handshake.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = tokio::select! {
                shaken = handshake => shaken?,
                // Nobody is known before the handshake.
                _ = &mut sent_away => return Err(io::ErrorKind::ConnectionAborted.into()),
            };
            let requests = Arc::new(Requests::default());
            let place = Arc::new(place);
            let service =
                Counted { service, requests: Arc::clone(&requests), place: Arc::clone(&place) };
            let timer = Box::pin(tokio::time::sleep(first_request));
            let sent_away = Some(sent_away);
            let watched = Watched {
                stream,
                requests,
                timer,
                change: 0,
                idle,
                sent_away,
                is_over: false,
                _place: place,
            };
            Ok((watched, service))
        })
    }
}

/// The places for connections, in all and for one address.
#[derive(Debug)]
pub(crate) struct Places {
    in_all: usize,
    for_one: usize,
    bodies_of_one: usize,
    taken: Mutex<Taken>,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_client: HashMap<IpAddr, Client>,
    /// How many connections are known to be of each API key.
    by_key: HashMap<ApiKeyId, usize>,
    /// Connections of nobody knows whom, and of keys that have their share, in the order in which they came.
    strangers: BTreeMap<u64, Stranger>,
    came: u64,
    refused: u64,
    told: Option<Stopwatch>,
}

/// A connection whose place another may get.
#[derive(Debug)]
struct Stranger {
    client: IpAddr,
    /// Has it end.
    send_away: oneshot::Sender<()>,
}

/// Of whom there are connections.
#[derive(Debug)]
struct Client {
    connections: usize,
    body_room: Arc<BodyRoom>,
}

impl Places {
    pub(crate) fn new(limits: &Limits) -> Self {
        let (in_all, for_one) = (limits.connections, limits.connections_per_address);
        let bodies_of_one = limits.bodies_per_address();
        let emptied = Notify::new();
        Self { in_all, for_one, bodies_of_one, taken: Mutex::default(), emptied }
    }

    /// Returns when all places are free, or after this long.
    pub(crate) async fn emptied(&self, patience: Duration) {
        let emptied = self.emptied.notified();
        if lock(&self.taken).in_all > 0 {
            // Who is still there then has asked nothing for that long.
            let _emptied = tokio::time::timeout(patience, emptied).await;
        }
    }

    /// A place, and what says that it is somebody else's from now on.
    fn take(self: &Arc<Self>, peer: SocketAddr) -> io::Result<(Place, oneshot::Receiver<()>)> {
        let client = client_of(peer.ip());
        let mut taken = lock(&self.taken);
        let of_client = taken.by_client.get(&client).map_or(0, |client| client.connections);
        let has_its_share = of_client >= self.for_one;
        if has_its_share || taken.in_all >= self.in_all {
            let limit = if has_its_share { "address" } else { "all" };
            let is_meant = |one: &Stranger| !has_its_share || one.client == client;
            // Who is sent away has its place until he is gone.
            let are_going = taken.in_all.saturating_sub(self.in_all);
            let is_made_free = are_going < self.in_all.div_ceil(8) && taken.send_away(is_meant);
            taken.refuse(limit, client);
            if !is_made_free {
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many connections"));
            }
        }
        taken.in_all = taken.in_all.saturating_add(1);
        let bodies = self.bodies_of_one;
        let body_room = taken.add(client, || Arc::new(BodyRoom::new(bodies)));
        let (send_away, sent_away) = oneshot::channel();
        taken.came = taken.came.wrapping_add(1);
        let number = taken.came;
        taken.strangers.insert(number, Stranger { client, send_away });
        metrics::connection_opened();
        let (places, key) = (Arc::clone(self), OnceLock::new());
        Ok((Place { places, client, number, key, body_room }, sent_away))
    }
}

impl Taken {
    fn refuse(&mut self, limit: &'static str, client: IpAddr) {
        metrics::connection_refused(limit);
        self.refused = self.refused.saturating_add(1);
        if self.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
            tracing::warn!(
                target: "tapfer::security",
                event = "connections_refused",
                limit,
                %client,
                open = self.in_all,
                refused = self.refused,
                "too many connections; the count is of all that were refused since the last such line"
            );
            self.refused = 0;
            self.told = Some(Stopwatch::start());
        }
    }

    /// Ends the connection of the stranger who has been here longest, of those that are meant; whether there is one.
    fn send_away(&mut self, is_meant: impl Fn(&Stranger) -> bool) -> bool {
        let oldest =
            self.strangers.iter().find(|(_, one)| is_meant(one)).map(|(number, _)| *number);
        let stranger = oldest.and_then(|number| self.strangers.remove(&number));
        // One that is gone meanwhile has made a place free as well.
        stranger.map(|stranger| stranger.send_away.send(())).is_some()
    }

    /// One more connection of a client; gives its room for bodies.
    fn add(&mut self, client: IpAddr, room: impl FnOnce() -> Arc<BodyRoom>) -> Arc<BodyRoom> {
        let new = || Client { connections: 0, body_room: room() };
        let client = self.by_client.entry(client).or_insert_with(new);
        client.connections = client.connections.saturating_add(1);
        Arc::clone(&client.body_room)
    }

    /// Nobody gets the place any more, unless the key has its share; whether that is so.
    fn know(&mut self, number: u64, key: ApiKeyId, share: usize) -> bool {
        let of_key = self.by_key.entry(key).or_default();
        if *of_key >= share {
            return false;
        }
        *of_key = of_key.saturating_add(1);
        self.strangers.remove(&number);
        true
    }

    fn forget(&mut self, key: ApiKeyId) {
        let left = self.by_key.get_mut(&key).map_or(0, |of_key| {
            *of_key = of_key.saturating_sub(1);
            *of_key
        });
        if left == 0 {
            self.by_key.remove(&key);
        }
    }

    fn free(&mut self, client: IpAddr) {
        self.in_all = self.in_all.saturating_sub(1);
        if let Some(of_client) = self.by_client.get_mut(&client) {
            of_client.connections = of_client.connections.saturating_sub(1);
            if of_client.connections == 0 {
                self.by_client.remove(&client);
            }
        }
    }
}

/// Whom an address belongs to: of IPv6 a whole network, since each client has one to itself.
pub(crate) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address => address,
    }
}

/// The place of one connection, free again when this is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    client: IpAddr,
    /// How many came before.
    number: u64,
    /// Whose it is, once nobody gets it from him.
    key: OnceLock<ApiKeyId>,
    body_room: Arc<BodyRoom>,
}

impl Place {
    /// It is known whose it is: nobody gets it from him, unless he has many.
    fn is_known(&self, key: ApiKeyId) {
        if self.key.get().is_some() {
            return;
        }
        let share = self.places.in_all.div_euclid(KEYS).max(FEW);
        let mut taken = lock(&self.places.taken);
        if taken.know(self.number, key, share) && self.key.set(key).is_err() {
            // Two requests of one connection at the same moment: it counts once.
            taken.forget(key);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.taken);
        taken.strangers.remove(&self.number);
        if let Some(key) = self.key.get() {
            taken.forget(*key);
        }
        taken.free(self.client);
        if taken.in_all == 0 {
            self.places.emptied.notify_waiters();
        }
        drop(taken);
        metrics::connection_closed();
    }
}

/// What the requests of one connection are doing.
#[derive(Debug, Default)]
struct Requests(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// Counts beginnings and ends.
    change: u64,
    /// The connection, which wants to know when nothing is running any more.
    connection: Option<Waker>,
}

impl Requests {
    fn begin(self: &Arc<Self>) -> RunningRequest {
        let mut state = lock(&self.0);
        state.running = state.running.saturating_add(1);
        state.change = state.change.wrapping_add(1);
        RunningRequest(Arc::clone(self))
    }

    /// The number of the latest change, if nothing is running now.
    fn idle_since(&self, context: &Context<'_>) -> Option<u64> {
        let mut state = lock(&self.0);
        if state.running == 0 {
            return Some(state.change);
        }
        state.connection = Some(context.waker().clone());
        None
    }
}

/// A request that is being worked on, until this is dropped.
struct RunningRequest(Arc<Requests>);

impl Drop for RunningRequest {
    fn drop(&mut self) {
        let mut state = lock(&self.0.0);
        state.running = state.running.saturating_sub(1);
        state.change = state.change.wrapping_add(1);
        if let Some(connection) = state.connection.take() {
            connection.wake();
        }
    }
}

/// Stands in an answer to somebody who has proved who he is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToSomebodyKnown(pub(crate) ApiKeyId);

/// The service of one connection; counts what is running, hears when it is known whose it is, and tells requests how much room there
/// is for their bodies.
#[derive(Clone)]
pub(crate) struct Counted<S> {
    service: S,
    requests: Arc<Requests>,
    place: Arc<Place>,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    B: HttpBody,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Boxed<Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if !request.body().is_end_stream() {
            request.extensions_mut().insert(Arc::clone(&self.place.body_room));
        }
        // Ends with the answer and not with its last byte, so that a client cannot hold a connection by
        // not reading. Answers are whole when they are given, and the time for one is limited.
        let running = self.requests.begin();
        let answer = self.service.call(request);
        let place = Arc::clone(&self.place);
        Box::pin(async move {
            let answer = answer.await;
            drop(running);
            if let Ok(answer) = &answer
                && let Some(ToSomebodyKnown(key)) = answer.extensions().get()
            {
                place.is_known(*key);
            }
            answer
        })
    }
}

/// A connection that ends by itself when nothing was asked for too long.
pub(crate) struct Watched<T> {
    stream: T,
    requests: Arc<Requests>,
    /// Runs out when the client has had its time.
    timer: Pin<Box<Sleep>>,
    /// The change after which the timer was set.
    change: u64,
    idle: Duration,
    /// Says that its place is somebody else's; nothing more is said when it is known whose connection it is.
    sent_away: Option<oneshot::Receiver<()>>,
    is_over: bool,
    _place: Arc<Place>,
}

impl<T> Watched<T> {
    /// Ready when the connection is to end.
    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(sent_away) = &mut self.sent_away
            && let Poll::Ready(said) = Pin::new(sent_away).poll(context)
        {
            self.sent_away = None;
            if said.is_ok() {
                self.is_over = true;
            }
        }
        if self.is_over {
            return Poll::Ready(());
        }
        let Some(change) = self.requests.idle_since(context) else { return Poll::Pending };
        if change != self.change {
            self.change = change;
            self.timer.set(tokio::time::sleep(self.idle));
        }
        let overdue = self.timer.as_mut().poll(context);
        if overdue.is_ready() {
            metrics::connection_overdue();
        }
        overdue
    }

    /// What came of writing, but not for ever.
    fn unless_overdue<R>(
        &mut self,
        written: Poll<io::Result<R>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<R>> {
        if written.is_pending() && self.poll_overdue(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.poll_overdue(context).is_ready() {
            // As if the client had ended it: HTTP and TLS then close in good order.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_overdue(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_flush(context);
        self.unless_overdue(written, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_shutdown(context);
        self.unless_overdue(written, context)
    }
}

/// Limits that the process can keep: each connection is an open file, and a quarter of what the process
/// may open is left for the database, certificates and threads.
pub(crate) fn within_open_files(limits: Limits) -> Limits {
    #[cfg(unix)]
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let open_files = None;
    let open_files = open_files.and_then(|limit| usize::try_from(limit).ok());
    let most = open_files.map_or(usize::MAX, |limit| limit.saturating_mul(3) / 4);
    reduced(limits, most)
}

/// Fewer connections in all leave each address the same share of them.
fn reduced(limits: Limits, most: usize) -> Limits {
    if limits.connections <= most {
        return limits;
    }
    tracing::warn!(
        target: "tapfer::server",
        wanted = limits.connections,
        possible = most,
        "this process may open too few files for its connections; raise the limit (ulimit -n)"
    );
    let share = limits.connections_per_address.saturating_mul(most);
    let share = share.checked_div(limits.connections).unwrap_or(0).max(1);
    Limits { connections: most, connections_per_address: share, ..limits }
}

#[cfg(test)]
mod tests {
    use super::{Places, client_of, reduced};
    use crate::http::Limits;
    use core::time::Duration;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use tapfer_payment_types::{ApiKeyId, Timestamp};

    fn peer(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 40_000)
    }

    fn key(number: u8) -> ApiKeyId {
        ApiKeyId::new(Timestamp::from_unix_millis(0), [number; 10])
    }

    fn small() -> Arc<Places> {
        let limits = Limits { connections: 3, connections_per_address: 2, ..Limits::default() };
        Arc::new(Places::new(&limits))
    }

    #[test]
    fn places_of_who_is_known_are_shared_out_and_given_back() {
        let places = small();
        let mut keys = 0..;
        let mut known = |address| {
            places.take(peer(address)).map(|(place, _)| {
                place.is_known(key(keys.next().unwrap()));
                place
            })
        };
        let first = known("192.0.2.1").unwrap();
        let _second = known("192.0.2.1").unwrap();
        assert!(known("192.0.2.1").is_err(), "this address has its share");
        let other = known("192.0.2.2").unwrap();
        assert!(known("192.0.2.3").is_err(), "all places are taken");
        drop((first, other));
        let _again = known("192.0.2.1").unwrap();
        let _another = known("192.0.2.3").unwrap();
        assert!(known("192.0.2.4").is_err());
    }

    #[test]
    fn a_stranger_goes_when_somebody_else_needs_the_place() {
        let places = small();
        let (first, mut oldest) = places.take(peer("192.0.2.1")).unwrap();
        let (known, mut stays) = places.take(peer("192.0.2.1")).unwrap();
        known.is_known(key(1));
        let (_next, mut next) = places.take(peer("192.0.2.2")).unwrap();
        let (_newest, mut newest) = places.take(peer("192.0.2.3")).unwrap();
        assert_eq!(oldest.try_recv(), Ok(()), "who has been there longest");
        assert!(next.try_recv().is_err());
        drop(first);
        let _one_more = places.take(peer("192.0.2.4")).unwrap();
        assert_eq!(next.try_recv(), Ok(()));
        assert!(stays.try_recv().is_err() && newest.try_recv().is_err());
    }

    #[test]
    fn beyond_its_share_a_key_is_a_stranger() {
        let limits = Limits { connections: 5, connections_per_address: 5, ..Limits::default() };
        let places = Arc::new(Places::new(&limits));
        let of_key = || {
            let (place, sent_away) = places.take(peer("192.0.2.1")).unwrap();
            place.is_known(key(1));
            place.is_known(key(1));
            (place, sent_away)
        };
        let mut held: Vec<_> = (0..5).map(|_| of_key()).collect();
        let comes = places.take(peer("192.0.2.2")).unwrap();
        let gone: Vec<_> = held.iter_mut().map(|(_, sent_away)| sent_away.try_recv()).collect();
        assert_eq!(gone.iter().position(Result::is_ok), Some(4), "{gone:?}");
        held.truncate(3);
        held.push(of_key());
        drop(comes);
        let _two = [places.take(peer("192.0.2.2")), places.take(peer("192.0.2.3"))];
        assert!(held[3].1.try_recv().is_err(), "what was given back counts no more");
    }

    #[test]
    fn of_an_address_with_its_share_one_of_its_own_goes() {
        let places = small();
        let (_other, mut other) = places.take(peer("192.0.2.2")).unwrap();
        let (_first, mut first) = places.take(peer("192.0.2.1")).unwrap();
        let _second = places.take(peer("192.0.2.1")).unwrap();
        let _third = places.take(peer("192.0.2.1")).unwrap();
        assert_eq!(first.try_recv(), Ok(()));
        assert!(other.try_recv().is_err(), "older, and another's");
    }

    #[test]
    fn those_who_were_sent_away_have_to_go_before_many_more_come() {
        let places = small();
        let held: Vec<_> = (0..4).map(|_| places.take(peer("192.0.2.1"))).collect();
        let held: Vec<_> = held.into_iter().flatten().collect();
        let others = ["192.0.2.2", "192.0.2.3", "192.0.2.4"].map(|one| places.take(peer(one)));
        assert!(held.len() + others.iter().flatten().count() <= 4, "a place more than there are");
    }

    #[tokio::test]
    async fn those_who_are_in_are_waited_for_but_not_for_ever() {
        let places = Arc::new(Places::new(&Limits::default()));
        let one = places.take(peer("192.0.2.1")).unwrap();
        places.emptied(Duration::ZERO).await;
        let leaving = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.emptied(Duration::from_secs(86_400)).await }
        });
        tokio::task::yield_now().await;
        assert!(!leaving.is_finished(), "one is still in");
        drop(one);
        leaving.await.unwrap();
    }

    #[test]
    fn a_whole_ipv6_network_is_one_client() {
        let clients = |left: &str, right: &str| {
            (client_of(left.parse().unwrap()), client_of(right.parse().unwrap()))
        };
        let (left, right) = clients("2001:db8:1:2::1", "2001:db8:1:2:ffff::9");
        assert_eq!(left, right);
        let (left, right) = clients("2001:db8:1:2::1", "2001:db8:1:3::1");
        assert_ne!(left, right);
        let (left, right) = clients("::ffff:192.0.2.1", "192.0.2.1");
        assert_eq!(left, right);
    }

    #[test]
    fn fewer_files_mean_fewer_connections_in_proportion() {
        let limits = Limits { connections: 800, connections_per_address: 200, ..Limits::default() };
        let kept = reduced(limits, 800);
        assert_eq!((kept.connections, kept.connections_per_address), (800, 200));
        let fewer = reduced(limits, 150);
        assert_eq!((fewer.connections, fewer.connections_per_address), (150, 37));
        let hardly_any = reduced(limits, 3);
        assert_eq!((hardly_any.connections, hardly_any.connections_per_address), (3, 1));
    }
}
