//! What every implementation of the storage traits must do. One more backend is one more line at
//! the end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod world;

use std::num::NonZeroU32;

use tapfer_emv::keys::KeyIndex;
use tapfer_payment_types::store_share::StoreReport;
use tapfer_payment_types::{
    CardId, CatalogueMark, DeviceId, MerchantId, PaymentIntentId, TerminalId, TokenId,
};
use tapfer_payments::access::{ApiKey, Principal};
use tapfer_payments::audit::{AuditAction, AuditEvent, AuditResult};
use tapfer_payments::authorization::DeclineReason;
use tapfer_payments::intents::CaptureMethod;
use tapfer_payments::issuers::KeyPolicy;
use tapfer_payments::keys::{GrantedKey, KeyError};
use tapfer_payments::pins::PersonKeyState;
use tapfer_payments::revocations::RevokedIssuerCertificate;
use tapfer_payments::store_shares::{DeviceError, Locker, StoreState};
use tapfer_payments::tokens::{Actor, TokenAction, TokenError, TokenState, TokenStatus};
use tapfer_storage::{
    CardChange, KeyUse, Page, PersonKeyChange, Refusal, Storage, StorageError, StoredPersonKey,
    TokenFilter, Write, Written,
};
use world::backend::{Backend, contract, contract_of_one_log, declined, refusal, world};
use world::{caller, certificate, done, granted_key, issuer, merchant, noon, presented, write};

fn what_is_put_in_comes_out<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    assert_eq!(store.issuer(world.issuer.id).unwrap().unwrap(), world.issuer);
    assert_eq!(store.card(world.card).unwrap().unwrap().card, world.card(world.card));
    assert_eq!(store.device(world.device).unwrap().unwrap(), world.device(world.device));
    let token = store.token(world.token).unwrap().unwrap();
    assert_eq!(token.state, TokenState::Active);
    assert_eq!(store.merchant(world.merchant).unwrap().unwrap(), merchant(world.merchant));
    let terminal = store.terminal(world.terminal).unwrap().unwrap();
    assert_eq!((terminal.id, terminal.merchant), (world.terminal, world.merchant));
    let key = world.new_api_key(Principal::Issuer(world.issuer.id));
    done(store.create_api_key(key.clone(), write()));
    assert_eq!(store.api_key_by_hash(key.secret_hash).unwrap(), Some(key));
    assert_eq!(store.api_key_by_hash([0xFF; 32]).unwrap(), None);
    assert_eq!(world.keys_that_count().unwrap(), [granted_key()]);
    let number = world.number();
    let card = world.card(CardId::new(noon(), world.next()));
    done(store.create_card(card.clone(), number.clone(), write()));
    assert_eq!(store.sealed_card_number(card.id).unwrap(), Some(number.sealed));
    let by_number = store.card_by_number_hash(&number.keyed_hash).unwrap().unwrap();
    assert_eq!(by_number.card, card);
    assert_eq!(store.sealed_token_number(world.token).unwrap(), Some(vec![4, 5, 6]));
    let intent = world.intent(500, CaptureMethod::Manual);
    assert_eq!(store.intent(intent.id).unwrap(), Some(intent));
    store.check().unwrap();
}

/// What is known of a store is written down with every question, and a locked device gets nothing.
fn stores_go_forward_and_stay_closed<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    let report = |epoch, generation| StoreReport { epoch, generation };
    let given = |written: Written<NonZeroU32>| written.value().unwrap().get();
    let rotate = |epoch, generation| {
        store.rotate_store(world.device, report(epoch, generation), write()).map(given)
    };
    let open = |epoch, generation| {
        store.report_store(world.device, report(epoch, generation), write()).map(given)
    };
    assert_eq!(rotate(0, 5).unwrap(), 1);
    assert_eq!(open(1, 6).unwrap(), 1);
    let known = store.device(world.device).unwrap().unwrap();
    let expected =
        StoreState { confirmed_epoch: 1, highest_generation: 6, ..StoreState::default() };
    assert_eq!((known.store, known.lock), (expected, None));
    assert_eq!(refusal(open(1, 5)), Refusal::Device(DeviceError::StoreRolledBack));
    assert_eq!(refusal(open(0, 7)), Refusal::Device(DeviceError::StoreRolledBack));

    let reason = || "reported lost".to_owned();
    done(store.lock_device(world.device, Locker::Issuer, reason(), write()));
    let lock = store.device(world.device).unwrap().unwrap().lock.unwrap();
    assert_eq!((lock.by, lock.reason, lock.at), (Locker::Issuer, reason(), noon()));
    let locked = || Refusal::Device(DeviceError::Locked(Locker::Issuer));
    assert_eq!(refusal(open(1, 7)), locked());
    assert_eq!(refusal(rotate(1, 7)), locked());
    assert_eq!(refusal(store.grant_keys(world.token, None, vec![], write())), locked());
    done(store.unlock_device(world.device, Locker::Issuer, reason(), write()));
    assert_eq!(open(1, 7).unwrap(), 1);
    let actions: Vec<_> = store.audit_events(Page::first(4)).unwrap().items;
    let actions: Vec<_> = actions.iter().map(|line| line.event.action.as_str()).collect();
    let expected = ["device.store_share_given", "device.unlocked", "device.locked"];
    assert_eq!(actions[..3], expected);
}

