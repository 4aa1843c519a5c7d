//! What could be a card number, in a place where none belongs (PCI DSS 3.5.1: a reference that a till fills with a card number
//! would store it in clear).

use core::ops::RangeInclusive;

use tapfer_payment_types::Pan;

/// How many digits a card number has (ISO/IEC 7812-1; shorter ones went out of use).
const CARD_NUMBER_DIGITS: RangeInclusive<usize> = 12..=19;
/// The same where other numbers are common too.
const LIKELY_DIGITS: RangeInclusive<usize> = 13..=19;
/// From so many hexadecimal digits on, a word is one number that somebody drew, and no card's.
const DRAWN: usize = 24;

/// The zeros of all decimal digits but ASCII's (Unicode 16, general category Nd); their one to nine follow.
const ZEROS: [char; 73] = [
    '\u{660}',
    '\u{6F0}',
    '\u{7C0}',
    '\u{966}',
    '\u{9E6}',
    '\u{A66}',
    '\u{AE6}',
    '\u{B66}',
    '\u{BE6}',
    '\u{C66}',
    '\u{CE6}',
    '\u{D66}',
    '\u{DE6}',
    '\u{E50}',
    '\u{ED0}',
    '\u{F20}',
    '\u{1040}',
    '\u{1090}',
    '\u{17E0}',
    '\u{1810}',
    '\u{1946}',
    '\u{19D0}',
    '\u{1A80}',
    '\u{1A90}',
    '\u{1B50}',
    '\u{1BB0}',
    '\u{1C40}',
    '\u{1C50}',
    '\u{A620}',
    '\u{A8D0}',
    '\u{A900}',
    '\u{A9D0}',
    '\u{A9F0}',
    '\u{AA50}',
    '\u{ABF0}',
    '\u{FF10}',
    '\u{104A0}',
    '\u{10D30}',
    '\u{10D40}',
    '\u{11066}',
    '\u{110F0}',
    '\u{11136}',
    '\u{111D0}',
    '\u{112F0}',
    '\u{11450}',
    '\u{114D0}',
    '\u{11650}',
    '\u{116C0}',
    '\u{116D0}',
    '\u{116DA}',
    '\u{11730}',
    '\u{118E0}',
    '\u{11950}',
    '\u{11BF0}',
    '\u{11C50}',
    '\u{11D50}',
    '\u{11DA0}',
    '\u{11F50}',
    '\u{16A60}',
    '\u{16AC0}',
    '\u{16B50}',
    '\u{1CCF0}',
    '\u{1D7CE}',
    '\u{1D7D8}',
    '\u{1D7E2}',
    '\u{1D7EC}',
    '\u{1D7F6}',
    '\u{1E140}',
    '\u{1E2F0}',
    '\u{1E4F0}',
    '\u{1E5F1}',
    '\u{1E950}',
    '\u{1FBF0}',
];

/// The ASCII digit that a character is, in whatever script.
fn digit(character: char) -> Option<char> {
    if character.is_ascii() {
        return character.is_ascii_digit().then_some(character);
    }
    let value = |zero: &char| u32::from(character).checked_sub(u32::from(*zero));
    let value = ZEROS.iter().filter_map(value).find(|value| *value < 10)?;
    char::from_digit(value, 10)
}

/// Whether a text holds what could be a card number: 12 to 19 digits of any script with a right check digit, whatever blanks and
/// hyphens group them and whatever digits stand before and after.
pub(super) fn holds_card_number(text: &str) -> bool {
    let groups = |c: char| c.is_whitespace() || c == '-' || ('\u{2010}'..='\u{2015}').contains(&c);
    text.split(|c: char| digit(c).is_none() && !groups(c)).any(|run| {
        let digits: String = run.chars().filter_map(digit).collect();
        (0..digits.len()).any(|start| {
            let numbers = CARD_NUMBER_DIGITS
                .filter_map(|length| digits.get(start..start.saturating_add(length)));
            numbers.map(str::parse::<Pan>).any(|pan| pan.is_ok())
        })
    })
}

