use tapfer_hsm::{DocumentPurpose, HsmError, PaymentHsm};

use crate::now;

const DOCUMENT: &[u8] = b"{\"version\":7}";

pub fn document_keys_are_made_once(hsm: &impl PaymentHsm) {
    for purpose in DocumentPurpose::ALL {
        assert!(matches!(hsm.document_key(purpose), Err(HsmError::UnknownDocumentKey)));
        let signed = hsm.sign_document(purpose, DOCUMENT);
        assert!(matches!(signed, Err(HsmError::UnknownDocumentKey)));
    }
    hsm.create_document_keys(now()).unwrap();
    let keys = DocumentPurpose::ALL.map(|purpose| hsm.document_key(purpose).unwrap());
    assert_ne!(keys[0], keys[1], "a key for each purpose");
    assert!(matches!(hsm.create_document_keys(now()), Err(HsmError::DocumentKeysExist)));
    assert_eq!(DocumentPurpose::ALL.map(|purpose| hsm.document_key(purpose).unwrap()), keys);
}

/// A signature is good for one purpose, one document and one key.
pub fn a_signed_document_verifies_for_its_purpose(hsm: &impl PaymentHsm) {
    hsm.create_document_keys(now()).unwrap();
    for purpose in DocumentPurpose::ALL {
        let key = hsm.document_key(purpose).unwrap();
        for document in [DOCUMENT, b"", &[0xA5; 100_000]] {
            let signature = hsm.sign_document(purpose, document).unwrap();
            assert!(purpose.is_signed_by(&key, document, &signature));
            assert!(!purpose.is_signed_by(&key, b"another", &signature));
            for other in DocumentPurpose::ALL.into_iter().filter(|other| *other != purpose) {
                assert!(!other.is_signed_by(&key, document, &signature));
                let other_key = hsm.document_key(other).unwrap();
                assert!(!purpose.is_signed_by(&other_key, document, &signature));
            }
            let mut damaged = signature;
            damaged[63] ^= 1;
            assert!(!purpose.is_signed_by(&key, document, &damaged));
        }
    }
}