fn what_is_not_there_is_said_so<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    let intent = PaymentIntentId::new(noon(), world.next());
    assert_eq!(store.intent(intent).unwrap(), None);
    let terminal = TerminalId::new(noon(), world.next());
    let missing = [
        store.cancel_intent(intent, write()).err(),
        store.capture_intent(intent, None, write()).err(),
        store.arm_intent(intent, terminal, noon().plus_seconds(60), write()).err(),
        store.grant_keys(TokenId::new(noon(), world.next()), None, vec![], write()).err(),
    ];
    for error in missing {
        assert!(matches!(error, Some(StorageError::NotFound { .. })), "{error:?}");
    }
    let mut card = world.card(CardId::new(noon(), world.next()));
    card.issuer = issuer(200, "111111").id;
    let error = store.create_card(card, world.number(), write()).err();
    assert!(matches!(error, Some(StorageError::NotFound { kind: "issuer", .. })), "{error:?}");
}

fn lists_come_in_pages<B: Backend>() {
    let (world, _backend) = world::<B>();
    let made: Vec<_> = (0..7).map(|_| world.intent(100, CaptureMethod::Manual).id).collect();
    let mut seen = Vec::new();
    let mut page = Page::first(3);
    loop {
        let slice = world.store.list_intents(Some(world.merchant), page).unwrap();
        seen.extend(slice.items.iter().map(|intent| intent.id));
        let Some(next) = slice.next else { break };
        assert_eq!(slice.items.len(), 3);
        page.cursor = Some(next);
    }
    seen.reverse();
    assert_eq!(seen, made);
    let other = MerchantId::new(noon(), world.next());
    assert!(world.store.list_intents(Some(other), Page::first(3)).unwrap().items.is_empty());
    let tokens = |filter| world.store.list_tokens(filter, Page::first(9)).unwrap().items.len();
    let (card, device) = (Some(world.card), Some(world.device));
    assert_eq!(tokens(TokenFilter { card, device, issuer: None }), 1);
    let device = Some(DeviceId::new(noon(), world.next()));
    assert_eq!(tokens(TokenFilter { card, device, issuer: None }), 0);
}

fn nothing_is_there_twice<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    let number = world.number();
    let card = || world.card(CardId::new(noon(), world.next()));
    done(store.create_card(card(), number.clone(), write()));
    let again = refusal(store.create_card(card(), number, write()));
    assert_eq!(again, Refusal::Exists("card number"));
    assert_eq!(
        refusal(store.create_card(world.card(world.card), world.number(), write())),
        Refusal::Exists("id")
    );
    for prefix in ["999900", "9999001"] {
        let overlap = refusal(store.create_issuer(issuer(9, prefix), write()));
        assert_eq!(overlap, Refusal::Exists("number prefix"), "{prefix}");
    }
    done(store.create_issuer(issuer(9, "999901"), write()));
    let again = refusal(store.grant_keys(world.token, None, vec![granted_key()], write()));
    assert_eq!(again, Refusal::Exists("key index"));
    assert_eq!(world.keys_that_count().unwrap().len(), 1);
}

