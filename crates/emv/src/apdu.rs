//! Command and response APDUs, short and extended (ISO/IEC 7816-4, 5.1).

use alloc::vec::Vec;
use core::fmt;

use crate::status::StatusWord;

/// The longest data field of a short command.
const SHORT_DATA_MAXIMUM: usize = 255;
/// The longest data field of an extended command.
const EXTENDED_DATA_MAXIMUM: usize = 65_535;
/// The longest answer a short command can ask for: `00`.
const SHORT_EXPECTED_MAXIMUM: u32 = 256;
/// The longest answer an extended command can ask for: `0000`.
const EXTENDED_EXPECTED_MAXIMUM: u32 = 65_536;

/// A command. Which of the four cases it is follows from `data` and `expected`.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandApdu {
    /// CLA.
    pub class: u8,
    /// INS.
    pub instruction: u8,
    /// P1.
    pub p1: u8,
    /// P2.
    pub p2: u8,
    /// Data field, empty in cases 1 and 2. At most 65535 bytes.
    pub data: Vec<u8>,
    /// Expected answer length Ne, 1 to 65536; None: no Le field, cases 1 and 3.
    pub expected: Option<u32>,
}

/// Why bytes are not an APDU, or a command cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApduError {
    /// Less than the four header bytes.
    #[error("a command has at least the four bytes CLA INS P1 P2, these are {0}")]
    HeaderTruncated(usize),
    /// Lc, data and Le do not add up.
    #[error("the lengths Lc and Le of the command do not fit its {0} bytes")]
    LengthMismatch(usize),
    /// An Lc of zero.
    #[error("the length field Lc is zero, leave it out when there is no data")]
    ZeroLc,
    /// The data field is too long for any command.
    #[error("a command carries at most 65535 bytes of data, these are {0}")]
    DataTooLong(usize),
    /// Ne is zero or above 65536.
    #[error("a command can expect 1 to 65536 bytes, not {0}")]
    ExpectedOutOfRange(u32),
    /// Less than a status word.
    #[error("an answer ends with the two bytes of a status word, these are {0}")]
    StatusTruncated(usize),
}

impl CommandApdu {
    /// A command that takes as long an answer as a short one can be (Le `00`), as all EMV commands do.
    #[must_use]
    pub const fn new(class: u8, instruction: u8, p1: u8, p2: u8, data: Vec<u8>) -> Self {
        Self { class, instruction, p1, p2, data, expected: Some(SHORT_EXPECTED_MAXIMUM) }
    }

    /// Reads a command of any of the four cases, short or extended. Every byte must be accounted for.
    ///
    /// # Errors
    /// What does not add up; a card answers `6700`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApduError> {
        let (header, body) =
            bytes.split_first_chunk::<4>().ok_or(ApduError::HeaderTruncated(bytes.len()))?;
        let mismatch = ApduError::LengthMismatch(bytes.len());
        let (data, expected) = match body {
            [] => (&[][..], None),
            [short_le] => (&[][..], Some(short_expected(*short_le))),
            [0, high, low] => (&[][..], Some(extended_expected(*high, *low))),
            [0, high, low, rest @ ..] => {
                extended_body(u16::from_be_bytes([*high, *low]), rest, mismatch)?
            }
            [0, _] => return Err(ApduError::ZeroLc),
            [short_lc, rest @ ..] => short_body(*short_lc, rest, mismatch)?,
        };
        let [class, instruction, p1, p2] = *header;
        Ok(Self { class, instruction, p1, p2, data: data.to_vec(), expected })
    }

    /// Short form where it fits, extended where not.
    ///
    /// # Errors
    /// [`ApduError::DataTooLong`], [`ApduError::ExpectedOutOfRange`].
    pub fn encode(&self) -> Result<Vec<u8>, ApduError> {
        if self.data.len() > EXTENDED_DATA_MAXIMUM {
            return Err(ApduError::DataTooLong(self.data.len()));
        }
        if let Some(wrong) =
            self.expected.filter(|ne| !(1..=EXTENDED_EXPECTED_MAXIMUM).contains(ne))
        {
            return Err(ApduError::ExpectedOutOfRange(wrong));
        }
        let mut out = Vec::with_capacity(self.data.len().saturating_add(9));
        out.extend_from_slice(&[self.class, self.instruction, self.p1, self.p2]);
        let is_short = self.data.len() <= SHORT_DATA_MAXIMUM
            && self.expected.is_none_or(|ne| ne <= SHORT_EXPECTED_MAXIMUM);
        if is_short {
            self.encode_short(&mut out)
        } else {
            self.encode_extended(&mut out)
        }
        Ok(out)
    }

    fn encode_short(&self, out: &mut Vec<u8>) {
        if !self.data.is_empty() {
            out.extend(low_bytes::<1>(self.data.len()));
            out.extend_from_slice(&self.data);
        }
        // 256 is sent as 00: only the low byte of the number travels.
        out.extend(self.expected.into_iter().map(|ne| ne.to_be_bytes()[3]));
    }

    fn encode_extended(&self, out: &mut Vec<u8>) {
        // The zero that says "extended" stands in front of the first length field only.
        out.push(0);
        if !self.data.is_empty() {
            out.extend(low_bytes::<2>(self.data.len()));
            out.extend_from_slice(&self.data);
        }
        if let Some([_, _, high, low]) = self.expected.map(u32::to_be_bytes) {
            out.extend_from_slice(&[high, low]);
        }
    }
}

