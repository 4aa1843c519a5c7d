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
use std::sync::Arc;

use tapfer_emv::keys::KeyIndex;
use tapfer_payment_types::store_share::StoreReport;
use tapfer_payment_types::{
    CardId, CatalogueMark, Currency, DeviceId, MerchantId, Money, PaymentIntentId, RefundId,
    ReversalId, TerminalId, TokenId,
};
use tapfer_payments::access::{ApiKey, Principal, Role};
use tapfer_payments::audit::{AuditAction, AuditEvent, AuditResult, Caller};
use tapfer_payments::authorization::{
    Authorization, Decision, DeclineReason, Outcome, SpentCounter,
};
use tapfer_payments::cards::CardStatus;
use tapfer_payments::intents::{CaptureMethod, IntentStatus};
use tapfer_payments::issuers::KeyPolicy;
use tapfer_payments::keys::{GrantedKey, KeyError};
use tapfer_payments::ledger::TransferKind;
use tapfer_payments::pins::PersonKeyState;
use tapfer_payments::reversals::ReversalError;
use tapfer_payments::revocations::RevokedIssuerCertificate;
use tapfer_payments::store_shares::{DeviceError, Locker, StoreState};
use tapfer_payments::tokens::{
    Actor, SuspendedBy, TokenAction, TokenError, TokenState, TokenStatus,
};
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{
    Answer, AuthorizationFilter, Begun, CardChange, IdempotencyClaim, LedgerEntry, NewRefund,
    NewReversal, Page, PersonKeyChange, RefundFilter, Refusal, Storage, StorageError,
    StoredPersonKey, StoredResponse, TokenFilter, TopUp, Write, Written,
};
use world::{World, caller, done, euro, granted_key, issuer, merchant, noon, presented, write};

/// A store to be tried, and what has to live as long as it.
trait Backend {
    fn open() -> (Arc<dyn Storage>, Self);
}

fn world<B: Backend>() -> (World, B) {
    let (store, backend) = B::open();
    (World::new(store), backend)
}