fn what_belongs_to_others_stays_theirs<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    let other = done(store.create_issuer(issuer(9, "999901"), write()));
    let mut token = world.token(TokenId::new(noon(), world.next()));
    token.issuer = other.id;
    let mixed = store.create_token(token, world.number(), write());
    assert!(matches!(refusal(mixed), Refusal::OwnersDiffer(_)));
    let stranger = MerchantId::new(noon(), world.next());
    let key = world.new_api_key(Principal::Merchant(world.merchant));
    let mixed = store.create_merchant(merchant(stranger), key, write());
    assert!(matches!(refusal(mixed), Refusal::OwnersDiffer(_)));
    assert_eq!(store.merchant(stranger).unwrap(), None, "rolled back");
}

fn an_api_key_is_taken_back_once<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    let owner = Principal::Merchant(world.merchant);
    let key = done(store.create_api_key(world.new_api_key(owner), write()));
    let listed = store.list_api_keys(Some(owner), Page::first(9)).unwrap().items;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0], key);
    let revoke = |now| store.revoke_api_key(key.id, "leaked".into(), Write { now, ..write() });
    let revoked = done(revoke(noon()));
    assert_eq!(revoked.revoked_at, Some(noon()));
    assert_eq!(done(revoke(noon().plus_seconds(1))), revoked);
    assert_eq!(store.api_key_by_hash(key.secret_hash).unwrap(), Some(revoked));
    let audit = store.audit_events(Page::first(1)).unwrap().items.remove(0).event;
    assert_eq!((audit.action, audit.object), (AuditAction::ApiKeyRevoked, key.id.to_string()));
    let of_operator = |store: &dyn Storage| {
        let page = Page::first(9);
        store.list_api_keys(Some(Principal::Operator), page).unwrap().items
    };
    let good = |keys: &[ApiKey]| keys.iter().filter(|key| key.revoked_at.is_none()).count();
    assert_eq!(good(&of_operator(store.as_ref())), 1);
    let new = done(store.replace_operator_keys(world.new_api_key(Principal::Operator), write()));
    let keys = of_operator(store.as_ref());
    assert_eq!((keys.len(), good(&keys), keys[0].id), (2, 1, new.id));
}

fn a_token_lives_by_the_rules<B: Backend>() {
    let (world, _backend) = world::<B>();
    world.change_token(TokenAction::Suspend, Actor::Issuer).unwrap();
    world.change_token(TokenAction::Suspend, Actor::Cardholder).unwrap();
    world.change_token(TokenAction::Unsuspend, Actor::Cardholder).unwrap();
    let refused = refusal(world.change_token(TokenAction::Unsuspend, Actor::Cardholder));
    assert_eq!(refused, Refusal::Token(TokenError::NotSuspendedBy(Actor::Cardholder)));
    let intent = world.armed(100, CaptureMethod::Automatic);
    let outcome = world.pay(intent.id, 1, 100).outcome;
    assert_eq!(outcome, declined(DeclineReason::TokenSuspended));
    world.change_token(TokenAction::Unsuspend, Actor::Issuer).unwrap();
    let token = world.change_token(TokenAction::Delete, Actor::Cardholder).unwrap();
    assert_eq!(token.state, TokenState::Deactivated);
    let history = world.store.token_history(world.token).unwrap();
    let states: Vec<_> = history.iter().map(|change| change.state.status()).collect();
    use TokenStatus::{Active, Deactivated, Suspended};
    assert_eq!(states, [Active, Suspended, Suspended, Suspended, Active, Deactivated]);
    assert_eq!(history[1].reason, "issuer wants it");
}

fn keys_are_given_only_to_who_may_pay<B: Backend>() {
    let (world, _backend) = world::<B>();
    let mut counter = 1;
    let mut grant = || {
        counter += 1;
        let index = KeyIndex::at(noon(), counter).unwrap();
        let keys = vec![GrantedKey { index, ..granted_key() }];
        world.store.grant_keys(world.token, None, keys, write())
    };
    done(grant());
    let change = |change| world.store.change_card(world.card, change, "lost".into(), write());
    done(change(CardChange::Block));
    assert!(matches!(refusal(grant()), Refusal::Card(_)));
    done(change(CardChange::Unblock));
    world.change_token(TokenAction::Suspend, Actor::Platform).unwrap();
    assert!(matches!(refusal(grant()), Refusal::Token(TokenError::NoKeys(_))));
    world.change_token(TokenAction::Unsuspend, Actor::Platform).unwrap();
    done(grant());
    world.change_token(TokenAction::Delete, Actor::Platform).unwrap();
    assert!(matches!(refusal(grant()), Refusal::Token(TokenError::NoKeys(_))));
    assert_eq!(world.keys_that_count().unwrap().len(), 3);
}

