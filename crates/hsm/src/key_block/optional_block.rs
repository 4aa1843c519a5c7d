//! Optional blocks of a key block's header: identifier, length, and text.

use super::KeyBlockError;

/// Fills the header up to whole cipher blocks; carries nothing.
const PADDING: &str = "PB";
/// Identifier and length in the short form.
const SHORT_OVERHEAD: usize = 4;
/// Identifier, `00`, `02`, and a length of four digits.
const EXTENDED_OVERHEAD: usize = 10;

/// What a sender says of a key beside the fixed header, such as `KS` (key serial number), `KC` (check
/// value), `TS` (time).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionalBlock {
    identifier: String,
    data: String,
}

impl OptionalBlock {
    /// A block of two letters or digits and printable ASCII text.
    ///
    /// # Errors
    /// [`KeyBlockError::Field`] for another identifier, for `PB` (which is added where needed), and for
    /// text that is not printable or too long for any key block.
    pub fn new(identifier: &str, data: &str) -> Result<Self, KeyBlockError> {
        let refused =
            |field, value: &str| Err(KeyBlockError::Field { field, value: value.to_owned() });
        if identifier == PADDING || !is_identifier(identifier) {
            return refused("optional block identifier", identifier);
        }
        if data.len() > super::MAXIMUM_LENGTH || !data.bytes().all(is_printable) {
            return refused("optional block content of", identifier);
        }
        Ok(Self { identifier: identifier.to_owned(), data: data.to_owned() })
    }

    /// Two letters or digits.
    #[must_use]
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// Its text.
    #[must_use]
    pub fn data(&self) -> &str {
        &self.data
    }

    fn encode(&self) -> String {
        let Self { identifier, data } = self;
        match u8::try_from(data.len().saturating_add(SHORT_OVERHEAD)) {
            Ok(length) => format!("{identifier}{length:02X}{data}"),
            Err(_) => {
                let length = data.len().saturating_add(EXTENDED_OVERHEAD);
                format!("{identifier}0002{length:04X}{data}")
            }
        }
    }
}

/// The blocks one behind the other, with padding to a multiple of `multiple`, and how many there are then.
pub(super) fn encode(blocks: &[OptionalBlock], multiple: usize) -> (usize, String) {
    let text: String = blocks.iter().map(OptionalBlock::encode).collect();
    if text.len().is_multiple_of(multiple) {
        return (blocks.len(), text);
    }
    let with_overhead = text.len().saturating_add(SHORT_OVERHEAD);
    let missing = with_overhead.next_multiple_of(multiple).saturating_sub(with_overhead);
    let length = missing.saturating_add(SHORT_OVERHEAD);
    (blocks.len().saturating_add(1), format!("{text}{PADDING}{length:02X}{}", "0".repeat(missing)))
}

/// Reads `count` blocks from the start of `text`: they, without padding, and the rest of the text.
pub(super) fn parse(
    mut text: &str,
    count: usize,
) -> Result<(Vec<OptionalBlock>, &str), KeyBlockError> {
    let mut blocks = Vec::new();
    for number in 1..=count {
        let wrong = |why| KeyBlockError::OptionalBlock { number, why };
        let (block, rest) = parse_one(text).map_err(wrong)?;
        text = rest;
        if block.identifier == PADDING {
            continue;
        }
        if blocks.iter().any(|other: &OptionalBlock| other.identifier == block.identifier) {
            return Err(wrong("has the identifier of another"));
        }
        blocks.push(block);
    }
    Ok((blocks, text))
}

fn parse_one(text: &str) -> Result<(OptionalBlock, &str), &'static str> {
    const CUT_SHORT: &str = "is cut short";
    let (identifier, rest) = text.split_at_checked(2).ok_or(CUT_SHORT)?;
    if !is_identifier(identifier) {
        return Err("has no identifier of two letters or digits");
    }
    let (length, rest) = number(rest, 2).ok_or("has no length")?;
    let (length, overhead, rest) = if length == 0 {
        // Length of length in bytes, then the length itself.
        let (digits, rest) = number(rest, 2).ok_or("has no length")?;
        if digits != 2 {
            return Err("has a length that is not written in four digits");
        }
        let (length, rest) = number(rest, 4).ok_or("has no length")?;
        (length, EXTENDED_OVERHEAD, rest)
    } else {
        (length, SHORT_OVERHEAD, rest)
    };
    let length = length.checked_sub(overhead).ok_or("is shorter than its own beginning")?;
    let (data, rest) = rest.split_at_checked(length).ok_or(CUT_SHORT)?;
    Ok((OptionalBlock { identifier: identifier.to_owned(), data: data.to_owned() }, rest))
}

/// A number in `digits` capital hexadecimal digits, and what follows.
fn number(text: &str, digits: usize) -> Option<(usize, &str)> {
    let (digits, rest) = text.split_at_checked(digits)?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
    if !digits.bytes().all(is_digit) {
        return None;
    }
    Some((usize::from_str_radix(digits, 16).ok()?, rest))
}

fn is_identifier(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

pub(super) const fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7E)
}
