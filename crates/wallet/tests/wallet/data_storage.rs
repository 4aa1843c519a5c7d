//! Data envelopes: who may read and write them, and what is kept when a tap is torn.

use tapfer_payment_types::data_storage::DataStorageRules;
use tapfer_wallet::{Notification, Wallet};

use crate::issuer::{Issuer, now, seal};
use crate::kernel::{ASK_DECLINE, Ended, Kernel, Purchase};
use crate::phone::Phone;
use crate::random::TestRng;

const READ: u8 = 0x32;
const WRITE: u8 = 0x34;

/// A phone whose issuer opens envelopes: 1 and 2 to read, 1 and 10 to write.
fn opened(issuer: &Issuer) -> Phone {
    let mut wallet = Wallet::new(&mut TestRng(1));
    let request = wallet.replenish_request(issuer.token, &mut TestRng(3));
    let mut payload = issuer.payload(&request, now());
    issuer.set_policy(&mut payload, |policy| {
        policy.data_storage = DataStorageRules { readable: vec![1, 2], writable: vec![1, 10] };
    });
    let sealed = seal(&wallet, issuer.token, &payload);
    let _snapshot = wallet.accept(issuer.token, &sealed, now()).unwrap();
    Phone::with(wallet)
}

fn envelopes(wallet: &Wallet) -> Vec<(u8, Vec<u8>)> {
    let token = wallet.tokens().next().unwrap();
    token.data_envelopes().map(|(number, content)| (number, content.to_vec())).collect()
}

fn writer<'a>(issuer: &'a Issuer, writes: &[(u8, &[u8])]) -> Kernel<'a> {
    let writes = writes.iter().map(|(number, content)| (*number, content.to_vec())).collect();
    Kernel { writes, ..Kernel::new(issuer, now(), 3) }
}

/// The kernel of the tests checks every MAC, and sends the commands that the golden values describe.
#[test]
fn what_one_terminal_writes_the_next_one_reads() {
    let issuer = Issuer::new();
    let mut phone = opened(&issuer);
    let kernel = writer(&issuer, &[(1, b"ticket 7"), (10, &[0xAB; 243])]);
    kernel.tap(&Purchase::euros(100), |command| phone.transmit(command)).unwrap();
    let written = |envelope| Notification::DataWritten { token: issuer.token, envelope };
    assert_eq!(phone.notifications[1..], [written(1), written(10)]);
    phone.restart();
    let kernel = Kernel { reads: vec![1, 2], ..Kernel::new(&issuer, now(), 4) };
    let tap = kernel.tap(&Purchase::euros(100), |command| phone.transmit(command)).unwrap();
    assert_eq!(tap.read, [b"ticket 7".to_vec(), Vec::new()]);
    assert_eq!(envelopes(&phone.stored())[1], (10, vec![0xAB; 243]));

    // The person may throw it all away.
    phone.card.wallet_mut().erase_data_envelopes(issuer.token).unwrap();
    assert!(envelopes(phone.card.wallet()).is_empty());
}

#[test]
fn an_envelope_that_is_shut_is_neither_read_nor_written() {
    let issuer = Issuer::new();
    let not_found = [0x6A, 0x88];
    for number in [3, 10] {
        let kernel = Kernel { reads: vec![number], ..Kernel::new(&issuer, now(), 3) };
        let mut phone = opened(&issuer);
        let ended = kernel.tap(&Purchase::euros(100), |command| phone.transmit(command));
        assert_eq!(ended.unwrap_err(), Ended::Refused(READ, not_found), "{number}");
    }
    let mut phone = opened(&issuer);
    let ended =
        writer(&issuer, &[(2, b"x")]).tap(&Purchase::euros(100), |command| phone.transmit(command));
    assert_eq!(ended.unwrap_err(), Ended::Refused(WRITE, not_found));
    assert!(envelopes(&phone.stored()).is_empty());
    // Without rules everything is shut.
    let mut phone = Phone::enrolled(&issuer);
    let ended =
        writer(&issuer, &[(1, b"x")]).tap(&Purchase::euros(100), |command| phone.transmit(command));
    assert_eq!(ended.unwrap_err(), Ended::Refused(WRITE, not_found));
}

#[test]
fn a_declined_payment_leaves_nothing_behind() {
    let issuer = Issuer::new();
    let mut phone = opened(&issuer);
    let declined = Purchase { ask: ASK_DECLINE, ..Purchase::euros(100) };
    let ended = writer(&issuer, &[(1, b"x")]).tap(&declined, |command| phone.transmit(command));
    assert_eq!(ended.unwrap_err(), Ended::Refused(WRITE, [0x69, 0x85]));
    assert!(envelopes(&phone.stored()).is_empty());
}

#[test]
fn too_long_an_envelope_is_refused() {
    let issuer = Issuer::new();
    let mut phone = opened(&issuer);
    let ended = writer(&issuer, &[(1, &[1; 244])])
        .tap(&Purchase::euros(100), |command| phone.transmit(command));
    assert_eq!(ended.unwrap_err(), Ended::Refused(WRITE, [0x6A, 0x80]));
    assert!(envelopes(&phone.stored()).is_empty());
}

/// Torn off after every command and every effect: what was acknowledged is kept, and an envelope is the
/// old one or the new one.
#[test]
fn an_acknowledged_write_survives() {
    let issuer = Issuer::new();
    let contents: [(u8, &[u8]); 2] = [(1, b"new one"), (10, b"new ten")];
    for lost_after in 0..20 {
        let mut phone = opened(&issuer);
        let mut acknowledged = 0;
        phone.power = Some(lost_after);
        let _ = writer(&issuer, &contents).tap(&Purchase::euros(100), |command| {
            let answer = phone.transmit(command)?;
            acknowledged += usize::from(command[1] == WRITE);
            Some(answer)
        });
        phone.restart();
        let kept = envelopes(phone.card.wallet());
        assert!(kept.len() >= acknowledged, "{lost_after}: {kept:?}");
        for (place, (number, content)) in kept.iter().enumerate() {
            assert_eq!((*number, content.as_slice()), contents[place], "{lost_after}");
        }
    }
}
