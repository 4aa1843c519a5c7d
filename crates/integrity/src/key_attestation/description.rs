//! The key description: what the phone's secure hardware says about key and phone
//! (source.android.com, "Key and ID attestation", KeyDescription schema, versions 3 to 400).

use x509_parser::der_parser::asn1_rs::{
    Any, Class, Enumerated, FromDer, Integer, OctetString, Sequence, Tag,
};

use super::{AttestationError, AttestedApplication};

/// `rootOfTrust` in an authorization list.
const ROOT_OF_TRUST: u32 = 704;
/// `origin`.
const ORIGIN: u32 = 702;
/// `osPatchLevel`, YYYYMM.
const OS_PATCH_LEVEL: u32 = 706;
/// `attestationApplicationId`.
const APPLICATION_ID: u32 = 709;
/// `origin`: made inside and never outside.
const GENERATED: u32 = 0;
/// Versions before this lack the root of trust's form that is read here.
const OLDEST_VERSION: u32 = 3;

/// Where a key lives and who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecurityLevel {
    /// The operating system: worth as much as the system is.
    Software,
    /// The trusted execution environment of the main processor.
    TrustedEnvironment,
    /// A security chip of its own.
    StrongBox,
}

/// How the phone was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifiedBootState {
    /// Everything up to the system is signed by the maker.
    Verified,
    /// Signed by a key that the owner put in.
    SelfSigned,
    /// Unlocked: anything may run.
    Unverified,
    /// Verification failed.
    Failed,
}

/// What the boot loader told the secure hardware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootOfTrust {
    /// Whether the boot loader is locked.
    pub device_locked: bool,
    /// How the phone was started.
    pub verified_boot: VerifiedBootState,
}

/// What a phone's hardware says. Unknown fields of later versions are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDescription {
    /// Version of the structure, for example 3, 4, 100, 200, 300, 400.
    pub version: u32,
    /// Who made this statement.
    pub attestation_security_level: SecurityLevel,
    /// Where the key lives.
    pub key_security_level: SecurityLevel,
    /// The question that this answers.
    pub challenge: Vec<u8>,
    /// The key was made inside and cannot be outside; as the hardware says.
    pub generated_inside: bool,
    /// How the phone was started, as the hardware says; absent in attestations of the software.
    pub root_of_trust: Option<RootOfTrust>,
    /// Year and month of the system's security patches, YYYYMM, as the hardware says.
    pub os_patch_level: Option<u32>,
    /// The app, as the system says: worth something only if the phone was started verified.
    pub application: Option<AttestedApplication>,
}

const fn form(what: &'static str) -> AttestationError {
    AttestationError::Description(what)
}

impl KeyDescription {
    /// Reads the extension's value.
    ///
    /// # Errors
    /// [`AttestationError::Description`] names the part that is wrong.
    pub fn parse(der: &[u8]) -> Result<Self, AttestationError> {
        let (rest, sequence) = Sequence::from_der(der).map_err(|_| form("the sequence"))?;
        if !rest.is_empty() {
            return Err(form("what stands behind it"));
        }
        let (rest, version) = number(&sequence.content)?;
        let (rest, attestation_security_level) = security_level(rest)?;
        let (rest, _keymint_version) = number(rest)?;
        let (rest, key_security_level) = security_level(rest)?;
        let (rest, challenge) = octets(rest, "the challenge")?;
        let (rest, _unique_id) = octets(rest, "the unique id")?;
        let (rest, software) = AuthorizationList::parse(rest)?;
        let (rest, hardware) = AuthorizationList::parse(rest)?;
        if !rest.is_empty() || version < OLDEST_VERSION {
            return Err(form("its version or length"));
        }
        Ok(Self {
            version,
            attestation_security_level,
            key_security_level,
            challenge,
            generated_inside: hardware.origin == Some(GENERATED),
            root_of_trust: hardware.root_of_trust,
            os_patch_level: hardware.os_patch_level,
            application: software.application,
        })
    }
}

/// Of one of the two lists, what is looked at here.
#[derive(Default)]
struct AuthorizationList {
    origin: Option<u32>,
    root_of_trust: Option<RootOfTrust>,
    os_patch_level: Option<u32>,
    application: Option<AttestedApplication>,
}

