//! Entry point: what a card offers, and which of it the terminal tries first (Book B 3.1 and 3.3).
//!
//! Where a tap starts (Book B 3.5):
//!
//! | start | what happens | here |
//! |---|---|---|
//! | A | a new amount: pre-processing | [`Terminal::arm`](crate::Terminal::arm) |
//! | B | the card is presented (again): pre-processing is kept | [`Terminal::tap`](crate::Terminal::tap), armed still |
//! | C | Select Next: combination selection without what was tried | inside a [`Tap`](crate::Tap) |
//! | D | a kernel is activated again with the issuer's answer | never: no kernel here asks for online response data |

mod preprocessing;

pub use preprocessing::{Application, Indicators};

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Reader, Tlv};
use tapfer_payment_types::Money;

/// Name of the directory of contactless applications (Book B 3.3.2.2).
pub const PROXIMITY_PAYMENT_ENVIRONMENT: &[u8] = b"2PAY.SYS.DDF01";
/// The kernel this terminal has (Book B table 3-6).
const KERNEL_8: u8 = 0x08;
/// Priority bits of the application priority indicator.
const PRIORITY: u8 = 0x0F;
/// Bits of the first byte of a kernel identifier: of which kind it is.
const KERNEL_KIND: u8 = 0xC0;
/// A kernel of EMVCo's or, in three bytes, of a domestic scheme.
const INTERNATIONAL: u8 = 0x00;
/// The longest name SELECT carries (ISO/IEC 7816-4).
const LONGEST_NAME: usize = 16;
/// Kernels that cards without a kernel identifier mean, by the beginning of their AID (Book B table
/// 3-6).
const DEFAULT_KERNELS: [([u8; 5], u8); 6] = [
    ([0xA0, 0x00, 0x00, 0x00, 0x03], 0x03),
    ([0xA0, 0x00, 0x00, 0x00, 0x04], 0x02),
    ([0xA0, 0x00, 0x00, 0x00, 0x25], 0x04),
    ([0xA0, 0x00, 0x00, 0x00, 0x65], 0x05),
    ([0xA0, 0x00, 0x00, 0x01, 0x52], 0x06),
    ([0xA0, 0x00, 0x00, 0x03, 0x33], 0x07),
];

/// An application that card and terminal both have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The card's AID, which may be longer than the terminal's.
    pub identifier: Vec<u8>,
    /// Its name, if the card gives one that can be shown.
    pub label: Option<String>,
    /// What SELECT names: the AID, and the card's `9F29` behind it if the terminal has extended selection.
    pub(crate) selected_name: Vec<u8>,
    /// Which of the terminal's applications it goes with.
    pub(crate) application: usize,
    priority: u8,
}

/// An application of the card that is not tried, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The card's AID; empty if it is none.
    pub identifier: Vec<u8>,
    /// Its name, if it can be shown.
    pub label: Option<String>,
    /// Why.
    pub reason: SkipReason,
}

/// Why an application of the card is not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// The entry cannot be read, or its AID or kernel identifier is none.
    #[error("its directory entry cannot be read")]
    Malformed,
    /// The terminal does not take it.
    #[error("the terminal does not take it")]
    NotTaken,
    /// It wants a kernel that the terminal does not have.
    #[error("it needs kernel {0:02X}, this terminal has kernel 08")]
    OtherKernel(u8),
    /// Not for this amount: see [`Indicators::not_allowed`].
    #[error("the terminal does not take it for this amount")]
    Amount,
    /// AID and extended selection together are longer than a name can be.
    #[error("its name with the extended selection is too long")]
    NameTooLong,
}

/// Why there is no application to try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryPointError {
    /// The directory is no well-formed FCI template.
    #[error("the card's directory could not be read")]
    Malformed,
    /// Nothing in common.
    #[error("the card has no application that this terminal takes{}", in_words(.0))]
    NoCommonApplication(Vec<Skipped>),
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => f.write_str(label)?,
            None => self.identifier.iter().try_for_each(|byte| write!(f, "{byte:02X}"))?,
        }
        write!(f, ": {}", self.reason)
    }
}

