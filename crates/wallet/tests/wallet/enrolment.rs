//! What the phone takes from the platform, and what it does not.

use tapfer_emv::certificate::{CertificateError, IccCertificate};
use tapfer_emv::document::DocumentError;
use tapfer_emv::keys::KeyIndex;
use tapfer_emv::profile::ProfileError;
use tapfer_payment_types::configuration::Content;
use tapfer_payment_types::messages::{
    HexBytes, HexSecret, MerchantTrust, ProvisioningPayload, ReplenishRequest, SealedPayload,
};
use tapfer_payment_types::policy::Requirement;
use tapfer_payment_types::{Timestamp, TokenId};
use tapfer_wallet::{AcceptError, KeyGrantError, Wallet};

use crate::issuer::{Issuer, PAYMENTS_PER_KEY, now, seal, seal_bytes};
use crate::kernel::{Kernel, Purchase};
use crate::phone::Phone;
use crate::random::TestRng;

fn content(wallet: &Wallet) -> String {
    serde_json::to_string(wallet).unwrap()
}

/// Offers an altered payload to a wallet that has the token already; nothing may change.
fn refused(alter: impl FnOnce(&Issuer, &mut ProvisioningPayload)) -> AcceptError {
    refused_at(now(), alter)
}

fn refused_at(at: Timestamp, alter: impl FnOnce(&Issuer, &mut ProvisioningPayload)) -> AcceptError {
    let issuer = Issuer::new();
    let mut wallet = Wallet::new(&mut TestRng(1));
    issuer.provision(&mut wallet, now());
    let request = wallet.replenish_request(issuer.token, &mut TestRng(2));
    let mut payload = issuer.payload(&request, now());
    alter(&issuer, &mut payload);
    let sealed = seal(&wallet, issuer.token, &payload);
    let before = content(&wallet);
    let error = wallet.accept(issuer.token, &sealed, at).err().expect("altered, and accepted");
    assert_eq!(content(&wallet), before, "{error}");
    error
}

#[test]
fn each_altered_part_is_refused() {
    type Case = (fn(&Issuer, &mut ProvisioningPayload), AcceptError);
    let senseless = AcceptError::Configuration(DocumentError::Content.into());
    let cases: [Case; 11] = [
        (|_, p| p.token = TokenId::new(now(), [9; 10]), AcceptError::OtherToken),
        (
            |_, p| p.profile.aip = HexBytes(vec![0x01, 0x0D]),
            AcceptError::Profile(ProfileError::InterchangeProfile),
        ),
        (|_, p| p.profile.aid.0.push(0x02), AcceptError::OtherCard),
        (|_, p| p.profile = (&Issuer::of_token(2).profile).into(), AcceptError::OtherCard),
        (
            |_, p| p.icc_certificate.0.truncate(9),
            AcceptError::Certificate(CertificateError::Length(9)),
        ),
        (
            |_, p| *p.icc_certificate.0.last_mut().unwrap() ^= 1,
            AcceptError::Certificate(CertificateError::Signature),
        ),
        (|issuer, p| issuer.set_policy(p, |policy| policy.version = 0x0100_0000), senseless),
        (|issuer, p| issuer.set_policy(p, |policy| policy.limit = -1), senseless),
        (|_, p| p.limited_use_keys.clear(), AcceptError::NoKeys),
        (
            |_, p| p.limited_use_keys[0].key_index = "6000000".into(),
            AcceptError::Keys(KeyGrantError::Index),
        ),
        (
            |_, p| p.limited_use_keys[0].key = HexSecret::new(vec![0; 16]),
            AcceptError::Keys(KeyGrantError::Conflict),
        ),
    ];
    for (number, (alter, expected)) in cases.into_iter().enumerate() {
        assert_eq!(refused(alter), expected, "case {number}");
    }
}

/// Whoever knows the device's public key can seal a payload, with a policy and keys of his own.
#[test]
fn nobody_but_the_issuer_changes_a_token() {
    let as_stranger = |payload: &mut ProvisioningPayload, issuer: &Issuer| {
        let own = IccCertificate::parse(&payload.icc_certificate.0).unwrap().public_key;
        let request = ReplenishRequest {
            icc_public_key: HexBytes(own.bytes().to_vec()),
            application_transaction_counter: 0,
        };
        *payload = issuer.payload(&request, now());
        issuer.set_policy(payload, |policy| {
            (policy.limit, policy.up_to_limit) = (999_999_999_999, Requirement::Anything);
        });
    };
    let error = refused(|_, payload| as_stranger(payload, &Issuer::stranger()));
    assert_eq!(error, AcceptError::OtherIssuer);
    // Under the issuer's own certificate, which every reader sees, the ICC certificate does not hold.
    let error = refused(|issuer, payload| {
        as_stranger(payload, &Issuer::stranger());
        payload.profile = (&issuer.profile).into();
    });
    assert!(matches!(error, AcceptError::Certificate(_)), "{error}");
}