/// What was refused, and by which rule.
fn refusal<T: std::fmt::Debug>(result: Result<T, StorageError>) -> Refusal {
    match result {
        Err(StorageError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn declined(reason: DeclineReason) -> Outcome {
    Outcome::Declined(reason)
}

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
        reason: reason.into(),
        revoked_at: noon(),
    };
    let revoke = |entry| done(world.store.revoke_issuer_certificate(entry, write()));
    assert!(world.store.revoked_issuer_certificates().unwrap().is_empty());
    assert_eq!(revoke(revoked(2, "copied")), revoked(2, "copied"));
    assert_eq!(revoke(revoked(1, "lost")), revoked(1, "lost"));
    // Once is for good: the first reason stays.
    assert_eq!(revoke(revoked(2, "again")), revoked(2, "copied"));
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

/// Whoever asks for the same tap under another key, or at the same moment, is answered with what the first
/// one got.
fn a_tap_that_was_decided_is_found_again<B: Backend>() {
    let (world, _backend) = world::<B>();
    let intent = world.armed(100, CaptureMethod::Automatic);
    let tap = presented(1, 100);
    let spent =
        |decision: &Decision| decision.facts().token.as_ref().and_then(|token| token.counter_spent);
    let (first, second) = (
        world.decide(intent.id, world.terminal, tap.clone()),
        world.decide(intent.id, world.terminal, tap.clone()),
    );
    assert_eq!(spent(&first), None);
    let authorization = done(world.commit(&first, None));
    assert!(matches!(world.commit(&second, None), Err(StorageError::Conflict)));
    let expected = SpentCounter {
        authorization: authorization.id,
        payment_intent: intent.id,
        terminal: world.terminal,
        cryptogram: Some(tap.cryptogram),
        verified: true,
    };
    assert_eq!(spent(&world.decide(intent.id, world.terminal, tap)), Some(expected));

    let lines = world.store.audit_events(Page::first(99)).unwrap().items.len();
    let repeat = |fingerprint| {
        let answer = Answer::Of(|found: &Authorization| StoredResponse {
            status: 201,
            body: found.id.to_string().into_bytes(),
        });
        let claim = Some(claim(&world, "again", fingerprint));
        let write = Write { caller: caller(), claim, answer, now: noon() };
        world.store.repeat_authorizations(vec![(authorization.id, write)]).pop().unwrap()
    };
    for _ in 0..2 {
        let repeated = repeat(1).unwrap();
        let (response, is_replayed) = repeated.response();
        assert_eq!((response.status, is_replayed), (201, true));
        assert_eq!(response.body, authorization.id.to_string().into_bytes());
    }
    assert!(matches!(repeat(2), Err(StorageError::DifferentContent)));
    let begun = world.store.begin(&claim(&world, "again", 1)).unwrap();
    assert!(matches!(begun, Begun::Replay(response) if response.status == 201));
    assert_eq!(world.store.audit_events(Page::first(99)).unwrap().items.len(), lines);
    assert_eq!(world.money(), (99_900, 99_900));
}

fn a_blocked_card_stops_its_tokens<B: Backend>() {
    let (world, _backend) = world::<B>();
    let intent = world.armed(100, CaptureMethod::Automatic);
    let decision = world.decide(intent.id, world.terminal, presented(1, 100));
    assert_eq!(decision.outcome(), Outcome::Approved);
    let block = |change| world.store.change_card(world.card, change, "stolen".into(), write());
    let blocked = done(block(CardChange::Block));
    assert_eq!(blocked.card.status, CardStatus::Blocked);
    // Decided before, committed after: the block counts.
    assert!(matches!(world.commit(&decision, None), Err(StorageError::Conflict)));
    assert_eq!(world.pay(intent.id, 1, 100).outcome, declined(DeclineReason::CardBlocked));
    assert!(matches!(refusal(block(CardChange::Block)), Refusal::Card(_)));
    done(block(CardChange::Unblock));
    world.arm(intent.id, world.terminal);
    assert_eq!(world.pay(intent.id, 2, 100).outcome, Outcome::Approved);
}

fn a_top_up_is_money<B: Backend>() {
    let (world, _backend) = world::<B>();
    let top_up = |amount| {
        let top_up = TopUp { card: world.card, amount, reference: "transfer 7".into() };
        world.store.top_up(top_up, write())
    };
    let entry = done(top_up(euro(50)));
    assert_eq!((entry.kind, entry.change), (TransferKind::TopUp, euro(50)));
    assert_eq!(world.money(), (100_050, 100_050));
    let dollars = Money::new(1, "USD".parse::<Currency>().unwrap());
    assert!(matches!(refusal(top_up(dollars)), Refusal::Money(_)));
    assert!(matches!(refusal(top_up(euro(0))), Refusal::Ledger(_)));
    assert!(matches!(refusal(top_up(euro(-1))), Refusal::Ledger(_)));
    assert!(matches!(refusal(top_up(euro(i64::MAX))), Refusal::Money(_)));
    let entries = world.store.card_entries(world.card, Page::first(9)).unwrap();
    assert_eq!(entries.items.len(), 2);
    assert_eq!(entries.items[0], entry);
}

fn a_payment_moves_money_once<B: Backend>() {
    let (world, _backend) = world::<B>();
    let intent = world.armed(1_234, CaptureMethod::Automatic);
    let armed = world.store.armed_intent(world.terminal, noon()).unwrap();
    assert_eq!(armed.map(|armed| armed.id), Some(intent.id));
    let authorization = world.pay(intent.id, 7, 1_234);
    assert_eq!(authorization.outcome, Outcome::Approved);
    assert_eq!(world.money(), (98_766, 98_766));
    assert_eq!(world.store.authorization(authorization.id).unwrap().unwrap(), authorization);
    let intent = world.store.intent(intent.id).unwrap().unwrap();
    assert_eq!((intent.status, intent.captured_minor), (IntentStatus::Succeeded, 1_234));
    assert_eq!(intent.authorization, Some(authorization.id));
    assert_eq!(world.store.armed_intent(world.terminal, noon()).unwrap(), None);
    assert_eq!(world.store.highest_counter(world.token).unwrap(), Some(7));
    let key = world.keys_that_count().unwrap()[0];
    assert_eq!((key.used_payments, key.used_total_minor), (1, 1_234));
    // The same tap again: without arming, and with a terminal that waits.
    let again = world.pay(intent.id, 7, 1_234);
    assert_eq!(again.outcome, declined(DeclineReason::Replay));
    let next = world.armed(1_234, CaptureMethod::Automatic);
    assert_eq!(world.pay(next.id, 7, 1_234).outcome, declined(DeclineReason::Replay));
    world.arm(next.id, world.terminal);
    assert_eq!(world.pay(next.id, 6, 1_234).outcome, declined(DeclineReason::CounterStale));
    assert_eq!(world.money(), (98_766, 98_766));
    let filter = AuthorizationFilter { payment_intent: Some(next.id), ..Default::default() };
    let list = world.store.list_authorizations(filter, Page::first(9)).unwrap();
    assert_eq!(list.items.len(), 2);
}

fn a_decline_spends_the_counter_but_no_money<B: Backend>() {
    let (world, _backend) = world::<B>();
    let intent = world.armed(2_501, CaptureMethod::Automatic);
    let first = world.pay(intent.id, 1, 2_501).outcome;
    assert_eq!(first, declined(DeclineReason::VerificationRequired));
    let status = world.store.intent(intent.id).unwrap().unwrap().status;
    assert_eq!(status, IntentStatus::RequiresPaymentMethod);
    assert_eq!(world.pay(intent.id, 2, 2_501).outcome, declined(DeclineReason::TerminalNotArmed));
    world.arm(intent.id, world.terminal);
    assert_eq!(world.pay(intent.id, 1, 2_501).outcome, declined(DeclineReason::Replay));
    assert_eq!(world.money(), (100_000, 100_000));
    assert_eq!(world.keys_that_count().unwrap()[0].used_payments, 2);
}

/// Two copies of one phone: both sign under the same counter, and the second one ends it for both.
fn two_copies_of_a_phone_are_suspended<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    assert_eq!(world.pay_new(1, 100, CaptureMethod::Automatic).outcome, Outcome::Approved);
    let intent = world.armed(100, CaptureMethod::Automatic);
    let mut of_copy = presented(1, 100);
    of_copy.cryptogram = [9; 8];
    let decision = world.decide(intent.id, world.terminal, of_copy);
    assert_eq!(decision.outcome(), declined(DeclineReason::CounterReused));
    done(world.commit(&decision, None));
    let token = store.token(world.token).unwrap().unwrap();
    assert_eq!(token.state, TokenState::Suspended(SuspendedBy::only(Actor::Platform)));
    let change = store.token_history(world.token).unwrap().pop().unwrap();
    assert_eq!((change.action, change.actor), (TokenAction::Suspend, Actor::Platform));
    let actions: Vec<_> = store.audit_events(Page::first(2)).unwrap().items;
    let actions: Vec<_> = actions.iter().map(|record| record.event.action).collect();
    assert_eq!(actions, [AuditAction::AuthorizationDecided, AuditAction::TokenSuspended]);
    let intent = world.armed(100, CaptureMethod::Automatic);
    let after = world.pay(intent.id, 2, 100).outcome;
    assert_eq!(after, declined(DeclineReason::TokenSuspended));
    assert_eq!(world.money(), (99_900, 99_900));
}

fn facts_that_changed_are_a_conflict<B: Backend>() {
    let (world, _backend) = world::<B>();
    let intent = world.armed(100, CaptureMethod::Automatic);
    let decide = || world.decide(intent.id, world.terminal, presented(1, 100));
    let (first, second) = (decide(), decide());
    done(world.commit(&first, None));
    assert!(matches!(world.commit(&second, None), Err(StorageError::Conflict)));
    let list = world.store.list_authorizations(AuthorizationFilter::default(), Page::first(9));
    assert_eq!(list.unwrap().items.len(), 1, "a conflict leaves nothing");
    assert_eq!(world.money(), (99_900, 99_900));
}

fn held_money_is_captured_or_released<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    let held = world.pay_new(1, 1_000, CaptureMethod::Manual);
    assert_eq!(world.money(), (100_000, 99_000));
    assert!(
        refusal(store.create_refund(refund(&world, held.payment_intent, None), write()))
            .to_string()
            .contains("requires_capture")
    );
    let too_much = store.capture_intent(held.payment_intent, Some(1_001), write());
    assert!(matches!(refusal(too_much), Refusal::Intent(_)));
    let captured = done(store.capture_intent(held.payment_intent, Some(600), write()));
    assert_eq!((captured.status, captured.captured_minor), (IntentStatus::Succeeded, 600));
    assert_eq!(world.money(), (99_400, 99_400));
    assert!(store.capture_intent(held.payment_intent, None, write()).is_err());
    let held = world.pay_new(2, 1_000, CaptureMethod::Manual);
    assert_eq!(world.money(), (99_400, 98_400));
    let canceled = done(store.cancel_intent(held.payment_intent, write()));
    assert_eq!(canceled.status, IntentStatus::Canceled);
    assert_eq!(world.money(), (99_400, 99_400));
    let kinds: Vec<_> = store.card_entries(world.card, Page::first(9)).unwrap().items;
    let of = |entry: &LedgerEntry| (entry.kind, entry.change.minor, entry.held_change.minor);
    let changes: Vec<_> = kinds.iter().rev().map(of).collect();
    use TransferKind::{Capture, Hold, Release, TopUp};
    let (held, released) = ((Hold, -1_000, 1_000), (Release, 1_000, -1_000));
    let in_part = [(Capture, 0, -600), (Release, 400, -400)];
    assert_eq!(changes, [(TopUp, 100_000, 0), held, in_part[0], in_part[1], held, released]);
}