/// The last `N` bytes of a number.
fn low_bytes<const N: usize>(number: usize) -> impl Iterator<Item = u8> {
    let bytes = number.to_be_bytes();
    let skipped = bytes.len().saturating_sub(N);
    bytes.into_iter().skip(skipped)
}

fn short_expected(le: u8) -> u32 {
    if le == 0 { SHORT_EXPECTED_MAXIMUM } else { u32::from(le) }
}

fn extended_expected(high: u8, low: u8) -> u32 {
    match u16::from_be_bytes([high, low]) {
        0 => EXTENDED_EXPECTED_MAXIMUM,
        le => u32::from(le),
    }
}

/// Cases 3 and 4 in short form: `rest` is what stands behind Lc.
fn short_body(lc: u8, rest: &[u8], mismatch: ApduError) -> Result<(&[u8], Option<u32>), ApduError> {
    let (data, le) = rest.split_at_checked(usize::from(lc)).ok_or(mismatch)?;
    match le {
        [] => Ok((data, None)),
        [le] => Ok((data, Some(short_expected(*le)))),
        _ => Err(mismatch),
    }
}

/// Cases 3 and 4 in extended form: `rest` is what stands behind the three bytes of Lc.
fn extended_body(
    lc: u16,
    rest: &[u8],
    mismatch: ApduError,
) -> Result<(&[u8], Option<u32>), ApduError> {
    if lc == 0 {
        return Err(ApduError::ZeroLc);
    }
    let (data, le) = rest.split_at_checked(usize::from(lc)).ok_or(mismatch)?;
    match le {
        [] => Ok((data, None)),
        [high, low] => Ok((data, Some(extended_expected(*high, *low)))),
        _ => Err(mismatch),
    }
}

/// Shows header and lengths only: the data may be card data.
impl fmt::Debug for CommandApdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, instruction, p1, p2, data, expected } = self;
        write!(f, "CommandApdu({class:02X}{instruction:02X}{p1:02X}{p2:02X}, ")?;
        write!(f, "{} bytes, expects {expected:?})", data.len())
    }
}

/// An answer: data and status word.
#[derive(Clone, PartialEq, Eq)]
pub struct ResponseApdu {
    /// Data field, often empty.
    pub data: Vec<u8>,
    /// SW1 SW2.
    pub status: StatusWord,
}

impl ResponseApdu {
    /// Data with status `9000`.
    #[must_use]
    pub const fn ok(data: Vec<u8>) -> Self {
        Self { data, status: StatusWord::OK }
    }

    /// A status without data.
    #[must_use]
    pub const fn refused(status: StatusWord) -> Self {
        Self { data: Vec::new(), status }
    }

    /// Splits the status word off.
    ///
    /// # Errors
    /// [`ApduError::StatusTruncated`] below two bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApduError> {
        let (data, [sw1, sw2]) =
            bytes.split_last_chunk::<2>().ok_or(ApduError::StatusTruncated(bytes.len()))?;
        Ok(Self { data: data.to_vec(), status: StatusWord::from_bytes(*sw1, *sw2) })
    }

    /// Data, then SW1 SW2.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len().saturating_add(2));
        out.extend_from_slice(&self.data);
        out.extend_from_slice(&self.status.bytes());
        out
    }
}

