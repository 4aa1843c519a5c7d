//! Keys, points and signatures.

use proptest::prelude::*;
use tapfer_emv::curve::{CurveError, PrivateKey, PublicPoint, PublicX};
use tapfer_emv::ecsdsa;

use super::seeded_random::{SeededRandom, three_keys};

#[test]
fn numbers_outside_the_group_are_no_keys() {
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: [u8; 32] =
        data_encoding::HEXLOWER.decode(order.as_bytes()).unwrap().try_into().unwrap();
    for bytes in [[0; 32], order, [0xFF; 32]] {
        assert_eq!(PrivateKey::from_bytes(&bytes).err(), Some(CurveError::Scalar));
    }
    assert_eq!(PublicX::from_bytes(&[0xFF; 32]), Err(CurveError::XCoordinate));
    assert_eq!(PublicPoint::from_bytes(&[1; 64]), Err(CurveError::Point));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn generated_keys_have_the_smaller_y(seed in any::<u64>()) {
        let key = PrivateKey::generate(&mut SeededRandom::new(seed));
        let point = key.public_point();
        // (p+1)/2, Book E 8.8.
        let half = "7fffffff80000000800000000000000000000000800000000000000000000000";
        let half = data_encoding::HEXLOWER.decode(half.as_bytes()).unwrap();
        prop_assert!(point[32..] < half[..]);
        let x = key.public_x();
        prop_assert_eq!(&point[..32], x.bytes());
        let again = PrivateKey::from_bytes(key.to_bytes().expose()).unwrap();
        prop_assert_eq!(again.public_point(), point);
        prop_assert_eq!(PublicPoint::from_bytes(&point).unwrap().bytes(), point);
    }

    #[test]
    fn signatures_of_any_key_verify(key in any::<[u8; 32]>(), message in any::<Vec<u8>>(), seed in any::<u64>()) {
        // Not generated: y of half of these keys is the larger one.
        prop_assume!(PrivateKey::from_bytes(&key).is_ok());
        let key = PrivateKey::from_bytes(&key).unwrap();
        let signature = ecsdsa::sign(&key, &message, &mut SeededRandom::new(seed));
        prop_assert_eq!(ecsdsa::verify(&key.public_x(), &message, &signature), Ok(()));
    }

    #[test]
    fn a_changed_signature_message_or_key_fails(
        seed in any::<u64>(), message in prop::collection::vec(any::<u8>(), 1..80),
        position in any::<prop::sample::Index>(), change in 1_u8..
    ) {
        let (key, other, _) = three_keys(seed);
        let signature = ecsdsa::sign(&key, &message, &mut SeededRandom::new(!seed));
        let mut changed = signature;
        changed[position.index(64)] ^= change;
        prop_assert!(ecsdsa::verify(&key.public_x(), &message, &changed).is_err());
        let mut changed = message.clone();
        changed[position.index(message.len())] ^= change;
        prop_assert!(ecsdsa::verify(&key.public_x(), &changed, &signature).is_err());
        prop_assert!(ecsdsa::verify(&other.public_x(), &message, &signature).is_err());
    }

    #[test]
    fn any_bytes_as_a_signature_are_answered(x in any::<[u8; 32]>(), left in any::<[u8; 32]>(), right in any::<[u8; 32]>()) {
        if let Ok(key) = PublicX::from_bytes(&x) {
            for signature in [[left, right], [left, [0; 32]], [[0; 32], right], [left, [0xFF; 32]]] {
                let signature = signature.concat().try_into().unwrap();
                prop_assert!(ecsdsa::verify(&key, b"message", &signature).is_err());
            }
        }
    }
}
