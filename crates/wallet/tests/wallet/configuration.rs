//! The phone and its platform's signed configuration: taken if it is newer, kept under the seal, never gone
//! back behind.

use tapfer_emv::audit_chain::HeadError;
use tapfer_emv::configuration::ConfigurationError;
use tapfer_emv::document::{DocumentError, DocumentKey};
use tapfer_payment_types::configuration::{
    Audience, Configuration, Restoration, SignedConfiguration,
};
use tapfer_payment_types::messages::ProvisioningPayload;
use tapfer_payment_types::{Language, Timestamp};
use tapfer_wallet::texts::PersonText as _;
use tapfer_wallet::{AcceptError, ConfiguredBy, PlatformRestored, Wallet};

use crate::issuer::{Issuer, now, seal};
use crate::phone::Phone;
use crate::random::TestRng;

fn enrolled(issuer: &Issuer) -> Wallet {
    let mut wallet = Wallet::new(&mut TestRng(1));
    issuer.provision(&mut wallet, now());
    wallet
}

/// What the wallet says to a payload that is altered, and sealed by the platform all the same.
fn offered(
    issuer: &Issuer,
    wallet: &mut Wallet,
    alter: impl FnOnce(&mut ProvisioningPayload),
) -> Result<(), AcceptError> {
    let request = wallet.replenish_request(issuer.token, &mut TestRng(2));
    let mut payload = issuer.payload(&request, now());
    alter(&mut payload);
    let sealed = seal(wallet, issuer.token, &payload);
    wallet.accept(issuer.token, &sealed, now()).map(drop)
}

fn with_limit(issuer: &Issuer, limit: i64) -> (Configuration, SignedConfiguration) {
    let mut configuration = issuer.configuration(now());
    let tapfer_payment_types::configuration::Content::Phones(content) = &mut configuration.content
    else {
        panic!("for phones");
    };
    content.policy.limit = limit;
    let signed = issuer.sign_configuration(&configuration);
    (configuration, signed)
}

fn limit(wallet: &Wallet, issuer: &Issuer) -> i64 {
    wallet.token(issuer.token).unwrap().policy().limit
}