/// Shows length and status only: the data may be card data.
impl fmt::Debug for ResponseApdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseApdu({} bytes, {})", self.data.len(), self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn command(data: &[u8], expected: Option<u32>) -> CommandApdu {
        CommandApdu { expected, ..CommandApdu::new(0x00, 0xA4, 0x04, 0x00, data.to_vec()) }
    }

    #[test]
    fn the_four_cases_short_and_extended() {
        let long = [7; 256];
        let mut long_case_3 = vec![0x00, 0xA4, 0x04, 0x00, 0, 1, 0];
        long_case_3.extend_from_slice(&long);
        let long_case_4 = [long_case_3.as_slice(), &[0, 0]].concat();
        let table: &[(CommandApdu, &[u8])] = &[
            (command(&[], None), &[0x00, 0xA4, 0x04, 0x00]),
            (command(&[], Some(256)), &[0x00, 0xA4, 0x04, 0x00, 0]),
            (command(&[], Some(1)), &[0x00, 0xA4, 0x04, 0x00, 1]),
            (command(&[9], None), &[0x00, 0xA4, 0x04, 0x00, 1, 9]),
            (command(&[9], Some(255)), &[0x00, 0xA4, 0x04, 0x00, 1, 9, 0xFF]),
            (command(&[], Some(257)), &[0x00, 0xA4, 0x04, 0x00, 0, 1, 1]),
            (command(&[], Some(65_536)), &[0x00, 0xA4, 0x04, 0x00, 0, 0, 0]),
            (command(&long, None), &long_case_3),
            (command(&long, Some(65_536)), &long_case_4),
        ];
        for (command, bytes) in table {
            assert_eq!(command.encode().unwrap(), *bytes);
            assert_eq!(CommandApdu::parse(bytes).unwrap(), *command);
        }
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let header = [0x00, 0xA4, 0x04, 0x00];
        for (body, error) in [
            (&[2, 9][..], ApduError::LengthMismatch(6)),
            (&[1, 9, 0, 0], ApduError::LengthMismatch(8)),
            (&[0, 0], ApduError::ZeroLc),
            (&[0, 0, 0, 1], ApduError::ZeroLc),
            (&[0, 0, 1, 9, 0], ApduError::LengthMismatch(9)),
        ] {
            let parsed = CommandApdu::parse(&[&header[..], body].concat());
            assert_eq!(parsed, Err(error), "{body:?}");
        }
        assert_eq!(CommandApdu::parse(&[0, 1, 2]), Err(ApduError::HeaderTruncated(3)));
        assert_eq!(ResponseApdu::parse(&[0x90]), Err(ApduError::StatusTruncated(1)));
        assert_eq!(command(&[], Some(0)).encode(), Err(ApduError::ExpectedOutOfRange(0)));
        assert_eq!(command(&[], Some(65_537)).encode(), Err(ApduError::ExpectedOutOfRange(65_537)));
        assert_eq!(command(&[0; 65_536], None).encode(), Err(ApduError::DataTooLong(65_536)));
    }

    #[test]
    fn debug_shows_no_data() {
        let text = std::format!("{:?} {:?}", command(&[0x41], None), ResponseApdu::ok(vec![0x41]));
        assert!(!text.contains("65") && !text.contains("41"), "{text}");
    }

    proptest! {
        #[test]
        fn commands_round_trip(
            header in any::<[u8; 4]>(),
            data in prop::collection::vec(any::<u8>(), 0..600),
            expected in prop::option::of(1_u32..=65_536),
        ) {
            let [class, instruction, p1, p2] = header;
            let command = CommandApdu { class, instruction, p1, p2, data, expected };
            let bytes = command.encode().unwrap();
            prop_assert_eq!(CommandApdu::parse(&bytes).unwrap(), command);
        }

        #[test]
        fn any_command_that_parses_means_the_same_again(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(command) = CommandApdu::parse(&bytes) {
                let again = CommandApdu::parse(&command.encode().unwrap()).unwrap();
                prop_assert_eq!(again, command);
            }
        }

        #[test]
        fn answers_round_trip(bytes in prop::collection::vec(any::<u8>(), 2..300)) {
            prop_assert_eq!(ResponseApdu::parse(&bytes).unwrap().encode(), bytes);
        }
    }
}
