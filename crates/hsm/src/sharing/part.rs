//! One custodian's part: what it carries, and how it is written down and typed in again.

use std::fmt;

use aws_lc_rs::digest;
use tapfer_payment_types::Secret;
use zeroize::Zeroizing;

use super::letters::{bytes_of, decode_group, encode, groups_for};
use super::{CeremonyId, Scheme, SecretKind, SharingError};

/// Comes before a part in its digest.
const DIGEST_CONTEXT: &[u8] = b"tapfer part 1";
/// Bytes before the share: kind, scheme, number, ceremony, check.
const HEAD: usize = 11;
/// Bytes behind it.
const DIGEST: usize = 4;
/// Groups on one line of paper.
const GROUPS_ON_A_LINE: usize = 4;

/// A part of a secret. Alone it says nothing of it.
pub struct Part {
    pub(super) kind: SecretKind,
    pub(super) scheme: Scheme,
    pub(super) number: u8,
    pub(super) ceremony: CeremonyId,
    /// Of the whole secret.
    pub(super) check: [u8; 4],
    pub(super) share: Secret<Vec<u8>>,
}

impl Part {
    /// Of what it is a part.
    #[must_use]
    pub const fn kind(&self) -> SecretKind {
        self.kind
    }

    /// How many parts there are.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Which of them it is, from 1.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// With which others it goes.
    #[must_use]
    pub const fn ceremony(&self) -> CeremonyId {
        self.ceremony
    }

    /// As it is printed: lines of groups of five letters.
    #[must_use]
    pub fn lines(&self) -> Vec<Zeroizing<String>> {
        let text = encode(&self.to_bytes());
        let groups: Vec<&str> = text.split(' ').collect();
        groups.chunks(GROUPS_ON_A_LINE).map(|line| Zeroizing::new(line.join(" "))).collect()
    }

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let length = HEAD.saturating_add(self.kind.length()).saturating_add(DIGEST);
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        let below = |number: u8| number.saturating_sub(1);
        let scheme = (below(self.scheme.threshold) << 4) | below(self.scheme.parts);
        bytes.extend([kind_code(self.kind), scheme, self.number]);
        bytes.extend(self.ceremony.0);
        bytes.extend(self.check);
        bytes.extend_from_slice(self.share.expose());
        let digest = digest_of(&bytes);
        bytes.extend(digest);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, SharingError> {
        let (content, digest) = bytes.split_last_chunk::<DIGEST>().ok_or(SharingError::Whole)?;
        if digest_of(content) != *digest {
            return Err(SharingError::Whole);
        }
        let (head, share) = content.split_first_chunk::<HEAD>().ok_or(SharingError::Format)?;
        let [kind, scheme, number, i0, i1, i2, i3, check @ ..] = *head;
        let kind = kind_of(kind).ok_or(SharingError::Format)?;
        let above = |nibble: u8| nibble.saturating_add(1);
        let scheme = Scheme::new(above(scheme >> 4), above(scheme & 0x0F))
            .map_err(|_| SharingError::Format)?;
        if number == 0 || number > scheme.parts || share.len() != kind.length() {
            return Err(SharingError::Format);
        }
        let ceremony = CeremonyId([i0, i1, i2, i3]);
        Ok(Self { kind, scheme, number, ceremony, check, share: Secret::new(share.to_vec()) })
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, scheme, number, ceremony, .. } = self;
        write!(f, "Part {number} of {} of {kind}, ceremony {ceremony}, redacted", scheme.parts)
    }
}

/// First byte of a part: format 1, and the kind.
pub(super) const fn kind_code(kind: SecretKind) -> u8 {
    match kind {
        SecretKind::RootKeys => 0x11,
        SecretKind::BlockProtection => 0x12,
    }
}

fn kind_of(code: u8) -> Option<SecretKind> {
    [SecretKind::RootKeys, SecretKind::BlockProtection]
        .into_iter()
        .find(|kind| kind_code(*kind) == code)
}

fn digest_of(content: &[u8]) -> [u8; DIGEST] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(DIGEST_CONTEXT);
    context.update(content);
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

/// Takes a part in, line by line as a person types it. A wrong line is refused as a whole and changes
/// nothing, so that only this line is typed again.
pub struct PartReader {
    /// Symbols of five bits.
    symbols: Secret<Vec<u8>>,
}

impl Default for PartReader {
    fn default() -> Self {
        Self::new()
    }
}

impl PartReader {
    /// Nothing was typed yet.
    #[must_use]
    pub fn new() -> Self {
        // No part is longer, so the buffer never moves and leaves no copy behind.
        Self { symbols: Secret::new(Vec::with_capacity(256)) }
    }

    /// The next groups. Gives the part when it is complete.
    ///
    /// # Errors
    /// Which group is wrong; that the part as a whole is.
    pub fn line(&mut self, text: &str) -> Result<Option<Part>, SharingError> {
        let mut symbols = Zeroizing::new(Vec::with_capacity(256));
        symbols.extend_from_slice(self.symbols.expose());
        for group in text.split_ascii_whitespace() {
            let position = symbols.len() / 4;
            if let Some(expected) = expected_groups(&symbols)?.filter(|all| position >= *all) {
                return Err(SharingError::TooManyGroups { expected });
            }
            symbols.extend_from_slice(&*decode_group(group, position)?);
        }
        let complete = expected_groups(&symbols)?.is_some_and(|all| symbols.len() / 4 == all);
        let part = if complete { Some(part_of(&symbols)?) } else { None };
        self.symbols.expose_mut().clear();
        self.symbols.expose_mut().extend_from_slice(&symbols);
        Ok(part)
    }

    /// How many groups were typed, and how many there are once the first one said so.
    #[must_use]
    pub fn progress(&self) -> (usize, Option<usize>) {
        let symbols = self.symbols.expose();
        (symbols.len() / 4, expected_groups(symbols).ok().flatten())
    }

    /// A whole part at once.
    ///
    /// # Errors
    /// As [`PartReader::line`]; [`SharingError::TooFewGroups`].
    pub fn whole(text: &str) -> Result<Part, SharingError> {
        let mut reader = Self::new();
        let part = reader.line(text)?;
        let (typed, expected) = reader.progress();
        part.ok_or(SharingError::TooFewGroups { expected: expected.unwrap_or(1), typed })
    }
}

fn part_of(symbols: &[u8]) -> Result<Part, SharingError> {
    let length = kind_at_start(symbols).map_or(0, coded_length);
    Part::from_bytes(&bytes_of(symbols, length).ok_or(SharingError::Whole)?)
}

fn expected_groups(symbols: &[u8]) -> Result<Option<usize>, SharingError> {
    if symbols.is_empty() {
        return Ok(None);
    }
    let kind = kind_at_start(symbols).ok_or(SharingError::Format)?;
    Ok(Some(groups_for(coded_length(kind))))
}

/// The first eight bits are the kind.
fn kind_at_start(symbols: &[u8]) -> Option<SecretKind> {
    let (first, second) = (symbols.first()?, symbols.get(1)?);
    kind_of((first << 3) | (second >> 2))
}

const fn coded_length(kind: SecretKind) -> usize {
    HEAD.saturating_add(kind.length()).saturating_add(DIGEST)
}
