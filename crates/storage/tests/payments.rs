//! Payments, and the money that they move, whatever store it is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod world;

use std::sync::Arc;

use tapfer_payment_types::{
    AuthorizationId, Currency, MerchantId, Money, PanSequenceNumber, PaymentIntentId, RefundId,
    ReversalId, TerminalId, TokenId,
};
use tapfer_payments::access::{Principal, Role};
use tapfer_payments::audit::{AuditAction, Caller};
use tapfer_payments::authorization::{
    Authorization, Decision, DeclineReason, Outcome, SpentCounter,
};
use tapfer_payments::cards::{CardError, CardStatus};
use tapfer_payments::intents::{CaptureMethod, IntentStatus, PaymentIntent};
use tapfer_payments::ledger::{Account, TransferKind};
use tapfer_payments::pins::TerminalPin;
use tapfer_payments::reversals::ReversalError;
use tapfer_payments::tokens::{Actor, SuspendedBy, TokenAction, TokenState};
use tapfer_storage::{
    Answer, AuthorizationFilter, Begun, CardChange, Closing, Evidence, FactsQuery,
    IdempotencyClaim, LedgerEntry, NewRefund, NewReversal, Page, RefundFilter, Refusal,
    StorageError, StoredResponse, TopUp, Undecided, Write, Written,
};
use world::backend::{Backend, contract, contract_of_one_log, declined, refusal, world};
use world::{World, caller, done, euro, merchant, noon, presented, proof, write};

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
    assert!(matches!(repeat(2), Err(StorageError::DifferentContent(_))));
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

fn a_card_is_closed_for_good_with_its_tokens<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    let close = |pays_out| {
        let (card, reason) = (world.card, "moved away".into());
        store.close_card(Closing { card, pays_out, actor: Actor::Issuer, reason }, write())
    };
    let held = world.armed(100, CaptureMethod::Manual);
    assert_eq!(world.pay(held.id, 1, 100).outcome, Outcome::Approved);
    assert_eq!(refusal(close(true)), Refusal::Card(CardError::Held(euro(100))));
    done(store.capture_intent(held.id, None, write()));
    assert_eq!(refusal(close(false)), Refusal::Card(CardError::NotEmpty(euro(99_900))));
    assert_eq!(world.money(), (99_900, 99_900), "nothing of it was done");

    let intent = world.armed(100, CaptureMethod::Automatic);
    let decision = world.decide(intent.id, world.terminal, presented(2, 100));
    assert_eq!(decision.outcome(), Outcome::Approved);
    let closed = done(close(true));
    assert_eq!((closed.card.status, closed.balance), (CardStatus::Closed, euro(0)));
    assert_eq!(world.money(), (0, 0));
    let entry = store.card_entries(world.card, Page::first(1)).unwrap().items.remove(0);
    assert_eq!((entry.kind, entry.change), (TransferKind::PayOut, euro(-99_900)));
    let issuer = Account::IssuerFunding(world.issuer.id);
    let owed = store.account_balance(issuer, euro(0).currency).unwrap();
    assert_eq!(owed, euro(-100), "what the merchant got, and nothing else");
    let token = store.token(world.token).unwrap().unwrap();
    assert_eq!(token.state, TokenState::Deactivated);

    // Decided before, committed after: the closing counts. And nothing opens it again.
    assert!(matches!(world.commit(&decision, None), Err(StorageError::Conflict)));
    let outcome = world.pay(intent.id, 3, 100).outcome;
    assert_eq!(outcome, declined(DeclineReason::TokenDeactivated));
    let change = |change| store.change_card(world.card, change, "x".into(), write());
    let top_up = TopUp { card: world.card, amount: euro(1), reference: "x".into() };
    for refused in [
        refusal(change(CardChange::Unblock)),
        refusal(change(CardChange::Block)),
        refusal(store.top_up(top_up, write())),
        refusal(store.set_card_pin(world.card, [1; 32], write())),
        refusal(store.create_token(
            world.token(TokenId::new(noon(), world.next())),
            world.number(),
            write(),
        )),
    ] {
        assert_eq!(refused, Refusal::Card(CardError::Closed));
    }
    for pays_out in [false, true] {
        assert_eq!(refusal(close(pays_out)), Refusal::Card(CardError::AlreadyClosed));
    }
    assert_eq!(store.card(world.card).unwrap().unwrap(), closed);
    // Refunds still come, and go on to the issuer.
    let id = RefundId::new(noon(), world.next());
    let refund = NewRefund { id, payment_intent: held.id, amount_minor: Some(40) };
    done(store.create_refund(refund, write()));
    assert_eq!(world.money(), (40, 40));
    assert_eq!(refusal(close(false)), Refusal::Card(CardError::NotEmpty(euro(40))));
    assert_eq!(done(close(true)).card.status, CardStatus::Closed);
    assert_eq!(world.money(), (0, 0));
}

