//! Whom the phone believes it pays: a proof that holds, and every attack on one.

use tapfer_emv::curve::PrivateKey;
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::policy::MerchantProofRule;
use tapfer_wallet::policy::DeclineReason;
use tapfer_wallet::{CredentialFault, Notification};

use crate::issuer::{AID, Issuer, now, seal};
use crate::kernel::{Ended, Kernel, Purchase, Tap, cdol1_values, command, proven_options, select};
use crate::phone::Phone;
use crate::proving_terminal::{ProvingTerminal, SERIAL, SHOP, merchant_ca, trusting_issuer};
use crate::random::TestRng;

const OPTIONS: u8 = 0xA8;
const PRESENT: u8 = 0x52;
const REFUSED: [u8; 2] = [0x69, 0x85];
/// Place of the amount in GET PROCESSING OPTIONS: header, Lc, template, its length (two bytes), kernel
/// qualifier, kernel key.
const AMOUNT: usize = 5 + 3 + 8 + 64;
/// Length of `DF51`, the last value, and of Le behind it.
const PROOF_AND_LE: usize = 64 + 1;

fn tap(phone: &mut Phone, issuer: &Issuer, terminal: &ProvingTerminal) -> Result<Tap, Ended> {
    tap_altered(phone, issuer, terminal, |_| {})
}

/// A tap with somebody in between who alters commands.
fn tap_altered(
    phone: &mut Phone,
    issuer: &Issuer,
    terminal: &ProvingTerminal,
    alter: impl Fn(&mut Vec<u8>),
) -> Result<Tap, Ended> {
    let kernel = Kernel { terminal: Some(terminal), ..Kernel::new(issuer, phone.now, 5) };
    kernel.tap(&Purchase::euros(1_500), |command| {
        let mut command = command.to_vec();
        alter(&mut command);
        phone.transmit(&command)
    })
}

fn proof_is_wrong(phone: &Phone) -> bool {
    matches!(phone.notifications[..], [Notification::MerchantProofWrong { .. }])
}

#[test]
fn a_proven_merchant_is_named_and_signed() {
    let (issuer, terminal) = (trusting_issuer(), ProvingTerminal::new());
    let mut phone = Phone::enrolled(&issuer);
    let paid = tap(&mut phone, &issuer, &terminal).unwrap();
    assert_eq!(paid.data.merchant_identity, Some(terminal.certificate.identity()));
    let Notification::PaymentSent { merchant: Some(merchant), .. } = &phone.notifications[0] else {
        panic!("{:?}", phone.notifications)
    };
    assert_eq!(merchant.name, SHOP);
    assert_eq!((&*merchant.merchant_id, &*merchant.terminal_id), ("M00000000000042", "T0000001"));
}

#[test]
fn without_a_credential_nobody_is_named() {
    let issuer = trusting_issuer();
    let mut phone = Phone::enrolled(&issuer);
    let kernel = Kernel::new(&issuer, now(), 5);
    let paid = kernel.tap(&Purchase::euros(100), |command| phone.transmit(command)).unwrap();
    assert_eq!(paid.data.merchant_identity, None);
    assert!(matches!(phone.notifications[0], Notification::PaymentSent { merchant: None, .. }));
}

/// Every value that the proof covers, changed on the way to the phone.
#[test]
fn attack_amount_swap_after_proof() {
    let (issuer, terminal) = (trusting_issuer(), ProvingTerminal::new());
    // Kernel key aside: one byte of each value from the amount to the terminal identification.
    let lengths = [6, 6, 2, 2, 3, 1, 4, 8];
    let mut place = AMOUNT;
    for length in lengths {
        let last = place + length - 1;
        let mut phone = Phone::enrolled(&issuer);
        let ended = tap_altered(&mut phone, &issuer, &terminal, |command| {
            if command[1] == OPTIONS {
                command[last] ^= 0x01;
            }
        });
        assert_eq!(ended.unwrap_err(), Ended::Refused(OPTIONS, REFUSED), "at {place}");
        assert!(proof_is_wrong(&phone), "at {place}: {:?}", phone.notifications);
        assert_eq!(phone.counter(), 0, "the counter moves for a proof that holds only");
        place += length;
    }
}

