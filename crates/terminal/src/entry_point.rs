//! Entry point: what a card offers, and which of it the terminal tries first (Book B 3.3).

use alloc::string::String;
use alloc::vec::Vec;

use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Reader, Tlv};

use crate::kernel8::KernelConfiguration;

/// Name of the directory of contactless applications (Book B 3.3.2.2).
pub const PROXIMITY_PAYMENT_ENVIRONMENT: &[u8] = b"2PAY.SYS.DDF01";
/// The kernel this terminal has (Book B table 3-6).
const KERNEL_8: u8 = 0x08;
/// Priority bits of the application priority indicator.
const PRIORITY: u8 = 0x0F;

/// An application that card and terminal both have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The card's AID, which may be longer than the terminal's.
    pub identifier: Vec<u8>,
    /// Its name, if the card gives one that can be shown.
    pub label: Option<String>,
    /// Which of the terminal's configurations it goes with.
    pub(crate) configuration: usize,
    priority: u8,
}

/// Why there is no application to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryPointError {
    /// The directory is no well-formed FCI template.
    #[error("the card's directory could not be read")]
    Malformed,
    /// Nothing in common.
    #[error("the card has no application that this terminal takes")]
    NoCommonApplication,
}

/// SELECT of the directory.
#[must_use]
pub fn select_directory() -> CommandApdu {
    select(PROXIMITY_PAYMENT_ENVIRONMENT)
}

/// SELECT of an application by its name.
#[must_use]
pub fn select(name: &[u8]) -> CommandApdu {
    CommandApdu::new(0x00, 0xA4, 0x04, 0x00, name.to_vec())
}

/// The applications both sides have, the one to try first in front (Book B 3.3.2).
///
/// Priority 1 comes before 2; none at all comes last; equals stay in the card's order.
///
/// # Errors
/// [`EntryPointError`]: there is nothing to try.
pub fn candidates(
    directory: &[u8],
    configurations: &[KernelConfiguration],
) -> Result<Vec<Candidate>, EntryPointError> {
    let path =
        [tags::FCI_TEMPLATE, tags::FCI_PROPRIETARY_TEMPLATE, tags::FCI_ISSUER_DISCRETIONARY_DATA];
    let entries = tlv::find_path(directory, &path).map_err(|_| EntryPointError::Malformed)?;
    let mut found = Vec::new();
    for object in Reader::new(entries.unwrap_or_default()) {
        let object = object.map_err(|_| EntryPointError::Malformed)?;
        if object.tag == tags::DIRECTORY_ENTRY {
            // A broken entry is no reason not to take another one (Book B 3.3.2.5).
            found.extend(candidate(&object, configurations));
        }
    }
    if found.is_empty() {
        return Err(EntryPointError::NoCommonApplication);
    }
    found.sort_by_key(|candidate: &Candidate| match candidate.priority {
        0 => PRIORITY.saturating_add(1),
        priority => priority,
    });
    Ok(found)
}

fn candidate(entry: &Tlv<'_>, configurations: &[KernelConfiguration]) -> Option<Candidate> {
    let value = |tag| tlv::find(entry.value, tag);
    let identifier = value(tags::APPLICATION_IDENTIFIER_CARD).ok()??;
    if !(5..=16).contains(&identifier.len())
        || !is_for_kernel_8(value(tags::KERNEL_IDENTIFIER).ok()?)
    {
        return None;
    }
    let configuration = configurations
        .iter()
        .position(|known| identifier.starts_with(&known.application_identifier))?;
    let priority = match value(tags::APPLICATION_PRIORITY_INDICATOR).ok()? {
        Some([byte]) => byte & PRIORITY,
        _ => 0,
    };
    let label = value(tags::APPLICATION_LABEL).ok()?.and_then(printable);
    Some(Candidate { identifier: identifier.to_vec(), label, configuration, priority })
}

/// Without an identifier, or with zero, the kernel is the terminal's choice (Book B 3.3.2.5).
fn is_for_kernel_8(identifier: Option<&[u8]>) -> bool {
    match identifier {
        None | Some([]) => true,
        Some([first, ..]) => *first == 0 || *first == KERNEL_8,
    }
}

