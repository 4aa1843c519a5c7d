//! Text from callers: amounts, currencies, card numbers, ids, points in time, key indexes. What is
//! accepted and written again is accepted again.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use tapfer_emv::keys::KeyIndex;
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{
    AuthorizationId, CardId, Currency, Money, Pan, PaymentIntentId, Timestamp, TokenId, TokenPan,
};

/// What was read must be read back from its own text.
fn round_trip<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let again = value.to_string().parse::<T>();
        assert!(again.is_ok_and(|again| again == value));
    }
}

fuzz_target!(|text: &str| {
    round_trip::<TokenId>(text);
    round_trip::<CardId>(text);
    round_trip::<AuthorizationId>(text);
    round_trip::<PaymentIntentId>(text);
    round_trip::<Currency>(text);
    round_trip::<KeyIndex>(text);
    round_trip::<Timestamp>(text);
    for currency in ["EUR", "JPY", "BHD"] {
        let currency: Currency = currency.parse().unwrap();
        if let Ok(money) = Money::parse(text, currency) {
            let written = money.to_string();
            let (amount, _) = written.split_once(' ').unwrap();
            assert_eq!(Money::parse(amount, currency), Ok(money));
        }
    }
    if let Ok(pan) = text.parse::<Pan>() {
        assert_eq!(pan.expose(), text);
        assert!(!format!("{pan} {pan:?}").contains(text));
    }
    if let Ok(token) = text.parse::<TokenPan>() {
        assert!(!format!("{token} {token:?}").contains(text));
    }
    let _ = HexBytes::try_from(text.to_owned());
});