/// Keys that were sealed before a change of PIN do not leave the house after it.
fn keys_under_an_old_pin_are_not_given<B: Backend>() {
    let (world, _backend) = world::<B>();
    let grant = |counter, person_key| {
        let index = KeyIndex::at(noon(), counter).unwrap();
        let keys = vec![GrantedKey { index, ..granted_key() }];
        world.store.grant_keys(world.token, person_key, keys, write())
    };
    let set_pin = |known, generation| {
        let key = StoredPersonKey {
            state: PersonKeyState::fresh(generation),
            key_sealed: vec![1],
            request_hash: [2; 32],
            refused_hash: None,
        };
        let change = PersonKeyChange::Taken(key);
        done(world.store.change_person_key(world.token, known, change, write()));
    };
    let is_conflict = |result| matches!(result, Err(StorageError::Conflict));
    assert!(is_conflict(grant(2, Some(1))));
    set_pin(None, 1);
    assert!(is_conflict(grant(3, None)));
    done(grant(4, Some(1)));
    set_pin(Some(PersonKeyState::fresh(1)), 2);
    assert!(is_conflict(grant(5, Some(1))));
    done(grant(6, Some(2)));
}

/// However many keys a token has had: new ones depend on those that can pay and those that were used.
fn keys_that_are_over_are_not_read_again<B: Backend>() {
    let (world, _backend) = world::<B>();
    let index = |counter| KeyIndex::at(noon(), counter).unwrap();
    let armed = world.armed(100, CaptureMethod::Automatic);
    done(world.commit(&world.decide(armed.id, world.terminal, presented(1, 100)), None));
    for first in (10..70).step_by(3) {
        let keys = (first..first + 3).map(|n| GrantedKey { index: index(n), ..granted_key() });
        done(world.store.grant_keys(world.token, None, keys.collect(), write()));
    }
    let count = |policy: &KeyPolicy, at| {
        world.store.keys_that_count(world.token, policy, at).unwrap().len()
    };
    let policy = KeyPolicy::default();
    assert_eq!(count(&policy, noon()), 7, "two replenishments, and one key that was used");
    let later = noon().plus_seconds(policy.lifetime_seconds);
    assert_eq!(count(&policy, later), 7);
    assert_eq!(count(&policy, later.plus_millis(1)), 0);
    let of_this_hour = world.store.key_indices(world.token, index(0)..=index(99)).unwrap();
    assert_eq!(of_this_hour.len(), 61, "no number is given out twice");
    assert_eq!(world.store.key_indices(world.token, index(11)..=index(12)).unwrap().len(), 2);
}

/// The issuer's policy has three keys a replenishment.
fn new_keys_take_the_place_of_old_ones<B: Backend>() {
    let (world, _backend) = world::<B>();
    let grant = |counters: std::ops::Range<u8>| {
        let index = |counter| KeyIndex::at(noon(), counter).unwrap();
        let keys = counters.map(|counter| GrantedKey { index: index(counter), ..granted_key() });
        world.store.grant_keys(world.token, None, keys.collect(), write())
    };
    let alive = || {
        let keys = world.keys_that_count().unwrap();
        keys.iter().filter(|key| noon() <= key.expires_at).count()
    };
    let armed = world.armed(100, CaptureMethod::Automatic);
    let decision = world.decide(armed.id, world.terminal, presented(1, 100));
    done(grant(10..13));
    assert_eq!(alive(), 4, "the key of the beginning is of the replenishment before");
    done(grant(20..23));
    assert_eq!(alive(), 6);
    // Decided on the first key when it was still good.
    assert!(matches!(world.commit(&decision, None), Err(StorageError::Conflict)));
    assert_eq!(world.pay(armed.id, 1, 100).outcome, declined(DeclineReason::KeyExpired));
    done(grant(30..33));
    assert_eq!(alive(), 6);
}

