//! Properties of verification policies: whatever a document says, it is refused or obeyed in full.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    missing_docs,
    unreachable_pub
)]

use proptest::prelude::*;
use tapfer_payment_types::Currency;
use tapfer_payment_types::policy::{
    Asks, FreshLogin, PinRules, PolicyError, Requirement, SinceVerified, VerificationPolicy,
};

const LEVELS: [Requirement; 5] = [
    Requirement::Anything,
    Requirement::ScreenOn,
    Requirement::Unlocked,
    Requirement::AppPin,
    Requirement::TerminalPin,
];

fn level() -> impl Strategy<Value = Requirement> {
    prop::sample::select(LEVELS.to_vec())
}

fn asks() -> impl Strategy<Value = Asks> {
    let count = prop::option::of(0_u32..10);
    let sum = prop::option::of(-10_i64..50_000);
    (level(), count.clone(), sum, count).prop_map(|(with, every_payments, every_sum, one_in)| {
        Asks { with, every_payments, every_sum, at_random_one_in: one_in }
    })
}

prop_compose! {
    fn policy()(
        limit in -1_i64..5_000,
        (up_to_limit, above_limit) in (level(), level()),
        person_may_choose in prop::collection::vec(level(), 0..4),
        asks in prop::option::of(asks()),
        (length, tries) in (3_u8..14, 0_u8..12),
    ) -> VerificationPolicy {
        VerificationPolicy {
            limit,
            up_to_limit,
            above_limit,
            person_may_choose,
            asks,
            pin: PinRules { length, tries, refuse_easy: true },
            ..VerificationPolicy::by_limit(1, Currency::EUR, 0)
        }
    }
}

/// A document that makes sense, by turning round what does not.
fn sensible() -> impl Strategy<Value = VerificationPolicy> {
    policy().prop_map(|mut policy| {
        policy.limit = policy.limit.max(0);
        policy.above_limit = policy.above_limit.max(policy.up_to_limit);
        policy.person_may_choose.clear();
        policy.pin = PinRules::default();
        policy.asks = policy.asks.filter(|asks| {
            let candidate = VerificationPolicy {
                asks: Some(asks.clone()),
                up_to_limit: policy.up_to_limit,
                above_limit: policy.above_limit,
                ..VerificationPolicy::by_limit(1, Currency::EUR, 0)
            };
            candidate.check().is_ok()
        });
        policy
    })
}

fn since() -> impl Strategy<Value = SinceVerified> {
    (any::<u32>(), any::<i64>())
        .prop_map(|(payments, sum_minor)| SinceVerified { payments, sum_minor })
}

proptest! {
    /// More money, more payments or a larger sum never need less of the person, and no other currency
    /// does.
    #[test]
    fn more_never_needs_less(
        policy in sensible(),
        (amount, more) in (0_i64..20_000, 0_i64..20_000),
        (since, payments, sum) in (since(), 0_u32..9, 0_i64..30_000),
        currency in 0_u16..1_000,
    ) {
        prop_assert_eq!(policy.check(), Ok(()));
        let expected = |amount, currency, since: &SinceVerified| {
            policy.expected(amount, currency, since)
        };
        let here = expected(amount, 978, &since);
        prop_assert!(expected(amount + more, 978, &since) >= here);
        let later = SinceVerified {
            payments: since.payments.saturating_add(payments),
            sum_minor: since.sum_minor.saturating_add(sum),
        };
        prop_assert!(expected(amount, 978, &later) >= here);
        if currency != 978 {
            prop_assert!(expected(amount, currency, &since) >= policy.above_limit);
        }
        for chosen in LEVELS {
            prop_assert!(policy.level(Some(chosen)) >= policy.up_to_limit);
        }
    }

    #[test]
    fn a_document_reads_back(policy in policy()) {
        let json = serde_json::to_string(&policy).unwrap();
        prop_assert_eq!(serde_json::from_str::<VerificationPolicy>(&json).unwrap(), policy);
    }

    #[test]
    fn any_text_is_answered(text in ".{0,200}") {
        let _ = serde_json::from_str::<VerificationPolicy>(&text);
    }
}

#[test]
fn each_thing_that_makes_no_sense_is_named() {
    type Change = fn(&mut VerificationPolicy);
    let base = VerificationPolicy::by_limit(1, Currency::EUR, 2_500);
    assert_eq!(base.check(), Ok(()));
    let changes: [(Change, PolicyError); 12] = [
        (|p| p.name.clear(), PolicyError::Name),
        (|p| p.name = "x".repeat(41), PolicyError::Name),
        (|p| p.name = "a\nb".into(), PolicyError::Name),
        (|p| p.version = 0x0100_0000, PolicyError::Version),
        (|p| p.limit = -1, PolicyError::Limit),
        (|p| p.above_limit = Requirement::Anything, PolicyError::Order),
        (|p| p.person_may_choose = vec![Requirement::Anything], PolicyError::Choice),
        (|p| p.person_may_choose = vec![Requirement::AppPin; 2], PolicyError::Choice),
        (|p| p.pin.length = 3, PolicyError::PinLength),
        (|p| p.pin.length = 13, PolicyError::PinLength),
        (|p| p.pin.tries = 0, PolicyError::PinTries),
        (|p| p.pin.tries = 11, PolicyError::PinTries),
    ];
    for (change, error) in changes {
        let mut policy = base.clone();
        change(&mut policy);
        assert_eq!(policy.check(), Err(error));
    }
}

#[test]
fn asks_and_logins_need_an_occasion() {
    let base = VerificationPolicy::by_limit(1, Currency::EUR, 2_500);
    let asks = |with, every_payments, every_sum| Asks {
        with,
        every_payments,
        every_sum,
        at_random_one_in: None,
    };
    for (asks, result) in [
        (asks(Requirement::Unlocked, Some(5), None), Ok(())),
        (asks(Requirement::Unlocked, None, None), Err(PolicyError::Asks)),
        (asks(Requirement::Unlocked, Some(0), None), Err(PolicyError::Asks)),
        (asks(Requirement::Unlocked, None, Some(0)), Err(PolicyError::Asks)),
        (asks(Requirement::ScreenOn, Some(5), None), Err(PolicyError::AsksForNothing)),
    ] {
        assert_eq!(VerificationPolicy { asks: Some(asks), ..base.clone() }.check(), result);
    }
    for (every_hours, result) in [
        (Some(1), Ok(())),
        (Some(0), Err(PolicyError::FreshLogin)),
        (None, Err(PolicyError::FreshLogin)),
    ] {
        let login = FreshLogin { every_payments: None, every_hours, at_random_one_in: None };
        let policy = VerificationPolicy { fresh_login: Some(login), ..base.clone() };
        assert_eq!(policy.check(), result);
    }
}
