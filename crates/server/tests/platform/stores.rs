//! Phones' sealed stores, and what copies of them are worth: the real wallet, the real platform, and a
//! thief who has copied what he could.

use std::cell::RefCell;
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::rc::Rc;

use serde_json::{Value, json};
use tapfer_payment_types::store_share::StoreReport;
use tapfer_payments::store_shares::MOST_SNAPSHOTS_BETWEEN_REPORTS;
use tapfer_wallet::store::{
    ClosedStore, DeviceSecret, SealedStore, StoreHeader, StoreMedium, StoreShare,
};
use tapfer_wallet::{Snapshot, StoreError, Wallet};

use crate::phone::{Phone, random};
use crate::pins::{pay_with_pin, shop_with_pin};
use crate::running::{Client, Reply, log};
use crate::shop::{Shop, reason};

/// What the phone's key store holds. The thief has it too, unless a test says otherwise.
const SECRET: [u8; 32] = [0x5A; 32];

/// The phone's file.
#[derive(Clone, Default)]
struct Flash(Rc<RefCell<Option<Vec<u8>>>>);

impl StoreMedium for Flash {
    type Error = Infallible;

    fn load(&self) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.0.borrow().clone())
    }

    fn replace(&self, sealed: &[u8]) -> Result<(), Infallible> {
        *self.0.borrow_mut() = Some(sealed.to_vec());
        Ok(())
    }
}

impl Flash {
    /// What a thief takes with him.
    fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }
}

/// A share as the platform gave it, and as a thief may have recorded it.
fn share(answer: &Value) -> StoreShare {
    let bytes = data_encoding::HEXLOWER.decode(answer["share"].as_str().unwrap().as_bytes());
    let epoch = u32::try_from(answer["epoch"].as_u64().unwrap()).unwrap();
    StoreShare::new(NonZeroU32::new(epoch).unwrap(), bytes.unwrap().try_into().unwrap())
}

/// A phone with its file and its API key, or a copy of both.
struct Kept {
    flash: Flash,
    api: Client,
    path: String,
    store: SealedStore<Flash>,
    wallet: Wallet,
}

impl Kept {
    /// Puts the wallet of the shop's phone into a store, and moves it to its first epoch.
    fn first(shop: &mut Shop) -> Self {
        let flash = Flash::default();
        let mut wallet = shop.phone.wallet().snapshot().unwrap().restore().unwrap();
        let secret = DeviceSecret::new(SECRET);
        let store = SealedStore::create(flash.clone(), secret, &mut wallet, &mut random()).unwrap();
        let path = format!("/v1/devices/{}/store-share", shop.device_id);
        let mut kept = Self { flash, api: shop.device.clone(), path, store, wallet };
        assert_eq!(kept.move_on().expect(200)["epoch"], 1);
        kept
    }

    /// Asks for the next epoch, seals under it, and confirms it. The confirming answer.
    fn move_on(&mut self) -> Reply {
        let next = self.rotate().expect(200);
        let snapshot = self.wallet.snapshot().unwrap();
        self.store.reseal(&share(&next), &snapshot, &mut random()).unwrap();
        self.report(self.store.report())
    }

    fn rotate(&self) -> Reply {
        self.api.post(&format!("{}/rotate", self.path), &json!(self.store.report()))
    }

    fn report(&self, report: StoreReport) -> Reply {
        self.api.post(&self.path, &json!(report))
    }

    /// One more snapshot, as after a payment.
    fn use_it(&mut self) {
        let snapshot: Snapshot = self.wallet.snapshot().unwrap();
        self.store.keep(&snapshot, &mut random()).unwrap();
    }

    /// The app starts on a phone that has this file, this key and the secret.
    fn start(&self, flash: Flash) -> Result<Self, Reply> {
        let secret = DeviceSecret::new(SECRET);
        let closed = ClosedStore::find(flash.clone(), secret).unwrap().unwrap();
        let answer = self.report(closed.report().expect("in an epoch"));
        if answer.status != 200 {
            return Err(answer);
        }
        let (store, wallet) = closed.open(Some(&share(&answer.json()))).unwrap();
        Ok(Self { flash, api: self.api.clone(), path: self.path.clone(), store, wallet })
    }