fn refusal(result: Result<(), AcceptError>) -> ConfigurationError {
    match result {
        Err(AcceptError::Configuration(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Attack: a hand between platform and phone, or a platform that was set back, plays an old policy back.
#[test]
fn attack_old_configuration_played_back_to_a_phone() {
    let issuer = Issuer::new();
    let mut wallet = enrolled(&issuer);
    let (old, old_signed) = with_limit(&issuer, 999_999);
    let (new, new_signed) = with_limit(&issuer, 100);
    let _ = wallet.accept_configuration(&new_signed, now()).unwrap();
    assert_eq!(limit(&wallet, &issuer), 100);

    // After a restart, by itself, and inside a payload that is good in all else.
    let mut wallet = wallet.snapshot().unwrap().restore().unwrap();
    let older = ConfigurationError::Older { known: new.version, offered: old.version };
    let alone = wallet.accept_configuration(&old_signed, now()).map(drop);
    assert_eq!(refusal(alone), older);
    let inside = offered(&issuer, &mut wallet, |payload| payload.configuration = old_signed);
    assert_eq!(refusal(inside), older);
    assert_eq!(limit(&wallet, &issuer), 100);
    // The keys in it were not taken either, and the honest answer still is.
    offered(&issuer, &mut wallet, |_| {}).unwrap();
    assert_eq!(limit(&wallet, &issuer), crate::issuer::UNVERIFIED_LIMIT);
}

/// Attack: whoever has the platform's machine, and not its keys, says something else to phones.
#[test]
fn attack_configuration_forged_for_a_phone() {
    let (issuer, stranger) = (Issuer::new(), Issuer::stranger());
    let mut wallet = enrolled(&issuer);
    let (_, forged) = with_limit(&stranger, 999_999);
    let alone = wallet.accept_configuration(&forged, now()).map(drop);
    assert!(matches!(refusal(alone), ConfigurationError::OtherKey { .. }));
    let inside = offered(&issuer, &mut wallet, |payload| payload.configuration = forged.clone());
    assert!(matches!(refusal(inside), ConfigurationError::OtherKey { .. }));

    // Under the name of the right key, or with one letter changed.
    let (_, mut altered) = with_limit(&issuer, 100);
    altered.configuration.document = altered.configuration.document.replace(":100,", ":900,");
    let altered = wallet.accept_configuration(&altered, now()).map(drop);
    assert_eq!(refusal(altered), DocumentError::Signature.into());
    // Another issuer's, of the same platform.
    let other = Issuer::of_token(2);
    let (_, others) = with_limit(&other, 999_999);
    let inside = offered(&issuer, &mut wallet, |payload| payload.configuration = others.clone());
    assert!(matches!(
        refusal(inside),
        ConfigurationError::OtherKey { .. } | ConfigurationError::OtherAudience { .. }
    ));
    let alone = wallet.accept_configuration(&others, now()).err();
    assert_eq!(alone, Some(AcceptError::OtherPlatform));
    assert_eq!(limit(&wallet, &issuer), crate::issuer::UNVERIFIED_LIMIT);
}

/// Attack: the platform's database is put back, its audit log cut; the versions go on as if nothing were.
#[test]
fn attack_audit_log_cut_before_the_eyes_of_a_phone() {
    let issuer = Issuer::new();
    let mut wallet = enrolled(&issuer);
    let with_head = |sequence: u64, hash: [u8; 32]| {
        let mut configuration = issuer.configuration(now());
        configuration.audit_head = issuer.audit_head(Restoration::NEVER, sequence, hash);
        issuer.sign_configuration(&configuration)
    };
    let _ = wallet.accept_configuration(&with_head(70, [7; 32]), now()).unwrap();
    let cut = wallet.accept_configuration(&with_head(69, [6; 32]), now()).map(drop);
    assert_eq!(refusal(cut), HeadError::WentBack { known: 70, offered: 69 }.into());
    let forked = wallet.accept_configuration(&with_head(70, [8; 32]), now()).map(drop);
    assert_eq!(refusal(forked), HeadError::Forked { sequence: 70 }.into());
    let _ = wallet.accept_configuration(&with_head(71, [8; 32]), now()).unwrap();
    assert_eq!(wallet.configurations()[0].newest.unwrap().head.sequence, 71);
}

/// Attack: the platform is put back, and says so only where no person reads it.
#[test]
fn attack_restoration_that_nobody_is_told_of() {
    let issuer = Issuer::new();
    let mut wallet = enrolled(&issuer);
    assert_eq!(wallet.platform_restored(), None);
    let restored = |at: Timestamp| {
        let mut configuration = issuer.configuration(now());
        configuration.restoration = Restoration::at(at);
        configuration.audit_head = issuer.audit_head(Restoration::at(at), 9, [9; 32]);
        issuer.sign_configuration(&configuration)
    };
    let snapshot = wallet.accept_configuration(&restored(now()), now()).unwrap();
    // It is in the store before the app has had a chance to show it.
    let mut wallet = snapshot.restore().unwrap();
    let news = wallet.platform_restored().unwrap();
    assert_eq!(news, PlatformRestored { at: now() });
    for (language, word) in [(Language::English, "restored"), (Language::German, "Sicherung")] {
        let text = news.text(language);
        assert!(text.contains(word) && text.contains("2026-11-21"), "{text}");
    }
    let _ = wallet.accept_configuration(&restored(now()), now()).unwrap();
    assert!(wallet.platform_restored().is_some(), "until the person was told");
    wallet.told_of_restoration();
    let mut wallet = wallet.snapshot().unwrap().restore().unwrap();
    let _ = wallet.accept_configuration(&restored(now()), now()).unwrap();
    assert_eq!(wallet.platform_restored(), None);
    // Inside a payload too.
    let later = now().plus_seconds(1);
    offered(&issuer, &mut wallet, |payload| payload.configuration = restored(later)).unwrap();
    assert_eq!(wallet.platform_restored(), Some(PlatformRestored { at: later }));
}

/// Attack: new configurations are kept from the phone, so that it goes on believing a revoked terminal.
#[test]
fn attack_new_configurations_kept_from_a_phone() {
    let issuer = Issuer::new();
    let mut wallet = Wallet::new(&mut TestRng(1));
    let end = now().plus_seconds(3_600);
    offered(&issuer, &mut wallet, |payload| {
        issuer.configure(payload, |configuration| configuration.expires_at = end);
    })
    .unwrap();
    let readiness =
        |wallet: &Wallet, at: Timestamp| wallet.token(issuer.token).unwrap().readiness(at);
    // Offline it goes on with what it has, to the end of that, and no longer; its keys would last.
    assert_eq!(readiness(&wallet, now()).usable_until, Some(end));
    assert!(readiness(&wallet, end.plus_millis(-1)).payments_left > 0);
    assert!(readiness(&wallet, end.plus_millis(-1)).wants_replenishment);
    assert_eq!(readiness(&wallet, end).payments_left, 0);
    let expired = offered(&issuer, &mut wallet, |payload| {
        issuer.configure(payload, |configuration| {
            configuration.issued_at = now().plus_seconds(-60);
            configuration.expires_at = now().plus_millis(-1);
        });
    });
    assert!(matches!(refusal(expired), ConfigurationError::Expired { .. }));
    let mut phone = Phone::with(wallet);
    phone.now = end;
    let kernel = crate::kernel::Kernel::new(&issuer, phone.now, 1);
    let purchase = crate::kernel::Purchase::euros(100);
    assert!(kernel.tap(&purchase, |command| phone.transmit(command)).is_err());
}

#[test]
fn a_key_that_was_pinned_is_the_only_one() {
    let (issuer, stranger) = (Issuer::new(), Issuer::stranger());
    let key = |issuer: &Issuer| DocumentKey::from(issuer.document_keys[0].public_key());
    let by = ConfiguredBy { realm: issuer.realm, issuer: issuer.id };
    let mut wallet = Wallet::new(&mut TestRng(1));
    wallet.pin_configuration_key(by, key(&stranger)).unwrap();
    wallet.pin_configuration_key(by, key(&stranger)).unwrap();
    assert!(wallet.pin_configuration_key(by, key(&issuer)).is_err());
    let first = offered(&issuer, &mut wallet, |_| {});
    assert!(matches!(refusal(first), ConfigurationError::OtherKey { .. }));
    assert_eq!(wallet.tokens().count(), 0);

    let mut wallet = Wallet::new(&mut TestRng(1));
    wallet.pin_configuration_key(by, key(&issuer)).unwrap();
    offered(&issuer, &mut wallet, |_| {}).unwrap();
    let token = wallet.token(issuer.token).unwrap();
    assert_eq!(token.configured_by(), Some(by));
    assert_eq!(wallet.configurations()[0].audience, Audience::Phones(issuer.id));
}

/// A store from before there were any configurations believes the next answer, and that one from then on.
#[test]
fn an_earlier_store_takes_the_next_configuration() {
    let issuer = Issuer::new();
    let mut stored: serde_json::Value = serde_json::to_value(enrolled(&issuer)).unwrap();
    stored.as_object_mut().unwrap().remove("configurations");
    let token = stored["tokens"][0].as_object_mut().unwrap();
    token.remove("configured_by");
    token.remove("configuration_expires_at");
    let mut wallet: Wallet = serde_json::from_value(stored).unwrap();
    assert!(wallet.configurations().is_empty());
    offered(&issuer, &mut wallet, |_| {}).unwrap();
    let by = ConfiguredBy { realm: issuer.realm, issuer: issuer.id };
    assert_eq!(wallet.token(issuer.token).unwrap().configured_by(), Some(by));
}
