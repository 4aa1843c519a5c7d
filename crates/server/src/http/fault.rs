//! The one mapping from what went wrong inside to what the caller is told.

use tapfer_hsm::HsmError;
use tapfer_payments::integrity::IntegrityError;
use tapfer_payments::intents::IntentError;
use tapfer_payments::policies::PolicyRefusal;
use tapfer_payments::refunds::RefundError;
use tapfer_payments::store_shares::DeviceError;
use tapfer_storage::{Refusal, StorageError};

use crate::http::authentication::unauthenticated;
use crate::http::problem::{Problem, ProblemKind};
use crate::metrics;
use crate::service::ServiceError;

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Unauthenticated { .. } => unauthenticated(),
            ServiceError::NotFound(what) => Self::not_found(what),
            ServiceError::Forbidden(why) => Self::forbidden(why),
            ServiceError::Invalid(detail) => Self::invalid(detail),
            ServiceError::ChipData(error) => {
                Self::new(ProblemKind::InvalidChipData, error.to_string())
            }
            ServiceError::Conflict(detail) => Self::conflict(detail),
            ServiceError::Contention(detail) => Self::unavailable(detail),
            ServiceError::Storage(error) => of_storage(error),
            ServiceError::Hsm(error) => of_hsm(&error),
            error @ (ServiceError::Entropy(_)
            | ServiceError::Certificate(_)
            | ServiceError::Profile(_)
            | ServiceError::Damaged(_)) => Self::internal(&error),
        }
    }
}

fn of_storage(error: StorageError) -> Problem {
    match error {
        StorageError::NotFound { kind, .. } => Problem::not_found(kind),
        StorageError::OfAnotherMerchant => Problem::not_found("payment intent"),
        StorageError::Refused(refusal) => of_refusal(&refusal),
        StorageError::DifferentContent(_) => {
            Problem::new(ProblemKind::IdempotencyKeyReused, error.to_string())
        }
        StorageError::StillRunning => {
            Problem::new(ProblemKind::IdempotencyInProgress, error.to_string())
        }
        StorageError::Conflict
        | StorageError::Busy
        | StorageError::NoConnection(_)
        | StorageError::Closed => {
            tracing::warn!(target: "tapfer::fault", cause = %error, "the store cannot answer");
            Problem::unavailable("the store cannot take this at the moment; ask again")
        }
        StorageError::Unreachable(_) | StorageError::Moved(_) => {
            tracing::warn!(target: "tapfer::fault", cause = %error, "the database cannot be reached");
            Problem::database_down()
        }
        StorageError::StandIn(refusal) => {
            metrics::stand_in_refused(refusal.as_str());
            Problem::stand_in(refusal)
        }
        StorageError::NotSynced(_) => {
            tracing::error!(target: "tapfer::fault", cause = %error, "the fate of a change is not known");
            Problem::unavailable(
                "whether this was done is not known yet. Ask again with the same idempotency key: you get the stored answer, or \
                 it is done then",
            )
        }
        // Which entry and why is said once, by the store.
        StorageError::TablesBehind { .. } => {
            tracing::debug!(target: "tapfer::fault", cause = %error, "the store takes nothing");
            Problem::unavailable(
                "the store takes nothing at the moment, and nothing of this was written; ask again",
            )
        }
        StorageError::NewerDatabase { .. }
        | StorageError::ForeignDatabase(_)
        | StorageError::Empty(_)
        | StorageError::OlderDatabase { .. }
        | StorageError::TooManyRights(_)
        | StorageError::TooFewRights(_)
        | StorageError::Forgetful(_)
        | StorageError::MissingDatabase(_)
        | StorageError::OtherRealm { .. }
        | StorageError::Damaged(..)
        | StorageError::ChangedSchema { .. }
        | StorageError::Inconsistent(_)
        | StorageError::Migration(_)
        | StorageError::Abandoned
        | StorageError::Journal(_)
        | StorageError::DamagedLog { .. }
        | StorageError::Database(_) => Problem::internal(&error),
    }
}

