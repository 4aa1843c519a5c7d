use std::collections::BTreeSet;
use std::num::NonZeroU32;

use tapfer_hsm::{HsmError, PaymentHsm};
use tapfer_payment_types::DeviceId;

use crate::{issuer, now};

fn device(number: u8) -> DeviceId {
    DeviceId::new(now(), [number; 10])
}

fn epoch(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// The same share each time; another one for every other issuer, phone or epoch.
pub fn a_share_belongs_to_one_phone_and_epoch(hsm: &impl PaymentHsm) {
    for number in [1, 2] {
        hsm.create_issuer(issuer(number), now()).unwrap();
    }
    let mut shares = BTreeSet::new();
    for (of, phone, number) in
        [(1, 1, 1), (1, 1, 2), (1, 1, 256), (1, 2, 1), (2, 1, 1), (1, 1, u32::MAX)]
    {
        let share = || hsm.store_share(issuer(of), device(phone), epoch(number)).unwrap();
        assert_eq!(share().expose(), share().expose());
        assert!(shares.insert(*share().expose()), "{of} {phone} {number}");
    }
    let unknown = hsm.store_share(issuer(9), device(1), epoch(1));
    assert!(matches!(unknown, Err(HsmError::UnknownIssuer(id)) if id == issuer(9)));
}

/// Phones of one issuer that ask at the same moment get shares of one key.
pub fn shares_asked_for_at_once_are_of_one_key(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    let shares: BTreeSet<[u8; 32]> = std::thread::scope(|scope| {
        let ask = || *hsm.store_share(issuer(1), device(1), epoch(1)).unwrap().expose();
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(shares.len(), 1);
}