fn refund(world: &World, payment_intent: PaymentIntentId, minor: Option<i64>) -> NewRefund {
    let id = RefundId::new(noon(), world.next());
    NewRefund { id, payment_intent, amount_minor: minor }
}

fn money_goes_back_in_parts_and_no_more<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    let paid = world.pay_new(1, 1_000, CaptureMethod::Automatic);
    let give = |minor| store.create_refund(refund(&world, paid.payment_intent, minor), write());
    let first = done(give(Some(300)));
    assert!(matches!(refusal(give(Some(701))), Refusal::Refund(_)));
    assert_eq!(done(give(None)).amount, euro(700));
    assert!(matches!(refusal(give(Some(1))), Refusal::Refund(_)));
    assert_eq!(world.money(), (100_000, 100_000));
    assert_eq!(store.refund(first.id).unwrap(), Some(first));
    let filter = RefundFilter { payment_intent: Some(paid.payment_intent), merchant: None };
    assert_eq!(store.list_refunds(filter, Page::first(9)).unwrap().items.len(), 2);
}

fn an_authorization_is_undone_once<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    let undo = |authorization| {
        let id = ReversalId::new(noon(), world.next());
        let reversal = NewReversal { id, authorization, reason: "answer lost".into() };
        store.reverse(reversal, write())
    };
    let held = world.pay_new(1, 1_000, CaptureMethod::Manual);
    let reversal = done(undo(held.id));
    assert_eq!((reversal.amount, world.money()), (euro(1_000), (100_000, 100_000)));
    assert!(matches!(refusal(undo(held.id)), Refusal::Reversal(_)));
    let undone = store.authorization(held.id).unwrap().unwrap();
    assert_eq!(undone.reversal, Some(reversal.id));
    assert_eq!(store.reversal(reversal.id).unwrap(), Some(reversal));
    let paid = world.pay_new(2, 1_000, CaptureMethod::Automatic);
    done(store.create_refund(refund(&world, paid.payment_intent, Some(400)), write()));
    assert_eq!(done(undo(paid.id)).amount, euro(600));
    assert_eq!(world.money(), (100_000, 100_000));
    let after = store.create_refund(refund(&world, paid.payment_intent, Some(1)), write());
    assert!(matches!(refusal(after), Refusal::Refund(_)));
}

