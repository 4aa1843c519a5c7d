//! How the key that signs configurations came to be it: each step is signed with the key before, and stands in the
//! catalogue beside the key that it leads to. The database has no say in it.

use std::collections::VecDeque;

use tapfer_emv::document::{DocumentKey, DocumentPurpose};
use tapfer_hsm::DocumentKeyRecord;
use tapfer_payment_types::configuration::{KeySuccession, MAXIMUM_SUCCESSIONS, SignedDocument};

/// The steps that lead to a key, the oldest first, over none but older keys of the platform; not more than devices
/// follow. `keys` are its keys, the oldest first.
pub(crate) fn steps_to(keys: &[DocumentKeyRecord], to: DocumentKey) -> Vec<SignedDocument> {
    let (mut steps, mut to, mut keys) = (VecDeque::new(), to, keys);
    while steps.len() < MAXIMUM_SUCCESSIONS
        && let Some(place) = keys.iter().position(|record| record.key == to)
        && let Some((older, [record, ..])) = keys.split_at_checked(place)
        && let Some(step) = &record.succession
        && let Some(from) = leads_from(step, to)
        && older.iter().any(|record| record.key == from)
    {
        steps.push_front(step.clone());
        (keys, to) = (older, from);
    }
    steps.into()
}

/// The key that named another one as the next, if this document does and is signed with it.
fn leads_from(step: &SignedDocument, to: DocumentKey) -> Option<DocumentKey> {
    let before = tapfer_emv::document::key(&step.key.0)?;
    let said: KeySuccession = before.read(DocumentPurpose::Configuration, step).ok()?;
    (said.to.0 == to.bytes() && said.from == step.key).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::steps_to;
    use tapfer_emv::document::{DocumentKey, DocumentPurpose};
    use tapfer_emv::merchant::{MerchantPrivateKey, MerchantSigner as _};
    use tapfer_hsm::DocumentKeyRecord;
    use tapfer_hsm::catalogue::KeyState;
    use tapfer_payment_types::configuration::{
        KeySuccession, MAXIMUM_SUCCESSIONS, SUCCESSION_FORMAT, SignedDocument,
    };
    use tapfer_payment_types::messages::HexBytes;
    use tapfer_payment_types::{RealmId, Timestamp};

    fn signer(number: u8) -> MerchantPrivateKey {
        MerchantPrivateKey::from_bytes(&[number; 32]).unwrap()
    }

    fn key(number: u8) -> DocumentKey {
        DocumentKey::from_bytes(&signer(number).public_key().bytes()).unwrap()
    }

    fn step(from: u8, to: u8) -> SignedDocument {
        let at = Timestamp::from_unix_millis(1_790_000_000_000);
        let named = HexBytes(key(from).bytes().to_vec());
        let document = serde_json::to_string(&KeySuccession {
            format: SUCCESSION_FORMAT.to_owned(),
            realm: RealmId::new(at, [9; 10]),
            from: named.clone(),
            to: HexBytes(key(to).bytes().to_vec()),
            at,
        });
        let document = document.unwrap();
        let message = DocumentPurpose::Configuration.message(document.as_bytes());
        let signature = HexBytes(signer(from).sign(&message).unwrap().to_vec());
        SignedDocument { document, key: named, signature }
    }

    /// So many keys of a platform, each named by the one before.
    fn keys(many: u8) -> Vec<DocumentKeyRecord> {
        let record = |number| DocumentKeyRecord {
            key: key(number),
            state: if number == many { KeyState::Active } else { KeyState::Retired },
            succession: (number > 1).then(|| step(number.saturating_sub(1), number)),
        };
        (1..=many).map(record).collect()
    }

    #[test]
    fn every_step_is_found_and_no_more_than_devices_follow() {
        assert_eq!(steps_to(&keys(1), key(1)), []);
        assert_eq!(steps_to(&keys(3), key(3)), [step(1, 2), step(2, 3)]);
        assert_eq!(steps_to(&keys(3), key(2)), [step(1, 2)]);
        assert_eq!(steps_to(&keys(3), key(9)), []);
        let steps = steps_to(&keys(20), key(20));
        assert_eq!((steps.len(), &steps[0]), (MAXIMUM_SUCCESSIONS, &step(4, 5)));
    }

    /// Attack: a step from a key of his own to the newest, signed as it should be.
    #[test]
    fn attack_step_from_a_key_that_was_never_the_platforms() {
        let mut planted = keys(3);
        planted[2].succession = Some(step(77, 3));
        assert_eq!(steps_to(&planted, key(3)), []);
        // From a newer one, which leads round and round.
        planted[1].succession = Some(step(3, 2));
        planted[2].succession = Some(step(2, 3));
        assert_eq!(steps_to(&planted, key(3)), [step(2, 3)]);
    }
}