/// What was proven at the beginning must still be so when the phone signs.
#[test]
fn attack_amount_swap_between_proof_and_cryptogram() {
    let (issuer, terminal) = (trusting_issuer(), ProvingTerminal::new());
    // Amount, other amount, country, currency, date, type, unpredictable number: one byte of each.
    for place in [5, 10, 16, 18, 25, 28, 29, 33] {
        let mut phone = Phone::enrolled(&issuer);
        let ended = tap_altered(&mut phone, &issuer, &terminal, |command| {
            if command[1] == 0xAE {
                command[place] ^= 0x01;
            }
        });
        assert_eq!(ended.unwrap_err(), Ended::Refused(0xAE, REFUSED), "at {place}");
        // Nothing was signed, the person is warned, and the dialogue is over.
        assert!(proof_is_wrong(&phone), "at {place}: {:?}", phone.notifications);
        let honest =
            command(0x80, 0xAE, 0x80, 0x00, &cdol1_values(&Purchase::euros(1_500), [5; 4]));
        assert_eq!(phone.transmit(&honest).unwrap(), REFUSED);
    }
}

/// Without a proof as well: who begins with one amount and goes on with another gets no second chance.
#[test]
fn a_terminal_that_changes_its_mind_ends_the_dialogue() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    let kernel = Kernel::new(&issuer, now(), 5);
    let mut honest = Vec::new();
    let ended = kernel.tap(&Purchase::euros(1_500), |command| {
        let mut sent = command.to_vec();
        if command[1] == 0xAE {
            honest = command.to_vec();
            sent[10] ^= 0x01;
        }
        phone.transmit(&sent)
    });
    assert_eq!(ended.unwrap_err(), Ended::Refused(0xAE, REFUSED));
    assert!(matches!(
        phone.notifications[..],
        [Notification::MerchantProofWrong { name: None, .. }]
    ));
    assert_eq!(phone.transmit(&honest).unwrap(), REFUSED, "the amount it began with");
}

#[test]
fn attack_terminal_with_another_merchants_certificate() {
    let issuer = trusting_issuer();
    let (honest, thief) = (ProvingTerminal::new(), ProvingTerminal::of_another_merchant());
    let impostor = ProvingTerminal { certificate: honest.certificate, key: thief.key };
    let mut phone = Phone::enrolled(&issuer);
    let ended = tap(&mut phone, &issuer, &impostor).unwrap_err();
    assert_eq!(ended, Ended::Refused(OPTIONS, REFUSED));
    assert!(proof_is_wrong(&phone));
    assert_eq!(phone.counter(), 0);
}

fn refused_credential(phone: &mut Phone, issuer: &Issuer, terminal: &ProvingTerminal) {
    let ended = tap(phone, issuer, terminal).unwrap_err();
    assert_eq!(ended, Ended::Refused(PRESENT, REFUSED));
    // Whoever goes on all the same, without a proof, or tries another certificate, is refused.
    let honest = ProvingTerminal::new().certificate.encode();
    assert!(!phone.exchange(&command(0x80, PRESENT, 0, 0, &honest)).1.is_ok());
    let options = proven_options(&[0x11; 64], &Purchase::euros(100), [1; 4], &[0; 64]);
    assert_eq!(phone.exchange(&options).1.bytes(), REFUSED);
    // Nor does it come back as an anonymous one, or with another certificate, by selecting again.
    assert!(phone.exchange(&select(&AID)).1.is_ok());
    assert_eq!(phone.exchange(&options).1.bytes(), REFUSED);
    assert!(phone.exchange(&select(&AID)).1.is_ok());
    assert_eq!(phone.exchange(&command(0x80, PRESENT, 0, 0, &honest)).1.bytes(), REFUSED);
    assert_eq!(phone.counter(), 0);
    // In the next field nobody remembers.
    phone.card.deselect();
    assert!(phone.exchange(&select(&AID)).1.is_ok());
    assert!(phone.exchange(&options).1.bytes() != REFUSED);
}

#[test]
fn attack_revoked_terminal() {
    let mut issuer = trusting_issuer();
    issuer.merchant_trust.revoked_serials.push(HexBytes(SERIAL.to_vec()));
    let mut phone = Phone::enrolled(&issuer);
    refused_credential(&mut phone, &issuer, &ProvingTerminal::new());
    let fault = CredentialFault::Revoked;
    let news = Notification::MerchantRefused { token: issuer.token, name: SHOP.into(), fault };
    assert_eq!(phone.notifications, [news]);
}

