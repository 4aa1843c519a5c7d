//! The field of 256 elements (polynomial x⁸+x⁴+x³+x+1, as in AES), without tables and branches that
//! depend on a value: what is shared is secret.

/// a·b.
pub(super) fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut product) = (a, 0);
    for bit in 0..8 {
        product ^= a & all_if((b >> bit) & 1);
        a = (a << 1) ^ (0x1B & all_if(a >> 7));
    }
    product
}

/// 1/a, which is a²⁵⁴; 0 for 0.
fn invert(a: u8) -> u8 {
    // 254 = 2 + 4 + ... + 128.
    let (mut power, mut inverse) = (a, 1);
    for _ in 0..7 {
        power = multiply(power, power);
        inverse = multiply(inverse, power);
    }
    inverse
}

/// `FF` for 1, `00` for 0.
const fn all_if(bit: u8) -> u8 {
    bit.wrapping_neg()
}

/// The polynomial with these coefficients (the constant first) at `x`.
pub(super) fn evaluate(coefficients: &[u8], x: u8) -> u8 {
    coefficients.iter().rev().fold(0, |value, coefficient| multiply(value, x) ^ coefficient)
}

/// The weights by which values at the places `known` add up to the value at `x` (Lagrange). The places
/// differ from each other; they are no secret.
pub(super) fn weights(known: &[u8], x: u8) -> Vec<u8> {
    let weight = |place: &u8| {
        let others = known.iter().filter(|other| *other != place);
        others.fold(1, |weight, other| multiply(weight, multiply(x ^ other, invert(place ^ other))))
    };
    known.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::{evaluate, invert, multiply, weights};

    #[test]
    fn products_of_fips_197() {
        // FIPS 197, 4.2 and 4.2.1.
        assert_eq!(multiply(0x57, 0x83), 0xC1);
        assert_eq!(multiply(0x57, 0x13), 0xFE);
    }

    #[test]
    fn every_element_but_zero_has_an_inverse() {
        assert_eq!(invert(0), 0);
        for element in 1..=255 {
            assert_eq!(multiply(element, invert(element)), 1);
        }
    }

    #[test]
    fn multiplication_is_commutative_and_distributes() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(multiply(a, b), multiply(b, a));
                assert_eq!(multiply(a, b ^ 0x35), multiply(a, b) ^ multiply(a, 0x35));
            }
        }
    }

    #[test]
    fn values_at_three_places_give_a_parabola_everywhere() {
        let parabola = [0x2A, 0x9C, 0x71];
        for x in 0..=255 {
            let value = weights(&[1, 7, 200], x)
                .into_iter()
                .zip([1, 7, 200])
                .fold(0, |sum, (weight, place)| sum ^ multiply(weight, evaluate(&parabola, place)));
            assert_eq!(value, evaluate(&parabola, x));
        }
    }
}
