//! Signed configurations and audit heads: what a device takes, and that it never goes back.

use proptest::prelude::*;
use tapfer_emv::audit_chain::{self, HeadError, KnownHead};
use tapfer_emv::configuration::{ConfigurationError, KnownConfiguration};
use tapfer_emv::document::{DocumentError, DocumentKey, DocumentPurpose};
use tapfer_emv::merchant::{MerchantPrivateKey, MerchantSigner as _};
use tapfer_payment_types::configuration::{
    AUDIT_HEAD_FORMAT, Audience, AuditHead, CONFIGURATION_FORMAT, Configuration, Content,
    KeySuccession, PhoneConfiguration, Restoration, SUCCESSION_FORMAT, SignedConfiguration,
    SignedDocument, TerminalTrust,
};
use tapfer_payment_types::messages::{HexBytes, MerchantTrust};
use tapfer_payment_types::policy::VerificationPolicy;
use tapfer_payment_types::{Currency, IssuerId, RealmId, Timestamp};

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn realm() -> RealmId {
    RealmId::new(now(), [1; 10])
}

fn issuer() -> IssuerId {
    IssuerId::new(now(), [2; 10])
}

fn private(number: u8) -> MerchantPrivateKey {
    MerchantPrivateKey::from_bytes(&[number; 32]).unwrap()
}

fn public(number: u8) -> DocumentKey {
    DocumentKey::from_bytes(&private(number).public_key().bytes()).unwrap()
}

fn sign(number: u8, document: &impl serde::Serialize) -> SignedDocument {
    let document = serde_json::to_string(document).unwrap();
    let purpose = match number {
        AUDITOR => DocumentPurpose::AuditHead,
        _ => DocumentPurpose::Configuration,
    };
    let signature = private(number).sign(&purpose.message(document.as_bytes())).unwrap();
    SignedDocument {
        document,
        key: HexBytes(public(number).bytes().to_vec()),
        signature: HexBytes(signature.to_vec()),
    }
}

/// The chain of events `1, 2, 3, ...`, or of others behind the place where it was rewritten.
fn chain(length: u64, rewritten_from: u64) -> KnownHead {
    let mut head = KnownHead::beginning(realm());
    for sequence in 1..=length {
        head.hash = audit_chain::link(&head.hash, sequence, &event(sequence, rewritten_from));
        head.sequence = sequence;
    }
    head
}

fn event(sequence: u64, rewritten_from: u64) -> [u8; 32] {
    let mut event = [if sequence >= rewritten_from { 0xFF } else { 0 }; 32];
    event[..8].copy_from_slice(&sequence.to_be_bytes());
    event
}

const HONEST: u64 = u64::MAX;
const SIGNER: u8 = 1;
const AUDITOR: u8 = 2;

fn head(known: &KnownHead) -> SignedDocument {
    sign(
        AUDITOR,
        &AuditHead {
            format: AUDIT_HEAD_FORMAT.into(),
            realm: realm(),
            restoration: known.restoration,
            sequence: known.sequence,
            hash: HexBytes(known.hash.to_vec()),
            at: now(),
        },
    )
}

fn configuration(version: u64, known: &KnownHead) -> Configuration {
    Configuration {
        format: CONFIGURATION_FORMAT.into(),
        realm: realm(),
        audience: Audience::Phones(issuer()),
        restoration: known.restoration,
        version,
        issued_at: now(),
        expires_at: now().plus_seconds(7 * 86_400),
        audit_key: HexBytes(public(AUDITOR).bytes().to_vec()),
        audit_head: head(known),
        content: Content::Phones(PhoneConfiguration {
            policy: VerificationPolicy::by_limit(1, Currency::EUR, 2_500),
            merchant_trust: MerchantTrust::default(),
        }),
    }
}

fn signed_by(number: u8, configuration: &Configuration) -> SignedConfiguration {
    SignedConfiguration { configuration: sign(number, configuration), successions: Vec::new() }
}

fn signed(configuration: &Configuration) -> SignedConfiguration {
    signed_by(SIGNER, configuration)
}

fn device() -> KnownConfiguration {
    KnownConfiguration::pinned(realm(), Audience::Phones(issuer()), public(SIGNER))
}

fn refusal(device: &KnownConfiguration, offered: &SignedConfiguration) -> ConfigurationError {
    device.accept(offered, now()).expect_err("it was taken")
}

