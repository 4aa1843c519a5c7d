//! For how long what has ended is kept, and what becomes of it in a platform that runs, starts, and was restored.

use std::path::Path;

use serde_json::json;
use tapfer_payment_types::Timestamp;
use tapfer_server::backup::{back_up, restore};
use tapfer_server::clock::Clock;
use tapfer_storage::DatabaseReader;

use crate::shop::Shop;

const DAY: i64 = 86_400;

/// Rows past the limit, and rows that were erased.
fn past_and_erased(home: &Path, now: Timestamp) -> (u64, u64) {
    let database = DatabaseReader::file(&home.join("tapfer.db")).unwrap();
    let said = database.retention(now).unwrap();
    let sum = |of: fn(&tapfer_storage::EndedRows) -> u64| said.kinds.iter().map(of).sum();
    (sum(|kind| kind.past), sum(|kind| kind.erased))
}

fn close(shop: &Shop) {
    let close = json!({ "reason": "left the campus", "pay_out": true });
    shop.issuer.post(&format!("/v1/cards/{}/close", shop.card), &close).expect(200);
}

#[test]
fn the_operator_sets_the_limit() {
    let shop = Shop::open();
    let operator = &shop.platform.operator;
    assert_eq!(shop.issuer.get("/v1/retention").expect(200), json!({ "days": 540 }));
    let set = |days: i64| json!({ "days": days, "reason": "as agreed" });
    assert_eq!(operator.put("/v1/retention", &set(400)).expect(200), json!({ "days": 400 }));
    assert_eq!(operator.get("/v1/retention").expect(200), json!({ "days": 400 }));
    for days in [0, 179, 3_651] {
        assert_eq!(operator.put("/v1/retention", &set(days)).problem(422), "invalid_request");
    }
    assert_eq!(shop.issuer.put("/v1/retention", &set(200)).problem(403), "forbidden");
    assert_eq!(shop.merchant.get("/v1/retention").problem(403), "forbidden");
    assert_eq!(operator.get("/v1/retention").expect(200), json!({ "days": 400 }));
}

#[test]
fn what_is_past_its_limit_is_erased_before_the_platform_serves() {
    let mut shop = Shop::open();
    close(&shop);
    let detokenize = format!("/v1/tokens/{}/detokenize", shop.token);
    shop.issuer.post(&detokenize, &json!({ "reason": "a last look" })).expect(200);
    shop.platform.clock.advance_seconds(541 * DAY);
    let home = shop.platform.home().to_owned();
    // Somebody has looked at the clock.
    let set = json!({ "days": 540, "reason": "as before" });
    shop.platform.operator.put("/v1/retention", &set).expect(200);
    let now = shop.platform.clock.now();
    assert_eq!(past_and_erased(&home, now), (2, 0));
    shop.platform.restart();
    assert_eq!(past_and_erased(&home, now), (0, 3), "token, card, phone");
}

/// A clock that jumps ahead erases nothing at the next starts, whatever was written down by it.
#[test]
fn a_clock_that_is_far_ahead_erases_nothing() {
    let mut shop = Shop::open();
    close(&shop);
    shop.platform.clock.advance_seconds(541 * DAY);
    let kiosk = json!({ "name": "Kiosk", "country": "276", "category_code": "5994" });
    shop.platform.operator.post("/v1/merchants", &kiosk).expect(201);
    for _ in 0..2 {
        shop.platform.restart();
        assert_eq!(past_and_erased(shop.platform.home(), shop.platform.clock.now()), (2, 0));
    }
}

/// A backup holds what was erased since: it is erased again before the first request.
#[test]
fn a_restored_backup_is_erased_before_it_serves() {
    let mut shop = Shop::open();
    close(&shop);
    for _ in 0..6 {
        shop.platform.clock.advance_seconds(80 * DAY);
        shop.platform.restart();
    }
    let copies = tempfile::tempdir().unwrap();
    let backup = copies.path().join("backup");
    back_up(shop.platform.home(), &backup, shop.platform.clock.now()).unwrap();
    shop.platform.clock.advance_seconds(61 * DAY);
    let now = shop.platform.clock.now();
    let home = tempfile::tempdir().unwrap();
    restore(&backup, home.path(), now).unwrap();
    assert_eq!(past_and_erased(home.path(), now), (2, 0));
    shop.platform.go_on_in(home);
    assert_eq!(past_and_erased(shop.platform.home(), now), (0, 3));
}