/// Printable ASCII as text: what a card says is shown to people, so nothing else passes.
pub(crate) fn printable(bytes: &[u8]) -> Option<String> {
    let is_printable = |byte: &u8| (0x20..0x7F).contains(byte);
    if bytes.is_empty() || !bytes.iter().all(is_printable) {
        return None;
    }
    core::str::from_utf8(bytes).ok().map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapfer_payment_types::{Currency, Money};

    fn configurations() -> Vec<KernelConfiguration> {
        let limit = Money::new(5000, Currency::EUR);
        [&[0xF0, 0x54, 0x41, 0x50, 0x46][..], &[0xF0, 0, 0, 0, 1]]
            .map(|aid| KernelConfiguration::attended(aid, 276, limit).unwrap())
            .into()
    }

    fn entry(aid: &[u8], label: &[u8], priority: u8, kernel: &[u8]) -> Vec<u8> {
        let mut value = tlv::encode(tags::APPLICATION_IDENTIFIER_CARD, aid);
        tlv::write(&mut value, tags::APPLICATION_LABEL, label);
        tlv::write(&mut value, tags::APPLICATION_PRIORITY_INDICATOR, &[priority]);
        tlv::write(&mut value, tags::KERNEL_IDENTIFIER, kernel);
        tlv::encode(tags::DIRECTORY_ENTRY, &value)
    }

    fn directory(entries: &[Vec<u8>]) -> Vec<u8> {
        let discretionary = tlv::encode(tags::FCI_ISSUER_DISCRETIONARY_DATA, &entries.concat());
        let mut fci = tlv::encode(tags::DF_NAME, PROXIMITY_PAYMENT_ENVIRONMENT);
        fci.extend(tlv::encode(tags::FCI_PROPRIETARY_TEMPLATE, &discretionary));
        tlv::encode(tags::FCI_TEMPLATE, &fci)
    }

    #[test]
    fn the_directory_is_selected_by_name() {
        let command = select_directory().encode().unwrap();
        assert_eq!(command, *b"\x00\xA4\x04\x00\x0E2PAY.SYS.DDF01\x00");
    }

    #[test]
    fn priorities_order_the_candidates() {
        let ours = [0xF0, 0x54, 0x41, 0x50, 0x46, 0x45, 0x52, 0x01];
        let directory = directory(&[
            entry(&[0xF0, 0, 0, 0, 1, 9], b"LAST", 0x00, &[0x08]),
            entry(&[0xA0, 0, 0, 0, 3, 0x10], b"OTHER SCHEME", 1, &[0x03]),
            entry(&[0xF0, 0, 0, 0, 1, 2], b"SECOND", 0x82, &[0x00]),
            entry(&ours, b"TAPFER", 0x01, &[0x08]),
        ]);
        let found = candidates(&directory, &configurations()).unwrap();
        let labels: Vec<_> = found.iter().map(|one| one.label.as_deref().unwrap()).collect();
        assert_eq!(labels, ["TAPFER", "SECOND", "LAST"]);
        assert_eq!(found[0].identifier, ours);
        assert_eq!((found[0].configuration, found[1].configuration), (0, 1));
    }

    #[test]
    fn nothing_in_common() {
        let other = directory(&[entry(&[0xF0, 0, 0, 0, 1, 2], b"MAESTRO", 1, &[0x02])]);
        let short = directory(&[entry(&[0xF0, 0, 0, 0], b"SHORT", 1, &[0x08])]);
        for directory in [other, short, directory(&[])] {
            let result = candidates(&directory, &configurations());
            assert_eq!(result, Err(EntryPointError::NoCommonApplication));
        }
        assert_eq!(candidates(&[0x6F, 5], &configurations()), Err(EntryPointError::Malformed));
    }

    #[test]
    fn a_label_that_cannot_be_shown_is_left_out() {
        let directory = directory(&[entry(&[0xF0, 0, 0, 0, 1, 2], b"\x1B[2J", 1, &[0x08])]);
        assert_eq!(candidates(&directory, &configurations()).unwrap()[0].label, None);
    }
}
