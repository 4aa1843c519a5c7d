//! Terminals that are certified and revoked, whatever store it is. One more backend is one more line at
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

use tapfer_payment_types::{MerchantId, TerminalCertificateId, TerminalId, Timestamp};
use tapfer_payments::access::Principal;
use tapfer_payments::audit::AuditAction;
use tapfer_payments::authorization::{DeclineReason, Outcome};
use tapfer_payments::intents::{CaptureMethod, IntentStatus};
use tapfer_payments::terminals::{
    MAXIMUM_LIVE_CERTIFICATES, MOST_UNENDED_CERTIFICATES, TerminalCertificate, TerminalError,
};
use tapfer_storage::{Page, Refusal, StorageError, Write, Written};
use world::backend::{Backend, contract, world};
use world::{World, done, noon, presented, write};

fn at(seconds: i64) -> Timestamp {
    noon().plus_seconds(seconds)
}

fn write_at<T>(seconds: i64) -> Write<T> {
    Write { now: at(seconds), ..write() }
}

/// Certifies a terminal for an hour from so many seconds after noon.
fn certify(
    world: &World,
    terminal: TerminalId,
    seconds: i64,
) -> Result<TerminalCertificate, StorageError> {
    let id = TerminalCertificateId::new(at(seconds), world.next());
    let [.., a, b, c, d, e, f] = world.next();
    let certificate = TerminalCertificate {
        id,
        terminal,
        serial: [a, b, c, d, e, f],
        certificate: vec![0xA2, 0x00],
        created_at: at(seconds),
        expires_at: at(seconds + 3_600),
        revoked_at: None,
    };
    world
        .store
        .add_terminal_certificate(certificate, write_at(seconds))
        .map(|written| done(Ok(written)))
}

fn revoke(world: &World, terminal: TerminalId, seconds: i64) {
    done(world.store.revoke_terminal(terminal, "stolen".into(), write_at(seconds)));
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, StorageError>, by: TerminalError) {
    match result {
        Err(StorageError::Refused(Refusal::Terminal(error))) => assert_eq!(error, by),
        other => panic!("not refused: {other:?}"),
    }
}

fn a_terminal_has_so_many_certificates<B: Backend>() {
    let (world, _backend) = world::<B>();
    let made: Vec<_> = (0..4).map(|n| certify(&world, world.terminal, n * 60).unwrap()).collect();
    assert_eq!(made.len(), MAXIMUM_LIVE_CERTIFICATES);
    assert_eq!(world.store.revoked_certificates(at(240), 99).unwrap(), [[0; 6]; 0]);
    // One more takes the place of the oldest, and phones are told.
    certify(&world, world.terminal, 300).unwrap();
    assert_eq!(world.store.revoked_certificates(at(300), 99).unwrap(), [made[0].serial]);
    let list = |page| world.store.list_terminal_certificates(world.terminal, page).unwrap();
    let newest = list(Page::first(3));
    assert_eq!(newest.items.len(), 3);
    let rest = list(Page { cursor: newest.next, limit: 3 });
    let replaced = TerminalCertificate { revoked_at: Some(at(300)), ..made[0].clone() };
    assert_eq!(rest.items, [made[1].clone(), replaced]);
    // Phones can be told of so many of one terminal. Another has its own, and when the first has ended there
    // is room again.
    for number in 5..MOST_UNENDED_CERTIFICATES {
        certify(&world, world.terminal, 300 + i64::try_from(number).unwrap()).unwrap();
    }
    refused(certify(&world, world.terminal, 400), TerminalError::Certificates(at(3_600)));
    let other = TerminalId::new(noon(), world.next());
    world.create_terminal(other);
    certify(&world, other, 400).unwrap();
    certify(&world, world.terminal, 3_600).unwrap();
    let taken = TerminalCertificate {
        id: TerminalCertificateId::new(noon(), world.next()),
        terminal: other,
        ..made[0].clone()
    };
    let again = world.store.add_terminal_certificate(taken, write());
    let exists = Refusal::Exists("certificate serial number");
    assert!(matches!(again, Err(StorageError::Refused(refusal)) if refusal == exists));
    let nobody = TerminalId::new(noon(), world.next());
    assert!(matches!(certify(&world, nobody, 0), Err(StorageError::NotFound { .. })));
}

