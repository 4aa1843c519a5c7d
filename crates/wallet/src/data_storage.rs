//! Data envelopes: what terminals store on the card beside payments (Book C-8 5.5, 5.7).

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tapfer_emv::tags;
use tapfer_emv::tlv::Tag;
use tapfer_payment_types::messages::HexBytes;

/// With tag, length and MAC this just fits an answer of 256 bytes (Book C-8 annex A: 0 to 243).
pub(crate) const MAXIMUM_ENVELOPE_LENGTH: usize = 243;

/// Which envelope a tag means.
const ENVELOPES: [(Tag, u8); 10] = [
    (tags::DATA_ENVELOPE_1, 1),
    (tags::DATA_ENVELOPE_2, 2),
    (tags::DATA_ENVELOPE_3, 3),
    (tags::DATA_ENVELOPE_4, 4),
    (tags::DATA_ENVELOPE_5, 5),
    (tags::DATA_ENVELOPE_6, 6),
    (tags::DATA_ENVELOPE_7, 7),
    (tags::DATA_ENVELOPE_8, 8),
    (tags::DATA_ENVELOPE_9, 9),
    (tags::DATA_ENVELOPE_10, 10),
];

/// The number, 1 to 10, of the envelope with this tag.
pub(crate) fn envelope_number(tag: Tag) -> Option<u8> {
    ENVELOPES.iter().find(|(known, _)| *known == tag).map(|(_, number)| *number)
}

/// The envelopes of one token, by number. At most ten of at most 243 bytes each.
#[derive(Serialize, Deserialize, Default)]
#[serde(transparent)]
pub(crate) struct DataEnvelopes(BTreeMap<u8, HexBytes>);

impl DataEnvelopes {
    /// What was written last; empty if nothing ever was.
    pub(crate) fn get(&self, number: u8) -> &[u8] {
        self.0.get(&number).map_or(&[], |content| content.0.as_slice())
    }

    /// Puts `content` in the place of what was there. Writing nothing empties the envelope.
    pub(crate) fn put(&mut self, number: u8, content: &[u8]) {
        if content.is_empty() {
            self.0.remove(&number);
        } else {
            self.0.insert(number, HexBytes(content.to_vec()));
        }
    }

    /// The envelopes that hold something.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(number, content)| (*number, content.0.as_slice()))
    }
}