/// Attack: a hand between platform and device, or an old platform, plays an old document back.
#[test]
fn attack_old_configuration_played_back() {
    let old = signed(&configuration(7, &chain(70, HONEST)));
    let (device, _) =
        device().accept(&signed(&configuration(8, &chain(80, HONEST))), now()).unwrap();
    let error = refusal(&device, &old);
    assert_eq!(error, ConfigurationError::Older { known: 8, offered: 7 });
    assert!(error.to_string().contains("version 7"), "{error}");
    let same_number = signed(&Configuration {
        expires_at: now().plus_seconds(60),
        ..configuration(8, &chain(80, HONEST))
    });
    assert_eq!(refusal(&device, &same_number), ConfigurationError::TwoOfOneVersion { version: 8 });
}

/// Attack: the platform's audit log was cut or rewritten, and whoever did it goes on under new numbers.
#[test]
fn attack_audit_chain_cut_or_rewritten() {
    let (device, _) =
        device().accept(&signed(&configuration(8, &chain(80, HONEST))), now()).unwrap();
    let cut = signed(&configuration(9, &chain(79, HONEST)));
    let went_back = HeadError::WentBack { known: 80, offered: 79 };
    assert_eq!(refusal(&device, &cut), went_back.into());
    let rewritten = signed(&configuration(9, &chain(80, 40)));
    assert_eq!(refusal(&device, &rewritten), HeadError::Forked { sequence: 80 }.into());

    // Longer than it was: only the links between show it.
    let known = device.newest.unwrap().head;
    let events = |rewritten_from| (81..=90).map(move |sequence| event(sequence, rewritten_from));
    let honest: Vec<_> = events(HONEST).collect();
    known.proves(&honest, &chain(90, HONEST)).unwrap();
    assert!(known.proves(&honest, &chain(90, 40)).is_err());
    assert!(known.proves(&events(40).collect::<Vec<_>>(), &chain(90, 40)).is_err());
    assert!(known.proves(&honest[..9], &chain(90, HONEST)).is_err());
}

fn restored_at(millis: i64) -> Restoration {
    Restoration::at(Timestamp::from_unix_millis(millis))
}

#[test]
fn a_platform_that_says_it_was_restored_may_begin_again_once() {
    let (device, _) =
        device().accept(&signed(&configuration(8, &chain(80, HONEST))), now()).unwrap();
    let restored = KnownHead { restoration: restored_at(1), ..chain(60, HONEST) };
    let (device, _) = device.accept(&signed(&configuration(3, &restored)), now()).unwrap();
    let before = signed(&configuration(9, &chain(90, HONEST)));
    assert_eq!(refusal(&device, &before), HeadError::OlderRestoration.into());
    let back = KnownHead { restoration: restored_at(1), ..chain(59, HONEST) };
    let back = refusal(&device, &signed(&configuration(4, &back)));
    assert_eq!(back, HeadError::WentBack { known: 60, offered: 59 }.into());
    let mixed = configuration(4, &chain(60, HONEST));
    let mixed = signed(&Configuration { restoration: restored_at(1), ..mixed });
    assert_eq!(refusal(&device, &mixed), DocumentError::Content.into());
}

/// Attack: a hand on the database has the platform sign restorations of the time to come, so that devices refuse
/// every one that will really be.
#[test]
fn attack_restoration_of_the_time_to_come() {
    let (device, _) =
        device().accept(&signed(&configuration(8, &chain(80, HONEST))), now()).unwrap();
    let at = |seconds| Restoration::at(now().plus_seconds(seconds));
    let offered = |restoration| {
        let head = KnownHead { restoration, ..chain(60, HONEST) };
        signed(&configuration(9, &head))
    };
    for beyond in [at(301), at(86_399), at(i64::MAX / 1_000), restored_at(i64::MAX)] {
        assert_eq!(refusal(&device, &offered(beyond)), DocumentError::Content.into());
    }
    // The platform's own clock too goes by the device's.
    let late = configuration(9, &KnownHead { restoration: at(90_000), ..chain(60, HONEST) });
    let late = Configuration { issued_at: now().plus_seconds(90_000), ..late };
    let head = AuditHead {
        format: AUDIT_HEAD_FORMAT.into(),
        realm: realm(),
        restoration: at(90_000),
        sequence: 60,
        hash: HexBytes(chain(60, HONEST).hash.to_vec()),
        at: late.issued_at,
    };
    let late = signed(&Configuration { audit_head: sign(AUDITOR, &head), ..late });
    let error = refusal(&device, &late);
    assert_eq!(error, ConfigurationError::FromTheFuture { at: now().plus_seconds(90_000) });

    // Whatever is taken, the one that really was comes behind it; and the person hears of both.
    let (next, _) = device.accept(&offered(at(0)), now()).unwrap();
    assert_eq!(device.restored_in(&next), Some(now()));
    let (last, _) = next.accept(&offered(at(1)), now()).unwrap();
    assert_eq!(next.restored_in(&last), Some(now().plus_seconds(1)));
    assert_eq!(last.restored_in(&last), None);
    last.accept(&offered(at(300)), now()).unwrap();
}

