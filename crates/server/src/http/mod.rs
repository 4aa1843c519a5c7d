//! The HTTP side: routes, extractors, problems, headers, the access log.
//!
//! Every answer passes both layers, also those to unknown routes: what is around a route ([`around`]), and the catch of panics.

mod access;
mod around;
mod authentication;
mod body;
mod command;
mod extract;
mod fault;
mod form;
mod host;
mod openapi;
mod problem;
mod request_id;
mod routes;
mod scope;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::any::Any;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;

use crate::entropy::Entropy;
use crate::http::problem::Problem;
use crate::metrics;
use crate::pipeline::{ByHand, NotTaken, Pipeline, Tell};
use crate::request_limits::{RequestGate, RequestLimits};
use crate::service::{Answered, Decided, Question, Service, ServiceError};

pub(crate) use body::BodyRoom;
pub(crate) use command::REPLAYED;
pub(crate) use openapi::IDEMPOTENCY_KEY;
pub(crate) use routes::document;

/// The interface's description, OpenAPI 3.1, as the server gives it at `/v1/openapi.json`.
///
/// # Errors
/// Never in practice: the document is plain data.
pub fn openapi_document() -> Result<String, serde_json::Error> {
    let (document, _) = document()?;
    serde_json::to_string_pretty(&document)
}

/// How long and how many.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections that may be open at the same time. No more than three quarters of the files that the
    /// process may open, whatever is asked for here.
    pub connections: usize,
    /// Of these, connections from one IPv4 address or one IPv6 network of 64 bits. Behind a proxy all
    /// come from one address: then set it as high as the number in all.
    pub connections_per_address: usize,
    /// A client has this long for the TLS handshake, and as long again for the head of its first request.
    pub opening: Duration,
    /// A connection on which nothing was worked on for this long is closed.
    pub idle: Duration,
    /// A request body has to arrive within this.
    pub body: Duration,
    /// Bytes of request bodies that there is room for at the same time. Each address has the part of it that it has of the connections.
    pub bodies: usize,
    /// A request is answered within this, or with 503: the work goes on, and the caller learns of its
    /// end by asking again with the same idempotency key.
    pub answer: Duration,
    /// Requests that are worked on at the same time; more have to wait their turn.
    pub concurrent: usize,
    /// How often somebody may ask.
    pub requests: RequestLimits,
    /// When the server stops, connections are told to end with their next answer. One that asks nothing for this long is ended
    /// without.
    pub leaving: Duration,
    /// Running requests may take this long to end when the server stops.
    pub shutdown: Duration,
}

impl Limits {
    /// Of the bytes of bodies, those of one address.
    pub(crate) fn bodies_per_address(&self) -> usize {
        let share = self.bodies.saturating_mul(self.connections_per_address);
        share.checked_div(self.connections).unwrap_or(0).min(self.bodies)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 768,
            connections_per_address: 192,
            opening: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            body: Duration::from_secs(10),
            bodies: 64 * 1024 * 1024,
            answer: Duration::from_secs(30),
            concurrent: 64,
            requests: RequestLimits::default(),
            leaving: Duration::from_secs(1),
            shutdown: Duration::from_secs(20),
        }
    }
}

/// What every handler can reach.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

struct Shared {
    service: Arc<Service>,
    pipeline: Pipeline<Question>,
    turns: Arc<Semaphore>,
    gate: RequestGate,
    body_room: Arc<BodyRoom>,
    limits: Limits,
    leaving: AtomicBool,
    metrics: Option<PrometheusHandle>,
    document: Bytes,
    scopes: Vec<String>,
    names: Vec<String>,
}