fn a_revoked_issuer_certificate_stays_revoked<B: Backend>() {
    let (world, _backend) = world::<B>();
    let revoked = |serial, reason: &str| RevokedIssuerCertificate {
        issuer: world.issuer.id,
        rid: [0xF0, 0x54, 0x41, 0x50, 0x46],
        ca_index: 1,
        serial: [0, 0, serial],
        certificate: Some(certificate(serial)),
        reason: reason.into(),
        revoked_at: noon(),
    };
    let renew = |serial| {
        done(world.store.renew_issuer_keys(world.issuer.id, 1, certificate(serial), write()));
    };
    let revoke = |entry| world.store.revoke_issuer_certificate(entry, write());
    assert!(world.store.revoked_issuer_certificates().unwrap().is_empty());
    renew(2);
    assert_eq!(done(revoke(revoked(2, "copied"))), revoked(2, "copied"));
    // Only the one that the issuer has.
    assert!(matches!(revoke(revoked(1, "lost")), Err(StorageError::Conflict)));
    renew(1);
    assert_eq!(done(revoke(revoked(1, "lost"))), revoked(1, "lost"));
    // Once is for good: the first reason stays.
    renew(2);
    assert_eq!(done(revoke(revoked(2, "again"))), revoked(2, "copied"));
    let listed = world.store.revoked_issuer_certificates().unwrap();
    assert_eq!(listed, [revoked(1, "lost"), revoked(2, "copied")]);
}

fn keys_are_not_used_up_faster_than_the_policy_allows<B: Backend>() {
    let (world, _backend) = world::<B>();
    let policy = world.issuer.key_policy;
    let ceiling = 4 * i64::from(policy.keys_per_replenishment) * policy.maximum_total_minor;
    let mut payments = 0;
    let mut pay = |minor| {
        payments += 1;
        // Declined, because nobody was verified; the key counts it all the same.
        let intent = world.armed(minor, CaptureMethod::Automatic);
        let outcome = world.pay(intent.id, payments, minor).outcome;
        assert_eq!(outcome, declined(DeclineReason::VerificationRequired));
    };
    let grant = |counter| {
        let key = GrantedKey { index: KeyIndex::at(noon(), counter).unwrap(), ..granted_key() };
        world.store.grant_keys(world.token, None, vec![key], write())
    };
    pay(ceiling - 2_501);
    done(grant(2));
    pay(2_501);
    let until = noon().plus_seconds(policy.lifetime_seconds);
    assert_eq!(refusal(grant(3)), Refusal::Key(KeyError::UsedTooFast { until }));
    assert_eq!(world.keys_that_count().unwrap().len(), 2);
}

/// Phone and platform count alike: a foreign amount, or what the card declines, is a payment and no money.
fn what_moves_no_money_leaves_the_total_of_a_key<B: Backend>() {
    let (world, _backend) = world::<B>();
    let intent = world.armed(100, CaptureMethod::Automatic);
    let (mut abroad, mut by_card) = (presented(1, 25_001), presented(2, 25_001));
    abroad.input.currency = [0x03, 0x92];
    let mut data = by_card.input.application_data().unwrap();
    data.results.declined = true;
    by_card.input.issuer_application_data = data.encode().to_vec();
    for (payment, reason) in
        [(abroad, DeclineReason::AmountMismatch), (by_card, DeclineReason::CardDeclined)]
    {
        let decision = world.decide(intent.id, world.terminal, payment);
        assert_eq!(decision.outcome(), declined(reason));
        done(world.commit(&decision, None));
    }
    let key = world.keys_that_count().unwrap()[0];
    assert_eq!((key.used_payments, key.used_total_minor), (2, 0));
}

fn every_change_is_in_the_audit_log<B: Backend>() {
    let (world, _backend) = world::<B>();
    let paid = world.pay_new(1, 100, CaptureMethod::Automatic);
    let log = world.store.audit_events(Page::first(2)).unwrap();
    let newest = &log.items[0].event;
    assert_eq!(newest.action, AuditAction::AuthorizationDecided);
    assert_eq!((newest.object.as_str(), newest.at), (paid.id.to_string().as_str(), noon()));
    // The use of a key is part of the payment's own line.
    let key = format!(
        "approved; issuer master key of {} generation 1 index {}",
        world.issuer.id,
        world::key_index()
    );
    assert_eq!((newest.result, newest.detail.as_ref()), (AuditResult::Succeeded, Some(&key)));
    assert_eq!(newest.caller, caller());
    assert_eq!(log.items[1].event.action, AuditAction::IntentArmed);
    let before = log.items[0].sequence;
    // Refused changes leave no line by themselves; views and refusals are recorded by who sees them.
    assert!(world.change_token(TokenAction::Activate, Actor::Issuer).is_err());
    let event = AuditEvent {
        at: noon(),
        caller: caller(),
        action: AuditAction::TokenDetokenized,
        object: world.token.to_string(),
        result: AuditResult::Refused,
        detail: Some("no right to".into()),
    };
    world.store.record_audit(event.clone()).unwrap();
    let log = world.store.audit_events(Page::first(1)).unwrap();
    assert_eq!((&log.items[0].event, log.items[0].sequence), (&event, before + 1));
}

