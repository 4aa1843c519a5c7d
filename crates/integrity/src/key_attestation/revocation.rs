//! What makers have revoked: Google's status list, as it is published
//! (`{"entries": {"<serial>": {"status": "REVOKED", ...}}}`).

use std::collections::BTreeSet;

use serde::Deserialize;

/// Serial numbers of certificates that are no longer to be believed: hexadecimal digits in lower
/// case, without leading zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevokedCertificates(BTreeSet<String>);

/// The list cannot be read. A list that cannot be read revokes nothing: do not go on without one.
#[derive(Debug, thiserror::Error)]
#[error("this is not a status list of attestation certificates: {0}")]
pub struct RevocationListError(#[from] serde_json::Error);

#[derive(Deserialize)]
struct StatusList {
    entries: std::collections::BTreeMap<String, Entry>,
}

/// `REVOKED` or `SUSPENDED`: both end the trust.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "status")]
    _status: String,
}

impl RevokedCertificates {
    /// Reads the published list (JSON).
    ///
    /// # Errors
    /// [`RevocationListError`]
    pub fn from_status_list(json: &str) -> Result<Self, RevocationListError> {
        let list: StatusList = serde_json::from_str(json)?;
        Ok(Self(list.entries.into_keys().map(|serial| normalised(&serial)).collect()))
    }

    /// Takes serial numbers, hexadecimal digits.
    #[must_use]
    pub fn from_serials(serials: &[String]) -> Self {
        Self(serials.iter().map(|serial| normalised(serial)).collect())
    }

    /// The serial numbers, hexadecimal digits.
    pub fn into_serials(self) -> impl Iterator<Item = String> {
        self.0.into_iter()
    }

    /// Whether a certificate with this serial number (big endian, as in DER) is on the list.
    #[must_use]
    pub fn contains(&self, serial: &[u8]) -> bool {
        let digits: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.contains(&normalised(&digits))
    }
}

fn normalised(digits: &str) -> String {
    let lower = digits.to_ascii_lowercase();
    lower.trim_start_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::RevokedCertificates;

    #[test]
    fn serials_are_compared_as_numbers() {
        let json = r#"{"entries": {"00ABCD": {"status": "REVOKED", "reason": "KEY_COMPROMISE"},
            "17": {"status": "SUSPENDED"}}}"#;
        let list = RevokedCertificates::from_status_list(json).unwrap();
        assert!(list.contains(&[0xAB, 0xCD]) && list.contains(&[0, 0xAB, 0xCD]));
        assert!(list.contains(&[0x17]) && !list.contains(&[0x71]));
        assert!(RevokedCertificates::from_status_list("{}").is_err());
        assert!(RevokedCertificates::from_status_list("<html>").is_err());
    }
}
