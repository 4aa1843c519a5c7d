//! What the server counts, under the names Prometheus sees.
//!
//! One recorder for the process: a second server in the same process (tests) counts into the same.

use core::time::Duration;
use std::sync::OnceLock;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tapfer_payment_types::Timestamp;
use tapfer_storage::{Load, StandInStatus};

use crate::api::hsm::HsmState;

const REQUESTS: &str = "tapfer_http_requests_total";
const REQUEST_SECONDS: &str = "tapfer_http_request_duration_seconds";
const PANICS: &str = "tapfer_http_panics_total";
const AUTHORIZATIONS: &str = "tapfer_authorizations_total";
const DECISION_RETRIES: &str = "tapfer_authorization_retries_total";
const HSM_CALLS: &str = "tapfer_hsm_calls_total";
const HSM_SECONDS: &str = "tapfer_hsm_call_duration_seconds";
const HSM_UP: &str = "tapfer_hsm_up";
const HSM_SOFTWARE_KEYS: &str = "tapfer_hsm_software_keys";
const HSM_WAITING: &str = "tapfer_hsm_queue_depth";
const HSM_HEDGES: &str = "tapfer_hsm_hedges_total";
const HSM_RETRIES: &str = "tapfer_hsm_retries_total";
const HSM_REFUSED: &str = "tapfer_hsm_refused_total";
const HSM_MEMBER_UP: &str = "tapfer_hsm_member_up";
const HSM_MEMBER_WORKERS: &str = "tapfer_hsm_member_workers";
const HSM_MEMBER_HALTED: &str = "tapfer_hsm_member_halted_workers";
const HSM_MEMBER_ANSWERED: &str = "tapfer_hsm_member_answered_total";
const HSM_MEMBER_FAILED: &str = "tapfer_hsm_member_failed_total";
const HSM_MEMBER_BREAKER: &str = "tapfer_hsm_member_breaker_transitions_total";
const HSM_MEMBER_RESTARTS: &str = "tapfer_hsm_member_restarts_total";
const HSM_MEMBER_LATENCY: &str = "tapfer_hsm_member_latency_seconds";
const KEYS_DUE_SOON: &str = "tapfer_keys_due_soon";
const KEYS_OVERDUE: &str = "tapfer_keys_overdue";
const QUEUE_DEPTH: &str = "tapfer_storage_queue_depth";
const COMMITS: &str = "tapfer_storage_commits_total";
const PAYMENTS_AHEAD: &str = "tapfer_storage_payments_ahead";
const AUDIT_WAITS: &str = "tapfer_audit_lines_waiting_seconds";
const JOBS: &str = "tapfer_jobs_running";
const CONNECTIONS: &str = "tapfer_connections_open";
const CONNECTIONS_REFUSED: &str = "tapfer_connections_refused_total";
const LIMITED: &str = "tapfer_requests_limited_total";
const BODIES_REFUSED: &str = "tapfer_request_bodies_refused_total";
const CONNECTIONS_OVERDUE: &str = "tapfer_connections_overdue_total";
const STAND_IN: &str = "tapfer_stand_in";
const STAND_IN_FAULT: &str = "tapfer_stand_in_fault";
const STAND_IN_SECONDS: &str = "tapfer_stand_in_seconds";
const STAND_IN_PAYMENTS: &str = "tapfer_stand_in_payments";
const STAND_IN_PROMISED: &str = "tapfer_stand_in_promised_minor";
const STAND_IN_UNBOOKED: &str = "tapfer_stand_in_unbooked";
const STAND_IN_REFUSED: &str = "tapfer_stand_in_refused_total";

/// Upper bounds in seconds: the commit of an authorization lies between the second and the sixth.
const BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Sets the recorder up, once a process. `None` if the program has installed another recorder itself.
pub(crate) fn install() -> Option<PrometheusHandle> {
    RECORDER.get_or_init(build).clone()
}

fn build() -> Option<PrometheusHandle> {
    let matcher = Matcher::Suffix("_duration_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(matcher, BUCKETS).ok()?;
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).ok()?;
    describe();
    Some(handle)
}