/// A rule forbids it: because of what was sent (422), or because of how things stand (409).
fn of_refusal(refusal: &Refusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        Refusal::Intent(
            IntentError::Amount | IntentError::CaptureAmount { .. } | IntentError::ArmingExpiry,
        )
        | Refusal::Refund(RefundError::Amount { .. })
        | Refusal::Issuer(_)
        | Refusal::Integrity(IntegrityError::Policy | IntegrityError::App)
        | Refusal::Policy(PolicyRefusal::Unusable(_))
        | Refusal::Device(DeviceError::Generation)
        | Refusal::Money(_)
        | Refusal::OwnersDiffer(_) => Problem::invalid(detail),
        Refusal::Device(DeviceError::Locked(_)) => Problem::new(ProblemKind::DeviceLocked, detail),
        Refusal::Device(DeviceError::StoreRolledBack) => {
            Problem::new(ProblemKind::StoreRolledBack, detail)
        }
        Refusal::Token(_)
        | Refusal::Pin(_)
        | Refusal::Policy(PolicyRefusal::VersionsUsedUp)
        | Refusal::Device(_)
        | Refusal::Key(_)
        | Refusal::Card(_)
        | Refusal::Intent(IntentError::NotFrom { .. })
        | Refusal::Refund(RefundError::NotPaid(_))
        | Refusal::Reversal(_)
        | Refusal::Terminal(_)
        | Refusal::Ledger(_)
        | Refusal::Integrity(IntegrityError::Challenge)
        | Refusal::Exists(_)
        | Refusal::ClockAhead { .. }
        | Refusal::OtherPartition
        | Refusal::BookedBefore
        | Refusal::TerminalBusy(_) => Problem::conflict(detail),
    }
}

/// What a caller could have avoided is checked before the module is asked, so what is left is ours.
fn of_hsm(error: &HsmError) -> Problem {
    if matches!(error, HsmError::SealedToIssuer) {
        return Problem::invalid(error.to_string());
    }
    match error {
        HsmError::SelfTestFailed { .. } => {
            tracing::error!(target: "tapfer::fault", cause = %error, "the HSM refuses all work");
            Problem::unavailable("the security module refuses all work; tell the operator")
        }
        // They serve, and have more to do than they can: no outage, and a till that asks again is answered soon.
        HsmError::QueueFull { .. } => {
            tracing::warn!(target: "tapfer::fault", cause = %error, "too much waits for the HSMs");
            Problem::unavailable(
                "too much waits for the platform's security modules; nothing was decided. Ask again with the same \
                 idempotency key",
            )
        }
        error if error.is_passing() => {
            // Which HSM does not serve, and why, is said once, by `hsm_watch`.
            tracing::debug!(target: "tapfer::fault", cause = %error, "no HSM serves");
            Problem::hsm_down()
        }
        HsmError::KeyRetired(_) => {
            Problem::unavailable("the issuer's keys have just been changed; ask again")
        }
        HsmError::OperatorGrant => Problem::invalid("give a reason that says something"),
        _ => Problem::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use tapfer_hsm::HsmError;

    use super::of_hsm;
    use crate::http::problem::ProblemKind;

    #[test]
    fn what_passes_by_itself_is_told_from_a_defect() {
        let cause = || "CKR_DEVICE_ERROR".to_owned();
        for passing in [
            HsmError::Down { cause: cause() },
            HsmError::ModuleFailed { operation: "C_Sign".to_owned(), cause: cause() },
            HsmError::DeadlinePassed { milliseconds: 2_000 },
        ] {
            let problem = of_hsm(&passing);
            assert_eq!(problem.kind(), ProblemKind::HsmDown);
            assert!(!problem.detail().contains("CKR_"), "the operator's to know");
        }
        let overload = of_hsm(&HsmError::QueueFull { waiting: 512 });
        assert_eq!(overload.kind(), ProblemKind::Unavailable, "no outage: tills ask again");
        let told = overload.detail();
        assert!(told.contains("too much waits") && told.contains("nothing was decided"), "{told}");
        assert!(told.contains("Ask again with the same idempotency key"), "{told}");
        let defect = HsmError::Internal { operation: "HMAC" };
        assert_eq!(of_hsm(&defect).kind(), ProblemKind::Internal);
    }
}
