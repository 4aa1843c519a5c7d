//! Decimal digits packed two to a byte, as amounts, dates, card numbers and key indexes travel.

/// The number 0 to 99 that a byte's two digits write; `None` if a half byte is no digit.
#[must_use]
pub const fn unpack(byte: u8) -> Option<u8> {
    let (high, low) = (byte >> 4, byte & 0x0F);
    if high > 9 || low > 9 {
        return None;
    }
    Some(high.wrapping_mul(10).wrapping_add(low))
}

/// The number that digits in format n write (Book 3, 4.3): right aligned, two a byte. `None` if a half
/// byte is no digit, or the number does not fit.
#[must_use]
pub fn number(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0_i64, |number, &byte| {
        number.checked_mul(100)?.checked_add(i64::from(unpack(byte)?))
    })
}

/// A number 0 to 99 as two digits; larger numbers keep their last two.
#[must_use]
pub const fn pack(number: u8) -> u8 {
    let (tens, units) = (number.wrapping_div(10).wrapping_rem(10), number.wrapping_rem(10));
    (tens << 4) | units
}

/// Digits (0 to 9 each) right aligned in `N` bytes: zeros fill the left, digits too many on the
/// left are dropped.
pub(crate) fn pack_right_aligned<const N: usize>(
    digits: impl DoubleEndedIterator<Item = u8>,
) -> [u8; N] {
    let mut from_the_right = digits.rev();
    let mut packed = [0; N];
    for byte in packed.iter_mut().rev() {
        let low = from_the_right.next().unwrap_or(0);
        let high = from_the_right.next().unwrap_or(0);
        *byte = (high << 4) | low;
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::{number, pack, pack_right_aligned, unpack};

    #[test]
    fn two_digits_round_trip() {
        for number in 0..=99 {
            assert_eq!(unpack(pack(number)), Some(number));
        }
        assert_eq!((unpack(0x0A), unpack(0xA0), unpack(0xFF)), (None, None, None));
    }

    #[test]
    fn numbers_are_decimal() {
        assert_eq!(number(&[0x00, 0x12, 0x34]), Some(1_234));
        assert_eq!((number(&[]), number(&[0x99; 6])), (Some(0), Some(999_999_999_999)));
        assert_eq!((number(&[0x0A]), number(&[0xA0]), number(&[0x99; 10])), (None, None, None));
    }

    #[test]
    fn digits_are_right_aligned() {
        assert_eq!(pack_right_aligned::<3>([1, 2, 3].into_iter()), [0x00, 0x01, 0x23]);
        assert_eq!(pack_right_aligned::<1>([1, 2, 3].into_iter()), [0x23]);
    }
}