    fn header(&self) -> StoreHeader {
        StoreHeader::read(self.flash.0.borrow().as_ref().unwrap()).unwrap()
    }
}

fn must_open(result: Result<Kept, Reply>, when: &str) -> Kept {
    result.unwrap_or_else(|answer| panic!("{when}: {}", answer.text()))
}

/// What the platform answers to a copy that it finds out.
fn refused(result: Result<Kept, Reply>) -> String {
    result.err().expect("it opens").problem(409)
}

#[test]
fn a_phone_opens_its_store_again_and_again() {
    let mut shop = Shop::open();
    let mut phone = Kept::first(&mut shop);
    for epoch in 1..4 {
        assert_eq!(phone.header().epoch, epoch);
        phone.use_it();
        phone = phone.start(phone.flash.clone()).map_err(|answer| answer.text()).unwrap();
        phone.use_it();
        phone.move_on().expect(200);
    }
    let known = shop.issuer.get(&format!("/v1/devices/{}", shop.device_id)).expect(200);
    assert_eq!(known["store"]["epoch"], 4);
    assert_eq!(known["store"]["generation"], json!(phone.header().generation));
}

/// The phone dies between any two steps of a move: what it has on its flash then always opens.
#[test]
fn a_move_that_stops_anywhere_leaves_a_phone_that_opens() {
    let mut shop = Shop::open();
    let mut phone = Kept::first(&mut shop);
    // Before anything.
    phone = must_open(phone.start(phone.flash.clone()), "opens");
    // After the share of the next epoch has come, twice.
    let next = phone.rotate().expect(200);
    assert_eq!(phone.rotate().expect(200), next, "the same answer again");
    phone = must_open(phone.start(phone.flash.clone()), "opens in the old epoch");
    assert_eq!(phone.header().epoch, 1);
    // After the store was sealed under it.
    let next = phone.rotate().expect(200);
    phone.store.reseal(&share(&next), &phone.wallet.snapshot().unwrap(), &mut random()).unwrap();
    phone = must_open(phone.start(phone.flash.clone()), "opens in the new epoch");
    assert_eq!(phone.header().epoch, 2);
    // After the confirmation: twice more.
    phone = must_open(phone.start(phone.flash.clone()), "opens");
    must_open(phone.start(phone.flash.clone()), "opens");
}

#[test]
fn attack_cloned_store_on_a_second_phone() {
    let mut shop = Shop::open();
    let mut phone = Kept::first(&mut shop);
    let copy = phone.flash.copy();
    // The copy has everything, the API key too, and is as new as the phone: nothing tells them apart yet.
    let mut clone = must_open(phone.start(copy), "a perfect copy opens");
    // The phone fetches keys, as it does every few hours: from then on the copy is out.
    phone.use_it();
    phone.move_on().expect(200);
    clone.use_it();
    clone.use_it();
    clone.use_it();
    assert_eq!(refused(clone.start(clone.flash.clone())), "store_rolled_back");
    assert_eq!(clone.rotate().problem(409), "store_rolled_back");
    must_open(phone.start(phone.flash.clone()), "the phone goes on");
}

/// The copy is faster: then the phone is the one that is refused, and its owner is told.
#[test]
fn a_clone_that_is_faster_shuts_the_phone_out_and_is_noticed() {
    let mut shop = Shop::open();
    let phone = Kept::first(&mut shop);
    let mut clone = must_open(phone.start(phone.flash.copy()), "a perfect copy opens");
    clone.move_on().expect(200);
    assert_eq!(refused(phone.start(phone.flash.clone())), "store_rolled_back");
}