/// Attack: somebody without the platform's key, or with another platform's, speaks to the device.
#[test]
fn attack_configuration_of_a_stranger() {
    let device = device();
    let good = configuration(1, &chain(1, HONEST));
    let (known, offered) = (public(SIGNER).fingerprint(), public(9).fingerprint());
    let other_key = ConfigurationError::OtherKey { known, offered };
    assert_eq!(refusal(&device, &signed_by(9, &good)), other_key);
    // Names the known key, and has not got it.
    let mut forged = signed_by(9, &good);
    forged.configuration.key = HexBytes(public(SIGNER).bytes().to_vec());
    assert_eq!(refusal(&device, &forged), DocumentError::Signature.into());

    let elsewhere = RealmId::new(now(), [9; 10]);
    let other = signed(&Configuration { realm: elsewhere, ..good.clone() });
    assert!(matches!(refusal(&device, &other), ConfigurationError::OtherRealm { .. }));
    let tills = Configuration {
        audience: Audience::Terminals,
        content: Content::Terminals(TerminalTrust::default()),
        ..good.clone()
    };
    let other = refusal(&device, &signed(&tills));
    assert!(matches!(other, ConfigurationError::OtherAudience { .. }));
    // A head is no configuration, and the auditor's key signs none.
    let head = SignedConfiguration { configuration: head(&chain(1, HONEST)), successions: vec![] };
    assert!(matches!(refusal(&device, &head), ConfigurationError::OtherKey { .. }));
    let mut unsigned_head = good.clone();
    unsigned_head.audit_head.signature = HexBytes(vec![0; 64]);
    assert!(matches!(refusal(&device, &signed(&unsigned_head)), ConfigurationError::AuditHead(_)));
    let mixed = Configuration { audience: Audience::Terminals, ..good };
    assert_eq!(refusal(&device, &signed(&mixed)), DocumentError::Content.into());
}

/// Attack: somebody keeps new configurations from the device, so that it goes on trusting what was revoked.
#[test]
fn attack_new_configurations_kept_back() {
    let offered = signed(&configuration(1, &chain(1, HONEST)));
    let end = now().plus_seconds(7 * 86_400);
    let (device, _) = device().accept(&offered, end).unwrap();
    assert!(!device.has_expired(end));
    assert!(device.has_expired(end.plus_millis(1)));
    let late = device.accept(&offered, end.plus_millis(1));
    assert_eq!(late.unwrap_err(), ConfigurationError::Expired { at: end });
    let for_ever = Configuration {
        expires_at: now().plus_seconds(31 * 86_400),
        ..configuration(1, &chain(1, HONEST))
    };
    assert_eq!(refusal(&self::device(), &signed(&for_ever)), DocumentError::Content.into());
}

fn succession(from: u8, to: u8) -> SignedDocument {
    let key = |number| HexBytes(public(number).bytes().to_vec());
    let (format, at) = (SUCCESSION_FORMAT.into(), now());
    sign(from, &KeySuccession { format, realm: realm(), from: key(from), to: key(to), at })
}

#[test]
fn a_new_key_is_one_that_the_old_one_named() {
    let good = configuration(1, &chain(1, HONEST));
    let by = |signer, successions: Vec<_>| SignedConfiguration {
        configuration: sign(signer, &good),
        successions,
    };
    let steps = || vec![succession(SIGNER, 5), succession(5, 6)];
    let (device, _) = device().accept(&by(6, steps()), now()).unwrap();
    assert_eq!(device.key, public(6));
    // Who has followed needs no step, and does not go back.
    device.accept(&by(6, steps()), now()).unwrap();
    assert!(matches!(refusal(&device, &by(5, steps())), ConfigurationError::OtherKey { .. }));

    let device = self::device();
    for broken in [
        Vec::new(),
        vec![succession(5, 6)],
        vec![succession(5, 6), succession(SIGNER, 5)],
        vec![SignedDocument { signature: HexBytes(vec![1; 64]), ..succession(SIGNER, 6) }],
    ] {
        assert!(matches!(refusal(&device, &by(6, broken)), ConfigurationError::OtherKey { .. }));
    }
    // The old key says that a stranger's key was the one before.
    let other = KeySuccession {
        format: SUCCESSION_FORMAT.into(),
        realm: realm(),
        from: HexBytes(public(7).bytes().to_vec()),
        to: HexBytes(public(6).bytes().to_vec()),
        at: now(),
    };
    let lie = sign(SIGNER, &other);
    assert!(matches!(refusal(&device, &by(6, vec![lie])), ConfigurationError::OtherKey { .. }));
    let elsewhere = KeySuccession {
        realm: RealmId::new(now(), [9; 10]),
        from: HexBytes(public(SIGNER).bytes().to_vec()),
        ..other
    };
    let lie = sign(SIGNER, &elsewhere);
    assert!(matches!(refusal(&device, &by(6, vec![lie])), ConfigurationError::OtherKey { .. }));
}

