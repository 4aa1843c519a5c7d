//! A platform whose realm lies on several PostgreSQL servers.

use serde_json::json;
use tapfer_test_postgres::TestPostgres;

use crate::running::Platform;
use crate::shop::{id, issuer_request};

/// Who has not heard the answer asks again, while the partition that knows it is away: no other one makes a second card.
#[test]
fn a_key_makes_one_card_while_a_partition_is_away() {
    let (home, other) = (TestPostgres::start_to_subscribe_from(), TestPostgres::start());
    let platform = Platform::start_on_partitions(&[&home, &other]);
    let operator = &platform.operator;
    let issuer = id(&operator.post("/v1/issuers", &issuer_request()).expect(201));
    let card = json!({ "issuer": issuer, "expiry": "2029-12" });
    let create = |key: &str| operator.post_as(key, "/v1/cards", &card);
    let cards = |server: &TestPostgres| server.ask("SELECT count(*) FROM cards");
    let keys: Vec<_> = (0..24).map(|number| format!("card-{number}")).collect();
    let there: Vec<_> = keys
        .iter()
        .filter(|key| {
            let before = cards(&other);
            create(key).expect(201);
            cards(&other) != before
        })
        .collect();
    assert!(there.len() > 4 && there.len() < 20, "about half of them: {there:?}");
    let at_home = cards(&home);
    drop(other);
    for key in there {
        assert_eq!(create(key).problem(503), "database_down");
    }
    assert_eq!(cards(&home), at_home);
    // Others are made, where they are of the home.
    assert!((0..24).any(|number| create(&format!("later-{number}")).status == 201));
}
