//! The sealed store under bytes that nobody thought of.

use core::num::NonZeroU32;

use proptest::prelude::{any, prop_assert, prop_assert_eq, prop_assert_ne, proptest};
use tapfer_wallet::Wallet;
use tapfer_wallet::store::{self, DeviceSecret, StoreHeader, StoreKey, StoreShare};

use crate::random::TestRng;

proptest! {
    /// Any bytes: refused, without a panic, and the header says nothing that open would not check.
    #[test]
    fn what_is_no_store_is_refused(
        head in proptest::option::of(0_u8..4),
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let sealed = match head {
            Some(version) => [b"TPFW".as_slice(), &[version], &bytes].concat(),
            None => bytes,
        };
        let device = DeviceSecret::new([0x33; 32]);
        prop_assert!(store::open(&StoreKey::without_share(&device).unwrap(), &sealed).is_err());
        if let Ok(header) = StoreHeader::read(&sealed)
            && let Some(epoch) = NonZeroU32::new(header.epoch)
        {
            let key = StoreKey::with_share(&device, &StoreShare::new(epoch, [0x44; 32])).unwrap();
            prop_assert!(store::open(&key, &sealed).is_err());
        }
    }

    /// What was sealed opens with its own two halves and its own epoch, under the generation it says;
    /// one changed byte anywhere, and it does not.
    #[test]
    fn a_store_opens_as_it_was_or_not_at_all(
        device in any::<[u8; 32]>(),
        share in any::<[u8; 32]>(),
        epoch in 1_u32..,
        position in any::<proptest::sample::Index>(),
        change in 1_u8..,
    ) {
        let key = || {
            let share = StoreShare::new(NonZeroU32::new(epoch).unwrap(), share);
            StoreKey::with_share(&DeviceSecret::new(device), &share).unwrap()
        };
        let mut wallet = Wallet::new(&mut TestRng(1));
        let sealed = wallet.snapshot().unwrap().seal(&key(), &mut TestRng(2)).unwrap();
        prop_assert_eq!(StoreHeader::read(&sealed).unwrap(), StoreHeader { epoch, generation: 1 });
        prop_assert_eq!(store::open(&key(), &sealed).unwrap().generation(), 1);
        let mut altered = sealed.clone();
        altered[position.index(sealed.len())] ^= change;
        prop_assert_ne!(&altered, &sealed);
        prop_assert!(store::open(&key(), &altered).is_err());
    }
}