impl App {
    /// Puts the parts together, for a server of these names.
    ///
    /// # Errors
    /// There are no more threads.
    pub(crate) fn new(
        service: Service,
        limits: Limits,
        document: Bytes,
        names: Vec<String>,
    ) -> io::Result<Self> {
        let service = Arc::new(service);
        let decider = Arc::clone(&service);
        let pipeline = Pipeline::start(move |asked: &[Question], tell: Tell<'_, Decided>| {
            decider.decide_together(asked, tell);
        })?;
        Ok(Self::with(service, pipeline, limits, document, names))
    }

    /// As [`App::new`], without threads that decide payments: that is done by hand.
    pub(crate) fn by_hand(
        service: Service,
        limits: Limits,
        document: Bytes,
    ) -> (Self, ByHand<Question>) {
        let service = Arc::new(service);
        let decider = Arc::clone(&service);
        let (pipeline, by_hand) =
            Pipeline::by_hand(move |asked: &[Question], tell: Tell<'_, Decided>| {
                decider.decide_together(asked, tell);
            });
        (Self::with(service, pipeline, limits, document, Vec::new()), by_hand)
    }

    fn with(
        service: Arc<Service>,
        pipeline: Pipeline<Question>,
        limits: Limits,
        document: Bytes,
        names: Vec<String>,
    ) -> Self {
        let described: Value = serde_json::from_slice(&document).unwrap_or_default();
        let scopes = scope::all(&described);
        Self(Arc::new(Shared {
            service,
            pipeline,
            turns: Arc::new(Semaphore::new(limits.concurrent)),
            gate: RequestGate::new(limits.requests),
            body_room: Arc::new(BodyRoom::new(limits.bodies)),
            limits,
            leaving: AtomicBool::new(false),
            metrics: metrics::install(),
            document,
            scopes,
            names,
        }))
    }

    /// Decides a payment, together with those that come at the same moment.
    ///
    /// It is decided whether or not somebody still waits for the answer.
    pub(crate) async fn decide(&self, question: Question) -> Result<Answered, Problem> {
        let answer = self.0.pipeline.ask(question).map_err(|not_taken| match not_taken {
            NotTaken::Full => Problem::unavailable(
                "too many payments wait to be decided; nothing was decided about this one. Ask again in a moment, with \
                 the same idempotency key",
            ),
            NotTaken::ShareFull => Problem::unavailable(
                "this API key has too many payments that wait to be decided; nothing was decided about this one. Wait for \
                 their answers, and ask again with the same idempotency key",
            ),
            NotTaken::Closed => stopping(),
        })?;
        match tokio::time::timeout(self.0.limits.answer, answer).await {
            Ok(Ok(Err(ServiceError::Unauthenticated { origin, request_id }))) => {
                Err(authentication::turn_away(self, &origin, &request_id))
            }
            Ok(Ok(decided)) => decided.map_err(Problem::from),
            Ok(Err(_)) => Err(panicked()),
            Err(_) => Err(too_late()),
        }
    }

    /// Does work that waits for the database or the security module, away from the network threads.
    ///
    /// Once begun the work goes on to its end, whether or not somebody still waits for the answer: a
    /// payment is never left half done because a caller hung up.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Service) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, Problem> {
        let answer = tokio::time::timeout(self.0.limits.answer, self.run_to_the_end(work)).await;
        answer.unwrap_or_else(|_| Err(too_late()))
    }

    async fn run_to_the_end<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Service) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, Problem> {
        let turns = Arc::clone(&self.0.turns);
        let turn = turns.acquire_owned().await.map_err(|_| stopping())?;
        let service = Arc::clone(&self.0.service);
        let job = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&service)
        });
        match job.await {
            Ok(result) => result.map_err(Problem::from),
            Err(failure) if failure.is_panic() => Err(panicked()),
            Err(_) => Err(stopping()),
        }
    }

    /// From now on each answer is the last of its connection, and nobody is sent here any more.
    pub(crate) fn leave(&self) {
        self.0.leaving.store(true, Ordering::Release);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.0.leaving.load(Ordering::Acquire)
    }

    /// Waits until no work is running any more, and lets none begin.
    pub(crate) async fn drain(&self) {
        let all = u32::try_from(self.0.limits.concurrent).unwrap_or(u32::MAX);
        // Fails only if the semaphore is closed, and then there is nothing to wait for.
        let _turns = self.0.turns.acquire_many(all).await;
        self.0.turns.close();
        let app = self.clone();
        // Fails only if the runtime ends before it, and then nobody is left to be answered.
        let _closed = tokio::task::spawn_blocking(move || app.0.pipeline.close()).await;
    }

    /// How many payments wait to be decided.
    pub(crate) fn waiting_payments(&self) -> usize {
        self.0.pipeline.unanswered()
    }

    /// How many requests are being worked on.
    pub(crate) fn running_jobs(&self) -> usize {
        let turns = self.0.limits.concurrent.saturating_sub(self.0.turns.available_permits());
        turns.saturating_add(self.0.pipeline.unanswered())
    }

    pub(crate) fn service(&self) -> &Service {
        &self.0.service
    }

    /// Counts requests, and says who comes too soon.
    pub(crate) fn gate(&self) -> &RequestGate {
        &self.0.gate
    }

    /// Room for the bodies of requests.
    pub(crate) fn body_room(&self) -> &Arc<BodyRoom> {
        &self.0.body_room
    }

    pub(crate) fn limits(&self) -> Limits {
        self.0.limits
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        self.0.service.entropy()
    }

    pub(crate) fn metrics(&self) -> Option<&PrometheusHandle> {
        self.0.metrics.as_ref()
    }

    /// What access tokens may be wanted for.
    pub(crate) fn scopes(&self) -> &[String] {
        &self.0.scopes
    }

    /// Under which names clients may ask for this server.
    pub(crate) fn names(&self) -> &[String] {
        &self.0.names
    }

    pub(crate) fn document(&self) -> &Bytes {
        &self.0.document
    }
}

/// All routes with all layers.
pub(crate) fn router(app: App) -> Router {
    let (routes, _) = routes::all().split_for_parts();
    routes
        .fallback(|| async { Problem::not_found("route") })
        .method_not_allowed_fallback(|| async { method_not_allowed() })
        .layer(CatchPanicLayer::custom(|_: Box<dyn Any + Send>| panicked().into_response()))
        .layer(from_fn_with_state(app.clone(), around::answer))
        .with_state(app)
}

fn method_not_allowed() -> Response {
    let detail = "this route exists, but not for this method; the header allow says for which";
    Problem::new(problem::ProblemKind::MethodNotAllowed, detail).into_response()
}

fn too_late() -> Problem {
    Problem::unavailable(
        "the answer took too long. Whether anything was changed is not known yet: ask again \
         with the same idempotency key, and you get the stored answer or the work is done",
    )
}

pub(crate) fn stopping() -> Problem {
    Problem::unavailable("the server is stopping; ask again")
}

/// What a panic carries may hold data of the request, so only that there was one is written down; the
/// place in the code comes from the panic hook.
fn panicked() -> Problem {
    metrics::panic();
    Problem::internal(&"a handler panicked; this is a defect, please report it")
}