fn describe() {
    describe_counter!(REQUESTS, "HTTP requests by method, route and status");
    describe_histogram!(REQUEST_SECONDS, "Time to answer an HTTP request by route");
    describe_counter!(PANICS, "Requests that ended in a panic; each one is a defect");
    describe_counter!(AUTHORIZATIONS, "Decisions on payments by outcome and reason");
    describe_counter!(DECISION_RETRIES, "Decisions taken again because the facts had changed");
    describe_counter!(HSM_CALLS, "Calls to the security module by verb and result");
    describe_histogram!(HSM_SECONDS, "Time of a call to the security module by verb");
    describe_gauge!(HSM_UP, "1 if some security module can be asked");
    describe_gauge!(
        HSM_SOFTWARE_KEYS,
        "1 unless every security module calls itself hardware: alert on it in production"
    );
    describe_gauge!(HSM_WAITING, "Calls that wait for a security module");
    describe_counter!(HSM_HEDGES, "Calls asked of another member because the first was slow");
    describe_counter!(HSM_RETRIES, "Calls asked of another worker because the first had failed");
    describe_counter!(HSM_REFUSED, "Calls refused: none serves, too many wait, or too late");
    describe_gauge!(HSM_MEMBER_UP, "1 if this member is asked");
    describe_gauge!(HSM_MEMBER_WORKERS, "Processes of this member that serve");
    describe_gauge!(
        HSM_MEMBER_HALTED,
        "Processes of this member that wait for a person, such as behind a refused PIN"
    );
    describe_counter!(HSM_MEMBER_ANSWERED, "Calls that this member answered");
    describe_counter!(HSM_MEMBER_FAILED, "Calls that failed at this member");
    describe_counter!(HSM_MEMBER_BREAKER, "How often the breaker of this member changed its state");
    describe_counter!(HSM_MEMBER_RESTARTS, "How often a process of this member was started again");
    describe_gauge!(
        HSM_MEMBER_LATENCY,
        "Moving mean of the time of a call, of this member's fastest process"
    );
    describe_gauge!(KEYS_DUE_SOON, "Keys whose cryptoperiod ends soon");
    describe_gauge!(KEYS_OVERDUE, "Keys that are used longer than their cryptoperiod");
    describe_gauge!(QUEUE_DEPTH, "Writes that wait for the database");
    describe_gauge!(
        PAYMENTS_AHEAD,
        "Payments that are on the disk and not yet in the tables that lists are read from"
    );
    describe_gauge!(
        AUDIT_WAITS,
        "How long lines of the audit log have waited for their links, where somebody is in the way: alert on a minute"
    );
    describe_counter!(
        COMMITS,
        "Transactions that went to the disk; writes that wait together share one"
    );
    describe_gauge!(JOBS, "Requests that are being worked on off the network threads");
    describe_gauge!(CONNECTIONS, "Connections that hold a place, from before the TLS handshake on");
    describe_counter!(CONNECTIONS_REFUSED, "Connections refused, by the limit that was reached");
    describe_counter!(
        CONNECTIONS_OVERDUE,
        "Connections ended because nothing was asked for too long"
    );
    describe_counter!(
        BODIES_REFUSED,
        "Requests refused because there was no room for their bodies, by the limit that was reached"
    );
    describe_counter!(LIMITED, "Requests refused because they came too soon, by the limit");
    describe_gauge!(STAND_IN, "1 while this node decides alone, or books what it decided");
    describe_gauge!(STAND_IN_FAULT, "1 if this node would not stand in, although it is allowed to");
    describe_gauge!(STAND_IN_SECONDS, "How long this node has been alone");
    describe_gauge!(STAND_IN_PAYMENTS, "Payments that this node has approved alone and not booked");
    describe_gauge!(STAND_IN_PROMISED, "How much that is, in minor units");
    describe_gauge!(STAND_IN_UNBOOKED, "Payment intents that wait to be booked, paid or not");
    describe_counter!(STAND_IN_REFUSED, "What this node did not do alone, by reason");
    // A counter that does not exist yet cannot be alerted on.
    counter!(PANICS).absolute(0);
    counter!(CONNECTIONS_OVERDUE).absolute(0);
    for limit in ["rate", "quota", "wrong-credentials"] {
        counter!(LIMITED, "limit" => limit).absolute(0);
    }
    for limit in ["all", "address"] {
        counter!(CONNECTIONS_REFUSED, "limit" => limit).absolute(0);
        counter!(BODIES_REFUSED, "limit" => limit).absolute(0);
    }
}

/// A request came too soon.
pub(crate) fn request_limited(limit: &'static str) {
    counter!(LIMITED, "limit" => limit).increment(1);
}

/// How many keys are due.
pub(crate) fn keys(due_soon: u32, overdue: u32) {
    gauge!(KEYS_DUE_SOON).set(f64::from(due_soon));
    gauge!(KEYS_OVERDUE).set(f64::from(overdue));
}

/// One HTTP request was answered.
pub(crate) fn request(method: &'static str, route: &str, status: u16, duration: Duration) {
    let labels = [
        ("method", method.to_owned()),
        ("route", route.to_owned()),
        ("status", status.to_string()),
    ];
    counter!(REQUESTS, &labels).increment(1);
    histogram!(REQUEST_SECONDS, "route" => route.to_owned()).record(duration.as_secs_f64());
}

/// A handler panicked.
pub(crate) fn panic() {
    counter!(PANICS).increment(1);
}

/// A payment was decided and the decision is on the disk.
pub(crate) fn authorization(outcome: &'static str, reason: &'static str) {
    counter!(AUTHORIZATIONS, "outcome" => outcome, "reason" => reason).increment(1);
}

