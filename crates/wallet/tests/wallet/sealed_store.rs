//! The sealed store: opens with its key, and with nothing else.

use core::num::NonZeroU32;

use tapfer_wallet::store::{self, DeviceSecret, StoreHeader, StoreKey, StoreShare};
use tapfer_wallet::{StoreError, Wallet};

use crate::issuer::Issuer;
use crate::phone::{Phone, store_key};
use crate::random::TestRng;

fn error(sealed: &[u8]) -> StoreError {
    store::open(&store_key(), sealed).err().expect("altered, and yet it opens")
}

fn epoch(sealed: &[u8]) -> u32 {
    StoreHeader::read(sealed).unwrap().epoch
}

fn key(device: u8, epoch: u32, share: u8) -> StoreKey {
    let share = StoreShare::new(NonZeroU32::new(epoch).unwrap(), [share; 32]);
    StoreKey::with_share(&DeviceSecret::new([device; 32]), &share).unwrap()
}

/// Device secret, share and epoch: each of them is needed, and none can be guessed from the others.
#[test]
fn both_halves_and_the_epoch_are_needed() {
    let mut wallet = Wallet::new(&mut TestRng(1));
    let snapshot = wallet.snapshot().unwrap();
    let sealed = snapshot.seal(&key(1, 7, 2), &mut TestRng(2)).unwrap();
    assert_eq!(store::open(&key(1, 7, 2), &sealed).unwrap().generation(), 1);
    let error = |key| store::open(&key, &sealed).err();
    assert_eq!(error(key(9, 7, 2)), Some(StoreError::Sealed), "another device");
    assert_eq!(error(key(1, 7, 9)), Some(StoreError::Sealed), "another share");
    let other = |given| Some(StoreError::OtherEpoch { needed: 7, given });
    assert_eq!(error(key(1, 8, 2)), other(8), "the share of another epoch");
    let device = DeviceSecret::new([1; 32]);
    assert_eq!(error(StoreKey::without_share(&device).unwrap()), other(0), "no share");
}

/// The epoch goes into the key as well as into the header: the header of another epoch on the same
/// bytes, with the same share, opens nothing.
#[test]
fn a_blob_cannot_be_moved_to_another_epoch() {
    let mut wallet = Wallet::new(&mut TestRng(1));
    let mut sealed = wallet.snapshot().unwrap().seal(&key(1, 7, 2), &mut TestRng(2)).unwrap();
    sealed[8] = 8;
    assert_eq!(epoch(&sealed), 8);
    assert_eq!(store::open(&key(1, 8, 2), &sealed).err(), Some(StoreError::Sealed));
}

/// Never released, so there is nothing to migrate; and never mistaken for a damaged file.
#[test]
fn a_store_of_version_1_is_refused_by_its_name() {
    let mut old = b"TPFW\x01".to_vec();
    old.extend([0x55; 200]);
    assert_eq!(error(&old), StoreError::OldVersion(1));
    assert!(error(&old).to_string().contains("enrol the cards again"));
}

#[test]
fn what_is_sealed_opens_again() {
    let phone = Phone::enrolled(&Issuer::new());
    let opened = phone.stored();
    assert_eq!(
        serde_json::to_vec(&opened).unwrap(),
        serde_json::to_vec(phone.card.wallet()).unwrap()
    );
    assert_eq!(opened.device_public_key(), phone.card.wallet().device_public_key());
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let mut wallet = Wallet::new(&mut TestRng(1));
    let snapshot = wallet.snapshot().unwrap();
    let sealed = snapshot.seal(&store_key(), &mut TestRng(2)).unwrap();
    for length in 0..sealed.len() {
        let expected =
            if length < 17 + 12 + 16 { StoreError::Truncated } else { StoreError::Sealed };
        assert_eq!(error(&sealed[..length]), expected, "{length}");
    }
    for position in 0..sealed.len() * 8 {
        let mut altered = sealed.clone();
        altered[position / 8] ^= 1 << (position % 8);
        let expected = match position / 8 {
            0..4 => StoreError::NotAWallet,
            4 if altered[4] < 2 => StoreError::OldVersion(altered[4]),
            4 => StoreError::UnknownVersion(altered[4]),
            5..9 => StoreError::OtherEpoch { needed: epoch(&altered), given: 0 },
            _ => StoreError::Sealed,
        };
        assert_eq!(error(&altered), expected, "bit {position}");
    }
    let longer = [sealed.as_slice(), &[0]].concat();
    assert_eq!(error(&longer), StoreError::Sealed);
    assert_eq!(error(&[]), StoreError::Truncated);
}

#[test]
fn another_key_does_not_open_it() {
    let phone = Phone::enrolled(&Issuer::new());
    let other = StoreKey::without_share(&DeviceSecret::new([0x34; 32])).unwrap();
    assert_eq!(store::open(&other, &phone.disk).err(), Some(StoreError::Sealed));
}

/// The same wallet twice: other nonce, other ciphertext, a higher generation.
#[test]
fn no_two_snapshots_look_alike() {
    let mut wallet = Wallet::new(&mut TestRng(1));
    let mut rng = TestRng(2);
    let first = wallet.snapshot().unwrap();
    let second = wallet.snapshot().unwrap();
    assert!(second.generation() > first.generation());
    let blobs: Vec<_> = [&first, &first, &second]
        .map(|snapshot| snapshot.seal(&store_key(), &mut rng).unwrap())
        .into();
    assert!(blobs[0] != blobs[1] && blobs[1] != blobs[2]);
    assert_eq!(store::open(&store_key(), &blobs[2]).unwrap().generation(), second.generation());
    assert_eq!(first.restore().unwrap().generation(), first.generation());
}

/// No key stands on the disk in clear.
#[test]
fn the_blob_shows_no_key() {
    let issuer = Issuer::new();
    let phone = Phone::enrolled(&issuer);
    let grant = issuer.grant(crate::issuer::now(), 0);
    let key = grant.key.expose();
    let digits = data_encoding::HEXLOWER.encode(key);
    assert!(!phone.disk.windows(16).any(|window| window == key));
    assert!(!phone.disk.windows(32).any(|window| window == digits.as_bytes()));
}
