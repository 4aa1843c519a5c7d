//! Clients' TLS certificates: X.509 (RFC 5280), signed by the vault with ECDSA over P-256 and SHA-256.

use core::cell::Cell;
use core::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
    SignatureAlgorithm, SigningKey, date_time_ymd,
};
use tapfer_emv::curve::PublicPoint;
use tapfer_emv::merchant::is_signed_by;
use tapfer_payment_types::{RealmId, Timestamp};

use super::VaultedHsm;
use super::certify::too_long;
use super::hpke::uncompressed;
use super::shelf::HeldKey;
use crate::vault::Vault;
use crate::{Client, ClientCertificateRequest, HsmError, MAXIMUM_CLIENT_CERTIFICATE_LIFE_SECONDS};

/// The authority outlives its key's cryptoperiod by far; a server trusts the key, as long as it is not destroyed.
const AUTHORITY_LIFE_SECONDS: i64 = 3_650 * 86_400;
/// Nodes whose clocks are this far behind take a new certificate.
const BACKDATED_SECONDS: i64 = -300;
/// `id-at-serialNumber` (X.520, 6.2.9): which of a client's API keys.
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];

impl<V: Vault> VaultedHsm<V> {
    /// The authority's own certificate.
    pub(super) fn client_authority(
        &self,
        authority: &HeldKey<V::Key>,
    ) -> Result<Vec<u8>, HsmError> {
        let key = AuthorityKey::new(self, authority)?;
        let signed = self.authority_parameters(authority)?.self_signed(&&key);
        key.explain(signed.map(|certificate| certificate.der().to_vec()))
    }

    /// Signs a client's certificate.
    pub(super) fn certify_client(
        &self,
        authority: &HeldKey<V::Key>,
        request: &ClientCertificateRequest,
    ) -> Result<Vec<u8>, HsmError> {
        let end = request.now.plus_seconds(MAXIMUM_CLIENT_CERTIFICATE_LIFE_SECONDS);
        if request.expires_at <= request.now || request.expires_at > end {
            return Err(too_long(MAXIMUM_CLIENT_CERTIFICATE_LIFE_SECONDS));
        }
        let mut parameters = CertificateParams::default();
        let client = match request.client {
            Client::Terminal(id) => id.to_string(),
            Client::Device(id) => id.to_string(),
        };
        let mut subject = of_realm(self.shelves.now().catalogue.realm_id, client);
        let serial_number = DnType::CustomDnType(SERIAL_NUMBER.to_vec());
        subject.push(serial_number, request.api_key.to_string());
        parameters.distinguished_name = subject;
        parameters.serial_number = Some(self.serial()?);
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        set_life(&mut parameters, request.now.plus_seconds(BACKDATED_SECONDS), request.expires_at)?;
        let key = AuthorityKey::new(self, authority)?;
        let of_authority = self.authority_parameters(authority)?;
        let issuer = Issuer::from_params(&of_authority, &key);
        let signed = parameters.signed_by(&ClientKey::from(&request.public_key), &issuer);
        key.explain(signed.map(|certificate| certificate.der().to_vec()))
    }

    fn authority_parameters(
        &self,
        authority: &HeldKey<V::Key>,
    ) -> Result<CertificateParams, HsmError> {
        let record = &authority.record;
        let mut parameters = CertificateParams::default();
        let name = format!("tapfer clients {}", record.name.generation);
        parameters.distinguished_name = of_realm(self.shelves.now().catalogue.realm_id, name);
        parameters.serial_number = Some(self.serial()?);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let end = record.created_at.plus_seconds(AUTHORITY_LIFE_SECONDS);
        set_life(&mut parameters, record.created_at, end)?;
        Ok(parameters)
    }

    /// 16 random bytes, positive and never zero (RFC 5280, 4.1.2.2).
    fn serial(&self) -> Result<SerialNumber, HsmError> {
        let mut serial = [0; 16];
        self.vault().random(&mut serial)?;
        let [first, ..] = &mut serial;
        *first = *first & 0x7F | 0x40;
        Ok(SerialNumber::from_slice(&serial))
    }
}

fn of_realm(realm: RealmId, name: String) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::OrganizationName, realm.to_string());
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

