//! SELECT: the directory of payment applications (PPSE), then one application (EMV Book B 3.3,
//! Book 1 11.3).

use alloc::vec::Vec;

use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::profile::CARD_QUALIFIER;
use tapfer_emv::status::StatusWord;
use tapfer_emv::{tags, tlv};

use super::Refusal;
use super::dialogue::{Application, Phase};
use super::merchant::Credential;
use crate::token::Token;
use crate::wallet::Wallet;

/// Name of the directory of contactless payment applications.
const PPSE: &[u8] = b"2PAY.SYS.DDF01";
/// Kernel 8.
const KERNEL_IDENTIFIER: [u8; 1] = [0x08];
/// P1: select by name.
const BY_NAME: u8 = 0x04;
/// P2: first or only occurrence.
const FIRST: u8 = 0x00;
/// P2: next occurrence.
const NEXT: u8 = 0x02;
/// ISO/IEC 7816-4, 12.2.3: a partial name has at least the length of an RID.
const SHORTEST_NAME: usize = 5;
/// So many entries still fit a short answer.
const MAXIMUM_DIRECTORY_ENTRIES: usize = 5;

/// Selects the directory, or the application whose name is, or begins with, the command's data.
pub(super) fn select(
    wallet: &Wallet,
    phase: &Phase,
    command: &CommandApdu,
) -> Result<(Phase, Vec<u8>), Refusal> {
    if command.p1 != BY_NAME || !matches!(command.p2, FIRST | NEXT) {
        return Err(StatusWord::INCORRECT_P1_P2.into());
    }
    if command.data == PPSE && command.p2 == FIRST {
        let directory = directory(wallet).ok_or(StatusWord::FILE_NOT_FOUND)?;
        return Ok((Phase::Idle, directory));
    }
    let token = find(wallet, phase, command).ok_or(StatusWord::FILE_NOT_FOUND)?;
    Ok((
        Phase::Selected(Application { token: token.id(), credential: Credential::None }),
        application(token),
    ))
}

/// The first token whose name fits, or the next one after the selected.
fn find<'w>(wallet: &'w Wallet, phase: &Phase, command: &CommandApdu) -> Option<&'w Token> {
    if command.data.len() < SHORTEST_NAME {
        return None;
    }
    let mut candidates =
        wallet.tokens().filter(|token| token.profile().aid.starts_with(&command.data));
    match (command.p2, phase) {
        (FIRST, _) => candidates.next(),
        (_, Phase::Selected(selected)) => {
            candidates.find(|token| token.id() == selected.token)?;
            candidates.next()
        }
        _ => None,
    }
}

/// FCI of the directory; `None` if the wallet is empty. One entry for each application identifier,
/// the default token's first and with the highest priority.
fn directory(wallet: &Wallet) -> Option<Vec<u8>> {
    let mut listed: Vec<&Token> = Vec::new();
    for token in wallet.tokens() {
        if !listed.iter().any(|other| other.profile().aid == token.profile().aid) {
            listed.push(token);
        }
    }
    let mut entries = Vec::new();
    for (token, priority) in listed.iter().take(MAXIMUM_DIRECTORY_ENTRIES).zip(1_u8..) {
        tlv::write(&mut entries, tags::DIRECTORY_ENTRY, &directory_entry(token, priority));
    }
    let discretionary = tlv::encode(tags::FCI_ISSUER_DISCRETIONARY_DATA, &entries);
    (!listed.is_empty()).then(|| file_control_information(PPSE, &discretionary))
}

fn directory_entry(token: &Token, priority: u8) -> Vec<u8> {
    let mut entry = Vec::new();
    tlv::write(&mut entry, tags::APPLICATION_IDENTIFIER_CARD, &token.profile().aid);
    tlv::write(&mut entry, tags::APPLICATION_LABEL, &token.profile().label);
    tlv::write(&mut entry, tags::APPLICATION_PRIORITY_INDICATOR, &[priority]);
    tlv::write(&mut entry, tags::KERNEL_IDENTIFIER, &KERNEL_IDENTIFIER);
    entry
}

/// FCI of an application: label, PDOL and card qualifier.
fn application(token: &Token) -> Vec<u8> {
    let profile = token.profile();
    let qualifier = tlv::encode(tags::CARD_QUALIFIER, &CARD_QUALIFIER);
    let mut proprietary = Vec::new();
    tlv::write(&mut proprietary, tags::APPLICATION_LABEL, &profile.label);
    tlv::write(&mut proprietary, tags::PDOL, &profile.pdol);
    tlv::write(&mut proprietary, tags::FCI_ISSUER_DISCRETIONARY_DATA, &qualifier);
    file_control_information(&profile.aid, &proprietary)
}

fn file_control_information(name: &[u8], proprietary: &[u8]) -> Vec<u8> {
    let mut content = tlv::encode(tags::DF_NAME, name);
    tlv::write(&mut content, tags::FCI_PROPRIETARY_TEMPLATE, proprietary);
    tlv::encode(tags::FCI_TEMPLATE, &content)
}
