//! The sealed store: opens with its key, and with nothing else.

use tapfer_wallet::{StoreError, StoreKey, Wallet, store};

use crate::issuer::Issuer;
use crate::phone::{Phone, store_key};
use crate::random::TestRng;

fn error(sealed: &[u8]) -> StoreError {
    store::open(&store_key(), sealed).err().expect("altered, and yet it opens")
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
            if length < 5 + 12 + 16 { StoreError::Truncated } else { StoreError::Sealed };
        assert_eq!(error(&sealed[..length]), expected, "{length}");
    }
    for position in 0..sealed.len() * 8 {
        let mut altered = sealed.clone();
        altered[position / 8] ^= 1 << (position % 8);
        let expected = match position / 8 {
            0..4 => StoreError::NotAWallet,
            4 => StoreError::UnknownVersion(altered[4]),
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
    let other = StoreKey::new([0x34; 32]);
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
