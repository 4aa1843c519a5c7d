//! What pool and worker say to each other over a socket pair: the verbs of [`PaymentHsm`](crate::PaymentHsm).
//!
//! ```text
//! | length of the rest, 4 bytes LE | request id, 8 bytes LE | message, postcard |
//! ```
//!
//! Both ends are the same program, so there is no negotiation: the version stands in the greeting. Many
//! requests may be on their way at once; a worker answers them in the order in which they came. Buffers are
//! wiped when they have been read.

mod failure;
mod frame;
mod perform;
mod reply;
mod request;

pub use frame::{FRAME_HEADER_LENGTH, Frame, FrameError, Incoming, MAXIMUM_MESSAGE, append};
pub use perform::perform;
pub use reply::{Answer, Greeting, Module, Reply, Verdict};
pub use request::{CardNumber, Cryptogram, Grant, Owner, Provisioning, Request};

pub(super) use failure::portable;
pub(super) use frame::append_frame;
pub(super) use request::provisioning_documents;

/// Version of the messages, the first thing that a worker says.
pub const PROTOCOL_VERSION: u16 = 3;
/// The request id of the greeting, which answers none, and of the one question that is asked before the worker
/// serves: whether its catalogue is the newest.
pub const GREETING_ID: u64 = 0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tapfer_emv::certificate::CertificateError;
    use tapfer_emv::merchant::{MerchantCertificateError, MerchantNameError};
    use tapfer_payment_types::{IssuerId, Timestamp};

    use super::{Answer, Greeting, Request};
    use crate::{HsmError, KeystoreError};

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(request) = postcard::from_bytes::<Request<'_>>(&bytes) {
                prop_assert!(postcard::to_stdvec(&request).is_ok());
            }
            let _any = (
                postcard::from_bytes::<Answer<'_>>(&bytes).is_ok(),
                postcard::from_bytes::<Greeting>(&bytes).is_ok(),
            );
        }
    }

    #[test]
    fn an_error_arrives_as_it_was_sent() {
        let issuer = IssuerId::new(Timestamp::from_unix_millis(7), [7; 10]);
        let text = || "CKR_DEVICE_ERROR".to_owned();
        for error in [
            HsmError::UnknownIssuer(issuer),
            HsmError::UnknownDerivationKey { issuer, index: 9 },
            HsmError::AuthorityExists { index: 0xE1 },
            HsmError::CertificateLife { maximum_days: 7 },
            HsmError::Certificate(CertificateError::Length(3)),
            HsmError::MerchantCertificate(MerchantCertificateError::Name(MerchantNameError::Utf8)),
            HsmError::SealedToIssuer,
            HsmError::SelfTestFailed { test: "AES-CMAC" },
            HsmError::ModuleFailed { operation: text(), cause: text() },
            HsmError::Internal { operation: "HMAC" },
        ] {
            let sent = format!("{error:?}");
            let message = postcard::to_stdvec(&Answer::failed(error)).unwrap();
            let Ok(Answer::Failed(received)) = postcard::from_bytes(&message) else {
                panic!("{sent}")
            };
            assert_eq!(format!("{received:?}"), sent);
        }
        let of_a_file = HsmError::Keystore(KeystoreError::NotFound("/there".into()));
        let said = of_a_file.to_string();
        let message = postcard::to_stdvec(&Answer::failed(of_a_file)).unwrap();
        let Ok(Answer::Failed(received)) = postcard::from_bytes(&message) else { panic!("{said}") };
        assert!(received.to_string().contains(&said), "{received}");
        assert!(received.is_of_the_module());
    }
}