/// A decision had to be taken again.
pub(crate) fn decision_retry() {
    counter!(DECISION_RETRIES).increment(1);
}

/// The security module answered.
pub(crate) fn hsm_call(verb: &'static str, is_ok: bool, duration: Duration) {
    let result = if is_ok { "ok" } else { "error" };
    counter!(HSM_CALLS, "verb" => verb, "result" => result).increment(1);
    histogram!(HSM_SECONDS, "verb" => verb).record(duration.as_secs_f64());
}

/// A connection was let in.
pub(crate) fn connection_opened() {
    gauge!(CONNECTIONS).increment(1.0);
}

/// A connection that was let in is gone.
pub(crate) fn connection_closed() {
    gauge!(CONNECTIONS).decrement(1.0);
}

/// A connection was not let in, because of this limit.
pub(crate) fn connection_refused(limit: &'static str) {
    counter!(CONNECTIONS_REFUSED, "limit" => limit).increment(1);
}

/// There was no room for the body of a request, because of this limit.
pub(crate) fn body_refused(limit: &'static str) {
    counter!(BODIES_REFUSED, "limit" => limit).increment(1);
}

/// A connection was ended because nothing was asked for too long.
pub(crate) fn connection_overdue() {
    counter!(CONNECTIONS_OVERDUE).increment(1);
}

/// How busy the database is, and how many requests are being worked on.
pub(crate) fn load(storage: Load, running_jobs: usize) {
    gauge!(QUEUE_DEPTH).set(to_f64(storage.waiting_changes));
    counter!(COMMITS).absolute(storage.commits);
    gauge!(PAYMENTS_AHEAD).set(to_f64(storage.payments_ahead));
    gauge!(AUDIT_WAITS).set(to_f64(usize::try_from(storage.audit_waits).unwrap_or(usize::MAX)));
    gauge!(JOBS).set(to_f64(running_jobs));
}

/// A node that stands in did not do something.
pub(crate) fn stand_in_refused(reason: &'static str) {
    counter!(STAND_IN_REFUSED, "reason" => reason).increment(1);
}

/// How this node stands in.
pub(crate) fn stand_in(status: &StandInStatus, now: Timestamp) {
    let alone = status.since.map_or(0, |since| now.millis_since(since).max(0));
    gauge!(STAND_IN).set(of_bool(status.since.is_some()));
    gauge!(STAND_IN_FAULT).set(of_bool(status.fault.is_some()));
    gauge!(STAND_IN_SECONDS).set(of_i64(alone).max(0.0).div_euclid(1_000.0));
    gauge!(STAND_IN_PAYMENTS).set(f64::from(status.payments));
    gauge!(STAND_IN_PROMISED).set(of_i64(status.promised.map_or(0, |promised| promised.minor)));
    gauge!(STAND_IN_UNBOOKED).set(to_f64(status.unbooked));
}

/// How the security modules stand.
pub(crate) fn hsm(state: &HsmState) {
    gauge!(HSM_UP).set(of_bool(state.serves));
    gauge!(HSM_SOFTWARE_KEYS).set(of_bool(!state.says_it_is_hardware));
    let Some(pool) = &state.pool else { return };
    gauge!(HSM_WAITING).set(to_f64(pool.waiting));
    counter!(HSM_HEDGES).absolute(pool.hedges);
    counter!(HSM_RETRIES).absolute(pool.retries);
    counter!(HSM_REFUSED).absolute(pool.refused);
    for member in &pool.members {
        let name = || member.name.clone();
        let serving = member.workers.iter().filter(|worker| worker.state == "serving");
        let is_asked = member.breaker == "closed" && serving.clone().count() > 0;
        let micros = serving.clone().filter_map(|worker| worker.latency_micros).min().unwrap_or(0);
        let latency = Duration::from_micros(micros).as_secs_f64();
        let restarts = member.workers.iter().map(|worker| worker.restarts).sum();
        gauge!(HSM_MEMBER_UP, "member" => name()).set(of_bool(is_asked));
        gauge!(HSM_MEMBER_WORKERS, "member" => name()).set(to_f64(serving.count()));
        let halted = member.workers.iter().filter(|worker| worker.state == "halted").count();
        gauge!(HSM_MEMBER_HALTED, "member" => name()).set(to_f64(halted));
        gauge!(HSM_MEMBER_LATENCY, "member" => name()).set(latency);
        counter!(HSM_MEMBER_ANSWERED, "member" => name()).absolute(member.answered);
        counter!(HSM_MEMBER_FAILED, "member" => name()).absolute(member.failed);
        counter!(HSM_MEMBER_BREAKER, "member" => name()).absolute(member.breaker_transitions);
        counter!(HSM_MEMBER_RESTARTS, "member" => name()).absolute(restarts);
    }
}

fn of_bool(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

fn of_i64(number: i64) -> f64 {
    i32::try_from(number).map_or(f64::MAX, f64::from)
}

fn to_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
