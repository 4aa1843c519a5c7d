//! Verification policies, from files and from the platform, and what phone and platform say about PINs and
//! the store: what passes the check is obeyed without a panic, and never needs less for more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapfer_payment_types::messages::{PinStatus, SetPersonKeyRequest, SingleUseKeys};
use tapfer_payment_types::policy::{SinceVerified, VerificationPolicy};
use tapfer_payment_types::store_share::{StoreReport, StoreShareMessage};

const SHIPPED: [&str; 6] = [
    include_str!("../../policies/sparkasse.toml"),
    include_str!("../../policies/volksbank.toml"),
    include_str!("../../policies/deutsche-bank.toml"),
    include_str!("../../policies/postbank.toml"),
    include_str!("../../policies/fidor.toml"),
    include_str!("../../policies/google-pay.toml"),
];

/// A payment, one that may be larger, and what was paid before.
type Payments = (i64, i64, u16, u32, i64);

fn obey(policy: &VerificationPolicy, payments: Payments) {
    if policy.check().is_err() {
        return;
    }
    let (amount, more, currency, payments, sum_minor) = payments;
    let since = SinceVerified { payments, sum_minor };
    let expected = policy.expected(amount, currency, &since);
    let larger = policy.expected(amount.saturating_add(more.saturating_abs()), currency, &since);
    assert!(larger >= expected);
    assert!(policy.level(Some(expected)) >= policy.up_to_limit);
    let _ = policy.demands_merchant_proof(amount, currency);
    let after = since.after(policy, amount, expected);
    let _ = policy.expected(amount, currency, &after);
}

/// A shipped file with what stands behind one `=` after another replaced.
fn edited(text: &str, edits: &[(u8, &str)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (line, value) in edits {
        let count = lines.len();
        let line = &mut lines[usize::from(*line) % count];
        if let Some((key, _)) = line.split_once('=') {
            *line = format!("{key}={value}");
        }
    }
    lines.join("\n")
}

fn read_as_every_message(json: &str) {
    let _ = serde_json::from_str::<SetPersonKeyRequest>(json);
    let _ = serde_json::from_str::<SingleUseKeys>(json);
    let _ = serde_json::from_str::<PinStatus>(json);
    let _ = serde_json::from_str::<StoreReport>(json);
    let _ = serde_json::from_str::<StoreShareMessage>(json);
}

fuzz_target!(|input: (Payments, u8, Vec<(u8, &str)>, &str)| {
    let (payments, which, edits, text) = input;
    read_as_every_message(text);
    if let Ok(policy) = serde_json::from_str::<VerificationPolicy>(text) {
        obey(&policy, payments);
    }
    let text = edited(SHIPPED[usize::from(which) % SHIPPED.len()], &edits);
    if let Ok(policy) = toml::from_str::<VerificationPolicy>(&text) {
        obey(&policy, payments);
        let again = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<VerificationPolicy>(&again).unwrap(), policy);
    }
});