#[test]
fn keys_that_are_none_are_refused() {
    type Case = (fn(&Issuer, &mut ProvisioningPayload), KeyGrantError);
    let cases: [Case; 6] = [
        (|_, p| p.limited_use_keys[0].key = HexSecret::new(vec![0; 15]), KeyGrantError::Length),
        (|_, p| p.limited_use_keys[0].maximum_payments = 0, KeyGrantError::Useless),
        (|_, p| p.limited_use_keys[0].maximum_total_minor = 0, KeyGrantError::Useless),
        (|_, p| p.limited_use_keys[0].expires_at = now().plus_millis(-1), KeyGrantError::Useless),
        (
            |issuer, p| {
                p.limited_use_keys.push(issuer.grant(now(), 7));
                let mut other = issuer.grant(now(), 8);
                other.key_index.clone_from(&p.limited_use_keys[2].key_index);
                p.limited_use_keys.push(other);
            },
            KeyGrantError::Conflict,
        ),
        (
            |issuer, p| {
                p.limited_use_keys = (0..65).map(|number| issuer.grant(now(), number)).collect();
            },
            KeyGrantError::TooMany,
        ),
    ];
    for (alter, expected) in cases {
        assert_eq!(refused(alter), AcceptError::Keys(expected));
    }
}

/// As many keys as a payload may hold, again and again, used up or not: the phone holds the last ones.
#[test]
fn new_keys_take_the_place_of_old_ones() {
    let issuer = Issuer::new();
    let mut wallet = Wallet::new(&mut TestRng(1));
    for hour in 0..4 {
        let at = now().plus_seconds(hour * 3_600);
        let request = wallet.replenish_request(issuer.token, &mut TestRng(2));
        let mut payload = issuer.payload(&request, at);
        payload.limited_use_keys = (0..64).map(|number| issuer.grant(at, number)).collect();
        let sealed = seal(&wallet, issuer.token, &payload);
        wallet.accept(issuer.token, &sealed, at).unwrap();
        let token = wallet.token(issuer.token).unwrap();
        assert_eq!(token.readiness(at).payments_left, 64 * u32::from(PAYMENTS_PER_KEY));
        assert_eq!(token.next_key_index(at).unwrap(), KeyIndex::at(at, 0).unwrap());
    }
}

/// The same keys once more do not start over.
#[test]
fn a_key_that_comes_again_keeps_its_use() {
    let issuer = Issuer::new();
    let mut wallet = Wallet::new(&mut TestRng(1));
    issuer.provision(&mut wallet, now());
    let mut phone = Phone::with(wallet);
    Kernel::new(&issuer, now(), 1)
        .tap(&Purchase::euros(100), |command| phone.transmit(command))
        .unwrap();
    let left = |phone: &Phone| {
        let token = phone.card.wallet().token(issuer.token).unwrap();
        token.readiness(now()).payments_left
    };
    let before = left(&phone);
    issuer.provision(phone.card.wallet_mut(), now());
    assert_eq!(left(&phone), before);
}

/// Whom to believe comes with every replenishment, takes the place of what was known, and is kept.
#[test]
fn merchant_trust_is_replaced_and_kept() {
    let mut issuer = Issuer::new();
    let mut wallet = Wallet::new(&mut TestRng(1));
    let trusts = [(1, vec![HexBytes(vec![7; 6])]), (2, vec![])];
    for (key, revoked_serials) in trusts {
        let authorities = vec![HexBytes(vec![key; 64])];
        issuer.merchant_trust = MerchantTrust { authorities, revoked_serials };
        issuer.provision(&mut wallet, now());
        let stored = wallet.snapshot().unwrap().restore().unwrap();
        assert_eq!(*stored.token(issuer.token).unwrap().merchant_trust(), issuer.merchant_trust);
    }
    let misshapen = refused(|issuer, payload| {
        issuer.configure(payload, |configuration| {
            let Content::Phones(content) = &mut configuration.content else { panic!() };
            content.merchant_trust.authorities = vec![HexBytes(vec![1])];
        });
    });
    assert_eq!(misshapen, AcceptError::Configuration(DocumentError::Content.into()));
}

