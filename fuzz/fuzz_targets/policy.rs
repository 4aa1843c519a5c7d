//! Verification policies and person's keys from outside: what passes the check is obeyed without a
//! panic, and never needs less for more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapfer_payment_types::messages::{PinStatus, SetPersonKeyRequest, SingleUseKeys};
use tapfer_payment_types::policy::{SinceVerified, VerificationPolicy};

fuzz_target!(|input: (&[u8], i64, i64, u16, u32, i64)| {
    let (json, amount, more, currency, payments, sum_minor) = input;
    let _ = serde_json::from_slice::<SetPersonKeyRequest>(json);
    let _ = serde_json::from_slice::<SingleUseKeys>(json);
    let _ = serde_json::from_slice::<PinStatus>(json);
    let Ok(policy) = serde_json::from_slice::<VerificationPolicy>(json) else { return };
    if policy.check().is_err() {
        return;
    }
    let since = SinceVerified { payments, sum_minor };
    let expected = policy.expected(amount, currency, &since);
    let larger = policy.expected(amount.saturating_add(more.saturating_abs()), currency, &since);
    assert!(larger >= expected);
    assert!(policy.level(Some(expected)) >= policy.up_to_limit);
    let _ = policy.demands_merchant_proof(amount, currency);
    let after = since.after(&policy, amount, expected);
    let _ = policy.expected(amount, currency, &after);
});