fn set_life(
    parameters: &mut CertificateParams,
    start: Timestamp,
    end: Timestamp,
) -> Result<(), HsmError> {
    let moment = |at: Timestamp| {
        let seconds = u64::try_from(at.unix_millis().div_euclid(1_000)).ok()?;
        let since_1970 = Duration::from_secs(seconds).try_into().ok()?;
        date_time_ymd(1970, 1, 1).checked_add(since_1970)
    };
    let out_of_range = HsmError::Internal { operation: "writing a time into a certificate" };
    let (Some(start), Some(end)) = (moment(start), moment(end)) else { return Err(out_of_range) };
    (parameters.not_before, parameters.not_after) = (start, end);
    Ok(())
}

/// A client's public key, as X.509 has it: an uncompressed point.
struct ClientKey([u8; 65]);

impl From<&PublicPoint> for ClientKey {
    fn from(point: &PublicPoint) -> Self {
        Self(uncompressed(point))
    }
}

impl PublicKeyData for ClientKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// The authority's key, which stays in the vault.
struct AuthorityKey<'a, V: Vault> {
    hsm: &'a VaultedHsm<V>,
    held: &'a HeldKey<V::Key>,
    point: PublicPoint,
    uncompressed: [u8; 65],
    /// Why it did not sign, which the library's error has no place for.
    failure: Cell<Option<HsmError>>,
}

impl<'a, V: Vault> AuthorityKey<'a, V> {
    fn new(hsm: &'a VaultedHsm<V>, held: &'a HeldKey<V::Key>) -> Result<Self, HsmError> {
        let point = hsm.public_point(held)?;
        let uncompressed = uncompressed(&point);
        Ok(Self { hsm, held, point, uncompressed, failure: Cell::default() })
    }

    /// What came of signing, with the reason if nothing did.
    fn explain<T>(&self, signed: Result<T, rcgen::Error>) -> Result<T, HsmError> {
        signed.map_err(|_| self.failure.take().unwrap_or(FAULTY))
    }

    fn signed(&self, message: &[u8]) -> Result<[u8; 64], HsmError> {
        let signature = self.hsm.vault().sign(self.hsm.ready(self.held)?, message)?;
        // By another library than the one that signed: what is faulty is not given out.
        if is_signed_by(&self.point, message, &signature) { Ok(signature) } else { Err(FAULTY) }
    }
}

impl<V: Vault> PublicKeyData for &AuthorityKey<'_, V> {
    fn der_bytes(&self) -> &[u8] {
        &self.uncompressed
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl<V: Vault> SigningKey for &AuthorityKey<'_, V> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signed = self.signed(message).map(|signature| ecdsa_sig_value(&signature));
        signed.map_err(|why| {
            self.failure.set(Some(why));
            rcgen::Error::RemoteKeyError
        })
    }
}

const FAULTY: HsmError = HsmError::Internal { operation: "signing a client's certificate" };

/// `ECDSA-Sig-Value` (RFC 3279, 2.2.3): a SEQUENCE of two INTEGERs, of which none is longer than 33 bytes.
fn ecdsa_sig_value(signature: &[u8; 64]) -> Vec<u8> {
    let (r, s) = signature.split_at(32);
    let integers = [der_integer(r), der_integer(s)].concat();
    [&[0x30, length(&integers)], integers.as_slice()].concat()
}

/// A positive INTEGER in the fewest bytes (X.690, 8.3).
fn der_integer(big_endian: &[u8]) -> Vec<u8> {
    let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
    let digits = big_endian.get(zeros..).unwrap_or_default();
    // One in front where the first bit would be taken for a sign, and for zero itself.
    let sign: &[u8] = if digits.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    let value = [sign, digits].concat();
    [&[0x02, length(&value)], value.as_slice()].concat()
}

/// The short form: nothing here is longer than 70 bytes.
fn length(content: &[u8]) -> u8 {
    u8::try_from(content.len()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::ecdsa_sig_value;

    #[test]
    fn signatures_are_written_in_the_fewest_bytes() {
        let mut signature = [0; 64];
        signature[31] = 1;
        signature[32] = 0x80;
        let mut expected = vec![0x30, 38, 0x02, 1, 1, 0x02, 33, 0, 0x80];
        expected.extend([0; 31]);
        assert_eq!(ecdsa_sig_value(&signature), expected);
        assert_eq!(ecdsa_sig_value(&[0; 64]), [0x30, 6, 0x02, 1, 0, 0x02, 1, 0]);
        assert_eq!(ecdsa_sig_value(&[0x7F; 64]).len(), 2 + 2 * 34);
        assert_eq!(ecdsa_sig_value(&[0xFF; 64]).len(), 2 + 2 * 35);
    }
}
