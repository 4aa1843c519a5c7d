//! The chain of certificates (RFC 5280 6.1, as far as attestation uses it; Android's own rules).

use subtle::ConstantTimeEq;
use tapfer_payment_types::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{Oid, asn1_rs::oid};
use x509_parser::prelude::FromDer;

use super::{AttestationError, MAXIMUM_CERTIFICATE, MAXIMUM_CHAIN, Trust};

/// Android's key description.
const KEY_DESCRIPTION: Oid<'static> = oid!(1.3.6.1.4.1.11129.2.1.17);
const MILLIS_PER_SECOND: i64 = 1_000;

/// The phone's certificate: what is said in it, about which key.
pub(super) struct Attested<'a> {
    pub(super) description: &'a [u8],
    pub(super) public_key: &'a [u8],
}

pub(super) fn parse(chain: &[Vec<u8>]) -> Result<Vec<X509Certificate<'_>>, AttestationError> {
    let is_sane = (2..=MAXIMUM_CHAIN).contains(&chain.len())
        && chain.iter().all(|one| one.len() <= MAXIMUM_CERTIFICATE);
    if !is_sane {
        return Err(AttestationError::ChainLength);
    }
    chain.iter().enumerate().map(|(position, der)| parse_one(position, der)).collect()
}

/// One certificate and nothing behind it. The two parts that no signature covers are what the standard
/// says: the outer algorithm is the inner one (RFC 5280 4.1.1.2), and a signature is whole bytes.
fn parse_one(position: usize, der: &[u8]) -> Result<X509Certificate<'_>, AttestationError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate))
            if certificate.signature_algorithm == certificate.tbs_certificate.signature
                && certificate.signature_value.unused_bits == 0 =>
        {
            Ok(certificate)
        }
        _ => Err(AttestationError::Certificate(position)),
    }
}

/// Every certificate is valid, unrevoked and signed by the next; the last one's key is a root's.
///
/// The last one's own dates are not looked at: a trust anchor is a name and a key (RFC 5280 6.1.1 d), and the
/// issuer who trusts the key says for how long. Phones carry the certificate of their maker's root from the
/// day they were made, beyond its end.
pub(super) fn check(
    certificates: &[X509Certificate<'_>],
    trust: &Trust,
    now: Timestamp,
) -> Result<(), AttestationError> {
    let last = certificates.len().saturating_sub(1);
    for (position, certificate) in certificates.iter().enumerate() {
        if position < last {
            check_validity(certificate, position, now)?;
        }
        if trust.revoked.contains(certificate.raw_serial()) {
            return Err(AttestationError::Revoked(position));
        }
    }
    let pairs = certificates.iter().zip(certificates.iter().skip(1));
    for (position, (certificate, signer)) in pairs.enumerate() {
        check_link(certificate, signer, position)?;
    }
    let root = certificates.last().ok_or(AttestationError::ChainLength)?;
    let key = root.public_key().raw;
    let is_trusted = trust.roots.iter().any(|trusted| bool::from(trusted.as_slice().ct_eq(key)));
    if is_trusted { Ok(()) } else { Err(AttestationError::UnknownRoot) }
}

fn check_validity(
    certificate: &X509Certificate<'_>,
    position: usize,
    now: Timestamp,
) -> Result<(), AttestationError> {
    let seconds = now.unix_millis().div_euclid(MILLIS_PER_SECOND);
    let validity = certificate.validity();
    let range = validity.not_before.timestamp()..=validity.not_after.timestamp();
    if range.contains(&seconds) { Ok(()) } else { Err(AttestationError::Validity(position)) }
}

fn check_link(
    certificate: &X509Certificate<'_>,
    signer: &X509Certificate<'_>,
    position: usize,
) -> Result<(), AttestationError> {
    if certificate.issuer().as_raw() != signer.subject().as_raw() {
        return Err(AttestationError::Issuer(position));
    }
    let above = position.saturating_add(1);
    let constraints =
        signer.basic_constraints().map_err(|_| AttestationError::Certificate(above))?;
    if !constraints.is_some_and(|extension| extension.value.ca) {
        return Err(AttestationError::NotAnAuthority(above));
    }
    certificate
        .verify_signature(Some(signer.public_key()))
        .map_err(|_| AttestationError::Signature(position))
}

/// The phone's own certificate has the description, and no other certificate has one: whoever owns an
/// attested key can sign a further certificate with any description, so only the one nearest to the
/// root counts, and here it must be the only one.
pub(super) fn attested<'a>(
    certificates: &'a [X509Certificate<'a>],
) -> Result<Attested<'a>, AttestationError> {
    let (leaf, others) = certificates.split_first().ok_or(AttestationError::ChainLength)?;
    if let Some(position) = others.iter().position(|other| description(other).is_some()) {
        return Err(AttestationError::Extended(position.saturating_add(1)));
    }
    let description = description(leaf).ok_or(AttestationError::NoDescription)?;
    Ok(Attested { description, public_key: leaf.public_key().raw })
}

fn description<'a>(certificate: &'a X509Certificate<'a>) -> Option<&'a [u8]> {
    let mut extensions = certificate.extensions().iter();
    extensions.find(|extension| extension.oid == KEY_DESCRIPTION).map(|found| found.value)
}
