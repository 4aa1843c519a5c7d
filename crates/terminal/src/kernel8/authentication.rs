//! Is this the card it says it is? Certificates, blinding factor and MACs (Book C-8 RPC, 28; Book E
//! 3.2, 5.2, 5.4, 7.2).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use subtle::ConstantTimeEq;
use tapfer_emv::certificate::{self, IccCertificate, IssuerCertificate};
use tapfer_emv::channel::{BlindingFactor, IadMacInput};
use tapfer_emv::dol::parse_tag_list;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Reader};

use super::configuration::RevokedCertificate;
use super::outcome::ErrorLevel2;
use super::records::ReadRecords;
use super::transaction::{Failure, Transaction};

/// Bits 3 and 2 of byte 2 of the AIP: where the IAD-MAC is copied to.
const COPY_IAD_MAC: u8 = 0x06;
const COPY_TO_DEFAULT_OFFSET: u8 = 0x02;
const COPY_TO_CARDS_OFFSET: u8 = 0x04;

/// SHA-256 of what the issuer signed: records, listed data objects, AIP (Book E 5.4).
pub(super) fn sda_hash(
    transaction: &Transaction,
    signed_values: &[Vec<u8>],
) -> Result<[u8; 32], Failure> {
    let list = transaction.data.get(tags::EXTENDED_SDA_TAG_LIST).unwrap_or_default();
    let listed = parse_tag_list(list).map_err(|_| ErrorLevel2::IadMacFailed)?;
    let extended = certificate::extended_data(listed, |tag| transaction.data.get(tag));
    let records: Vec<&[u8]> = signed_values.iter().map(Vec::as_slice).collect();
    Ok(certificate::sda_hash(&records, &extended, transaction.interchange_profile()))
}

/// The IAD-MAC over the whole dialogue, kept and copied into the IAD where the AIP says so
/// (Book C-8 2627.11, 28.1 to 28.5).
pub(super) fn process_iad_mac(
    transaction: &mut Transaction,
    records: &ReadRecords,
    cdol1_values: &[u8],
    generate_ac_answer: &[u8],
    sda_hash: &[u8; 32],
) -> Result<[u8; 8], Failure> {
    let proof = records.relay_proof;
    let relay_resistance =
        proof.as_ref().map(|proof| (&proof.terminal_entropy, &proof.last_answer));
    let generate_ac_tlvs = signed_answer(generate_ac_answer)?;
    let iad_mac = records.channel.secure_channel.iad_mac(&IadMacInput {
        pdol_values: &records.channel.pdol_values,
        cdol1_values,
        relay_resistance,
        generate_ac_tlvs: &generate_ac_tlvs,
        sda_hash,
    });
    transaction.data.set(tags::IAD_MAC, &iad_mac);
    copy_iad_mac(transaction, &iad_mac)?;
    Ok(iad_mac)
}

/// The TLVs of the answer as they came, but for cryptogram and EDA-MAC.
fn signed_answer(answer: &[u8]) -> Result<Vec<u8>, Failure> {
    let template = tlv::parse_one(answer).map_err(|_| ErrorLevel2::Parsing)?;
    let mut signed = Vec::new();
    for object in Reader::new(template.value) {
        let object = object.map_err(|_| ErrorLevel2::Parsing)?;
        if ![tags::APPLICATION_CRYPTOGRAM, tags::EDA_MAC].contains(&object.tag) {
            signed.extend_from_slice(object.raw);
        }
    }
    Ok(signed)
}

fn copy_iad_mac(transaction: &mut Transaction, iad_mac: &[u8; 8]) -> Result<(), Failure> {
    let [_, profile] = transaction.interchange_profile();
    let offset = match profile & COPY_IAD_MAC {
        COPY_TO_DEFAULT_OFFSET => transaction.configuration.default_iad_mac_offset,
        COPY_TO_CARDS_OFFSET => {
            transaction.data.byte(tags::IAD_MAC_OFFSET).ok_or(ErrorLevel2::CardData)?
        }
        _ => return Ok(()),
    };
    let start = usize::from(offset);
    let end = start.saturating_add(iad_mac.len());
    let iad = transaction.data.get_mut(tags::ISSUER_APPLICATION_DATA);
    let place = iad.and_then(|iad| iad.get_mut(start..end)).ok_or(ErrorLevel2::CardData)?;
    place.copy_from_slice(iad_mac);
    Ok(())
}