/// A terminal undoes what it has just asked for; later its merchant does, and then there are refunds.
fn who_comes_too_late_undoes_nothing<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    let mut counter = 0;
    let mut paid = |method| {
        counter += 1;
        world.pay_new(counter, 1_000, method)
    };
    let undo = |authorization: &Authorization, role, seconds| {
        let id = ReversalId::new(noon(), world.next());
        let reversal =
            NewReversal { id, authorization: authorization.id, reason: "answer lost".into() };
        let caller = Caller { role, ..caller() };
        let now = noon().plus_seconds(seconds);
        store.reverse(reversal, Write { caller, now, ..write() })
    };
    use CaptureMethod::{Automatic, Manual};
    use Role::{Merchant, Operator, Terminal};
    let too_late = |role| match role {
        Terminal => Refusal::Reversal(ReversalError::TooLateForTerminal),
        _ => Refusal::Reversal(ReversalError::TooLateForMerchant),
    };
    for (role, seconds) in [(Terminal, 300), (Merchant, 86_400)] {
        for method in [Automatic, Manual] {
            let payment = paid(method);
            assert_eq!(refusal(undo(&payment, role, seconds + 1)), too_late(role));
            assert_eq!(done(undo(&payment, role, seconds)).amount, euro(1_000));
        }
    }
    done(undo(&paid(Automatic), Operator, 31 * 86_400));
    // What the merchant has captured or refunded is not the terminal's any more.
    let captured = paid(Manual);
    done(store.capture_intent(captured.payment_intent, None, write()));
    let refunded = paid(Automatic);
    done(store.create_refund(refund(&world, refunded.payment_intent, Some(1)), write()));
    for payment in [captured, refunded] {
        assert_eq!(refusal(undo(&payment, Terminal, 1)), too_late(Terminal));
        done(undo(&payment, Merchant, 1));
    }
    assert_eq!(world.money(), (100_000, 100_000));
}