#[test]
fn attack_expired_terminal() {
    let issuer = trusting_issuer();
    let mut phone = Phone::enrolled(&issuer);
    phone.now = now().plus_seconds(5_400);
    let expiry = now().plus_seconds(3_600);
    let expired = ProvingTerminal::certified_by(&merchant_ca(), "M00000000000042", 0x61, expiry);
    refused_credential(&mut phone, &issuer, &expired);
    let fault = CredentialFault::Expired;
    let news = Notification::MerchantRefused { token: issuer.token, name: SHOP.into(), fault };
    assert_eq!(phone.notifications, [news]);
}

/// A certificate that nobody we trust signed proves nothing and harms nothing.
#[test]
fn a_certificate_of_another_authority_counts_as_none() {
    let issuer = trusting_issuer();
    let mut phone = Phone::enrolled(&issuer);
    let thief = ProvingTerminal::of_another_merchant();
    let own_ca = ProvingTerminal::certified_by(
        &thief.key,
        "M00000000000042",
        0x61,
        now().plus_seconds(3_600),
    );
    assert_eq!(
        tap(&mut phone, &issuer, &own_ca).unwrap_err(),
        Ended::Refused(PRESENT, [0x6A, 0x88])
    );
    let kernel = Kernel::new(&issuer, now(), 5);
    let paid = kernel.tap(&Purchase::euros(100), |command| phone.transmit(command)).unwrap();
    assert_eq!(paid.data.merchant_identity, None);
}

/// Up to GET PROCESSING OPTIONS: what arrives for a certificate, and what the terminal says in `DF51` that it
/// has presented. `None` is nothing at all.
fn options_after(arrives: Option<&[u8]>, said: &[u8; 64]) -> (Phone, [u8; 2]) {
    let mut phone = Phone::enrolled(&trusting_issuer());
    assert!(phone.exchange(&select(&AID)).1.is_ok());
    if let Some(data) = arrives {
        assert!(!phone.exchange(&command(0x80, PRESENT, 0x00, 0x00, data)).1.is_ok());
    }
    let kernel_key = PrivateKey::from_bytes(&[0x77; 32]).unwrap().public_point();
    let options = proven_options(&kernel_key, &Purchase::euros(100), [1; 4], said);
    let status = phone.exchange(&options).1.bytes();
    (phone, status)
}

/// The phone may pay a terminal that proves nothing. Somebody spoils a good certificate on its way, or keeps it
/// back, to have the phone pay without the name: what arrived is not what the terminal says it presented.
#[test]
fn attack_certificate_spoiled_on_the_way() {
    let presented = ProvingTerminal::new().certificate.encode();
    let mut spoiled = presented.clone();
    *spoiled.last_mut().unwrap() ^= 0x01;
    let other = ProvingTerminal::certified_by(
        &ProvingTerminal::of_another_merchant().key,
        "M00000000000042",
        0x61,
        now().plus_seconds(3_600),
    );
    let other = other.certificate.encode();
    let said = tapfer_emv::merchant::refused_credential(&presented);
    for arrives in [None, Some(&spoiled[..]), Some(&other), Some(&presented[..40])] {
        for said in [&said, &[0; 64]] {
            // Nothing arrived and nothing was presented: an unproven terminal.
            if arrives.is_none() && *said == [0; 64] {
                continue;
            }
            let (phone, status) = options_after(arrives, said);
            assert_eq!(status, REFUSED, "{arrives:02X?}");
            assert!(proof_is_wrong(&phone));
            assert_eq!(phone.counter(), 0, "nothing was counted");
        }
    }
}

/// A terminal of another platform is paid unproven, if it says what the phone could not believe.
#[test]
fn a_terminal_whose_authority_is_unknown_is_paid_unproven() {
    let stranger = ProvingTerminal::certified_by(
        &ProvingTerminal::of_another_merchant().key,
        "M00000000000042",
        0x61,
        now().plus_seconds(3_600),
    );
    let presented = stranger.certificate.encode();
    let said = tapfer_emv::merchant::refused_credential(&presented);
    let (phone, status) = options_after(Some(&presented), &said);
    assert_eq!((status, phone.counter()), ([0x90, 0x00], 1));
}

