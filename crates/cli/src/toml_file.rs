//! What people write in TOML: policies and profiles.

use anyhow::anyhow;
use serde::de::DeserializeOwned;

/// Reads a document. The parser's own errors name line and column, and show the line; what they cannot know
/// is why an amount has no decimal point.
///
/// # Errors
/// What is wrong, and where.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    toml::from_str(text).map_err(|error| match error.message().contains("floating point") {
        true => anyhow!("{error}amounts are whole numbers of minor units: 1000 for 10.00 EUR"),
        false => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_amount_with_a_decimal_point_is_explained() {
        let limit = |text: &str| parse::<std::collections::BTreeMap<String, i64>>(text);
        assert_eq!(limit("limit = 1000").unwrap().get("limit"), Some(&1000));
        let said = limit("limit = 10.00").unwrap_err().to_string();
        assert!(said.contains("line 1") && said.contains("1000 for 10.00"), "{said}");
        let other = limit("limit = true").unwrap_err().to_string();
        assert!(!other.contains("minor units"), "{other}");
    }
}