#[test]
fn who_was_told_nothing_believes_the_first_and_nobody_else_then() {
    let offered = signed(&configuration(4, &chain(3, HONEST)));
    let (device, _) = KnownConfiguration::first(&offered, now()).unwrap();
    assert_eq!((device.realm, device.key), (realm(), public(SIGNER)));
    let stranger = signed_by(9, &configuration(5, &chain(3, HONEST)));
    assert!(matches!(refusal(&device, &stranger), ConfigurationError::OtherKey { .. }));
    let written = serde_json::to_string(&device).unwrap();
    assert_eq!(serde_json::from_str::<KnownConfiguration>(&written).unwrap(), device);
}

#[test]
fn no_field_is_unknown_double_or_missing() {
    let good = configuration(1, &chain(1, HONEST));
    let text = serde_json::to_string(&good).unwrap();
    for changed in [
        text.replacen('{', "{\"more\":1,", 1),
        text.replacen('{', "{\"version\":2,", 1),
        text.replace("\"version\":1,", ""),
        text.replace("\"version\":1,", "\"version\":0,"),
        text.replace("\"version\":1,", "\"version\":-1,"),
        text.replace("configuration-1", "configuration-2"),
        format!("{text} x"),
    ] {
        assert_ne!(changed, text);
        let message = DocumentPurpose::Configuration.message(changed.as_bytes());
        let signature = private(SIGNER).sign(&message).unwrap();
        let document = SignedDocument {
            document: changed.clone(),
            signature: HexBytes(signature.to_vec()),
            key: HexBytes(public(SIGNER).bytes().to_vec()),
        };
        let offered = SignedConfiguration { configuration: document, successions: Vec::new() };
        assert_eq!(refusal(&device(), &offered), DocumentError::Content.into(), "{changed}");
    }
    let mut long = sign(SIGNER, &good);
    long.document.push_str(&" ".repeat(256 * 1_024));
    let offered = SignedConfiguration { configuration: long, successions: Vec::new() };
    assert_eq!(refusal(&device(), &offered), DocumentError::TooLong.into());
}

proptest! {
    /// Whatever one byte of a signed document is changed to, it is refused.
    #[test]
    fn every_changed_byte_is_refused(position in any::<prop::sample::Index>(), with in 0_u8..128) {
        let mut offered = signed(&configuration(1, &chain(1, HONEST)));
        let mut bytes = offered.configuration.document.into_bytes();
        let position = position.index(bytes.len());
        prop_assume!(bytes[position] != with);
        bytes[position] = with;
        offered.configuration.document = String::from_utf8(bytes).unwrap();
        prop_assert_eq!(refusal(&device(), &offered), DocumentError::Signature.into());
    }

    /// Of any row of documents, those that are taken rise, and so does the chain in them.
    #[test]
    fn what_is_taken_rises(offers in prop::collection::vec((1_u64..6, 0_u64..6, 0_i64..2), 1..12)) {
        let mut device = device();
        for (version, length, restoration) in offers {
            let head = KnownHead { restoration: restored_at(restoration), ..chain(length, HONEST) };
            let before = device.newest;
            let Ok((after, _)) = device.accept(&signed(&configuration(version, &head)), now()) else {
                continue;
            };
            let order = |newest: tapfer_emv::configuration::Newest| {
                (newest.restoration, newest.version, newest.head.sequence)
            };
            let after_order = order(after.newest.unwrap());
            if let Some(before) = before.map(order) {
                prop_assert!(before <= after_order);
                prop_assert!(before.0 < after_order.0 || before.2 <= after_order.2);
            }
            device = after;
        }
    }

    #[test]
    fn any_text_is_answered(text in ".*", signature in prop::collection::vec(any::<u8>(), 0..70)) {
        let key = HexBytes(public(SIGNER).bytes().to_vec());
        let configuration =
            SignedDocument { document: text, key, signature: HexBytes(signature) };
        let offered = SignedConfiguration { configuration, successions: Vec::new() };
        prop_assert!(device().accept(&offered, now()).is_err());
    }

    #[test]
    fn audiences_read_back(text in "(terminals|phones:iss_[0-9a-z]{26}|[a-z:_]{0,40})") {
        if let Ok(audience) = text.parse::<Audience>() {
            prop_assert_eq!(audience.to_string(), text);
        }
    }
}