fn in_words(skipped: &[Skipped]) -> String {
    if skipped.is_empty() {
        return String::new();
    }
    let each: Vec<String> = skipped.iter().map(ToString::to_string).collect();
    format!(" ({})", each.join("; "))
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
    applications: &[Application],
    amount: Money,
) -> Result<Vec<Candidate>, EntryPointError> {
    let path =
        [tags::FCI_TEMPLATE, tags::FCI_PROPRIETARY_TEMPLATE, tags::FCI_ISSUER_DISCRETIONARY_DATA];
    let entries = tlv::find_path(directory, &path).map_err(|_| EntryPointError::Malformed)?;
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for object in Reader::new(entries.unwrap_or_default()) {
        let object = object.map_err(|_| EntryPointError::Malformed)?;
        if object.tag == tags::DIRECTORY_ENTRY {
            // A broken entry is no reason not to take another one (Book B 3.3.2.5).
            match candidate(&object, applications, amount) {
                Ok(candidate) => found.push(candidate),
                Err(skip) => skipped.push(skip),
            }
        }
    }
    if found.is_empty() {
        return Err(EntryPointError::NoCommonApplication(skipped));
    }
    found.sort_by_key(|candidate: &Candidate| match candidate.priority {
        0 => PRIORITY.saturating_add(1),
        priority => priority,
    });
    Ok(found)
}

fn candidate(
    entry: &Tlv<'_>,
    applications: &[Application],
    amount: Money,
) -> Result<Candidate, Skipped> {
    let value = |tag| tlv::find(entry.value, tag).ok().flatten();
    let identifier = value(tags::APPLICATION_IDENTIFIER_CARD).unwrap_or_default();
    let label = value(tags::APPLICATION_LABEL).and_then(printable);
    let skip = |reason| Skipped { identifier: identifier.to_vec(), label: label.clone(), reason };
    let is_readable = tlv::parse(entry.value).is_ok();
    if !is_readable || !(5..=LONGEST_NAME).contains(&identifier.len()) {
        return Err(skip(SkipReason::Malformed));
    }
    let kernel = requested_kernel(identifier, value(tags::KERNEL_IDENTIFIER)).map_err(skip)?;
    if kernel != 0 && kernel != KERNEL_8 {
        return Err(skip(SkipReason::OtherKernel(kernel)));
    }
    // The terminal's AID is the card's, or its beginning. The longest one knows the card best.
    let known = applications
        .iter()
        .enumerate()
        .filter(|(_, known)| identifier.starts_with(&known.kernel.application_identifier));
    let (application, known) = known
        .max_by_key(|(_, known)| known.kernel.application_identifier.len())
        .ok_or_else(|| skip(SkipReason::NotTaken))?;
    if known.pre_process(amount).not_allowed.is_some() {
        return Err(skip(SkipReason::Amount));
    }
    let mut selected_name = identifier.to_vec();
    if known.extended_selection {
        selected_name.extend_from_slice(value(tags::EXTENDED_SELECTION).unwrap_or_default());
    }
    if selected_name.len() > LONGEST_NAME {
        return Err(skip(SkipReason::NameTooLong));
    }
    let priority = match value(tags::APPLICATION_PRIORITY_INDICATOR) {
        Some([byte]) => byte & PRIORITY,
        _ => 0,
    };
    Ok(Candidate { identifier: identifier.to_vec(), label, selected_name, application, priority })
}

/// The kernel an entry asks for; 0 leaves it to the terminal (Book B 3.3.2.5, table 3-7). A domestic
/// identifier (bits 8 and 7) has three bytes or more; whatever it is, it is not Kernel 8.
fn requested_kernel(aid: &[u8], identifier: Option<&[u8]>) -> Result<u8, SkipReason> {
    match identifier {
        None | Some([]) => {
            let default = DEFAULT_KERNELS.iter().find(|(beginning, _)| aid.starts_with(beginning));
            Ok(default.map_or(0, |(_, kernel)| *kernel))
        }
        Some([first, ..]) if first & KERNEL_KIND == INTERNATIONAL => Ok(*first),
        Some([first, _, _, ..]) => Ok(*first),
        Some(_) => Err(SkipReason::Malformed),
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
mod tests;