#[test]
fn attack_rolled_back_store() {
    let mut shop = Shop::open();
    let mut phone = Kept::first(&mut shop);
    let older = phone.flash.copy();
    phone.use_it();
    phone = must_open(phone.start(phone.flash.clone()), "opens");
    // The same epoch, an older snapshot: put back from a backup, or by somebody.
    let epoch = phone.header().epoch;
    assert_eq!(StoreHeader::read(older.0.borrow().as_ref().unwrap()).unwrap().epoch, epoch);
    assert_eq!(refused(phone.start(older)), "store_rolled_back");
    let device = &shop.device_id;
    let event = |line: &str| line.contains("store_rolled_back") && line.contains(device.as_str());
    assert!(log().lines().any(event), "a security event");
    must_open(phone.start(phone.flash.clone()), "the newest one opens");
}

/// A thief who has recorded the share of an epoch opens copies of that epoch, and of no other.
#[test]
fn older_epoch_copy_never_opens_again() {
    let mut shop = Shop::open();
    let mut phone = Kept::first(&mut shop);
    let older = phone.flash.copy();
    let last = StoreReport { epoch: 1, generation: phone.header().generation };
    phone.use_it();
    phone.move_on().expect(200);
    // Whatever he claims: the platform does not give out the share of an epoch that has ended.
    assert_eq!(refused(phone.start(older.copy())), "store_rolled_back");
    for generation in [last.generation, phone.header().generation, 1 << 40] {
        let claim = StoreReport { generation, ..last };
        assert_eq!(phone.report(claim).problem(409), "store_rolled_back", "{generation}");
    }
    // And the share that he can get does not open it.
    let new = share(&phone.report(phone.store.report()).expect(200));
    let closed = ClosedStore::find(older, DeviceSecret::new(SECRET)).unwrap().unwrap();
    let error = closed.open(Some(&new)).err();
    assert_eq!(error, Some(StoreError::OtherEpoch { needed: 1, given: 2 }));
}

/// Shares are not given out ahead of time: they would open what is sealed only later.
#[test]
fn no_share_of_an_epoch_that_was_not_offered() {
    let mut shop = Shop::open();
    let phone = Kept::first(&mut shop);
    let generation = phone.header().generation;
    for epoch in [0, 2, 3, u32::MAX] {
        let answer = phone.report(StoreReport { epoch, generation });
        let expected = if epoch == 0 { "store_rolled_back" } else { "conflict" };
        assert_eq!(answer.problem(409), expected, "{epoch}");
    }
    must_open(phone.start(phone.flash.clone()), "nothing was changed");
}

/// Whoever has the phone's API key can name any snapshot. He cannot name one from so far ahead that the
/// numbers run out.
#[test]
fn a_report_goes_only_so_far_ahead() {
    let mut shop = Shop::open();
    let phone = Kept::first(&mut shop);
    let generation = phone.header().generation;
    for step in [MOST_SNAPSHOTS_BETWEEN_REPORTS + 1, 1 << 40, (1 << 63) - 1 - generation, 1 << 63] {
        let made_up = StoreReport { epoch: 1, generation: generation + step };
        assert_eq!(phone.report(made_up).problem(422), "invalid_request", "{step}");
        let answer = phone.api.post(&format!("{}/rotate", phone.path), &json!(made_up));
        assert_eq!(answer.problem(422), "invalid_request", "{step}");
    }
    must_open(phone.start(phone.flash.clone()), "nothing was changed");
}

/// A phone that moves on at every start: copies from before a start open nothing, whatever number they
/// claim to have.
#[test]
fn a_copy_from_before_the_last_start_never_opens_again() {
    let mut shop = Shop::open();
    let mut phone = Kept::first(&mut shop);
    for _ in 0..3 {
        let copy = phone.flash.copy();
        let StoreHeader { epoch, generation } = phone.header();
        phone = must_open(phone.start(phone.flash.clone()), "opens");
        phone.move_on().expect(200);
        phone.use_it();
        assert_eq!(refused(phone.start(copy)), "store_rolled_back");
        for ahead in [0, 1, 1_000] {
            let claim = StoreReport { epoch, generation: generation + ahead };
            assert_eq!(phone.report(claim).problem(409), "store_rolled_back", "{ahead}");
        }
    }
}

