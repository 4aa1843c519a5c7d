//! The file of whole transactions: all of them replay, and a wrong value is found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

use serde_json::Value;
use tapfer_vectors::transactions;

fn all() -> Value {
    let file: Value = serde_json::from_str(include_str!("data/kernel8-transactions.json")).unwrap();
    file["kernel8_transactions"].clone()
}

#[test]
fn all_transactions_replay() {
    let report = transactions::check(&all());
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.cases, 90);
}
