//! The terminal proves to the phone who it is: PRESENT MERCHANT CREDENTIAL between final selection and
//! GET PROCESSING OPTIONS, then a signature over what is asked for (`docs/adr/0008-merchant-proof.md`).

use alloc::sync::Arc;

use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::dol::DataObjectList;
use tapfer_emv::merchant::{
    MerchantCertificate, MerchantProofInput, MerchantSignature, MerchantSigner,
    MerchantSigningError,
};
use tapfer_emv::{tags, tlv};

use crate::kernel8::{Inputs, KernelConfiguration, Session};

/// `DF51`: r ‖ s.
const PROOF_LENGTH: usize = 64;

/// Who the terminal says it is, and the key that proves it.
#[derive(Debug, Clone)]
pub struct MerchantCredential {
    /// From the platform, renewed before it expires.
    pub certificate: MerchantCertificate,
    /// Holds the certified key.
    pub signer: Arc<dyn MerchantSigner>,
    /// What to do when the key cannot be used.
    pub without_proof: WithoutProof,
}

/// What becomes of a tap whose proof cannot be made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutProof {
    /// The tap ends, the terminal stays armed, and the till is told what is wrong.
    #[default]
    EndTap,
    /// The application is selected again and paid with unproven, if the phone's policy lets it.
    GoOn,
}

impl MerchantCredential {
    /// The command that shows the certificate.
    #[must_use]
    pub(crate) fn present(&self) -> CommandApdu {
        CommandApdu::new(0x80, 0x52, 0x00, 0x00, self.certificate.encode())
    }

    /// Puts the terminal's names where the card's lists ask for them: those of the certificate,
    /// whatever else was configured, so that nothing else can be said than what is proven.
    pub(crate) fn name_in(&self, session: &mut Session) {
        let certificate = &self.certificate;
        session.set(tags::ACQUIRER_IDENTIFIER, &certificate.acquirer);
        session.set(tags::MERCHANT_IDENTIFIER, &certificate.merchant);
        session.set(tags::TERMINAL_IDENTIFICATION, &certificate.terminal);
        session.set(tags::MERCHANT_NAME_AND_LOCATION, certificate.name.as_str().as_bytes());
    }

    /// Signs what the card will be asked for, with the card's nonce in it.
    pub(crate) fn prove(
        &self,
        configuration: &KernelConfiguration,
        session: &Session,
        inputs: &Inputs,
        nonce: [u8; 8],
    ) -> Result<MerchantSignature, MerchantSigningError> {
        self.signer.sign(&self.input(configuration, session, inputs, nonce).message())
    }

    /// The very values that the kernel will put into the card's PDOL: they come out of the same places.
    /// What is not set counts as zeros there and here.
    fn input(
        &self,
        configuration: &KernelConfiguration,
        session: &Session,
        inputs: &Inputs,
        nonce: [u8; 8],
    ) -> MerchantProofInput {
        let mut data = configuration.data_objects();
        session.data_objects().iter().for_each(|(tag, value)| data.set(tag, value));
        MerchantProofInput {
            nonce,
            kernel_key_data: inputs.kernel_key.public_point(),
            amount_authorized: data.array(tags::AMOUNT_AUTHORIZED).unwrap_or_default(),
            amount_other: data.array(tags::AMOUNT_OTHER).unwrap_or_default(),
            currency: data.array(tags::TRANSACTION_CURRENCY_CODE).unwrap_or_default(),
            country: data.array(tags::TERMINAL_COUNTRY_CODE).unwrap_or_default(),
            date: data.array(tags::TRANSACTION_DATE).unwrap_or_default(),
            transaction_type: data.byte(tags::TRANSACTION_TYPE).unwrap_or_default(),
            unpredictable_number: inputs.unpredictable_number,
            terminal: self.certificate.terminal,
        }
    }
}

/// Whether the selected application asks for the proof. A card of others does not, and never hears of
/// PRESENT MERCHANT CREDENTIAL.
pub(crate) fn asks_for_proof(fci: &[u8]) -> bool {
    let path = [tags::FCI_TEMPLATE, tags::FCI_PROPRIETARY_TEMPLATE, tags::PDOL];
    let pdol = tlv::find_path(fci, &path).ok().flatten();
    pdol.and_then(|pdol| DataObjectList::parse(pdol).ok()).is_some_and(|pdol| {
        let mut entries = pdol.entries().iter();
        entries.any(|entry| entry.tag == tags::MERCHANT_PROOF && entry.length == PROOF_LENGTH)
    })
}

#[cfg(test)]
mod tests {
    use super::{asks_for_proof, tags, tlv};

    fn fci(pdol: &[u8]) -> Vec<u8> {
        let pdol = tlv::encode(tags::PDOL, pdol);
        tlv::encode(tags::FCI_TEMPLATE, &tlv::encode(tags::FCI_PROPRIETARY_TEMPLATE, &pdol))
    }

    #[test]
    fn only_a_whole_proof_is_asked_for() {
        assert!(asks_for_proof(&fci(&[0x9F, 0x37, 4, 0xDF, 0x51, 64])));
        assert!(asks_for_proof(&fci(&tapfer_emv::profile::PDOL)));
        for pdol in [&[0x9F, 0x37, 4][..], &[0xDF, 0x51, 63], &[0xDF, 0x51], &[]] {
            assert!(!asks_for_proof(&fci(pdol)), "{pdol:02X?}");
        }
        assert!(!asks_for_proof(&[]));
    }
}
