//! `application/x-www-form-urlencoded` (WHATWG URL, 5.1), as OAuth 2 wants it.

/// Names and values. `None` if an escape is none, or what it stands for is no text.
pub(crate) fn parse(body: &[u8]) -> Option<Vec<(String, String)>> {
    let text = core::str::from_utf8(body).ok()?;
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

/// One name or value.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let [high, low] =
                    [rest.next()?, rest.next()?].map(|digit| char::from(digit).to_digit(16));
                u8::try_from(high?.checked_mul(16)?.checked_add(low?)?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::{decode, parse};
    use proptest::prelude::*;

    #[test]
    fn escapes_are_read() {
        let pairs =
            parse(b"grant_type=client_credentials&scope=a%3Aread+b&&empty&x=1%3D2").unwrap();
        let pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let expected = [
            ("grant_type", "client_credentials"),
            ("scope", "a:read b"),
            ("empty", ""),
            ("x", "1=2"),
        ];
        assert_eq!(pairs, expected);
        for bad in [&b"a=%"[..], b"a=%2", b"a=%zz", b"a=%ff", b"\xff=a"] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _any = parse(&bytes);
        }

        #[test]
        fn what_is_escaped_is_read_back(text in ".{0,50}") {
            let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(decode(&escaped), Some(text));
        }
    }
}
