//! PRESENT MERCHANT CREDENTIAL `80 52` and the proof in `DF51`: the terminal says who it is, and proves
//! it before the card's counter moves (`docs/adr/0008-merchant-proof.md`).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::dol::DataObjectList;
use tapfer_emv::merchant::{
    MerchantCaKey, MerchantCertificate, MerchantCertificateError, MerchantProofInput,
    MerchantProven, MerchantSignature, TrustedMerchant, refused_credential,
};
use tapfer_emv::status::StatusWord;
use tapfer_emv::tags;
use tapfer_payment_types::messages::MerchantTrust;
use tapfer_payment_types::{Timestamp, TokenId};

use super::Refusal;
use super::dialogue::{field, value_of};
use crate::effect::{CredentialFault, Notification};
use crate::token::Token;

/// What a terminal sends for `DF51` that has no proof.
const NO_PROOF: [u8; 64] = [0; 64];

/// What is known of the terminal between SELECT and GET PROCESSING OPTIONS.
#[derive(Default)]
pub(super) enum Credential {
    /// It presented nothing: the payment goes on without a name.
    #[default]
    None,
    /// It presented what the phone does not believe, and has to say that it was just this
    /// ([`refused_credential`]): then the payment goes on without a name.
    Refused(MerchantSignature),
    /// It presented a good certificate, and now has to prove that the key is its own.
    Presented(Box<Presented>),
}

/// A certificate, and the number that its owner has to sign.
pub(super) struct Presented {
    merchant: TrustedMerchant,
    nonce: [u8; 8],
}

impl Credential {
    /// Answers PRESENT MERCHANT CREDENTIAL with a nonce, and remembers what it was given for.
    ///
    /// A signature that nobody we trust made says nothing, and leaves the terminal without a name. A certificate of ours that has expired or was revoked is worse than
    /// none: somebody uses a terminal that was taken out of service. The inner error is the news of it,
    /// and the caller sees to it that there is no second try in this field.
    pub(super) fn present(
        &mut self,
        token: &Token,
        command: &CommandApdu,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<Result<Vec<u8>, Notification>, Refusal> {
        if (command.p1, command.p2) != (0x00, 0x00) {
            return Err(StatusWord::INCORRECT_P1_P2.into());
        }
        if !asks_for_proof(token) {
            return Err(StatusWord::FUNCTION_NOT_SUPPORTED.into());
        }
        *self = Self::Refused(refused_credential(&command.data));
        let certificate =
            MerchantCertificate::parse(&command.data).map_err(|_| StatusWord::WRONG_DATA)?;
        match trusted(&token.merchant_trust, &certificate, now) {
            Ok(merchant) => {
                let merchant = merchant.ok_or(StatusWord::REFERENCED_DATA_NOT_FOUND)?;
                let mut nonce = [0; 8];
                rng.fill_bytes(&mut nonce);
                *self = Self::Presented(Box::new(Presented { merchant, nonce }));
                Ok(Ok(nonce.to_vec()))
            }
            Err(fault) => {
                let name = String::from(certificate.name.as_str());
                Ok(Err(Notification::MerchantRefused { token: token.id(), name, fault }))
            }
        }
    }
}

/// Whether one of the authorities answers for the certificate. `None`: none of them signed it.
fn trusted(
    trust: &MerchantTrust,
    certificate: &MerchantCertificate,
    now: Timestamp,
) -> Result<Option<TrustedMerchant>, CredentialFault> {
    let keys = trust.authorities.iter().filter_map(|key| {
        let bytes = key.0.as_slice().try_into().ok()?;
        MerchantCaKey::from_bytes(bytes).ok()
    });
    for key in keys {
        match certificate.verify(&key, now) {
            Ok(_) if trust.has_revoked(certificate.serial) => {
                return Err(CredentialFault::Revoked);
            }
            Ok(merchant) => return Ok(Some(merchant)),
            Err(MerchantCertificateError::Expired) => return Err(CredentialFault::Expired),
            Err(_) => {}
        }
    }
    Ok(None)
}

fn asks_for_proof(token: &Token) -> bool {
    DataObjectList::parse(&token.profile().pdol)
        .is_ok_and(|pdol| pdol.contains(tags::MERCHANT_PROOF))
}

/// Checks the proof in the values of the PDOL. A nonce is good for one GET PROCESSING OPTIONS, because
/// the credential is consumed here.
pub(super) fn verify(
    token: TokenId,
    credential: Credential,
    pdol: &DataObjectList,
    values: &[u8],
) -> Result<Option<MerchantProven>, Refusal> {
    let proof = value_of(pdol, values, tags::MERCHANT_PROOF);
    let (merchant, nonce) = match credential {
        // A proof without a certificate proves nothing, and no honest terminal sends one.
        Credential::None if proof.is_none_or(|proof| proof == NO_PROOF) => return Ok(None),
        // Something else arrived here than was presented there: somebody takes the name away.
        Credential::Refused(arrived) if proof.is_some_and(|sent| sent == arrived) => {
            return Ok(None);
        }
        Credential::Presented(presented) => (presented.merchant, presented.nonce),
        Credential::None | Credential::Refused(_) => return Err(wrong(token, None)),
    };
    let verified = proof_input(nonce, pdol, values)
        .zip(field(proof))
        .and_then(|(input, proof)| merchant.verify_proof(&input, &proof).ok());
    verified.map(Some).ok_or_else(|| wrong(token, Some(&merchant)))
}

/// Somebody shows a certificate and can't prove that it is theirs, or changed what the terminal signed.
fn wrong(token: TokenId, merchant: Option<&TrustedMerchant>) -> Refusal {
    let name = merchant.map(|merchant| String::from(merchant.certificate().name.as_str()));
    let status = StatusWord::CONDITIONS_NOT_SATISFIED;
    Refusal::with_news(status, Notification::MerchantProofWrong { token, name })
}

/// What the terminal has to have signed: our nonce, and its own values as they came in.
fn proof_input(nonce: [u8; 8], pdol: &DataObjectList, values: &[u8]) -> Option<MerchantProofInput> {
    let value = |tag| value_of(pdol, values, tag);
    let [transaction_type] = field(value(tags::TRANSACTION_TYPE))?;
    Some(MerchantProofInput {
        nonce,
        kernel_key_data: field(value(tags::KERNEL_KEY_DATA))?,
        amount_authorized: field(value(tags::AMOUNT_AUTHORIZED))?,
        amount_other: field(value(tags::AMOUNT_OTHER))?,
        currency: field(value(tags::TRANSACTION_CURRENCY_CODE))?,
        country: field(value(tags::TERMINAL_COUNTRY_CODE))?,
        date: field(value(tags::TRANSACTION_DATE))?,
        transaction_type,
        unpredictable_number: field(value(tags::UNPREDICTABLE_NUMBER))?,
        terminal: field(value(tags::TERMINAL_IDENTIFICATION))?,
    })
}