#[test]
fn expired_certificates_are_refused() {
    let expired = AcceptError::Certificate(CertificateError::Expired);
    assert_eq!(refused_at(now().plus_seconds(86_460), |_, _| {}), expired);
    // A certificate that outlives its issuer's, which ends with the year 2030.
    let after_the_issuer: Timestamp = "2031-01-01T00:00:00Z".parse().unwrap();
    let outlives = |issuer: &Issuer, payload: &mut ProvisioningPayload| {
        let own = IccCertificate::parse(&payload.icc_certificate.0).unwrap().public_key;
        let request = ReplenishRequest {
            icc_public_key: HexBytes(own.bytes().to_vec()),
            application_transaction_counter: 0,
        };
        *payload = issuer.payload(&request, after_the_issuer);
    };
    assert_eq!(refused_at(after_the_issuer, outlives), expired);
}

#[test]
fn a_payload_fits_one_request_on_one_device() {
    let issuer = Issuer::new();
    let mut wallet = Wallet::new(&mut TestRng(1));
    let mut other = Wallet::new(&mut TestRng(2));
    let first = wallet.replenish_request(issuer.token, &mut TestRng(3));
    let sealed = seal(&wallet, issuer.token, &issuer.payload(&first, now()));
    assert_eq!(other.accept(issuer.token, &sealed, now()).err(), Some(AcceptError::NotRequested));
    let _ = other.replenish_request(issuer.token, &mut TestRng(4));
    assert_eq!(other.accept(issuer.token, &sealed, now()).err(), Some(AcceptError::Sealed));
    let _ = wallet.replenish_request(issuer.token, &mut TestRng(5));
    let error = wallet.accept(issuer.token, &sealed, now()).err();
    assert_eq!(error, Some(AcceptError::OtherKey), "the older request was replaced");
    issuer.provision(&mut wallet, now());
    let again = wallet.accept(issuer.token, &sealed, now()).err();
    assert_eq!(again, Some(AcceptError::NotRequested));
}

#[test]
fn an_altered_or_foreign_envelope_does_not_open() {
    let issuer = Issuer::new();
    let mut wallet = Wallet::new(&mut TestRng(1));
    let request = wallet.replenish_request(issuer.token, &mut TestRng(3));
    let sealed = seal(&wallet, issuer.token, &issuer.payload(&request, now()));
    let mut check = |sealed: &SealedPayload, expected| {
        assert_eq!(wallet.accept(issuer.token, sealed, now()).err(), Some(expected));
    };
    for position in 0..sealed.encapsulated_key.0.len() {
        let mut altered = sealed.clone();
        altered.encapsulated_key.0[position] ^= 1;
        check(&altered, AcceptError::Sealed);
    }
    for position in [0, 100, sealed.ciphertext.0.len() - 1] {
        let mut altered = sealed.clone();
        altered.ciphertext.0[position] ^= 1;
        check(&altered, AcceptError::Sealed);
    }
    let nothing = SealedPayload { encapsulated_key: HexBytes(vec![]), ..sealed.clone() };
    check(&nothing, AcceptError::Sealed);
    let other = TokenId::new(now(), [9; 10]);
    let wallet_now = Wallet::new(&mut TestRng(1));
    let for_other = seal(&wallet_now, other, &issuer.payload(&request, now()));
    check(&for_other, AcceptError::Sealed);
    check(&seal_bytes(&wallet_now, issuer.token, b"{}"), AcceptError::Content);
    check(&seal_bytes(&wallet_now, issuer.token, &[0xFF; 40]), AcceptError::Content);
}

/// The request is persisted, the process dies, and the answer still fits.
#[test]
fn an_answer_may_come_after_a_restart() {
    let issuer = Issuer::new();
    let mut wallet = Wallet::new(&mut TestRng(1));
    let request = wallet.replenish_request(issuer.token, &mut TestRng(3));
    assert_eq!(request.application_transaction_counter, 0);
    let mut wallet = wallet.snapshot().unwrap().restore().unwrap();
    let sealed = seal(&wallet, issuer.token, &issuer.payload(&request, now()));
    let stored = wallet.accept(issuer.token, &sealed, now()).unwrap();
    let mut phone = Phone::with(stored.restore().unwrap());
    let kernel = Kernel::new(&issuer, now(), 1);
    kernel.tap(&Purchase::euros(100), |command| phone.transmit(command)).unwrap();
    let request = phone.card.wallet_mut().replenish_request(issuer.token, &mut TestRng(4));
    assert_eq!(request.application_transaction_counter, 1);
}

#[test]
fn a_removed_token_is_gone() {
    let (first, second) = (Issuer::of_token(1), Issuer::of_token(2));
    let mut wallet = Wallet::new(&mut TestRng(1));
    first.provision(&mut wallet, now());
    second.provision(&mut wallet, now());
    assert_eq!(wallet.default_token(), Some(first.token));
    wallet.remove_token(first.token).unwrap();
    assert_eq!(wallet.default_token(), Some(second.token));
    assert!(wallet.remove_token(first.token).is_err());
    assert!(wallet.set_default_token(first.token).is_err());
    assert_eq!(wallet.tokens().count(), 1);
}
