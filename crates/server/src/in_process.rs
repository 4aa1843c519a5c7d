//! The platform without sockets: requests go in and answers come out by calls, one step at a time.
//!
//! Everything behind the sockets is what serves people: routes, access, service, store, keys. Only who decides when is
//! another: payments that are handed in together are one lot, decided by the caller's thread, so that whoever brings
//! the clock, the randomness and the faults sees the same again. For simulations.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, header};
use axum::response::Response;
use tapfer_storage::Storage;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

use crate::client_certificate::ClientCertificates;
use crate::clock::SharedClock;
use crate::entropy::SharedEntropy;
use crate::http::{self, App, IDEMPOTENCY_KEY, Limits, REPLAYED};
use crate::pipeline::ByHand;
use crate::realm::Realm;
use crate::server::{ServerError, ensure_operator_key};
use crate::service::{ApiKeysTaken, Question, Service};

/// Nobody is sent away because the machine that simulates is slow.
const NO_HURRY: Duration = Duration::from_secs(86_400);

/// What becomes of a call of the security module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HsmFault {
    /// It goes on.
    None,
    /// No module serves.
    Down,
}

/// What a simulation does to calls of the security module.
pub trait HsmFaults: Send + Sync {
    /// Before a module is asked.
    fn before_call(&self) -> HsmFault;
    /// Once it has answered, or was not reached.
    fn behind_call(&self) -> HsmFault;
}

/// Where a platform gets what is not its own.
pub struct Surroundings {
    /// The time.
    pub clock: SharedClock,
    /// Randomness for names.
    pub entropy: SharedEntropy,
    /// What happens to the security module.
    pub hsm: Arc<dyn HsmFaults>,
}

/// A request as it comes over the wire.
#[derive(Debug, Clone)]
pub struct Call {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// The API key.
    pub bearer: String,
    /// The idempotency key; none for what changes nothing.
    pub idempotency_key: Option<String>,
    /// JSON; may be empty.
    pub body: String,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Whether it says of itself that it was given before.
    pub replayed: bool,
    /// Body, byte by byte.
    pub body: Vec<u8>,
}

/// A platform in this process.
pub struct InProcess {
    app: App,
    payments: ByHand<Question>,
    router: Router,
    runtime: Runtime,
}

impl InProcess {
    /// Starts the platform of a realm.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(realm: Realm, surroundings: Surroundings) -> Result<Self, ServerError> {
        let paths = realm.paths().clone();
        let Surroundings { clock, entropy, hsm } = surroundings;
        let clients = ClientCertificates::default();
        let service = Service::new(realm, clock, entropy, ApiKeysTaken::Signed, clients)?;
        let service = service.with_hsm_faults(hsm);
        ensure_operator_key(&service, &paths)?;
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| ServerError::Setup(error.to_string()))?;
        let limits =
            Limits { answer: NO_HURRY, body: NO_HURRY, concurrent: 64, ..Limits::default() };
        // The interface's description is for people; nobody reads it here.
        let (app, payments) = App::by_hand(service, limits, Bytes::new());
        let router = http::router(app.clone());
        Ok(Self { app, payments, router, runtime })
    }

    /// Hands requests in together, and gives their answers. Payments among them are decided in one lot, in this
    /// order; whatever else there is, is done before them.
    ///
    /// # Errors
    /// A request is none of HTTP.
    pub fn ask(&self, calls: Vec<Call>) -> Result<Vec<Answer>, ServerError> {
        let requests: Result<Vec<_>, _> = calls.into_iter().map(request).collect();
        let requests = requests.map_err(|error| ServerError::Setup(error.to_string()))?;
        let answers = requests.into_iter().map(|request| {
            let router = self.router.clone();
            Asked { waits: Some(Box::pin(router.oneshot(request))), answer: None }
        });
        let mut asked: Vec<_> = answers.collect();
        self.runtime.block_on(async {
            for one in &mut asked {
                one.until_it_waits(&self.app).await;
            }
            self.payments.decide_what_waits();
            let mut answers = Vec::new();
            for one in asked {
                answers.push(answer(one.response().await?).await?);
            }
            Ok(answers)
        })
    }

    /// The store, to look at.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        self.app.service().storage()
    }

    /// Stops as a server does that is told to: whatever waits is written down.
    pub fn stop(self) {
        self.app.service().close();
    }
}

type Waits = Pin<Box<dyn Future<Output = Result<Response, std::convert::Infallible>>>>;

/// A request on its way through the house.
struct Asked {
    waits: Option<Waits>,
    answer: Option<Response>,
}

impl Asked {
    /// Goes on until it is answered, or is a payment that waits to be decided.
    async fn until_it_waits(&mut self, app: &App) {
        let before = app.waiting_payments();
        let Self { waits, answer } = self;
        poll_fn(|context| {
            let Some(waiting) = waits else { return Poll::Ready(()) };
            match waiting.as_mut().poll(context) {
                Poll::Ready(Ok(response)) => {
                    *answer = Some(response);
                    *waits = None;
                    Poll::Ready(())
                }
                Poll::Pending if app.waiting_payments() > before => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
    }

    async fn response(self) -> Result<Response, ServerError> {
        match (self.answer, self.waits) {
            (Some(response), _) => Ok(response),
            (None, Some(waits)) => {
                let Ok(response) = waits.await;
                Ok(response)
            }
            (None, None) => Err(ServerError::Ended("a request has no answer".to_owned())),
        }
    }
}

fn request(call: Call) -> Result<Request<Body>, axum::http::Error> {
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.path)
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, format!("Bearer {}", call.bearer));
    if let Some(key) = call.idempotency_key {
        request = request.header(IDEMPOTENCY_KEY, key);
    }
    if !call.body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    request.body(Body::from(call.body))
}

async fn answer(response: Response) -> Result<Answer, ServerError> {
    let status = response.status().as_u16();
    let replayed = response.headers().get(REPLAYED).is_some_and(|value| value == "true");
    let body = to_bytes(response.into_body(), usize::MAX).await;
    let body = body.map_err(|error| ServerError::Ended(error.to_string()))?;
    Ok(Answer { status, replayed, body: body.to_vec() })
}
