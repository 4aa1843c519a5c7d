//! Bodies of requests. They wait outside until it is known who asks: a body costs memory, a head next to none.
//!
//! There is room for so many bytes of bodies at a time, in all and of one address; who finds none is sent away, and nobody waits
//! for it. Those whose credentials stand in the body (clients of OAuth 2) have a smaller room apart, so that strangers take
//! none from who is known. What was read is wiped when it was used.

use core::future::poll_fn;
use core::pin::Pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::{Sleep, sleep, timeout};
use zeroize::Zeroizing;

use crate::http::App;
use crate::http::access::CallerSlot;
use crate::http::problem::{Problem, ProblemKind};
use crate::metrics;

/// Largest request body. The largest honest one is a list of revoked serial numbers; one with chip data has two kilobytes.
pub(crate) const MAXIMUM_BODY: usize = 64 * 1024;
/// The same of a caller who is not known yet.
const MAXIMUM_OF_A_STRANGER: usize = 8 * 1024;
/// So much of a refused body is read and thrown away: some clients look for an answer only behind what they send.
const MOST_DISCARDED: usize = 1024 * 1024;
/// Of nobody knows whom, no more than what would have been read if his credentials had been right.
const MOST_DISCARDED_OF_A_STRANGER: usize = MAXIMUM_BODY;
/// Of the room for bodies, strangers have this part, and beside it.
const PART_OF_STRANGERS: usize = 8;
/// Memory for a body that does not say how long it is; it grows with the body.
const FIRST_ROOM: usize = 4 * 1024;

/// Room for bodies, in bytes that are left.
#[derive(Debug)]
pub(crate) struct BodyRoom {
    known: AtomicUsize,
    strangers: AtomicUsize,
}

/// Who sends a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Known,
    Stranger,
}

impl Sender {
    const fn maximum(self) -> usize {
        match self {
            Self::Known => MAXIMUM_BODY,
            Self::Stranger => MAXIMUM_OF_A_STRANGER,
        }
    }
}

impl BodyRoom {
    /// For so many bytes of who is known, but always for one body.
    pub(crate) fn new(bytes: usize) -> Self {
        let part = bytes.checked_div(PART_OF_STRANGERS).unwrap_or(0);
        Self {
            known: AtomicUsize::new(bytes.max(MAXIMUM_BODY)),
            strangers: AtomicUsize::new(part.max(MAXIMUM_OF_A_STRANGER)),
        }
    }

    const fn left(&self, sender: Sender) -> &AtomicUsize {
        match sender {
            Sender::Known => &self.known,
            Sender::Stranger => &self.strangers,
        }
    }

    fn take(self: &Arc<Self>, sender: Sender, bytes: usize) -> Option<TakenRoom> {
        let order = Ordering::Relaxed;
        let left = self.left(sender).fetch_update(order, order, |left| left.checked_sub(bytes));
        left.ok().map(|_| TakenRoom { room: Arc::clone(self), sender, bytes })
    }
}

/// Room that is free again when this is dropped.
#[derive(Debug)]
struct TakenRoom {
    room: Arc<BodyRoom>,
    sender: Sender,
    bytes: usize,
}

impl Drop for TakenRoom {
    fn drop(&mut self) {
        self.room.left(self.sender).fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// The whole body of a request. Wiped, and its room free again, when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct RequestBody {
    bytes: Zeroizing<Vec<u8>>,
    _room: (Option<TakenRoom>, Option<TakenRoom>),
}

impl core::ops::Deref for RequestBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body that nobody has read to its end.
#[derive(Debug, Clone)]
struct Waiting(Arc<Mutex<Option<Body>>>);

impl Waiting {
    fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put_back(&self, body: Body) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }
}