#[test]
fn withheld_share() {
    let mut shop = Shop::open();
    let phone = Kept::first(&mut shop);
    let device = format!("/v1/devices/{}", shop.device_id);
    let locked = shop.issuer.post_as("lock-1", &format!("{device}/lock"), &reason("stolen at 9"));
    assert_eq!(locked.expect(200)["lock"]["by"], "issuer");
    let again = shop.issuer.post_as("lock-1", &format!("{device}/lock"), &reason("stolen at 9"));
    assert!(again.is_replayed());
    // Closed, and nothing gets around it: no share of any epoch, no keys.
    assert_eq!(refused(phone.start(phone.flash.clone())), "device_locked");
    assert_eq!(phone.rotate().problem(409), "device_locked");
    let request = shop.phone.replenish_request(shop.token.parse().unwrap());
    let path = format!("/v1/tokens/{}/replenish", shop.token);
    assert_eq!(shop.device.post(&path, &request).problem(409), "device_locked");
    // Who holds the phone is not told why.
    assert_eq!(shop.device.get(&device).expect(200)["lock"]["reason"], Value::Null);
    assert_eq!(shop.issuer.get(&device).expect(200)["lock"]["reason"], "stolen at 9");
    let unlock = format!("{device}/unlock");
    assert_eq!(shop.device.post(&unlock, &reason("found")).problem(403), "forbidden");
    shop.issuer.post(&unlock, &reason("found")).expect(200);
    must_open(phone.start(phone.flash.clone()), "opens again");
}

/// The same question under the same idempotency key, as a thief replays it from old traffic: the answer is
/// not kept, so the share stays where it is.
#[test]
fn an_old_answer_gives_no_withheld_share() {
    let mut shop = Shop::open();
    let phone = Kept::first(&mut shop);
    let question = json!(phone.store.report());
    phone.api.post_as("old traffic", &phone.path, &question).expect(200);
    let lock = format!("/v1/devices/{}/lock", shop.device_id);
    shop.platform.operator.post(&lock, &reason("stolen")).expect(200);
    let replayed = phone.api.post_as("old traffic", &phone.path, &question);
    assert_eq!(replayed.problem(409), "device_locked");
}

#[test]
fn what_the_operator_locked_only_the_operator_unlocks() {
    let shop = Shop::open();
    let device = format!("/v1/devices/{}", shop.device_id);
    let [lock, unlock] = ["lock", "unlock"].map(|verb| format!("{device}/{verb}"));
    let operator = &shop.platform.operator;
    assert_eq!(shop.issuer.post(&unlock, &reason("?")).problem(409), "conflict");
    shop.issuer.post(&lock, &reason("lost")).expect(200);
    assert_eq!(shop.issuer.post(&lock, &reason("lost")).problem(409), "conflict");
    assert_eq!(operator.post(&lock, &reason("court")).expect(200)["lock"]["by"], "operator");
    assert_eq!(shop.issuer.post(&unlock, &reason("found")).problem(409), "conflict");
    assert_eq!(operator.post(&unlock, &reason("over")).expect(200)["lock"], Value::Null);
}

/// The share goes to the phone itself: not to another phone, and to nobody above it.
#[test]
fn nobody_else_gets_the_share() {
    let mut shop = Shop::open();
    let phone = Kept::first(&mut shop);
    let question = json!(phone.store.report());
    for above in [&shop.platform.operator, &shop.issuer, &shop.merchant, &shop.terminal] {
        for path in [phone.path.clone(), format!("{}/rotate", phone.path)] {
            assert_eq!(above.post(&path, &question).problem(403), "forbidden");
        }
    }
    let key = Phone::new().public_key();
    let other = json!({ "issuer": shop.issuer_id, "label": "other", "public_key": key });
    let other = shop.issuer.post("/v1/devices", &other).expect(201);
    let other = shop.platform.operator.with_key(&other["api_key"]);
    assert_eq!(other.post(&phone.path, &question).problem(404), "not_found");
}

