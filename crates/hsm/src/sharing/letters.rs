//! How a part is written: Crockford's 32 letters, in groups of four and a check letter.
//!
//! The check letter is a sum over the field of 32 elements with a weight for each place, and the group's
//! place in the part. So one wrong letter, two letters changed about, and a group in the wrong place are
//! always noticed, and the group is named; anything else goes unnoticed in one of 32, and then the whole
//! part's digest notices it.

use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use super::SharingError;

/// Crockford's letters: without I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Letters of a group that carry something.
const CARRYING: usize = 4;
/// Letters of a group.
const GROUP: usize = CARRYING + 1;

/// How many groups carry `bytes` bytes.
pub(super) const fn groups_for(bytes: usize) -> usize {
    bytes.saturating_mul(8).div_ceil(5).div_ceil(CARRYING)
}

/// Bytes as groups, a space between them.
pub(super) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let groups = groups_for(bytes.len());
    let mut text = Zeroizing::new(String::with_capacity(groups.saturating_mul(GROUP + 1)));
    for group in 0..groups {
        if group > 0 {
            text.push(' ');
        }
        let mut symbols = Zeroizing::new([0; CARRYING]);
        for (place, symbol) in symbols.iter_mut().enumerate() {
            *symbol = symbol_at(bytes, group.saturating_mul(CARRYING).saturating_add(place));
        }
        symbols.iter().for_each(|symbol| text.push(letter(*symbol)));
        text.push(letter(check(group, &symbols)));
    }
    text
}

/// The group at `position` (from 0), as four symbols of five bits.
pub(super) fn decode_group(
    text: &str,
    position: usize,
) -> Result<Zeroizing<[u8; CARRYING]>, SharingError> {
    let group = position.saturating_add(1);
    let letters: &[u8; GROUP] =
        text.as_bytes().try_into().map_err(|_| SharingError::GroupLength { group })?;
    let mut symbols = Zeroizing::new([0; GROUP]);
    for (symbol, letter) in symbols.iter_mut().zip(letters) {
        *symbol = symbol_of(*letter).ok_or(SharingError::Character { group })?;
    }
    let [a, b, c, d, said] = *symbols;
    let carrying = Zeroizing::new([a, b, c, d]);
    if check(position, &carrying) == said {
        Ok(carrying)
    } else {
        Err(SharingError::Mistyped { group })
    }
}

/// Symbols of five bits as `length` bytes. `None` if there are too few, or bits behind the last byte.
pub(super) fn bytes_of(symbols: &[u8], length: usize) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    let (mut held, mut bits) = (0_u32, 0_u32);
    for symbol in symbols {
        held = (held << 5) | u32::from(*symbol);
        bits = bits.saturating_add(5);
        if bits >= 8 && bytes.len() < length {
            bits = bits.saturating_sub(8);
            bytes.push(u8::try_from((held >> bits) & 0xFF).ok()?);
        }
        held &= (1_u32 << bits.min(31)).saturating_sub(1);
    }
    (bytes.len() == length && held == 0).then_some(bytes)
}

/// Five bits of `bytes`; zeros behind its end.
fn symbol_at(bytes: &[u8], index: usize) -> u8 {
    let bit = index.saturating_mul(5);
    let byte = |at: usize| u16::from(bytes.get(at).copied().unwrap_or(0));
    let first = bit / 8;
    let window = (byte(first) << 8) | byte(first.saturating_add(1));
    let shift = 11_usize.saturating_sub(bit % 8);
    u8::try_from((window >> shift) & 0x1F).unwrap_or(0)
}

fn check(position: usize, symbols: &[u8; CARRYING]) -> u8 {
    let place = u8::try_from(position % 32).unwrap_or(0);
    let (mut weight, mut sum) = (1, place);
    for symbol in symbols {
        weight = multiply(weight, 2);
        sum ^= multiply(weight, *symbol);
    }
    sum
}

/// In the field of 32 elements (polynomial x⁵+x²+1), without branches on a value.
fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut product) = (a, 0);
    for bit in 0..5 {
        product ^= a & ((b >> bit) & 1).wrapping_neg();
        a = ((a << 1) & 0x1F) ^ (0x05 & ((a >> 4) & 1).wrapping_neg());
    }
    product
}

/// Looks at every letter, so that the processor's cache does not tell which one it was.
fn letter(symbol: u8) -> char {
    let mut found = 0;
    for (candidate, letter) in (0_u8..).zip(ALPHABET) {
        found.conditional_assign(letter, candidate.ct_eq(&symbol));
    }
    char::from(found)
}

/// Small letters count as capital ones, and letters that look like a digit as that digit.
fn symbol_of(letter: u8) -> Option<u8> {
    let letter = match letter.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    let mut found = u8::MAX;
    for (symbol, candidate) in (0_u8..).zip(ALPHABET) {
        found.conditional_assign(&symbol, candidate.ct_eq(&letter));
    }
    (found != u8::MAX).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::{ALPHABET, bytes_of, decode_group, encode, groups_for};
    use crate::sharing::SharingError;
    use proptest::prelude::*;

    fn decode(text: &str, length: usize) -> Option<Vec<u8>> {
        let groups = text.split(' ').enumerate();
        let symbols: Vec<u8> =
            groups.flat_map(|(at, group)| *decode_group(group, at).unwrap()).collect();
        bytes_of(&symbols, length).map(|bytes| bytes.to_vec())
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(bytes in proptest::collection::vec(any::<u8>(), 1..100)) {
            let text = encode(&bytes);
            prop_assert_eq!(text.split(' ').count(), groups_for(bytes.len()));
            prop_assert_eq!(decode(&text, bytes.len()).unwrap(), bytes.clone());
            prop_assert_eq!(decode(&text.to_lowercase(), bytes.len()).unwrap(), bytes);
        }
    }

    #[test]
    fn every_wrong_letter_and_every_exchange_of_two_is_noticed() {
        let text = encode(&[0x3C, 0xA5, 0x99, 0x10, 0xFE]);
        for (position, group) in text.split(' ').enumerate() {
            for at in 0..5 {
                for letter in ALPHABET {
                    let mut changed = group.as_bytes().to_vec();
                    changed[at] = *letter;
                    let right = changed == group.as_bytes();
                    let read = decode_group(str::from_utf8(&changed).unwrap(), position);
                    assert_eq!(read.is_ok(), right);
                }
                for other in 0..5 {
                    let mut changed = group.as_bytes().to_vec();
                    changed.swap(at, other);
                    let right = changed == group.as_bytes();
                    let read = decode_group(str::from_utf8(&changed).unwrap(), position);
                    assert_eq!(read.is_ok(), right);
                }
            }
        }
    }

    #[test]
    fn a_group_is_good_at_its_own_place_only() {
        let text = encode(&[0x42; 79]);
        for (position, group) in text.split(' ').enumerate() {
            for place in 0..32 {
                assert_eq!(decode_group(group, place).is_ok(), place == position);
            }
        }
    }

    #[test]
    fn what_no_letter_is_is_named_with_its_group() {
        assert_eq!(decode_group("ABUDE", 6).unwrap_err(), SharingError::Character { group: 7 });
        assert_eq!(decode_group("ABCD", 0).unwrap_err(), SharingError::GroupLength { group: 1 });
    }
}
