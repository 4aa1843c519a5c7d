//! The ciphers wipe their round keys: a build without their `zeroize` features does not compile.

use aes::{Aes128, Aes256};
use cmac::block_api::CmacCore;
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use des::{Des, TdesEde2};
use zeroize::ZeroizeOnDrop;

const fn wipes<T: ZeroizeOnDrop>() {}

#[test]
fn ciphers_wipe_their_round_keys() {
    const {
        wipes::<Aes128>();
        wipes::<Aes256>();
        wipes::<CmacCore<Aes128>>();
        wipes::<CmacCore<Aes256>>();
        wipes::<CtrCore<Aes128, Ctr128BE>>();
        wipes::<Des>();
        wipes::<TdesEde2>();
    }
}