/// Without the device's secret, share and file are noise; without the share, secret and file are.
#[test]
fn a_copy_of_the_store_alone_is_noise() {
    let mut shop = Shop::open();
    let phone = Kept::first(&mut shop);
    let share = share(&phone.report(phone.store.report()).expect(200));
    let open = |secret, share| {
        let closed = ClosedStore::find(phone.flash.copy(), DeviceSecret::new(secret));
        closed.unwrap().unwrap().open(share).err()
    };
    assert_eq!(open([0; 32], Some(&share)), Some(StoreError::Sealed));
    assert!(matches!(open(SECRET, None), Some(StoreError::OtherEpoch { given: 0, .. })));
    let guessed = StoreShare::new(NonZeroU32::new(1).unwrap(), [0; 32]);
    assert_eq!(open(SECRET, Some(&guessed)), Some(StoreError::Sealed));
}

/// Phone and copy pay from the same store: the platform takes each counter once.
#[test]
fn a_rolled_back_store_pays_with_no_counter_twice() {
    let mut shop = Shop::open();
    let mut phone = Kept::first(&mut shop);
    let older = phone.flash.copy();
    shop.phone = Phone::with(phone.wallet.snapshot().unwrap().restore().unwrap());
    assert_eq!(shop.pay(100)["outcome"], "approved");
    let copy = must_open(phone.start(older), "not behind anything that was reported");
    shop.phone = Phone::with(copy.wallet);
    assert_ne!(shop.pay(100)["outcome"], "approved", "the counter is spent");
    phone.use_it();
}

/// A platform that goes on from a backup follows a phone that moved on meanwhile, and is as strict as before
/// from then on.
#[test]
fn a_restored_platform_follows_phones_that_went_on() {
    let mut shop = Shop::open();
    let mut phone = Kept::first(&mut shop);
    let older = shop.restart_on(None);
    phone.api = shop.device.clone();
    for _ in 0..3 {
        phone.use_it();
        phone.move_on().expect(200);
    }
    let early = phone.flash.copy();
    phone.move_on().expect(200);
    shop.restart_on(Some(&older));
    phone.api = shop.device.clone();
    assert_eq!(refused(phone.start(phone.flash.clone())), "conflict", "nobody said so");
    let said = reason("the disk broke");
    shop.platform.operator.post("/v1/audit/restorations", &said).expect(200);
    phone = must_open(phone.start(phone.flash.clone()), "it moved on");
    phone.move_on().expect(200);
    assert_eq!(refused(phone.start(early)), "store_rolled_back");
    let StoreHeader { epoch, generation } = phone.header();
    let ahead = phone.report(StoreReport { epoch: epoch + 2, generation });
    assert_eq!(ahead.problem(409), "conflict", "once only");
}

/// What was given out in the hours up to a restoration is forgotten, so no row of session keys gets a number of
/// those hours: two rows of one number would be two PINs to test against each other, and phones refuse them.
#[test]
fn no_number_of_a_forgotten_hour_is_given_to_a_row() {
    let mut shop = shop_with_pin("2580");
    let older = shop.restart_on(None);
    shop.replenish();
    shop.restart_on(Some(&older));
    let said = reason("the disk broke");
    shop.platform.operator.post("/v1/audit/restorations", &said).expect(200);
    // Were it given a number that the phone has, the phone would not take what comes with it.
    shop.replenish();
    assert_eq!(shop.pay(100)["outcome"], "approved", "without the PIN, at once");
    shop.platform.clock.advance_seconds(3_600);
    shop.replenish();
    assert_eq!(pay_with_pin(&mut shop, "2580", 3_000)["outcome"], "approved", "an hour later");
}