/// Whether a name that a caller chose, and that is kept or logged as it is, could be or hold a card number.
///
/// Without a letter: 12 to 19 digits. The check digit is not asked: names are to be refused always or never, and not one in ten. With
/// letters, since many names are drawn by chance: only what looks like a card's number and like nothing else, in one piece or in
/// groups of four.
pub(crate) fn could_be_card_number(name: &str) -> bool {
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    if !name.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        return CARD_NUMBER_DIGITS.contains(&digits);
    }
    if digits < *LIKELY_DIGITS.start() {
        return false;
    }
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let is_drawn = |word: &&str| word.len() >= DRAWN && word.bytes().all(|b| b.is_ascii_hexdigit());
    let whole = words
        .iter()
        .filter(|word| !is_drawn(word))
        .flat_map(|word| word.split(|c: char| !c.is_ascii_digit()))
        .any(is_likely);
    let is_group = |word: &&str| word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_digit());
    whole || words.windows(4).any(|four| four.iter().all(is_group) && is_likely(&four.concat()))
}

/// Whether digits begin as payment cards do (ISO/IEC 7812-1: 3 to 6; Mastercard also 2221 to 2720), and end with the check digit.
fn is_likely(digits: &str) -> bool {
    let begins = match digits.bytes().next() {
        Some(b'3'..=b'6') => true,
        Some(b'2') => digits.get(..4).is_some_and(|four| ("2221"..="2720").contains(&four)),
        _ => false,
    };
    begins && LIKELY_DIGITS.contains(&digits.len()) && digits.parse::<Pan>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::{ZEROS, could_be_card_number, digit, holds_card_number};
    use proptest::prelude::*;

    #[test]
    fn texts_hold_no_card_numbers() {
        for text in [
            "",
            "Tisch 7, Rechnung 4711",
            "4111111111111114",
            "4111 1111 1111 111 and 1",
            "2026-11-21 12:34",
            "٤١١١١١١١١١١١١١١٤",
            "一二三四五六七八九〇一二三四五六",
        ] {
            assert!(!holds_card_number(text), "{text}");
        }
        for text in [
            "4111111111111111",
            "card 4111 1111 1111 1111!",
            "x4111-1111-1111-1111",
            "7 4111 1111 1111 1111",
            "4111 1111 1111 1111 7",
            "74111111111111111",
            "table 12 - 4111  1111\u{a0}1111\u{2011}1111 - 2",
            "500000000017",
            "6011111111111111110",
            "４１１１１１１１１１１１１１１１",
            "٤١١١ ١١١١ ١١١١ ١١١١",
            "४111१111-111१-1111",
        ] {
            assert!(holds_card_number(text), "{text}");
        }
    }

    #[test]
    fn every_script_has_ten_digits() {
        let mut zeros = ZEROS.to_vec();
        zeros.dedup();
        assert_eq!(zeros.len(), ZEROS.len());
        assert!(ZEROS.is_sorted());
        for zero in ZEROS {
            for value in 0..10 {
                let character = char::from_u32(u32::from(zero) + value).unwrap();
                assert!(character.is_numeric(), "{character:?}");
                assert_eq!(digit(character), char::from_digit(value, 10));
            }
        }
        assert_eq!([digit('7'), digit('a'), digit('½'), digit('Ⅳ')], [Some('7'), None, None, None]);
    }

    #[test]
    fn names_are_no_numbers() {
        for name in [
            "411111111111",
            "4111111111111112",
            "4111-1111-1111-1111-111",
            "a4111111111111111",
            "pan.4111111111111111",
            "order_5555555555554444_2",
            "pan-4111-1111-1111-1111",
            "2223003122003222x",
            "amex378282246310005",
        ] {
            assert!(could_be_card_number(name), "{name}");
        }
        for name in [
            "41111111111",
            "41111111111111111111",
            "k4111111111111112",
            "019ab3f0-4111-7111-8111-111111111111",
            "aaaaaaaa4111111111111111",
            "order-20261122123456",
            "intent-1763856000000000",
            "till-7:4111",
            "/v1/cards:1",
        ] {
            assert!(!could_be_card_number(name), "{name}");
        }
    }

    proptest! {
        /// Names that programs draw are never refused, whatever chance makes of them.
        #[test]
        fn drawn_names_are_taken(drawn in any::<u128>(), count in 0_u16..100) {
            let hex = format!("{drawn:032x}");
            let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
            for name in [format!("x{uuid}"), format!("{uuid}a"), format!("{hex}:/v1/cards:{count}")] {
                prop_assert!(!could_be_card_number(&name), "{}", name);
            }
        }

        #[test]
        fn any_text_is_answered(text in ".{0,60}") {
            let _any = (holds_card_number(&text), could_be_card_number(&text));
        }
    }
}