/// The EDA-MAC binds the cryptogram to the dialogue (Book E 3.2). Constant time.
pub(super) fn check_eda_mac(
    transaction: &Transaction,
    records: &ReadRecords,
    iad_mac: &[u8; 8],
) -> Result<(), Failure> {
    let cryptogram =
        transaction.data.array(tags::APPLICATION_CRYPTOGRAM).ok_or(ErrorLevel2::CardDataMissing)?;
    let received: [u8; 8] =
        transaction.data.array(tags::EDA_MAC).ok_or(ErrorLevel2::CardDataMissing)?;
    let expected = records.channel.secure_channel.eda_mac(&cryptogram, iad_mac);
    if bool::from(expected.ct_eq(&received)) {
        Ok(())
    } else {
        Err(ErrorLevel2::EdaMacFailed.into())
    }
}

/// Checks the chain from the CA to the card's key, and that the channel was blinded with it.
///
/// `Ok(false)`: something was checked and is wrong.
///
/// # Errors
/// What the card must send for it, and did not.
pub(super) fn verify_card(
    transaction: &Transaction,
    sda_hash: &[u8; 32],
    blinding_factor: &BlindingFactor,
) -> Result<bool, Failure> {
    let data = &transaction.data;
    let missing = Failure::from(ErrorLevel2::CardData);
    let index = data.byte(tags::CA_PUBLIC_KEY_INDEX).ok_or(missing)?;
    let df_name = data.get(tags::DF_NAME).unwrap_or_default();
    let known = |index| {
        let mut keys = transaction.ca_public_keys.iter();
        keys.find(|key| key.index == index && df_name.starts_with(&key.rid))
    };
    // An unknown CA is a failed check even where certificates are missing (Book C-8 RPC.2a).
    let Some(ca) = known(index) else {
        return Ok(false);
    };
    let issuer_bytes = data.get(tags::ISSUER_CERTIFICATE).ok_or(missing)?;
    let pan = pan_digits(data.get(tags::APPLICATION_PAN).unwrap_or_default());
    let Some(issuer) = IssuerCertificate::parse(issuer_bytes).ok().filter(|certificate| {
        certificate.matches_pan(&pan)
            && !is_revoked(transaction, certificate)
            && certificate.verify(ca, transaction.now).is_ok()
    }) else {
        return Ok(false);
    };
    let icc_bytes = data.get(tags::ICC_CERTIFICATE).ok_or(missing)?;
    let icc = IccCertificate::parse(icc_bytes).ok().filter(|certificate| {
        certificate.verify(&issuer.public_key, sda_hash, transaction.now).is_ok()
    });
    Ok(icc.is_some_and(|icc| blinding_factor.check(&icc.public_key).is_ok()))
}

/// Book E 5.2, check 9.
fn is_revoked(transaction: &Transaction, certificate: &IssuerCertificate) -> bool {
    let IssuerCertificate { rid, ca_index, serial, .. } = *certificate;
    let entry = RevokedCertificate { rid, ca_index, serial };
    transaction.configuration.revoked_certificates.contains(&entry)
}

/// Compressed numeric digits as text, without the padding.
pub(crate) fn pan_digits(pan: &[u8]) -> zeroize::Zeroizing<String> {
    let mut digits = zeroize::Zeroizing::new(String::with_capacity(pan.len().saturating_mul(2)));
    for byte in pan {
        // Writing into a string cannot fail.
        let _ = write!(digits, "{byte:02X}");
    }
    let length = digits.trim_end_matches('F').len();
    digits.truncate(length);
    digits
}
