//! Which app asked: `AttestationApplicationId`.

use x509_parser::der_parser::asn1_rs::{FromDer, Integer, OctetString, Sequence, Set};

use super::AttestationError;

/// The app that had the key made, as the system (not the secure hardware) says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttestedApplication {
    /// Package names that share the app's user id.
    pub packages: Vec<String>,
    /// SHA-256 of the certificates that the app is signed with.
    pub signature_digests: Vec<Vec<u8>>,
}

const FORM: AttestationError = AttestationError::Description("the application id");

impl AttestedApplication {
    /// Reads the DER inside of tag 709.
    ///
    /// # Errors
    /// [`AttestationError::Description`]
    pub(super) fn parse(der: &[u8]) -> Result<Self, AttestationError> {
        let ([], sequence) = Sequence::from_der(der).map_err(|_| FORM)? else { return Err(FORM) };
        let (rest, packages) = Set::from_der(&sequence.content).map_err(|_| FORM)?;
        let ([], digests) = Set::from_der(rest).map_err(|_| FORM)? else { return Err(FORM) };
        Ok(Self {
            packages: all(&packages.content, package)?,
            signature_digests: all(&digests.content, |input| {
                let (rest, digest) = OctetString::from_der(input).map_err(|_| FORM)?;
                Ok((rest, digest.as_ref().to_vec()))
            })?,
        })
    }
}

/// Everything in a set, one after another.
fn all<'a, T>(
    mut input: &'a [u8],
    one: impl Fn(&'a [u8]) -> Result<(&'a [u8], T), AttestationError>,
) -> Result<Vec<T>, AttestationError> {
    let mut found = Vec::new();
    while !input.is_empty() {
        let (rest, value) = one(input)?;
        found.push(value);
        input = rest;
    }
    Ok(found)
}

/// Name and version of a package.
fn package(input: &[u8]) -> Result<(&[u8], String), AttestationError> {
    let (rest, info) = Sequence::from_der(input).map_err(|_| FORM)?;
    let (version, name) = OctetString::from_der(&info.content).map_err(|_| FORM)?;
    let name = String::from_utf8(name.as_ref().to_vec()).map_err(|_| FORM)?;
    match Integer::from_der(version) {
        Ok(([], _)) => Ok((rest, name)),
        _ => Err(FORM),
    }
}