fn a_terminal_waits_for_one_payment<B: Backend>() {
    let (world, _backend) = world::<B>();
    let first = world.armed(100, CaptureMethod::Automatic);
    let second = world.intent(200, CaptureMethod::Automatic);
    let arm = |at: i64| {
        let now = noon().plus_seconds(at);
        let write = Write { now, ..write() };
        world.store.arm_intent(second.id, world.terminal, now.plus_seconds(60), write)
    };
    assert_eq!(refusal(arm(0)), Refusal::TerminalBusy(first.id));
    // The first till died; a minute later its terminal is free.
    assert_eq!(done(arm(60)).status, IntentStatus::RequiresAction);
    let first = world.store.intent(first.id).unwrap().unwrap();
    assert_eq!(first.status, IntentStatus::RequiresPaymentMethod);
    let other = TerminalId::new(noon(), world.next());
    world.create_terminal(other);
    let elsewhere = world.pay_at(first.id, other, 1, 100).outcome;
    assert_eq!(elsewhere, declined(DeclineReason::TerminalNotArmed));
}

fn claim(world: &World, key: &str, fingerprint: u8) -> IdempotencyClaim {
    let key = key.parse().unwrap();
    IdempotencyClaim { api_key: world.operator, key, fingerprint: [fingerprint; 32] }
}

fn the_same_request_twice_has_one_effect<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    let intent = world.armed(100, CaptureMethod::Automatic);
    let claim_1 = claim(&world, "order-1", 1);
    let Begun::Run(running) = store.begin(&claim_1).unwrap() else { panic!("not run before") };
    assert!(matches!(store.begin(&claim_1), Err(StorageError::StillRunning)));
    let decision = world.decide(intent.id, world.terminal, presented(1, 100));
    let written = world.commit(&decision, Some(claim_1.clone())).unwrap();
    drop(running);
    let (first, _) = written.response();
    match store.begin(&claim_1).unwrap() {
        Begun::Replay(again) => assert_eq!(&again, first),
        Begun::Run(_) => panic!("run twice"),
    }
    // A second node that did not ask first is stopped by the transaction itself.
    let again = world.commit(&decision, Some(claim_1.clone())).unwrap();
    assert_eq!(again, Written::Replayed(first.clone()));
    assert_eq!(world.money(), (99_900, 99_900));
    let other = claim(&world, "order-1", 2);
    assert!(matches!(store.begin(&other), Err(StorageError::DifferentContent)));
    let other = world.commit(&decision, Some(other));
    assert!(matches!(other, Err(StorageError::DifferentContent)));
    assert_eq!(store.forget_answers(noon()).unwrap(), 0);
    assert_eq!(store.forget_answers(noon().plus_millis(1)).unwrap(), 1);
    assert!(matches!(store.begin(&claim_1).unwrap(), Begun::Run(_)));
}