/// Takes the body from the request, for [`read`] to fetch it. One that nobody fetched is read and thrown away behind the answer's
/// making: a refusal with the body still on the way would cost an HTTP/1 client its connection, and sometimes the refusal itself.
pub(crate) async fn wait_outside(app: &App, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let is_http_1 = request.version() <= Version::HTTP_11;
    // It waits until the body is called for, and nobody wants it.
    let is_to_come = request.headers().contains_key(header::EXPECT);
    let caller = request.extensions().get::<CallerSlot>().cloned();
    let time = sleep(app.limits().body);
    let (mut parts, body) = request.into_parts();
    let waiting = Waiting(Arc::new(Mutex::new(Some(body))));
    parts.extensions.insert(waiting.clone());
    let mut response = next.run(Request::from_parts(parts, Body::empty())).await;
    let is_over = match waiting.take() {
        Some(_) if is_to_come => false,
        Some(body) => {
            let is_known = caller.is_some_and(|caller| caller.is_set());
            let most = if is_known { MOST_DISCARDED } else { MOST_DISCARDED_OF_A_STRANGER };
            discard(body, most, time).await
        }
        None => true,
    };
    if is_http_1 && !is_over {
        // The connection ends with its body still on the way, and the client has to be told (RFC 9112, 9.6).
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads a body to its end and keeps nothing of it; says whether it got there in time.
async fn discard(mut body: Body, most: usize, time: Sleep) -> bool {
    if body_is_longer_than(&body, most) {
        return false;
    }
    let discarding = async {
        let mut left = most;
        while let Some(data) = next_data(&mut body).await {
            match data.ok().and_then(|data| left.checked_sub(data.len())) {
                Some(less) => left = less,
                None => return false,
            }
        }
        true
    };
    tokio::select! {
        is_over = discarding => is_over,
        () = time => false,
    }
}

/// Reads the whole body, if there is room for it, and in time. Of whom authentication has not found out who he is, less.
///
/// # Errors
/// 400, 408, 413 or 503.
pub(crate) async fn read(parts: &Parts, app: &App) -> Result<RequestBody, Problem> {
    let Some(waiting) = parts.extensions.get::<Waiting>() else {
        return Ok(RequestBody::default());
    };
    let Some(mut body) = waiting.take() else { return Err(broken_off()) };
    let is_known = parts.extensions.get::<CallerSlot>().is_some_and(CallerSlot::is_set);
    let sender = if is_known { Sender::Known } else { Sender::Stranger };
    let of_address = parts.extensions.get::<Arc<BodyRoom>>();
    let collecting = collect(&mut body, sender, app.body_room(), of_address);
    let collected = timeout(app.limits().body, collecting).await.unwrap_or_else(|_| {
        let detail = "the body of the request did not arrive in time; send it again";
        Err(Problem::new(ProblemKind::RequestTimeout, detail))
    });
    if collected.is_err() {
        waiting.put_back(body);
    }
    collected
}

async fn collect(
    body: &mut Body,
    sender: Sender,
    in_all: &Arc<BodyRoom>,
    of_address: Option<&Arc<BodyRoom>>,
) -> Result<RequestBody, Problem> {
    let maximum = sender.maximum();
    if body_is_longer_than(body, maximum) {
        return Err(too_large(maximum));
    }
    let declared = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let wanted = declared.unwrap_or(maximum);
    let take = |room: &Arc<BodyRoom>, limit| {
        room.take(sender, wanted).ok_or_else(|| {
            metrics::body_refused(limit);
            no_room()
        })
    };
    let of_all = take(in_all, "all")?;
    let room = (Some(of_all), of_address.map(|room| take(room, "address")).transpose()?);
    let mut bytes = Zeroizing::new(Vec::with_capacity(declared.unwrap_or(FIRST_ROOM)));
    while let Some(data) = next_data(body).await {
        let data = data.map_err(|_| broken_off())?;
        let length = bytes.len().saturating_add(data.len());
        if length > maximum {
            return Err(too_large(maximum));
        }
        if length > bytes.capacity() {
            // A vector that grows by itself leaves what it held behind, unwiped.
            let mut larger = Zeroizing::new(Vec::with_capacity(length.saturating_mul(2)));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        bytes.extend_from_slice(&data);
    }
    Ok(RequestBody { bytes, _room: room })
}

/// The next bytes of a body; what else comes with it is passed over.
async fn next_data(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

fn body_is_longer_than(body: &Body, maximum: usize) -> bool {
    usize::try_from(body.size_hint().lower()).map_or(true, |length| length > maximum)
}

fn too_large(maximum: usize) -> Problem {
    let detail = format!("the body of this request has at most {maximum} bytes");
    Problem::new(ProblemKind::PayloadTooLarge, detail)
}

fn broken_off() -> Problem {
    let detail = "the body ended before it was complete; send it again";
    Problem::new(ProblemKind::MalformedRequest, detail)
}

fn no_room() -> Problem {
    Problem::unavailable(
        "too many request bodies are on their way; nothing was done about this one. Ask again in a moment, with the same \
         idempotency key",
    )
}

#[cfg(test)]
mod tests {
    use super::{BodyRoom, MAXIMUM_BODY, Sender};
    use std::sync::Arc;

    #[test]
    fn room_is_shared_out_and_given_back() {
        let room = Arc::new(BodyRoom::new(3 * MAXIMUM_BODY));
        let first = room.take(Sender::Known, 2 * MAXIMUM_BODY).unwrap();
        let _second = room.take(Sender::Known, MAXIMUM_BODY).unwrap();
        assert!(room.take(Sender::Known, 1).is_none(), "there is no more");
        assert!(room.take(Sender::Known, 0).is_some(), "nothing needs none");
        drop(first);
        assert!(room.take(Sender::Known, 2 * MAXIMUM_BODY).is_some());
    }

    #[test]
    fn strangers_take_none_from_who_is_known() {
        let room = Arc::new(BodyRoom::new(8 * MAXIMUM_BODY));
        let _all = room.take(Sender::Stranger, MAXIMUM_BODY).unwrap();
        assert!(room.take(Sender::Stranger, 1).is_none());
        assert!(room.take(Sender::Known, 8 * MAXIMUM_BODY).is_some());
    }

    #[test]
    fn there_is_always_room_for_one() {
        let room = Arc::new(BodyRoom::new(0));
        assert!(room.take(Sender::Known, Sender::Known.maximum()).is_some());
        assert!(room.take(Sender::Stranger, Sender::Stranger.maximum()).is_some());
    }
}
