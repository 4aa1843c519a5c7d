//! Every request has an id: the caller's `x-request-id` if it is a decent one, else a new one.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use data_encoding::HEXLOWER;

use crate::api::could_be_card_number;
use crate::entropy;
use crate::http::App;

/// The header that carries the id in and out.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken from a caller.
const MAXIMUM_LENGTH: usize = 64;

/// The id of one request: 1 to 64 letters, digits, `-`, `_` or `.`, so that no caller can write
/// anything else into a log line (ASVS v5.0.0-16.4.1); and nothing that could be a card number.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestId(String);

impl RequestId {
    /// The caller's, or a new one.
    pub(crate) fn of(app: &App, headers: &HeaderMap) -> Self {
        let callers = headers.get(REQUEST_ID).and_then(Self::from_caller);
        callers.unwrap_or_else(|| {
            // Without randomness the id is all zeros: it only names a log line.
            let random = entropy::bytes::<16>(app.entropy()).unwrap_or_default();
            Self(HEXLOWER.encode(&random))
        })
    }

    /// Gives the answer the same id.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(self.as_str()) {
            headers.insert(REQUEST_ID, value);
        }
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn from_caller(value: &HeaderValue) -> Option<Self> {
        let text = value.to_str().ok()?;
        let decent = (1..=MAXIMUM_LENGTH).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        (decent && !could_be_card_number(text)).then(|| Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::RequestId;
    use axum::http::HeaderValue;

    #[test]
    fn takes_only_decent_ids() {
        let accepts = |text: &str| {
            RequestId::from_caller(&HeaderValue::from_bytes(text.as_bytes()).unwrap()).is_some()
        };
        assert!(accepts("till-7.2026_11"));
        assert!(!accepts(""));
        assert!(!accepts(&"a".repeat(65)));
        assert!(!accepts("a b"));
        assert!(!accepts("4111.1111.1111.1111"));
        assert!(!accepts("pan.4111111111111111"));
        assert!(!accepts("\u{e4}"));
    }
}