fn the_log_tells_of_a_closing<B: Backend>() {
    let (world, _backend) = world::<B>();
    let (card, reason) = (world.card, "moved away".into());
    let closing = Closing { card, pays_out: true, actor: Actor::Issuer, reason };
    done(world.store.close_card(closing, write()));
    let events = world.store.audit_events(Page::first(2)).unwrap().items;
    let [closed, ended] = events.try_into().unwrap();
    assert_eq!(
        (closed.event.action, closed.event.object),
        (AuditAction::CardClosed, card.to_string())
    );
    let detail = closed.event.detail.as_deref();
    assert_eq!(detail, Some("issuer: moved away; 1000.00 EUR paid out"));
    assert_eq!(ended.event.action, AuditAction::TokenDeleted);
    assert_eq!(ended.event.object, world.token.to_string());
    assert_eq!(ended.event.detail.as_deref(), Some("issuer: its card was closed: moved away"));
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
    let again = world.pay_on_facts(intent.id, world.terminal, 7, 1_234);
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
    let again = world.pay_on_facts(intent.id, world.terminal, 1, 2_501);
    assert_eq!(again.outcome, declined(DeclineReason::Replay));
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

/// What was found out about a payment before is no ground to decide it on.
fn a_payment_is_decided_on_what_is_so_then<B: Backend>() {
    let (world, _backend) = world::<B>();
    let intent = world.armed(100, CaptureMethod::Automatic);
    let tap = |counter| world.undecided(intent.id, world.terminal, presented(counter, 100), None);
    let (first, second) = (tap(1), tap(2));
    let of_nobody = {
        let mut query = second.query.clone();
        query.token_number_hash = vec![0; 32];
        world.store.presented_tokens(&[query], true).pop().unwrap()
    };
    assert_eq!(of_nobody.unwrap(), None);
    done(world.store.change_card(world.card, CardChange::Block, "stolen".into(), write()));
    let decided = done(world.decide_all(vec![first]).pop().unwrap());
    assert_eq!(decided.outcome, declined(DeclineReason::CardBlocked));
    done(world.store.change_card(world.card, CardChange::Unblock, "found".into(), write()));
    // That tap was the terminal's one.
    world.arm(intent.id, world.terminal);
    let decided = done(world.decide_all(vec![second]).pop().unwrap());
    assert_eq!(decided.outcome, Outcome::Approved);
    assert_eq!(world.money(), (99_900, 99_900));
}

/// Nothing is decided on what the security module said of something else.
fn evidence_of_something_else_is_a_conflict<B: Backend>() {
    let (world, _backend) = world::<B>();
    let intent = world.armed(100, CaptureMethod::Automatic);
    done(world.store.set_card_pin(world.card, [1; 32], write()));
    let tap = || world.undecided(intent.id, world.terminal, presented(1, 100), None);
    let with = |of: &Undecided, token, terminal_pin| {
        let cryptogram = Ok(proof(world.token, &presented(1, 100)));
        let evidence = Arc::new(Evidence { token, cryptogram, terminal_pin });
        let id = AuthorizationId::new(noon(), world.next());
        Undecided { id, evidence, ..of.clone() }
    };
    let found = tap();
    let token = found.evidence.token.clone();
    assert_eq!(token.as_ref().unwrap().card_pin.unwrap().value, [1; 32]);
    let of_nobody = with(&found, None, None);
    let of_another = {
        let mut another = token.clone().unwrap();
        Arc::make_mut(&mut another.token).sequence_number = PanSequenceNumber::new(7).unwrap();
        with(&found, Some(another), None)
    };
    let with_pin = with(&found, token.clone(), Some(TerminalPin::Right));
    done(world.store.set_card_pin(world.card, [2; 32], write()));
    for (name, one) in [("another's", of_another), ("an old PIN's", with_pin)] {
        let made = world.decide_all(vec![one]).pop().unwrap();
        assert!(matches!(made, Err(StorageError::Conflict)), "{name}: {made:?}");
    }
    let list = world.store.list_authorizations(AuthorizationFilter::default(), Page::first(9));
    assert_eq!(list.unwrap().items, [], "a conflict leaves nothing");
    // Nobody was asked about the PIN.
    done(world.decide_all(vec![found]).pop().unwrap());
    // A token that came after it was looked for is unknown to that payment, wherever it is decided.
    let made = done(world.decide_all(vec![of_nobody]).pop().unwrap());
    assert_eq!(made.outcome, declined(DeclineReason::UnknownToken));
}

/// Of one card with a right PIN and a wrong one, or with two wrong ones, which come in one lot: they count as if they had come one after
/// another.
fn pins_of_a_lot_count_one_after_another<B: Backend>() {
    use TerminalPin::{Right, Wrong};
    let (world, _backend) = world::<B>();
    let terminals = [world.terminal, TerminalId::new(noon(), world.next())];
    world.create_terminal(terminals[1]);
    let set_pin = || done(world.store.set_card_pin(world.card, [1; 32], write()));
    let mut counter = 0;
    let mut pay = |pins: [TerminalPin; 2]| {
        let lot = pins.into_iter().zip(terminals).map(|(pin, terminal)| {
            counter += 1;
            let intent = world.intent(100, CaptureMethod::Automatic).id;
            world.arm(intent, terminal);
            let found = world.undecided(intent, terminal, presented(counter, 100), None);
            let token = found.evidence.token.clone();
            let cryptogram = Ok(proof(world.token, &presented(counter, 100)));
            let evidence = Evidence { token, cryptogram, terminal_pin: Some(pin) };
            Undecided { evidence: Arc::new(evidence), ..found }
        });
        let outcomes = each_in_the_end(&world, lot.collect());
        (outcomes, world.store.card_pin(world.card).unwrap().unwrap().failed)
    };
    let [approved, wrong] = [Outcome::Approved, declined(DeclineReason::PinWrong)];
    let blocked = declined(DeclineReason::PinBlocked);
    set_pin();
    assert_eq!(pay([Wrong, Right]), (vec![wrong, approved], 0));
    assert_eq!(pay([Right, Wrong]), (vec![approved, wrong], 1));
    assert_eq!(pay([Right, Right]), (vec![approved, approved], 0));
    assert_eq!(pay([Wrong, Wrong]), (vec![wrong, wrong], 2));
    // The third one in a row is the last that is looked at.
    assert_eq!(pay([Wrong, Right]), (vec![wrong, blocked], 3));
    assert_eq!(pay([Right, Wrong]), (vec![blocked, blocked], 3));
    set_pin();
    assert_eq!(pay([Wrong, Wrong]), (vec![wrong, wrong], 2));
    assert_eq!(pay([Right, Wrong]), (vec![approved, wrong], 1));
    assert_eq!(world.money(), (99_500, 99_500));
}

/// What comes of each of a lot. Of whom a fact has changed meanwhile is decided again on what the security module has said, as the service
/// does it: those behind him have not overtaken him.
fn each_in_the_end(world: &World, lot: Vec<Undecided>) -> Vec<Outcome> {
    let mut outcomes = vec![None; lot.len()];
    while outcomes.contains(&None) {
        let open: Vec<_> = (0..lot.len()).filter(|place| outcomes[*place].is_none()).collect();
        let made = world.decide_all(open.iter().map(|place| lot[*place].clone()).collect());
        assert!(made.iter().any(Result::is_ok), "{made:?}");
        for (place, made) in open.into_iter().zip(made) {
            match made {
                Err(StorageError::Conflict) => {}
                made => outcomes[place] = Some(done(made).outcome),
            }
        }
    }
    outcomes.into_iter().flatten().collect()
}

/// Whoever asks for the same tap again hears what the first one heard, and another merchant's payment is not there for a terminal.
fn what_was_decided_is_told_again<B: Backend>() {
    let (world, _backend) = world::<B>();
    let intent = world.armed(100, CaptureMethod::Automatic);
    let tap = |key| {
        let claim = Some(claim(&world, key, 1));
        world.undecided(intent.id, world.terminal, presented(1, 100), claim)
    };
    let asked = [tap("order-1"), tap("order-2"), tap("order-1")];
    let first = asked[0].id.to_string().into_bytes();
    done(world.decide_all(vec![asked[0].clone()]).pop().unwrap());
    for asked in asked {
        let made = world.decide_all(vec![asked]).pop().unwrap().unwrap();
        let (response, replayed) = made.response();
        assert_eq!((&response.body, replayed), (&first, true));
    }
    let other = MerchantId::new(noon(), world.next());
    let key = world.new_api_key(Principal::Merchant(other));
    done(world.store.create_merchant(merchant(other), key, write()));
    let id = PaymentIntentId::new(noon(), world.next());
    let intent = PaymentIntent::new(id, other, euro(100), CaptureMethod::Automatic, None, noon());
    done(world.store.create_intent(intent.unwrap(), write()));
    let query = world.query(id, world.terminal, presented(2, 100));
    let looked_up = world.store.presented_tokens(std::slice::from_ref(&query), true).pop().unwrap();
    assert!(matches!(looked_up, Err(StorageError::OfAnotherMerchant)), "{looked_up:?}");
    let nowhere = PaymentIntentId::new(noon(), world.next());
    let nowhere = FactsQuery { payment_intent: nowhere, ..query.clone() };
    let looked_up = world.store.presented_tokens(&[nowhere], true).pop().unwrap();
    assert!(matches!(looked_up, Err(StorageError::NotFound { .. })), "{looked_up:?}");
    let elsewhere = Undecided { query, ..tap("order-3") };
    let made = world.decide_all(vec![elsewhere]).pop().unwrap();
    assert!(matches!(made, Err(StorageError::OfAnotherMerchant)), "{made:?}");
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
    let answers = world::answer_key();
    IdempotencyClaim { api_key: world.operator, key, fingerprint: [fingerprint; 32], answers }
}

fn the_same_request_twice_has_one_effect<B: Backend>() {
    let (world, backend) = world::<B>();
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
    assert!(matches!(store.begin(&other), Err(StorageError::DifferentContent(_))));
    let other = world.commit(&decision, Some(other));
    assert!(matches!(other, Err(StorageError::DifferentContent(_))));
    let mut other = claim_1.clone();
    other.fingerprint[31] ^= 1;
    let told = store.begin(&other).unwrap_err().to_string();
    assert!(told.contains("the body was not the same"), "{told}");
    other.fingerprint[0] ^= 1;
    let told = store.begin(&other).unwrap_err().to_string();
    assert!(told.contains("the method or path was not the same"), "{told}");
    backend.age_answers();
    assert_eq!(store.forget_answers(noon()).unwrap(), 0);
    assert_eq!(store.forget_answers(noon().plus_millis(1)).unwrap(), 1);
    assert!(matches!(store.begin(&claim_1).unwrap(), Begun::Run(_)));
}

/// The clock may stand in the future when it is asked for.
fn no_more_than_a_day_of_answers_is_forgotten_at_once<B: Backend>() {
    let (world, backend) = world::<B>();
    let answered = [0, 12, 48].map(|hours| {
        let claim = claim(&world, &format!("behind-{hours}"), 1);
        let now = noon().plus_seconds(hours * 3_600);
        let key = world.new_api_key(Principal::Issuer(world.issuer.id));
        done(world.store.create_api_key(key, Write { now, claim: Some(claim.clone()), ..write() }));
        claim
    });
    backend.age_answers();
    let far_away = noon().plus_seconds(400 * 86_400);
    let [.., newest] = &answered;
    assert_eq!(world.store.forget_answers(far_away).unwrap(), 2);
    assert!(matches!(world.store.begin(newest).unwrap(), Begun::Replay(_)));
    assert_eq!(world.store.forget_answers(far_away).unwrap(), 1);
    assert_eq!(world.store.forget_answers(far_away).unwrap(), 0);
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

/// What a lot rests on was read before the first of it was written.
fn of_two_taps_in_a_lot_the_second_sees_the_first<B: Backend>() {
    let (world, _backend) = world::<B>();
    let intent = world.armed(100, CaptureMethod::Automatic).id;
    let tap = || world.decide(intent, world.terminal, presented(1, 100));
    let [first, same_tap] = [tap(), tap()];
    let other_tap = world.decide(intent, world.terminal, presented(2, 100));
    let claims = ["order-1", "order-1"].map(|key| claim(&world, key, 1));
    let another = claim(&world, "order-1", 2);
    let [claim_a, claim_b] = claims;
    let written = world.commit_all(vec![
        (&first, Some(claim_a)),
        (&same_tap, Some(claim_b)),
        (&same_tap, Some(another)),
        (&same_tap, None),
        (&other_tap, None),
    ]);
    let [made, again, other_content, same_intent, other_counter] = &written[..] else {
        panic!("{written:?}")
    };
    let made = made.as_ref().unwrap().response().0;
    assert_eq!(again.as_ref().unwrap(), &Written::Replayed(made.clone()));
    assert!(matches!(other_content, Err(StorageError::DifferentContent(_))));
    assert!(matches!(same_intent, Err(StorageError::Conflict)));
    assert!(matches!(other_counter, Err(StorageError::Conflict)));
    assert_eq!(world.money(), (99_900, 99_900));
    let filter = AuthorizationFilter::default();
    let kept = world.store.list_authorizations(filter, Page::first(10)).unwrap().items;
    assert_eq!(kept.len(), 1, "{kept:?}");
    // With the facts as they are now, it is told that the intent is paid.
    assert_eq!(tap().outcome(), declined(DeclineReason::Replay));
}

fn a_counter_of_long_ago_is_still_spent<B: Backend>() {
    let (world, _backend) = world::<B>();
    for counter in 1..=40 {
        world.pay_new(counter, 10, CaptureMethod::Automatic);
    }
    let intent = world.armed(10, CaptureMethod::Automatic).id;
    let again = world.pay(intent, 1, 10);
    assert_eq!(again.outcome, declined(DeclineReason::Replay));
    assert_eq!(world.money(), (99_600, 99_600));
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

contract! {
    a_tap_that_was_decided_is_found_again
    a_blocked_card_stops_its_tokens
    a_top_up_is_money
    a_card_is_closed_for_good_with_its_tokens
    a_payment_moves_money_once
    a_decline_spends_the_counter_but_no_money
    facts_that_changed_are_a_conflict
    a_payment_is_decided_on_what_is_so_then
    evidence_of_something_else_is_a_conflict
    pins_of_a_lot_count_one_after_another
    what_was_decided_is_told_again
    held_money_is_captured_or_released
    money_goes_back_in_parts_and_no_more
    an_authorization_is_undone_once
    who_comes_too_late_undoes_nothing
    a_terminal_waits_for_one_payment
    the_same_request_twice_has_one_effect
    what_comes_together_stands_or_falls_alone
    of_two_taps_in_a_lot_the_second_sees_the_first
    a_counter_of_long_ago_is_still_spent
    no_more_than_a_day_of_answers_is_forgotten_at_once
    a_refused_request_is_not_remembered
}

contract_of_one_log! {
    two_copies_of_a_phone_are_suspended
    the_log_tells_of_a_closing
}