impl AuthorizationList {
    fn parse(input: &[u8]) -> Result<(&[u8], Self), AttestationError> {
        let (rest, sequence) =
            Sequence::from_der(input).map_err(|_| form("an authorization list"))?;
        let mut list = Self::default();
        let mut fields: &[u8] = &sequence.content;
        while !fields.is_empty() {
            let (behind, field) = Any::from_der(fields).map_err(|_| form("an authorization"))?;
            if field.class() != Class::ContextSpecific {
                return Err(form("an authorization's tag"));
            }
            list.take(field.tag().0, field.data)?;
            fields = behind;
        }
        Ok((rest, list))
    }

    /// One field, explicitly tagged. A field that comes twice is a trick.
    fn take(&mut self, tag: u32, value: &[u8]) -> Result<(), AttestationError> {
        match tag {
            ORIGIN => once(&mut self.origin, whole(number(value)?)?),
            ROOT_OF_TRUST => once(&mut self.root_of_trust, RootOfTrust::parse(value)?),
            OS_PATCH_LEVEL => once(&mut self.os_patch_level, whole(number(value)?)?),
            APPLICATION_ID => {
                let id = whole(octets(value, "the application id")?)?;
                once(&mut self.application, AttestedApplication::parse(&id)?)
            }
            _ => Ok(()),
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), AttestationError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(form("an authorization that comes twice")),
    }
}

fn whole<T>((rest, value): (&[u8], T)) -> Result<T, AttestationError> {
    if rest.is_empty() { Ok(value) } else { Err(form("an authorization's length")) }
}

impl RootOfTrust {
    fn parse(input: &[u8]) -> Result<Self, AttestationError> {
        let wrong = form("the root of trust");
        let ([], sequence) = Sequence::from_der(input).map_err(|_| wrong.clone())? else {
            return Err(wrong);
        };
        let (rest, _key) = octets(&sequence.content, "the boot key")?;
        let (rest, device_locked) = boolean(rest)?;
        // The hash of what was started may follow.
        let (_, state) = Enumerated::from_der(rest).map_err(|_| wrong.clone())?;
        let verified_boot = match state.0 {
            0 => VerifiedBootState::Verified,
            1 => VerifiedBootState::SelfSigned,
            2 => VerifiedBootState::Unverified,
            3 => VerifiedBootState::Failed,
            _ => return Err(wrong),
        };
        Ok(Self { device_locked, verified_boot })
    }
}

/// X.690, 8.2 and 11.1: one byte, `00` or `FF`. Read here, because `asn1-rs` 0.7 looks at that byte before it
/// looks at the length, and panics where there is none.
fn boolean(input: &[u8]) -> Result<(&[u8], bool), AttestationError> {
    let wrong = form("a truth value");
    let (rest, any) = Any::from_der(input).map_err(|_| wrong.clone())?;
    if any.class() != Class::Universal || any.header.is_constructed() {
        return Err(wrong);
    }
    match (any.tag(), any.data) {
        (Tag::Boolean, [0x00]) => Ok((rest, false)),
        (Tag::Boolean, [0xFF]) => Ok((rest, true)),
        _ => Err(wrong),
    }
}

fn number(input: &[u8]) -> Result<(&[u8], u32), AttestationError> {
    let (rest, number) = Integer::from_der(input).map_err(|_| form("a number"))?;
    Ok((rest, number.as_u32().map_err(|_| form("a number"))?))
}

fn octets<'a>(
    input: &'a [u8],
    what: &'static str,
) -> Result<(&'a [u8], Vec<u8>), AttestationError> {
    let (rest, octets) = OctetString::from_der(input).map_err(|_| form(what))?;
    Ok((rest, octets.as_ref().to_vec()))
}

fn security_level(input: &[u8]) -> Result<(&[u8], SecurityLevel), AttestationError> {
    let wrong = form("a security level");
    let (rest, level) = Enumerated::from_der(input).map_err(|_| wrong.clone())?;
    match level.0 {
        0 => Ok((rest, SecurityLevel::Software)),
        1 => Ok((rest, SecurityLevel::TrustedEnvironment)),
        2 => Ok((rest, SecurityLevel::StrongBox)),
        _ => Err(wrong),
    }
}