/// Payments that came at the same moment are asked about, and written down, together; each for itself.
fn what_comes_together_stands_or_falls_alone<B: Backend>() {
    let (world, _backend) = world::<B>();
    let other = TerminalId::new(noon(), [77; 10]);
    world.create_terminal(other);
    let [first, second, third] = [1, 2, 3].map(|_| world.intent(100, CaptureMethod::Automatic).id);
    world.arm(first, world.terminal);
    world.arm(second, other);
    let claims = [claim(&world, "a", 1), claim(&world, "b", 1), claim(&world, "a", 1)];
    let begun = world.store.begin_all(&claims.each_ref());
    assert!(
        matches!(
            begun[..],
            [Ok(Begun::Run(_)), Ok(Begun::Run(_)), Err(StorageError::StillRunning)]
        ),
        "{begun:?}"
    );
    let decisions = [
        world.decide(first, world.terminal, presented(1, 100)),
        world.decide(second, other, presented(2, 100)),
        world.decide(third, other, presented(3, 100)),
    ];
    let [approved, same_card, not_armed] = decisions.each_ref();
    assert_eq!(not_armed.outcome(), declined(DeclineReason::TerminalNotArmed));
    let [claim_a, claim_b, again] = claims;
    let mut written = world.commit_all(vec![
        (approved, Some(claim_a.clone())),
        // The card's money is another one by now.
        (same_card, Some(claim_b.clone())),
        (not_armed, Some(again)),
    ]);
    let repeated = written.pop().unwrap().unwrap();
    assert!(matches!(written.pop(), Some(Err(StorageError::Conflict))));
    let made = written.pop().unwrap().unwrap();
    assert_eq!(repeated, Written::Replayed(made.response().0.clone()));
    assert_eq!(world.money(), (99_900, 99_900));
    drop(begun);
    let begun = world.store.begin_all(&[&claim_b, &claim_a]);
    assert!(matches!(begun[..], [Ok(Begun::Run(_)), Ok(Begun::Replay(_))]), "{begun:?}");
    drop(begun);
    let decided_again = world.decide(second, other, presented(2, 100));
    done(world.commit(&decided_again, Some(claim_b)));
    assert_eq!(world.money(), (99_800, 99_800));
}

fn a_refused_request_is_not_remembered<B: Backend>() {
    let (world, _backend) = world::<B>();
    let claim = claim(&world, "block-1", 1);
    let block = |change| {
        let answer = Answer::Known(StoredResponse { status: 200, body: vec![7] });
        let write = Write { caller: caller(), claim: Some(claim.clone()), answer, now: noon() };
        world.store.change_card(world.card, change, "lost".into(), write)
    };
    assert!(matches!(refusal(block(CardChange::Unblock)), Refusal::Card(_)));
    let blocked = block(CardChange::Block).unwrap();
    let (response, replayed) = blocked.response();
    assert_eq!((response.body.as_slice(), replayed), ([7].as_slice(), false));
    assert_eq!(block(CardChange::Block).unwrap(), Written::Replayed(response.clone()));
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

macro_rules! contract {
    ($module:ident, $backend:ty, $($case:ident),+ $(,)?) => {
        mod $module {
            $(#[test] fn $case() { super::$case::<$backend>(); })+
        }
    };
}

macro_rules! contract_of {
    ($module:ident, $backend:ty) => {
        contract!(
            $module,
            $backend,
            what_is_put_in_comes_out,
            stores_go_forward_and_stay_closed,
            what_is_not_there_is_said_so,
            lists_come_in_pages,
            nothing_is_there_twice,
            what_belongs_to_others_stays_theirs,
            an_api_key_is_taken_back_once,
            a_token_lives_by_the_rules,
            keys_are_given_only_to_who_may_pay,
            keys_under_an_old_pin_are_not_given,
            new_keys_take_the_place_of_old_ones,
            keys_that_are_over_are_not_read_again,
            keys_are_not_used_up_faster_than_the_policy_allows,
            a_revoked_issuer_certificate_stays_revoked,
            what_moves_no_money_leaves_the_total_of_a_key,
            a_tap_that_was_decided_is_found_again,
            a_blocked_card_stops_its_tokens,
            a_top_up_is_money,
            a_payment_moves_money_once,
            a_decline_spends_the_counter_but_no_money,
            two_copies_of_a_phone_are_suspended,
            facts_that_changed_are_a_conflict,
            held_money_is_captured_or_released,
            money_goes_back_in_parts_and_no_more,
            an_authorization_is_undone_once,
            who_comes_too_late_undoes_nothing,
            a_terminal_waits_for_one_payment,
            the_same_request_twice_has_one_effect,
            what_comes_together_stands_or_falls_alone,
            a_refused_request_is_not_remembered,
            every_change_is_in_the_audit_log,
            a_closed_store_changes_nothing,
            the_newest_catalogue_is_not_forgotten,
        );
    };
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

impl Backend for tempfile::TempDir {
    fn open() -> (Arc<dyn Storage>, Self) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tapfer.db");
        (
            Arc::new(
                SqliteStorage::create(&path, world::realm(), &SqliteOptions::default()).unwrap(),
            ),
            directory,
        )
    }
}

contract_of!(sqlite, tempfile::TempDir);