#[test]
fn attack_replayed_proof() {
    let (issuer, terminal) = (trusting_issuer(), ProvingTerminal::new());
    let mut phone = Phone::enrolled(&issuer);
    let mut recorded = Vec::new();
    let kernel = Kernel { terminal: Some(&terminal), ..Kernel::new(&issuer, now(), 5) };
    kernel
        .tap(&Purchase::euros(1_500), |command| {
            recorded.push(command.to_vec());
            phone.transmit(command)
        })
        .unwrap();
    phone.card.deselect();
    phone.notifications.clear();
    let counter = phone.counter();
    // Directory, application and credential are answered; the proof is over the nonce of before.
    for command in &recorded[..3] {
        assert!(phone.exchange(command).1.is_ok());
    }
    assert_eq!(phone.exchange(&recorded[3]).1.bytes(), REFUSED);
    assert!(proof_is_wrong(&phone));
    assert_eq!(phone.counter(), counter);
}

/// One nonce, one GET PROCESSING OPTIONS: a wrong proof can't be followed by a better one, or by none.
#[test]
fn a_nonce_is_good_for_one_try() {
    let (issuer, terminal) = (trusting_issuer(), ProvingTerminal::new());
    let mut phone = Phone::enrolled(&issuer);
    let ended = tap_altered(&mut phone, &issuer, &terminal, |command| {
        if command[1] == OPTIONS {
            let proof = command.len() - PROOF_AND_LE;
            command[proof..proof + 64].fill(0);
        }
    });
    assert_eq!(ended.unwrap_err(), Ended::Refused(OPTIONS, REFUSED));
    let options = proven_options(&[0x11; 64], &Purchase::euros(100), [1; 4], &[0; 64]);
    assert_eq!(phone.exchange(&options).1.bytes(), REFUSED);
}

#[test]
fn a_proof_without_a_credential_is_refused() {
    let mut phone = Phone::enrolled(&trusting_issuer());
    assert!(phone.exchange(&select(&AID)).1.is_ok());
    let options = proven_options(&[0x11; 64], &Purchase::euros(100), [1; 4], &[0x22; 64]);
    assert_eq!(phone.exchange(&options).1.bytes(), REFUSED);
    assert!(proof_is_wrong(&phone));
}

#[test]
fn a_policy_may_demand_the_proof() {
    let (issuer, terminal) = (trusting_issuer(), ProvingTerminal::new());
    let mut phone = Phone::enrolled(&issuer);
    let wallet = phone.card.wallet_mut();
    let request = wallet.replenish_request(issuer.token, &mut TestRng(3));
    let mut payload = issuer.payload(&request, now());
    issuer.set_policy(&mut payload, |policy| policy.merchant_proof = MerchantProofRule::Always);
    let sealed = seal(wallet, issuer.token, &payload);
    let _snapshot = wallet.accept(issuer.token, &sealed, now()).unwrap();

    let kernel = Kernel::new(&issuer, now(), 5);
    let declined = kernel.tap(&Purchase::euros(1_500), |command| phone.transmit(command)).unwrap();
    assert_eq!(declined.cryptogram_information, 0x00);
    assert!(matches!(
        phone.notifications[0],
        Notification::PaymentDeclined { reason: DeclineReason::MerchantUnproven, .. }
    ));
    assert_eq!(tap(&mut phone, &issuer, &terminal).unwrap().cryptogram_information, 0x80);
}

/// A reader that guesses the number of another terminal can take a cryptogram in advance. The proof
/// binds number and terminal: what the phone signs names the terminal that had it proven.
#[test]
fn attack_pre_played_unpredictable_number() {
    let issuer = trusting_issuer();
    let thief = ProvingTerminal::of_another_merchant();
    let mut phone = Phone::enrolled(&issuer);
    let stolen = tap(&mut phone, &issuer, &thief).unwrap();
    let victim = ProvingTerminal::new().certificate.identity();
    assert_eq!(stolen.data.merchant_identity, Some(thief.certificate.identity()));
    assert_ne!(stolen.data.merchant_identity, Some(victim));
    // And the same commands get no second cryptogram from the phone.
    let again =
        command(0x80, 0xAE, 0x80, 0x00, &cdol1_values(&Purchase::euros(1_500), [0, 0, 0, 5]));
    assert_eq!(phone.exchange(&again).1.bytes(), REFUSED);
}