fn a_revoked_terminal_has_nothing_left<B: Backend>() {
    let (world, _backend) = world::<B>();
    let store = &world.store;
    let armed = world.armed(100, CaptureMethod::Automatic);
    let key = world.new_api_key(Principal::Terminal(world.terminal));
    done(store.create_api_key(key.clone(), write()));
    let old = certify(&world, world.terminal, -3_500).unwrap();
    let live = certify(&world, world.terminal, 0).unwrap();
    revoke(&world, world.terminal, 100);

    let terminal = store.terminal(world.terminal).unwrap().unwrap();
    assert_eq!(terminal.revocation.unwrap().at, at(100));
    let key = store.api_key(key.id).unwrap().unwrap();
    assert_eq!(key.revoked_at, Some(at(100)));
    let keys = store.list_api_keys(Some(Principal::Terminal(world.terminal)), Page::first(9));
    assert!(keys.unwrap().items.iter().all(|key| key.revoked_at.is_some()));
    assert_eq!(store.armed_intent(world.terminal, at(0)).unwrap(), None);
    let intent = store.intent(armed.id).unwrap().unwrap();
    assert_eq!(
        intent.status,
        IntentStatus::RequiresPaymentMethod,
        "the merchant may arm elsewhere"
    );

    // The one that had ended before is no business of phones.
    assert_eq!(old.expires_at, at(100));
    assert_eq!(store.revoked_certificates(at(100), 9).unwrap(), [live.serial]);
    assert_eq!(store.revoked_certificates(at(3_600), 9).unwrap(), [[0; 6]; 0]);

    let ended = TerminalError::Revoked(at(100));
    refused(certify(&world, world.terminal, 200), ended);
    let key = world.new_api_key(Principal::Terminal(world.terminal));
    refused(store.create_api_key(key, write()), ended);
    refused(store.arm_intent(armed.id, world.terminal, at(900), write_at(200)), ended);
    let log = store.audit_events(Page::first(1)).unwrap();
    let event = &log.items[0].event;
    assert_eq!(
        (event.action, &event.object),
        (AuditAction::TerminalRevoked, &world.terminal.to_string())
    );
    let detail = "stolen (API keys ended: 2, certificates: 1)";
    assert_eq!(event.detail.as_deref(), Some(detail));
}

fn a_revocation_is_for_good<B: Backend>() {
    let (world, _backend) = world::<B>();
    revoke(&world, world.terminal, 100);
    let again = world.store.revoke_terminal(world.terminal, "again".into(), write_at(200));
    let ended = done(again).revocation.unwrap();
    assert_eq!((ended.at, ended.reason.as_str()), (at(100), "stolen"));
    let nobody = TerminalId::new(noon(), world.next());
    let missing = world.store.revoke_terminal(nobody, "x".into(), write());
    assert!(matches!(missing, Err(StorageError::NotFound { kind: "terminal", .. })));
}

/// A payment that was being decided when its terminal was revoked is decided again, and declined.
fn a_terminal_revoked_meanwhile_is_not_paid<B: Backend>() {
    let (world, _backend) = world::<B>();
    let intent = world.armed(100, CaptureMethod::Automatic);
    let decide = || world.decide(intent.id, world.terminal, presented(1, 100));
    let before = decide();
    assert_eq!(before.outcome(), Outcome::Approved);
    revoke(&world, world.terminal, 0);
    assert!(matches!(world.commit(&before, None), Err(StorageError::Conflict)));
    let after = decide();
    assert_eq!(after.outcome(), Outcome::Declined(DeclineReason::TerminalRevoked));
    let Written::Done { value, .. } = world.commit(&after, None).unwrap() else { panic!("new") };
    assert!(!value.merchant_proven);
    assert_eq!(world.money(), (100_000, 100_000));
}

/// Phones are told of at most so many, and then of those that are good for longest.
fn the_list_for_phones_is_bounded<B: Backend>() {
    let (world, _backend) = world::<B>();
    let mut serials = Vec::new();
    for number in 0..5 {
        let terminal = TerminalId::new(noon(), world.next());
        world.create_terminal(terminal);
        serials.push(certify(&world, terminal, number).unwrap().serial);
        revoke(&world, terminal, 10);
    }
    serials.reverse();
    assert_eq!(world.store.revoked_certificates(at(10), 9).unwrap(), serials);
    assert_eq!(world.store.revoked_certificates(at(10), 3).unwrap(), serials[..3]);
}

/// A merchant with many terminals that were revoked, or one terminal with many certificates that were, does not
/// push others' off the list.
fn the_list_for_phones_is_shared_fairly<B: Backend>() {
    let (world, _backend) = world::<B>();
    let add = |merchant, certificates: i64| {
        let terminal = TerminalId::new(noon(), world.next());
        world.create_terminal_of(merchant, terminal);
        // The one that is revoked with its terminal ends first, and would be last on a list by time.
        let serials = (0..certificates).map(|n| certify(&world, terminal, n).unwrap().serial);
        let serials: Vec<_> = serials.collect();
        revoke(&world, terminal, 90);
        serials
    };
    let victim = world.merchant;
    let stolen = add(victim, 1);
    let greedy = MerchantId::new(noon(), world.next());
    let key = world.new_api_key(Principal::Merchant(greedy));
    done(world.store.create_merchant(world::merchant(greedy), key, write()));
    let flood: Vec<_> = (0..10).flat_map(|_| add(greedy, 4)).collect();
    let hoarder = add(victim, 16);
    let told = world.store.revoked_certificates(at(100), 6).unwrap();
    assert!(told.contains(&stolen[0]), "{told:?}");
    let count = |of: &[[u8; 6]]| told.iter().filter(|serial| of.contains(serial)).count();
    assert_eq!((count(&flood), count(&hoarder)), (3, 2));
    let all = world.store.revoked_certificates(at(100), 400).unwrap();
    assert_eq!(all.len(), 57);
}

contract! {
    a_terminal_has_so_many_certificates
    a_revoked_terminal_has_nothing_left
    a_revocation_is_for_good
    a_terminal_revoked_meanwhile_is_not_paid
    the_list_for_phones_is_bounded
    the_list_for_phones_is_shared_fairly
}