fn a_closed_store_changes_nothing<B: Backend>() {
    let (world, _backend) = world::<B>();
    world.store.close();
    world.store.close();
    let error = world.change_token(TokenAction::Suspend, Actor::Issuer);
    assert!(matches!(error, Err(StorageError::Closed)));
    assert!(matches!(world.store.check(), Err(StorageError::Closed)));
}

fn the_newest_catalogue_is_not_forgotten<B: Backend>() {
    let (store, _backend) = B::open();
    let mark = |version, mac: u8| CatalogueMark { version, mac: [mac; 32], key: [7; 32] };
    let newest = || store.newest_catalogue().unwrap();
    assert_eq!(newest(), None);
    assert!(store.note_catalogue(None, mark(3, 1)).unwrap());
    assert_eq!(newest(), Some(mark(3, 1)));
    // Whoever compared with something else was overtaken, and compares again.
    for late in [None, Some(mark(2, 1)), Some(mark(3, 2))] {
        assert!(!store.note_catalogue(late, mark(4, 1)).unwrap());
        assert_eq!(newest(), Some(mark(3, 1)));
    }
    assert!(store.note_catalogue(newest(), mark(3, 1)).unwrap(), "nothing new");
    assert!(store.note_catalogue(newest(), mark(9, 4)).unwrap());
    // Nothing older, nothing else of the same number, nothing under another key.
    let another_key = CatalogueMark { key: [8; 32], ..mark(10, 1) };
    for other in [mark(8, 1), mark(9, 5), mark(0, 1), another_key] {
        assert!(store.note_catalogue(newest(), other).is_err());
        assert_eq!(newest(), Some(mark(9, 4)));
    }
}

/// What the table refuses by every other way, people may decide, and the log says so.
fn another_catalogue_is_accepted_by_people<B: Backend>() {
    let (store, _backend) = B::open();
    let mark = |version, key: u8| CatalogueMark { version, mac: [1; 32], key: [key; 32] };
    let accept = |known, accepted| {
        let (action, object) = (AuditAction::KeyCeremonyHeld, "catalogue of keys".to_owned());
        let event = AuditEvent::of_platform(action, object, None, noon());
        store.accept_catalogue(known, accepted, event).unwrap()
    };
    assert!(store.note_catalogue(None, mark(9, 7)).unwrap());
    let lines = || store.audit_end().unwrap().sequence;
    let before = lines();
    for other in [None, Some(mark(8, 7))] {
        assert!(!accept(other, mark(3, 7)), "not what is known");
        assert_eq!((store.newest_catalogue().unwrap(), lines()), (Some(mark(9, 7)), before));
    }
    assert!(accept(Some(mark(9, 7)), mark(3, 8)));
    assert_eq!((store.newest_catalogue().unwrap(), lines()), (Some(mark(3, 8)), before + 1));
    assert!(store.note_catalogue(Some(mark(3, 8)), mark(2, 8)).is_err());
    assert_eq!(store.rows_under(issuer(1, "99990001").id, KeyUse::CardPins, noon()).unwrap(), []);
}

contract! {
    what_is_put_in_comes_out
    stores_go_forward_and_stay_closed
    what_is_not_there_is_said_so
    lists_come_in_pages
    nothing_is_there_twice
    what_belongs_to_others_stays_theirs
    an_api_key_is_taken_back_once
    a_token_lives_by_the_rules
    keys_are_given_only_to_who_may_pay
    keys_under_an_old_pin_are_not_given
    new_keys_take_the_place_of_old_ones
    keys_that_are_over_are_not_read_again
    keys_are_not_used_up_faster_than_the_policy_allows
    a_revoked_issuer_certificate_stays_revoked
    what_moves_no_money_leaves_the_total_of_a_key
    a_closed_store_changes_nothing
    the_newest_catalogue_is_not_forgotten
    another_catalogue_is_accepted_by_people
}

contract_of_one_log! {
    every_change_is_in_the_audit_log
}
